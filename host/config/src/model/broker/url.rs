//! The URL of RabbitMQ, parsed once.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::model::secret::Secret;

/// RabbitMQ's user and password where a URL names none.
const GUEST: &str = "guest";

/// `amqp://USER:PASSWORD@HOST:PORT/VHOST?QUERY` or `amqps://…`. `Display` and `Debug` show neither credentials nor query.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether the scheme is `amqps`.
    pub is_tls: bool,
    /// Host name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// Port; 5672 for `amqp` and 5671 for `amqps` where the URL has none.
    pub port: u16,
    /// Virtual host, decoded; `/` if the path of the URL is empty.
    pub vhost: String,
    /// Parameters of the query.
    pub query: BrokerQuery,
    /// User and password, decoded, where the URL has a user.
    credentials: Option<(String, Option<Secret>)>,
    text: Secret,
    shown: String,
}

/// Parameters of the connection. Each is absent unless the URL names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerQuery {
    /// Largest frame in bytes; 0 for no bound.
    pub frame_max: Option<u32>,
    /// Largest number of channels.
    pub channel_max: Option<u16>,
    /// Seconds between two heartbeats.
    pub heartbeat: Option<u16>,
    /// Milliseconds in which a connection has to be made.
    pub connection_timeout_ms: Option<u64>,
    /// SASL mechanism in lower case, such as `plain`.
    pub auth_mechanism: Option<String>,
}

/// SASL mechanisms of RabbitMQ.
const MECHANISMS: [&str; 5] = ["amqplain", "anonymous", "external", "plain", "rabbit-cr-demo"];

impl BrokerUrl {
    /// Reads a URL. A problem never repeats more than the scheme of the URL.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with "the URL".
    pub fn parse(text: &str) -> Result<Self, String> {
        check(text)?;
        let url = Url::parse(text).map_err(|error| format!("cannot be read: {error}"))?;
        let host = match url.host() {
            Some(Host::Domain(name)) => decoded(name, "host")?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("has no host".to_owned()),
        };
        let is_tls = url.scheme() == "amqps";
        let password = url.password().map(|password| decoded(password, "password")).transpose()?;
        let credentials = match url.username() {
            "" => password.map(|password| (GUEST.to_owned(), Some(Secret::new(&password)))),
            user => Some((decoded(user, "user")?, password.as_deref().map(Secret::new))),
        };
        Ok(Self {
            is_tls,
            host,
            port: url.port().unwrap_or(if is_tls { 5671 } else { 5672 }),
            vhost: vhost(&url)?,
            query: BrokerQuery::read(&url)?,
            credentials,
            text: Secret::new(text),
            shown: shown(url),
        })
    }

    /// The user, `guest` where the URL names none.
    #[must_use]
    pub fn user(&self) -> &str {
        self.credentials.as_ref().map_or(GUEST, |(user, _)| user)
    }

    /// The password, `guest` where the URL names none.
    #[must_use]
    pub fn password(&self) -> Secret {
        let given = self.credentials.as_ref().and_then(|(_, password)| password.clone());
        given.unwrap_or_else(|| Secret::new(GUEST))
    }

    /// User and password for another service of the same broker: an absent password is an empty one there.
    pub(crate) fn service_credentials(&self) -> (String, Secret) {
        match &self.credentials {
            None => (GUEST.to_owned(), Secret::new(GUEST)),
            Some((user, password)) => (user.clone(), password.clone().unwrap_or_else(|| Secret::new(""))),
        }
    }

