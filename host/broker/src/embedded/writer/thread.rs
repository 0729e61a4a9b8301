//! The thread that reads and writes the store. It writes all waiting commands in one transaction and answers them after
//! the commit, so that many publishes and acknowledgements share one sync. Between transactions it reads ahead.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::commands::{
    CommandBatch, PendingQueueChange, PendingWrite, PlannedWrite, QueueSetChange, Shutdown, WriterCommand, write_error,
};
use super::compaction::Compaction;
use super::queue_changes::change_queues;
use super::read_ahead::{ReadAheadThread, read_ahead};
use super::shared::BrokerShared;
use super::space::DiskSpace;
use crate::dead_letter::delayed_dead_letter_queue;
use crate::embedded::plan::{Moves, TransactionPlan, WriteError, disk_bytes, may_give_up};
use crate::embedded::state::{QueueChange, QueueHead, SessionState};
use crate::embedded::store::{ClockAnchor, Fault, MessageStore};
use crate::flapping::FlappingDetector;
use crate::guard::guarded;
use trunkline_config::Overflow;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{Loop, RetryLoop};

/// Longest wait for a command. After this time the writer notices that the machine slept.
const IDLE: Duration = Duration::from_secs(60);

/// Parts with which the writer begins.
pub(crate) struct WriterSetup {
    pub(crate) shared: Arc<BrokerShared>,
    pub(crate) commands: Receiver<WriterCommand>,
    /// The store's file.
    pub(crate) file: PathBuf,
    pub(crate) space: DiskSpace,
    /// The anchor of the clock that is in the store.
    pub(crate) anchor: Option<ClockAnchor>,
}

/// Starts the writer and its read-ahead thread.
pub(crate) fn start(setup: WriterSetup) -> std::io::Result<JoinHandle<()>> {
    let WriterSetup { shared, commands, file, space, anchor } = setup;
    let retry = RetryLoop::new(Loop::StoreOpen, "");
    let (unwritten_acks, flapping) = (Vec::new(), FlappingDetector::new("sessions of the embedded store"));
    let (read_ahead_thread, compaction) = (ReadAheadThread::start(&shared)?, Compaction::default());
    let writer = StoreWriter {
        shared,
        commands,
        file,
        space,
        anchor,
        retry,
        unwritten_acks,
        flapping,
        read_ahead_thread,
        compaction,
    };
    std::thread::Builder::new().name("trunkline-store".to_owned()).spawn(move || writer.run())
}

/// The owner of the store.
pub(crate) struct StoreWriter {
    pub(crate) shared: Arc<BrokerShared>,
    pub(crate) commands: Receiver<WriterCommand>,
    pub(crate) file: PathBuf,
    pub(crate) space: DiskSpace,
    anchor: Option<ClockAnchor>,
    /// Tries to open the store again since it failed.
    pub(crate) retry: RetryLoop,
    /// Messages that were acknowledged and are still on disk: id of the queue and position. The next session removes them.
    pub(crate) unwritten_acks: Vec<(u32, u64)>,
    /// Raises a condition when sessions end too often.
    pub(crate) flapping: FlappingDetector,
    read_ahead_thread: ReadAheadThread,
    compaction: Compaction,
}

/// The end of a session.
enum SessionEnd {
    Shutdown(Shutdown),
    Failed(Fault),
}

impl StoreWriter {
    fn run(mut self) {
        loop {
            match self.serve() {
                SessionEnd::Shutdown(Shutdown::Abandon) => return,
                SessionEnd::Shutdown(Shutdown::Clean(closed)) => return self.close(closed),
                SessionEnd::Failed(fault) => match self.recover(&fault) {
                    Some(Shutdown::Clean(closed)) => return self.close(closed),
                    Some(Shutdown::Abandon) => return,
                    None => {}
                },
            }
        }
    }

