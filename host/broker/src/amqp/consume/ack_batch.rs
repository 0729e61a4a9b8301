//! The acknowledgements of one channel, as arithmetic on delivery tags. Without a channel.

use std::collections::BTreeSet;

/// One `basic.ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckFrame {
    /// The delivery tag.
    pub tag: u64,
    /// Whether every earlier delivery is acknowledged as well.
    pub multiple: bool,
}

/// The deliveries of a channel that are done, and the fewest frames that acknowledge them.
#[derive(Debug, Default)]
pub struct AckBatch {
    /// Every tag up to this one is acknowledged.
    prefix: u64,
    /// Acknowledged one by one, beyond the prefix.
    beyond: BTreeSet<u64>,
    /// Done and not acknowledged yet.
    fresh: BTreeSet<u64>,
    /// Those of `fresh` that were done before the last call of [`AckBatch::frames`].
    seen: BTreeSet<u64>,
}

/// The deliveries that get a frame of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleFrames {
    /// Every delivery behind one that is not done.
    All,
    /// Of these deliveries, those that were done before the last call too. The delivery in front of a newer one is mostly done a
    /// moment later, and one `multiple` frame then acknowledges both.
    Late,
}

impl AckBatch {
    /// Deliveries that are done and not acknowledged yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fresh.len()
    }

    /// Whether every delivery that is done is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty()
    }

    /// Adds a delivery that is done.
    pub fn add(&mut self, tag: u64) {
        self.fresh.insert(tag);
    }

    /// The frames for the deliveries that are done: one `multiple` frame for the contiguous part, and one frame for each of the
    /// rest, so that a slow delivery does not delay the other acknowledgements for long. A `multiple` frame names a tag that is not
    /// acknowledged yet, because an unknown tag would close the channel.
    pub fn frames(&mut self, singles: SingleFrames) -> Vec<AckFrame> {
        let mut end = self.prefix;
        while self.fresh.contains(&(end + 1)) || self.beyond.contains(&(end + 1)) {
            end += 1;
        }
        self.prefix = end;
        let rest = self.fresh.split_off(&(end + 1));
        let mut frames = Vec::new();
        if let Some(last) = self.fresh.pop_last() {
            frames.push(AckFrame { tag: last, multiple: true });
        }
        self.fresh.clear();
        self.beyond = self.beyond.split_off(&(end + 1));
        let seen = std::mem::take(&mut self.seen);
        for tag in rest {
            if singles == SingleFrames::Late && !seen.contains(&tag) {
                self.fresh.insert(tag);
                self.seen.insert(tag);
                continue;
            }
            frames.push(AckFrame { tag, multiple: false });
            self.beyond.insert(tag);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(batch: &mut AckBatch, tags: &[u64]) -> Vec<(u64, bool)> {
        batch.fresh.extend(tags);
        batch.frames(SingleFrames::All).into_iter().map(|AckFrame { tag, multiple }| (tag, multiple)).collect()
    }

    #[test]
    fn contiguous_tags_share_a_frame_and_others_have_their_own() {
        let mut batch = AckBatch::default();
        assert_eq!(frames(&mut batch, &[1, 2, 3]), [(3, true)]);
        assert_eq!(frames(&mut batch, &[5, 7]), [(5, false), (7, false)]);
        assert_eq!(frames(&mut batch, &[4]), [(4, true)], "5 is acknowledged already: 4 is the last open tag");
        assert_eq!(frames(&mut batch, &[6, 8]), [(8, true)]);
        assert_eq!(frames(&mut batch, &[]), []);
    }

    #[test]
    fn a_delivery_behind_an_open_one_waits_for_the_next_frames_only() {
        let mut batch = AckBatch::default();
        let mut late = |tags: &[u64]| {
            batch.fresh.extend(tags);
            let frames = batch.frames(SingleFrames::Late);
            frames.into_iter().map(|AckFrame { tag, multiple }| (tag, multiple)).collect::<Vec<_>>()
        };
        assert_eq!(late(&[1, 3, 4]), [(1, true)]);
        assert_eq!(late(&[2]), [(4, true)], "2 came a moment later, and one frame has all of them");
        assert_eq!(late(&[6, 7]), []);
        assert_eq!(late(&[9]), [(6, false), (7, false)], "5 takes longer");
        assert_eq!(late(&[]), [(9, false)]);
        assert_eq!(late(&[5]), [(5, true)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn every_tag_is_acknowledged_exactly_once() {
        for singles in [SingleFrames::All, SingleFrames::Late] {
            acknowledge_all(singles);
        }
    }

    fn acknowledge_all(singles: SingleFrames) {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut tags: Vec<u64> = (1..=random.u64(1..300)).collect();
            for window in tags.chunks_mut(40) {
                random.shuffle(window);
            }
            let (mut acks, mut open) = (AckBatch::default(), tags.iter().copied().collect::<BTreeSet<_>>());
            // The last two batches are empty, for the deliveries that waited.
            for batch in tags.chunks(7).chain([[].as_slice(), &[]]) {
                acks.fresh.extend(batch);
                for AckFrame { tag, multiple } in acks.frames(singles) {
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
