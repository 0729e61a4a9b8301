//! `[http]`: where to listen, under which names, who may publish, where to, how much at once, and how long ids are
//! remembered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::Sources;
use super::check_flow;
use super::checked::Token;
use super::checked_http::Http;
use super::checked_routes::DedupeWindow;
use super::codes::Code;
use super::diagnostics::Place;
use super::environment::Overlay;
use super::grants::Host;
use super::walk::{At, Context, Table, Text, code_at, span, text, wrong};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// Bytes; a request is held in memory as a whole.
const MAX_BODY_DEFAULT: u64 = 1024 * 1024;
const TOKEN_MIN_BYTES: usize = 16;
/// Beyond the time in which anybody still tries again.
const DEDUPE_DEFAULT: DedupeWindow = DedupeWindow { window: Duration::from_secs(24 * 3600), max: check_flow::IDS_MAX };

/// Reads the table and lays environment and flags over it.
pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, sources: &Sources, overlay: &Overlay) -> Http {
    let table = top.table(cx, "http");
    if let Some(table) = &table {
        table.check_keys(cx, &["listen", "hosts", "tokens", "max-body", "dedupe", "reserved"], &[]);
    }
    let directory = sources.directory();
    let tokens = table.as_ref().map(|table| tokens(cx, table, &directory)).unwrap_or_default();
    let max_body = table.as_ref().and_then(|table| table.size(cx, "max-body", &super::check_routes::BODY));
    let dedupe = table.as_ref().and_then(|table| check_flow::dedupe(cx, table)).unwrap_or(DEDUPE_DEFAULT);
    let hosts = table.as_ref().map(|table| hosts(cx, table)).unwrap_or_default();
    let reserved = table.as_ref().and_then(|table| table.boolean(cx, "reserved")).unwrap_or(false);
    let listen = listen(cx, table.as_ref(), sources, overlay);
    let said_tokens = table.as_ref().is_some_and(|table| table.has("tokens"));
    if !listen.value.ip().to_canonical().is_loopback() && !said_tokens && !sources.insecure {
        let message = format!("{} is reachable from other machines, and there are no tokens", listen.value);
        cx.error(Code::OpenListener, &listen.place, message)
            .help("write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]` in [http], or pass --insecure");
    }
    let max_body = max_body.map_or(MAX_BODY_DEFAULT, |size| size.value);
    let max_body_bytes = usize::try_from(max_body).unwrap_or(usize::MAX);
    Http { listen: listen.value, hosts, tokens, max_body_bytes, dedupe, reserved }
}

/// Names and addresses that requests may be addressed to.
fn hosts(cx: &mut Context<'_>, table: &Table<'_>) -> Vec<Host> {
    let mut hosts = Vec::new();
    for text in table.texts(cx, "hosts").unwrap_or_default() {
        // The brackets of an IPv6 address are those of a URL.
        let inside = text.value.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match Host::parse(inside.unwrap_or(&text.value)) {
            Ok(Host::Address(address)) => hosts.push(Host::Address(address.to_canonical())),
            Ok(host) => hosts.push(host),
            Err(_) => {
                let message = format!("{} is no name of a host and no address", text.shown());
                cx.error(Code::BadAddress, &text.place, message).help(
                    "write a name without scheme and port, such as \"trunkline.example.com\", or \"*.example.com\" \
                     for every name below",
                );
            }
        }
    }
    hosts
}

/// The flag, else the file with host and port of the environment laid over it.
fn listen(cx: &mut Context<'_>, table: Option<&Table<'_>>, sources: &Sources, overlay: &Overlay) -> At<SocketAddr> {
    let in_file = table.and_then(|table| table.text(cx, "listen")).and_then(|text| address(cx, &text));
    let flag = sources.listen.clone().map(|value| Text { value, place: Place::Flag("--listen"), literal: true });
    if let Some(address) = flag.and_then(|text| address(cx, &text)) {
        return address;
    }
    let mut listen = in_file.unwrap_or(At::new(DEFAULT_LISTEN, Place::Flag("--listen")));
    if let Some(port) = &overlay.port {
        listen.value.set_port(port.value);
    }
    if let Some(host) = &overlay.host {
        listen = At::new(SocketAddr::new(host.value, listen.value.port()), host.place.clone());
    }
    listen
}

