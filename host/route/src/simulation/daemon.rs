//! The daemon of the model: carries out the core's actions as the real one does, on the model's broker and clock.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::oneshot;

use super::broker::{LIST, RETRY, SOURCE, Stored, number};
use super::faulty::Faulty;
use super::world::{Due, World};
use crate::codec::{self, header};
use crate::core::{Action, Core, Facts, Input, Plan, Settled, Ticket};
use crate::waiting::{List, Place, Removal, Waiter};
use trunkline_broker::amqp::parts::{Answer, Done, Window};
use trunkline_broker::{Batch, Ended, Known, Publication, Refusal};
use trunkline_config::{Codec, Retry, RetryStep};
use trunkline_event::{Event, Message, QueueName, RouteName};

/// The daemon hears of the end of a session or of a consumer within so long.
pub(super) const TOLD_WITHIN_MS: u64 = 20;
const TOLD_WITHIN: Duration = Duration::from_millis(TOLD_WITHIN_MS);

pub(super) static ROUTE: LazyLock<RouteName> = LazyLock::new(|| RouteName::new("r").expect("a name"));
pub(super) static LISTED: LazyLock<QueueName> = LazyLock::new(|| QueueName::new(LIST).expect("a name"));
/// Copies of the ordered route are held for so long.
pub(super) const ROUND: Duration = Duration::from_millis(500);
pub(super) static QUEUE: LazyLock<QueueName> = LazyLock::new(|| QueueName::new(SOURCE).expect("a name"));

pub(super) struct Item {
    pub(super) message: Message,
    pub(super) event: Event,
    pub(super) session: u64,
    pub(super) tag: u64,
    pub(super) emissions: Vec<Publication>,
    /// What is to be published and is not confirmed completely, while nothing of it is on the way.
    pub(super) open: Option<Batch>,
    /// What is committed in one transaction.
    pub(super) committing: Option<(Plan, Option<Ended>)>,
    /// It was looked up or called.
    pub(super) begun: bool,
    pub(super) waiter: Option<Waiter>,
    /// Its place on the list, while the entry is not confirmed.
    pub(super) place: Option<Place>,
    /// It waits for the confirm of a copy.
    pub(super) copies: bool,
    /// It was acknowledged too early, by a planted mistake.
    pub(super) acknowledged: bool,
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
    pub(super) done: Done,
    pub(super) waiting: Vec<Waiting>,
    /// Messages that are published one by one, because one among them was refused for good.
    pub(super) alone: VecDeque<(oneshot::Sender<Answer>, Publication)>,
    pub(super) last: u64,
    /// What it was told of the alarm.
    pub(super) blocked: bool,
    /// What its core was told of it.
    pub(super) told_blocked: bool,
    /// And of the session: what it consumes in.
    pub(super) session: Option<u64>,
    pub(super) stopping: bool,
    /// The next tick that is asked for.
    pub(super) alarm: Option<Duration>,
    pub(super) flushing: bool,
    /// Events whose acknowledgement is not sent yet.
    pub(super) unsent: Vec<usize>,
    /// On an ordered route, those that wait; and settled events whose entries are on their way here.
    pub(super) list: List<u64>,
    pub(super) ending: Vec<(Waiter, Item)>,
}

