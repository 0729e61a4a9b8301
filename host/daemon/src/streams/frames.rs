//! The channel to the connection of a stream. It is bounded by bytes too, because an event may be as large as a body.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use trunkline_http::StreamItem;

/// An item in the channel, with its share of the bytes.
pub(super) struct StreamFrame {
    pub(super) item: StreamItem,
    _share: OwnedSemaphorePermit,
}

/// The sending end.
pub(super) struct Frames {
    sender: mpsc::Sender<StreamFrame>,
    free_bytes: Arc<Semaphore>,
    capacity_bytes: usize,
}

/// The result of sending a frame.
pub(super) enum FrameOutcome {
    /// The frame is in the channel.
    Sent,
    /// The connection took no byte in time.
    Stalled,
    /// The connection is closed.
    Closed,
}

impl Frames {
    pub(super) fn new(frames_max: usize, capacity_bytes: usize) -> (Self, mpsc::Receiver<StreamFrame>) {
        let (sender, receiver) = mpsc::channel(frames_max);
        let free_bytes = Arc::new(Semaphore::new(capacity_bytes));
        (Self { sender, free_bytes, capacity_bytes }, receiver)
    }

    /// Waits for free bytes. A frame larger than the whole channel waits until the channel is empty.
    pub(super) async fn send(&self, item: StreamItem, bytes: usize, within: Duration) -> FrameOutcome {
        let share = u32::try_from(bytes.clamp(1, self.capacity_bytes)).unwrap_or(u32::MAX);
        let sending = async {
            // The semaphore is never closed.
            let share = self.free_bytes.clone().acquire_many_owned(share).await.ok()?;
            self.sender.send(StreamFrame { item, _share: share }).await.ok()
        };
        tokio::select! {
            biased;
            () = self.sender.closed() => FrameOutcome::Closed,
            sent = tokio::time::timeout(within, sending) => match sent {
                Ok(Some(())) => FrameOutcome::Sent,
                Ok(None) => FrameOutcome::Closed,
                Err(_elapsed) => FrameOutcome::Stalled,
            },
        }
    }

    /// Returns when the connection is closed.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
