//! The one thread that reads and writes the store. It takes everything that waits, writes it in one transaction, and only
//! then answers: many publishes and acknowledgements share one fsync. What a queue delivers next it reads ahead.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::clock::Anchor;
use super::compaction::Compaction;
use super::delayed::{self, dead, is_damaged};
use super::inbox::{Ordered, Planned, Waiting, not_stored};
use super::kept_queue;
use super::plan::{Moves, Plan, disk_bytes};
use super::prefetch::Prefetch;
use super::queue::{Head, Queue};
use super::room::Room;
use super::shared::{Alteration, Change, Command, Core, NotStored, Shared};
use super::store::{Fault, Store};
use trunkline_config::Overflow;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{Loop, Retry};

/// Queues that are read ahead between two transactions.
const READ_MAX: usize = 16;
/// The longest wait, when nothing is going to expire. A machine that slept is noticed within it.
const IDLE: Duration = Duration::from_secs(60);

/// What the thread begins with.
pub(super) struct Begin {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    /// Of the store.
    pub(super) file: PathBuf,
    pub(super) room: Room,
    /// What the store has of its clock.
    pub(super) anchor: Option<Anchor>,
}

pub(super) fn start(begin: Begin) -> std::io::Result<JoinHandle<()>> {
    let Begin { shared, commands, file, room, anchor } = begin;
    let retry = Retry::new(Loop::StoreOpen, "");
    let (carried, ends) = (Vec::new(), Vec::new());
    let (prefetch, compaction) = (Prefetch::start(&shared)?, Compaction::default());
    let writer = Writer { shared, commands, file, room, anchor, retry, carried, ends, prefetch, compaction };
    std::thread::Builder::new().name("trunkline-store".to_owned()).spawn(move || writer.run())
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    pub(super) file: PathBuf,
    pub(super) room: Room,
    anchor: Option<Anchor>,
    /// Since the store failed.
    pub(super) retry: Retry,
    /// What was acknowledged and could not be written, for the next session.
    pub(super) carried: Vec<(u32, u64)>,
    /// When the store failed lately.
    pub(super) ends: Vec<Instant>,
    prefetch: Prefetch,
    compaction: Compaction,
}

