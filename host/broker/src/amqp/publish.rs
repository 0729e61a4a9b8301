//! Publishing: every message to the collector of its exchange, and one answer for all.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::collector::Job;
use super::confirms::Answer;
use super::delay;
use super::session::Session;
use super::suspects::Lane;
use crate::{Batch, Confirmed, DELAY_MAX, Passing, Permanent, Publication, Receipt, Refusal, Unpublished};
use trunkline_config::Topology;
use trunkline_event::Message;
use trunkline_telemetry::wait::{Loop, Retry};

/// A message as it is sent, with its place in the batch.
struct Sending {
    index: usize,
    message: Arc<Message>,
    accept_unroutable: bool,
    lane: Lane,
}

/// Publishes what of a batch is open and waits for all of it, even when one message is refused: what is confirmed must be
/// known completely.
pub(super) async fn publish(
    session: &Arc<Session>,
    topology: &Arc<Topology>,
    mut batch: Batch,
) -> Result<Receipt, Unpublished> {
    let mut refused: Vec<(usize, Refusal)> = Vec::new();
    let mut waiting = Vec::with_capacity(batch.open());
    let mut has_delays = false;
    for (index, publication) in batch.rest() {
        has_delays |= publication.delay.is_some_and(|delay| !delay.is_zero());
        match prepare(session, index, publication) {
            Ok(sending) => waiting.push(sending),
            Err(permanent) => refused.push((index, permanent.into())),
        }
    }
    // What can never be complete is not begun.
    if !refused.is_empty() {
        return Err(Unpublished { batch, refused, lost: None });
    }
    if has_delays {
        // Behind a pointer, because what it starts publishes too.
        let ensured: BoxFuture<'_, Result<(), crate::Error>> = Box::pin(delay::ensure(session, topology));
        if let Err(error) = ensured.await {
            return Err(Unpublished::lost(batch, error.to_string()));
        }
    }
    let mut lost = None;
    let mut opening = Retry::new(Loop::ChannelOpen, "");
    while !waiting.is_empty() {
        let (mut again, mut unsent) = (Vec::new(), false);
        for (sending, answer) in send_all(session, waiting).await {
            match answer.await {
                Ok(Answer::Confirmed(confirmed)) => batch.confirm(sending.index, confirmed),
                Ok(Answer::Refused(refusal)) => refused.push((sending.index, refusal)),
                Ok(Answer::Lost(reason)) => lost = Some(reason),
                Ok(Answer::Suspect) => again.push(Sending { lane: Lane::Alone, ..sending }),
                Ok(Answer::Unsent) => {
                    unsent = true;
                    again.push(sending);
                }
                Err(_dropped) => lost = Some("the session ended".to_owned()),
            }
        }
        waiting = again;
        // A closed channel costs a try; a neighbour that was refused costs none.
        if unsent && opening.pause("a channel for publishing is closed again and again").await.is_err() {
            lost = Some("no channel could be opened".to_owned());
            break;
        }
    }
    if lost.is_none() && refused.is_empty() {
        return batch.receipt().map_err(|batch| Unpublished::lost(batch, "a message has no answer"));
    }
    Err(Unpublished { batch, refused, lost })
}

/// The message as it goes over the wire, if the broker can take it at all.
fn prepare(session: &Session, index: usize, publication: &Publication) -> Result<Sending, Permanent> {
    let Publication { message, accept_unroutable, delay, .. } = publication;
    let (message, accept_unroutable) = match delay.filter(|delay| !delay.is_zero()) {
        Some(delay) if delay > DELAY_MAX => return Err(Permanent::Delay(delay)),
        // A level that is not there is no place to lose it.
        Some(delay) => (Arc::new(delay::wrap(message, *accept_unroutable, delay, &session.key)?), false),
        None => {
            message.check()?;
            let mut message = message.clone();
            // A returned message is found again by its id.
            if message.properties.message_id.is_none() {
                Arc::make_mut(&mut message).properties.message_id = Some(Uuid::now_v7().to_string());
            }
            (message, *accept_unroutable)
        }
    };
    let mut suspects = session.suspects();
    suspects.check(&message)?;
    let lane = suspects.lane(&message);
    Ok(Sending { index, message, accept_unroutable, lane })
}

/// Hands all to their collectors. One that just ended, because its channel was closed, drops the reply unsent.
async fn send_all(session: &Arc<Session>, messages: Vec<Sending>) -> Vec<(Sending, oneshot::Receiver<Answer>)> {
    let mut sent = Vec::with_capacity(messages.len());
    for sending in messages {
        let (reply, answer) = oneshot::channel();
        let collector = session.collector(&sending.message.exchange, sending.lane);
        let (message, accept_unroutable) = (sending.message.clone(), sending.accept_unroutable);
        if let Err(closed) = collector.send(Job { message, accept_unroutable, reply }).await {
            let _waited_for_below = closed.0.reply.send(Answer::Unsent);
        }
        sent.push((sending, answer));
    }
    sent
}

/// The answer for an unroutable message.
pub(super) fn unroutable(exchange: &str, key: &str, accept: bool) -> Answer {
    if accept {
        return Answer::Confirmed(Confirmed::Unrouted);
    }
    let (exchange, key) = (exchange.to_owned(), key.to_owned());
    Answer::Refused(Passing::Unroutable { exchange, key }.into())
}
