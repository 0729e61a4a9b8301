//! Delayed publishing on a RabbitMQ as it is, without a plugin of the broker.
//!
//! A chain of levels, one for each bit of the delay: level *k* is a topic exchange `trunkline.delay.K` and a queue of
//! the same name that holds a message for 2^k units and passes it on to the level below. The routing key spells the
//! delay in bits, and each exchange sends a message into its queue when its bit is 1, else straight to the next
//! exchange. Every queue has one TTL, so nothing waits behind a message with a longer delay. After the last level a
//! message is in the queue `trunkline.delay.due`, and any daemon publishes it where it was to go. A daemon that has another
//! key than the message's signature cannot know whether to trust it, and hands it to the queue of that key's daemons,
//! `trunkline.delay.due.KEY`.
//!
//! The same way of counting delays in bits is NServiceBus's. Different here: a delay is rounded up to eight
//! significant bits, so that a message makes at most eight hops through a queue, which costs less than 0.8 % of the
//! delay; the levels are quorum queues that pass messages on at least once.

use std::time::Duration;

use trunkline_event::QueueName;

mod envelope;
mod levels;
mod relay;

pub(super) use envelope::wrap;
pub(super) use levels::{ensure, resume};

/// Level 0 waits for so long.
const UNIT: Duration = Duration::from_millis(25);
/// 2^27 units are 38 days.
const LEVELS: u32 = 27;
/// Of a delay; the rest is rounded up.
const SIGNIFICANT_BITS: u32 = 8;
const PREFIX: &str = "trunkline.delay.";
/// What is due, whoever delayed it.
const DUE: &str = "trunkline.delay.due";
/// Where a message goes that is due and can never be passed on.
const DEAD: &str = "trunkline.delay.dlq";

fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("short and not empty")
}

/// What is due and signed with this key, when a daemon with another key came upon it.
fn own_due(key_id: &str) -> QueueName {
    queue(&format!("{DUE}.{key_id}"))
}

/// The delay in units, rounded up.
fn units(delay: Duration) -> u32 {
    let exact = delay.as_millis().div_ceil(UNIT.as_millis()).min(u128::from((1_u32 << LEVELS) - 1));
    let exact = u32::try_from(exact).unwrap_or(u32::MAX).max(1);
    let dropped = (u32::BITS - exact.leading_zeros()).saturating_sub(SIGNIFICANT_BITS);
    (exact.div_ceil(1 << dropped) << dropped).min((1 << LEVELS) - 1)
}

fn level_name(level: u32) -> String {
    format!("{PREFIX}{level:02}")
}

/// Where a message goes after a level.
fn below(level: u32) -> String {
    level.checked_sub(1).map_or_else(|| DUE.to_owned(), level_name)
}

/// What a level's exchange compares: its own bit, whatever stands around it.
fn pattern(level: u32, bit: &str) -> String {
    let before = "*.".repeat(usize::try_from(LEVELS - 1 - level).unwrap_or(0));
    let after = if level == 0 { "" } else { ".#" };
    format!("{before}{bit}{after}")
}

/// The first level of a delay, and the routing key that spells it.
fn way(delay: Duration) -> (String, String) {
    let units = units(delay);
    let bits = (0..LEVELS).rev().map(|level| if units >> level & 1 == 1 { "1" } else { "0" }).collect::<Vec<_>>();
    (level_name(u32::BITS - 1 - units.leading_zeros()), bits.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn delays_are_never_shorter_and_hardly_longer() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let delay =
                Duration::from_millis(random.u64(1..=30 * 24 * 3600 * 1000) >> random.u32(0..30)).max(UNIT / 25);
            let waits = UNIT * units(delay);
            assert!(waits >= delay, "{delay:?} became {waits:?}");
            assert!(waits <= delay + UNIT + delay / 128, "{delay:?} became {waits:?}");
            assert!(units(delay).count_ones() <= SIGNIFICANT_BITS);
        }
        assert_eq!(units(Duration::from_millis(25)), 1);
        assert_eq!(units(Duration::from_millis(26)), 2);
        assert!(units(Duration::from_secs(30 * 24 * 3600)) < 1 << LEVELS);
    }

    /// What RabbitMQ's topic exchanges would do, level by level.
    #[test]
    fn the_levels_on_the_way_add_up_to_the_delay() {
        for ms in [1, 25, 75, 1000, 61_234, 86_400_000, 2_592_000_000] {
            let delay = Duration::from_millis(ms);
            let (mut at, key) = way(delay);
            let words: Vec<&str> = key.split('.').collect();
            let mut waited = Duration::ZERO;
            while at != DUE {
                let level: u32 = at.trim_start_matches(PREFIX).parse().expect("a level");
                let own = pattern(level, "1");
                let place = own.split('.').position(|word| word == "1").expect("its bit");
                if words[place] == "1" {
                    waited += UNIT * (1 << level);
                }
                at = below(level);
            }
            assert_eq!(waited, UNIT * units(delay), "{delay:?}");
        }
    }
}
