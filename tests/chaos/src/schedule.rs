//! The sequence of faults of a seed. Kinds come as a shuffled deck, again and again, so that all kinds are equally
//! frequent. Parameters and pauses are drawn freely.

mod kind;

pub use kind::{BrokerKind, Kind};

use std::time::Duration;

use serde::Serialize;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The position in the sequence.
    pub number: usize,
    /// The kind.
    pub kind: Kind,
    /// The undisturbed time before the fault, from the end of the previous fault.
    pub after_ms: u64,
    /// The duration, for kinds with a choice.
    pub hold_ms: u64,
    /// The delay in milliseconds, the bytes a second, the bytes of a piece, the number of the fdatasync, or 1 for all
    /// permissions.
    pub amount: u64,
}

impl Fault {
    /// The pause before it.
    #[must_use]
    pub const fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms)
    }

    /// True when no bytes are forwarded during the fault.
    #[must_use]
    pub const fn is_hole(&self) -> bool {
        self.kind.is_hole()
    }

    /// The duration.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

/// The density and the length of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each kind at least once within less than a minute.
    Short,
    /// Time for full speed between faults, and holes longer than a heartbeat.
    Long,
}

/// The endless sequence of a seed.
#[derive(Debug, Clone)]
pub struct Schedule {
    random: fastrand::Rng,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    pace: Pace,
    number: usize,
}

impl Schedule {
    /// The faults of a seed among these kinds.
    #[must_use]
    pub fn new(seed: u64, kinds: Vec<Kind>, pace: Pace) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), kinds, deck: Vec::new(), pace, number: 0 }
    }

    fn draw(&mut self, kind: Kind) -> Fault {
        let (after_ms, hold_ms) = match self.pace {
            Pace::Short => (self.random.u64(200..700), self.random.u64(500..1_500)),
            Pace::Long => (self.random.u64(1_000..8_000), self.random.u64(1_000..6_000)),
        };
        // Sometimes longer than three of the daemon's heartbeats of 10 s.
        let is_endless = kind.is_hole() && self.pace == Pace::Long && self.random.u8(0..4) == 0;
        let hold_ms = if is_endless { self.random.u64(31_000..35_000) } else { hold_ms };
        let amount = match kind {
            Kind::Latency => self.random.u64(50..400),
            Kind::Throttle => self.random.u64(8_000..64_000),
            Kind::Slice => self.random.u64(1..64),
            Kind::SyncError | Kind::SyncKill | Kind::WriteError | Kind::WriteKill => self.random.u64(1..60),
            // All permissions instead of some: the recovery takes a login, of which there is one in ten seconds.
            Kind::Permission if self.pace == Pace::Long => self.random.u64(0..2),
            Kind::Permission
            | Kind::Cut
            | Kind::Refuse
            | Kind::Hole
            | Kind::HoleFromBroker
            | Kind::HoleToBroker
            | Kind::BrokerKill
            | Kind::BrokerStop
            | Kind::CloseConnections
            | Kind::MemoryAlarm
            | Kind::DeleteTarget
            | Kind::DaemonKill
            | Kind::DaemonTerm
            | Kind::DaemonPause
            | Kind::Malformed
            | Kind::Cc
            | Kind::Oversized
            | Kind::BrokerFreeze
            | Kind::ConsumerTimeout
            | Kind::FullBesideFree
            | Kind::DeadLetterLooks => 0,
        };
        self.number += 1;
        Fault { number: self.number, kind, after_ms, hold_ms, amount }
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            self.random.shuffle(&mut self.deck);
            if self.pace == Pace::Short {
                // These kinds take ten seconds each. They come last, so that a minute has most kinds. The deck is taken
                // from its end.
                self.deck
                    .sort_by_key(|kind| !matches!(kind, Kind::BrokerKill | Kind::BrokerStop | Kind::ConsumerTimeout));
            }
        }
        let kind = self.deck.pop()?;
        Some(self.draw(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64) -> Vec<Fault> {
        Schedule::new(seed, Kind::of(BrokerKind::Amqp, true), Pace::Long).take(200).collect()
    }

    #[test]
    fn a_seed_gives_one_sequence() {
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
    }

    #[test]
    fn every_kind_acts_before_one_acts_twice() {
        for broker in [BrokerKind::Amqp, BrokerKind::Embedded] {
            let kinds = Kind::of(broker, true);
            let mut drawn: Vec<Kind> =
                Schedule::new(3, kinds.clone(), Pace::Short).take(kinds.len()).map(|fault| fault.kind).collect();
            drawn.sort_unstable();
            let mut wanted = kinds;
            wanted.sort_unstable();
            assert_eq!(drawn, wanted);
        }
    }

    #[test]
    fn without_kinds_there_are_no_faults() {
        assert_eq!(Schedule::new(1, Vec::new(), Pace::Short).next(), None);
    }

    #[test]
    fn some_holes_outlast_heartbeats() {
        assert!(faults(5).iter().any(|fault| fault.hold_ms > 30_000));
        let short = Schedule::new(5, Kind::of(BrokerKind::Amqp, true), Pace::Short);
        assert!(short.take(500).all(|fault| fault.hold_ms < 2_000));
    }
}