/// Why the store is not served any more.
enum Ended {
    Ordered(Ordered),
    Failed(Fault),
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.serve() {
                Ended::Ordered(Ordered::Abandoned) => return,
                Ended::Ordered(Ordered::InOrder(closed)) => return self.close(closed),
                Ended::Failed(fault) => match self.recover(&fault) {
                    Some(Ordered::InOrder(closed)) => return self.close(closed),
                    Some(Ordered::Abandoned) => return,
                    None => {}
                },
            }
        }
    }

    /// One session, from an open store to its end.
    fn serve(&mut self) -> Ended {
        let mut wait = Duration::ZERO;
        loop {
            let mut waiting = Waiting::collect(&self.commands, wait);
            match waiting.end {
                Some(Ordered::InOrder(_)) => self.give_back_all(),
                Some(Ordered::Abandoned) => return Ended::Ordered(Ordered::Abandoned),
                None => {}
            }
            // redb panics on pages that contradict each other.
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut waiting)));
            match turn.unwrap_or_else(|_panic| Err(Fault::Doubt("its pages contradict each other".to_owned()))) {
                Ok(next) => wait = next,
                Err(fault) => {
                    waiting.refuse(&fault);
                    return waiting.end.map_or(Ended::Failed(fault), Ended::Ordered);
                }
            }
            waiting.flushes.drain(..).for_each(|flush| {
                let _gone = flush.send(());
            });
            if let Some(end) = waiting.end {
                return Ended::Ordered(end);
            }
        }
    }

    /// Writes one transaction and answers, and reads ahead. Gives the time until something is due.
    fn turn(&mut self, waiting: &mut Waiting) -> Result<Duration, Fault> {
        self.shared.woken();
        let shared = self.shared.clone();
        if waiting.is_idle {
            self.compact()?;
        }
        let guard = shared.store();
        let Some(store) = guard.as_ref() else { return Err(Fault::Doubt("the store is closed".to_owned())) };
        let looked_again = self.room.look();
        let now_ms = shared.clock.now_ms();
        let to_read = self.write(store, waiting, now_ms)?;
        for (alteration, reply) in waiting.alterations.drain(..) {
            let done = alter(&shared, store, alteration);
            let told = done.as_ref().map_err(ToString::to_string).copied();
            let _gone = reply.send(told);
            done?;
        }
        let has_more = read_ahead(&shared, store, &self.prefetch, to_read)?;
        if let Some((length, _)) = store.size() {
            shared.store_bytes.store(length, std::sync::atomic::Ordering::Relaxed);
        }
        let wait = if has_more { Duration::ZERO } else { self.wait(store) };
        Ok(looked_again.map_or(wait, |look| wait.min(look)))
    }

    /// Gives the queues whose first message has to be read.
    fn write(&mut self, store: &Store, waiting: &mut Waiting, now_ms: u64) -> Result<BTreeSet<usize>, Fault> {
        let shared = self.shared.clone();
        let moves = if self.room.allows_moves() { Moves::Allowed } else { Moves::PutOff };
        let is_due = moves == Moves::Allowed && shared.lock().next_due.is_some_and(|due| due <= now_ms);
        let due = if is_due { store.due(now_ms)? } else { Vec::new() };
        if delayed::may_be_last(&due) && shared.lock().number(&dead()).is_none() {
            alter(&shared, store, Alteration::Queues(vec![dead()]))?;
        }
        let has_bodies = waiting.publishes.iter().any(|(work, _, _)| work.messages() > 0);
        let room = if has_bodies { self.room.allows(store) } else { u64::MAX };
        let mut plan = Plan::new(shared.routing.load_full(), now_ms, moves);
        plan.delays_changed = is_due;
        let answers = {
            let mut core = shared.lock();
            plan.changes(&mut core, due);
            self.plan_publishes(&mut core, &mut plan, waiting, room)
        };
        let kept = self.anchor;
        let is_wanted = self.room.allows_moves() && kept.is_none_or(|kept| shared.clock.is_stale(kept));
        plan.batch.anchor = is_wanted.then(|| shared.clock.anchor());
        if !plan.batch.is_empty() {
            let (started, changes) = (Instant::now(), plan.batch.len());
            if let Err(fault) = store.commit(&plan.batch, now_ms) {
                self.carried.append(&mut plan.acknowledged);
                answers.into_iter().for_each(|(reply, _, _place)| drop(reply.send(Err(not_stored(&fault)))));
                return Err(fault);
            }
            telemetry::store_committed(started.elapsed(), changes);
            self.anchor = plan.batch.anchor.or(kept);
        }
        let delays_changed = plan.delays_changed;
        let to_read = {
            let mut core = shared.lock();
            let to_read = std::mem::take(&mut plan.to_read);
            plan.apply(&mut core);
            to_read
        };
        answers.into_iter().for_each(|(reply, result, _place)| drop(reply.send(result)));
        if delays_changed {
            let next_due = store.first_due()?;
            shared.lock().next_due = next_due;
        }
        Ok(to_read)
    }

    fn plan_publishes(&mut self, core: &mut Core, plan: &mut Plan, waiting: &mut Waiting, room: u64) -> Vec<Planned> {
        let mut answers = Vec::with_capacity(waiting.publishes.len());
        let mut left = room;
        for (work, reply, place) in waiting.publishes.drain(..) {
            let bytes = if work.messages() > 0 { disk_bytes(&work) } else { 0 };
            let result = if bytes > left {
                Err(NotStored::NoRoom(self.room.refused()))
            } else {
                left -= bytes;
                plan.publish(core, work)
            };
            answers.push((reply, result, place));
        }
        answers
    }

    /// The time until something expires or is due.
    fn wait(&self, store: &Store) -> Duration {
        let now_ms = self.shared.clock.now_ms();
        let mut wait = self.compaction.wait(store).unwrap_or(IDLE).min(IDLE);
        if !self.room.allows_moves() {
            return wait;
        }
        let core = self.shared.lock();
        let mut until = |due: u64| wait = wait.min(Duration::from_millis(due.saturating_sub(now_ms)));
        core.next_due.into_iter().for_each(&mut until);
        for queue in core.queues.values() {
            let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
            let kept_until = queue.kept_until().max(now_ms);
            let head = queue.head();
            if over.is_some_and(|max| queue.ready() > u64::from(max)) && head != Head::OnDisk {
                until(kept_until);
            }
            match head {
                Head::There(expiry) => expiry.into_iter().for_each(|due| until(due.max(kept_until))),
                // What is being read wakes the writer.
                Head::OnDisk | Head::Nothing => {}
            }
        }
        wait
    }

    fn compact(&mut self) -> Result<(), Fault> {
        let is_worth_it = self.shared.store().as_ref().is_some_and(|store| self.compaction.wait(store).is_some());
        if !is_worth_it || self.room.is_short() {
            return Ok(());
        }
        let mut store = self.shared.store.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        store.as_mut().map_or(Ok(()), |store| self.compaction.run(store))
    }

    /// Everything that is still held goes back, so that the next start delivers it flagged.
    fn give_back_all(&self) {
        let mut core = self.shared.lock();
        let mut changes = Vec::new();
        for (number, queue) in &mut core.queues {
            for entry in queue.take_back_all() {
                changes.push(Change::Recount { queue: *number, entry: entry.clone() });
                queue.put_back(entry);
            }
        }
        core.pending.append(&mut changes);
    }

    fn close(self, closed: oneshot::Sender<()>) {
        self.shared.lock().failed = Some("the store is closed".to_owned());
        self.shared.status.send_modify(|status| status.connected = false);
        let store = self.shared.store.write().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(store) = store
            && let Err(error) = store.end(Some(self.shared.clock.anchor()))
        {
            tracing::warn!(%error, "the store is not marked as closed; the next start counts it as a crash");
        }
        let _gone = closed.send(());
    }
}

