//! The one thread that writes. It takes everything that waits, writes it in one transaction, and only then answers:
//! many publishes and acknowledgements share one fsync.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::dead_letter::dead_letter;
use super::queue::Entry;
use super::shared::{Change, Command, Core, NotStored, Routed, Shared, Work, places_of};
use super::store::{Batch, Record};
use crate::config::Overflow;
use crate::event::{Message, now_ms};
use crate::telemetry;

/// Messages that share one transaction.
const BATCH_MAX: usize = 4096;
/// Bytes that share one transaction.
const BATCH_MAX_BYTES: usize = 16 << 20;
/// Messages that one transaction gives up; the rest follows in the next.
const GIVE_UP_MAX: usize = 1024;
/// The longest wait, when nothing is going to expire.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) fn start(shared: Arc<Shared>, commands: Receiver<Command>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("trunkline-store".to_owned()).spawn(move || Writer { shared, commands }.run())
}

struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
}

/// What waits for one transaction.
#[derive(Default)]
struct Waiting {
    publishes: Vec<(Work, Reply, OwnedSemaphorePermit)>,
    flushes: Vec<oneshot::Sender<()>>,
    messages: usize,
    bytes: usize,
    end: Option<End>,
}

enum End {
    InOrder(oneshot::Sender<()>),
    Abandoned,
}

/// One transaction in the making, and what it means for the queues in memory.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) batch: Batch,
    admitted: Vec<(usize, u64, Record)>,
    /// Dead letters that have nowhere to go stay where they are.
    kept: Vec<(usize, Entry)>,
    /// What is removed: queue and position.
    gone: Vec<(usize, u64)>,
    /// There are other delayed messages than before.
    pub(super) delays_changed: bool,
    /// How many more, or fewer, wait to be tried again, by their queue.
    pub(super) retrying: HashMap<String, i64>,
}

impl Writer {
    fn run(self) {
        let mut wait = Duration::ZERO;
        loop {
            let mut waiting = self.collect(wait);
            if let Some(End::InOrder(_)) = waiting.end {
                self.give_back_all();
            }
            if matches!(waiting.end, Some(End::Abandoned)) {
                return;
            }
            match self.write(&mut waiting) {
                Ok(next) => wait = next,
                Err(reason) => {
                    self.shared.fail(reason.clone());
                    refuse_all(waiting, &reason);
                    return self.refuse_forever(&reason);
                }
            }
            waiting.flushes.drain(..).for_each(|flush| {
                let _gone = flush.send(());
            });
            if let Some(End::InOrder(closed)) = waiting.end {
                return self.close(closed);
            }
        }
    }

