//! The environment variables that have precedence over the file. An empty variable counts as not set. Other programs set some of
//! these variables too. The daemon reads the values of other programs, or ignores the variables with a warning.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::context::{At, ReadContext, Text};
use super::value::word;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::diagnostics::quoted::quoted;
use crate::keys::key::{Key, Range};
use crate::keys::routes::route::CONCURRENCY;
use crate::keys::topology::exchange::KINDS;
use crate::keys::topology::queue::{MAX_LENGTH, PREFETCH};
use crate::model::broker::topology::ExchangeKind;
use crate::model::log_filter::{BadLogFilter, LogFilter};
use crate::sources::Sources;

/// RFC 3986 leaves these unreserved beside letters and digits.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The port of RabbitMQ if no variable has a port.
const AMQP_PORT: u16 = 5672;

/// Kubernetes and Docker set this variable if the service or the container named `rabbitmq` has the port 5672.
const OF_AMQP_PORT: &str = "RABBITMQ_PORT_5672_TCP";

/// The values of the environment.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// A URL, or `embedded`.
    pub(crate) broker: Option<Text>,
    /// Variables that are set although no variable says where the broker is.
    pub(crate) broker_parts: Vec<&'static str>,
    pub(crate) exchange: Option<Text>,
    pub(crate) exchange_kind: Option<At<ExchangeKind>>,
    pub(crate) ttl: Option<At<Duration>>,
    pub(crate) max_length: Option<At<u32>>,
    pub(crate) prefetch: Option<At<u16>>,
    pub(crate) concurrency: Option<At<u16>>,
    pub(crate) host: Option<At<IpAddr>>,
    pub(crate) port: Option<At<u16>>,
    pub(crate) log_filter: LogFilter,
}

/// Reads all variables, and reports those that cannot be used.
pub(crate) fn read(cx: &mut ReadContext<'_>, sources: &Sources) -> Overlay {
    let (broker, broker_parts) = broker(cx);
    let exchange_kind = variable(cx, "DEFAULT_EXCHANGE_TYPE").and_then(|text| {
        let kind = word(cx, "the value", &text, KINDS)?;
        Some(At::new(kind, text.place))
    });
    let (host, port) = if sources.listen.is_some() { (None, None) } else { (host(cx), port(cx)) };
    Overlay {
        broker,
        broker_parts,
        exchange: variable(cx, "DEFAULT_EXCHANGE"),
        exchange_kind,
        ttl: number(cx, "QUEUE_TTL", (1, u32::MAX)).map(|ms| ms.map(|ms| Duration::from_millis(u64::from(ms)))),
        max_length: number(cx, "QUEUE_MAX_LENGTH", bounds(&MAX_LENGTH)),
        prefetch: number(cx, "WORKER_PREFETCH_COUNT", bounds(&PREFETCH)),
        concurrency: number(cx, "WORKER_POOL_SIZE", bounds(&CONCURRENCY)),
        host,
        port,
        log_filter: log_filter(cx),
    }
}

fn bounds<N: Copy>(key: &Key<Range<N>>) -> (N, N) {
    (key.value.min, key.value.max)
}

/// The value of a variable, without white space at both ends. Tools that keep secrets often append a line feed.
fn variable(cx: &ReadContext<'_>, name: &'static str) -> Option<Text> {
    let value = cx.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())?;
    Some(Text { value: value.to_owned(), place: ValuePlace::Variable(name), literal: true })
}

fn number<N>(cx: &mut ReadContext<'_>, name: &'static str, (min, max): (N, N)) -> Option<At<N>>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = variable(cx, name)?;
    let read = text.value.trim().parse::<N>().ok().filter(|number| (&min..=&max).contains(&number));
    if read.is_none() {
        let message = format!("the value {} is not a number from {min} to {max}", quoted(&text.value));
        if is_of_a_service(&text.value) {
            let help = format!("unset {name}: Kubernetes sets this value for a service");
            ignored(cx, &text, &message, &help);
        } else {
            cx.error(Code::BadVariable, &text.place, message)
                .help(format!("set {name} to a number from {min} to {max}"));
        }
    }
    read.map(|number| At::new(number, text.place))
}

/// Warns of a variable that another program has probably set.
fn ignored(cx: &mut ReadContext<'_>, text: &Text, problem: &str, help: &str) {
    let message = format!("{problem}; the daemon ignores the variable");
    cx.findings.warning(Code::BadVariable, &text.place, message).help(help);
}

/// Whether Kubernetes or Docker set a variable to this value. An example for a service or a container NAME is
/// `NAME_PORT=tcp://10.96.0.12:5672`.
fn is_of_a_service(value: &str) -> bool {
    value.contains("://")
}

/// The address and the port in the value that Kubernetes or Docker set for a service.
fn service(value: &str) -> Option<(&str, u16)> {
    let (host, port) = value.trim().strip_prefix("tcp://")?.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// The address in `HOST`. Conda sets `HOST` to the kind of machine. Some shells set `HOST` to the machine's name.
fn host(cx: &mut ReadContext<'_>) -> Option<At<IpAddr>> {
    let text = variable(cx, "HOST")?;
    let read = ip(text.value.trim());
    if read.is_none() {
        let problem = format!("the value {} is not an IP address", quoted(&text.value));
        let help = "set HOST=127.0.0.1, or HOST=0.0.0.0 for every address of the machine, or pass --listen IP:PORT";
        ignored(cx, &text, &problem, help);
    }
    read.map(|ip| At::new(ip, text.place))
}

/// The port in `PORT`. Tools for serial ports set `PORT` to a device.
fn port(cx: &mut ReadContext<'_>) -> Option<At<u16>> {
    let text = variable(cx, "PORT")?;
    if text.value.trim_start().starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+')) {
        return number(cx, "PORT", (0, u16::MAX));
    }
    let problem = format!("the value {} is not a number from 0 to {}", quoted(&text.value), u16::MAX);
    ignored(cx, &text, &problem, "set a number such as PORT=8000, or pass --listen IP:PORT");
    None
}

