//! What a plugin may do beyond its call: `allow` and `secrets` of `[plugins.NAME]`, checked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::address::Network;
use super::quota::{Quota, WrittenQuota};
use trunkline_event::{ExchangeName, PatternSet, RoutingKey};

/// `plugins.NAME.allow`: denied is what is not here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Where requests may go; none: the interface is not linked.
    pub http: Vec<Origin>,
    /// Networks that are not public and may be connected to all the same.
    pub private_networks: Vec<Network>,
    /// State of its own; none: the interface is not linked.
    pub kv: Option<Quota>,
    /// Where it may emit to; none: the route's `emit` alone decides.
    pub emit: Option<Vec<EmitGrant>>,
}

impl Allow {
    /// As it stands in `plugins.lock`.
    #[must_use]
    pub fn written(&self) -> WrittenAllow {
        let emit = |grant: &EmitGrant| WrittenEmit {
            exchange: grant.exchange.to_string(),
            keys: grant.keys.iter().map(ToString::to_string).collect(),
        };
        WrittenAllow {
            http: self.http.iter().map(ToString::to_string).collect(),
            private_networks: self.private_networks.iter().map(ToString::to_string).collect(),
            kv: self.kv.map(Quota::written),
            emit: self.emit.as_ref().map(|grants| grants.iter().map(emit).collect()),
        }
    }
}

/// The grants as texts and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WrittenAllow {
    /// Origins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
    /// Networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_networks: Vec<String>,
    /// State.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<WrittenQuota>,
    /// Exchanges and keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<Vec<WrittenEmit>>,
}

/// A grant to emit in `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEmit {
    /// Exchange.
    pub exchange: String,
    /// Patterns.
    pub keys: Vec<String>,
}

/// `allow.emit`: an exchange, and patterns of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitGrant {
    /// Exchange.
    pub exchange: ExchangeName,
    keys: Vec<RoutingKey>,
    patterns: PatternSet<()>,
}

impl EmitGrant {
    /// The keys are topic patterns, whatever the exchange's type; one is enough.
    #[must_use]
    pub fn new(exchange: ExchangeName, keys: Vec<RoutingKey>) -> Self {
        let patterns = keys.iter().map(|key| (key.as_str(), ())).collect();
        Self { exchange, keys, patterns }
    }

    /// Whether it covers an emission.
    #[must_use]
    pub fn allows(&self, exchange: &ExchangeName, key: &str) -> bool {
        self.exchange == *exchange && self.patterns.matches(key)
    }
}

/// A value that shows nowhere. Not `Display`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(Arc::from(value))
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Scheme, host and port of `allow.http`, or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https` or `http`.
    pub is_https: bool,
    /// Where.
    pub host: Host,
    /// Given, or the scheme's.
    pub port: u16,
}

/// The host of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case.
    Name(String),
    /// `*.NAME`: every name below this one, and not itself. Only in a grant.
    Below(String),
    /// An address.
    Address(IpAddr),
}

impl Origin {
    /// Reads `https://api.example.com`, `http://10.0.0.1:9000`, `https://*.example.com`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, authority) = text.split_once("://").ok_or("has no scheme; write \"https://HOST\"")?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err("has another scheme than https or http".to_owned()),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            return Err("has a user; credentials belong into a header".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err("goes on after the port; an origin is scheme, host and port".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if is_https => 443,
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("has a port that is none")?,
        };
        Ok(Self { is_https, host: Host::parse(host)?, port })
    }

    /// Whether a request to `target` is granted by this one.
    #[must_use]
    pub fn covers(&self, target: &Self) -> bool {
        self.host.covers(&target.host) && self.is_https == target.is_https && self.port == target.port
    }
}

/// Host and port; the colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("has a bracket that is not closed")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err("has something after the bracket".to_owned()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("has an IPv6 address without brackets".to_owned()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

