//! Which broker is used, and how it is reached.

use std::time::Duration;

use super::{management, tls};
use crate::check::token;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::broker::{POLL, TOPOLOGY};
use crate::model::broker::connection::{AmqpBroker, BrokerChoice, Tls};
use crate::model::broker::topology::TopologyMode;
use crate::model::broker::url::BrokerUrl;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::environment::Overlay;
use crate::parse::raw::broker::RawBroker;
use crate::parse::value::code_at;
use crate::sources::Sources;

/// `[broker]`, with environment and flags laid over it.
pub(crate) struct CheckedBroker {
    /// `None` after it was reported that the URL cannot be used.
    pub(crate) broker: Option<BrokerChoice>,
    pub(crate) mode: TopologyMode,
}

pub(crate) fn check(cx: &mut ReadContext<'_>, raw: &RawBroker, sources: &Sources, overlay: &Overlay) -> CheckedBroker {
    let flag = sources.broker_url.clone();
    let flag = flag.map(|value| Text { value, place: ValuePlace::Flag("--broker"), literal: false });
    let tls = raw.tls.as_ref().map(|raw| tls::check(cx, raw));
    let url = flag.or(overlay.broker.clone()).or(raw.url.clone());
    let mut broker = match &url {
        Some(text) => broker(cx, text, tls.as_ref()),
        None => Some(BrokerChoice::Embedded),
    };
    if let Some(text) = &raw.management_url {
        management::add(cx, &mut broker, text);
    }
    let key = raw.header_key.as_ref().and_then(|raw| token::check(cx, raw));
    if let (Some(BrokerChoice::Amqp(amqp)), Some(key)) = (&mut broker, key) {
        amqp.header_key = Some(key);
    }
    if let Some(poll) = &raw.poll {
        set_poll(cx, &mut broker, poll);
    }
    if url.is_none() && !raw.has_url {
        warn_of_half_broker(cx, tls.as_ref(), overlay);
    }
    CheckedBroker { broker, mode: raw.topology.unwrap_or(TOPOLOGY.fallback()) }
}

/// Settings of a broker that do not say where it is.
fn warn_of_half_broker(cx: &mut ReadContext<'_>, tls: Option<&At<Tls>>, overlay: &Overlay) {
    for name in &overlay.broker_parts {
        let message = "the variable has no effect, because RABBITMQ_HOST and RABBITMQ_URL are not set";
        cx.findings
            .warning(Code::HalfBroker, &ValuePlace::Variable(name), message)
            .help("set RABBITMQ_HOST or RABBITMQ_URL, or unset the variable to use the embedded broker");
    }
    if let Some(tls) = tls {
        let message = "`tls` has no effect, because `url` is not set and the daemon uses the embedded broker";
        cx.findings
            .warning(Code::HalfBroker, &tls.place, message)
            .help("write `url = \"amqps://USER:PASSWORD@HOST:5671/VHOST\"`");
    }
}

fn set_poll(cx: &mut ReadContext<'_>, broker: &mut Option<BrokerChoice>, poll: &At<Duration>) {
    match broker {
        Some(BrokerChoice::Amqp(amqp)) => amqp.poll = poll.value,
        Some(BrokerChoice::Embedded) => {
            let message = "`poll` has no effect, because the figures of the embedded broker are always up to date";
            cx.findings
                .warning(Code::HalfBroker, &poll.place, message)
                .help("remove `poll`, or set `url` to use RabbitMQ");
        }
        None => {}
    }
}

fn broker(cx: &mut ReadContext<'_>, text: &Text, tls: Option<&At<Tls>>) -> Option<BrokerChoice> {
    if text.value == "embedded" {
        return Some(BrokerChoice::Embedded);
    }
    let parsed = BrokerUrl::parse(&text.value);
    if let Some(tls) = tls {
        tls::refuse_plain(cx, tls, text);
    }
    match parsed {
        Ok(url) => {
            let tls = tls.map(|tls| tls.value.clone()).unwrap_or_default();
            let poll = POLL.fallback();
            Some(BrokerChoice::Amqp(Box::new(AmqpBroker { url, tls, management: None, header_key: None, poll })))
        }
        Err(problem) => {
            cx.problem(code_at(&text.place, Code::BrokerUrl), &text.place, "the broker's URL", &problem)
                .or_help("write \"amqp://USER:PASSWORD@HOST:5672/VHOST\" or \"embedded\"");
            None
        }
    }
}
