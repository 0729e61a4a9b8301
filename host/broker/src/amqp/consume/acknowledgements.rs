//! Acknowledgements of one channel, sent in batches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ack_batch::{AckBatch, AckFrame, SingleFrames};
use crate::Error;
use trunkline_telemetry::wait;

/// Acknowledgements that make a batch full, at most.
const BATCH_MAX: usize = 64;
/// Acknowledgements of a full batch from which on a delivery may wait for a frame that it shares with others.
const SHARED_MIN: usize = 8;
/// A batch is sent when no acknowledgement was added for this time.
const QUIET_FOR: Duration = Duration::from_millis(2);
/// The longest time that an acknowledgement waits for others. Behind a delivery that is not done, an acknowledgement may wait for
/// this time twice, because it may be in the next batch. A quorum queue handles each batch as one entry of its log, so larger
/// batches cost the broker less.
const BATCH_WITHIN: Duration = Duration::from_millis(20);

/// The deliveries of a channel that are done and not acknowledged yet. Nothing else acknowledges on the channel.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    channel: Channel,
    batch: Mutex<AckBatch>,
    /// Acknowledgements that make a batch full.
    full: AtomicUsize,
    /// Notified by the first acknowledgement of a batch, and by the one that makes a small batch full. A large batch is sent by the
    /// acknowledgement that makes it full.
    added: Notify,
}

/// The handle by which a delivery is acknowledged on its channel.
#[derive(Debug)]
pub struct AmqpAckHandle {
    pub(crate) tag: u64,
    /// Does not keep the channel open: a subscription that is dropped gives its messages back.
    pub(crate) acknowledgements: Weak<Acknowledgements>,
}

impl AmqpAckHandle {
    /// Acknowledges with the next batch. After the end of the session nothing is sent, and the broker delivers the message
    /// again.
    pub fn ack(self) {
        if let Some(acknowledgements) = self.acknowledgements.upgrade() {
            acknowledgements.add(self.tag);
        }
    }

    /// Acknowledges, and returns when the client has the frame. The broker gets this frame before every later one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session is over.
    pub fn ack_now(self) -> Result<(), Error> {
        let over = || Error::Lost("the session is over".to_owned());
        let acknowledgements = self.acknowledgements.upgrade().ok_or_else(over)?;
        acknowledgements.batch.lock().add(self.tag);
        acknowledgements.flush()
    }
}

impl Acknowledgements {
    /// The acknowledgements of a channel whose consumer has this prefetch.
    pub(crate) fn new(channel: Channel, prefetch: u16) -> Self {
        let full = AtomicUsize::new(full(prefetch));
        Self { channel, batch: Mutex::default(), full, added: Notify::new() }
    }

    /// The consumer has another prefetch from now on.
    pub(crate) fn resize(&self, prefetch: u16) {
        self.full.store(full(prefetch), Ordering::Relaxed);
    }

    fn add(&self, tag: u64) {
        let waiting = {
            let mut batch = self.batch.lock();
            batch.add(tag);
            batch.len()
        };
        let full = self.full.load(Ordering::Relaxed);
        if waiting >= full && full >= SHARED_MIN {
            // A lost session is noticed by its subscription, and the broker delivers the messages again.
            let _sent = self.send_group();
        } else if waiting == 1 || waiting == full {
            // A route with a prefetch of 1 is about to begin a new consumer. The broker would take back a message that it sends
            // before that.
            self.added.notify_one();
        }
    }

    /// Gives the client the frames of a batch. Deliveries behind one that is not done may wait for the next batch.
    ///
    /// # Errors
    /// As [`Acknowledgements::flush`].
    fn send_group(&self) -> Result<(), Error> {
        // A small group is full at once, so its deliveries would wait for each other.
        let is_small = self.full.load(Ordering::Relaxed) < SHARED_MIN;
        self.send_frames(if is_small { SingleFrames::All } else { SingleFrames::Late })
    }

    /// Gives the client the frames of all acknowledgements. The client sends frames in this order.
    ///
    /// # Errors
    /// [`Error::Lost`] when the channel is closed. The broker delivers the messages again.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.send_frames(SingleFrames::All)
    }

    /// Gives the client the frames of the acknowledgements.
    ///
    /// # Errors
    /// As [`Acknowledgements::flush`].
    fn send_frames(&self, singles: SingleFrames) -> Result<(), Error> {
        let mut batch = self.batch.lock();
        for AckFrame { tag, multiple } in batch.frames(singles) {
            // The first poll queues the frame. The write is not waited for.
            let _written = self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never();
        }
        drop(batch);
        if self.channel.status().connected() { Ok(()) } else { Err(Error::Lost("the session is over".to_owned())) }
    }

    fn len(&self) -> usize {
        self.batch.lock().len()
    }

    /// Sends the acknowledgements until the channel closes.
    pub(crate) async fn send(self: Arc<Self>) {
        loop {
            // Some deliveries wait for a frame that they can share with others.
            if self.len() == 0 {
                self.added.notified().await;
            }
            let (began, mut waiting) = (Instant::now(), self.len());
            while waiting < self.full.load(Ordering::Relaxed) && began.elapsed() < BATCH_WITHIN {
                let is_quiet = tokio::select! {
                    biased;
                    () = self.added.notified() => false,
                    () = wait::after(QUIET_FOR) => self.len() == waiting,
                };
                if is_quiet {
                    break;
                }
                waiting = self.len();
            }
            if self.send_group().is_err() {
                return;
            }
        }
    }
}

/// Acknowledgements that make a batch full. The broker sends no message while the whole prefetch waits for its acknowledgement, so
/// a batch has at most a quarter of the prefetch.
fn full(prefetch: u16) -> usize {
    BATCH_MAX.min(usize::from(prefetch / 4)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_at_most_a_quarter_of_the_prefetch() {
        for (prefetch, expected) in [(1, 1), (2, 1), (7, 1), (20, 5), (200, 50), (u16::MAX, 64)] {
            assert_eq!(full(prefetch), expected, "prefetch {prefetch}");
        }
    }
}
