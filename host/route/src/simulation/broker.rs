//! A RabbitMQ as the daemon sees it, reduced to what can go wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::faulty::Faulty;
use super::plugin::{FORBIDDEN, NOBODY, NUMBER};
use trunkline_broker::amqp::parts::Identity;
use trunkline_broker::{Permanent, Publication};
use trunkline_event::Message;

/// Names of the model's queues and exchanges.
pub(super) const SOURCE: &str = "q";
pub(super) const DEAD: &str = "q.dlq";
pub(super) const OUT: &str = "out";
/// Lists what waits on the ordered route.
pub(super) const LIST: &str = "q.waiting";
/// Bodies that are larger are refused for good.
pub(super) const MAX_BYTES: usize = 36 << 10;
/// Queues `q.retry.<ms>` hold a message for so long.
pub(super) const RETRY: &str = "q.retry.";

/// A message in the queue that is consumed.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) message: Message,
    pub(super) deliveries: u32,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Stored,
    Returned,
    Refused,
    /// The channel is closed for it.
    Never(Permanent),
}

/// Taken, and not confirmed yet.
#[derive(Debug, Clone)]
struct Unconfirmed {
    tag: u64,
    taken: bool,
    number: usize,
    identity: Identity,
}

/// The event of the schedule that a message is, or follows from.
pub(super) fn number(message: &Message) -> usize {
    message.properties.headers.text(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// What a returned message is known by.
pub(super) fn identity(message: &Message) -> Identity {
    let id = message.properties.message_id.clone().unwrap_or_default();
    (id, message.exchange.to_string(), message.routing_key.to_string())
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) source: VecDeque<Stored>,
    /// What comes into the source is on disk before it is counted there, as in a store with transactions.
    pub(super) counts_later: bool,
    /// On disk, and not counted yet: a consumer may look now and must not see it.
    pub(super) committed: VecDeque<Stored>,
    /// How many of those a consumer that reads the disk has seen all the same.
    seen_early: usize,
    pub(super) unacknowledged: BTreeMap<u64, Stored>,
    last_tag: u64,
    /// On the way, or waiting for the end of an alarm: publish tag and message.
    pub(super) inbound: VecDeque<(u64, Publication)>,
    unconfirmed: Vec<Unconfirmed>,
    /// Events of which something is stored and was never confirmed: it may come again.
    pub(super) ambiguous: BTreeSet<usize>,
    /// Sent to the client, which hands the oldest to whichever confirm it resolves next.
    returns: VecDeque<Identity>,
    pub(super) outputs: Vec<Message>,
    pub(super) dead: Vec<Message>,
    /// Entries of the list: not delivered, and delivered by their tags.
    pub(super) entries: VecDeque<Message>,
    pub(super) listed: BTreeMap<u64, Message>,
    last_entry: u64,
    /// Held for a while: when they come back, in the order in which they came per queue.
    pub(super) held: Vec<(Duration, u64, Message)>,
    pub(super) blocked: bool,
    /// Every publish is refused, as by a full queue.
    pub(super) full: bool,
    /// The queue of the second type is full, beside all others that are not.
    pub(super) half_full: bool,
    /// The consumer is cancelled: nothing is handed out, and what was is still the daemon's.
    pub(super) cancelled: bool,
    /// The next confirm is never sent.
    pub(super) swallows: bool,
    pub(super) sequence: u64,
}

impl Broker {
    pub(super) fn new(counts_later: bool) -> Self {
        Self { counts_later, ..Self::default() }
    }

    pub(super) fn put(&mut self, message: Message) {
        let into = if self.counts_later { &mut self.committed } else { &mut self.source };
        into.push_back(Stored { message, deliveries: 0 });
    }

    /// What is committed can be delivered from now on.
    pub(super) fn count(&mut self) {
        self.source.extend(self.committed.drain(..));
        self.seen_early = 0;
    }

    /// The next of the source; in a store that does not wait for the count, of what is on disk.
    fn next(&mut self) -> Option<Stored> {
        let counted = self.source.pop_front();
        if counted.is_some() || !Faulty::UncountedSeen.is_planted() {
            return counted;
        }
        let seen = self.committed.get(self.seen_early).cloned();
        self.seen_early += usize::from(seen.is_some());
        seen
    }

    /// The next delivery with its tag.
    pub(super) fn deliver(&mut self, prefetch: usize) -> Option<(u64, Stored)> {
        if self.cancelled || self.unacknowledged.len() >= prefetch {
            return None;
        }
        let stored = self.next()?;
        self.last_tag += 1;
        self.unacknowledged.insert(self.last_tag, stored.clone());
        Some((self.last_tag, stored))
    }

    /// An acknowledgement. A tag that is not open closes the channel on a real broker.
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

    /// The consumer is gone: what it held comes back to its place, and tags begin anew.
    pub(super) fn give_back(&mut self) {
        self.last_tag = 0;
        for (_, mut stored) in std::mem::take(&mut self.unacknowledged).into_iter().rev() {
            stored.deliveries += 1;
            self.source.push_front(stored);
        }
    }

    /// The next entry of the list with its tag.
    pub(super) fn next_entry(&mut self) -> Option<(u64, Message)> {
        let entry = self.entries.pop_front()?;
        self.last_entry += 1;
        self.listed.insert(self.last_entry, entry.clone());
        Some((self.last_entry, entry))
    }

    /// The list's consumer is gone.
    pub(super) fn give_back_entries(&mut self) {
        for (_, entry) in std::mem::take(&mut self.listed).into_iter().rev() {
            self.entries.push_front(entry);
        }
    }

    /// The publish channel is gone: of what was on the way a beginning arrived, and nobody is told.
    pub(super) fn cut(&mut self, random: &mut fastrand::Rng, now: Duration) {
        let arrived = if self.blocked { 0 } else { random.usize(0..=self.inbound.len()) };
        for _ in 0..arrived {
            self.take(now);
        }
        self.close();
    }

    /// The channel ends without another word.
    pub(super) fn close(&mut self) {
        self.inbound.clear();
        self.ambiguous.extend(self.unconfirmed.drain(..).filter(|one| one.taken).map(|one| one.number));
        self.returns.clear();
    }

    /// One confirm is never sent, if that is to be.
    pub(super) fn swallow(&mut self, random: &mut fastrand::Rng) -> bool {
        if !self.swallows || self.unconfirmed.is_empty() {
            return false;
        }
        self.swallows = false;
        let swallowed = self.unconfirmed.remove(random.usize(..self.unconfirmed.len()));
        self.ambiguous.insert(swallowed.number);
        true
    }

    /// Takes the next message that is on the way.
    pub(super) fn take(&mut self, now: Duration) -> Option<Taken> {
        let (tag, publication) = self.inbound.pop_front()?;
        let (number, identity) = (number(&publication.message), identity(&publication.message));
        let taken = self.store(publication, now);
        if !matches!(taken, Taken::Never(_)) {
            self.unconfirmed.push(Unconfirmed { tag, taken: taken != Taken::Refused, number, identity });
        }
        Some(taken)
    }

    /// Stores or refuses one message.
    pub(super) fn store(&mut self, publication: Publication, now: Duration) -> Taken {
        let message = Message::clone(&publication.message);
        let key = message.routing_key.as_str().to_owned();
        if let Some(permanent) = refused_for_good(&message) {
            return Taken::Never(permanent);
        }
        if self.full || self.half_full && key == super::plugin::MADE[1] {
            return Taken::Refused;
        }
        self.route_further(&message);
        match message.exchange.as_str() {
            OUT if key == NOBODY => {
                self.returns.push_back(identity(&message));
                return Taken::Returned;
            }
            OUT => self.outputs.push(message),
            _ if key == DEAD => self.dead.push(message),
            _ if key == LIST => self.entries.push_back(message),
            _ => {
                let delay = match (publication.delay, key.strip_prefix(RETRY)) {
                    (Some(delay), _) => delay,
                    (None, Some(ms)) => Duration::from_millis(ms.parse().unwrap_or(0)),
                    (None, None) => Duration::ZERO,
                };
                self.sequence += 1;
                self.held.push((now + delay, self.sequence, message));
            }
        }
        Taken::Stored
    }

    /// On the default exchange every key is a queue's name, those in CC and BCC too.
    fn route_further(&mut self, message: &Message) {
        if message.exchange.as_str() == OUT {
            return;
        }
        for name in ["CC", "BCC"] {
            let Some(trunkline_event::HeaderValue::List(keys)) = message.properties.headers.get(name) else { continue };
            for key in keys.iter().filter_map(|key| key.as_str()).map(str::to_owned).collect::<Vec<_>>() {
                match key.as_str() {
                    DEAD => self.dead.push(message.clone()),
                    SOURCE => self.source.push_back(Stored { message: message.clone(), deliveries: 0 }),
                    _ => {}
                }
            }
        }
    }

    /// What has waited long enough goes to the end of the source queue.
    pub(super) fn release(&mut self, now: Duration) {
        self.held.sort_by_key(|(due, sequence, _)| (*due, *sequence));
        let due = self.held.iter().take_while(|(due, ..)| *due <= now).count();
        for (.., mut message) in self.held.drain(..due).collect::<Vec<_>>() {
            message.routing_key = trunkline_event::RoutingKey::new(SOURCE).expect("a key");
            self.put(message);
        }
    }

    /// When the next one has.
    pub(super) fn next_release(&self) -> Option<Duration> {
        self.held.iter().map(|(due, ..)| *due).min()
    }

    /// A frame with confirms: of one message or of all up to one, in any order, each with the oldest return.
    pub(super) fn confirm(&mut self, random: &mut fastrand::Rng) -> Vec<(u64, bool, Option<Identity>)> {
        if self.unconfirmed.is_empty() {
            return Vec::new();
        }
        let place = random.usize(..self.unconfirmed.len());
        let mut frame = match random.bool() {
            true => self.unconfirmed.drain(..=place).collect::<Vec<_>>(),
            false => vec![self.unconfirmed.remove(place)],
        };
        random.shuffle(&mut frame);
        // A return comes before the confirm of its message, so what is not confirmed yet may be returned already.
        let told = |one: Unconfirmed| {
            let returned = self.returns.pop_front().filter(|_| !Faulty::ReturnIgnored.is_planted());
            let is_blamed = returned.is_some() && Faulty::ReturnBlamedOnNext.is_planted();
            (one.tag, one.taken, if is_blamed { Some(one.identity) } else { returned })
        };
        frame.into_iter().map(told).collect()
    }

    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }
}

/// Why a message is never taken.
pub(super) fn refused_for_good(message: &Message) -> Option<Permanent> {
    let bytes = message.body.len();
    if bytes > MAX_BYTES {
        return Some(Permanent::TooLarge { bytes, max: MAX_BYTES });
    }
    (message.routing_key.as_str() == FORBIDDEN).then(|| Permanent::Forbidden("ACCESS_REFUSED".to_owned()))
}
