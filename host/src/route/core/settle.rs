//! From a plan to the acknowledgement: publish, every confirm, mark, acknowledge, in this order and no other.

use std::time::Duration;

use super::work::Phase;
use super::{Action, Core, Plan, Settled, Ticket, Unpublished};
use crate::broker::bug::Bug;
use crate::route::decide::{self, Decision};

/// Pause before a publish that failed is tried again; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Core {
    /// Begins to publish a plan; in one transaction with its acknowledgement where the broker can.
    pub(super) fn publish(&mut self, ticket: Ticket, plan: Plan) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.session != Some(job.facts.session) {
            return self.leave(ticket, "its session is over");
        }
        job.phase = Phase::Publishing(plan.clone());
        let marks = self.rules.dedupe && job.marks(&plan);
        let action =
            if self.rules.atomic { Action::Commit(ticket, plan, marks) } else { Action::Publish(ticket, plan) };
        self.actions.push(action);
    }

    pub(super) fn published(&mut self, ticket: Ticket, result: Result<(), Unpublished>, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Phase::Publishing(plan) = job.phase.clone() else { return };
        let refusals = match result {
            Ok(()) => return self.confirmed(ticket, plan, now),
            Err(_) if Bug::LostCountsAsConfirmed.is_planted() => return self.confirmed(ticket, plan, now),
            Err(Unpublished::Lost(why)) => return self.pause(ticket, plan, &why, now),
            Err(Unpublished::Refused(refusals)) => refusals,
        };
        let (policy, attempt) = (self.rules.unroutable, job.facts.attempt);
        if plan == Plan::Emissions {
            let decide = |refusal| decide::after_refusal(refusal, policy, attempt, &self.rules.retry);
            if let Some(decision) = refusals.iter().find_map(decide) {
                return self.publish(ticket, Plan::Copy(decision));
            }
        }
        if Bug::DeadLetterUnconfirmed.is_planted() && matches!(plan, Plan::Copy(_)) {
            return self.confirmed(ticket, plan, now);
        }
        // A copy that is not taken holds its delivery, and with it the route: better late than lost.
        let why = refusals.first().map_or_else(String::new, ToString::to_string);
        self.pause(ticket, plan, &why, now);
    }

    /// Tries again later, in the same session only: a redelivery in the next one does the work with the same ids.
    pub(super) fn pause(&mut self, ticket: Ticket, plan: Plan, why: &str, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.session != Some(job.facts.session) {
            return self.leave(ticket, why);
        }
        job.pause = (job.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        job.phase = Phase::Paused { plan, until: now + job.pause };
        self.actions.push(Action::Stuck(ticket, why.to_owned()));
    }

    /// Everything is with the broker.
    pub(super) fn confirmed(&mut self, ticket: Ticket, plan: Plan, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let marks = self.rules.dedupe && job.marks(&plan);
        job.outcome = Some(match plan {
            Plan::Emissions => Settled::Emitted,
            Plan::Copy(decision) => Settled::Copied(decision),
            Plan::Park | Plan::Queue(_) => Settled::Parked,
        });
        if marks && !self.rules.atomic && !Bug::MarkBeforeConfirm.is_planted() {
            job.phase = Phase::Marking;
            self.actions.push(Action::Mark(ticket));
        } else {
            self.acknowledge(ticket, now);
        }
    }

    pub(super) fn acknowledge(&mut self, ticket: Ticket, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Some(outcome) = job.outcome.take() else { return };
        self.finish(ticket, outcome, now);
    }

    /// What is retried or parked comes back, and what follows it with its key waits for it.
    fn note_order(&mut self, ticket: Ticket, outcome: &Settled, now: Duration) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let Some(lane) = &job.facts.lane else { return };
        match outcome {
            Settled::Copied(Decision::Retry { .. }) => self.lanes.park(lane, &job.facts.id, true, now),
            Settled::Parked => self.lanes.park(lane, &job.facts.id, false, now),
            Settled::Copied(Decision::DeadLetter { .. }) | Settled::Emitted | Settled::Repeat => {
                self.lanes.settle(lane, &job.facts.id);
            }
        }
    }

    pub(super) fn finish(&mut self, ticket: Ticket, settled: Settled, now: Duration) {
        self.note_order(ticket, &settled, now);
        let in_transaction = self.rules.atomic && settled != Settled::Repeat;
        let done = if in_transaction { Action::Settled(ticket, settled) } else { Action::Ack(ticket, settled) };
        self.actions.push(done);
        self.end(ticket);
    }
}
