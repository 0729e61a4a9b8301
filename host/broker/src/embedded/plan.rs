//! One transaction in the making, and what it means for the queues in memory. Made under the lock, without a disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::dead_letter::dead_letter;
use super::delayed::{Delayed, Due};
use super::queue::{Entry, Head};
use super::routing::Routing;
use super::shared::{Change, Core, NotStored, Out, Routed, Work, places_of};
use super::store::{Batch, Record};
use trunkline_config::Overflow;
use trunkline_event::{Message, millis};
use trunkline_telemetry::wait::Loop;

/// Messages that one transaction gives up of a queue; the rest follows in the next.
const GIVE_UP_MAX: usize = 1024;
/// Beside its body, what a message takes at most on disk, roughly.
const RECORD_BYTES: u64 = 512;

/// Whether messages may be moved, which takes room for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// They may.
    Allowed,
    /// They stay where they are until there is room.
    PutOff,
}

pub(super) struct Plan {
    pub(super) batch: Batch,
    pub(super) now_ms: u64,
    pub(super) routing: Arc<Routing>,
    moves: Moves,
    /// Messages that are put into a queue anew, by its number; they are at these places of the batch.
    admitted: Vec<(usize, usize)>,
    /// How many that are for each queue.
    counts: HashMap<usize, u64>,
    /// Dead letters that have nowhere to go stay where they are.
    kept: Vec<(usize, Entry)>,
    /// What is removed: queue and position.
    gone: Vec<(usize, u64)>,
    /// What of it was acknowledged, which stays true when it cannot be written: id of the queue and position.
    pub(super) acknowledged: Vec<(u32, u64)>,
    /// There are other delayed messages than before.
    pub(super) delays_changed: bool,
    /// How many more, or fewer, wait to be tried again, by their queue.
    pub(super) retrying: HashMap<String, i64>,
    /// Queues whose first message has to be read before it can be judged.
    pub(super) to_read: BTreeSet<usize>,
}

impl Plan {
    pub(super) fn new(routing: Arc<Routing>, now_ms: u64, moves: Moves) -> Self {
        Self {
            batch: Batch::default(),
            now_ms,
            routing,
            moves,
            admitted: Vec::new(),
            counts: HashMap::new(),
            kept: Vec::new(),
            gone: Vec::new(),
            acknowledged: Vec::new(),
            delays_changed: false,
            retrying: HashMap::new(),
            to_read: BTreeSet::new(),
        }
    }

    /// Acknowledgements, counts, expired and overflowing messages, and delayed ones that are due.
    pub(super) fn changes(&mut self, core: &mut Core, due: Vec<(Due, Delayed)>) {
        for change in std::mem::take(&mut core.pending) {
            match change {
                Change::Remove { queue, position } => {
                    self.remove(core, queue, position);
                    self.acknowledged.extend(core.queues.get(&queue).map(|queue| (queue.id, position)));
                }
                Change::Recount { queue, entry } => {
                    if let Some(queue) = core.queues.get(&queue) {
                        self.batch.puts.push(((queue.id, entry.position), entry.record));
                    }
                }
                Change::GiveUp { queue, entry, reason } => match self.moves {
                    Moves::Allowed => self.give_up(core, queue, entry, reason),
                    Moves::PutOff => core.pending.push(Change::GiveUp { queue, entry, reason }),
                },
            }
        }
        self.deliver_due(core, due);
        let numbers: Vec<usize> = core.queues.keys().copied().collect();
        for number in numbers {
            self.give_up_head(core, number);
        }
    }

    /// Gives up what is expired or too much at the head of a queue.
    fn give_up_head(&mut self, core: &mut Core, number: usize) {
        for _ in 0..GIVE_UP_MAX {
            let Some(queue) = core.queues.get_mut(&number).filter(|queue| queue.kept_until() <= self.now_ms) else {
                return;
            };
            let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
            let is_over = over.is_some_and(|max| queue.ready() > u64::from(max));
            if !is_over && !queue.may_expire || self.moves == Moves::PutOff && queue.settings.dead_letter.is_some() {
                return;
            }
            let reason = match queue.head() {
                Head::There(Some(expiry)) if expiry <= self.now_ms => "expired",
                Head::There(_) if is_over => "maxlen",
                Head::OnDisk => {
                    self.to_read.insert(number);
                    return;
                }
                Head::There(_) | Head::Nothing => return,
            };
            match queue.pop() {
                Some(entry) => self.give_up(core, number, entry, reason),
                None => return,
            }
        }
    }

