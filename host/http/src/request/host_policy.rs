//! Checks of the host that a request is addressed to, and of the web page that made it: `Host`, `Origin` and
//! `Sec-Fetch-Site`.
//!
//! A page of another site can make a browser send requests to this listener. If the page's owner points a name at this
//! listener (DNS rebinding), the page can read the responses too. Both attacks are visible in these headers, because no page
//! can set these headers. Every request passes [`HostPolicy::check`] before any other code reads the request. Programs send
//! no `Origin`, and address the listener by a name of the listener.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Method, Version, header, request};

use trunkline_config::{self as config, OriginHost};

use crate::problem::Problem;

/// Longer texts of a client are cut in problem documents.
const SHOWN_MAX: usize = 100;

/// The names and addresses under which the listener may be addressed.
#[derive(Clone)]
pub(crate) struct HostPolicy {
    /// `[http] hosts` of routes.toml.
    hosts: Arc<[OriginHost]>,
    /// Only programs on this machine can reach the listener.
    is_local: bool,
}

/// Host and port of a URL or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: OriginHost,
    port: Option<u16>,
}

impl HostPolicy {
    pub(crate) fn new(settings: &config::Http) -> Self {
        Self { hosts: settings.hosts.clone().into(), is_local: settings.is_local() }
    }

    /// # Errors
    /// 400 when the request does not name exactly one host. 403 when the host is not a name of the listener, or when a page of
    /// another site made the request.
    pub(crate) fn check(&self, head: &request::Parts) -> Result<(), Problem> {
        let addressed = self.addressed(head)?;
        self.check_origin(&head.headers, addressed.as_ref())?;
        self.check_fetch_site(head)
    }

    /// The host that the request is addressed to: the authority of its target, else its one `Host` (RFC 9112, section
    /// 3.2). HTTP/1.0 has no `Host`, and no browser uses HTTP/1.0.
    fn addressed(&self, head: &request::Parts) -> Result<Option<Authority>, Problem> {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host),
            (None, _) if head.version < Version::HTTP_11 => None,
            (None, _) => {
                return Err(Problem::bad_request("the request has no header `Host`; send exactly one header `Host`"));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request(
                    "the request has more than one header `Host`; send exactly one header `Host`",
                ));
            }
        };
        // The target and `Host` are both checked, because a proxy may read the target or `Host`.
        let host = host.map(|host| self.accepted(host.as_bytes())).transpose()?;
        let target = head.uri.authority().map(|target| self.accepted(target.as_str().as_bytes())).transpose()?;
        Ok(target.or(host))
    }

    fn accepted(&self, text: &[u8]) -> Result<Authority, Problem> {
        let broken = || Problem::bad_request(format!("`Host` is {}, but must be HOST or HOST:PORT", shown(text)));
        let authority = Authority::parse(text).ok_or_else(broken)?;
        // An address cannot be rebound. Beyond loopback the address may belong to a port mapping, which is not known here.
        let is_address = matches!(authority.host, OriginHost::Address(_)) && !self.is_local;
        if is_address || is_loopback(&authority.host) || self.lists(&authority.host) {
            return Ok(authority);
        }
        Err(Problem::forbidden(format!(
            "`Host` is {}, which is not a name of this listener; add the name to `hosts` in [http] of routes.toml",
            shown(text)
        )))
    }

    fn lists(&self, host: &OriginHost) -> bool {
        self.hosts.iter().any(|listed| listed.covers(host))
    }

    /// A page may make requests when the page's origin is the host of the request, or when both hosts are this machine. A page
    /// may also make requests when `[http] hosts` lists the host of the page.
    fn check_origin(&self, headers: &HeaderMap, addressed: Option<&Authority>) -> Result<(), Problem> {
        let Some(text) = headers.get(header::ORIGIN) else { return Ok(()) };
        let is_one = headers.get_all(header::ORIGIN).iter().count() == 1;
        let is_own = PageOrigin::parse(text).is_some_and(|origin| {
            addressed.is_some_and(|addressed| origin.is_at(addressed)) || self.lists(&origin.host)
        });
        if is_one && is_own { Ok(()) } else { Err(foreign("Origin", text)) }
    }

    /// Browsers report the site of the page that makes a request (Fetch Metadata). A link on another site may lead to one of the
    /// listener's pages.
    fn check_fetch_site(&self, head: &request::Parts) -> Result<(), Problem> {
        let sites = head.headers.get_all("sec-fetch-site");
        let Some(site) = sites.iter().find(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) else {
            return Ok(());
        };
        let origin = head.headers.get(header::ORIGIN).and_then(PageOrigin::parse);
        let is_listed = origin.is_some_and(|origin| self.lists(&origin.host));
        if is_listed || is_link(head) { Ok(()) } else { Err(foreign("Sec-Fetch-Site", site)) }
    }
}

