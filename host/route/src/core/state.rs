//! The decisions of a route about its deliveries, without I/O: inputs and the time go in, actions come out.
//!
//! The core decides about loss and order: when a plugin may run, which messages are published, when an acknowledgement may
//! follow, and what a lost subscription, a refusal, an alarm or many failures mean. The core never waits, reads no clock and
//! knows no client. The simulator (`crate::simulation`) drives the executor with this core against a model of a broker.
//!
//! For every delivery the order is: look up the dedupe record, invoke the plugin, publish, take every confirm, write the
//! dedupe record, acknowledge. A broker with transactions gets the last four as one action.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use super::action::{Action, DeliveryOutcome, PublishPlan};
use super::circuit::Circuit;
use super::decision::{self as decide, Decision};
use super::facts::{DeliveryFacts, Rules, Ticket};
use super::input::CoreInput;
use super::job::{Job, JobPhase};
use super::ordering::{NextEvent, OrderingKeys};
use super::rate::TokenBucket;
use super::tenants::Tenants;
use trunkline_broker::{DedupeLookup, SettledAs};
use trunkline_event::CallFailure;

/// The state of one route.
pub(crate) struct Core {
    pub(super) rules: Rules,
    pub(super) subscription: Option<u64>,
    blocked: bool,
    draining: bool,
    pub(super) jobs: HashMap<Ticket, Job, FxBuildHasher>,
    bytes: usize,
    /// Deliveries whose messages the broker did not take.
    pub(super) held_back: BTreeSet<Ticket>,
    /// Deliveries that may start as soon as a place is free.
    ready: VecDeque<Ticket>,
    /// Deliveries that began and have not ended.
    begun: usize,
    /// Deliveries that began and publish nothing yet: look-ups and calls.
    running: usize,
    /// Whether a suspect is in work, alone.
    alone: bool,
    /// Ids of the events in work, with the repeats that wait for each.
    ids: HashMap<String, VecDeque<Ticket>>,
    pub(super) ordering: OrderingKeys,
    circuit: Option<Circuit>,
    bucket: Option<TokenBucket>,
    /// Time at which the rate lets the first ready delivery start.
    rated_until: Option<Duration>,
    tenants: Option<Tenants>,
    pub(super) actions: Vec<Action>,
}