    /// Moves a message to the dead-letter target of its queue, in this transaction; drops it when there is none, as
    /// AMQP does for TTL and length.
    fn give_up(&mut self, core: &mut Core, number: usize, entry: Entry, reason: &str) {
        let Some(queue) = core.queues.get_mut(&number) else { return };
        let Some(target) = queue.settings.dead_letter.clone() else {
            tracing::debug!(queue = %queue.name, reason, "message dropped: the queue has no dead-letter target");
            return self.remove(core, number, entry.position);
        };
        let queue_name = queue.name.clone();
        let message = dead_letter(&entry.record.message, &target.exchange, &target.key, queue, reason);
        let routed = self.routing.route(&message).unwrap_or_default();
        if routed.is_empty() {
            let (exchange, key) = (target.exchange, target.key);
            tracing::error!(queue = %queue.name, reason, %exchange, %key,
                "the dead-letter target is not there; the message is kept");
            let detail =
                format!("a message is {reason}, and no queue is there for key {key:?} of exchange {exchange:?}");
            queue.keep_until(|tries| {
                let pause = Loop::GiveUp.pause(tries).unwrap_or_default();
                Loop::GiveUp.rules().condition.raise_for(queue_name.as_str(), detail, pause.saturating_mul(2));
                self.now_ms.saturating_add(millis(pause))
            });
            self.kept.push((number, entry));
            return;
        }
        queue.keep_no_more();
        self.remove(core, number, entry.position);
        self.put(core, &Arc::new(message), &routed);
    }

    fn remove(&mut self, core: &Core, number: usize, position: u64) {
        if let Some(queue) = core.queues.get(&number) {
            self.batch.removes.push((queue.id, position));
            self.gone.push((number, position));
        }
    }

    /// A queue that was removed since the message was routed gets nothing.
    pub(super) fn put(&mut self, core: &mut Core, message: &Arc<Message>, queues: &BTreeSet<usize>) {
        for &number in queues {
            let Some(queue) = core.queues.get_mut(&number) else { continue };
            let position = queue.next_position(message);
            let record = Record { published_ms: self.now_ms, count: 0, message: message.clone() };
            self.admitted.push((number, self.batch.puts.len()));
            self.batch.puts.push(((queue.id, position), record));
            *self.counts.entry(number).or_default() += 1;
        }
    }

    /// Plans a publish; it is stored whole or not at all.
    pub(super) fn publish(&mut self, core: &mut Core, work: Work) -> Result<(), NotStored> {
        let full = self.full_queues(core, &work.routed);
        if !full.is_empty() {
            return Err(NotStored::Full(places_of(&work.routed, &full)));
        }
        let is_held = |out: &Out| {
            core.queue_of(out.session, out.queue).is_some_and(|queue| queue.is_held(out.position, out.holder))
        };
        if !work.settles.iter().all(is_held) {
            return Err(NotStored::Lost("the delivery was given back meanwhile".to_owned()));
        }
        for out in work.settles {
            if let Some(queue) = core.queue_of(out.session, out.queue) {
                queue.release(out.position, out.holder, self.now_ms);
            }
            self.remove(core, out.queue, out.position);
        }
        for (message, queues) in &work.routed {
            self.put(core, message, queues);
        }
        self.delay(core, work.delayed);
        self.batch.marks.extend(work.mark);
        Ok(())
    }

    /// Queues with `reject-publish` that have no room for the messages of a publish.
    fn full_queues(&self, core: &Core, routed: &Routed) -> BTreeSet<usize> {
        let mut wanted: HashMap<usize, u64> = HashMap::new();
        for number in routed.iter().flat_map(|(_, queues)| queues) {
            *wanted.entry(*number).or_default() += 1;
        }
        let is_full = |(number, wanted): (usize, u64)| {
            let queue = core.queues.get(&number)?;
            let max = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::RejectPublish)?;
            let planned = self.counts.get(&number).copied().unwrap_or_default();
            let length = queue.ready().saturating_add(planned).saturating_add(wanted);
            (length > u64::from(max)).then_some(number)
        };
        wanted.into_iter().filter_map(is_full).collect()
    }

    /// The transaction is on disk: what it put can be delivered, and what it removed is gone.
    pub(super) fn apply(mut self, core: &mut Core) {
        self.count_retrying(core);
        for (number, position) in self.gone {
            if let Some(queue) = core.queues.get_mut(&number) {
                queue.forget(position);
            }
        }
        let mut touched = BTreeSet::new();
        let mut records: Vec<Option<((u32, u64), Record)>> = self.batch.puts.into_iter().map(Some).collect();
        for (number, place) in self.admitted {
            let put = records.get_mut(place).and_then(Option::take);
            if let (Some(((_, position), record)), Some(queue)) = (put, core.queues.get_mut(&number)) {
                queue.admit(position, record, self.now_ms);
                touched.insert(number);
            }
        }
        for (number, entry) in self.kept {
            if let Some(queue) = core.queues.get_mut(&number) {
                queue.put_back(entry);
            }
        }
        for number in touched {
            if let Some(queue) = core.queues.get(&number) {
                queue.arrivals.notify_waiters();
            }
        }
    }
}

/// What a publish takes on disk, roughly.
pub(super) fn disk_bytes(work: &Work) -> u64 {
    let stored = work.routed.iter().map(|(_, queues)| queues.len() as u64).sum::<u64>() + work.delayed.len() as u64;
    (work.bytes() as u64).saturating_add(stored.saturating_mul(RECORD_BYTES))
}
