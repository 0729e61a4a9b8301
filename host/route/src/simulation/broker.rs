//! A RabbitMQ as the daemon sees it, reduced to its faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::faulty::Faulty;
use super::plugin::{FORBIDDEN, NUMBER, UNBOUND};
use trunkline_broker::amqp::parts::MessageIdentity;
use trunkline_broker::{Permanent, Publication};
use trunkline_event::Message;

/// Names of the model's queues and exchanges.
pub(super) const SOURCE: &str = "q";
pub(super) const DEAD: &str = "q.dlq";
pub(super) const OUT: &str = "out";
/// Queue of the waiting list.
pub(super) const LIST: &str = "q.waiting";
/// Largest body; a larger body is refused for good.
pub(super) const MAX_BYTES: usize = 36 << 10;
/// A relay publishes messages that are due within this time. It works on many messages at a time, and their order may change.
const RELAYED_WITHIN_MS: u64 = 40;

/// A message in the route's queue.
#[derive(Debug, Clone)]
pub(super) struct ModelMessage {
    pub(super) message: Arc<Message>,
    pub(super) deliveries: u32,
}

/// Outcome of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Stored,
    Returned,
    Refused,
    /// The broker closes the channel because of the message.
    Never(Permanent),
}

/// A message that is taken and not confirmed yet.
#[derive(Debug, Clone)]
struct Unconfirmed {
    tag: u64,
    taken: bool,
    number: usize,
    identity: MessageIdentity,
}

