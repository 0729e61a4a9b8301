//! `[broker]`: which one, and how much of it is ours to declare.

use super::Sources;
use super::check_http;
use super::check_management;
use super::check_queues::PREFETCH;
use super::check_tls;
use super::checked::{Broker, Tls, Token, TopologyMode};
use super::codes::Code;
use super::diagnostics::Place;
use super::environment::Overlay;
use super::walk::{At, Context, Table, Text, code_at, span};

/// What `[broker]` says, with environment and flags laid over it.
pub(super) struct Read {
    pub(super) broker: Broker,
    pub(super) mode: TopologyMode,
    /// For queues, where `[defaults]` has none.
    pub(super) prefetch: Option<At<u16>>,
}

pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, source: &str, sources: &Sources, overlay: &Overlay) -> Read {
    let table = top.table(cx, "broker");
    if let Some(table) = &table {
        table.check_keys(cx, &["url", "management-url", "prefetch", "topology", "tls", "header-key"], &[]);
    }
    let in_file = table.as_ref().and_then(|table| url_in_file(cx, table, "url", source));
    let management = table.as_ref().and_then(|table| url_in_file(cx, table, "management-url", source));
    let flag = sources.broker_url.clone();
    let flag = flag.map(|value| Text { value, place: Place::Flag("--broker"), literal: false });
    let said = in_file.is_some() || table.as_ref().is_some_and(|table| table.has("url"));
    let tls = table.as_ref().and_then(|table| check_tls::read(cx, table, &sources.directory()));
    let broker = match flag.or(overlay.broker.clone()).or(in_file) {
        Some(text) => broker(cx, &text, tls.as_ref()),
        None => Broker::Embedded,
    };
    let mut broker = match management {
        Some(text) => check_management::add(cx, broker, &text),
        None => broker,
    };
    let key = table.as_ref().and_then(|table| header_key(cx, table, sources));
    if let (Broker::Amqp { header_key, .. }, Some(key)) = (&mut broker, key) {
        *header_key = Some(key);
    }
    if !said && sources.broker_url.is_none() && overlay.broker.is_none() {
        for name in &overlay.broker_parts {
            let message = "is set, but neither RABBITMQ_HOST nor RABBITMQ_URL is: the embedded broker is used";
            cx.findings.warning(Code::HalfBroker, &Place::Variable(name), message).help("set RABBITMQ_HOST");
        }
        if let Some(tls) = &tls {
            let message = "`tls` is set, but nothing says where the broker is: the embedded broker is used";
            cx.findings
                .warning(Code::HalfBroker, &tls.place, message)
                .help("write `url = \"amqps://HOST:5671/VHOST\"`");
        }
    }
    let mode = [("declare", TopologyMode::Declare), ("check", TopologyMode::Check)];
    Read {
        broker,
        mode: table
            .as_ref()
            .and_then(|table| table.word(cx, "topology", &mode))
            .map_or_else(Default::default, |mode| mode.value),
        prefetch: table.as_ref().and_then(|table| table.integer(cx, "prefetch", PREFETCH)),
    }
}

/// The key that the daemon signs its headers with, by reference. Only RabbitMQ needs it.
fn header_key(cx: &mut Context<'_>, table: &Table<'_>, sources: &Sources) -> Option<Token> {
    let value = table.value("header-key")?;
    let directory = sources.directory();
    if let Some(file) = Table::inline(value, "a key").and_then(|inner| inner.value("file")?.get_ref().as_str()) {
        cx.further.push(directory.join(file));
    }
    check_http::token(cx, "header-key", value, &directory)
}

