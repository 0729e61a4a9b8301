//! Publishing: every message to the collector of its exchange, and one answer for all.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::collector::{Answer, Job};
use super::session::Session;
use crate::broker::{Error, Fate, Publication, Receipt, Refusal};

/// Publishes all and waits for all, even when one is refused: what is refused must be known completely.
pub(super) async fn publish(session: &Arc<Session>, publications: Vec<Publication>) -> Result<Receipt, Error> {
    let mut refused = Vec::new();
    for (index, publication) in publications.iter().enumerate() {
        if let Err(error) = publication.message.check() {
            refused.push((index, Refusal::Limit(error)));
        }
    }
    if !refused.is_empty() {
        return Err(Error::Refused(refused));
    }
    let mut answers = Vec::with_capacity(publications.len());
    for publication in publications {
        answers.push(begin(session, publication).await?);
    }
    let mut fates = Vec::with_capacity(answers.len());
    let mut lost = None;
    for (index, answer) in answers.into_iter().enumerate() {
        match answer.await {
            Ok(Answer::Confirmed(fate)) => fates.push(fate),
            Ok(Answer::Refused(refusal)) => refused.push((index, refusal)),
            Ok(Answer::Lost(reason)) => lost = Some(reason),
            Err(_dropped) => lost = Some("the session ended".to_owned()),
        }
    }
    match lost {
        Some(reason) => Err(Error::Lost(reason)),
        None if refused.is_empty() => Ok(Receipt::new(fates)),
        None => Err(Error::Refused(refused)),
    }
}

async fn begin(session: &Arc<Session>, publication: Publication) -> Result<oneshot::Receiver<Answer>, Error> {
    let (reply, answer) = oneshot::channel();
    let Publication { mut message, accept_unroutable } = publication;
    // A returned message is found again by its id.
    message.properties.message_id.get_or_insert_with(|| Uuid::now_v7().to_string());
    let collector = session.collector(&message.exchange);
    let sent = collector.send(Job { message, accept_unroutable, reply }).await;
    sent.map_err(|_closed| Error::Lost("the channel closed".to_owned()))?;
    Ok(answer)
}

/// What an unroutable message comes to.
pub(super) fn unroutable(exchange: &str, key: &str, accept: bool) -> Answer {
    if accept {
        return Answer::Confirmed(Fate::Unrouted);
    }
    Answer::Refused(Refusal::Unroutable { exchange: exchange.to_owned(), key: key.to_owned() })
}
