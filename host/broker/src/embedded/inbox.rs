//! What waits for the writer: everything that came meanwhile shares the next transaction.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::shared::{Alteration, Command, NotStored, Work};
use super::store::Fault;

/// Messages that share one transaction.
const BATCH_MAX: usize = 4096;
/// Bytes that share one transaction.
const BATCH_MAX_BYTES: usize = 16 << 20;

type Reply = oneshot::Sender<Result<(), NotStored>>;

/// Who waits for a publish, the answer, and the place it held.
pub(super) type Planned = (Reply, Result<(), NotStored>, OwnedSemaphorePermit);

/// What waits for one transaction.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) publishes: Vec<(Work, Reply, OwnedSemaphorePermit)>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    pub(super) alterations: Vec<(Alteration, oneshot::Sender<Result<(), String>>)>,
    messages: usize,
    bytes: usize,
    pub(super) end: Option<Ordered>,
    /// Nothing came.
    pub(super) is_idle: bool,
}

/// The end that somebody asked for.
pub(super) enum Ordered {
    InOrder(oneshot::Sender<()>),
    Abandoned,
}

impl Waiting {
    /// Waits for the first command, and takes what came with it.
    pub(super) fn collect(commands: &Receiver<Command>, wait: Duration) -> Self {
        let mut waiting = Self::default();
        let mut next = match commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Abandon),
        };
        waiting.is_idle = next.is_none() && wait > Duration::ZERO;
        while let Some(command) = next.take() {
            waiting.add(command);
            let is_full = waiting.messages >= BATCH_MAX || waiting.bytes >= BATCH_MAX_BYTES;
            if !is_full && waiting.end.is_none() {
                next = commands.try_recv().ok();
            }
        }
        waiting
    }

    fn add(&mut self, command: Command) {
        match command {
            Command::Publish { work, reply, _place } => {
                self.messages = self.messages.saturating_add(work.messages());
                self.bytes = self.bytes.saturating_add(work.bytes());
                self.publishes.push((work, reply, _place));
            }
            Command::Wake => {}
            Command::Flush(reply) => self.flushes.push(reply),
            Command::Alter(alteration, reply) => self.alterations.push((alteration, reply)),
            Command::Close(reply) => self.end = Some(Ordered::InOrder(reply)),
            Command::Abandon => self.end = Some(Ordered::Abandoned),
        }
    }

    /// Nothing of it is stored.
    pub(super) fn refuse(&mut self, fault: &Fault) {
        for (_, reply, _place) in self.publishes.drain(..) {
            let _gone = reply.send(Err(not_stored(fault)));
        }
        for (_, reply) in self.alterations.drain(..) {
            let _gone = reply.send(Err(fault.to_string()));
        }
        self.flushes.clear();
    }
}

/// Why a publish is not stored after that.
pub(super) fn not_stored(fault: &Fault) -> NotStored {
    match fault {
        Fault::NoRoom(why) => NotStored::NoRoom(why.clone()),
        Fault::Doubt(why) | Fault::Damaged(why) => NotStored::Lost(why.clone()),
    }
}
