//! The HTTP listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::check::token;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::http::listener::{DEDUPE_DEFAULT, MAX_BODY, RESERVED};
use crate::keys::routes::flow::IDS;
use crate::model::http::listener::Http;
use crate::model::plugins::origin::OriginHost;
use crate::model::routes::flow::DedupeWindow;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::environment::{Overlay, ip};
use crate::parse::raw::http::RawHttp;
use crate::parse::value::code_at;
use crate::sources::Sources;

/// `listen` of the table of keys.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Checks the table, and lays environment and flags over it.
pub(crate) fn check(cx: &mut ReadContext<'_>, raw: &RawHttp, sources: &Sources, overlay: &Overlay) -> Http {
    let tokens = raw.tokens.iter().filter_map(|raw| token::check(cx, raw)).collect();
    let hosts = hosts(cx, &raw.hosts);
    let listen = listen(cx, raw.listen.as_ref(), sources, overlay);
    if !listen.value.ip().to_canonical().is_loopback() && !raw.has_tokens && !sources.insecure {
        let message = format!("other machines can reach the listener {}, but `tokens` is not set", listen.value);
        cx.error(Code::OpenListener, &listen.place, message)
            .help("write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]` in [http], or pass --insecure");
    }
    let max_body = raw.max_body.unwrap_or(MAX_BODY.fallback());
    Http {
        listen: listen.value,
        hosts,
        tokens,
        max_body_bytes: usize::try_from(max_body).unwrap_or(usize::MAX),
        dedupe: raw.dedupe.unwrap_or(DedupeWindow { window: DEDUPE_DEFAULT, max: IDS.fallback() }),
        reserved: raw.reserved.unwrap_or(RESERVED.fallback()),
    }
}

/// Names and addresses that requests may be addressed to.
fn hosts(cx: &mut ReadContext<'_>, raw: &[Text]) -> Vec<OriginHost> {
    let mut hosts = Vec::new();
    for text in raw {
        // The brackets of an IPv6 address are those of a URL.
        let inside = text.value.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match OriginHost::parse(inside.unwrap_or(&text.value)) {
            Ok(OriginHost::Address(address)) => hosts.push(OriginHost::Address(address.to_canonical())),
            Ok(host) => hosts.push(host),
            Err(problem) => {
                cx.problem(Code::BadAddress, &text.place, &format!("{} in `hosts`", text.shown()), &problem).help(
                    "write a name without scheme and port, such as \"trunkline.example.com\", or a pattern with at least \
                     two labels after \"*.\", such as \"*.example.com\"",
                );
            }
        }
    }
    hosts
}

/// The flag, else the file with host and port of the environment laid over it.
fn listen(cx: &mut ReadContext<'_>, raw: Option<&Text>, sources: &Sources, overlay: &Overlay) -> At<SocketAddr> {
    let in_file = raw.and_then(|text| address(cx, text));
    let flag = sources.listen.clone().map(|value| Text { value, place: ValuePlace::Flag("--listen"), literal: true });
    if let Some(address) = flag.and_then(|text| address(cx, &text)) {
        return address;
    }
    let mut listen = in_file.unwrap_or(At::new(LISTEN_DEFAULT, ValuePlace::Flag("--listen")));
    if let Some(port) = &overlay.port {
        listen.value.set_port(port.value);
    }
    if let Some(host) = &overlay.host {
        listen = At::new(SocketAddr::new(host.value, listen.value.port()), host.place.clone());
    }
    listen
}

fn address(cx: &mut ReadContext<'_>, text: &Text) -> Option<At<SocketAddr>> {
    let parsed = text.value.parse::<SocketAddr>().ok().or_else(|| {
        let (host, port) = text.value.rsplit_once(':')?;
        Some(SocketAddr::new(ip(host)?, port.parse().ok()?))
    });
    if parsed.is_none() {
        let subject = if matches!(text.place, ValuePlace::File(_)) { "`listen`" } else { "the value" };
        cx.error(
            code_at(&text.place, Code::BadAddress),
            &text.place,
            format!("{subject} is {}, but must be an IP address with a port", text.shown()),
        )
        .help("write IP:PORT, such as \"127.0.0.1:8000\" or \"0.0.0.0:8000\"");
    }
    parsed.map(|parsed| At::new(parsed, text.place.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::http::listener::LISTEN;

    #[test]
    fn the_default_is_that_of_the_table_of_keys() {
        assert_eq!(LISTEN.value.default, Some(LISTEN_DEFAULT.to_string().as_str()));
    }
}
