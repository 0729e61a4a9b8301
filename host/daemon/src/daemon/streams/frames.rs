//! The way to a stream's connection: bounded by bytes too, since an event may be as large as a body may be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use trunkline_http::StreamItem;

/// What is on its way, with its share of the room.
pub(super) struct Frame {
    pub(super) item: StreamItem,
    _share: OwnedSemaphorePermit,
}

/// The near end.
pub(super) struct Frames {
    sender: mpsc::Sender<Frame>,
    room: Arc<Semaphore>,
    room_bytes: usize,
}

/// What became of a frame.
pub(super) enum Handed {
    /// The connection has it, or has it next.
    Over,
    /// It takes nothing.
    Stalled,
    /// It is closed.
    Closed,
}

impl Frames {
    pub(super) fn new(frames_max: usize, room_bytes: usize) -> (Self, mpsc::Receiver<Frame>) {
        let (sender, receiver) = mpsc::channel(frames_max);
        (Self { sender, room: Arc::new(Semaphore::new(room_bytes)), room_bytes }, receiver)
    }

    /// Waits for room; one that is larger than all of it waits until nothing else is there.
    pub(super) async fn send(&self, item: StreamItem, bytes: usize, within: Duration) -> Handed {
        let share = u32::try_from(bytes.clamp(1, self.room_bytes)).unwrap_or(u32::MAX);
        let sending = async {
            // Nobody closes the room.
            let share = self.room.clone().acquire_many_owned(share).await.ok()?;
            self.sender.send(Frame { item, _share: share }).await.ok()
        };
        tokio::select! {
            biased;
            () = self.sender.closed() => Handed::Closed,
            sent = tokio::time::timeout(within, sending) => match sent {
                Ok(Some(())) => Handed::Over,
                Ok(None) => Handed::Closed,
                Err(_elapsed) => Handed::Stalled,
            },
        }
    }

    /// Returns when the connection is closed.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
