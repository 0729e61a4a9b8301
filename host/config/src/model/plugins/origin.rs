//! Origins and hosts of HTTP requests.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Scheme, host and port of a grant or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https` or `http`.
    pub is_https: bool,
    /// The host.
    pub host: OriginHost,
    /// The port; the usual port of the scheme where none is given.
    pub port: u16,
}

/// The host of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginHost {
    /// A name in lower case.
    Name(String),
    /// `*.NAME` of a grant: every name below this one, but not this one.
    Below(String),
    /// An IP address.
    Address(IpAddr),
}

impl Origin {
    /// Reads `https://api.example.com`, `http://10.0.0.1:9000`, `https://*.example.com`.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, authority) =
            text.split_once("://").ok_or("has no scheme; write \"https://HOST\" or \"http://HOST\"")?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => {
                return Err(
                    "has a scheme that is not https or http; write \"https://HOST\" or \"http://HOST\"".to_owned()
                );
            }
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            return Err("has a user; write only the origin, such as \"https://api.example.com\": the plugin sends credentials in a header".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err(
                "has a path; write only the scheme, the host and the port, as in \"https://api.example.com:8443\""
                    .to_owned(),
            );
        }
        let (host, port) = split_port(authority)?;
        let port =
            match port {
                None if is_https => 443,
                None => 80,
                Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(
                    "has an invalid port; write a number from 1 to 65535, as in \"https://api.example.com:8443\"",
                )?,
            };
        Ok(Self { is_https, host: OriginHost::parse(host)?, port })
    }

    /// Whether a grant of this origin covers a request to `target`.
    #[must_use]
    pub fn covers(&self, target: &Self) -> bool {
        self.host.covers(&target.host) && self.is_https == target.is_https && self.port == target.port
    }
}

/// Splits host and port. An IPv6 address stands in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest
            .split_once(']')
            .ok_or("has a [ without its ]; write an IPv6 address in brackets, as in \"http://[::1]:9000\"")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err("has text after the ]; write only a port after the ], as in \"http://[::1]:9000\"".to_owned()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("has an IPv6 address without brackets; write the address in brackets, as in \"http://[::1]:9000\""
                .to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

impl OriginHost {
    /// Reads a name, an address without brackets, or `*.NAME`.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the text.
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
            return Err("has an invalid host; write a host name or an IP address, such as api.example.com or 10.0.0.7"
                .to_owned());
        }
        // Resolvers read 127.1, 2130706433 and 0x7f000001 as addresses, which a reader of the list does not expect.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err(
                "has a host that some programs read as an IPv4 address; write the address as four decimal numbers with dots, such as 127.0.0.1"
                    .to_owned(),
            );
        }
        if is_below && !name.contains('.') {
            return Err("would cover a whole top-level domain; write at least two labels after \"*.\", such as \"*.example.com\"".to_owned());
        }
        Ok(if is_below { Self::Below(name) } else { Self::Name(name) })
    }

    /// Whether `target` is this host, or a name below it.
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

impl fmt::Display for OriginHost {
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
            ("ftp://a.example", "not https or http"),
            ("https://user:pw@a.example", "a user"),
            ("https://a.example/path", "has a path"),
            ("https://a.example?x", "has a path"),
            ("https://a.example:0", "an invalid port"),
            ("https://a.example:99999", "an invalid port"),
            ("https://", "an invalid host"),
            ("https://a..example", "an invalid host"),
            ("https://a.example.", "an invalid host"),
            ("https://*", "an invalid host"),
            ("https://*.com", "top-level"),
            ("http://2130706433", "some programs read as an IPv4"),
            ("http://0x7f000001", "some programs read as an IPv4"),
            ("http://127.1", "some programs read as an IPv4"),
            ("http://0177.0.0.1", "some programs read as an IPv4"),
            ("http://::1", "without brackets"),
            ("http://[::1", "without its ]"),
            ("http://[::1]x", "after the ]"),
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
}
