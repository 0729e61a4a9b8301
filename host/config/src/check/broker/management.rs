//! `management-url` of `[broker]`: the HTTP API of RabbitMQ's management plugin.

use percent_encoding::percent_decode_str;

use crate::diagnostics::codes::Code;
use crate::model::broker::connection::{BrokerChoice, Management};
use crate::model::broker::url::BrokerUrl;
use crate::model::secret::Secret;
use crate::parse::context::{ReadContext, Text};

/// Adds the address to the broker. Credentials that it lacks are the broker's own.
pub(super) fn add(cx: &mut ReadContext<'_>, broker: &mut Option<BrokerChoice>, text: &Text) {
    let (known, place) = match broker {
        Some(BrokerChoice::Embedded) => {
            let message = "`management-url` has no effect, because the embedded broker has no management API";
            cx.findings
                .warning(Code::HalfBroker, &text.place, message)
                .help("remove `management-url`, or set `url` to use RabbitMQ");
            return;
        }
        Some(BrokerChoice::Amqp(amqp)) => (Some(&amqp.url), Some(&mut amqp.management)),
        None => (None, None),
    };
    match (parse(&text.value, known), place) {
        (Ok(parsed), Some(place)) => *place = Some(parsed),
        (Ok(_), None) => {}
        (Err(problem), _) => {
            cx.problem(Code::ManagementUrl, &text.place, "`management-url`", &problem)
                .or_help("write \"http://USER:PASSWORD@HOST:15672\"");
        }
    }
}

/// Never shows more than the scheme.
fn parse(url: &str, broker: Option<&BrokerUrl>) -> Result<Management, String> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme; write \"http://HOST:15672\"")?;
    if scheme == "https" {
        return Err(
            "begins with https://, but the daemon connects to the management plugin without TLS; write \"http://HOST:15672\" \
             with a host on a private network"
                .to_owned(),
        );
    }
    if scheme != "http" {
        return Err(format!(
            "begins with {}://, but must begin with http://; write \"http://HOST:15672\"",
            scheme.escape_debug()
        ));
    }
    if url.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) || rest.contains(['?', '#']) {
        return Err("contains white space, a ? or a #; in the user and the password, write a space as %20, ? as %3F and # as %23".to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (own, host) = match authority.rsplit_once('@') {
        Some((own, host)) => (Some(own), host),
        None => (None, authority),
    };
    if path.contains('@') || own.is_some_and(|own| own.contains('@')) {
        return Err(
            "has more than one @, or an @ after the host; write an @ in the user or the password as %40".to_owned()
        );
    }
    let port = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => Some(port),
        Some(_) | None => None,
    };
    if host.is_empty() || host.starts_with(':') {
        return Err("has no host; write \"http://HOST:15672\"".to_owned());
    }
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err("has a port that is not a number from 1 to 65535; write \"http://HOST:15672\"".to_owned());
    }
    let (user, password) = own
        .map(credentials)
        .or_else(|| broker.map(BrokerUrl::service_credentials))
        .unwrap_or_else(|| credentials("guest:guest"));
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(Management { url: format!("http://{host}{slash}{path}"), user, password })
}

fn credentials(text: &str) -> (String, Secret) {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    (decoded(user), Secret::new(&decoded(password)))
}

/// Replaces `%XX`. Text that is not UTF-8 after that is no use, and its bad bytes are replaced.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
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
            let read = parse(url, Some(&BrokerUrl::parse(broker).expect(broker))).expect(url);
            assert_eq!((read.url.as_str(), read.user.as_str(), read.password.expose()), expected, "{url}");
            assert!(!format!("{read:?}").contains("guest"), "{read:?}");
        }
        for (url, wanted) in [
            ("rabbit:15672", "no scheme"),
            ("https://rabbit", "https://"),
            ("amqp://rabbit", "begins with amqp://"),
            ("http://", "has no host"),
            ("http://:15672", "has no host"),
            ("http://rabbit:port", "port"),
            ("http://u:p@ss@rabbit", "more than one @"),
            ("http://u:p/w@rabbit", "an @ after the host"),
            ("http://rabbit/?x", "a ?"),
        ] {
            let error = parse(url, None).expect_err(url);
            assert!(error.contains(wanted), "{url}: {error}");
        }
    }
}
