//! Publishing: every message to the collector of its exchange, and one answer for all.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::collector::{Answer, Job};
use super::delay;
use super::session::Session;
use crate::broker::{DELAY_MAX, Error, Fate, Publication, Receipt, Refusal};
use crate::config::Topology;

/// How often a message is offered to a channel that turns out to be closed already, and the pause in between.
const SEND_TRIES: u32 = 5;
const SEND_PAUSE: Duration = Duration::from_millis(20);

/// Publishes all and waits for all, even when one is refused: what is refused must be known completely.
pub(super) async fn publish(
    session: &Arc<Session>,
    topology: &Arc<Topology>,
    publications: Vec<Publication>,
) -> Result<Receipt, Error> {
    let mut refused = Vec::new();
    let mut sendable = Vec::with_capacity(publications.len());
    let mut has_delays = false;
    for (index, publication) in publications.into_iter().enumerate() {
        let delay = publication.delay.filter(|delay| !delay.is_zero());
        has_delays |= delay.is_some();
        let checked = match delay {
            Some(delay) if delay > DELAY_MAX => Err(Refusal::Delay(delay)),
            Some(delay) => delay::wrap(publication, delay),
            None => publication.message.check().map(|()| publication).map_err(Refusal::Limit),
        };
        match checked {
            Ok(publication) => sendable.push(publication),
            Err(refusal) => refused.push((index, refusal)),
        }
    }
    if !refused.is_empty() {
        return Err(Error::Refused(refused));
    }
    if has_delays {
        // Behind a pointer, because what it starts publishes too.
        let ensured: BoxFuture<'_, Result<(), Error>> = Box::pin(delay::ensure(session, topology));
        ensured.await?;
    }
    let publications = sendable;
    let mut fates = vec![Fate::Routed; publications.len()];
    let mut lost = None;
    let mut waiting: Vec<(usize, Publication)> = publications.into_iter().enumerate().collect();
    for _ in 0..SEND_TRIES {
        let mut unsent = Vec::new();
        for (index, publication, answer) in send_all(session, waiting).await {
            match answer.await {
                Ok(Answer::Confirmed(fate)) => fates[index] = fate,
                Ok(Answer::Refused(refusal)) => refused.push((index, refusal)),
                Ok(Answer::Lost(reason)) => lost = Some(reason),
                Ok(Answer::Unsent) => unsent.push((index, publication)),
                Err(_dropped) => lost = Some("the session ended".to_owned()),
            }
        }
        waiting = unsent;
        if waiting.is_empty() {
            break;
        }
        tokio::time::sleep(SEND_PAUSE).await;
    }
    if !waiting.is_empty() {
        lost = Some("no channel could be opened".to_owned());
    }
    match lost {
        Some(reason) => Err(Error::Lost(reason)),
        None if refused.is_empty() => Ok(Receipt::new(fates)),
        None => Err(Error::Refused(refused)),
    }
}

type Sent = (usize, Publication, oneshot::Receiver<Answer>);

/// Hands all to their collectors. One that just ended, because its channel was closed, drops the reply unsent.
async fn send_all(session: &Arc<Session>, publications: Vec<(usize, Publication)>) -> Vec<Sent> {
    let mut sent = Vec::with_capacity(publications.len());
    for (index, mut publication) in publications {
        let (reply, answer) = oneshot::channel();
        // A returned message is found again by its id.
        publication.message.properties.message_id.get_or_insert_with(|| Uuid::now_v7().to_string());
        let Publication { message, accept_unroutable, .. } = publication.clone();
        let collector = session.collector(&message.exchange);
        if let Err(closed) = collector.send(Job { message, accept_unroutable, reply }).await {
            let _waited_for_below = closed.0.reply.send(Answer::Unsent);
        }
        sent.push((index, publication, answer));
    }
    sent
}

/// What an unroutable message comes to.
pub(super) fn unroutable(exchange: &str, key: &str, accept: bool) -> Answer {
    if accept {
        return Answer::Confirmed(Fate::Unrouted);
    }
    Answer::Refused(Refusal::Unroutable { exchange: exchange.to_owned(), key: key.to_owned() })
}