impl Authority {
    /// Parses `HOST`, `HOST:PORT` and `[IPV6]:PORT`. A dot at the end of a name marks the name as complete and is dropped.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                // The zone of a link-local address has a meaning to the sender only.
                let address = address.split_once('%').map_or(address, |(address, _)| address);
                let address = address.parse::<Ipv6Addr>().ok()?;
                (OriginHost::Address(IpAddr::V6(address).to_canonical()), rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                (OriginHost::parse(host.strip_suffix('.').unwrap_or(host)).ok()?, rest)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        // `*.NAME` is for lists, and an IPv6 address has brackets.
        let is_one = !matches!(host, OriginHost::Below(_))
            && (text.starts_with('[') || !matches!(host, OriginHost::Address(IpAddr::V6(_))));
        is_one.then_some(Self { host, port })
    }
}

/// The origin of a web page.
struct PageOrigin {
    host: OriginHost,
    port: u16,
    /// The default port of the scheme.
    default_port: u16,
}

impl PageOrigin {
    /// `None` for `null` and for schemes other than `http` and `https`.
    fn parse(text: &HeaderValue) -> Option<Self> {
        let (scheme, authority) = text.to_str().ok()?.split_once("://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let Authority { host, port } = Authority::parse(authority.as_bytes())?;
        Some(Self { host, port: port.unwrap_or(default_port), default_port })
    }

    fn is_at(&self, addressed: &Authority) -> bool {
        let is_same = self.host == addressed.host && self.port == addressed.port.unwrap_or(self.default_port);
        is_same || (is_loopback(&self.host) && is_loopback(&addressed.host))
    }
}

fn is_loopback(host: &OriginHost) -> bool {
    match host {
        OriginHost::Address(address) => address.is_loopback(),
        OriginHost::Name(name) => name == "localhost",
        OriginHost::Below(_) => false,
    }
}

/// Whether the user follows a link to a page. The API and the hooks are for programs and are not pages.
fn is_link(head: &request::Parts) -> bool {
    let is = |name: &str, wanted: &str| head.headers.get(name).is_some_and(|value| value == wanted);
    let path = head.uri.path();
    let is_page = !["/api/", "/hooks/"].iter().any(|programs| path.starts_with(programs));
    is_page && head.method == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

fn foreign(header: &str, value: &HeaderValue) -> Problem {
    Problem::forbidden(format!(
        "a web page of another site made this request: `{header}` is {}; to allow the site, add the host of the site to \
         `hosts` in [http] of routes.toml",
        shown(value.as_bytes())
    ))
}

/// A client's text, quoted and cut for a problem document.
fn shown(text: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(text).into_owned();
    if text.len() > SHOWN_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_MAX));
        text.push('…');
    }
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::response::IntoResponse;

    use super::*;

    /// The status of the problem, 0 when the request passes.
    fn status(policy: &HostPolicy, line: &str, headers: &[(&str, &str)]) -> u16 {
        let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let version = if version == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let (head, _) = request.body(Body::empty()).expect("a request").into_parts();
        policy.check(&head).map_or_else(|problem| problem.into_response().status().as_u16(), |()| 0)
    }

    fn policy(is_local: bool, hosts: &[&str]) -> HostPolicy {
        HostPolicy { hosts: hosts.iter().map(|host| OriginHost::parse(host).expect("a host")).collect(), is_local }
    }

    #[test]
    fn hosts() {
        let (local, open) = (policy(true, &["trunkline.example.com", "*.ngrok.app", "10.1.1.1"]), policy(false, &[]));
        // Columns: a listener on loopback with a list, and a listener beyond loopback without a list.
        for (host, on_loopback, beyond) in [
            ("localhost", 0, 0),
            ("localhost:8000", 0, 0),
            ("LocalHost.:8000", 0, 0),
            ("127.0.0.1:8000", 0, 0),
            ("127.8.9.1", 0, 0),
            ("127.0.0.1.", 0, 0),
            ("[::1]:8000", 0, 0),
            ("[::1]", 0, 0),
            ("[::ffff:127.0.0.1]:80", 0, 0),
            ("localhost:", 0, 0),
            ("trunkline.example.com", 0, 403),
            ("TRUNKLINE.example.com.:443", 0, 403),
            ("a.b.ngrok.app", 0, 403),
            ("ngrok.app", 403, 403),
            ("10.1.1.1:8000", 0, 0),
            ("10.1.1.2:8000", 403, 0),
            ("[fe80::1%25eth0]:8000", 403, 0),
            ("0.0.0.0:8000", 403, 0),
            ("evil.test", 403, 403),
            ("evil.test:8000", 403, 403),
            ("localhost.evil.test", 403, 403),
            ("127.0.0.1.evil.test", 403, 403),
            ("trunkline.example.com.evil.test", 403, 403),
            ("xlocalhost", 403, 403),
            ("app.localhost", 403, 403),
            ("", 400, 400),
            (".", 400, 400),
            ("localhost..", 400, 400),
            ("user@localhost", 400, 400),
            ("localhost:80:80", 400, 400),
            ("localhost:http", 400, 400),
            ("localhost:+80", 400, 400),
            ("localhost:99999", 400, 400),
            ("localhost, evil.test", 400, 400),
            ("::1", 400, 400),
            ("[::1", 400, 400),
            ("[::1]x", 400, 400),
            ("[127.0.0.1]", 400, 400),
            ("*.ngrok.app", 400, 400),
            ("2130706433", 400, 400),
            ("0x7f.1", 400, 400),
            ("http://localhost", 400, 400),
            ("locälhost", 400, 400),
        ] {
            let found = [&local, &open].map(|policy| status(policy, "GET / HTTP/1.1", &[("host", host)]));
            assert_eq!(found, [on_loopback, beyond], "{host:?}");
        }
    }

    #[test]
    fn a_request_names_its_host_once() {
        let local = policy(true, &[]);
        for (line, headers, expected) in [
            ("GET / HTTP/1.1", &[][..], 400),
            ("GET / HTTP/1.0", &[], 0),
            ("GET / HTTP/1.0", &[("host", "evil.test")], 403),
            ("GET / HTTP/1.1", &[("host", "localhost"), ("host", "localhost")], 400),
            ("GET / HTTP/1.1", &[("host", "localhost"), ("host", "evil.test")], 400),
            ("GET / HTTP/1.0", &[("host", "localhost"), ("host", "evil.test")], 400),
            ("GET http://localhost/ HTTP/1.1", &[("host", "localhost")], 0),
            ("GET http://evil.test/ HTTP/1.1", &[("host", "localhost")], 403),
            ("GET http://localhost/ HTTP/1.1", &[("host", "evil.test")], 403),
            ("GET http://localhost/ HTTP/1.1", &[], 400),
            ("GET http://evil.test/ HTTP/1.0", &[], 403),
            ("GET http://localhost@evil.test/ HTTP/1.1", &[("host", "localhost")], 400),
            ("CONNECT evil.test:80 HTTP/1.1", &[("host", "localhost")], 403),
            ("OPTIONS * HTTP/1.1", &[("host", "localhost")], 0),
        ] {
            assert_eq!(status(&local, line, headers), expected, "{line} {headers:?}");
        }
    }

    #[test]
    fn origins() {
        let open = policy(false, &["console.example.com"]);
        for (host, origin, expected) in [
            ("localhost:8000", "http://localhost:8000", 0),
            ("localhost:8000", "http://127.0.0.1:5173", 0),
            ("127.0.0.1:8000", "HTTP://LOCALHOST.", 0),
            ("10.0.0.5:8000", "http://10.0.0.5:8000", 0),
            ("10.0.0.5", "https://10.0.0.5", 0),
            ("10.0.0.5", "http://10.0.0.5:80", 0),
            ("[fd00::5]:8000", "http://[fd00::5]:8000", 0),
            ("10.0.0.5:8000", "https://console.example.com", 0),
            ("10.0.0.5:8000", "http://10.0.0.5:9999", 403),
            ("10.0.0.5:8000", "http://10.0.0.6:8000", 403),
            ("10.0.0.5:8000", "http://localhost:8000", 403),
            ("10.0.0.5:8000", "https://10.0.0.5", 403),
            ("localhost:8000", "http://evil.test", 403),
            ("localhost:8000", "http://localhost.evil.test", 403),
            ("localhost:8000", "http://localhost@evil.test", 403),
            ("localhost:8000", "http://evil.test/localhost", 403),
            ("localhost:8000", "null", 403),
            ("localhost:8000", "", 403),
            ("localhost:8000", "file://", 403),
            ("localhost:8000", "chrome-extension://localhost", 403),
            ("localhost:8000", "localhost:8000", 403),
            ("localhost:8000", "https://console.example.com.evil.test", 403),
        ] {
            for method in ["GET", "POST", "OPTIONS"] {
                let found = status(&open, &format!("{method} /x HTTP/1.1"), &[("host", host), ("origin", origin)]);
                assert_eq!(found, expected, "{method} {host} from {origin}");
            }
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.test")];
        assert_eq!(status(&open, "POST / HTTP/1.1", &twice), 403);
        assert_eq!(
            status(&open, "POST / HTTP/1.0", &[("origin", "http://localhost")]),
            403,
            "it goes to nowhere known"
        );
    }

    #[test]
    fn fetch_metadata_names_the_site_of_the_page() {
        let local = policy(true, &["console.example.com"]);
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let asks = |line: &str, site: &str, more: &[(&str, &str)]| {
            let headers = [&[("host", "localhost:8000"), ("sec-fetch-site", site)], more].concat();
            status(&local, line, &headers)
        };
        for (line, site, more, expected) in [
            ("POST /api/v1/reload HTTP/1.1", "same-origin", &[][..], 0),
            ("POST /api/v1/reload HTTP/1.1", "none", &[], 0),
            ("POST /api/v1/reload HTTP/1.1", "cross-site", &[], 403),
            ("POST /api/v1/reload HTTP/1.1", "same-site", &[("origin", "http://localhost:3000")], 403),
            ("POST /api/v1/reload HTTP/1.1", "", &[], 403),
            ("POST /api/v1/reload HTTP/1.1", "cross-site", &[("origin", "https://console.example.com")], 0),
            ("GET /metrics HTTP/1.1", "cross-site", &[("sec-fetch-mode", "no-cors")], 403),
            ("GET /docs/ HTTP/1.1", "cross-site", &link, 0),
            ("GET /docs/ HTTP/1.1", "cross-site", &[link[0], ("sec-fetch-dest", "iframe")], 403),
            ("POST /docs/ HTTP/1.1", "cross-site", &link, 403),
            ("GET /api/v1/events/stream HTTP/1.1", "cross-site", &link, 403),
        ] {
            assert_eq!(asks(line, site, more), expected, "{line} {site} {more:?}");
        }
    }

    #[test]
    fn client_texts_are_quoted_and_cut() {
        assert_eq!(shown(b"evil.test"), "\"evil.test\"");
        assert_eq!(shown(b"a\n\xff"), "\"a\\n\u{fffd}\"");
        assert!(shown(&[0xc3, 0xa4].repeat(5000)).len() < 210);
    }
}
