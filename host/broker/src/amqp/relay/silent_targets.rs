//! Targets that do not answer, such as a quorum queue without a majority. Messages for such a target are postponed at once, so
//! that they do not hold up messages for other targets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use trunkline_event::{ExchangeName, RoutingKey};

/// Exchange and routing key of messages.
pub(crate) type DelayTarget = (ExchangeName, RoutingKey);

/// How long a target is not tried again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Targets that are remembered. Messages for further targets are tried each time.
const TARGETS_MAX: usize = 256;

/// The targets that did not answer lately, each with the time of its last message.
#[derive(Debug, Default)]
pub(crate) struct SilentTargets(Mutex<HashMap<DelayTarget, Instant>>);

impl SilentTargets {
    /// Whether a target did not answer lately.
    pub(crate) fn has(&self, target: &DelayTarget, now: Instant) -> bool {
        self.0.lock().get(target).is_some_and(|since| now.duration_since(*since) < REMEMBERED_FOR)
    }

    /// Notes that a target does not answer.
    pub(crate) fn add(&self, target: DelayTarget, now: Instant) {
        let mut targets = self.0.lock();
        if targets.len() >= TARGETS_MAX {
            targets.retain(|_, since| now.duration_since(*since) < REMEMBERED_FOR);
        }
        if targets.len() < TARGETS_MAX {
            targets.insert(target, now);
        }
    }

    /// Notes that a target answers.
    pub(crate) fn remove(&self, target: &DelayTarget) {
        self.0.lock().remove(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: usize) -> DelayTarget {
        (ExchangeName::default_exchange(), RoutingKey::new(key.to_string()).expect("valid"))
    }

    #[test]
    fn a_target_is_left_alone_for_a_while_or_until_it_answers() {
        let (targets, now) = (SilentTargets::default(), Instant::now());
        targets.add(target(1), now);
        targets.add(target(2), now);
        assert!(targets.has(&target(1), now) && !targets.has(&target(3), now));
        targets.remove(&target(2));
        assert!(!targets.has(&target(2), now), "it answered");
        assert!(!targets.has(&target(1), now + REMEMBERED_FOR), "it is tried again");
    }

    #[test]
    fn the_number_of_targets_is_bounded() {
        let (targets, now) = (SilentTargets::default(), Instant::now());
        (0..2 * TARGETS_MAX).for_each(|key| targets.add(target(key), now));
        assert_eq!(targets.0.lock().len(), TARGETS_MAX);
        targets.add(target(9_999), now + REMEMBERED_FOR);
        assert!(targets.has(&target(9_999), now + REMEMBERED_FOR), "old ones make room");
    }
}
