//! One schedule: the clock, the steps that are due, and the faults.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

use super::broker::{DEAD, ModelBroker, SOURCE, number};
use super::daemon::ModelDaemon;
use super::plugin::{NUMBER, Nature};
use crate::core::Ticket;
use trunkline_broker::SettledAs;
use trunkline_config::{CircuitBreaker, Rate, Unroutable};
use trunkline_event::{ExchangeName, HeaderValue, Message, Properties, RoutingKey};

/// The faults of a schedule.
pub(super) const FAULTS: [&str; 11] = [
    "crash",
    "stop",
    "session",
    "consumer",
    "cancelled",
    "channel",
    "unconfirmed",
    "alarm",
    "full",
    "half-full",
    "redrive",
];
/// A body that is larger than the broker takes back.
static HEAVY: [u8; 40 << 10] = [b'x'; 40 << 10];
/// Latest end of a schedule.
const END: Duration = Duration::from_secs(4 * 3600);
/// Largest number of steps of a schedule; most schedules have some thousand.
const EVENTS_MAX: u32 = 500_000;
const PRODUCED_WITHIN_MS: u64 = 5_000;
const FAULTS_WITHIN_MS: u64 = 8_000;

/// The settings and faults that one seed draws.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// Whether the broker takes publishes, dedupe records and acknowledgements in one transaction.
    pub(super) atomic: bool,
    pub(super) dedupe: bool,
    pub(super) ordered: bool,
    pub(super) unroutable: Unroutable,
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) circuit: Option<CircuitBreaker>,
    pub(super) rate: Option<Rate>,
    pub(super) tenant_rate: Option<Rate>,
    pub(super) faults: Vec<(&'static str, Duration)>,
}

/// An event that a producer has published with a confirm.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// Id of the event; without one the daemon gives each delivery a new id.
    pub(super) id: Option<String>,
    /// Whether the event has headers by which the broker routes copies further.
    pub(super) routes_further: bool,
    pub(super) key: String,
    pub(super) nature: Nature,
    /// Number of publishes of the event.
    pub(super) times: u32,
}

/// A step of the schedule that is due.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum Due {
    Produce(usize),
    /// The broker takes the next message on its way.
    Take,
    Confirm,
    /// The next message that is published alone.
    Alone(u64),
    /// A confirm is overdue.
    Overdue(u64),
    Release,
    /// The embedded broker counts its committed messages.
    Counted,
    /// Acknowledgements are sent.
    Flush(u64),
    /// A request of the executor is answered.
    Answer(u64, Ticket),
    Tick(u64),
    /// The daemon learns of the session or of the alarm.
    Noticed(u64),
    /// The daemon has read the waiting list, in this session.
    Read(u64, u64),
    /// A waiting-list entry arrives.
    Entry(u64),
    /// A request about the waiting list is performed, by its number.
    EntryWork(u64, u64),
    Fault(usize),
    Mended(&'static str),
    Start,
}

pub(super) struct Simulation {
    pub(super) scenario: Scenario,
    pub(super) random: fastrand::Rng,
    pub(super) now: Duration,
    due: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    pub(super) published: Vec<Published>,
    pub(super) broker: ModelBroker,
    pub(super) daemon: Option<ModelDaemon>,
    /// Number of the daemon. Work of an earlier daemon comes to nothing.
    pub(super) incarnation: u64,
    /// Number of the session; none while the broker is away.
    pub(super) session: Option<u64>,
    pub(super) sessions: u64,
    /// The dedupe records, which outlive the daemon.
    pub(super) records: HashMap<String, SettledAs>,
    /// Numbers of the events that were in work when a fault struck, and that may be handled again.
    pub(super) may_repeat: BTreeSet<usize>,
    /// Time of the last fault.
    pub(super) struck: Duration,
    /// Numbers of the redriven events.
    pub(super) redriven: BTreeSet<usize>,
    pub(super) seen_faults: BTreeMap<&'static str, u32>,
    trace: DefaultHasher,
    pub(super) violations: Vec<String>,
    /// Time at which the next held message comes back.
    release_at: Option<Duration>,
    /// Numbers of events in the order in which they were published.
    pub(super) arrivals: Vec<usize>,
}

