//! Where an archive route keeps its events: gzip files of JSON Lines, in a folder or in object storage.
//!
//! Promises: [`Archive::keep`] answers when the event is where it stays (synced, or stored by the other side), and not
//! before. A store that fails is tried again for as long as the route runs, since an event that is given up is not
//! archived. What was written before a crash and never answered is there twice, under the same id. Knows no broker.

mod entry;
mod folder;
mod objects;
mod read;
mod writer;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

pub use entry::Entry;
pub use read::{Batches, ReadError, open};

use crate::config;
use crate::event::{Event, RouteName};
use writer::{Kept, Writer};

/// Events that wait for the writer; a route holds as many at most.
const WAITING_MAX: usize = 1024;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system's words.
    #[error("cannot write {place}: {reason}")]
    Write {
        /// Where.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The settings do not make a client.
    #[error("the archive's store: {0}")]
    Store(String),
}

/// The archive of a route. Dropping it ends its writer.
pub struct Archive {
    sender: mpsc::Sender<Kept>,
    _writer: AbortOnDropHandle<()>,
}

impl Archive {
    /// Begins to write for a route that has so many events in work at a time, which is a batch at most. Must be called
    /// within a runtime.
    #[must_use]
    pub fn start(route: &RouteName, settings: &config::Archive, concurrency: u16) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let writer = Writer::new(route.clone(), settings.clone(), concurrency, receiver);
        let task = tokio::runtime::Handle::current().spawn(writer.run());
        Self { sender, _writer: AbortOnDropHandle::new(task) }
    }

    /// Writes an event; false when the writer is gone, and nobody knows whether it was written.
    pub async fn keep(&self, event: &Event, at: &str) -> bool {
        let (done, answer) = oneshot::channel();
        let line = Entry::of(event, at).line();
        self.sender.send(Kept { line, done }).await.is_ok() && answer.await.is_ok()
    }
}
