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
}

/// The type that no queue is bound for.
pub(super) const NOBODY: &str = "nobody";

impl Nature {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u8(..20) {
            0..=9 => Self::Emits(random.usize(0..4)),
            10..=11 => Self::EmitsToNobody,
            12..=13 => Self::Rejected,
            14..=17 => Self::Recovers(random.u32(1..=3)),
            _ => Self::Traps,
        }
    }

    /// The emissions that are complete, whether the call then fails or not, and its failure.
    pub(super) fn call(self, attempt: u32) -> (Vec<Emission>, Option<Failure>) {
        match self {
            Self::Emits(count) => ((0..count).map(|_| emission("made")).collect(), None),
            Self::EmitsToNobody => (vec![emission("made"), emission(NOBODY)], None),
            Self::Rejected => (Vec::new(), Some(Failure::Rejected("no".to_owned()))),
            Self::Recovers(failures) if attempt <= failures => {
                (Vec::new(), Some(Failure::Retry { reason: "busy".to_owned(), after: None }))
            }
            Self::Recovers(_) => (vec![emission("made")], None),
            Self::Traps => (vec![emission("made")], Some(Failure::Trap("unreachable".to_owned()))),
        }
    }
}

fn emission(kind: &str) -> Emission {
    Emission { kind: kind.to_owned(), data: Bytes::from_static(b"{}"), ..Emission::default() }
}