impl Daemon {
    /// What the core is told of the alarm now.
    pub(super) fn told_of_alarm(&mut self) -> bool {
        let is_missed = self.told_blocked && Faulty::LostWakeup.is_planted();
        self.told_blocked = self.blocked && !Faulty::BlockedIgnored.is_planted() || is_missed;
        self.told_blocked
    }
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
        let mut event = decode(&stored.message);
        event.attempt = header::attempt(&stored.message.properties.headers, ROUTE.as_str());
        let turn = stored.message.properties.headers.int(header::TURN).and_then(|ms| u64::try_from(ms).ok());
        let due = stored.message.properties.headers.int(header::DUE).and_then(|ms| u64::try_from(ms).ok());
        let facts = Facts {
            id: event.id.clone(),
            own_id: event.own_id,
            session,
            attempt: event.attempt,
            redriven: header::is_redriven(&stored.message.properties.headers),
            suspect: stored.deliveries >= 2,
            lane: (ordered && !Faulty::OrderIgnored.is_planted()).then(|| event.subject.clone().unwrap_or_default()),
            due: due.map(Duration::from_millis).filter(|due| ordered && *due > self.now),
            tenant: limited.and(event.subject.clone()),
            turn: turn.map(Duration::from_millis),
            bytes: stored.message.body.len(),
            refused: None,
        };
        let waiter = facts.lane.clone().map(|key| Waiter { key, id: facts.id.clone() });
        if let Some(waiter) = &waiter {
            daemon.list.came(waiter);
        }
        let (emissions, open, committing, begun, place) = (Vec::new(), None, None, false, None);
        let message = stored.message;
        let (copies, acknowledged) = (false, false);
        let item = Item {
            message,
            event,
            session,
            tag,
            emissions,
            open,
            committing,
            begun,
            waiter,
            place,
            copies,
            acknowledged,
        };
        daemon.items.insert(ticket, item);
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
        if daemon.stopping && daemon.core.held() + daemon.ending.len() == 0 {
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
                self.publishing(ticket, &plan);
                self.publish(ticket, &plan);
            }
            Action::PublishRest(ticket) => self.publish_rest(ticket),
            Action::Commit(ticket, plan, ended) => {
                self.publishing(ticket, &plan);
                let item = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket));
                if let Some(item) = item {
                    item.committing = Some((plan, ended));
                }
                self.soon(20, Due::Committed(incarnation, ticket));
            }
            Action::Mark(ticket, ended) => self.soon(20, Due::Marked(incarnation, ticket, ended)),
            Action::Ack(ticket, settled) => self.acknowledge(ticket, &settled),
            Action::Settled(ticket, settled) => {
                if let Some(daemon) = &mut self.daemon
                    && let Some(item) = daemon.items.remove(&ticket)
                    && let Some(waiter) = item.waiter.filter(|_| !settled.waits())
                {
                    daemon.list.forget(&waiter);
                }
            }
            Action::Leave(ticket, _) => {
                let left = self.daemon.as_mut().and_then(|daemon| daemon.items.remove(&ticket));
                if let Some(item) = left.filter(|_| Faulty::DropOnLeave.is_planted()) {
                    self.acknowledge_item(item);
                }
            }
            Action::Missing(waiter) => self.violations.push(format!("{waiter:?} is given up, and was not lost")),
            Action::Stuck(..) | Action::Unstuck | Action::Circuit(_) => {}
        }
        debug_assert_eq!(now, self.now, "actions take no time");
    }

    /// The core has begun to publish what follows from an event.
    fn publishing(&mut self, ticket: Ticket, plan: &Plan) {
        let (dedupe, session) = (self.scenario.dedupe, self.session);
        let Some(daemon) = &mut self.daemon else { return };
        let Some(item) = daemon.items.get_mut(&ticket) else { return };
        item.copies = matches!(plan, Plan::Copy(_));
        let is_first = Some(item.session) == session && !item.acknowledged;
        if Faulty::AckBeforeConfirm.is_planted() && is_first {
            item.acknowledged = true;
            let (tag, number) = (item.tag, number(&item.message));
            self.note_acknowledged(tag, number);
        } else if dedupe && item.event.own_id && Faulty::MarkBeforeConfirm.is_planted() {
            let id = item.event.id.clone();
            self.note(id, Ended::Done);
        }
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

    /// The entry of an event that is settled goes before its delivery does.
    fn acknowledge(&mut self, ticket: Ticket, settled: &Settled) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(item) = daemon.items.remove(&ticket) else { return };
        let is_current = Some(item.session) == daemon.session && daemon.session == self.session;
        if let Some(waiter) = item.waiter.clone().filter(|_| is_current && !settled.waits()) {
            match daemon.list.remove(&waiter) {
                Removal::Nothing => {}
                Removal::Now(_) if Faulty::EntryOutlivesEvent.is_planted() => {}
                Removal::Now(tags) => tags.iter().for_each(|tag| drop(self.broker.listed.remove(tag))),
                Removal::Later => return daemon.ending.push((waiter, item)),
            }
        }
        self.acknowledge_item(item);
    }

    pub(super) fn acknowledge_item(&mut self, item: Item) {
        let is_current = Some(item.session) == self.session;
        if !item.acknowledged && (is_current || Faulty::StaleTag.is_planted()) {
            self.note_acknowledged(item.tag, number(&item.message));
        }
    }

    fn note_acknowledged(&mut self, tag: u64, number: usize) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.done.note(tag);
        daemon.unsent.push(number);
        if !std::mem::replace(&mut daemon.flushing, true) {
            self.soon(4, Due::Flush(self.incarnation));
        }
    }

    pub(super) fn flush(&mut self, incarnation: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        daemon.flushing = false;
        daemon.unsent.clear();
        if self.session.is_none() {
            return;
        }
        let mut frames = daemon.done.frames();
        if Faulty::AckMultiple.is_planted() {
            frames = frames.iter().map(|(tag, _)| (*tag, true)).max().into_iter().collect();
        }
        for (tag, multiple) in frames {
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
        let ended = id.and_then(|id| self.marks.get(&id).copied());
        self.feed(Input::Looked(ticket, ended.map_or(Known::No, Known::Same)));
    }

    /// The dedupe store notes how an event ended.
    pub(super) fn note(&mut self, id: String, ended: Ended) {
        self.marks.insert(id, if Faulty::DeadCountsAsDone.is_planted() { Ended::Done } else { ended });
    }

    pub(super) fn marked(&mut self, incarnation: u64, ticket: Ticket, ended: Ended) {
        if incarnation != self.incarnation {
            return;
        }
        let item = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket));
        if let Some(id) = item.map(|item| item.event.id.clone()) {
            self.note(id, ended);
        }
        self.feed(Input::Marked(ticket));
    }
}
