//! The sessions of the store: what is in memory when it is opened, and how it is opened again after a failure.
//!
//! After a write that found no room redb only has to be opened again. After anything else nothing is certain: the file is
//! taken out of the system's cache, since that may have what the disk has not, and looked at as after a power cut. Until
//! a write and a sync have worked again, nothing is confirmed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::damage;
use super::delayed::Waiting;
use super::inbox::{Ordered, not_stored};
use super::queue::Queue;
use super::shared::{Change, Command, Core};
use super::store::{Batch, Fault, Found, Store};
use super::writer::Writer;
use super::{kept_queue, tap};
use crate::Tap;
use trunkline_config::Topology;
use trunkline_config::state_dir;
use trunkline_event::QueueName;
use trunkline_telemetry::Condition;

/// More sessions than this within a minute are told.
const SESSIONS_MAX: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);

/// What a store holds.
pub(super) struct Contents {
    pub(super) found: HashMap<String, Found>,
    pub(super) taps: Vec<Tap>,
    waiting: Waiting,
}

impl Contents {
    /// Reads what is there, and makes the queues that are wanted and missing.
    pub(super) fn of(store: &Store, wanted: &[QueueName]) -> Result<Self, Fault> {
        let (found, taps, waiting) = (store.queues(wanted)?, store.taps()?, store.waiting()?);
        let queued: u64 = found.values().map(|found| found.bytes).sum();
        store.add_live(queued.saturating_add(waiting.bytes), 0);
        Ok(Self { found, taps, waiting })
    }

    /// The state in memory that a session begins with. `clean` when the run before ended in order.
    pub(super) fn core(self, session: u64, topology: Topology, clean: bool, now_ms: u64) -> Core {
        let Waiting { retrying, next_due, next_number, .. } = self.waiting;
        let mut core = Core { session, retrying, next_due, next_delayed: next_number, topology, ..Core::default() };
        for (name, found) in self.found {
            let Ok(name) = QueueName::new(&name) else { continue };
            let (settings, reader) = match core.topology.queues.get(&name) {
                Some(settings) => (settings.clone(), None),
                None => match tap::restored(&name, &self.taps, now_ms) {
                    Some((settings, reader)) => (settings, Some(reader)),
                    None => (kept_queue(), None),
                },
            };
            let mut queue = Queue::new(name, settings, found, clean);
            queue.reader = reader;
            core.add(queue);
        }
        core
    }
}

impl Writer {
    /// Ends the session, and opens the store again as soon as that works. Gives the end that was asked for meanwhile.
    pub(super) fn recover(&mut self, fault: &Fault) -> Option<Ordered> {
        self.fail(fault);
        let mut fault = fault.clone();
        // Where there is only no room, the store can be opened at once.
        let mut is_certain = matches!(fault, Fault::NoRoom(_));
        loop {
            if !std::mem::take(&mut is_certain) {
                let pause = self.retry.failed(&fault.to_string()).unwrap_or(MINUTE);
                let pause = if matches!(fault, Fault::Damaged(_)) { Duration::MAX } else { pause };
                if let Some(end) = self.refuse_for(pause, &fault) {
                    return Some(end);
                }
            }
            let reopened = catch_unwind(AssertUnwindSafe(|| self.reopen(&fault)));
            match reopened.unwrap_or_else(|_panic| Err(Fault::Doubt("opening the store panicked".to_owned()))) {
                Ok(()) => return None,
                Err(next) => {
                    tracing::warn!(error = %next, "the embedded store cannot be opened yet");
                    self.shared.status.send_modify(|status| status.error = Some(next.to_string()));
                    self.shared.lock().failed = Some(next.to_string());
                    // What was in doubt before stays so.
                    fault = if matches!((&fault, &next), (Fault::Doubt(_), Fault::NoRoom(_))) {
                        Fault::Doubt(next.to_string())
                    } else {
                        next
                    };
                }
            }
        }
    }