impl Host {
    /// Reads a name, an address without brackets, or `*.NAME`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let (is_below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let name = name.to_ascii_lowercase();
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
        };
        if name.is_empty() || name.len() > 253 || !name.split('.').all(fits) {
            return Err("has a host that is no name and no address".to_owned());
        }
        // Resolvers read 127.1, 2130706433 and 0x7f000001 as addresses, and so does nobody who looks at a list of names.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err("has a host that some read as an IPv4 address; write four decimal numbers".to_owned());
        }
        if is_below && !name.contains('.') {
            return Err("would cover a whole top-level domain".to_owned());
        }
        Ok(if is_below { Self::Below(name) } else { Self::Name(name) })
    }

    /// Whether `target` is this one, or below it.
    #[must_use]
    pub fn covers(&self, target: &Self) -> bool {
        match (self, target) {
            (Self::Name(one), Self::Name(two)) => one == two,
            (Self::Below(parent), Self::Name(name)) => {
                name.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Address(one), Self::Address(two)) => one == two,
            (Self::Name(_), Self::Address(_) | Self::Below(_))
            | (Self::Below(_), Self::Address(_) | Self::Below(_))
            | (Self::Address(_), Self::Name(_) | Self::Below(_)) => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Address(IpAddr::V4(address)) => Ipv4Addr::fmt(address, f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.is_https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn origins() {
        for (text, shown) in [
            ("https://API.Example.com", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("https://*.example.com", "https://*.example.com"),
        ] {
            assert_eq!(origin(text).to_string(), shown);
        }
        for (text, wanted) in [
            ("api.example.com", "no scheme"),
            ("ftp://a.example", "another scheme"),
            ("https://user:pw@a.example", "a user"),
            ("https://a.example/path", "goes on after the port"),
            ("https://a.example?x", "goes on after the port"),
            ("https://a.example:0", "a port that is none"),
            ("https://a.example:99999", "a port that is none"),
            ("https://", "no name and no address"),
            ("https://a..example", "no name and no address"),
            ("https://a.example.", "no name and no address"),
            ("https://*", "no name and no address"),
            ("https://*.com", "top-level"),
            ("http://2130706433", "some read as an IPv4"),
            ("http://0x7f000001", "some read as an IPv4"),
            ("http://127.1", "some read as an IPv4"),
            ("http://0177.0.0.1", "some read as an IPv4"),
            ("http://::1", "without brackets"),
            ("http://[::1", "not closed"),
            ("http://[::1]x", "after the bracket"),
        ] {
            let error = Origin::parse(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let granted = origin("https://api.example.com");
        for (target, covered) in [
            ("https://api.example.com", true),
            ("https://API.example.com:443", true),
            ("http://api.example.com", false),
            ("http://api.example.com:443", false),
            ("https://api.example.com:8443", false),
            ("https://api.example.com.evil.test", false),
            ("https://evil-api.example.com", false),
            ("https://93.184.216.34", false),
        ] {
            assert_eq!(granted.covers(&origin(target)), covered, "{target}");
        }
        let below = origin("https://*.example.com");
        for (target, covered) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://aexample.com", false),
        ] {
            assert_eq!(below.covers(&origin(target)), covered, "{target}");
        }
        assert!(!origin("http://127.0.0.1").covers(&origin("http://[::ffff:127.0.0.1]")));
    }

    #[test]
    fn one_pattern_of_a_grant_is_enough() {
        let name = |text: &str| ExchangeName::new(text).expect("a name");
        let keys = ["crm.*.created", "planning.#"].map(|key| RoutingKey::pattern(key).expect("a pattern"));
        let grant = EmitGrant::new(name("events"), keys.to_vec());
        for (exchange, key, expected) in [
            ("events", "crm.lead.created", true),
            ("events", "planning", true),
            ("events", "crm.created", false),
            ("others", "planning", false),
        ] {
            assert_eq!(grant.allows(&name(exchange), key), expected, "{exchange} {key}");
        }
    }

    #[test]
    fn a_secret_hides_itself() {
        assert!(!format!("{:?}", Some(Secret::new("hunter2"))).contains("hunter2"));
    }
}