/// Takes in what queues deliver next, once it was brought from the disk. True when there is more to take in.
fn read_ahead(shared: &Shared, store: &Store, prefetch: &Prefetch, wanted: BTreeSet<usize>) -> Result<bool, Fault> {
    let warm = {
        let mut core = shared.lock();
        for number in wanted {
            core.read_ahead(number);
        }
        for number in std::mem::take(&mut core.unread) {
            let Some(reading) = core.queues.get(&number).and_then(Queue::reading) else { continue };
            let is_asked = prefetch.ask(number, reading);
            let next = if is_asked { &mut core.cold } else { &mut core.warm };
            next.insert(number);
        }
        std::mem::take(&mut core.warm)
    };
    let mut warm = warm.into_iter();
    for number in warm.by_ref().take(READ_MAX) {
        let reading = {
            let mut core = shared.lock();
            core.cold.remove(&number);
            core.queues.get(&number).and_then(Queue::reading)
        };
        let Some(reading) = reading else { continue };
        let found = store.read(reading.id, reading.from, reading.most, reading.most_bytes)?;
        let mut core = shared.lock();
        let Some(queue) = core.queues.get_mut(&number) else { continue };
        if let Some(broken) = &found.broken {
            is_damaged(&format!("queue {}", queue.name), broken);
        }
        queue.read(found);
        queue.arrivals.notify_waiters();
    }
    let left: BTreeSet<usize> = warm.collect();
    let has_more = !left.is_empty();
    shared.lock().warm.extend(left);
    Ok(has_more)
}

fn alter(shared: &Shared, store: &Store, alteration: Alteration) -> Result<(), Fault> {
    let now_ms = shared.clock.now_ms();
    match alteration {
        Alteration::Queues(names) => {
            let found = store.add_queues(&names)?;
            let mut core = shared.lock();
            for name in names {
                if let Some(found) = found.get(name.as_str()).filter(|_| core.number(&name).is_none()) {
                    core.add(Queue::new(name, kept_queue(), *found, true));
                }
            }
            shared.reroute(&core);
        }
        Alteration::Tap(tap) => {
            let found = store.add_tap(&tap)?;
            let mut core = shared.lock();
            core.add_tap(&tap, &found, now_ms);
            shared.reroute(&core);
        }
        Alteration::Remove(numbers) => {
            let names = shared.lock().remove(&numbers);
            store.remove_queues(&names)?;
        }
    }
    Ok(())
}
