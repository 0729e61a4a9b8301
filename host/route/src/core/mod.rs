//! What a route does with its deliveries, without I/O: inputs and the time go in, actions come out.
//!
//! Everything that decides about loss and order is here: when a plugin may run, what is published, when an
//! acknowledgement may follow, what a lost session, a refusal, an alarm or a failure storm means. It never waits, reads
//! no clock and knows no client, so the simulator (`crate::simulation`) runs the same code against a model of a broker
//! under thousands of seeded schedules.
//!
//! The order that must hold, for every delivery: look up (dedupe) → invoke → publish, all confirmed → mark (dedupe) →
//! acknowledge. A broker that can do the last three in one transaction gets them as one action.

mod circuit;
mod lanes;
mod rate;
mod settle;
mod tenants;
mod words;
mod work;

pub(crate) use words::{Action, Facts, Incomplete, Input, Plan, Rules, Settled, Ticket};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::decide::{self, Decision};
use circuit::Circuit;
use lanes::{Lanes, Turn};
use rate::Bucket;
use tenants::Tenants;
use trunkline_broker::{Ended, Known};
use trunkline_event::Failure;
use work::{Job, Phase};

/// The state of one route.
pub(crate) struct Core {
    rules: Rules,
    session: Option<u64>,
    blocked: bool,
    draining: bool,
    jobs: BTreeMap<Ticket, Job>,
    bytes: usize,
    /// Deliveries whose messages the broker did not take, since their first try that failed.
    stuck: BTreeSet<Ticket>,
    /// May start as soon as there is room.
    ready: VecDeque<Ticket>,
    running: usize,
    /// A suspect runs, alone.
    alone: bool,
    /// Events in work by id, with the repeats that wait for them.
    ids: HashMap<String, VecDeque<Ticket>>,
    lanes: Lanes,
    circuit: Option<Circuit>,
    bucket: Option<Bucket>,
    /// When the first that is ready may start by the rate, if nothing else holds it.
    rated_until: Option<Duration>,
    tenants: Option<Tenants>,
    actions: Vec<Action>,
}

