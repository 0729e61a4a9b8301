//! Opening the store again after a failure, which begins another session.
//!
//! After a write on a full disk redb only has to be opened again. After any other failure the file is removed from the
//! system's cache, because the cache may hold pages that are not on the disk, and then checked as after a power cut.
//! Nothing is confirmed until a write and a sync have worked again.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::commands::{Shutdown, WriterCommand, write_error};
use super::contents::StoreContents;
use super::thread::StoreWriter;
use crate::embedded::damage;
use crate::embedded::state::QueueChange;
use crate::embedded::store::{Fault, LastRun, MessageStore, WriteBatch};
use crate::guard::guarded;
use trunkline_config::state_dir;
use trunkline_event::QueueName;

const MINUTE: Duration = Duration::from_secs(60);

impl StoreWriter {
    /// Ends the session, and opens the store again as soon as possible. Returns the shutdown that was requested meanwhile.
    pub(crate) fn recover(&mut self, fault: &Fault) -> Option<Shutdown> {
        self.fail(fault);
        let mut fault = fault.clone();
        // After a write on a full disk the store can be opened at once.
        let mut may_open_at_once = matches!(fault, Fault::NoRoom(_));
        loop {
            if !std::mem::take(&mut may_open_at_once) {
                let pause = self.retry.failed(&fault.to_string()).unwrap_or(MINUTE);
                let pause = if matches!(fault, Fault::Damaged(_)) { Duration::MAX } else { pause };
                if let Some(shutdown) = self.refuse_for(pause, &fault) {
                    return Some(shutdown);
                }
            }
            let reopened = guarded(|| self.reopen(&fault));
            match reopened.map_err(Fault::from) {
                Ok(()) => return None,
                Err(next) => {
                    tracing::warn!(error = %next, "the embedded store cannot be opened yet; the broker confirms no message until the store is open");
                    self.shared.status.send_modify(|status| status.error = Some(next.to_string()));
                    self.shared.lock().failed = Some(next.to_string());
                    // A doubt stays until the file was checked.
                    fault = if matches!((&fault, &next), (Fault::Doubt(_), Fault::NoRoom(_))) {
                        Fault::Doubt(next.to_string())
                    } else {
                        next
                    };
                }
            }
        }
    }

    /// Ends the session: closes the store, and wakes every subscription.
    fn fail(&mut self, fault: &Fault) {
        let reason = fault.to_string();
        tracing::error!(
            reason,
            "the embedded store failed; the broker confirms no message until the store is open again"
        );
        {
            let mut state = self.shared.lock();
            state.failed = Some(reason.clone());
            // An acknowledged message stays acknowledged.
            let pending = std::mem::take(&mut state.pending);
            self.unwritten_acks.extend(pending.iter().filter_map(|change| match change {
                QueueChange::Remove { queue, position } => Some((state.queues.get(queue)?.id, *position)),
                QueueChange::Recount { .. } | QueueChange::GiveUp { .. } => None,
            }));
        }
        self.shared.status.send_modify(|status| {
            status.connected = false;
            status.error = Some(reason.clone());
        });
        self.shared.lock().queues.values().for_each(|queue| queue.arrivals.notify_waiters());
        let store = self.shared.store.write().take();
        if let (Fault::NoRoom(why), Some(store)) = (fault, &store) {
            self.space.ran_out(why, store.record_bytes());
        }
        // A failed database may panic when it is closed.
        let _closed = guarded(|| {
            drop(store);
            Ok::<(), Infallible>(())
        });
        self.flapping.ended(&reason);
    }

    /// Answers commands with a fault for a time, or until a shutdown is requested.
    fn refuse_for(&self, pause: Duration, fault: &Fault) -> Option<Shutdown> {
        let begun = Instant::now();
        loop {
            let left = pause.saturating_sub(begun.elapsed());
            let command = match self.commands.recv_timeout(left.min(MINUTE)) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Some(Shutdown::Abandon),
            };
            match command {
                WriterCommand::Write(write) => drop(write.reply.send(Err(write_error(fault)))),
                WriterCommand::ChangeQueues(change) => drop(change.reply.send(Err(fault.to_string()))),
                WriterCommand::Close(reply) => return Some(Shutdown::Clean(reply)),
                WriterCommand::Abandon => return Some(Shutdown::Abandon),
                WriterCommand::Wake | WriterCommand::Flush(_) => {}
            }
        }
    }

    /// Opens the store again after a fault, and begins the next session.
    fn reopen(&mut self, fault: &Fault) -> Result<(), Fault> {
        let store = match fault {
            Fault::NoRoom(_) => MessageStore::open(&self.file)?,
            Fault::Doubt(_) | Fault::Damaged(_) => {
                let dir = self.file.parent().unwrap_or(Path::new("."));
                probe_disk(dir)
                    .map_err(|error| Fault::Doubt(format!("writing into {} failed: {error}", dir.display())))?;
                drop_page_cache(&self.file);
                damage::open(&self.file)?
            }
        };
        // Removes acknowledged messages. After a doubt the anchor proves that the disk takes writes again.
        let anchor = matches!(fault, Fault::Doubt(_)).then(|| self.shared.clock.anchor());
        let batch = WriteBatch { removes: std::mem::take(&mut self.unwritten_acks), anchor, ..WriteBatch::default() };
        if !batch.is_empty()
            && let Err(fault) = store.commit(&batch, self.shared.clock.now_ms())
        {
            self.unwritten_acks = batch.removes;
            return Err(fault);
        }
        self.retry.succeeded();
        self.install(store)
    }

    /// Begins the next session on an open store.
    fn install(&mut self, store: MessageStore) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let session = loop {
            let wanted: Vec<QueueName> = shared.lock().topology.queues.keys().cloned().collect();
            let contents = StoreContents::of(&store, &wanted)?;
            let mut state = shared.lock();
            let is_known = |name: &QueueName| contents.queues.contains_key(name.as_str());
            if !state.topology.queues.keys().all(is_known) {
                // Another topology was adopted meanwhile.
                drop(state);
                store.add_record_bytes(0, store.record_bytes());
                continue;
            }
            let (topology, next_delayed) = (state.topology.clone(), state.next_delayed);
            let mut next =
                contents.into_state(state.session.saturating_add(1), topology, LastRun::Clean, shared.clock.now_ms());
            next.next_delayed = next.next_delayed.max(next_delayed);
            for (number, before) in std::mem::take(&mut state.queues) {
                if let Some(queue) = next.queues.get_mut(&number) {
                    queue.continue_from(before);
                }
            }
            *state = next;
            shared.reroute(&state);
            break state.session;
        };
        *shared.store.write() = Some(store);
        tracing::info!(session, "the embedded store is open again; the broker confirms messages again");
        shared.status.send_modify(|status| {
            status.connected = true;
            status.session = session;
            status.error = None;
        });
        Ok(())
    }
}

/// Writes and syncs a small file, so that the whole store is not checked while the disk takes no writes.
fn probe_disk(dir: &Path) -> std::io::Result<()> {
    let path = dir.join("proof");
    let written = || {
        let mut file = state_dir::file(&path)?;
        file.set_len(0)?;
        file.write_all(&[0; 4096])?;
        file.sync_data()
    };
    let result = written();
    let _removed = std::fs::remove_file(&path);
    result
}

/// Removes a file from the system's cache. After a failed sync the cache takes pages for written that are not.
fn drop_page_cache(file: &Path) {
    let Ok(file) = File::open(file) else { return };
    // Pages that are not written yet are written first. A failure shows when the file is read.
    let _ignored = file.sync_data();
    let _advice = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
}