    /// Serves one session, from the open store to its end.
    fn serve(&mut self) -> SessionEnd {
        let mut wait = Duration::ZERO;
        loop {
            let mut commands = CommandBatch::collect(&self.commands, wait);
            match commands.shutdown {
                Some(Shutdown::Clean(_)) => self.give_back_all(),
                Some(Shutdown::Abandon) => return SessionEnd::Shutdown(Shutdown::Abandon),
                None => {}
            }
            let ran = guarded(|| self.run_transaction(&mut commands));
            match ran.map_err(Fault::from) {
                Ok(next) => wait = next,
                Err(fault) => {
                    commands.refuse(&fault);
                    return commands.shutdown.map_or(SessionEnd::Failed(fault), SessionEnd::Shutdown);
                }
            }
            commands.flushes.drain(..).for_each(|flush| {
                let _closed = flush.send(());
            });
            if let Some(shutdown) = commands.shutdown {
                return SessionEnd::Shutdown(shutdown);
            }
        }
    }

    /// Writes one transaction, answers, and reads ahead. Returns the time until something is due.
    fn run_transaction(&mut self, commands: &mut CommandBatch) -> Result<Duration, Fault> {
        self.shared.woken();
        let shared = self.shared.clone();
        if commands.is_idle {
            self.compact()?;
        }
        let guard = shared.store();
        let Some(store) = guard.as_ref() else { return Err(Fault::Doubt("the store is closed".to_owned())) };
        let recheck = self.space.recheck();
        let now_ms = shared.clock.now_ms();
        let to_read = self.write(store, commands, now_ms)?;
        for PendingQueueChange { change, reply } in commands.queue_changes.drain(..) {
            let changed = change_queues(&shared, store, change);
            let _closed = reply.send(changed.as_ref().map_err(ToString::to_string).copied());
            changed?;
        }
        let has_more = read_ahead(&shared, store, &self.read_ahead_thread, to_read)?;
        if let Some((length, _)) = store.size() {
            shared.store_bytes.store(length, std::sync::atomic::Ordering::Relaxed);
        }
        let wait = if has_more { Duration::ZERO } else { self.wait(store) };
        Ok(recheck.map_or(wait, |recheck| wait.min(recheck)))
    }

    /// Writes one transaction and answers. Returns the queues whose first message has to be read.
    fn write(
        &mut self,
        store: &MessageStore,
        commands: &mut CommandBatch,
        now_ms: u64,
    ) -> Result<BTreeSet<usize>, Fault> {
        let shared = self.shared.clone();
        let moves = if self.space.allows_moves() { Moves::Allowed } else { Moves::Postponed };
        let is_due = moves == Moves::Allowed && shared.lock().next_due.is_some_and(|due| due <= now_ms);
        let due = if is_due { store.due(now_ms)? } else { Vec::new() };
        if may_give_up(&due) && shared.lock().number(&delayed_dead_letter_queue()).is_none() {
            change_queues(&shared, store, QueueSetChange::Add(vec![delayed_dead_letter_queue()]))?;
        }
        let has_messages = commands.writes.iter().any(|write| write.request.messages() > 0);
        let available = if has_messages { self.space.available_bytes(store) } else { u64::MAX };
        let mut plan = TransactionPlan::new(shared.routing.load_full(), now_ms, moves);
        plan.delays_changed = is_due;
        let planned = {
            let mut state = shared.lock();
            plan.changes(&mut state, due);
            self.plan_writes(&mut state, &mut plan, commands, available)
        };
        let written = self.anchor;
        let is_anchor_due = self.space.allows_moves() && written.is_none_or(|written| shared.clock.is_stale(written));
        plan.batch.anchor = is_anchor_due.then(|| shared.clock.anchor());
        if !plan.batch.is_empty() {
            let (started, changes) = (Instant::now(), plan.batch.len());
            if let Err(fault) = store.commit(&plan.batch, now_ms) {
                self.unwritten_acks.append(&mut plan.acknowledged);
                planned.into_iter().for_each(|write| drop(write.reply.send(Err(write_error(&fault)))));
                return Err(fault);
            }
            telemetry::store_committed(started.elapsed(), changes);
            self.anchor = plan.batch.anchor.or(written);
        }
        let delays_changed = plan.delays_changed;
        let to_read = {
            let mut state = shared.lock();
            let to_read = std::mem::take(&mut plan.to_read);
            plan.apply(&mut state);
            to_read
        };
        planned.into_iter().for_each(|write| drop(write.reply.send(write.result)));
        if delays_changed {
            let next_due = store.first_due()?;
            shared.lock().next_due = next_due;
        }
        Ok(to_read)
    }

