//! A RabbitMQ as the daemon sees it, reduced to what can go wrong.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::plugin::NOBODY;
use crate::broker::Publication;
use crate::broker::amqp::parts::Identity;
use crate::event::Message;

/// Names of the model's queues and exchanges.
pub(super) const SOURCE: &str = "q";
pub(super) const DEAD: &str = "q.dlq";
pub(super) const OUT: &str = "out";
/// Queues `q.retry.<ms>` hold a message for so long.
pub(super) const RETRY: &str = "q.retry.";

/// A message in the queue that is consumed.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) message: Message,
    pub(super) deliveries: u32,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Stored,
    Returned,
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) source: VecDeque<Stored>,
    pub(super) unacknowledged: BTreeMap<u64, Stored>,
    last_tag: u64,
    /// On the way, or waiting for the end of an alarm: publish tag and message.
    pub(super) inbound: VecDeque<(u64, Publication)>,
    /// Taken, and not confirmed yet.
    unconfirmed: Vec<(u64, bool)>,
    /// Sent to the client, which hands the oldest to whichever confirm it resolves next.
    returns: VecDeque<Identity>,
    pub(super) outputs: Vec<Message>,
    pub(super) dead: Vec<Message>,
    /// Held for a while: when they come back, in the order in which they came per queue.
    pub(super) held: Vec<(Duration, u64, Message)>,
    pub(super) blocked: bool,
    /// Every publish is refused, as by a full queue.
    pub(super) full: bool,
    pub(super) sequence: u64,
}

impl Broker {
    pub(super) fn put(&mut self, message: Message) {
        self.source.push_back(Stored { message, deliveries: 0 });
    }

    /// The next delivery with its tag.
    pub(super) fn deliver(&mut self, prefetch: usize) -> Option<(u64, Stored)> {
        if self.unacknowledged.len() >= prefetch {
            return None;
        }
        let stored = self.source.pop_front()?;
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

    /// The publish channel is gone: of what was on the way a beginning arrived, and nobody is told.
    pub(super) fn cut(&mut self, random: &mut fastrand::Rng, now: Duration) {
        let arrived = if self.blocked { 0 } else { random.usize(0..=self.inbound.len()) };
        for _ in 0..arrived {
            self.take(now);
        }
        self.inbound.clear();
        self.unconfirmed.clear();
        self.returns.clear();
    }

    /// Takes the next message that is on the way.
    pub(super) fn take(&mut self, now: Duration) -> Option<Taken> {
        let (tag, publication) = self.inbound.pop_front()?;
        let taken = self.store(publication, now);
        self.unconfirmed.push((tag, taken != Taken::Refused));
        Some(taken)
    }

    /// Stores or refuses one message.
    pub(super) fn store(&mut self, publication: Publication, now: Duration) -> Taken {
        let message = Message::clone(&publication.message);
        if self.full {
            return Taken::Refused;
        }
        let key = message.routing_key.as_str().to_owned();
        match message.exchange.as_str() {
            OUT if key == NOBODY => {
                let id = message.properties.message_id.clone().unwrap_or_default();
                self.returns.push_back((id, OUT.to_owned(), key));
                return Taken::Returned;
            }
            OUT => self.outputs.push(message),
            _ if key == DEAD => self.dead.push(message),
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

    /// What has waited long enough goes to the end of the source queue.
    pub(super) fn release(&mut self, now: Duration) {
        self.held.sort_by_key(|(due, sequence, _)| (*due, *sequence));
        let due = self.held.iter().take_while(|(due, ..)| *due <= now).count();
        for (.., mut message) in self.held.drain(..due).collect::<Vec<_>>() {
            message.routing_key = crate::event::RoutingKey::new(SOURCE).expect("a key");
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
        frame.into_iter().map(|(tag, taken)| (tag, taken, self.returns.pop_front())).collect()
    }

    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }
}
