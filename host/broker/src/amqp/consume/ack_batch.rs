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

    /// The frames for the deliveries that were added since the last call: one `multiple` frame for the contiguous part, and one
    /// frame for each of the rest, so that a slow delivery delays no other acknowledgement. A `multiple` frame names a tag
    /// that is not acknowledged yet, because an unknown tag would close the channel.
    pub fn frames(&mut self) -> Vec<AckFrame> {
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
        for tag in rest {
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
        batch.frames().into_iter().map(|AckFrame { tag, multiple }| (tag, multiple)).collect()
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
    fn every_tag_is_acknowledged_exactly_once() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut tags: Vec<u64> = (1..=random.u64(1..300)).collect();
            for window in tags.chunks_mut(40) {
                random.shuffle(window);
            }
            let (mut acks, mut open) = (AckBatch::default(), tags.iter().copied().collect::<BTreeSet<_>>());
            for batch in tags.chunks(7) {
                for (tag, multiple) in frames(&mut acks, batch) {
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