    /// Waits for the first command, and takes what came with it.
    fn collect(&self, wait: Duration) -> Waiting {
        let mut waiting = Waiting::default();
        let mut next = match self.commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Abandon),
        };
        while let Some(command) = next.take() {
            waiting.add(command);
            let is_full = waiting.messages >= BATCH_MAX || waiting.bytes >= BATCH_MAX_BYTES;
            if !is_full && waiting.end.is_none() {
                next = self.commands.try_recv().ok();
            }
        }
        waiting
    }

    /// Writes one transaction and answers. Gives the time until something expires.
    fn write(&self, waiting: &mut Waiting) -> Result<Duration, String> {
        self.shared.woken();
        let (plan, answers) = {
            let mut core = self.shared.lock();
            let mut plan = Plan::default();
            self.plan_changes(&mut core, &mut plan)?;
            let answers = self.plan_publishes(&mut core, &mut plan, waiting);
            (plan, answers)
        };
        if plan.batch.len() > 0 {
            let started = Instant::now();
            if let Err(error) = self.shared.store.commit(&plan.batch, now_ms()) {
                let reason = error.to_string();
                for (answer, _, _place) in answers {
                    let _gone = answer.send(Err(NotStored::Lost(reason.clone())));
                }
                return Err(reason);
            }
            telemetry::store_committed(started.elapsed(), plan.batch.len());
        }
        let wait = self.apply(plan)?;
        for (answer, result, _place) in answers {
            let _gone = answer.send(result);
        }
        Ok(wait)
    }

    /// Acknowledgements, counts, expired and overflowing messages.
    fn plan_changes(&self, core: &mut Core, plan: &mut Plan) -> Result<(), String> {
        for change in std::mem::take(&mut core.pending) {
            match change {
                Change::Remove { queue, position } => plan.remove(core, queue, position),
                Change::Recount { queue, entry } => {
                    plan.batch.puts.push((core.queues[queue].id, entry.position, entry.record.encode()));
                }
                Change::GiveUp { queue, entry, reason } => self.give_up(core, plan, queue, entry, reason),
            }
        }
        let now = now_ms();
        if core.next_due.is_some_and(|due| due <= now) {
            plan.deliver_due(&self.shared, core, now)?;
        }
        for number in 0..core.queues.len() {
            for _ in 0..GIVE_UP_MAX {
                let queue = &mut core.queues[number];
                let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
                let reason = if queue.head_expiry(&self.shared.store)?.is_some_and(|due| due <= now) {
                    "expired"
                } else if over.is_some_and(|max| queue.ready > u64::from(max)) {
                    "maxlen"
                } else {
                    break;
                };
                match queue.pop(&self.shared.store)? {
                    Some(entry) => self.give_up(core, plan, number, entry, reason),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Moves a message to the dead-letter target of its queue, in this transaction; drops it when there is none, as
    /// AMQP does for TTL and length.
    fn give_up(&self, core: &mut Core, plan: &mut Plan, number: usize, entry: Entry, reason: &str) {
        let queue = &core.queues[number];
        let Some(target) = queue.settings.dead_letter.clone() else {
            tracing::debug!(queue = %queue.name, reason, "message dropped: the queue has no dead-letter target");
            plan.remove(core, number, entry.position);
            return;
        };
        let message = dead_letter(&entry.record.message, &target.exchange, &target.key, queue, reason);
        let routed = self.shared.routing.load().route(&message).unwrap_or_default();
        if routed.is_empty() {
            tracing::error!(queue = %queue.name, reason, exchange = %target.exchange, key = %target.key,
                "the dead-letter target is not there; the message is kept");
            plan.kept.push((number, entry));
            return;
        }
        plan.remove(core, number, entry.position);
        plan.put(core, &Arc::new(message), &routed);
    }

    fn plan_publishes(&self, core: &mut Core, plan: &mut Plan, waiting: &mut Waiting) -> Vec<Planned> {
        let mut answers = Vec::with_capacity(waiting.publishes.len());
        for (work, reply, place) in waiting.publishes.drain(..) {
            let full = full_queues(core, plan, &work.routed);
            if !full.is_empty() {
                answers.push((reply, Err(NotStored::Full(places_of(&work.routed, &full))), place));
                continue;
            }
            if let Some((queue, position)) = work.settles {
                if !core.queues[queue].release(position) {
                    let reason = "the delivery was given back meanwhile".to_owned();
                    answers.push((reply, Err(NotStored::Lost(reason)), place));
                    continue;
                }
                plan.remove(core, queue, position);
            }
            for (message, queues) in &work.routed {
                plan.put(core, message, queues);
            }
            plan.delay(core, work.delayed);
            plan.batch.marks.extend(work.mark);
            answers.push((reply, Ok(()), place));
        }
        answers
    }

    /// The transaction is on disk: what it put can be delivered.
    fn apply(&self, mut plan: Plan) -> Result<Duration, String> {
        let mut touched = BTreeSet::new();
        let mut core = self.shared.lock();
        plan.count_retrying(&mut core);
        for (queue, position) in plan.gone {
            core.queues[queue].forget(position);
        }
        for (queue, position, record) in plan.admitted {
            core.queues[queue].admit(position, record);
            touched.insert(queue);
        }
        if plan.delays_changed {
            core.next_due = self.shared.store.first_due()?;
        }
        for (queue, mut entry) in plan.kept {
            // Its time begins anew, or it would be tried in a loop.
            Arc::make_mut(&mut entry.record.message).properties.expiration = None;
            entry.record.published_ms = now_ms();
            core.queues[queue].put_back(entry);
        }
        let now = now_ms();
        let mut wait = core.next_due.map_or(IDLE, |due| IDLE.min(Duration::from_millis(due.saturating_sub(now))));
        for queue in &mut core.queues {
            if let Some(due) = queue.head_expiry(&self.shared.store)? {
                wait = wait.min(Duration::from_millis(due.saturating_sub(now)));
            }
            let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
            if over.is_some_and(|max| queue.ready > u64::from(max)) {
                wait = Duration::ZERO;
            }
        }
        touched.into_iter().for_each(|queue| core.queues[queue].arrivals.notify_waiters());
        Ok(wait)
    }

    /// Everything that is still held goes back, so that the next start delivers it flagged.
    fn give_back_all(&self) {
        let mut core = self.shared.lock();
        for number in 0..core.queues.len() {
            for entry in core.queues[number].take_back_all() {
                core.pending.push(Change::Recount { queue: number, entry: entry.clone() });
                core.queues[number].put_back(entry);
            }
        }
    }

    fn close(self, closed: oneshot::Sender<()>) {
        let ended = self.shared.store.end();
        self.shared.lock().failed = Some("the store is closed".to_owned());
        self.shared.status.send_modify(|status| status.connected = false);
        if let Err(error) = ended {
            tracing::warn!(%error, "the store is not marked as closed; the next start counts it as a crash");
        }
        let _gone = closed.send(());
    }

    /// After a failed write nothing is confirmed any more.
    fn refuse_forever(&self, reason: &str) {
        while let Ok(command) = self.commands.recv() {
            match command {
                Command::Publish { reply, .. } => drop(reply.send(Err(NotStored::Lost(reason.to_owned())))),
                Command::Close(_) | Command::Abandon => return,
                Command::Wake | Command::Flush(_) => {}
            }
        }
    }
}

/// Who waits for a publish, the answer, and the place it held.
type Planned = (Reply, Result<(), NotStored>, OwnedSemaphorePermit);

type Reply = oneshot::Sender<Result<(), NotStored>>;

fn refuse_all(waiting: Waiting, reason: &str) {
    for (_, reply, _place) in waiting.publishes {
        let _gone = reply.send(Err(NotStored::Lost(reason.to_owned())));
    }
}

impl Waiting {
    fn add(&mut self, command: Command) {
        match command {
            Command::Publish { work, reply, _place } => {
                let routed = work.routed.iter().map(|(message, queues)| message.body.len() * queues.len());
                let delayed = work.delayed.iter().map(|(_, delayed)| delayed.message.body.len());
                self.messages += work.routed.len() + work.delayed.len();
                self.bytes += routed.chain(delayed).sum::<usize>();
                self.publishes.push((work, reply, _place));
            }
            Command::Wake => {}
            Command::Flush(reply) => self.flushes.push(reply),
            Command::Close(reply) => self.end = Some(End::InOrder(reply)),
            Command::Abandon => self.end = Some(End::Abandoned),
        }
    }
}

impl Plan {
    fn remove(&mut self, core: &Core, number: usize, position: u64) {
        self.batch.removes.push((core.queues[number].id, position));
        self.gone.push((number, position));
    }

    pub(super) fn put(&mut self, core: &mut Core, message: &Arc<Message>, queues: &BTreeSet<usize>) {
        let record = Record { published_ms: now_ms(), count: 0, message: message.clone() };
        let bytes = record.encode();
        for &number in queues {
            let queue = &mut core.queues[number];
            let position = queue.next_position(message);
            self.batch.puts.push((queue.id, position, bytes.clone()));
            self.admitted.push((number, position, record.clone()));
        }
    }
}

/// Queues with `reject-publish` that have no room for the messages of a publish.
fn full_queues(core: &Core, plan: &Plan, routed: &Routed) -> BTreeSet<usize> {
    let mut full = BTreeSet::new();
    for number in routed.iter().flat_map(|(_, queues)| queues) {
        let queue = &core.queues[*number];
        if let (Overflow::RejectPublish, Some(max)) = (queue.settings.overflow, queue.settings.max_length) {
            let planned = plan.admitted.iter().filter(|(other, _, _)| other == number).count() as u64;
            let wanted = routed.iter().filter(|(_, queues)| queues.contains(number)).count() as u64;
            if queue.ready + planned + wanted > u64::from(max) {
                full.insert(*number);
            }
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::super::queue::expiry;
    use super::*;
    use crate::event::ExchangeName;

    #[test]
    fn the_shorter_ttl_counts() {
        let mut message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: crate::event::RoutingKey::new("q").expect("valid"),
            properties: crate::event::Properties::default(),
            body: bytes::Bytes::new(),
        };
        let record = |message: &Message| Record { published_ms: 1000, count: 0, message: Arc::new(message.clone()) };
        assert_eq!(expiry(None, &record(&message)), None);
        message.properties.expiration = Some("50".to_owned());
        assert_eq!(expiry(None, &record(&message)), Some(1050));
        assert_eq!(expiry(Some(Duration::from_millis(20)), &record(&message)), Some(1020));
        assert_eq!(expiry(Some(Duration::from_millis(80)), &record(&message)), Some(1050));
    }
}
