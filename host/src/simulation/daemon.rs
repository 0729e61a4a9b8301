//! The daemon of the model: carries out the core's actions as the real one does, on the model's broker and clock.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::oneshot;

use super::broker::{OUT, RETRY, SOURCE, Stored, number};
use super::faulty::Faulty;
use super::plugin::{NUMBER, Nature};
use super::world::{Due, World};
use crate::broker::amqp::parts::{Answer, Done, Window};
use crate::broker::bug::Bug;
use crate::broker::{Batch, Known, Publication, Refusal};
use crate::codec::{self, header};
use crate::config::{Codec, Emit, Retry, RetryStep};
use crate::event::{Event, ExchangeName, Failure, Message, QueueName, RouteName};
use crate::route::core::{Action, Core, Facts, Input, Plan, Rules, Ticket};
use crate::route::emit;

/// The daemon hears of the end of a session or of a consumer within so long.
const TOLD_WITHIN_MS: u64 = 20;
const TOLD_WITHIN: Duration = Duration::from_millis(TOLD_WITHIN_MS);
/// Or after so long, when it does not look.
const UNSEEN: Duration = Duration::from_secs(10);

static ROUTE: LazyLock<RouteName> = LazyLock::new(|| RouteName::new("r").expect("a name"));
pub(super) static QUEUE: LazyLock<QueueName> = LazyLock::new(|| QueueName::new(SOURCE).expect("a name"));

pub(super) struct Item {
    pub(super) message: Message,
    pub(super) event: Event,
    session: u64,
    pub(super) tag: u64,
    pub(super) emissions: Vec<Publication>,
    /// What is to be published and is not confirmed completely, while nothing of it is on the way.
    pub(super) open: Option<Batch>,
    /// What is committed in one transaction.
    pub(super) committing: Option<(Plan, bool)>,
    /// It was looked up or called.
    begun: bool,
}

/// Messages of one publish that are not all answered.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) batch: Batch,
    /// What was to be published when it was begun.
    pub(super) whole: Vec<Publication>,
    /// By the index of the message.
    pub(super) answers: Vec<(usize, oneshot::Receiver<Answer>)>,
    pub(super) refused: Vec<Refusal>,
    pub(super) lost: bool,
}

pub(super) struct Daemon {
    pub(super) core: Core,
    pub(super) items: HashMap<Ticket, Item>,
    pub(super) window: Window,
    done: Done,
    pub(super) waiting: Vec<Waiting>,
    /// Messages that are published one by one, because one among them was refused for good.
    pub(super) alone: VecDeque<(oneshot::Sender<Answer>, Publication)>,
    last: u64,
    /// What it was told of the alarm.
    blocked: bool,
    /// And of the session: what it consumes in.
    session: Option<u64>,
    stopping: bool,
    /// The next tick that is asked for.
    alarm: Option<Duration>,
    flushing: bool,
    /// Events whose acknowledgement is not sent yet.
    unsent: Vec<usize>,
}

pub(super) fn retry(ordered: bool, atomic: bool) -> Retry {
    let step = |ms: u64| RetryStep {
        delay: Duration::from_millis(ms),
        spread: Duration::ZERO,
        queues: match atomic {
            true => Vec::new(),
            false => vec![QueueName::new(format!("{RETRY}{}", if ordered { 500 } else { ms })).expect("a name")],
        },
    };
    Retry { max: 4, steps: [500, 1000, 2000, 4000].map(step).to_vec() }
}

/// What a later look finds: the event as the route decodes it.
fn decode(message: &Message) -> Event {
    let mut event = codec::decode(Codec::Raw, message).expect("the raw codec takes everything");
    if !event.own_id && Faulty::WeakIdsAreReal.is_planted() {
        (event.id, event.own_id) = (format!("hash of {:?}", message.body), true);
    }
    event
}