impl Core {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            circuit: rules.circuit.map(Circuit::new),
            bucket: rules.rate.map(TokenBucket::new),
            tenants: rules.tenant_rate.map(Tenants::new),
            rules,
            subscription: None,
            blocked: false,
            draining: false,
            jobs: HashMap::default(),
            bytes: 0,
            held_back: BTreeSet::new(),
            ready: VecDeque::new(),
            begun: 0,
            running: 0,
            alone: false,
            rated_until: None,
            ids: HashMap::new(),
            ordering: OrderingKeys::default(),
            actions: Vec::new(),
        }
    }

    /// Takes an input at `now`, the time since any fixed instant, and appends the actions that follow.
    pub(crate) fn step(&mut self, input: CoreInput, now: Duration, actions: &mut Vec<Action>) {
        if let Some(circuit) = &mut self.circuit {
            circuit.tick(now);
        }
        match input {
            CoreInput::Arrived(ticket, facts) => self.arrived(ticket, facts, now),
            CoreInput::LookedUp(ticket, known) => self.looked(ticket, known, now),
            CoreInput::Invoked(ticket, outcome) => self.invoked(ticket, outcome, now),
            CoreInput::Published(ticket, result) => self.published(ticket, result, now),
            CoreInput::RecordWritten(ticket) => self.acknowledge(ticket, now),
            CoreInput::Abandoned(ticket, why) => self.leave(ticket, why),
            CoreInput::Subscription { now: subscription, blocked } => self.subscription_changed(subscription, blocked),
            CoreInput::Waiting(waiting) => self.ordering.learn(waiting, now),
            CoreInput::Missing(waiter) => {
                self.ordering.settle(&waiter.key, &waiter.id);
                self.ordering.wake(waiter.key);
            }
            CoreInput::Drain => self.drain(),
            CoreInput::Tick => {}
        }
        self.wake(now);
        self.start(now);
        actions.append(&mut self.actions);
    }

    /// Whether another delivery should be taken from the queue.
    pub(crate) fn wants(&self) -> bool {
        let has_room = self.jobs.len() < self.rules.held_max
            && self.ready.len() < self.rules.waiting_max
            && (self.bytes < self.rules.bytes_max || self.jobs.is_empty());
        let may_probe = |circuit: &Circuit| self.jobs.is_empty() && circuit.is_probing();
        let may_start = self.circuit.as_ref().is_none_or(|circuit| circuit.lets_in() || may_probe(circuit));
        has_room
            && may_start
            && self.held_back.is_empty()
            && !self.blocked
            && !self.draining
            && self.subscription.is_some()
    }

    /// Time at which [`CoreInput::Tick`] is due, if time alone can change anything. The time may be over already, because the
    /// executor asks some time after the step.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        // During an alarm no publish is tried again.
        let paused = self.paused().filter(|_| !self.blocked).map(|(_, _, until)| until);
        let circuit = self.circuit.as_ref().and_then(Circuit::deadline);
        paused.chain(circuit).chain(self.rated_until).min()
    }

    /// Time until which no delivery can begin, by the rate or the open circuit, while no work is in progress.
    pub(crate) fn idle_until(&self) -> Option<Duration> {
        let until = self.circuit.as_ref().and_then(Circuit::deadline).max(self.rated_until)?;
        self.jobs.values().all(|job| matches!(job.phase, JobPhase::Waiting)).then_some(until)
    }

    /// Whether nothing new is begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Deliveries in work.
    pub(crate) fn held(&self) -> usize {
        self.jobs.len()
    }

    fn arrived(&mut self, ticket: Ticket, facts: DeliveryFacts, now: Duration) {
        self.bytes += facts.bytes;
        let ordering_key = facts.ordering_key.clone();
        self.jobs.insert(ticket, Job::new(facts));
        match ordering_key {
            Some(ordering_key) => {
                self.ordering.join(&ordering_key, ticket);
                self.advance(&ordering_key, now);
            }
            None => self.ready.push_back(ticket),
        }
    }

    /// Lets the first delivery of an ordering key start, or moves the delivery behind the events that wait in the broker.
    fn advance(&mut self, ordering_key: &str, now: Duration) {
        let jobs = &self.jobs;
        let facts = |ticket: Ticket| jobs.get(&ticket).map(|job| (job.facts.id.as_str(), job.facts.due));
        match self.ordering.next(ordering_key, now, facts) {
            NextEvent::None => {}
            NextEvent::Run(ticket) => self.ready.push_back(ticket),
            NextEvent::Park(ticket) => self.publish(ticket, PublishPlan::Park),
            NextEvent::Missing(waiter) => {
                self.ordering.wake(waiter.key.clone());
                self.actions.push(Action::ReportMissing(waiter));
            }
        }
    }

    /// Starts the deliveries that may start.
    fn start(&mut self, now: Duration) {
        self.rated_until = None;
        while let Some(&ticket) = self.ready.front() {
            let Some(job) = self.jobs.get(&ticket) else {
                self.ready.pop_front();
                continue;
            };
            let (suspect, id) = (job.facts.suspect, job.facts.id.clone());
            if self.draining || self.subscription.is_none() || self.subscription != Some(job.facts.subscription) {
                self.ready.pop_front();
                self.leave(ticket, "the session is over, or the daemon is stopping");
                continue;
            }
            let is_full = self.running >= self.rules.concurrency;
            let must_wait = self.alone || suspect && self.begun > 0;
            // While the broker does not take the messages of a delivery, no further call makes messages.
            if is_full || must_wait || self.blocked || !self.held_back.is_empty() {
                return;
            }
            if let Some(behind) = self.ids.get_mut(&id) {
                self.ready.pop_front();
                behind.push_back(ticket);
                continue;
            }
            if let Some(wait) = self.turn(ticket, now) {
                self.ready.pop_front();
                self.publish(ticket, PublishPlan::AwaitTurn(wait));
                continue;
            }
            self.rated_until = self.bucket.as_ref().and_then(|bucket| bucket.deadline(now));
            if self.rated_until.is_some() {
                return;
            }
            if self.circuit.as_mut().is_some_and(|circuit| !circuit.admit(now)) {
                return;
            }
            if let Some(bucket) = &mut self.bucket {
                bucket.take(now);
            }
            self.ready.pop_front();
            self.begin(ticket, id, suspect, now);
        }
    }

    /// Time that an event has to wait for its turn among the events of its tenant.
    fn turn(&mut self, ticket: Ticket, now: Duration) -> Option<Duration> {
        let facts = &self.jobs.get(&ticket)?.facts;
        if facts.has_expired(now) {
            return None;
        }
        let turn = match facts.turn {
            Some(turn) => turn,
            None => self.tenants.as_mut()?.take(facts.tenant.as_deref()?, now)?,
        };
        turn.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    fn begin(&mut self, ticket: Ticket, id: String, suspect: bool, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        self.begun += 1;
        self.running += 1;
        self.alone = suspect;
        (job.has_begun, job.runs) = (true, true);
        self.ids.insert(id, VecDeque::new());
        if self.rules.dedupe && job.facts.own_id {
            job.phase = JobPhase::LookingUp;
            self.actions.push(Action::LookUp(ticket));
        } else {
            self.invoke(ticket, now);
        }
    }

    /// Runs the plugin, unless the event is not let in or its TTL is over.
    fn invoke(&mut self, ticket: Ticket, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if let Some(decision) = job.facts.refused.take() {
            return self.publish(ticket, PublishPlan::Copy(decision));
        }
        if job.facts.has_expired(now) {
            let decision = decide::expired(job.facts.attempt, None);
            return self.publish(ticket, PublishPlan::Copy(decision));
        }
        job.phase = JobPhase::Running;
        self.actions.push(Action::Invoke(ticket));
    }

    fn looked(&mut self, ticket: Ticket, known: DedupeLookup, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        match known {
            DedupeLookup::Unknown => self.invoke(ticket, now),
            // The event was dead-lettered and then redriven, perhaps with a corrected body.
            DedupeLookup::Same(SettledAs::Dead) | DedupeLookup::Other(SettledAs::Dead) if job.facts.redriven => {
                self.invoke(ticket, now)
            }
            DedupeLookup::Same(_) => self.finish(ticket, DeliveryOutcome::Repeat, now),
            DedupeLookup::Other(_) => {
                job.conflicts = true;
                let error = "another event with the same id and other content was settled before (id conflict)";
                self.publish(ticket, PublishPlan::Copy(Decision::dead_letter(trunkline_event::Reason::Invalid, error)));
            }
        }
    }

    fn invoked(&mut self, ticket: Ticket, outcome: Result<(), CallFailure>, now: Duration) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let attempt = job.facts.attempt;
        if let Some(circuit) = &mut self.circuit {
            let failed = outcome.as_ref().is_err_and(CallFailure::is_passing);
            if let Some(open) = circuit.note(failed, now) {
                self.actions.push(Action::ReportCircuit(open));
            }
        }
        let plan = match outcome {
            Ok(()) => PublishPlan::Emissions,
            Err(failure) => PublishPlan::Copy(decide::after_failure(&failure, attempt, &self.rules.retry)),
        };
        self.publish(ticket, plan);
    }

    /// Gives the place of a call free.
    pub(super) fn runs_no_longer(&mut self, ticket: Ticket) {
        if let Some(job) = self.jobs.get_mut(&ticket).filter(|job| job.runs) {
            job.runs = false;
            self.running -= 1;
        }
    }

    pub(super) fn leave(&mut self, ticket: Ticket, why: &str) {
        self.actions.push(Action::LeaveToBroker(ticket, why.to_owned()));
        self.end(ticket);
    }

    /// Forgets a ticket, and lets the deliveries start that waited for it.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.release(ticket);
        self.runs_no_longer(ticket);
        let Some(job) = self.jobs.remove(&ticket) else { return };
        self.bytes -= job.facts.bytes;
        if job.has_begun {
            self.begun -= 1;
            self.alone = false;
            if self.begun == 0
                && let Some(circuit) = &mut self.circuit
            {
                // A probe without an outcome decides nothing.
                circuit.forget_probe();
            }
            let behind = self.ids.remove(&job.facts.id).unwrap_or_default();
            for waiting in behind.into_iter().rev() {
                self.ready.push_front(waiting);
            }
        }
        if let Some(ordering_key) = &job.facts.ordering_key {
            self.ordering.leave(ordering_key, ticket);
            self.ordering.wake(ordering_key.clone());
        }
    }

    fn subscription_changed(&mut self, subscription: Option<u64>, blocked: bool) {
        let was = std::mem::replace(&mut self.subscription, subscription);
        self.blocked = blocked;
        if was == subscription {
            return;
        }
        // The ordering keys are kept until the waiting list is read again.
        self.leave_all("the session of the delivery is over", |job| {
            Some(job.facts.subscription) != subscription
                && matches!(job.phase, JobPhase::Waiting | JobPhase::Paused { .. })
        });
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_all("the daemon is stopping", |job| matches!(job.phase, JobPhase::Waiting));
    }

    fn leave_all(&mut self, why: &str, is_meant: impl Fn(&Job) -> bool) {
        let meant = self.jobs.iter().filter(|(_, job)| is_meant(job));
        let mut meant: Vec<Ticket> = meant.map(|(ticket, _)| *ticket).collect();
        meant.sort_unstable();
        for ticket in meant {
            self.leave(ticket, why);
        }
    }

    /// Continues the work that time has made due.
    fn wake(&mut self, now: Duration) {
        while let Some(ordering_key) = self.ordering.woken() {
            self.advance(&ordering_key, now);
        }
        if self.blocked || self.held_back.is_empty() {
            return;
        }
        let due = self.paused().filter(|(_, _, until)| *until <= now);
        let due: Vec<(Ticket, PublishPlan)> = due.map(|(ticket, plan, _)| (ticket, plan.clone())).collect();
        for (ticket, plan) in due {
            self.try_publish(ticket, plan);
        }
    }

    /// Plans that wait to be published again, each with its time.
    fn paused(&self) -> impl Iterator<Item = (Ticket, &PublishPlan, Duration)> {
        self.held_back.iter().filter_map(|ticket| match &self.jobs.get(ticket)?.phase {
            JobPhase::Paused { plan, until } => Some((*ticket, plan, *until)),
            JobPhase::Waiting
            | JobPhase::LookingUp
            | JobPhase::Running
            | JobPhase::Publishing(_)
            | JobPhase::WritingRecord => None,
        })
    }
}

#[cfg(test)]
mod tests;