impl Simulation {
    /// Runs the schedule of a seed to its end.
    pub(super) fn run(seed: u64) -> Self {
        let mut simulation = Self::new(seed);
        simulation.at(Duration::ZERO, Due::Start);
        for index in 0..simulation.published.len() {
            for _ in 0..simulation.published[index].times {
                let when = Duration::from_millis(simulation.random.u64(..PRODUCED_WITHIN_MS));
                simulation.at(when, Due::Produce(index));
            }
        }
        for index in 0..simulation.scenario.faults.len() {
            simulation.at(simulation.scenario.faults[index].1, Due::Fault(index));
        }
        let mut happened = 0;
        while let Some(((now, _), due)) = simulation.due.pop_first() {
            happened += 1;
            if happened > EVENTS_MAX {
                simulation
                    .violations
                    .push(format!("the simulation has more than {EVENTS_MAX} steps: {due:?} at {now:?}"));
            }
            if now > END || !simulation.violations.is_empty() {
                break;
            }
            simulation.now = now;
            (now, due).hash(&mut simulation.trace);
            simulation.happens(due);
        }
        simulation
    }

    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut random);
        let keys = random.usize(1..4);
        let published = (0..random.usize(4..24))
            .map(|index| {
                let id = (random.u8(..5) > 0).then(|| format!("e{index}"));
                Published {
                    routes_further: random.u8(..6) == 0,
                    key: format!("k{}", random.usize(..keys)),
                    nature: Nature::draw(&mut random),
                    times: if scenario.dedupe && id.is_some() && random.u8(..4) == 0 { 2 } else { 1 },
                    id,
                }
            })
            .collect();
        let broker = ModelBroker::new(scenario.atomic);
        Self {
            scenario,
            random,
            now: Duration::ZERO,
            due: BTreeMap::new(),
            sequence: 0,
            published,
            broker,
            daemon: None,
            incarnation: 0,
            session: None,
            sessions: 0,
            records: HashMap::new(),
            may_repeat: BTreeSet::new(),
            struck: Duration::ZERO,
            redriven: BTreeSet::new(),
            seen_faults: BTreeMap::new(),
            trace: DefaultHasher::new(),
            violations: Vec::new(),
            release_at: None,
            arrivals: Vec::new(),
        }
    }

    /// Adds a step that is due at a time.
    pub(super) fn at(&mut self, when: Duration, due: Due) {
        self.sequence += 1;
        self.due.insert((when.max(self.now), self.sequence), due);
    }

    /// Adds a step that is due within a random time of at most `most_ms` milliseconds.
    pub(super) fn soon(&mut self, most_ms: u64, due: Due) {
        let wait = Duration::from_micros(self.random.u64(1..=most_ms * 1000));
        self.at(self.now + wait, due);
    }

    fn happens(&mut self, due: Due) {
        match due {
            Due::Produce(index) => self.produce(index),
            Due::Take => self.take(),
            Due::Confirm => self.confirm(),
            Due::Alone(incarnation) => self.take_alone(incarnation),
            Due::Overdue(incarnation) => self.overdue(incarnation),
            Due::Release => {
                self.release_at = None;
                self.broker.release(self.now);
                self.await_release();
                self.count_soon();
                self.deliver();
            }
            Due::Counted => {
                self.broker.count();
                self.deliver();
            }
            Due::Flush(incarnation) => self.flush(incarnation),
            Due::Answer(incarnation, ticket) => self.answer(incarnation, ticket),
            Due::Tick(incarnation) => self.tick(incarnation),
            Due::Noticed(incarnation) => self.noticed(incarnation),
            Due::Read(incarnation, session) => self.read_list(incarnation, session),
            Due::Entry(incarnation) => self.entry(incarnation),
            Due::EntryWork(incarnation, number) => self.entry_work(incarnation, number),
            Due::Fault(index) => self.fault(index),
            Due::Mended(fault) => self.mended(fault),
            Due::Start => self.start(),
        }
    }

    fn produce(&mut self, index: usize) {
        let event = &self.published[index];
        self.arrivals.push(index);
        let mut properties = Properties {
            message_id: event.id.clone(),
            kind: Some("made".to_owned()),
            content_type: Some("text/plain".to_owned()),
            ..Properties::default()
        };
        properties.headers.set(crate::codec::header::SUBJECT, event.key.as_str());
        properties.headers.set(NUMBER, index.to_string());
        if event.routes_further {
            properties.headers.set("CC", HeaderValue::List(vec![DEAD.into(), SOURCE.into()]));
        }
        let body: &'static [u8] = if event.nature == Nature::Heavy { &HEAVY } else { b"{}" };
        self.broker.put(Message {
            exchange: ExchangeName::new("in").expect("a name"),
            routing_key: RoutingKey::new("made").expect("a key"),
            properties,
            body: Bytes::from_static(body),
        });
        self.count_soon();
        self.deliver();
    }

    /// Counts committed messages a while after their commit.
    fn count_soon(&mut self) {
        if !self.broker.committed.is_empty() {
            self.soon(5, Due::Counted);
        }
    }

    fn fault(&mut self, index: usize) {
        let fault = self.scenario.faults[index].0;
        let lasts = self.random.u64(10..4_000);
        match fault {
            "crash" if self.daemon.is_some() => self.crash(),
            "stop" if self.daemon.is_some() => self.stop(),
            "session" if self.session.is_some() => self.lose_session(),
            "channel" if self.session.is_some() => self.lose_channel(),
            "consumer" if self.session.is_some() && self.daemon.is_some() => self.lose_consumer(),
            "cancelled" if !self.broker.cancelled => self.broker.cancelled = true,
            "unconfirmed" if !self.broker.swallows => {
                self.broker.swallows = true;
                return;
            }
            "half-full" if !self.broker.half_full => self.broker.half_full = true,
            "alarm" if !self.broker.blocked => {
                self.broker.blocked = true;
                self.notice_soon();
            }
            "full" if !self.broker.full => self.broker.full = true,
            "redrive" if !self.broker.dead.is_empty() => self.redrive(),
            _ => return,
        }
        *self.seen_faults.entry(fault).or_default() += 1;
        self.soon(lasts, Due::Mended(fault));
    }

    /// An operator moves all dead letters back, with their headers.
    fn redrive(&mut self) {
        for letter in std::mem::take(&mut self.broker.dead) {
            self.redriven.insert(number(&letter));
            self.broker.put(letter);
        }
        self.count_soon();
        self.deliver();
    }

    fn mended(&mut self, fault: &'static str) {
        match fault {
            "crash" | "stop" => self.start(),
            "session" => self.begin_session(),
            "alarm" => {
                self.broker.blocked = false;
                self.soon(5, Due::Take);
                self.notice_soon();
            }
            "full" => self.broker.full = false,
            "half-full" => self.broker.half_full = false,
            "cancelled" => {
                self.broker.cancelled = false;
                self.deliver();
            }
            _ => {}
        }
    }

    /// Waits for the time at which the next held message comes back.
    pub(super) fn await_release(&mut self) {
        if let Some(when) = self.broker.next_release()
            && self.release_at.is_none_or(|at| when < at)
        {
            self.release_at = Some(when);
            self.at(when, Due::Release);
        }
    }

    pub(super) fn faults(&self) -> BTreeMap<&'static str, u32> {
        self.seen_faults.clone()
    }

    pub(super) fn scenario(&self) -> String {
        format!("{:?}\nat {:?}, faults seen {:?}", self.scenario, self.now, self.seen_faults)
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }
}

