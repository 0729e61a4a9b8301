//! What the core's actions come to: the plugin's call, the messages, the broker. Nothing is decided here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::copies::{self, Seen, Wait};
use super::core::{Facts, Plan};
use super::decide::{self, Decision};
use super::{Route, emit, order};
use crate::broker::{Delivery, Error, Fate, Mark, Publication, Receipt};
use crate::codec::{self, header};
use crate::config::RetryStep;
use crate::event::{Emission, Event, Failure, Message, Outcome, Reason};

/// Where an event is parked on a route that has no retries, which never parks any.
const PARK: RetryStep = RetryStep { delay: Duration::from_secs(1), spread: Duration::ZERO, queues: Vec::new() };
/// Deliveries before this one that make it a suspect: it may be what ended the daemon.
pub(super) const SUSPECT_DELIVERIES: u32 = 2;

/// One delivery in work, with all that is known of it.
pub(super) struct Item {
    /// Taken when it is answered.
    pub(super) delivery: Option<Delivery>,
    /// Shared with the tasks that work on it.
    pub(super) message: Arc<Message>,
    pub(super) event: Option<Arc<Event>>,
    pub(super) seen: Seen,
    pub(super) started: Instant,
    pub(super) mark: Option<Mark>,
    /// What the plugin emitted, as messages.
    pub(super) emissions: Vec<Publication>,
    /// Of what was published last.
    pub(super) receipt: Option<Receipt>,
    /// What became of each emission.
    pub(super) fates: Vec<Fate>,
}

/// What a plugin's call came to.
pub(super) struct Called {
    pub(super) result: Result<Vec<Publication>, Failure>,
    pub(super) log: String,
}

impl Route {
    /// Reads a delivery: what the core needs to know of it, and what is kept for later.
    pub(super) fn receive(&self, delivery: Delivery, session: u64) -> (Facts, Item) {
        let message = Arc::new(delivery.message.clone());
        self.metrics.received(message.body.len(), waited(&message));
        let (event, refused) = match self.decode(&message) {
            Ok(event) => (Some(Arc::new(event)), None),
            Err(decision) => (None, Some(decision)),
        };
        let seen = self.seen(&message, event.as_deref());
        let order = self.settings.order_by.as_ref();
        let mark = self.settings.dedupe.zip(event.as_deref()).filter(|(_, event)| !event.weak_id);
        let facts = Facts {
            id: seen.id.clone(),
            weak_id: event.as_ref().is_none_or(|event| event.weak_id),
            session,
            attempt: seen.attempt,
            suspect: delivery.delivery_count >= SUSPECT_DELIVERIES,
            lane: order.zip(event.as_deref()).map(|(by, event)| order::key(by, event)),
            due: order.and(message.properties.headers.int(header::DUE)).and_then(until),
            bytes: message.body.len(),
            refused,
        };
        let mark = mark.map(|(window, event)| Mark {
            route: self.name.clone(),
            id: event.id.clone(),
            content: content(&event.data),
            window,
        });
        let item = Item {
            delivery: Some(delivery),
            message,
            event,
            seen,
            started: Instant::now(),
            mark,
            emissions: Vec::new(),
            receipt: None,
            fates: Vec::new(),
        };
        (facts, item)
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
            log: String::new(),
        }
    }

    /// Runs the plugin on an event, and makes messages of what it emits.
    pub(super) async fn call(self: Arc<Self>, event: Arc<Event>, now: String) -> Called {
        let invocation = self.plugin.invoke(&event).await;
        let failure = match &invocation.outcome {
            Outcome::Emitted(_) => None,
            Outcome::Failed(failure) => Some(failure),
        };
        self.metrics.invoked(&event.id, failure, invocation.took, invocation.memory_bytes);
        let result = match invocation.outcome {
            Outcome::Emitted(emissions) => self.publications(&now, &event, &emissions),
            Outcome::Failed(failure) => Err(failure),
        };
        Called { result, log: invocation.log }
    }

    fn publications(&self, now: &str, event: &Event, emissions: &[Emission]) -> Result<Vec<Publication>, Failure> {
        let context = emit::Context {
            route: &self.name,
            emit: &self.settings.emit,
            codec: self.codec_out,
            plugin: self.plugin.name.as_str(),
            digest: &self.plugin.digest,
            now,
            now_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        };
        emit::publications(&context, event, emissions)
    }

    /// The messages of a plan.
    pub(super) fn planned(&self, item: &Item, plan: &Plan) -> Vec<Publication> {
        let (message, seen) = (&item.message, &item.seen);
        match plan {
            Plan::Emissions => item.emissions.clone(),
            Plan::Copy(Decision::Retry { step, error }) => {
                let due_ms = self.settings.order_by.as_ref().map(|_| now_ms() + millis(step.delay));
                let held = self.held(step);
                let wait = Wait { source: &self.settings.queue, step: &held, due_ms, luck: fastrand::f64() };
                vec![copies::retry(message, seen, &wait, error)]
            }
            Plan::Copy(Decision::DeadLetter { reason, error }) => {
                vec![copies::dead_letter(message, seen, &self.settings.dead_letter, *reason, error)]
            }
            Plan::Park => {
                let due_ms = message.properties.headers.int(header::DUE).and_then(|ms| u64::try_from(ms).ok());
                let first = self.settings.retry.steps.first().cloned().unwrap_or(PARK);
                let wait = Wait { source: &self.settings.queue, step: &first, due_ms, luck: 0.0 };
                vec![copies::park(message, seen, &wait)]
            }
        }
    }

    /// The step in which a copy waits: on an ordered route always the first, so that all come back in order.
    fn held(&self, step: &RetryStep) -> RetryStep {
        match (&self.settings.order_by, self.settings.retry.steps.first()) {
            (Some(_), Some(first)) => first.clone(),
            (Some(_), None) | (None, _) => step.clone(),
        }
    }

    /// Publishes, and counts how long it took.
    pub(super) async fn publish(self: Arc<Self>, publications: Vec<Publication>) -> Result<Receipt, Error> {
        if publications.is_empty() {
            return Ok(Receipt::of_nothing());
        }
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.publish(publications).await;
        self.metrics.published(started.elapsed());
        result
    }

    /// Publishes, marks and acknowledges in one transaction.
    pub(super) async fn commit(
        self: Arc<Self>,
        delivery: Delivery,
        publications: Vec<Publication>,
        mark: Option<Mark>,
    ) -> Result<Vec<Fate>, Box<(Delivery, Error)>> {
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.commit(delivery, publications, mark).await;
        self.metrics.published(started.elapsed());
        result
    }
}

fn content(data: &[u8]) -> u64 {
    let digest = Sha256::digest(data);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// How long it is until a time in milliseconds since the Unix epoch; none when it has passed.
fn until(due_ms: i64) -> Option<Duration> {
    let left = u64::try_from(due_ms).ok()?.checked_sub(now_ms())?;
    (left > 0).then(|| Duration::from_millis(left))
}

/// From the message's own timestamp, which counts whole seconds, to now.
fn waited(message: &Message) -> Option<Duration> {
    let sent = UNIX_EPOCH.checked_add(Duration::from_secs(message.properties.timestamp?))?;
    SystemTime::now().duration_since(sent).ok()
}