/// The file's URL; a password in it is hidden from excerpts and warned about.
fn url_in_file(cx: &mut Context<'_>, table: &Table<'_>, key: &str, source: &str) -> Option<Text> {
    let text = table.text(cx, key)?;
    let bytes = span(&text.place)?;
    let written = source.get(bytes.clone()).unwrap_or_default();
    if let Some(inside) = password(written).filter(|inside| !written[inside.clone()].contains("${")) {
        let (start, end) = (bytes.start + inside.start, bytes.start + inside.end);
        cx.findings.hide(&Place::File(start..end));
        cx.findings
            .warning(Code::LiteralSecret, &text.place, "a password stands in the file")
            .help("write ${RABBITMQ_PASSWORD} in its place and set that variable");
    }
    // Only the environment's and the flag's URLs are whole secrets; this one is shown by its excerpt.
    Some(text)
}

/// Where the password is in `scheme://user:password@host`, when there is one.
fn password(url: &str) -> Option<std::ops::Range<usize>> {
    let begin = url.find("://")? + 3;
    let authority = &url[begin..];
    let at = authority.rfind('@')?;
    let colon = authority[..at].find(':')?;
    (colon + 1 < at).then_some(begin + colon + 1..begin + at)
}

fn broker(cx: &mut Context<'_>, text: &Text, tls: Option<&At<Tls>>) -> Broker {
    if text.value == "embedded" {
        return Broker::Embedded;
    }
    if let Err(problem) = check_url(&text.value) {
        cx.error(code_at(&text.place, Code::BrokerUrl), &text.place, format!("the broker's URL {problem}"))
            .help("write \"amqp://USER:PASSWORD@HOST:5672/VHOST\" or \"embedded\"");
    }
    if let Some(tls) = tls {
        check_tls::refuse_plain(cx, tls, text);
    }
    let tls = tls.map(|tls| tls.value.clone()).unwrap_or_default();
    Broker::Amqp { url: text.value.clone(), tls, management: None, header_key: None }
}

/// Checks what every client would stumble over; never shows more than the scheme, host and port.
fn check_url(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme; it begins with amqp:// or amqps://")?;
    if !matches!(scheme, "amqp" | "amqps") {
        return Err(format!("begins with {}://, not with amqp:// or amqps://", scheme.escape_debug()));
    }
    if url.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return Err("has white space in it; percent-encode user, password and vhost".to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if userinfo.contains('@') {
        return Err("has more than one @; in user and password write %40".to_owned());
    }
    let path = rest.split('?').next().unwrap_or_default().split_once('/').map_or("", |(_, path)| path);
    if path.contains('@') {
        return Err("has an @ after the host; in a password write %2F for / and %40 for @".to_owned());
    }
    if path.contains('/') {
        return Err("has more than one / after the host; the vhost \"/\" is written %2F".to_owned());
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (host, None),
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(Ok(0) | Err(_)) => Err("has a port that is no number from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for good in [
            "amqp://localhost",
            "amqp://guest:guest@localhost:5672/%2f",
            "amqps://u@broker.example.com/prod?heartbeat=30",
            "amqp://[::1]:5672",
            "amqp://[::1]",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            ("localhost:5672", "has no scheme"),
            ("http://localhost", "begins with http://"),
            ("amqp://", "names no host"),
            ("amqp://host:port", "port that is no number"),
            ("amqp://host:0", "port that is no number"),
            ("amqp://u:p@ss@host", "more than one @"),
            ("amqp://u:p/ss@host", "@ after the host"),
            ("amqp://host//", "vhost"),
            ("amqp://ho st", "white space"),
        ] {
            let problem = check_url(bad).expect_err(bad);
            assert!(problem.contains(wanted), "{bad}: {problem}");
        }
    }

    #[test]
    fn passwords_are_found() {
        for (url, expected) in [
            ("\"amqp://u:secret@h\"", Some("secret")),
            ("amqp://u@h:5672", None),
            ("amqp://u:@h", None),
            ("amqp://h", None),
            ("amqp://u:a@b@h", Some("a@b")),
        ] {
            assert_eq!(password(url).map(|inside| &url[inside]), expected, "{url}");
        }
    }
}
