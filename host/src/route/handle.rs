//! One delivery, from receipt to answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::copies::{self, Seen};
use super::decide::{self, Decision};
use super::{Route, emit};
use crate::broker::{Delivery, Error, Fate, Publication, Receipt, Settlement};
use crate::codec::{self, header};
use crate::event::{Emission, Event, Message, Reason};
use crate::telemetry::{EmittedTrace, PublishResult, Settled, SettledTrace};

/// Pause before a refused publish is tried again; doubled up to [`PUBLISH_PAUSE_MAX`].
const PUBLISH_PAUSE_MIN: Duration = Duration::from_millis(100);
const PUBLISH_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What one delivery came to.
struct Done {
    settled: Settled,
    reason: Option<Reason>,
    receipt: Receipt,
    emitted: Vec<EmittedTrace>,
}

/// The delivery is left to the broker: why.
struct Left(String);

/// One delivery in work, with the session it belongs to.
struct Work {
    session: u64,
    started: Instant,
    seen: Seen,
}

impl Route {
    /// Handles a delivery of the given broker session and answers it, or leaves it to the broker.
    pub(super) async fn handle(self: Arc<Self>, delivery: Delivery, session: u64) {
        let message = &delivery.message;
        self.metrics.received(message.body.len(), waited(message));
        let decoded = self.decode(message);
        let work = Work { session, started: Instant::now(), seen: self.seen(message, decoded.as_ref().ok()) };
        let done = match decoded {
            Ok(event) => self.process(&work, &event, message).await,
            Err(decision) => self.carry_out(&work, message, decision).await,
        };
        match done {
            Ok(Done { settled, reason, receipt, emitted }) => {
                self.trace(&work, message, settled, reason, &emitted);
                delivery.settle(Settlement::Ack(receipt));
                self.metrics.settled(settled, work.started.elapsed());
            }
            Err(Left(why)) => self.metrics.left(&work.seen.id, &why),
        }
    }

    fn decode(&self, message: &Message) -> Result<Event, Decision> {
        let (bytes, max) = (message.body.len(), self.settings.body_max_bytes);
        if bytes > max {
            let error = format!("the body takes {bytes} bytes; the route's max-body is {max}");
            return Err(Decision::dead_letter(Reason::TooLarge, error));
        }
        let event = codec::decode(self.codec_in, message)
            .map_err(|error| Decision::dead_letter(Reason::Invalid, error.to_string()))?;
        decide::admit(&event, self.settings.hops_max).map_or(Ok(event), Err)
    }

    fn seen(&self, message: &Message, event: Option<&Event>) -> Seen {
        let headers = &message.properties.headers;
        let attempt = headers.int(header::ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1);
        let given = message.properties.message_id.clone().filter(|id| !id.is_empty());
        let id = event.map(|event| event.id.clone()).or(given);
        Seen {
            id: id.unwrap_or_else(|| codec::weak_id(&message.body)),
            attempt: attempt.max(1),
            now: jiff::Timestamp::now().to_string(),
            route: self.name.to_string(),
            plugin: self.plugin.name.to_string(),
            digest: self.plugin.digest.to_string(),
        }
    }

    /// Runs the plugin and does what follows from its outcome.
    async fn process(&self, work: &Work, event: &Event, message: &Message) -> Result<Done, Left> {
        let invocation = self.plugin.invoke(event).await;
        let failure = match &invocation.outcome {
            crate::event::Outcome::Emitted(_) => None,
            crate::event::Outcome::Failed(failure) => Some(failure),
        };
        self.metrics.invoked(&event.id, failure, invocation.took, invocation.memory_bytes);
        let retry = &self.settings.retry;
        let publications = decide::decide(invocation.outcome, event.attempt, retry).and_then(|emissions| {
            self.publications(&work.seen.now, event, &emissions)
                .map_err(|failure| decide::after_failure(&failure, event.attempt, retry))
        });
        match publications {
            Ok(publications) => self.publish_emissions(work, event, message, publications).await,
            Err(decision) => self.carry_out(work, message, decision).await,
        }
    }

    fn publications(
        &self,
        now: &str,
        event: &Event,
        emissions: &[Emission],
    ) -> Result<Vec<Publication>, crate::event::Failure> {
        let context = emit::Context {
            route: &self.name,
            emit: &self.settings.emit,
            codec: self.codec_out,
            plugin: self.plugin.name.as_str(),
            digest: &self.plugin.digest,
            now,
            now_seconds: unix_seconds(),
        };
        emit::publications(&context, event, emissions)
    }

