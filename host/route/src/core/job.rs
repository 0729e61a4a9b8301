//! One delivery in work, as the core decides about it.

use std::time::Duration;

use super::action::{DeliveryOutcome, PublishPlan};
use super::decision::Decision;
use super::facts::DeliveryFacts;
use trunkline_broker::SettledAs;

/// How far a delivery has come.
#[derive(Debug, Clone)]
pub(super) enum JobPhase {
    /// The delivery has not begun.
    Waiting,
    /// The dedupe record is looked up.
    LookingUp,
    /// The plugin runs.
    Running,
    /// The messages of the plan are on their way to the broker.
    Publishing(PublishPlan),
    /// The broker did not take the messages; the core publishes them again at this time.
    Paused { plan: PublishPlan, until: Duration },
    /// The dedupe record is written.
    WritingRecord,
}

/// One delivery in work, as the core decides about it. The executor holds the same delivery as an `Item`.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) facts: DeliveryFacts,
    pub(super) phase: JobPhase,
    /// Whether the delivery began.
    pub(super) has_begun: bool,
    /// Whether the delivery has the place of a call: it began, and no message of it is published yet.
    pub(super) runs: bool,
    /// Whether another event was settled with the same id.
    pub(super) conflicts: bool,
    /// Failed publishes of the present plan.
    pub(super) tries: u32,
    /// Outcome of the delivery, once every message is confirmed.
    pub(super) outcome: Option<DeliveryOutcome>,
}

impl Job {
    pub(super) fn new(facts: DeliveryFacts) -> Self {
        Self {
            facts,
            phase: JobPhase::Waiting,
            has_begun: false,
            runs: false,
            conflicts: false,
            tries: 0,
            outcome: None,
        }
    }

    /// End of the event for its dedupe record, if the plan ends the event. The dead letter of an id conflict ends nothing: the
    /// record of the other event stays.
    pub(super) fn record_end(&self, plan: &PublishPlan) -> Option<SettledAs> {
        let ended = match plan {
            PublishPlan::Emissions => SettledAs::Done,
            PublishPlan::Copy(Decision::DeadLetter { .. }) | PublishPlan::Cut(..) => SettledAs::Dead,
            PublishPlan::Copy(Decision::Retry { .. }) | PublishPlan::Park | PublishPlan::AwaitTurn(_) => return None,
        };
        Some(ended).filter(|_| self.facts.own_id && !self.conflicts)
    }
}