    /// Plans the waiting requests as far as the bytes that are available on the disk suffice.
    fn plan_writes(
        &mut self,
        state: &mut SessionState,
        plan: &mut TransactionPlan,
        commands: &mut CommandBatch,
        mut available: u64,
    ) -> Vec<PlannedWrite> {
        let mut planned = Vec::with_capacity(commands.writes.len());
        for PendingWrite { request, reply, permit } in commands.writes.drain(..) {
            let bytes = if request.messages() > 0 { disk_bytes(&request) } else { 0 };
            let result = if bytes > available {
                Err(WriteError::NoRoom(self.space.refuse()))
            } else {
                available -= bytes;
                plan.write(state, request)
            };
            planned.push(PlannedWrite { reply, result, _permit: permit });
        }
        planned
    }

    /// The time until something expires or is due, at most [`IDLE`].
    fn wait(&self, store: &MessageStore) -> Duration {
        let now_ms = self.shared.clock.now_ms();
        let mut wait = self.compaction.wait(store).unwrap_or(IDLE).min(IDLE);
        if !self.space.allows_moves() {
            return wait;
        }
        let state = self.shared.lock();
        let mut until = |due: u64| wait = wait.min(Duration::from_millis(due.saturating_sub(now_ms)));
        state.next_due.into_iter().for_each(&mut until);
        for queue in state.queues.values() {
            let over = queue.settings.max_length.filter(|_| queue.settings.overflow == Overflow::DropHead);
            let give_up_not_before = queue.give_up_not_before().max(now_ms);
            let head = queue.head();
            if over.is_some_and(|max| queue.ready() > u64::from(max)) && head != QueueHead::OnDisk {
                until(give_up_not_before);
            }
            match head {
                QueueHead::InMemory(expiry) => expiry.into_iter().for_each(|due| until(due.max(give_up_not_before))),
                // The read-ahead thread wakes the writer.
                QueueHead::OnDisk | QueueHead::Empty => {}
            }
        }
        wait
    }

    /// Cuts the file, if that is worth it.
    fn compact(&mut self) -> Result<(), Fault> {
        let is_worth_it = self.shared.store().as_ref().is_some_and(|store| self.compaction.wait(store).is_some());
        if !is_worth_it || self.space.is_short() {
            return Ok(());
        }
        let mut store = self.shared.store.write();
        store.as_mut().map_or(Ok(()), |store| self.compaction.run(store))
    }

    /// Returns all held messages to their queues, so that the next run delivers them as redelivered.
    fn give_back_all(&self) {
        let mut state = self.shared.lock();
        let mut changes = Vec::new();
        for (number, queue) in &mut state.queues {
            for entry in queue.take_back_all() {
                changes.push(QueueChange::Recount { queue: *number, entry: entry.clone() });
                queue.put_back(entry);
            }
        }
        state.pending.append(&mut changes);
    }

    /// Closes the store cleanly.
    fn close(self, closed: oneshot::Sender<()>) {
        self.shared.lock().failed = Some("the store is closed".to_owned());
        self.shared.status.send_modify(|status| status.connected = false);
        let store = self.shared.store.write().take();
        if let Some(store) = store
            && let Err(error) = store.end(Some(self.shared.clock.anchor()))
        {
            tracing::warn!(%error, "the embedded store could not be marked as closed; the next start counts this stop as a crash");
        }
        let _closed = closed.send(());
    }
}