    async fn publish_emissions(
        &self,
        work: &Work,
        event: &Event,
        message: &Message,
        publications: Vec<Publication>,
    ) -> Result<Done, Left> {
        let mut pause = PUBLISH_PAUSE_MIN;
        loop {
            let refused = match self.publish(publications.clone()).await {
                Ok(receipt) => return Ok(self.emitted(receipt, &publications)),
                Err(Error::Refused(refused)) => refused,
                Err(error @ (Error::Lost(_) | Error::Queue { .. } | Error::Unusable(_))) => {
                    self.metrics.publish_result(PublishResult::Lost, publications.len() as u64);
                    self.wait_or_leave(work.session, &mut pause, error.to_string()).await?;
                    continue;
                }
            };
            self.metrics.publish_result(PublishResult::Nacked, refused.len() as u64);
            let (policy, retry) = (self.settings.emit.unroutable, &self.settings.retry);
            let decide = |refusal| decide::after_refusal(refusal, policy, event.attempt, retry);
            match refused.iter().find_map(|(_, refusal)| decide(refusal)) {
                Some(decision) => return self.carry_out(work, message, decision).await,
                None => {
                    let why = "a target queue is full and refuses messages".to_owned();
                    self.wait_or_leave(work.session, &mut pause, why).await?;
                }
            }
        }
    }

    fn emitted(&self, receipt: Receipt, publications: &[Publication]) -> Done {
        let mut confirmed = 0;
        for (fate, publication) in receipt.fates().iter().zip(publications) {
            match fate {
                Fate::Routed => confirmed += 1,
                Fate::Unrouted => {
                    self.metrics.publish_result(PublishResult::Unroutable, 1);
                    self.mention_unroutable(publication.message.properties.kind.as_deref().unwrap_or_default());
                }
            }
        }
        self.metrics.publish_result(PublishResult::Confirmed, confirmed);
        let emitted = if SettledTrace::is_wanted() { traces(&receipt, publications) } else { Vec::new() };
        Done { settled: Settled::Ack, reason: None, receipt, emitted }
    }

    /// Puts the copy where the decision says, for as long as it takes: a dead letter that cannot be published holds
    /// its delivery, and with it the route, rather than losing it.
    async fn carry_out(&self, work: &Work, message: &Message, decision: Decision) -> Result<Done, Left> {
        let seen = &work.seen;
        let copy = match &decision {
            Decision::Retry { step, error } => copies::retry(message, seen, step, error),
            Decision::DeadLetter { reason, error } => {
                copies::dead_letter(message, seen, &self.settings.dead_letter, *reason, error)
            }
        };
        let mut pause = PUBLISH_PAUSE_MIN;
        let receipt = loop {
            match self.publish(vec![copy.clone()]).await {
                Ok(receipt) => break receipt,
                Err(error) => {
                    let why = format!("its copy for {} is not taken: {error}", copy.message.routing_key);
                    tracing::error!(route = %self.name, event = seen.id, "{why}; the event is kept and tried again");
                    self.wait_or_leave(work.session, &mut pause, why).await?;
                }
            }
        };
        Ok(match decision {
            Decision::Retry { step, error } => {
                self.metrics.retry_scheduled(&seen.id, seen.attempt + 1, step.delay, &error);
                Done { settled: Settled::Retry, reason: None, receipt, emitted: Vec::new() }
            }
            Decision::DeadLetter { reason, error } => {
                self.metrics.dead_lettered(&seen.id, reason, &error);
                Done { settled: Settled::DeadLetter, reason: Some(reason), receipt, emitted: Vec::new() }
            }
        })
    }

    async fn publish(&self, publications: Vec<Publication>) -> Result<Receipt, Error> {
        if publications.is_empty() {
            return self.broker.publish(publications).await;
        }
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.publish(publications).await;
        self.metrics.published(started.elapsed());
        result
    }

    /// Waits before the next try. Gives the delivery up when its session is over: the broker delivers it again, and a
    /// second publish from here would only make a duplicate.
    async fn wait_or_leave(&self, session: u64, pause: &mut Duration, why: String) -> Result<(), Left> {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(PUBLISH_PAUSE_MAX);
        let status = self.status.borrow();
        if status.connected && status.session == session { Ok(()) } else { Err(Left(why)) }
    }

    fn trace(
        &self,
        work: &Work,
        message: &Message,
        settled: Settled,
        reason: Option<Reason>,
        emitted: &[EmittedTrace],
    ) {
        if SettledTrace::is_wanted() {
            let kind = message.properties.kind.as_deref().unwrap_or(message.routing_key.as_str());
            SettledTrace { route: &self.name, event: &work.seen.id, kind, settled, reason }.write(emitted);
        }
    }
}

fn traces(receipt: &Receipt, publications: &[Publication]) -> Vec<EmittedTrace> {
    let trace = |(fate, publication): (&Fate, &Publication)| {
        let message = &publication.message;
        EmittedTrace {
            id: message.properties.message_id.clone().unwrap_or_default(),
            r#type: message.properties.kind.clone().unwrap_or_default(),
            exchange: message.exchange.to_string(),
            routing_key: message.routing_key.to_string(),
            routed: *fate == Fate::Routed,
            data: String::from_utf8_lossy(&message.body).into_owned(),
        }
    };
    receipt.fates().iter().zip(publications).map(trace).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// From the message's own timestamp, which counts whole seconds, to now.
fn waited(message: &Message) -> Option<Duration> {
    let sent = UNIX_EPOCH.checked_add(Duration::from_secs(message.properties.timestamp?))?;
    SystemTime::now().duration_since(sent).ok()
}
