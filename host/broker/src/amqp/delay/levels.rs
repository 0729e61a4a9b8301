//! The levels of delayed publishing, as arithmetic.
//!
//! Each bit of a delay is a level. Level *k* is a topic exchange `trunkline.delay.K` and a queue of the same name that holds a
//! message for 2^k units and passes it on to the level below. The routing key spells the delay in bits. Each exchange routes a
//! message into its queue when the exchange's bit is 1, and straight to the next exchange otherwise. Every queue has one TTL,
//! so no message waits behind a message with a longer delay. After the last level a message is in the queue
//! `trunkline.delay.due`, and any daemon publishes it to its destination. A daemon whose key differs from the message's
//! signature cannot verify the message, and passes it to the queue of that key's daemons, `trunkline.delay.due.KEY`.
//!
//! NServiceBus counts delays in bits in the same way. Two things differ here. A delay is rounded up to a few significant bits,
//! so that a message passes few queues: eight bits for an emission, which costs less than 0.8 % of the delay, and five bits
//! for a retry, which costs less than 6.25 %. The levels are quorum queues that pass messages on at least once.

use std::time::Duration;

use trunkline_event::QueueName;

/// The delay of level 0.
pub(crate) const UNIT: Duration = Duration::from_millis(25);
/// Number of levels: 2^27 units are 38 days.
pub(crate) const LEVELS: u32 = 27;

/// Number of significant bits of a delay. The rest is rounded up. Each bit that is 1 is a queue on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DelayPrecision {
    /// For emissions, whose delay a plugin chooses.
    Emission,
    /// For retries, which are many and may wait a quarter longer.
    Retry,
}

impl DelayPrecision {
    const fn significant_bits(self) -> u32 {
        match self {
            Self::Emission => 8,
            Self::Retry => 5,
        }
    }
}

const PREFIX: &str = "trunkline.delay.";
/// The queue of messages that are due.
pub(crate) const DUE: &str = "trunkline.delay.due";

/// A queue of delayed publishing by its name.
pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("short and not empty")
}

/// The queue of messages that are due and signed with this key, filled by daemons with another key.
pub(crate) fn own_due(key_id: &str) -> QueueName {
    queue(&format!("{DUE}.{key_id}"))
}

/// The delay in units, rounded up.
fn units(delay: Duration, precision: DelayPrecision) -> u32 {
    let exact = delay.as_nanos().div_ceil(UNIT.as_nanos()).min(u128::from((1_u32 << LEVELS) - 1));
    let exact = u32::try_from(exact).unwrap_or(u32::MAX).max(1);
    let dropped = (u32::BITS - exact.leading_zeros()).saturating_sub(precision.significant_bits());
    (exact.div_ceil(1 << dropped) << dropped).min((1 << LEVELS) - 1)
}

/// Whether an exchange is the exchange of a level.
pub(crate) fn is_level(exchange: &str) -> bool {
    exchange.starts_with(PREFIX)
}

/// The name of a level's exchange and queue.
pub(crate) fn level_name(level: u32) -> String {
    format!("{PREFIX}{level:02}")
}

/// The exchange that a message reaches after a level.
pub(crate) fn below(level: u32) -> String {
    level.checked_sub(1).map_or_else(|| DUE.to_owned(), level_name)
}

/// The topic pattern of a level: its own bit, and any bits around it.
pub(crate) fn pattern(level: u32, bit: &str) -> String {
    let before = "*.".repeat(usize::try_from(LEVELS - 1 - level).unwrap_or(0));
    let after = if level == 0 { "" } else { ".#" };
    format!("{before}{bit}{after}")
}

/// The first level of a delay, and the routing key that spells it.
pub(crate) fn way(delay: Duration, precision: DelayPrecision) -> (String, String) {
    let units = units(delay, precision);
    let bits = (0..LEVELS).rev().map(|level| if units >> level & 1 == 1 { "1" } else { "0" }).collect::<Vec<_>>();
    (level_name(u32::BITS - 1 - units.leading_zeros()), bits.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_never_shorter_and_hardly_longer() {
        let mut random = fastrand::Rng::with_seed(5);
        for (precision, share) in [(DelayPrecision::Emission, 128), (DelayPrecision::Retry, 16)] {
            for _ in 0..10_000 {
                let delay =
                    Duration::from_millis(random.u64(1..=30 * 24 * 3600 * 1000) >> random.u32(0..30)).max(UNIT / 25);
                let units = units(delay, precision);
                let waits = UNIT * units;
                assert!(waits >= delay, "{delay:?} became {waits:?}");
                assert!(waits <= delay + UNIT + delay / share, "{delay:?} became {waits:?}");
                assert!(units.count_ones() <= precision.significant_bits());
            }
        }
        assert_eq!(units(Duration::from_millis(25), DelayPrecision::Retry), 1);
        assert_eq!(units(Duration::from_millis(26), DelayPrecision::Retry), 2);
        assert!(units(Duration::from_secs(30 * 24 * 3600), DelayPrecision::Emission) < 1 << LEVELS);
    }

    /// With the longest jitter, which is an eighth of the delay, a retry of 200 ms or more waits at most a quarter longer.
    #[test]
    fn a_retry_with_jitter_waits_at_most_a_quarter_longer() {
        for ms in (200..=20_000).chain((20_000..7 * 24 * 3600 * 1000).step_by(70_001)) {
            let delay = Duration::from_millis(ms);
            let waits = UNIT * units(delay + delay / 8, DelayPrecision::Retry);
            assert!(waits <= delay + delay / 4, "{delay:?} became {waits:?}");
        }
    }

    /// Follows a message through RabbitMQ's topic exchanges, level by level.
    #[test]
    fn the_levels_on_the_way_add_up_to_the_delay() {
        for precision in [DelayPrecision::Emission, DelayPrecision::Retry] {
            for ms in [1, 25, 75, 1000, 61_234, 86_400_000, 2_592_000_000] {
                let delay = Duration::from_millis(ms);
                let (mut at, key) = way(delay, precision);
                let words: Vec<&str> = key.split('.').collect();
                let mut waited = Duration::ZERO;
                while at != DUE {
                    assert!(is_level(&at));
                    let level: u32 = at.trim_start_matches(PREFIX).parse().expect("a level");
                    let own = pattern(level, "1");
                    let place = own.split('.').position(|word| word == "1").expect("its bit");
                    if words[place] == "1" {
                        waited += UNIT * (1 << level);
                    }
                    at = below(level);
                }
                assert_eq!(waited, UNIT * units(delay, precision), "{delay:?}");
            }
        }
    }
}