/// The filter in `LOG_LEVEL`. An unknown word is an error, because a filter with an unknown word would hide errors too.
fn log_filter(cx: &mut ReadContext<'_>) -> LogFilter {
    let Some(text) = variable(cx, "LOG_LEVEL") else { return LogFilter::default() };
    let bad = match LogFilter::parse(&text.value) {
        Ok(filter) => return filter,
        Err(bad) => bad,
    };
    match bad {
        BadLogFilter::Level(word) => {
            let known = LogFilter::levels().collect::<Vec<_>>();
            let levels = known.iter().map(|level| quoted(level)).collect::<Vec<_>>().join(", ");
            let message = format!("the log level is {}, but must be one of {levels}", quoted(&word));
            let finding = cx.error(Code::BadVariable, &text.place, message);
            if !finding.nearest(&word, known).has_near() {
                finding.help("set LOG_LEVEL=info, or LOG_LEVEL=info,TARGET=debug for the lines of one target");
            }
        }
        BadLogFilter::Target(name) => {
            let message = format!("the log target is {}, but must be a name such as trunkline::trace", quoted(&name));
            cx.error(Code::BadVariable, &text.place, message).help(
                "copy the target from the field `target` of a log line, as in LOG_LEVEL=info,trunkline::trace=debug",
            );
        }
    }
    LogFilter::default()
}

/// `RABBITMQ_URL`, else a URL that is made of `RABBITMQ_HOST` and the other parts. The parts without a host make no URL,
/// because the file may refer to them: `${RABBITMQ_PASSWORD}`.
fn broker(cx: &mut ReadContext<'_>) -> (Option<Text>, Vec<&'static str>) {
    if let Some(url) = variable(cx, "RABBITMQ_URL") {
        return (Some(Text { literal: false, ..url }), Vec::new());
    }
    let Some(host) = variable(cx, "RABBITMQ_HOST") else {
        let parts = ["RABBITMQ_PORT", "RABBITMQ_USER", "RABBITMQ_VHOST"];
        return (None, parts.into_iter().filter(|name| variable(cx, name).is_some()).collect());
    };
    let service = service(&host.value);
    if service.is_none() && !is_host(&host.value) {
        // The value may be a URL with a password.
        let message = "the value is not the name or the IP address of one host";
        cx.error(Code::BadVariable, &host.place, message)
            .help("set RABBITMQ_HOST to the host alone, and RABBITMQ_PORT to the port; or set RABBITMQ_URL to a URL");
        return (None, Vec::new());
    }
    let (name, port) = service.unwrap_or((&host.value, AMQP_PORT));
    let Some(port) = broker_port(cx, port) else { return (None, Vec::new()) };
    let part = |name, default: &str| variable(cx, name).map_or_else(|| default.to_owned(), |text| text.value);
    let (user, password) = (part("RABBITMQ_USER", "guest"), part("RABBITMQ_PASSWORD", "guest"));
    // In a URL, the virtual host `/` is `%2F`. Some programs read this form in the variable too.
    let vhost = Some(part("RABBITMQ_VHOST", "/")).filter(|vhost| !vhost.eq_ignore_ascii_case("%2f"));
    let vhost = vhost.unwrap_or_else(|| "/".to_owned());
    // An IPv6 address needs brackets in a URL.
    let host_part = match name.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{name}]"),
        Err(_) => name.to_owned(),
    };
    let [user, password, vhost] = [user, password, vhost].map(|part| utf8_percent_encode(&part, RESERVED).to_string());
    let url = format!("amqp://{user}:{password}@{host_part}:{port}/{vhost}");
    (Some(Text { value: url, place: host.place, literal: false }), Vec::new())
}

/// Whether a text may be a host without a scheme, a port and a path.
fn is_host(text: &str) -> bool {
    let address = text.trim_start_matches('[').trim_end_matches(']');
    address.parse::<std::net::Ipv6Addr>().is_ok() || !text.contains(['/', ':', '@', ',', '?', '#'])
}

/// The port in `RABBITMQ_PORT`, which is a number or the value of a Kubernetes service named `rabbitmq`. The result is `None` after
/// an error was reported.
fn broker_port(cx: &mut ReadContext<'_>, otherwise: u16) -> Option<u16> {
    let Some(text) = variable(cx, "RABBITMQ_PORT") else { return Some(otherwise) };
    if !is_of_a_service(&text.value) {
        return number(cx, "RABBITMQ_PORT", (1, u16::MAX)).map(|port| port.value);
    }
    // `RABBITMQ_PORT` names the first port of the service or the container, which may be the port of the management page.
    let has_amqp_port = cx.environment.contains_key(OF_AMQP_PORT);
    let port = if has_amqp_port { Some(AMQP_PORT) } else { service(&text.value).map(|(_, port)| port) };
    if port.is_none() {
        let problem = format!("the value {} has no TCP port", quoted(&text.value));
        let help = format!(
            "set a number such as RABBITMQ_PORT={AMQP_PORT}: without the variable, the daemon uses the port {otherwise}"
        );
        ignored(cx, &text, &problem, &help);
    }
    Some(port.unwrap_or(otherwise))
}

/// An IP address, with or without brackets, or `localhost`.
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}
