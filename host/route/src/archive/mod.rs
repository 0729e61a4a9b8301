//! Where an archive route keeps its events: gzip files of JSON Lines, in a folder or in object storage.
//!
//! Promises: [`Archive::keep`] answers when the event is where it stays (synced, or stored by the other side), and not
//! before. A store that fails is tried again for as long as the route runs, since an event that is given up is not
//! archived; a route that ends lets go of what waits for that, and the broker has it again. What was written before a
//! crash and never answered is there twice, under the same id. Knows no broker.

mod entry;
mod folder;
mod objects;
mod read;
mod writer;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use entry::Entry;
pub use read::{Batches, ReadError, open};

use trunkline_config as config;
use trunkline_event::{Event, RouteName};
use writer::{Line, Writer};

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

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is where it stays.
    Stored,
    /// The route ends while the store fails: it is for the broker to give it to the next.
    LetGo,
    /// The writer is gone, and nobody knows whether it was written.
    Unknown,
}

/// The archive of a route. Dropping it ends its writer.
pub struct Archive {
    sender: mpsc::Sender<Line>,
    draining: CancellationToken,
    _writer: AbortOnDropHandle<()>,
}

impl Archive {
    /// Begins to write for a route that has so many events in work at a time, which is a batch at most. Must be called
    /// within a runtime.
    #[must_use]
    pub fn start(route: &RouteName, settings: &config::Archive, concurrency: u16) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let draining = CancellationToken::new();
        let writer = Writer::new(route.clone(), settings.clone(), concurrency, receiver, draining.clone());
        let task = tokio::runtime::Handle::current().spawn(writer.run());
        Self { sender, draining, _writer: AbortOnDropHandle::new(task) }
    }

    /// Writes an event.
    pub async fn keep(&self, event: &Event, at: &str) -> Kept {
        let (done, answer) = oneshot::channel();
        let text = Entry::of(event, at).line();
        match self.sender.send(Line { text, done }).await {
            Ok(()) => answer.await.unwrap_or(Kept::Unknown),
            Err(_gone) => Kept::Unknown,
        }
    }

    /// What can be written still is; what has failed is not tried again.
    pub fn drain(&self) {
        self.draining.cancel();
    }
}
