//! Commands to the writer. All commands that arrived meanwhile share the next transaction.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::EventStreamQueues;
use crate::embedded::plan::{WriteError, WriteRequest};
use crate::embedded::store::Fault;
use trunkline_event::QueueName;

/// Most messages that share one transaction.
pub(crate) const BATCH_MAX: usize = 4096;
/// Most bytes of bodies that share one transaction.
const BATCH_MAX_BYTES: usize = 16 << 20;

/// A command to the writer.
pub(crate) enum WriterCommand {
    /// Store a request and answer.
    Write(PendingWrite),
    /// Look for pending changes of the state, and for queues that have to be read.
    Wake,
    /// Answer when everything that is pending is on disk.
    Flush(oneshot::Sender<()>),
    /// Add or remove queues and answer.
    ChangeQueues(PendingQueueChange),
    /// Write everything that is pending, close the store and answer.
    Close(oneshot::Sender<()>),
    /// End without closing the store, as a crash would.
    Abandon,
}

/// A request that waits for its transaction.
pub(crate) struct PendingWrite {
    pub(crate) request: WriteRequest,
    pub(crate) reply: oneshot::Sender<Result<(), WriteError>>,
    /// Bounds the requests that wait; released with the answer.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A request that is planned, and its result if the transaction succeeds.
pub(crate) struct PlannedWrite {
    pub(crate) reply: oneshot::Sender<Result<(), WriteError>>,
    pub(crate) result: Result<(), WriteError>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// A change of the set of queues that waits for the writer.
pub(crate) struct PendingQueueChange {
    pub(crate) change: QueueSetChange,
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// A change of the set of queues.
pub(crate) enum QueueSetChange {
    /// Make the queues that are missing.
    Add(Vec<QueueName>),
    /// Make the queues and bindings of a stream.
    AddStream(Box<EventStreamQueues>),
    /// Remove queues of streams and their messages, by number. No binding leads to them any more.
    Remove(Vec<usize>),
}

/// The requested end of the writer.
pub(crate) enum Shutdown {
    /// The store is closed, and the sender is notified.
    Clean(oneshot::Sender<()>),
    /// The store is left as after a crash.
    Abandon,
}

/// The commands that share one transaction.
#[derive(Default)]
pub(crate) struct CommandBatch {
    pub(crate) writes: Vec<PendingWrite>,
    pub(crate) flushes: Vec<oneshot::Sender<()>>,
    pub(crate) queue_changes: Vec<PendingQueueChange>,
    messages: usize,
    bytes: usize,
    pub(crate) shutdown: Option<Shutdown>,
    /// Whether no command arrived within the wait.
    pub(crate) is_idle: bool,
}

impl CommandBatch {
    /// Waits for a first command, and takes the commands that are there then.
    pub(crate) fn collect(commands: &Receiver<WriterCommand>, wait: Duration) -> Self {
        let mut batch = Self::default();
        let mut next = match commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(WriterCommand::Abandon),
        };
        batch.is_idle = next.is_none() && wait > Duration::ZERO;
        while let Some(command) = next.take() {
            batch.add(command);
            let is_full = batch.messages >= BATCH_MAX || batch.bytes >= BATCH_MAX_BYTES;
            if !is_full && batch.shutdown.is_none() {
                next = commands.try_recv().ok();
            }
        }
        batch
    }

    fn add(&mut self, command: WriterCommand) {
        match command {
            WriterCommand::Write(write) => {
                self.messages = self.messages.saturating_add(write.request.messages());
                self.bytes = self.bytes.saturating_add(write.request.bytes());
                self.writes.push(write);
            }
            WriterCommand::Wake => {}
            WriterCommand::Flush(reply) => self.flushes.push(reply),
            WriterCommand::ChangeQueues(change) => self.queue_changes.push(change),
            WriterCommand::Close(reply) => self.shutdown = Some(Shutdown::Clean(reply)),
            WriterCommand::Abandon => self.shutdown = Some(Shutdown::Abandon),
        }
    }

    /// Answers every command that is left with a fault. A flush sees its sender dropped.
    pub(crate) fn refuse(&mut self, fault: &Fault) {
        for PendingWrite { reply, .. } in self.writes.drain(..) {
            let _closed = reply.send(Err(write_error(fault)));
        }
        for PendingQueueChange { reply, .. } in self.queue_changes.drain(..) {
            let _closed = reply.send(Err(fault.to_string()));
        }
        self.flushes.clear();
    }
}

/// The error of a request that a fault prevented.
pub(crate) fn write_error(fault: &Fault) -> WriteError {
    match fault {
        Fault::NoRoom(why) => WriteError::NoRoom(why.clone()),
        Fault::Doubt(why) | Fault::Damaged(why) => WriteError::Lost(why.clone()),
    }
}
