//! Publishes what is due.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::envelope::{TRIES, unwrap};
use super::{DEAD, own_due, queue};
use crate::amqp::consume::{Settings, Subscription};
use crate::amqp::publish;
use crate::amqp::session::Session;
use crate::{Batch, Delivery, Next, Publication, Settlement, Unpublished};
use trunkline_config::Topology;
use trunkline_event::{ExchangeName, Message, QueueName, Reason, Trust};
use trunkline_telemetry::Condition;
use trunkline_telemetry::wait::{Loop, Retry};

const PREFETCH: u16 = 200;
/// Of the text that goes into a header.
const ERROR_MAX_BYTES: usize = 1024;

const NOT_OURS: &str = "not a delayed message of Trunkline";

/// Publishes what comes to a queue of due messages, for as long as the session lives.
pub(super) async fn relay(session: Arc<Session>, topology: Arc<Topology>, due: QueueName) {
    let mut retry = Retry::new(Loop::DelayRelay, "");
    while !session.over.is_cancelled() && session.is_connected() {
        // The relay judges the signature itself.
        let settings = Settings { tag: due.as_str(), as_it_is: true, ..Settings::new(PREFETCH) };
        let why = match Subscription::new(&session, &topology, &due, settings).await {
            Ok(subscription) => {
                retry.succeeded();
                serve(&session, &topology, subscription).await
            }
            Err(error) => {
                tracing::warn!(%error, "delayed messages are not consumed; trying again");
                error.to_string()
            }
        };
        tokio::select! {
            // The loop has no bound.
            _tried = retry.pause(&why) => {}
            () = session.over.cancelled() => return,
        }
    }
}

/// Gives the reason when the consumer is lost.
async fn serve(session: &Arc<Session>, topology: &Arc<Topology>, mut subscription: Subscription) -> String {
    let mut work = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = session.over.cancelled() => return "the session ended".to_owned(),
            Some(()) = work.next(), if !work.is_empty() => {}
            next = subscription.next(), if work.len() < usize::from(PREFETCH) => match next {
                Next::Delivery(delivery) => work.push(pass_on(session, topology, delivery)),
                Next::Cancelled(reason) | Next::Ended(reason) => return reason,
            },
        }
    }
}

/// Sees one message to its end: published, put off, or given up. It holds its place among the deliveries only while the
/// broker takes nothing at all, which a condition tells.
async fn pass_on(session: &Arc<Session>, topology: &Arc<Topology>, delivery: Delivery) {
    let (first, once_more) = match &delivery.unreadable {
        None => first(session, &delivery.message),
        Some(why) => (given_up(&delivery.message, Reason::Invalid, why), Again::Never(NOT_OURS)),
    };
    let mut next = match publish::publish(session, topology, first).await {
        Ok(receipt) => return delivery.settle(Settlement::Published(receipt)),
        Err(unpublished) => after_refusal(&delivery.message, once_more, &unpublished),
    };
    let mut retry = Retry::new(Loop::DelayRelay, "");
    while !session.over.is_cancelled() {
        match publish::publish(session, topology, next).await {
            Ok(receipt) => return delivery.settle(Settlement::Published(receipt)),
            Err(unpublished) => {
                let why = unpublished.why();
                next = unpublished.batch;
                tokio::select! {
                    // The loop has no bound, and the session may be over: then the broker delivers the message again.
                    _tried = retry.pause(&why) => {}
                    () = session.over.cancelled() => return,
                }
            }
        }
    }
}

/// What a refused message may still become.
enum Again {
    /// Put off for a while, after so many tries.
    Later(Publication, u32),
    /// Nothing but a dead letter.
    Never(&'static str),
}

/// What is to be published for a message that is due.
fn first(session: &Session, due: &Message) -> (Batch, Again) {
    let mut message = due.clone();
    match session.key.admit(&mut message) {
        Trust::Signed => {
            if let Some((publication, tries)) = unwrap(&message, &session.key) {
                return (publication.clone().into(), Again::Later(publication, tries));
            }
        }
        Trust::OtherKey(id) => {
            let mut message = due.clone();
            message.exchange = ExchangeName::default_exchange();
            message.routing_key = own_due(&id).as_key();
            let why = "signed with a key that no daemon of this virtual host has";
            return (Publication::now(message, false).into(), Again::Never(why));
        }
        Trust::Nothing | Trust::Forged => {}
    }
    (given_up(due, Reason::Invalid, NOT_OURS), Again::Never(NOT_OURS))
}

/// A message that is due and was not taken is put off for a while that grows, and given up in the end.
fn after_refusal(due: &Message, again: Again, unpublished: &Unpublished) -> Batch {
    let why = unpublished.why();
    let (publication, tries) = match again {
        Again::Later(publication, tries) => (publication, tries + 1),
        Again::Never(why) => return given_up(due, Reason::Invalid, why),
    };
    if let Some(permanent) = unpublished.permanent() {
        return given_up(due, permanent.reason(), &why);
    }
    let Some(pause) = Loop::DelayedMessage.pause(tries) else {
        return given_up(due, Reason::Unroutable, &format!("after {tries} tries: {why}"));
    };
    tracing::warn!(why, tries, again_s = pause.as_secs(), "a delayed message is due and is not taken; it is put off");
    Condition::DelayRelayJammed.raise_for("", format!("a delayed message is due and is not taken: {why}"), pause * 2);
    let mut message = Message::clone(&publication.message);
    message.properties.headers.set(TRIES, tries);
    Publication { delay: Some(pause), ..Publication::now(message, publication.accept_unroutable) }.into()
}

/// The copy for the dead-letter queue of delayed messages, with the headers that it came with.
fn given_up(message: &Message, reason: Reason, error: &str) -> Batch {
    tracing::error!(%reason, error, "a delayed message is given up; it is in {DEAD}");
    let mut copy = message.clone();
    copy.exchange = ExchangeName::default_exchange();
    copy.routing_key = queue(DEAD).as_key();
    copy.properties.expiration = None;
    copy.properties.headers.remove_brokers();
    copy.properties.headers.set("trunkline-reason", reason.as_str());
    copy.properties.headers.set("trunkline-error", &error[..error.floor_char_boundary(ERROR_MAX_BYTES)]);
    if copy.check().is_err() {
        copy.properties.headers.retain(|name| ["trunkline-reason", "trunkline-error"].contains(&name));
    }
    Publication::now(copy, false).into()
}
