//! The archive of a route, and its writer.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::archived_event::ArchivedEvent;
use super::outcome::KeepOutcome;
use super::writer::{ArchiveLine, ArchiveWriter};
use trunkline_config as config;
use trunkline_event::{Event, RouteName};

/// Events that may wait for the writer; a route holds no more.
const WAITING_MAX: usize = 1024;

/// The archive of a route. Dropping it ends its writer.
pub struct RouteArchive {
    sender: mpsc::Sender<ArchiveLine>,
    draining: CancellationToken,
    _writer: AbortOnDropHandle<()>,
}

impl RouteArchive {
    /// Starts the writer of a route. `concurrency` bounds the events of a batch. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(route: &RouteName, settings: &config::Archive, concurrency: u16) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let draining = CancellationToken::new();
        let writer = ArchiveWriter::new(route.clone(), settings.clone(), concurrency, receiver, draining.clone());
        let task = tokio::runtime::Handle::current().spawn(writer.run());
        Self { sender, draining, _writer: AbortOnDropHandle::new(task) }
    }

    /// Archives an event that was received at the RFC 3339 time `at`.
    pub async fn keep(&self, event: &Event, at: &str) -> KeepOutcome {
        let (done, answer) = oneshot::channel();
        let text = ArchivedEvent::of(event, at).line();
        match self.sender.send(ArchiveLine { text, done }).await {
            Ok(()) => answer.await.unwrap_or(KeepOutcome::Unknown),
            Err(_gone) => KeepOutcome::Unknown,
        }
    }

    /// Lets the writer write what it can, without another try after a failure.
    pub fn drain(&self) {
        self.draining.cancel();
    }
}