    /// The URL as it was given, with its credentials.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl BrokerQuery {
    fn read(url: &Url) -> Result<Self, String> {
        let mechanism = parameter(url, "auth_mechanism").map(|mechanism| mechanism.to_lowercase());
        if mechanism.as_deref().is_some_and(|mechanism| !MECHANISMS.contains(&mechanism)) {
            return Err(format!(
                "has an unknown `auth_mechanism`; write one of these words after `auth_mechanism=`: {}",
                MECHANISMS.join(", ")
            ));
        }
        Ok(Self {
            frame_max: number(url, "frame_max")?,
            channel_max: number(url, "channel_max")?,
            heartbeat: number(url, "heartbeat")?,
            connection_timeout_ms: number(url, "connection_timeout")?,
            auth_mechanism: mechanism,
        })
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn number<N: std::str::FromStr>(url: &Url, name: &str) -> Result<Option<N>, String> {
    let Some(value) = parameter(url, name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| format!("has an invalid `{name}`; write `{name}=NUMBER`, or remove `{name}`"))
}

/// The virtual host in the path. An empty path means the virtual host `/`. The URLs of compose files end with `:5672/`. Celery does
/// not percent-encode the virtual host `/`, so the URLs of Celery end with `:5672//`.
fn vhost(url: &Url) -> Result<String, String> {
    match url.path() {
        "" | "/" | "//" => Ok("/".to_owned()),
        path => decoded(path.strip_prefix('/').unwrap_or(path), "virtual host"),
    }
}

fn decoded(text: &str, part: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| format!("has a {part} whose percent-encoding is not UTF-8; percent-encode the UTF-8 bytes of the {part}, such as %C3%BC for \"ü\""))
}

/// The URL without credentials and query.
fn shown(mut url: Url) -> String {
    // Both fail for URLs without a host only.
    let _cleared = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Refuses what a lenient parser would read in another way than its author.
fn check(url: &str) -> Result<(), String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("has no scheme; write \"amqp://USER:PASSWORD@HOST:5672/VHOST\"")?;
    if !matches!(scheme, "amqp" | "amqps") {
        return Err(format!(
            "begins with {}://, but must begin with amqp:// or amqps://; write \"amqp://USER:PASSWORD@HOST:5672/VHOST\"",
            scheme.escape_debug()
        ));
    }
    if url.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return Err("contains white space or a control character; write a space as %20, and a control character as % with two hexadecimal digits".to_owned());
    }
    // A parser ends the host at the #, so a password with a # would become another host.
    if url.contains('#') {
        return Err("has a #; write a # in the user, the password or the virtual host as %23".to_owned());
    }
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = before_query.split('/').next().unwrap_or_default();
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if userinfo.contains('@') {
        return Err("has more than one @; write an @ in the user or the password as %40".to_owned());
    }
    let path = before_query.split_once('/').map_or("", |(_, path)| path);
    // Spring and other clients accept a list of hosts. A parser takes the list for the name of one host.
    let may_be_password = userinfo.is_empty() && (path.contains('@') || query.contains('@'));
    if host.contains(',') && !may_be_password {
        return Err(
            "names more than one host; write the URL of one host, such as the name of a load balancer".to_owned()
        );
    }
    // A ? in the user or the password begins the query, and the @ before the host is then in the query.
    if path.contains('@') || userinfo.is_empty() && query.contains('@') {
        return Err(
            "has an @ after the host; in the user and the password, write / as %2F, ? as %3F and @ as %40".to_owned()
        );
    }
    if path != "/" && path.contains('/') {
        return Err("has more than one / after the host; write a / in the name of the virtual host as %2F".to_owned());
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (host, None),
    };
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(Ok(0) | Err(_)) => Err("has a port that is not a number from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded_and_have_defaults() {
        for (text, host, port, vhost, user, password) in [
            ("amqp://localhost", "localhost", 5672, "/", "guest", "guest"),
            ("amqp://localhost/", "localhost", 5672, "/", "guest", "guest"),
            ("amqp://guest:guest@localhost:5672/", "localhost", 5672, "/", "guest", "guest"),
            ("amqp://localhost//", "localhost", 5672, "/", "guest", "guest"),
            ("amqp://localhost?heartbeat=5", "localhost", 5672, "/", "guest", "guest"),
            ("amqp://localhost/?heartbeat=5", "localhost", 5672, "/", "guest", "guest"),
            ("amqps://localhost:5671/", "localhost", 5671, "/", "guest", "guest"),
            ("amqp://[::1]:5672/", "::1", 5672, "/", "guest", "guest"),
            ("amqp://localhost/%2Fprod", "localhost", 5672, "/prod", "guest", "guest"),
            ("amqp://guest:guest@localhost:5673/%2f", "localhost", 5673, "/", "guest", "guest"),
            ("amqps://u@broker.example.com/prod?heartbeat=30", "broker.example.com", 5671, "prod", "u", "guest"),
            ("amqp://a%40b:p%2Fw%3A%C3%BC@[::1]:5672/my%20vhost", "::1", 5672, "my vhost", "a@b", "p/w:ü"),
            ("amqps://[fd00::1]", "fd00::1", 5671, "/", "guest", "guest"),
            ("amqp://127.0.0.1/", "127.0.0.1", 5672, "/", "guest", "guest"),
            ("amqp://u:p%23%3F@h/%23v?name=a@b", "h", 5672, "#v", "u", "p#?"),
            ("amqp://u:p,q@h/a,b", "h", 5672, "a,b", "u", "p,q"),
        ] {
            let url = BrokerUrl::parse(text).expect(text);
            assert_eq!((url.host.as_str(), url.port, url.vhost.as_str()), (host, port, vhost), "{text}");
            assert_eq!((url.user(), url.password().expose()), (user, password), "{text}");
            assert_eq!(url.is_tls, text.starts_with("amqps"), "{text}");
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn parameters_are_read() {
        let query =
            BrokerUrl::parse("amqp://h/v?frame_max=64&heartbeat=3&connection_timeout=150&auth_mechanism=EXTERNAL");
        let query = query.expect("a URL").query;
        assert_eq!((query.frame_max, query.heartbeat, query.channel_max), (Some(64), Some(3), None));
        assert_eq!((query.connection_timeout_ms, query.auth_mechanism.as_deref()), (Some(150), Some("external")));
        for bad in ["amqp://h?heartbeat=x", "amqp://h?channel_max=70000", "amqp://h?auth_mechanism=none"] {
            assert!(BrokerUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_and_query_do_not_show() {
        for (text, shown) in [
            ("amqp://u:hunter2@h:5673/v?password=hunter2", "amqp://h:5673/v"),
            ("amqps://h", "amqps://h"),
            ("amqp://u:hunter2@[::1]/%2F", "amqp://[::1]/%2F"),
        ] {
            let url = BrokerUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        }
    }

    #[test]
    fn bad_urls() {
        for (bad, wanted) in [
            ("localhost:5672", "has no scheme"),
            ("http://localhost", "begins with http://"),
            ("amqp://", "has no host"),
            ("amqp://host:port", "port that is not a number"),
            ("amqp://host:0", "port that is not a number"),
            ("amqp://u:p@ss@host", "more than one @"),
            ("amqp://u:p/ss@host", "@ after the host"),
            ("amqp://u:p,s/s@host", "@ after the host"),
            ("amqp://u:p,s?s@host", "@ after the host"),
            ("amqp://u:123/x@host/", "@ after the host"),
            ("amqp://u:p?ss@host", "@ after the host"),
            ("amqp://u:123?x@host/", "@ after the host"),
            ("amqp://u:123#x@host/", "write a # in the user"),
            ("amqp://u#x@host", "as %23"),
            ("amqp://host/my#vhost", "as %23"),
            ("amqp://h1,h2/", "more than one host"),
            ("amqp://u:p@h1:5672,h2:5672", "more than one host"),
            ("amqp://u:p@h1:5672,amqp://u:p@h2:5672", "more than one host"),
            ("amqp://host/a/b", "virtual host"),
            ("amqp://host//prod", "virtual host"),
            ("amqp://host///", "virtual host"),
            ("amqp://ho st", "white space"),
            ("amqp://h/%ff", "not UTF-8"),
        ] {
            let problem = BrokerUrl::parse(bad).expect_err(bad);
            assert!(problem.contains(wanted), "{bad}: {problem}");
        }
    }
}