/// Number of the event of the schedule that a message carries or follows from.
pub(super) fn number(message: &Message) -> usize {
    message.properties.headers.text(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

#[derive(Debug, Default)]
pub(super) struct ModelBroker {
    pub(super) source: VecDeque<ModelMessage>,
    /// Whether a message is on disk before its queue counts it, as in a store with transactions.
    pub(super) counts_later: bool,
    /// Messages on disk that are not counted yet. A consumer may read now and must not get them.
    pub(super) committed: VecDeque<ModelMessage>,
    /// Messages on disk that a consumer of the planted mistake got too early.
    seen_early: usize,
    pub(super) unacknowledged: BTreeMap<u64, ModelMessage>,
    last_tag: u64,
    /// Publishes on their way, or waiting for the end of an alarm: publish tag and message.
    pub(super) inbound: VecDeque<(u64, Publication)>,
    unconfirmed: Vec<Unconfirmed>,
    /// Events with a stored message that was never confirmed, so that it may be published again.
    pub(super) ambiguous: BTreeSet<usize>,
    /// Returns that were sent. The client library hands the oldest return to the next confirm that it resolves.
    returns: VecDeque<MessageIdentity>,
    pub(super) outputs: Vec<Message>,
    pub(super) dead: Vec<Message>,
    /// Waiting-list entries that are not delivered; the delivered entries follow, by their tags.
    pub(super) entries: VecDeque<Arc<Message>>,
    pub(super) listed: BTreeMap<u64, Arc<Message>>,
    last_entry: u64,
    /// Messages that are held back, with the time at which each comes back and the order of arrival.
    pub(super) held: Vec<(Duration, u64, Message)>,
    pub(super) blocked: bool,
    /// Whether every publish is refused, as by a full queue.
    pub(super) full: bool,
    /// Whether the queue of the second type is full beside queues with room.
    pub(super) half_full: bool,
    /// Whether the consumer is cancelled: nothing is handed out, and earlier deliveries can still be settled.
    pub(super) cancelled: bool,
    /// Whether the next confirm is never sent.
    pub(super) swallows: bool,
    pub(super) sequence: u64,
}

impl ModelBroker {
    pub(super) fn new(counts_later: bool) -> Self {
        Self { counts_later, ..Self::default() }
    }

    pub(super) fn put(&mut self, message: Message) {
        let into = if self.counts_later { &mut self.committed } else { &mut self.source };
        into.push_back(ModelMessage { message: Arc::new(message), deliveries: 0 });
    }

    /// Counts the committed messages, which can be delivered from now on.
    pub(super) fn count(&mut self) {
        self.source.extend(self.committed.drain(..));
        self.seen_early = 0;
    }

    /// The next message of the queue; with the planted mistake also a message that is not counted.
    fn next(&mut self) -> Option<ModelMessage> {
        let counted = self.source.pop_front();
        if counted.is_some() || !Faulty::UncountedSeen.is_planted() {
            return counted;
        }
        let seen = self.committed.get(self.seen_early).cloned();
        self.seen_early += usize::from(seen.is_some());
        seen
    }

    /// The next delivery with its tag.
    pub(super) fn deliver(&mut self, prefetch: usize) -> Option<(u64, ModelMessage)> {
        if self.cancelled || self.unacknowledged.len() >= prefetch {
            return None;
        }
        let stored = self.next()?;
        self.last_tag += 1;
        self.unacknowledged.insert(self.last_tag, stored.clone());
        Some((self.last_tag, stored))
    }

    /// Takes an acknowledgement. On a real broker, a tag that is not open closes the channel.
    pub(super) fn acknowledge(&mut self, tag: u64, multiple: bool) -> Result<(), String> {
        if !self.unacknowledged.contains_key(&tag) {
            return Err(format!("delivery tag {tag} is not open"));
        }
        if multiple {
            self.unacknowledged = self.unacknowledged.split_off(&(tag + 1));
        } else {
            self.unacknowledged.remove(&tag);
        }
        Ok(())
    }

    /// The consumer is gone: its unacknowledged messages come back to their places, and tags begin at 1 again.
    pub(super) fn give_back(&mut self) {
        self.last_tag = 0;
        for (_, mut stored) in std::mem::take(&mut self.unacknowledged).into_iter().rev() {
            stored.deliveries += 1;
            self.source.push_front(stored);
        }
    }

    /// The next entry of the list with its tag.
    pub(super) fn next_entry(&mut self) -> Option<(u64, Arc<Message>)> {
        let entry = self.entries.pop_front()?;
        self.last_entry += 1;
        self.listed.insert(self.last_entry, entry.clone());
        Some((self.last_entry, entry))
    }

    /// The consumer of the waiting list is gone.
    pub(super) fn give_back_entries(&mut self) {
        for (_, entry) in std::mem::take(&mut self.listed).into_iter().rev() {
            self.entries.push_front(entry);
        }
    }

    /// The publish channel is gone: the first messages on their way arrived, and no confirm is sent.
    pub(super) fn cut(&mut self, random: &mut fastrand::Rng, now: Duration) {
        let arrived = if self.blocked { 0 } else { random.usize(0..=self.inbound.len()) };
        for _ in 0..arrived {
            self.take(now);
        }
        self.close();
    }

    /// The channel ends without a confirm.
    pub(super) fn close(&mut self) {
        self.inbound.clear();
        self.ambiguous.extend(self.unconfirmed.drain(..).filter(|one| one.taken).map(|one| one.number));
        self.returns.clear();
    }

    /// Loses one confirm, when that fault is due.
    pub(super) fn swallow(&mut self, random: &mut fastrand::Rng) -> bool {
        if !self.swallows || self.unconfirmed.is_empty() {
            return false;
        }
        self.swallows = false;
        let swallowed = self.unconfirmed.remove(random.usize(..self.unconfirmed.len()));
        self.ambiguous.insert(swallowed.number);
        true
    }

    /// Takes the next message that is on its way.
    pub(super) fn take(&mut self, now: Duration) -> Option<Taken> {
        let (tag, publication) = self.inbound.pop_front()?;
        let (number, identity) = (number(&publication.message), MessageIdentity::of(&publication.message));
        let taken = self.store(publication, now);
        if !matches!(taken, Taken::Never(_)) {
            self.unconfirmed.push(Unconfirmed { tag, taken: taken != Taken::Refused, number, identity });
        }
        Some(taken)
    }

    /// Stores or refuses one message.
    pub(super) fn store(&mut self, publication: Publication, now: Duration) -> Taken {
        let message = publication.message.copy();
        let key = message.routing_key.as_str().to_owned();
        if let Some(permanent) = refused_for_good(&message) {
            return Taken::Never(permanent);
        }
        if self.full || self.half_full && key == super::plugin::MADE[1] {
            return Taken::Refused;
        }
        self.route_further(&message);
        match message.exchange.as_str() {
            OUT if key == UNBOUND => {
                self.returns.push_back(MessageIdentity::of(&message));
                return Taken::Returned;
            }
            OUT => self.outputs.push(message),
            _ if key == DEAD => self.dead.push(message),
            _ if key == LIST => self.entries.push_back(Arc::new(message)),
            _ => {
                self.sequence += 1;
                let delay = publication.delay.map(|delay| delay + self.relayed_within());
                self.held.push((now + delay.unwrap_or_default(), self.sequence, message));
            }
        }
        Taken::Stored
    }

    /// Time that the relay takes for the last message; none in a store with transactions, which has no relay.
    fn relayed_within(&self) -> Duration {
        let spread = self.sequence.wrapping_mul(7919) % RELAYED_WITHIN_MS;
        if self.counts_later { Duration::ZERO } else { Duration::from_millis(spread) }
    }

    /// On the nameless exchange every key is the name of a queue, also the keys in CC and BCC.
    fn route_further(&mut self, message: &Message) {
        if message.exchange.as_str() == OUT {
            return;
        }
        for name in ["CC", "BCC"] {
            let Some(trunkline_event::HeaderValue::List(keys)) = message.properties.headers.get(name) else { continue };
            for key in keys.iter().filter_map(|key| key.as_str()).map(str::to_owned).collect::<Vec<_>>() {
                match key.as_str() {
                    DEAD => self.dead.push(message.copy()),
                    SOURCE => self.source.push_back(ModelMessage { message: Arc::new(message.copy()), deliveries: 0 }),
                    _ => {}
                }
            }
        }
    }

    /// Moves the held messages whose time has come to the end of the route's queue.
    pub(super) fn release(&mut self, now: Duration) {
        self.held.sort_by_key(|(due, sequence, _)| (*due, *sequence));
        let due = self.held.iter().take_while(|(due, ..)| *due <= now).count();
        for (.., mut message) in self.held.drain(..due).collect::<Vec<_>>() {
            message.routing_key = trunkline_event::RoutingKey::new(SOURCE).expect("a key");
            self.put(message);
        }
    }

    /// Time at which the next held message comes back.
    pub(super) fn next_release(&self) -> Option<Duration> {
        self.held.iter().map(|(due, ..)| *due).min()
    }

    /// A frame with confirms, of one message or of all messages up to one, in any order, each with the oldest return.
    pub(super) fn confirm(&mut self, random: &mut fastrand::Rng) -> Vec<(u64, bool, Option<MessageIdentity>)> {
        if self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let place = random.usize(..self.unconfirmed.len());
        let mut frame = match random.bool() {
            true => self.unconfirmed.drain(..=place).collect::<Vec<_>>(),
            false => vec![self.unconfirmed.remove(place)],
        };
        random.shuffle(&mut frame);
        // A return comes before the confirm of its message, so an unconfirmed message may be returned already.
        let confirm = |one: Unconfirmed| {
            let returned = self.returns.pop_front().filter(|_| !Faulty::ReturnIgnored.is_planted());
            let is_blamed = returned.is_some() && Faulty::ReturnBlamedOnNext.is_planted();
            (one.tag, one.taken, if is_blamed { Some(one.identity) } else { returned })
        };
        frame.into_iter().map(confirm).collect()
    }

    /// Whether an event with this id is in the queue, on its way back into the queue, or with the daemon.
    pub(super) fn has(&self, id: &str) -> bool {
        let is_it = |message: &Message| message.properties.message_id.as_deref() == Some(id);
        let queued = self.source.iter().chain(&self.committed).chain(self.unacknowledged.values());
        queued.map(|stored| &*stored.message).chain(self.held.iter().map(|(.., message)| message)).any(is_it)
    }

    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }
}

/// The refusal of a message that the broker never takes.
pub(super) fn refused_for_good(message: &Message) -> Option<Permanent> {
    let bytes = message.body.len();
    if bytes > MAX_BYTES {
        return Some(Permanent::TooLarge { bytes, max: MAX_BYTES });
    }
    (message.routing_key.as_str() == FORBIDDEN).then(|| Permanent::Forbidden("ACCESS_REFUSED".to_owned()))
}
