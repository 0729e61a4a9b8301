//! Acknowledgements of one channel, sent in batches by one task.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use trunkline_telemetry::wait;

/// Acknowledgements that make a batch full.
const BATCH_MAX: usize = 64;
/// How long an acknowledgement waits for others.
const BATCH_WITHIN: Duration = Duration::from_millis(2);
/// One place for each delivery of two consumers, and one for the flush.
pub(super) const ANSWERS_MAX: usize = 2 * (u16::MAX as usize) + 1;

/// The way back from a delivery to its channel.
#[derive(Debug)]
pub struct Answer {
    pub(super) tag: u64,
    pub(super) settle: mpsc::Sender<Settle>,
}

#[derive(Debug)]
pub(super) enum Settle {
    Ack(u64),
    Flush(oneshot::Sender<()>),
}

impl Answer {
    /// Acknowledges with the next batch; dropped when the session is over, and the message comes again.
    pub fn ack(self) {
        // There are never more answers than deliveries, and the channel has room for all of them.
        let _session_over = self.settle.try_send(Settle::Ack(self.tag));
    }

    /// Acknowledges, and returns when the client has the frame: the broker gets it before every later one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session is over.
    pub async fn ack_now(self) -> Result<(), Error> {
        let over = || Error::Lost("the session is over".to_owned());
        let (reply, flushed) = oneshot::channel();
        self.settle.send(Settle::Ack(self.tag)).await.map_err(|_over| over())?;
        self.settle.send(Settle::Flush(reply)).await.map_err(|_over| over())?;
        flushed.await.map_err(|_over| over())
    }
}

/// The only place that acknowledges. Ends with the subscription.
pub(super) async fn settle_all(channel: Channel, mut answers: mpsc::Receiver<Settle>) {
    let mut done = Done::default();
    while let Some(first) = answers.recv().await {
        let mut flush = done.take(first);
        let deadline = wait::after(BATCH_WITHIN);
        tokio::pin!(deadline);
        while flush.is_none() && done.fresh.len() < BATCH_MAX {
            tokio::select! {
                biased;
                next = answers.recv() => match next {
                    Some(next) => flush = done.take(next),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        for (tag, multiple) in done.frames() {
            if channel.basic_ack(tag, BasicAckOptions { multiple }).await.is_err() {
                return;
            }
        }
        if let Some(flush) = flush {
            let _nobody_waits = flush.send(());
        }
    }
}

/// Which deliveries are done, and how that is said in the fewest frames.
#[derive(Debug, Default)]
pub struct Done {
    /// Every tag up to this one is acknowledged.
    prefix: u64,
    /// Acknowledged one by one beyond the prefix.
    beyond: BTreeSet<u64>,
    /// Done and not yet acknowledged.
    fresh: BTreeSet<u64>,
}

impl Done {
    /// A delivery is done.
    pub fn note(&mut self, tag: u64) {
        self.fresh.insert(tag);
    }

    fn take(&mut self, settle: Settle) -> Option<oneshot::Sender<()>> {
        match settle {
            Settle::Ack(tag) => {
                self.note(tag);
                None
            }
            Settle::Flush(reply) => Some(reply),
        }
    }

    /// The frames (tag, multiple) for what is fresh: one for the contiguous part, one each for the rest, so that a slow
    /// delivery holds nobody else's acknowledgement. A `multiple` frame names a tag that is not acknowledged yet: an
    /// unknown one would close the channel.
    pub fn frames(&mut self) -> Vec<(u64, bool)> {
        let mut end = self.prefix;
        while self.fresh.contains(&(end + 1)) || self.beyond.contains(&(end + 1)) {
            end += 1;
        }
        self.prefix = end;
        let rest = self.fresh.split_off(&(end + 1));
        let mut frames = Vec::new();
        if let Some(last) = self.fresh.pop_last() {
            frames.push((last, true));
        }
        self.fresh.clear();
        self.beyond = self.beyond.split_off(&(end + 1));
        for tag in rest {
            frames.push((tag, false));
            self.beyond.insert(tag);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(done: &mut Done, tags: &[u64]) -> Vec<(u64, bool)> {
        done.fresh.extend(tags);
        done.frames()
    }

    #[test]
    fn contiguous_tags_share_a_frame_and_stragglers_wait_for_nobody() {
        let mut done = Done::default();
        assert_eq!(frames(&mut done, &[1, 2, 3]), [(3, true)]);
        assert_eq!(frames(&mut done, &[5, 7]), [(5, false), (7, false)]);
        assert_eq!(frames(&mut done, &[4]), [(4, true)], "5 is acknowledged already: 4 is the last open tag");
        assert_eq!(frames(&mut done, &[6, 8]), [(8, true)]);
        assert_eq!(frames(&mut done, &[]), []);
    }

    #[test]
    fn every_tag_is_acknowledged_exactly_once() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut tags: Vec<u64> = (1..=random.u64(1..300)).collect();
            for window in tags.chunks_mut(40) {
                random.shuffle(window);
            }
            let (mut done, mut open) = (Done::default(), tags.iter().copied().collect::<BTreeSet<_>>());
            for batch in tags.chunks(7) {
                for (tag, multiple) in frames(&mut done, batch) {
                    assert!(open.contains(&tag), "{tag} is unknown to the broker");
                    if multiple {
                        open = open.split_off(&(tag + 1));
                    } else {
                        open.remove(&tag);
                    }
                }
            }
            assert!(open.is_empty(), "{open:?}");
        }
    }
}