impl Scenario {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let atomic = random.u8(..3) == 0;
        // A schedule has a random part of the faults, so that some schedules have many of one kind and some have none.
        let possible = if atomic { vec!["crash", "stop", "full", "half-full", "redrive"] } else { FAULTS.to_vec() };
        let enabled: Vec<&'static str> = possible.into_iter().filter(|_| random.bool()).collect();
        let count = if enabled.is_empty() { 0 } else { random.usize(0..7) };
        let mut draw = || {
            let when = Duration::from_millis(random.u64(..FAULTS_WITHIN_MS));
            (enabled[random.usize(..enabled.len())], when)
        };
        let faults = (0..count).map(|_| draw()).collect();
        let concurrency = random.usize(1..7);
        let circuit = CircuitBreaker {
            failures: random.u32(2..6),
            window: Duration::from_secs(10),
            pause: Duration::from_millis(random.u64(100..5_000)),
        };
        let ordered = random.u8(..3) == 0;
        let is_limited = !ordered && random.u8(..3) == 0;
        Self {
            atomic,
            tenant_rate: is_limited.then(|| Rate { events: random.u32(1..20), per: Duration::from_secs(1) }),
            dedupe: random.bool(),
            ordered,
            unroutable: if random.bool() { Unroutable::Accept } else { Unroutable::Retry },
            concurrency,
            prefetch: concurrency + random.usize(0..20),
            circuit: random.bool().then_some(circuit),
            rate: (random.u8(..4) == 0).then(|| Rate { events: random.u32(5..200), per: Duration::from_secs(1) }),
            faults,
        }
    }
}
