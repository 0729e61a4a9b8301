//! The plugins of the model: a pure function of the event and its attempt.

use std::sync::Arc;

use bytes::Bytes;

use super::faulty::Faulty;
use super::profile::{self, ROUTE};
use super::schedule::Simulation;
use crate::executor::CallResult;
use crate::outbound::emit;
use trunkline_config::Codec;
use trunkline_event::{CallFailure, Emission, Event};

/// Behaviour of the plugin on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// This number of emissions, each with a queue.
    Emits(usize),
    /// Two emissions, the second of which has no queue.
    EmitsUnrouted,
    /// Rejected.
    Rejected,
    /// Asks for this number of retries, then emits one event.
    Recovers(u32),
    /// Traps on every attempt, after one emission.
    Traps,
    /// Two emissions, the second of which the broker refuses for good.
    Forbidden,
    /// Rejected, with a body that the broker does not take in a copy.
    Heavy,
}

/// Types with a queue, each type with its own queue.
pub(super) const MADE: [&str; 2] = ["made", "also"];
/// The type that no queue is bound for.
pub(super) const UNBOUND: &str = "unbound";
/// The type that may not be published.
pub(super) const FORBIDDEN: &str = "forbidden";
/// Header with the number of the event in the schedule.
pub(super) const NUMBER: &str = "number";

impl Nature {
    pub(super) fn draw(random: &mut fastrand::Rng) -> Self {
        match random.u8(..40) {
            0..=18 => Self::Emits(random.usize(0..4)),
            19..=22 => Self::EmitsUnrouted,
            23..=26 => Self::Rejected,
            27..=34 => Self::Recovers(random.u32(1..=3)),
            35..=37 => Self::Traps,
            38 => Self::Forbidden,
            _ => Self::Heavy,
        }
    }

    /// The emissions of a call, and the failure of the call if there is one.
    pub(super) fn call(self, attempt: u32, number: &str) -> (Vec<Emission>, Option<CallFailure>) {
        let emission = |kind: &str| Emission {
            kind: kind.to_owned(),
            data: Bytes::from_static(b"{}"),
            attributes: vec![(NUMBER.to_owned(), number.to_owned())],
            ..Emission::default()
        };
        match self {
            Self::Emits(count) => ((0..count).map(|index| emission(MADE[index % MADE.len()])).collect(), None),
            Self::EmitsUnrouted => (vec![emission("made"), emission(UNBOUND)], None),
            Self::Forbidden => (vec![emission("made"), emission(FORBIDDEN)], None),
            Self::Rejected | Self::Heavy => (Vec::new(), Some(CallFailure::Rejected("no".to_owned()))),
            Self::Recovers(failures) if attempt <= failures => {
                (Vec::new(), Some(CallFailure::Retry { reason: "busy".to_owned(), after: None }))
            }
            Self::Recovers(_) => (vec![emission("made")], None),
            Self::Traps => (vec![emission("made")], Some(CallFailure::Trap("unreachable".to_owned()))),
        }
    }
}

impl Simulation {
    /// The result of a call.
    pub(super) fn called(&mut self, event: &Event) -> CallResult {
        let number = event.attributes.iter().find(|(name, _)| name == NUMBER).map(|(_, number)| number.as_str());
        let number = number.unwrap_or_default();
        let published = number.parse().ok().and_then(|number: usize| self.published.get(number));
        let nature = published.map_or(Nature::Rejected, |event| event.nature);
        let (mut emissions, mut failure) = nature.call(event.attempt, number);
        if Faulty::TrapKeepsEmissions.is_planted() {
            failure = failure.filter(|failure| !matches!(failure, CallFailure::Trap(_)));
        }
        if Faulty::PartialEmit.is_planted() {
            emissions.truncate(1);
        }
        let context = emit::EmitContext {
            route: &ROUTE,
            emit: &profile::emit(&self.scenario),
            allow: None,
            codec: Codec::Raw,
            reply_codec: Codec::Raw,
            plugin: "p",
            digest: "d",
            now: "2026-01-01T00:00:00Z",
            now_seconds: 1,
            key: None,
        };
        let mut result = failure.map_or_else(|| emit::publications(&context, event, &emissions), Err);
        if Faulty::UnstableIds.is_planted() {
            for publication in result.iter_mut().flatten() {
                let id = format!("{:016x}", self.random.u64(..));
                publication.message_mut().properties.message_id = Some(id);
            }
        }
        CallResult { result, log: String::new(), plugin: Arc::from("p"), digest: Arc::from("d") }
    }
}
