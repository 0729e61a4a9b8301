//! What the plugins of the model do: a pure function of the event's id and attempt.

use bytes::Bytes;

use super::broker::{OUT, number};
use super::daemon::ROUTE;
use super::faulty::Faulty;
use super::world::World;
use crate::core::{Input, Ticket};
use crate::emit;
use trunkline_config::{Codec, Emit};
use trunkline_event::{Emission, ExchangeName, Failure};

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

impl World {
    /// A call has ended.
    pub(super) fn called(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let Some(item) = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket)) else { return };
        let nature = self.published.get(number(&item.message)).map_or(Nature::Rejected, |event| event.nature);
        let number = item.event.attributes.iter().find(|(name, _)| name == NUMBER).map(|(_, number)| number.as_str());
        let (mut emissions, mut failure) = nature.call(item.event.attempt, number.unwrap_or_default());
        if Faulty::TrapKeepsEmissions.is_planted() {
            failure = failure.filter(|failure| !matches!(failure, Failure::Trap(_)));
        }
        if Faulty::PartialEmit.is_planted() {
            emissions.truncate(1);
        }
        let emit = Emit {
            exchange: ExchangeName::new(OUT).expect("a name"),
            key: "{type}".to_owned(),
            types: None,
            unroutable: self.scenario.unroutable,
        };
        let context = emit::Context {
            route: &ROUTE,
            emit: &emit,
            allow: None,
            codec: Codec::Raw,
            plugin: "p",
            digest: "d",
            now: "2026-01-01T00:00:00Z",
            now_seconds: 1,
            key: None,
        };
        let outcome: Result<(), Failure> =
            emit::publications(&context, &item.event, &emissions).map(|made| item.emissions = made);
        if Faulty::UnstableIds.is_planted() {
            for publication in &mut item.emissions {
                let id = format!("{:016x}", self.random.u64(..));
                publication.message_mut().properties.message_id = Some(id);
            }
        }
        self.feed(Input::Invoked(ticket, failure.map_or(outcome, Err)));
    }
}