impl World {
    /// A new daemon, with a session as soon as there is one.
    pub(super) fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.incarnation += 1;
        let scenario = &self.scenario;
        let core = Core::new(Rules {
            concurrency: scenario.concurrency,
            held_max: if scenario.ordered { scenario.prefetch } else { scenario.concurrency },
            bytes_max: usize::MAX,
            retry: retry(scenario.ordered, scenario.atomic),
            unroutable: scenario.unroutable,
            dedupe: scenario.dedupe,
            atomic: scenario.atomic,
            circuit: scenario.circuit,
            rate: scenario.rate,
            tenant_rate: scenario.tenant_rate,
        });
        self.daemon = Some(Daemon {
            core,
            items: HashMap::new(),
            window: Window::default(),
            done: Done::default(),
            waiting: Vec::new(),
            alone: VecDeque::new(),
            last: 0,
            blocked: false,
            session: None,
            stopping: false,
            alarm: None,
            flushing: false,
            unsent: Vec::new(),
        });
        self.begin_session();
    }

    pub(super) fn begin_session(&mut self) {
        if self.session.is_none() && self.daemon.is_some() {
            self.sessions += 1;
            self.session = Some(self.sessions);
            self.tell();
        }
    }

    /// The daemon hears of the state of the broker, after a while.
    pub(super) fn tell(&mut self) {
        self.soon(TOLD_WITHIN_MS, Due::Told(self.incarnation));
    }

    pub(super) fn told(&mut self, incarnation: u64) {
        if incarnation != self.incarnation {
            return;
        }
        let (session, blocked) = (self.session, self.broker.blocked);
        if let Some(daemon) = &mut self.daemon {
            (daemon.blocked, daemon.session) = (blocked, session);
        }
        self.feed(Input::Session { now: session, blocked });
    }

    /// Whatever is begun now may be done again.
    pub(super) fn note_begun(&mut self) {
        self.struck = self.now;
        let Some(daemon) = &self.daemon else { return };
        self.may_repeat.extend(daemon.items.values().filter(|item| item.begun).map(|item| number(&item.message)));
        self.may_repeat.extend(&daemon.unsent);
    }

    /// The power is off.
    pub(super) fn crash(&mut self) {
        self.note_begun();
        self.daemon = None;
        self.incarnation += 1;
        self.session = None;
        self.broker.cut(&mut self.random, self.now);
        self.await_release();
        self.broker.give_back();
    }

    /// SIGTERM.
    pub(super) fn stop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.stopping = true;
        }
        self.feed(Input::Drain);
    }

    fn stopped(&mut self) {
        self.flush(self.incarnation);
        self.daemon = None;
        self.incarnation += 1;
        self.session = None;
        self.broker.cut(&mut self.random, self.now);
        self.broker.give_back();
        self.soon(500, Due::Start);
    }

    pub(super) fn lose_session(&mut self) {
        self.note_begun();
        self.session = None;
        self.broker.cut(&mut self.random, self.now);
        self.await_release();
        self.broker.give_back();
        if let Some(daemon) = &mut self.daemon
            && !Bug::StaleTag.is_planted()
        {
            daemon.done = Done::default();
        }
        // What was on the way is told lost before or after the daemon hears of the session.
        if self.random.bool() {
            self.fail_publishes();
            self.told(self.incarnation);
        } else {
            self.told(self.incarnation);
            self.fail_publishes();
        }
    }

    /// The broker closes the consumer's channel, for example because an acknowledgement took too long. Another one is made,
    /// and to the core that is another session.
    pub(super) fn lose_consumer(&mut self) {
        self.note_begun();
        self.sessions += 1;
        self.session = Some(self.sessions);
        self.broker.give_back();
        if let Some(daemon) = &mut self.daemon {
            daemon.done = Done::default();
        }
        if Faulty::ConsumerEndUnseen.is_planted() {
            return self.at(self.now + UNSEEN, Due::Told(self.incarnation));
        }
        self.tell();
    }

    pub(super) fn lose_channel(&mut self) {
        self.broker.cut(&mut self.random, self.now);
        self.await_release();
        self.fail_publishes();
    }

    /// What is on the way when its channel is lost: what arrived of it is not told, and so it may be published again.
    pub(super) fn note_unanswered(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let items = daemon.waiting.iter().filter_map(|waiting| daemon.items.get(&waiting.ticket));
        self.may_repeat.extend(items.map(|item| number(&item.message)));
    }

    fn fail_publishes(&mut self) {
        self.note_unanswered();
        let Some(daemon) = &mut self.daemon else { return };
        daemon.window.fail(|| Answer::Lost("the channel was closed".to_owned()));
        daemon.window = Window::default();
        daemon.alone.clear();
        self.collect_answers();
    }

    /// Hands out deliveries while the core wants some.
    pub(super) fn deliver(&mut self) {
        loop {
            let Some(daemon) = &self.daemon else { return };
            let Some(session) = self.session.filter(|session| daemon.session == Some(*session)) else { return };
            if !daemon.core.wants() {
                return;
            }
            let Some((tag, stored)) = self.broker.deliver(self.scenario.prefetch) else { return };
            self.receive(session, tag, stored);
        }
    }

    fn receive(&mut self, session: u64, tag: u64, stored: Stored) {
        let (ordered, limited) = (self.scenario.ordered, self.scenario.tenant_rate);
        let Some(daemon) = &mut self.daemon else { return };
        daemon.last += 1;
        let ticket = Ticket(daemon.last);
        let event = decode(&stored.message);
        let turn = stored.message.properties.headers.int(header::TURN).and_then(|ms| u64::try_from(ms).ok());
        let due = stored.message.properties.headers.int(header::DUE).and_then(|ms| u64::try_from(ms).ok());
        let facts = Facts {
            id: event.id.clone(),
            own_id: event.own_id,
            session,
            attempt: event.attempt,
            suspect: stored.deliveries >= 2,
            lane: ordered.then(|| event.subject.clone().unwrap_or_default()),
            due: due.map(Duration::from_millis).filter(|due| ordered && *due > self.now),
            tenant: limited.and(event.subject.clone()),
            turn: turn.map(Duration::from_millis),
            bytes: stored.message.body.len(),
            refused: None,
        };
        let (emissions, open, committing, begun) = (Vec::new(), None, None, false);
        let message = stored.message;
        daemon.items.insert(ticket, Item { message, event, session, tag, emissions, open, committing, begun });
        self.feed(Input::Arrived(ticket, facts));
    }

    pub(super) fn feed(&mut self, input: Input) {
        let Some(daemon) = &mut self.daemon else { return };
        let actions = daemon.core.step(input, self.now);
        for action in actions {
            self.act(action);
        }
        let Some(daemon) = &mut self.daemon else { return };
        if let Some(deadline) = daemon.core.deadline()
            && daemon.alarm.is_none_or(|alarm| deadline < alarm || alarm <= self.now)
        {
            daemon.alarm = Some(deadline);
            self.at(deadline, Due::Tick(self.incarnation));
        }
        let Some(daemon) = &self.daemon else { return };
        if daemon.stopping && daemon.core.held() == 0 {
            return self.stopped();
        }
        self.deliver();
    }

    pub(super) fn tick(&mut self, incarnation: u64) {
        if incarnation == self.incarnation {
            self.feed(Input::Tick);
        }
    }

    fn act(&mut self, action: Action) {
        let (now, incarnation) = (self.now, self.incarnation);
        match action {
            Action::Look(ticket) => {
                self.begun(ticket);
                self.soon(5, Due::Looked(incarnation, ticket));
            }
            Action::Invoke(ticket) => {
                self.begun(ticket);
                self.soon(200, Due::Called(incarnation, ticket));
            }
            Action::Publish(ticket, plan) => {
                // A copy that waits is as good as begun: the delivery that it is of may come again.
                self.in_work(ticket);
                self.publish(ticket, &plan);
            }
            Action::PublishRest(ticket) => self.publish_rest(ticket),
            Action::Commit(ticket, plan, marks) => {
                let item = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket));
                if let Some(item) = item {
                    item.committing = Some((plan, marks));
                }
                self.soon(20, Due::Committed(incarnation, ticket));
            }
            Action::Mark(ticket) => self.soon(20, Due::Marked(incarnation, ticket)),
            Action::Ack(ticket, _) => self.acknowledge(ticket),
            Action::Settled(ticket, _) | Action::Leave(ticket, _) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.items.remove(&ticket);
                }
            }
            Action::Stuck(..) | Action::Unstuck | Action::Circuit(_) => {}
        }
        debug_assert_eq!(now, self.now, "actions take no time");
    }

    fn begun(&mut self, ticket: Ticket) {
        // With an id it is begun with the look for a repetition.
        if self.in_work(ticket) && self.daemon.as_ref().is_some_and(|daemon| daemon.blocked) {
            self.violations.push(format!("{ticket:?} was begun during an alarm that was known"));
        }
    }

    /// False when it was in work before.
    fn in_work(&mut self, ticket: Ticket) -> bool {
        let item = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket));
        let Some(item) = item.filter(|item| !item.begun) else { return false };
        item.begun = true;
        // It was not known yet that its delivery is another's.
        if self.now < self.struck + TOLD_WITHIN {
            self.may_repeat.insert(number(&item.message));
        }
        true
    }

    fn acknowledge(&mut self, ticket: Ticket) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(item) = daemon.items.remove(&ticket) else { return };
        let is_current = Some(item.session) == self.session;
        if is_current || Bug::StaleTag.is_planted() {
            daemon.done.note(item.tag);
            daemon.unsent.push(number(&item.message));
            if !std::mem::replace(&mut daemon.flushing, true) {
                self.soon(4, Due::Flush(self.incarnation));
            }
        }
    }

    pub(super) fn flush(&mut self, incarnation: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        daemon.flushing = false;
        daemon.unsent.clear();
        if self.session.is_none() {
            return;
        }
        for (tag, multiple) in daemon.done.frames() {
            if let Err(problem) = self.broker.acknowledge(tag, multiple) {
                self.violations.push(problem);
            }
        }
        self.deliver();
    }

    pub(super) fn looked(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let id = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket)).map(|item| item.event.id.clone());
        let known = id.is_some_and(|id| self.marks.contains_key(&id));
        self.feed(Input::Looked(ticket, if known { Known::Same } else { Known::No }));
    }

    pub(super) fn marked(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let item = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket));
        if let Some(id) = item.map(|item| item.event.id.clone()) {
            self.marks.insert(id, 1);
        }
        self.feed(Input::Marked(ticket));
    }

    pub(super) fn called(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let Some(item) = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket)) else { return };
        let nature = self.published.get(number(&item.message)).map_or(Nature::Rejected, |event| event.nature);
        let number = item.event.attributes.iter().find(|(name, _)| name == NUMBER).map(|(_, number)| number.as_str());
        let (emissions, failure) = nature.call(item.event.attempt, number.unwrap_or_default());
        let emit = Emit {
            exchange: ExchangeName::new(OUT).expect("a name"),
            key: "{type}".to_owned(),
            types: None,
            unroutable: self.scenario.unroutable,
        };
        let context = emit::Context {
            route: &ROUTE,
            emit: &emit,
            allow: None,
            codec: Codec::Raw,
            plugin: "p",
            digest: "d",
            now: "2026-01-01T00:00:00Z",
            now_seconds: 1,
            key: None,
        };
        let outcome: Result<(), Failure> =
            emit::publications(&context, &item.event, &emissions).map(|made| item.emissions = made);
        self.feed(Input::Invoked(ticket, failure.map_or(outcome, Err)));
    }
}
