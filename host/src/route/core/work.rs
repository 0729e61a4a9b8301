//! One delivery in work.

use std::time::Duration;

use super::{Decision, Facts, Plan, Settled};

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
    /// Publishes of the present plan that failed.
    pub(super) tries: u32,
    /// What it came to, once everything is confirmed.
    pub(super) outcome: Option<Settled>,
}

impl Job {
    pub(super) fn new(facts: Facts) -> Self {
        Self { facts, phase: Phase::Waiting, counted: false, tries: 0, outcome: None }
    }

    /// Whether a plan ends the event, so that a repeat of it may be dropped.
    pub(super) fn marks(&self, plan: &Plan) -> bool {
        let is_end = match plan {
            Plan::Emissions | Plan::Copy(Decision::DeadLetter { .. }) | Plan::Cut(..) => true,
            Plan::Copy(Decision::Retry { .. }) | Plan::Park | Plan::Queue(_) => false,
        };
        is_end && self.facts.own_id
    }
}
