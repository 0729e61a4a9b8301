//! What the core's actions come to: the plugin's call, the messages, the broker. Nothing is decided here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::copies::Seen;
use super::core::{Facts, Plan};
use super::decide::{self, Decision};
use super::waiting::{self, Place, Waiter};
use super::{Route, order, plan};
use crate::codec::{self, header};
use trunkline_broker::{
    Batch, Confirmed, Deliveries, Delivery, Ended, Mark, NothingPublished, Publication, Receipt, Unpublished,
};
use trunkline_event::{Event, Message, Reason, now_ms};

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
    /// What is to be published and is not confirmed completely, while nothing of it is on the way.
    pub(super) open: Option<Batch>,
    /// What allows the acknowledgement.
    pub(super) proof: Option<Proof>,
    /// The broker's answer for each message that was published last.
    pub(super) confirmed: Vec<Confirmed>,
    /// The subscription that it came from.
    pub(super) session: u64,
    /// Its name on the list of those that wait, on an ordered route.
    pub(super) waiter: Option<Waiter>,
    /// Its place there, while the entry is not confirmed.
    pub(super) place: Option<Place>,
}

/// Why a delivery may be acknowledged.
#[derive(Debug)]
pub(super) enum Proof {
    /// Everything that follows from it is confirmed.
    Receipt(Receipt),
    /// Nothing follows from it.
    Nothing(NothingPublished),
}

impl Route {
    /// Reads a delivery: what the core needs to know of it, and what is kept for later.
    pub(super) fn receive(&self, delivery: Delivery, session: u64) -> (Facts, Item) {
        let message = delivery.message.clone();
        self.metrics.received(message.body.len(), waited(&message));
        let (event, refused) = match &delivery.unreadable {
            None => self.decode(&message),
            Some(why) => {
                let error = format!("the message cannot be read: {why}");
                (None, Some(Decision::dead_letter(Reason::Invalid, error)))
            }
        };
        let event = event.map(Arc::new);
        let seen = self.seen(&message, event.as_deref());
        let order = self.settings.order_by.as_ref();
        let limited = self.settings.tenant.as_ref().filter(|tenant| tenant.rate.is_some() && refused.is_none());
        let mark = self.settings.dedupe.zip(event.as_deref()).filter(|(_, event)| event.own_id);
        let facts = Facts {
            id: seen.id.clone(),
            own_id: event.as_ref().is_some_and(|event| event.own_id),
            session,
            attempt: seen.attempt,
            redriven: header::is_redriven(&message.properties.headers),
            suspect: delivery.is_suspect(),
            lane: order.zip(event.as_deref()).map(|(by, event)| waiting::lane(order::key(by, event))),
            due: order.and(message.properties.headers.int(header::DUE)).and_then(until),
            tenant: limited.and(event.as_deref()).and_then(|event| event.tenant.clone()),
            turn: limited.and(message.properties.headers.int(header::TURN)).map(|ms| until(ms).unwrap_or_default()),
            bytes: message.body.len(),
            refused,
        };
        let mark = mark.map(|(window, event)| Mark {
            route: self.name.clone(),
            id: event.id.clone(),
            content: Mark::content(Sha256::new_with_prefix(&event.data)),
            window,
            ended: Ended::Done,
        });
        let waiter = facts.lane.clone().map(|key| Waiter { key, id: facts.id.clone() });
        let item = Item {
            session,
            waiter,
            place: None,
            delivery: Some(delivery),
            message,
            event,
            seen,
            started: Instant::now(),
            mark,
            emissions: Vec::new(),
            open: None,
            proof: None,
            confirmed: Vec::new(),
        };
        (facts, item)
    }

    /// The event, if there is one to be read, and why it is not let in. What is read is known by its own id then too.
    fn decode(&self, message: &Message) -> (Option<Event>, Option<Decision>) {
        let (bytes, max) = (message.body.len(), self.settings.body_max_bytes);
        if bytes > max {
            let error = format!("the body takes {bytes} bytes; the route's max-body is {max}");
            return (None, Some(Decision::dead_letter(Reason::TooLarge, error)));
        }
        let mut event = match codec::decode(self.codec_in, message) {
            Ok(event) => event,
            Err(error) => return (None, Some(Decision::dead_letter(Reason::Invalid, error.to_string()))),
        };
        event.attempt = self.attempt(message);
        if let Some(tenant) = &self.settings.tenant {
            match order::tenant(&tenant.by, &event) {
                Ok(name) => event.tenant = Some(name),
                Err(decision) => return (Some(event), Some(decision)),
            }
        }
        let refused = decide::admit(&event, self.settings.hops_max, self.settings.schema.as_ref());
        (Some(event), refused)
    }

    fn seen(&self, message: &Message, event: Option<&Event>) -> Seen {
        let given = codec::given_id(message);
        let own_id = event.map_or(given.is_some(), |event| event.own_id);
        let id = event.map(|event| event.id.clone()).or(given);
        Seen {
            id: id.unwrap_or_else(codec::new_id),
            attempt: self.attempt(message),
            own_id,
            key: self.key.clone(),
            now: jiff::Timestamp::now().to_string(),
            route: self.name.to_string(),
            plugin: self.settings.runs().to_owned(),
            digest: self.handler.digest().to_string(),
            log: String::new(),
        }
    }

    /// The attempt that begins now.
    fn attempt(&self, message: &Message) -> u32 {
        header::attempt(&message.properties.headers, self.name.as_str())
    }

    /// The messages of a plan.
    pub(super) fn planned(&self, item: &Item, plan: &Plan) -> Vec<Publication> {
        let settings = &self.settings;
        let places = plan::Places {
            source: &settings.queue,
            retry: &settings.retry,
            dead_letter: &settings.dead_letter,
            waiting: settings.waiting.as_ref(),
        };
        let entry = item.waiter.as_ref().zip(item.place);
        let source = plan::Source { message: &item.message, seen: &item.seen, emissions: &item.emissions, entry };
        plan::messages(plan, source, places, plan::Moment { now_ms: now_ms(), luck: fastrand::f64() })
    }

    /// Publishes what is open of a batch, and counts how long it took.
    pub(super) async fn publish(self: Arc<Self>, batch: Batch) -> Result<Receipt, Unpublished> {
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.publish(batch).await;
        self.metrics.published(started.elapsed());
        result
    }

    /// Publishes, marks and acknowledges in one transaction.
    pub(super) async fn commit(
        self: Arc<Self>,
        deliveries: Deliveries,
        batch: Batch,
        mark: Option<Mark>,
    ) -> Result<Vec<Confirmed>, Box<(Deliveries, Unpublished)>> {
        let started = Instant::now();
        self.metrics.publishing();
        let result = self.broker.commit(deliveries, batch, mark).await;
        self.metrics.published(started.elapsed());
        result
    }
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
