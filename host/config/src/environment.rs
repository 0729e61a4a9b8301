//! The environment variables that go over the file. An empty one counts as not set.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::check_exchanges::KINDS;
use super::check_http::ip;
use super::check_queues::{MAX_LENGTH, PREFETCH};
use super::check_routes::CONCURRENCY;
use super::checked::ExchangeKind;
use super::codes::Code;
use super::diagnostics::{Place, quoted};
use super::walk::{At, Context, Text, word};

/// What the environment says, checked by itself.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// A URL, or `embedded`.
    pub(super) broker: Option<Text>,
    /// Variables that say something about a broker without saying where it is.
    pub(super) broker_parts: Vec<&'static str>,
    pub(super) exchange: Option<Text>,
    pub(super) exchange_kind: Option<At<ExchangeKind>>,
    pub(super) ttl: Option<At<Duration>>,
    pub(super) max_length: Option<At<u32>>,
    pub(super) prefetch: Option<At<u16>>,
    pub(super) concurrency: Option<At<u16>>,
    pub(super) host: Option<At<IpAddr>>,
    pub(super) port: Option<At<u16>>,
}

/// Reads all of them, and reports those that cannot be used.
pub(super) fn read(cx: &mut Context<'_>) -> Overlay {
    let (broker, broker_parts) = broker(cx);
    let exchange_kind = variable(cx, "DEFAULT_EXCHANGE_TYPE").and_then(|text| {
        let kind = word(cx, "it", &text, KINDS)?;
        Some(At::new(kind, text.place))
    });
    Overlay {
        broker,
        broker_parts,
        exchange: variable(cx, "DEFAULT_EXCHANGE"),
        exchange_kind,
        ttl: number(cx, "QUEUE_TTL", 1..=u32::MAX).map(|ms| ms.map(|ms| Duration::from_millis(u64::from(ms)))),
        max_length: number(cx, "QUEUE_MAX_LENGTH", MAX_LENGTH),
        prefetch: number(cx, "WORKER_PREFETCH_COUNT", PREFETCH),
        concurrency: number(cx, "WORKER_POOL_SIZE", CONCURRENCY),
        host: host(cx),
        port: number(cx, "PORT", 0..=u16::MAX),
    }
}

fn variable(cx: &Context<'_>, name: &'static str) -> Option<Text> {
    let value = cx.environment.get(name).filter(|value| !value.is_empty())?;
    Some(Text { value: value.clone(), place: Place::Variable(name), literal: true })
}

fn number<N>(cx: &mut Context<'_>, name: &'static str, bounds: RangeInclusive<N>) -> Option<At<N>>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let text = variable(cx, name)?;
    let read = text.value.trim().parse::<N>().ok().filter(|number| bounds.contains(number));
    if read.is_none() {
        let message = format!("{} is no number from {} to {}", quoted(&text.value), bounds.start(), bounds.end());
        cx.error(Code::BadVariable, &text.place, message);
    }
    read.map(|number| At::new(number, text.place))
}

fn host(cx: &mut Context<'_>) -> Option<At<IpAddr>> {
    let text = variable(cx, "HOST")?;
    let read = ip(&text.value);
    if read.is_none() {
        let message = format!("{} is no IP address", quoted(&text.value));
        cx.error(Code::BadVariable, &text.place, message)
            .help("write HOST=127.0.0.1, or HOST=0.0.0.0 for every address of the machine");
    }
    read.map(|ip| At::new(ip, text.place))
}

/// `RABBITMQ_URL`, or one put together when there is a `RABBITMQ_HOST`; without a host the other parts alone do not
/// make a URL, because the file may refer to them: `${RABBITMQ_PASSWORD}`.
fn broker(cx: &mut Context<'_>) -> (Option<Text>, Vec<&'static str>) {
    if let Some(url) = variable(cx, "RABBITMQ_URL") {
        return (Some(Text { literal: false, ..url }), Vec::new());
    }
    let Some(host) = variable(cx, "RABBITMQ_HOST") else {
        let parts = ["RABBITMQ_PORT", "RABBITMQ_USER", "RABBITMQ_VHOST"];
        return (None, parts.into_iter().filter(|name| variable(cx, name).is_some()).collect());
    };
    let port = match cx.environment.get("RABBITMQ_PORT").is_some_and(|port| !port.is_empty()) {
        true => match number(cx, "RABBITMQ_PORT", 1..=u16::MAX) {
            Some(port) => port.value,
            None => return (None, Vec::new()),
        },
        false => 5672,
    };
    let part = |name, default: &str| variable(cx, name).map_or_else(|| default.to_owned(), |text| text.value);
    let (user, password) = (part("RABBITMQ_USER", "guest"), part("RABBITMQ_PASSWORD", "guest"));
    let vhost = part("RABBITMQ_VHOST", "/");
    // An IPv6 address needs brackets in a URL.
    let host_part = match host.value.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{}]", host.value),
        Err(_) => host.value.clone(),
    };
    let [user, password, vhost] = [user, password, vhost].map(|part| percent_encode(&part));
    let url = format!("amqp://{user}:{password}@{host_part}:{port}/{vhost}");
    (Some(Text { value: url, place: host.place, literal: false }), Vec::new())
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
