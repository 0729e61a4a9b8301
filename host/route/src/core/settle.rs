//! From a plan to the acknowledgement: publish, every confirm, mark, acknowledge, in this order and no other.

use std::time::Duration;

use super::work::Phase;
use super::{Action, Core, Incomplete, Plan, Settled, Ticket};
use crate::decide::{self, Decision};
use trunkline_broker::Permanent;
use trunkline_event::Reason;
use trunkline_telemetry::wait::Loop;

impl Core {
    /// Begins to publish a plan; in one transaction with its acknowledgement where the broker can.
    pub(super) fn publish(&mut self, ticket: Ticket, plan: Plan) {
        self.unstick(ticket);
        self.try_publish(ticket, plan);
    }

    /// Publishes what of a plan is not confirmed yet.
    pub(super) fn try_publish(&mut self, ticket: Ticket, plan: Plan) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.session != Some(job.facts.session) {
            return self.leave(ticket, "its session is over");
        }
        job.phase = Phase::Publishing(plan.clone());
        let ends = job.ends(&plan).filter(|_| self.rules.dedupe);
        self.actions.push(match (self.rules.atomic, job.tries) {
            // A transaction takes all or nothing.
            (true, _) => Action::Commit(ticket, plan, ends),
            (false, 0) => Action::Publish(ticket, plan),
            (false, _) => Action::PublishRest(ticket),
        });
    }

    /// Nothing of the delivery waits for the broker any more.
    pub(super) fn unstick(&mut self, ticket: Ticket) {
        if let Some(job) = self.jobs.get_mut(&ticket) {
            job.tries = 0;
        }
        if self.stuck.remove(&ticket) && self.stuck.is_empty() {
            self.actions.push(Action::Unstuck);
        }
    }

    pub(super) fn published(&mut self, ticket: Ticket, result: Result<(), Incomplete>, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Phase::Publishing(plan) = job.phase.clone() else { return };
        let (policy, attempt) = (self.rules.unroutable, job.facts.attempt);
        let passing = match result {
            Ok(()) => return self.confirmed(ticket, plan, now),
            Err(Incomplete::Lost(why)) => return self.pause(ticket, plan, &why, now),
            Err(Incomplete::Permanent(refusal)) => return self.refused(ticket, plan, &refusal, now),
            Err(Incomplete::Passing(passing)) => passing,
        };
        if plan == Plan::Emissions {
            let decide = |refusal| decide::after_refusal(refusal, policy, attempt, &self.rules.retry);
            if let Some(decision) = passing.iter().find_map(decide) {
                return self.publish(ticket, Plan::Copy(decision));
            }
        }
        // A copy that is not taken holds its delivery, and with it the route: better late than lost.
        let why = passing.first().map_or_else(String::new, ToString::to_string);
        self.pause(ticket, plan, &why, now);
    }

    /// The broker will never take what was to be published: another plan follows, or the delivery is held.
    fn refused(&mut self, ticket: Ticket, plan: Plan, refusal: &Permanent, now: Duration) {
        let next = match &plan {
            Plan::Emissions => Plan::Copy(decide::after_permanent(refusal, "an emission")),
            Plan::Copy(Decision::Retry { .. }) | Plan::Park | Plan::Queue(_) => {
                Plan::Copy(decide::after_permanent(refusal, "the copy for a later attempt"))
            }
            // The input itself is larger than what the broker takes now.
            Plan::Copy(Decision::DeadLetter { reason, error }) if refusal.reason() == Reason::TooLarge => {
                Plan::Cut(*reason, format!("{error}; the body is cut: {refusal}"))
            }
            Plan::Copy(Decision::DeadLetter { .. }) | Plan::Cut(..) => {
                return self.pause(ticket, plan, &format!("the dead letter: {refusal}"), now);
            }
        };
        self.publish(ticket, next);
    }

    /// Tries again later, in the same session only: a redelivery in the next one does the work with the same ids.
    pub(super) fn pause(&mut self, ticket: Ticket, plan: Plan, why: &str, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.session != Some(job.facts.session) {
            return self.leave(ticket, why);
        }
        job.tries = job.tries.saturating_add(1);
        let pause = Loop::RoutePublish.pause(job.tries).unwrap_or_default();
        job.phase = Phase::Paused { plan, until: now + pause };
        self.stuck.insert(ticket);
        self.actions.push(Action::Stuck(ticket, why.to_owned()));
    }

    /// Everything is with the broker.
    pub(super) fn confirmed(&mut self, ticket: Ticket, plan: Plan, now: Duration) {
        self.unstick(ticket);
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let ends = job.ends(&plan).filter(|_| self.rules.dedupe && !self.rules.atomic);
        job.outcome = Some(match plan {
            Plan::Emissions => Settled::Emitted,
            Plan::Copy(decision) => Settled::Copied(decision),
            Plan::Cut(reason, error) => Settled::Copied(Decision::DeadLetter { reason, error }),
            Plan::Park | Plan::Queue(_) => Settled::Parked,
        });
        match ends {
            Some(ended) => {
                job.phase = Phase::Marking;
                self.actions.push(Action::Mark(ticket, ended));
            }
            None => self.acknowledge(ticket, now),
        }
    }

    pub(super) fn acknowledge(&mut self, ticket: Ticket, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Some(outcome) = job.outcome.take() else { return };
        self.finish(ticket, outcome, now);
    }

    /// What is retried or parked comes back, and what follows it with its key waits for it.
    fn note_order(&mut self, ticket: Ticket, outcome: &Settled, now: Duration) {
        // What an earlier session began was delivered again since, and the list was read again.
        let Some(job) = self.jobs.get(&ticket).filter(|job| self.session == Some(job.facts.session)) else { return };
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