impl Core {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            circuit: rules.circuit.map(Circuit::new),
            bucket: rules.rate.map(Bucket::new),
            tenants: rules.tenant_rate.map(Tenants::new),
            rules,
            session: None,
            blocked: false,
            draining: false,
            jobs: BTreeMap::new(),
            bytes: 0,
            stuck: BTreeSet::new(),
            ready: VecDeque::new(),
            running: 0,
            alone: false,
            rated_until: None,
            ids: HashMap::new(),
            lanes: Lanes::default(),
            actions: Vec::new(),
        }
    }

    /// Takes in what happened at `now` (since any fixed instant) and says what to do.
    pub(crate) fn step(&mut self, input: Input, now: Duration) -> Vec<Action> {
        if let Some(circuit) = &mut self.circuit {
            circuit.tick(now);
        }
        match input {
            Input::Arrived(ticket, facts) => self.arrived(ticket, facts, now),
            Input::Looked(ticket, known) => self.looked(ticket, known, now),
            Input::Invoked(ticket, outcome) => self.invoked(ticket, outcome, now),
            Input::Published(ticket, result) => self.published(ticket, result, now),
            Input::Marked(ticket) => self.acknowledge(ticket, now),
            Input::Abandoned(ticket, why) => self.leave(ticket, why),
            Input::Session { now: session, blocked } => self.session_changed(session, blocked),
            Input::Waiting(waiting) => self.lanes.learn(waiting, now),
            Input::Missing(waiter) => {
                self.lanes.settle(&waiter.key, &waiter.id);
                self.lanes.wake(waiter.key);
            }
            Input::Drain => self.drain(),
            Input::Tick => {}
        }
        self.wake(now);
        self.start(now);
        std::mem::take(&mut self.actions)
    }

    /// Whether another delivery should be taken from the queue.
    pub(crate) fn wants(&self) -> bool {
        let has_room =
            self.jobs.len() < self.rules.held_max && (self.bytes < self.rules.bytes_max || self.jobs.is_empty());
        let may_probe = |circuit: &Circuit| self.jobs.is_empty() && circuit.is_probing();
        let may_start = self.circuit.as_ref().is_none_or(|circuit| circuit.lets_in() || may_probe(circuit));
        has_room && may_start && self.stuck.is_empty() && !self.blocked && !self.draining && self.session.is_some()
    }

    /// When [`Input::Tick`] is due, if time alone can change anything. Also when that is over already: whoever asks does so
    /// some time after the step.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        // During an alarm nothing is tried again, whatever the time.
        let paused = self.paused().filter(|_| !self.blocked).map(|(_, _, until)| until);
        let circuit = self.circuit.as_ref().and_then(Circuit::deadline);
        paused.chain(circuit).chain(self.rated_until).min()
    }

    /// Until when nothing can begin, by the rate or the open circuit, while nothing is in work.
    pub(crate) fn idle_until(&self) -> Option<Duration> {
        let until = self.circuit.as_ref().and_then(Circuit::deadline).max(self.rated_until)?;
        self.jobs.values().all(|job| matches!(job.phase, Phase::Waiting)).then_some(until)
    }

    /// Nothing new is begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Deliveries in work.
    pub(crate) fn held(&self) -> usize {
        self.jobs.len()
    }

    fn arrived(&mut self, ticket: Ticket, facts: Facts, now: Duration) {
        self.bytes += facts.bytes;
        let lane = facts.lane.clone();
        self.jobs.insert(ticket, Job::new(facts));
        match lane {
            Some(lane) => {
                self.lanes.join(&lane, ticket);
                self.advance(&lane, now);
            }
            None => self.ready.push_back(ticket),
        }
    }

    /// Lets the first of a lane go, or moves it behind those that wait in the broker.
    fn advance(&mut self, lane: &str, now: Duration) {
        let jobs = &self.jobs;
        let facts = |ticket: Ticket| jobs.get(&ticket).map(|job| (job.facts.id.as_str(), job.facts.due));
        match self.lanes.next(lane, now, facts) {
            Turn::Nobody => {}
            Turn::Run(ticket) => self.ready.push_back(ticket),
            Turn::Park(ticket) => self.publish(ticket, Plan::Park),
            Turn::Missing(waiter) => {
                self.lanes.wake(waiter.key.clone());
                self.actions.push(Action::Missing(waiter));
            }
        }
    }

    /// Starts what may start.
    fn start(&mut self, now: Duration) {
        self.rated_until = None;
        while let Some(&ticket) = self.ready.front() {
            let Some(job) = self.jobs.get(&ticket) else {
                self.ready.pop_front();
                continue;
            };
            let (suspect, id) = (job.facts.suspect, job.facts.id.clone());
            if self.draining || self.session.is_none() || self.session != Some(job.facts.session) {
                self.ready.pop_front();
                self.leave(ticket, "the session is over, or the daemon stops");
                continue;
            }
            let is_full = self.running >= self.rules.concurrency;
            let must_wait = self.alone || suspect && self.running > 0;
            if is_full || must_wait || self.blocked {
                return;
            }
            if let Some(behind) = self.ids.get_mut(&id) {
                self.ready.pop_front();
                behind.push_back(ticket);
                continue;
            }
            if let Some(wait) = self.turn(ticket, now) {
                self.ready.pop_front();
                self.publish(ticket, Plan::Queue(wait));
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
            self.begin(ticket, id, suspect);
        }
    }

    /// How long an event has to wait for its turn among those of its tenant.
    fn turn(&mut self, ticket: Ticket, now: Duration) -> Option<Duration> {
        let facts = &self.jobs.get(&ticket)?.facts;
        let turn = match facts.turn {
            Some(turn) => turn,
            None => self.tenants.as_mut()?.take(facts.tenant.as_deref()?, now)?,
        };
        turn.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    fn begin(&mut self, ticket: Ticket, id: String, suspect: bool) {
        self.running += 1;
        self.alone = suspect;
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        job.counted = true;
        self.ids.insert(id, VecDeque::new());
        if self.rules.dedupe && job.facts.own_id {
            job.phase = Phase::Looking;
            self.actions.push(Action::Look(ticket));
        } else {
            self.invoke(ticket);
        }
    }

    /// Runs the plugin, unless the event is not let in.
    fn invoke(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if let Some(decision) = job.facts.refused.take() {
            return self.publish(ticket, Plan::Copy(decision));
        }
        job.phase = Phase::Running;
        self.actions.push(Action::Invoke(ticket));
    }

    fn looked(&mut self, ticket: Ticket, known: Known, now: Duration) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        match known {
            Known::No => self.invoke(ticket),
            // Nothing followed from it, and somebody wants it tried again, perhaps with a mended body.
            Known::Same(Ended::Dead) | Known::Other(Ended::Dead) if job.facts.redriven => self.invoke(ticket),
            Known::Same(_) => self.finish(ticket, Settled::Repeat, now),
            Known::Other(_) => {
                job.conflicts = true;
                let error = "another event with the same id and other content was settled before (id conflict)";
                self.publish(ticket, Plan::Copy(Decision::dead_letter(trunkline_event::Reason::Invalid, error)));
            }
        }
    }

    fn invoked(&mut self, ticket: Ticket, outcome: Result<(), Failure>, now: Duration) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let attempt = job.facts.attempt;
        if let Some(circuit) = &mut self.circuit {
            let failed = outcome.as_ref().is_err_and(Failure::is_passing);
            if let Some(open) = circuit.note(failed, now) {
                self.actions.push(Action::Circuit(open));
            }
        }
        let plan = match outcome {
            Ok(()) => Plan::Emissions,
            Err(failure) => Plan::Copy(decide::after_failure(&failure, attempt, &self.rules.retry)),
        };
        self.publish(ticket, plan);
    }

    fn leave(&mut self, ticket: Ticket, why: &str) {
        self.actions.push(Action::Leave(ticket, why.to_owned()));
        self.end(ticket);
    }

    /// Forgets a ticket, and lets those go that waited for it.
    fn end(&mut self, ticket: Ticket) {
        self.unstick(ticket);
        let Some(job) = self.jobs.remove(&ticket) else { return };
        self.bytes -= job.facts.bytes;
        if job.counted {
            self.running -= 1;
            self.alone = false;
            if self.running == 0
                && let Some(circuit) = &mut self.circuit
            {
                // A probe that ended without an outcome has told nothing.
                circuit.unprobe();
            }
            let behind = self.ids.remove(&job.facts.id).unwrap_or_default();
            for waiting in behind.into_iter().rev() {
                self.ready.push_front(waiting);
            }
        }
        if let Some(lane) = &job.facts.lane {
            self.lanes.leave(lane, ticket);
            self.lanes.wake(lane.clone());
        }
    }

    fn session_changed(&mut self, session: Option<u64>, blocked: bool) {
        let was = std::mem::replace(&mut self.session, session);
        self.blocked = blocked;
        if was == session {
            return;
        }
        // Lanes are remembered until the list of those that wait is read again.
        self.leave_all("its session is over", |job| {
            Some(job.facts.session) != session && matches!(job.phase, Phase::Waiting | Phase::Paused { .. })
        });
    }

    fn drain(&mut self) {
        self.draining = true;
        self.leave_all("the daemon stops", |job| matches!(job.phase, Phase::Waiting));
    }

    fn leave_all(&mut self, why: &str, is_meant: impl Fn(&Job) -> bool) {
        let meant: Vec<Ticket> = self.jobs.iter().filter(|(_, job)| is_meant(job)).map(|(ticket, _)| *ticket).collect();
        for ticket in meant {
            self.leave(ticket, why);
        }
    }

    /// What time has made due.
    fn wake(&mut self, now: Duration) {
        while let Some(lane) = self.lanes.woken() {
            self.advance(&lane, now);
        }
        if self.blocked || self.stuck.is_empty() {
            return;
        }
        let due = self.paused().filter(|(_, _, until)| *until <= now);
        let due: Vec<(Ticket, Plan)> = due.map(|(ticket, plan, _)| (ticket, plan.clone())).collect();
        for (ticket, plan) in due {
            self.try_publish(ticket, plan);
        }
    }

    /// What waits to be published again, and until when.
    fn paused(&self) -> impl Iterator<Item = (Ticket, &Plan, Duration)> {
        self.stuck.iter().filter_map(|ticket| match &self.jobs.get(ticket)?.phase {
            Phase::Paused { plan, until } => Some((*ticket, plan, *until)),
            Phase::Waiting | Phase::Looking | Phase::Running | Phase::Publishing(_) | Phase::Marking => None,
        })
    }
}

#[cfg(test)]
mod tests;
