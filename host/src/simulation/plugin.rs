//! What the plugins of the model do: a pure function of the event's id and attempt.

use bytes::Bytes;

use crate::event::{Emission, Failure};

/// How an event behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// So many emissions that have a queue.
    Emits(usize),
    /// Two emissions, the second of which has no queue.
    EmitsToNobody,
    /// Rejected.
    Rejected,
    /// Asks for so many retries, then emits one.
    Recovers(u32),
    /// Traps on every attempt, after it has emitted one.
    Traps,
    /// Two emissions, the second of which the broker refuses for good.
    Forbidden,
    /// Rejected, with a body that the broker does not take in a copy.
    Heavy,
}

/// Types that have a queue; each one of its own.
pub(super) const MADE: [&str; 2] = ["made", "also"];
/// The type that no queue is bound for.
pub(super) const NOBODY: &str = "nobody";
/// The type that may not be published.
pub(super) const FORBIDDEN: &str = "forbidden";
/// The header that tells which event of the schedule it is, or follows from.
pub(super) const NUMBER: &str = "number";

impl Nature {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u8(..40) {
            0..=18 => Self::Emits(random.usize(0..4)),
            19..=22 => Self::EmitsToNobody,
            23..=26 => Self::Rejected,
            27..=34 => Self::Recovers(random.u32(1..=3)),
            35..=37 => Self::Traps,
            38 => Self::Forbidden,
            _ => Self::Heavy,
        }
    }

    /// The emissions that are complete, whether the call then fails or not, and its failure.
    pub(super) fn call(self, attempt: u32, number: &str) -> (Vec<Emission>, Option<Failure>) {
        let emission = |kind: &str| Emission {
            kind: kind.to_owned(),
            data: Bytes::from_static(b"{}"),
            attributes: vec![(NUMBER.to_owned(), number.to_owned())],
            ..Emission::default()
        };
        match self {
            Self::Emits(count) => ((0..count).map(|index| emission(MADE[index % MADE.len()])).collect(), None),
            Self::EmitsToNobody => (vec![emission("made"), emission(NOBODY)], None),
            Self::Forbidden => (vec![emission("made"), emission(FORBIDDEN)], None),
            Self::Rejected | Self::Heavy => (Vec::new(), Some(Failure::Rejected("no".to_owned()))),
            Self::Recovers(failures) if attempt <= failures => {
                (Vec::new(), Some(Failure::Retry { reason: "busy".to_owned(), after: None }))
            }
            Self::Recovers(_) => (vec![emission("made")], None),
            Self::Traps => (vec![emission("made")], Some(Failure::Trap("unreachable".to_owned()))),
        }
    }
}