fn address(cx: &mut Context<'_>, text: &Text) -> Option<At<SocketAddr>> {
    let parsed = text.value.parse::<SocketAddr>().ok().or_else(|| {
        let (host, port) = text.value.rsplit_once(':')?;
        Some(SocketAddr::new(ip(host)?, port.parse().ok()?))
    });
    if parsed.is_none() {
        cx.error(code_at(&text.place, Code::BadAddress), &text.place, format!("{} is no address", text.shown()))
            .help("write IP:PORT, such as \"127.0.0.1:8000\" or \"0.0.0.0:8000\"");
    }
    parsed.map(|parsed| At::new(parsed, text.place.clone()))
}

/// An IP address, with or without brackets, or `localhost`.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

fn tokens(cx: &mut Context<'_>, table: &Table<'_>, directory: &Path) -> Vec<Token> {
    let Some(value) = table.value("tokens") else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        cx.findings.hide(&Place::File(value.span()));
        wrong(cx, "tokens", value, "a list").help("write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]`");
        return Vec::new();
    };
    if items.is_empty() {
        cx.error(Code::MissingKey, &Place::File(value.span()), "`tokens` is an empty list, which nobody could use")
            .help("remove it, or write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]`");
    }
    items.iter().filter_map(|item| token(cx, "tokens", item, directory)).collect()
}

/// A secret by reference, of no less than 16 bytes.
pub(super) fn token(cx: &mut Context<'_>, key: &str, item: &Spanned<DeValue<'_>>, directory: &Path) -> Option<Token> {
    const FORMS: &str = "{ env = \"NAME\" }, { file = \"PATH\" } or \"${NAME}\"";
    let place = Place::File(item.span());
    let secret = match Table::inline(item, "a token") {
        Some(table) => referred(cx, &table, directory)?,
        None => {
            if let Some(inside) =
                span(&place).filter(|_| item.get_ref().as_str().is_some_and(|raw| !raw.contains("${")))
            {
                cx.findings.hide(&Place::File(inside.start + 1..inside.end.saturating_sub(1)));
            }
            let text = text(cx, key, item, FORMS)?;
            if text.literal {
                cx.findings
                    .warning(Code::LiteralSecret, &place, "a token stands in the file")
                    .help("write { env = \"TRUNKLINE_TOKEN\" } and set that variable");
            }
            text.value
        }
    };
    if secret.len() < TOKEN_MIN_BYTES {
        let message = format!("the token has {} bytes, but needs at least {TOKEN_MIN_BYTES}", secret.len());
        cx.error(Code::ShortToken, &place, message).help("make one with `openssl rand -hex 32`");
        return None;
    }
    Some(Token::new(secret))
}

/// The secret behind `{env}` or `{file}`.
fn referred(cx: &mut Context<'_>, table: &Table<'_>, directory: &Path) -> Option<String> {
    table.check_keys(cx, &["env", "file"], &[]);
    match (table.text(cx, "env"), table.text(cx, "file")) {
        (Some(name), None) => {
            let secret = cx.environment.get(&name.value).filter(|value| !value.is_empty()).cloned();
            if secret.is_none() {
                let message = format!("environment variable {} is not set", name.value.escape_debug());
                cx.error(Code::NoToken, &name.place, message);
            }
            secret
        }
        (None, Some(file)) => match std::fs::read_to_string(directory.join(&file.value)) {
            Ok(content) if !content.trim().is_empty() => Some(content.trim().to_owned()),
            Ok(_) => {
                cx.error(Code::NoToken, &file.place, "the file is empty");
                None
            }
            Err(error) => {
                cx.error(Code::NoToken, &file.place, format!("cannot read the file: {error}"));
                None
            }
        },
        (Some(_), Some(_)) => {
            cx.error(Code::NoToken, &table.place, "a token has both `env` and `file`").help("keep one");
            None
        }
        (None, None) if table.has("env") || table.has("file") => None,
        (None, None) => {
            cx.error(Code::MissingKey, &table.place, "a token has neither `env` nor `file`")
                .help("write { env = \"TRUNKLINE_TOKEN\" }");
            None
        }
    }
}
