//! `[broker] management-url`: the HTTP API of RabbitMQ's management plugin, which knows what AMQP does not tell.

use super::checked::{Broker, Management};
use super::codes::Code;
use super::grants::Secret;
use super::walk::{Context, Text};

/// Puts the address beside the broker's; credentials that it lacks are the broker's own.
pub(super) fn add(cx: &mut Context<'_>, broker: Broker, text: &Text) -> Broker {
    let Broker::Amqp { url, tls, management: _, header_key } = broker else {
        let message = "`management-url` is set, but the broker is the embedded one, which needs none";
        cx.findings.warning(Code::HalfBroker, &text.place, message).help("remove it, or say where the RabbitMQ is");
        return broker;
    };
    match parse(&text.value, &url) {
        Ok(management) => Broker::Amqp { url, tls, management: Some(management), header_key },
        Err(problem) => {
            cx.error(Code::ManagementUrl, &text.place, format!("`management-url` {problem}"))
                .help("write \"http://USER:PASSWORD@HOST:15672\"");
            Broker::Amqp { url, tls, management: None, header_key }
        }
    }
}

/// Never shows more than the scheme.
fn parse(url: &str, broker: &str) -> Result<Management, String> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme; it begins with http://")?;
    if scheme == "https" {
        return Err("begins with https://, which is not spoken here: use http:// on a network of yours".to_owned());
    }
    if scheme != "http" {
        return Err(format!("begins with {}://, not with http://", scheme.escape_debug()));
    }
    if url.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) || rest.contains(['?', '#']) {
        return Err("has white space, a ? or a # in it; percent-encode user and password".to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (own, host) = match authority.rsplit_once('@') {
        Some((own, host)) => (Some(own), host),
        None => (None, authority),
    };
    if path.contains('@') || own.is_some_and(|own| own.contains('@')) {
        return Err("has more than one @, or one after the host; percent-encode user and password".to_owned());
    }
    let port = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => Some(port),
        Some(_) | None => None,
    };
    if host.is_empty() || host.starts_with(':') {
        return Err("names no host".to_owned());
    }
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err("has a port that is no number from 1 to 65535".to_owned());
    }
    let (user, password) =
        own.map(credentials).or_else(|| broker_credentials(broker)).unwrap_or_else(|| credentials("guest:guest"));
    let path = path.trim_end_matches('/');
    let stroke = if path.is_empty() { "" } else { "/" };
    Ok(Management { url: format!("http://{host}{stroke}{path}"), user, password: Secret::new(&password) })
}

fn broker_credentials(url: &str) -> Option<(String, String)> {
    let (_, rest) = url.split_once("://")?;
    let (own, _) = rest.split(['/', '?']).next()?.rsplit_once('@')?;
    Some(credentials(own))
}

fn credentials(text: &str) -> (String, String) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    (decoded(user), decoded(password))
}

/// What `%XX` stands for put in its place; what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_credentials() {
        for (url, broker, expected) in [
            ("http://rabbit:15672", "amqp://rabbit", ("http://rabbit:15672", "guest", "guest")),
            ("http://rabbit:15672/", "amqp://u%40x:p%3Aw@rabbit:5672/v", ("http://rabbit:15672", "u@x", "p:w")),
            ("http://a:b%2Fc@rabbit/rmq/", "amqp://u:p@rabbit", ("http://rabbit/rmq", "a", "b/c")),
            ("http://[::1]:15672", "amqps://u@[::1]/x", ("http://[::1]:15672", "u", "")),
            ("http://[::1]", "amqp://rabbit", ("http://[::1]", "guest", "guest")),
        ] {
            let read = parse(url, broker).expect(url);
            assert_eq!((read.url.as_str(), read.user.as_str(), read.password.expose()), expected, "{url}");
            assert!(!format!("{read:?}").contains("guest"), "{read:?}");
        }
        for (url, wanted) in [
            ("rabbit:15672", "no scheme"),
            ("https://rabbit", "https://"),
            ("amqp://rabbit", "not with http://"),
            ("http://", "names no host"),
            ("http://:15672", "names no host"),
            ("http://rabbit:port", "port"),
            ("http://u:p@ss@rabbit", "more than one @"),
            ("http://u:p/w@rabbit", "one after the host"),
            ("http://rabbit/?x", "a ?"),
        ] {
            let error = parse(url, "amqp://rabbit").expect_err(url);
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }
}
