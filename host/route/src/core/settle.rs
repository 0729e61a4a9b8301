//! From a plan to the acknowledgement: publish, take every confirm, write the dedupe record, acknowledge, in this order.

use std::time::Duration;

use super::action::{Action, DeliveryOutcome, PublishPlan};
use super::decision::{self as decide, Decision};
use super::facts::Ticket;
use super::input::Incomplete;
use super::job::JobPhase;
use super::ordering::CopyPlace;
use super::state::Core;
use trunkline_broker::Permanent;
use trunkline_event::Reason;
use trunkline_telemetry::wait::Loop;

impl Core {
    /// Begins to publish a plan, in one transaction with its acknowledgement on a broker with transactions.
    pub(super) fn publish(&mut self, ticket: Ticket, plan: PublishPlan) {
        self.release(ticket);
        self.runs_no_longer(ticket);
        self.try_publish(ticket, plan);
    }

    /// Publishes the messages of a plan that are not confirmed yet.
    pub(super) fn try_publish(&mut self, ticket: Ticket, plan: PublishPlan) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.subscription != Some(job.facts.subscription) {
            return self.leave(ticket, "the session of the delivery is over");
        }
        job.phase = JobPhase::Publishing(plan.clone());
        let ends = job.record_end(&plan).filter(|_| self.rules.dedupe);
        self.actions.push(match (self.rules.atomic, job.tries) {
            // A transaction takes all messages or none.
            (true, _) => Action::Commit(ticket, plan, ends),
            (false, 0) => Action::Publish(ticket, plan),
            (false, _) => Action::PublishRest(ticket),
        });
    }

    /// Notes that no message of the delivery waits for the broker any more.
    pub(super) fn release(&mut self, ticket: Ticket) {
        if let Some(job) = self.jobs.get_mut(&ticket) {
            job.tries = 0;
        }
        if self.held_back.remove(&ticket) && self.held_back.is_empty() {
            self.actions.push(Action::ReportReleased);
        }
    }

    pub(super) fn published(&mut self, ticket: Ticket, result: Result<(), Incomplete>, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let JobPhase::Publishing(plan) = job.phase.clone() else { return };
        let (policy, attempt) = (self.rules.unroutable, job.facts.attempt);
        let passing = match result {
            Ok(()) => return self.confirmed(ticket, plan, now),
            Err(Incomplete::Lost(why)) => return self.pause(ticket, plan, &why, now),
            Err(Incomplete::Permanent(refusal)) => return self.refused(ticket, plan, &refusal, now),
            Err(Incomplete::Passing(passing)) => passing,
        };
        if plan == PublishPlan::Emissions {
            let decide = |refusal| decide::after_refusal(refusal, policy, attempt, &self.rules.retry);
            if let Some(decision) = passing.iter().find_map(decide) {
                return self.publish(ticket, PublishPlan::Copy(decision));
            }
        }
        // A copy that the broker does not take holds its delivery and the route, so that no event is lost.
        let why = passing.first().map_or_else(String::new, ToString::to_string);
        self.pause(ticket, plan, &why, now);
    }

    /// The broker refused a message for good: another plan follows, or the delivery is held.
    fn refused(&mut self, ticket: Ticket, plan: PublishPlan, refusal: &Permanent, now: Duration) {
        let next = match &plan {
            PublishPlan::Emissions => PublishPlan::Copy(decide::after_permanent(refusal, "an emission")),
            PublishPlan::Copy(Decision::Retry { .. }) | PublishPlan::Park | PublishPlan::AwaitTurn(_) => {
                PublishPlan::Copy(decide::after_permanent(refusal, "the copy for the next attempt"))
            }
            // The body of the event is larger than the broker takes now.
            PublishPlan::Copy(Decision::DeadLetter { reason, error }) if refusal.reason() == Reason::TooLarge => {
                PublishPlan::Cut(
                    *reason,
                    format!("{error}; the body of the dead letter is shortened, because {refusal}"),
                )
            }
            PublishPlan::Copy(Decision::DeadLetter { .. }) | PublishPlan::Cut(..) => {
                return self.pause(ticket, plan, &format!("the dead letter is refused: {refusal}"), now);
            }
        };
        self.publish(ticket, next);
    }

    /// Tries again later in the same subscription. In the next subscription the redelivery does the work with the same ids.
    pub(super) fn pause(&mut self, ticket: Ticket, plan: PublishPlan, why: &str, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if self.subscription != Some(job.facts.subscription) {
            return self.leave(ticket, why);
        }
        job.tries = job.tries.saturating_add(1);
        let pause = Loop::RoutePublish.pause(job.tries).unwrap_or_default();
        job.phase = JobPhase::Paused { plan, until: now + pause };
        self.held_back.insert(ticket);
        self.actions.push(Action::ReportHeld(ticket, why.to_owned()));
    }

    /// Notes that the broker has every message of the plan.
    pub(super) fn confirmed(&mut self, ticket: Ticket, plan: PublishPlan, now: Duration) {
        self.release(ticket);
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let ends = job.record_end(&plan).filter(|_| self.rules.dedupe && !self.rules.atomic);
        job.outcome = Some(match plan {
            PublishPlan::Emissions => DeliveryOutcome::Emitted,
            PublishPlan::Copy(decision) => DeliveryOutcome::Copied(decision),
            PublishPlan::Cut(reason, error) => DeliveryOutcome::Copied(Decision::DeadLetter { reason, error }),
            PublishPlan::Park | PublishPlan::AwaitTurn(_) => DeliveryOutcome::Parked,
        });
        match ends {
            Some(ended) => {
                job.phase = JobPhase::WritingRecord;
                self.actions.push(Action::WriteRecord(ticket, ended));
            }
            None => self.acknowledge(ticket, now),
        }
    }

    pub(super) fn acknowledge(&mut self, ticket: Ticket, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Some(outcome) = job.outcome.take() else { return };
        self.finish(ticket, outcome, now);
    }

    /// Notes the order of an event: a retried or parked event comes back, and later events of its key wait for it.
    fn note_order(&mut self, ticket: Ticket, outcome: &DeliveryOutcome, now: Duration) {
        // Deliveries of an earlier subscription were delivered again, and the waiting list was read again.
        let Some(job) = self.jobs.get(&ticket).filter(|job| self.subscription == Some(job.facts.subscription)) else {
            return;
        };
        let Some(ordering_key) = &job.facts.ordering_key else { return };
        match outcome {
            DeliveryOutcome::Copied(Decision::Retry { .. }) => {
                self.ordering.park(ordering_key, &job.facts.id, CopyPlace::First, now);
            }
            DeliveryOutcome::Parked => self.ordering.park(ordering_key, &job.facts.id, CopyPlace::Last, now),
            DeliveryOutcome::Copied(Decision::DeadLetter { .. })
            | DeliveryOutcome::Emitted
            | DeliveryOutcome::Repeat => {
                self.ordering.settle(ordering_key, &job.facts.id);
            }
        }
    }

    pub(super) fn finish(&mut self, ticket: Ticket, settled: DeliveryOutcome, now: Duration) {
        self.note_order(ticket, &settled, now);
        let in_transaction = self.rules.atomic && settled != DeliveryOutcome::Repeat;
        let done =
            if in_transaction { Action::Committed(ticket, settled) } else { Action::Acknowledge(ticket, settled) };
        self.actions.push(done);
        self.end(ticket);
    }
}
