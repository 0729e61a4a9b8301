//! `[hooks.NAME]`: what comes in by HTTP and becomes an event.

use std::collections::BTreeMap;

use super::Sources;
use super::check_exchanges::{CODECS, Exchanges};
use super::check_http;
use super::check_schema;
use super::checked::Token;
use super::checked_hooks::{Hook, Signature, Template};
use super::checked_http::Http;
use super::codes::Code;
use super::walk::{Context, Table, Text};
use trunkline_event::{ExchangeName, RouteName, RoutingKey};

const KEYS: [&str; 10] = ["path", "exchange", "type", "key", "id", "codec", "schema", "token", "signature", "status"];
/// Every hook is below it, so that none takes the place of a path of ours.
const BELOW: &str = "/hooks/";
const STATUS: u16 = 202;
/// What a hook may answer: the answers that the OpenAPI document describes.
const STATUSES: [u16; 4] = [200, 201, STATUS, 204];

/// Reads all of them; one with a mistake is reported and left out.
pub(super) fn read(
    cx: &mut Context<'_>,
    top: &Table<'_>,
    exchanges: &Exchanges,
    http: &Http,
    sources: &Sources,
) -> BTreeMap<String, Hook> {
    let mut hooks = BTreeMap::<String, Hook>::new();
    for (name, table) in top.tables(cx, "hooks") {
        table.check_keys(cx, &KEYS, &[]);
        let known = name.name(cx, |text| RouteName::new(text));
        let hook = hook(cx, &name.value, &table, exchanges, sources);
        let (Some(_), Some(hook)) = (known, hook) else { continue };
        let is_guarded = hook.token.is_some() || hook.signature.is_some();
        // What is there and of no use was reported already.
        let says_so = table.has("token") || table.has("signature");
        if !http.is_local() && !is_guarded && !says_so && !sources.insecure {
            let message = format!("{} takes events from everybody who reaches {}", table.title, http.listen);
            cx.error(Code::OpenListener, &table.place, message)
                .help("write `token = { env = \"HOOK_TOKEN\" }` or `signature`, or pass --insecure");
        }
        if let Some((other, _)) = hooks.iter().find(|(_, other)| other.path == hook.path) {
            let message = format!("{} has the path {} of \"{other}\"", table.title, hook.path);
            cx.error(Code::BadHook, &table.key_place("path"), message).help("give it another `path`");
        }
        if let Some(why) = http.refuses(hook.exchange.as_str()) {
            let message = format!("{} takes nothing: {why}", table.title);
            cx.findings.warning(Code::BadHook, &table.key_place("exchange"), message);
        }
        hooks.insert(name.value, hook);
    }
    hooks
}

fn hook(cx: &mut Context<'_>, name: &str, table: &Table<'_>, exchanges: &Exchanges, sources: &Sources) -> Option<Hook> {
    let directory = sources.directory();
    let path = match table.text(cx, "path") {
        Some(text) => path(cx, &text),
        None => Some(format!("{BELOW}{name}")),
    };
    let exchange = match table.text(cx, "exchange") {
        Some(text) if text.value.is_empty() => Some(ExchangeName::default_exchange()),
        Some(text) => exchanges.resolve(cx, &text),
        None => Some(exchanges.default.clone()),
    };
    let kind = match table.text(cx, "type") {
        Some(text) => template(cx, "type", &text, false),
        None => Template::parse(name).ok(),
    };
    let key = table.text(cx, "key").map(|text| template(cx, "key", &text, true));
    let id = table.text(cx, "id").map(|text| template(cx, "id", &text, false));
    let codec = table.word(cx, "codec", CODECS).map(|codec| codec.value).unwrap_or_default();
    let schema = table.text(cx, "schema").map(|text| check_schema::read(cx, &text, &directory));
    let token = secret(cx, table, "token", sources);
    let signature = signature(cx, table, sources);
    let status = status(cx, table);
    Some(Hook {
        path: path?,
        exchange: exchange?,
        kind: kind?,
        key: complete(key)?,
        id: complete(id)?,
        codec,
        schema: complete(schema)?,
        token,
        signature,
        status,
    })
}

fn status(cx: &mut Context<'_>, table: &Table<'_>) -> u16 {
    let Some(given) = table.integer(cx, "status", 0..=999) else { return STATUS };
    if !STATUSES.contains(&given.value) {
        let message = format!("`status` is {}, which no hook answers", given.value);
        cx.error(Code::BadHook, &given.place, message).help("write 200, 201, 202, or 204 for an answer without a body");
    }
    given.value
}

/// Absent is fine; there and of no use was reported.
fn complete<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn path(cx: &mut Context<'_>, text: &Text) -> Option<String> {
    let fits = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
    };
    let rest = text.value.strip_prefix(BELOW);
    if text.value.len() <= 255 && rest.is_some_and(|rest| rest.split('/').all(fits)) {
        return Some(text.value.clone());
    }
    let message = format!("`path` is {}, which no hook can have", text.shown());
    cx.error(Code::BadHook, &text.place, message)
        .help("write \"/hooks/NAME\": letters, digits, '-', '.', '_', '~', in parts between strokes");
    None
}

fn template(cx: &mut Context<'_>, key: &str, text: &Text, with_type: bool) -> Option<Template> {
    const HELP: &str = "write {data.FIELD} for a field of the data";
    const HELP_WITH_TYPE: &str = "write {type} for the event's type, {data.FIELD} for a field of the data";
    let problem = match Template::parse(&text.value) {
        Ok(template) if template.has_type() && !with_type => "has {type}, which is not known here".to_owned(),
        Ok(template) => return text.name(cx, |_| RoutingKey::new(template.fixed())).map(|_| template),
        Err(problem) => problem,
    };
    let message = format!("`{key}` is {}: it {problem}", text.shown());
    cx.error(Code::Template, &text.place, message).help(if with_type { HELP_WITH_TYPE } else { HELP });
    None
}

/// A token by reference; its file is watched.
fn secret(cx: &mut Context<'_>, table: &Table<'_>, key: &str, sources: &Sources) -> Option<Token> {
    let value = table.value(key)?;
    let directory = sources.directory();
    if let Some(file) = Table::inline(value, "a token").and_then(|inner| inner.value("file")?.get_ref().as_str()) {
        cx.further.push(directory.join(file));
    }
    check_http::token(cx, key, value, &directory)
}

/// `{ header = "X-Hub-Signature-256", secret = {env = "NAME"} }`
fn signature(cx: &mut Context<'_>, table: &Table<'_>, sources: &Sources) -> Option<Signature> {
    let inner = table.table(cx, "signature")?;
    inner.check_keys(cx, &["header", "secret"], &[]);
    inner.require(cx, "header", "header = \"X-Hub-Signature-256\"");
    inner.require(cx, "secret", "secret = { env = \"HOOK_SECRET\" }");
    let header = inner.text(cx, "header");
    let secret = secret(cx, &inner, "secret", sources);
    let header = header?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if header.value.is_empty() || header.value.len() > 64 || !header.value.bytes().all(is_name) {
        let message = format!("`header` is {}, which is no name of a header", header.shown());
        cx.error(Code::BadHook, &header.place, message).help("write \"X-Hub-Signature-256\"");
        return None;
    }
    Some(Signature { header: header.value.to_ascii_lowercase(), secret: secret? })
}
