//! One delivery in work.

use std::time::Duration;

use super::{Decision, Facts, Plan, Settled};
use trunkline_broker::Ended;

/// How far a delivery has come.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Not begun.
    Waiting,
    /// The dedupe window is asked.
    Looking,
    /// The plugin runs.
    Running,
    /// Its messages are on the way to the broker.
    Publishing(Plan),
    /// The broker did not take them; again at this time.
    Paused { plan: Plan, until: Duration },
    /// The dedupe window is told.
    Marking,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) facts: Facts,
    pub(super) phase: Phase,
    /// Counts as running.
    pub(super) counted: bool,
    /// Its id is another event's.
    pub(super) conflicts: bool,
    /// Publishes of the present plan that failed.
    pub(super) tries: u32,
    /// What it came to, once everything is confirmed.
    pub(super) outcome: Option<Settled>,
}

impl Job {
    pub(super) fn new(facts: Facts) -> Self {
        Self { facts, phase: Phase::Waiting, counted: false, conflicts: false, tries: 0, outcome: None }
    }

    /// How a plan ends the event, so that a repeat of it may be dropped. A letter that only says that the id is another
    /// event's ends nothing: that event's record stays.
    pub(super) fn ends(&self, plan: &Plan) -> Option<Ended> {
        let ended = match plan {
            Plan::Emissions => Ended::Done,
            Plan::Copy(Decision::DeadLetter { .. }) | Plan::Cut(..) => Ended::Dead,
            Plan::Copy(Decision::Retry { .. }) | Plan::Park | Plan::Queue(_) => return None,
        };
        Some(ended).filter(|_| self.facts.own_id && !self.conflicts)
    }
}