    /// Nothing works any more: everybody is told.
    fn fail(&mut self, fault: &Fault) {
        let reason = fault.to_string();
        tracing::error!(reason, "the embedded store failed; it is opened again as soon as the disk lets it");
        {
            let mut core = self.shared.lock();
            core.failed = Some(reason.clone());
            // What was acknowledged stays so.
            let pending = std::mem::take(&mut core.pending);
            self.carried.extend(pending.iter().filter_map(|change| match change {
                Change::Remove { queue, position } => Some((core.queues.get(queue)?.id, *position)),
                Change::Recount { .. } | Change::GiveUp { .. } => None,
            }));
        }
        self.shared.status.send_modify(|status| {
            status.connected = false;
            status.error = Some(reason.clone());
        });
        self.shared.lock().queues.values().for_each(|queue| queue.arrivals.notify_waiters());
        let store = self.shared.store.write().unwrap_or_else(PoisonError::into_inner).take();
        if let (Fault::NoRoom(why), Some(store)) = (fault, &store) {
            self.room.ran_out(why, store.live_bytes());
        }
        // A database that failed may panic when it is closed.
        let _closed = catch_unwind(AssertUnwindSafe(|| drop(store)));
        self.ends.retain(|end| end.elapsed() < MINUTE);
        self.ends.push(Instant::now());
        if self.ends.len() > SESSIONS_MAX {
            let detail = format!("the embedded store failed {} times within a minute: {reason}", self.ends.len());
            Condition::SessionFlapping.raise_for("", detail, MINUTE);
        }
    }

    /// Answers everybody for a while, or until the end is asked for.
    fn refuse_for(&self, pause: Duration, fault: &Fault) -> Option<Ordered> {
        let begun = Instant::now();
        loop {
            let left = pause.saturating_sub(begun.elapsed());
            let command = match self.commands.recv_timeout(left.min(MINUTE)) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Some(Ordered::Abandoned),
            };
            match command {
                Command::Publish { reply, .. } => drop(reply.send(Err(not_stored(fault)))),
                Command::Alter(_, reply) => drop(reply.send(Err(fault.to_string()))),
                Command::Close(reply) => return Some(Ordered::InOrder(reply)),
                Command::Abandon => return Some(Ordered::Abandoned),
                Command::Wake | Command::Flush(_) => {}
            }
        }
    }

    fn reopen(&mut self, fault: &Fault) -> Result<(), Fault> {
        let store = match fault {
            Fault::NoRoom(_) => Store::open(&self.file)?,
            Fault::Doubt(_) | Fault::Damaged(_) => {
                let dir = self.file.parent().unwrap_or(Path::new("."));
                prove(dir).map_err(|error| Fault::Doubt(format!("writing into {}: {error}", dir.display())))?;
                forget_cache(&self.file);
                damage::open(&self.file)?
            }
        };
        // What was acknowledged before, and in doubt the proof that the disk writes again.
        let anchor = matches!(fault, Fault::Doubt(_)).then(|| self.shared.clock.anchor());
        let batch = Batch { removes: std::mem::take(&mut self.carried), anchor, ..Batch::default() };
        if !batch.is_empty()
            && let Err(fault) = store.commit(&batch, self.shared.clock.now_ms())
        {
            self.carried = batch.removes;
            return Err(fault);
        }
        self.retry.succeeded();
        self.install(store)
    }

    /// Begins a session on an open store.
    fn install(&mut self, store: Store) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let session = loop {
            let wanted: Vec<QueueName> = shared.lock().topology.queues.keys().cloned().collect();
            let contents = Contents::of(&store, &wanted)?;
            let mut core = shared.lock();
            let is_known = |name: &QueueName| contents.found.contains_key(name.as_str());
            if !core.topology.queues.keys().all(is_known) {
                // Another topology was adopted meanwhile.
                drop(core);
                store.add_live(0, store.live_bytes());
                continue;
            }
            let (topology, next_delayed) = (core.topology.clone(), core.next_delayed);
            let mut next = contents.core(core.session.saturating_add(1), topology, true, shared.clock.now_ms());
            next.next_delayed = next.next_delayed.max(next_delayed);
            for (number, before) in std::mem::take(&mut core.queues) {
                if let Some(queue) = next.queues.get_mut(&number) {
                    queue.go_on_from(before);
                }
            }
            *core = next;
            shared.reroute(&core);
            break core.session;
        };
        *shared.store.write().unwrap_or_else(PoisonError::into_inner) = Some(store);
        tracing::info!(session, "the embedded store is open again");
        shared.status.send_modify(|status| {
            status.connected = true;
            status.session = session;
            status.error = None;
        });
        Ok(())
    }
}

/// Writes and syncs a little, so that a whole store is not looked at for nothing.
fn prove(dir: &Path) -> std::io::Result<()> {
    let path = dir.join("proof");
    let written = || {
        let mut file = state_dir::file(&path)?;
        file.set_len(0)?;
        file.write_all(&[0; 4096])?;
        file.sync_data()
    };
    let proved = written();
    let _removed = std::fs::remove_file(&path);
    proved
}

/// Pages that a failed sync left in the system's cache count as written there, and are not.
fn forget_cache(file: &Path) {
    let Ok(file) = File::open(file) else { return };
    // What is still to be written goes first; whether it could be is seen when it is read.
    let _failed = file.sync_data();
    let _told = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
}
