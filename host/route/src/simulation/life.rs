//! How the model's daemon begins and ends, and what it hears when the broker, a channel or its consumer goes away.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::broker::number;
use super::daemon::{Daemon, TOLD_WITHIN_MS, retry};
use super::faulty::Faulty;
use super::world::{Due, World};
use crate::core::{Core, Input, Rules};
use crate::waiting::{self, List, Note};
use trunkline_broker::amqp::parts::{Answer, Done, Window};

/// The daemon hears of the end of its consumer after so long, when it does not look.
const UNSEEN: Duration = Duration::from_secs(10);

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
            told_blocked: false,
            session: None,
            stopping: false,
            alarm: None,
            flushing: false,
            unsent: Vec::new(),
            list: List::default(),
            ending: Vec::new(),
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
        let Some(daemon) = &mut self.daemon else { return };
        daemon.blocked = blocked;
        // On an ordered route the list of those that wait is read before anything is taken.
        let is_to_be_read = self.scenario.ordered && daemon.session != session;
        daemon.session = if is_to_be_read { None } else { session };
        let now = daemon.session;
        let blocked = daemon.told_of_alarm();
        self.feed(Input::Session { now, blocked });
        if let Some(session) = session.filter(|_| is_to_be_read) {
            self.soon(50, Due::Read(incarnation, session));
        }
    }

    /// No other daemon has the list, and this one has read all of it.
    pub(super) fn read_list(&mut self, incarnation: u64, session: u64) {
        if incarnation != self.incarnation || self.session != Some(session) {
            return;
        }
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.session == Some(session) {
            return;
        }
        let mut list = List::default();
        daemon.ending.clear();
        while let Some((tag, entry)) = self.broker.next_entry() {
            if let Note::Entry(waiter, place) = waiting::note(&entry) {
                list.read(waiter, place, tag, self.now);
            }
        }
        let waiting = if Faulty::ListUnread.is_planted() { Vec::new() } else { list.waiters() };
        daemon.list = list;
        let blocked = daemon.told_of_alarm();
        self.feed(Input::Waiting(waiting));
        if let Some(daemon) = &mut self.daemon {
            daemon.session = Some(session);
        }
        self.feed(Input::Session { now: Some(session), blocked });
    }

    /// An entry of the list comes while events are taken.
    pub(super) fn entry(&mut self, incarnation: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        if daemon.session.is_none() || daemon.session != self.session {
            return;
        }
        let Some((tag, entry)) = self.broker.next_entry() else { return };
        let Note::Entry(waiter, _) = waiting::note(&entry) else { return };
        let (over, is_waited_for) = daemon.list.arrived(&waiter, tag, self.now);
        over.iter().for_each(|tag| drop(self.broker.listed.remove(tag)));
        if is_waited_for {
            let ended = daemon.ending.extract_if(.., |(of, _)| *of == waiter).map(|(_, item)| item);
            ended.collect::<Vec<_>>().into_iter().for_each(|item| self.acknowledge_item(item));
        }
    }

    /// Those of the ordered route that are confirmed come soon.
    pub(super) fn entries_soon(&mut self) {
        for _ in 0..self.broker.entries.len() {
            self.soon(20, Due::Entry(self.incarnation));
        }
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
        self.broker.give_back_entries();
    }

    /// SIGTERM.
    pub(super) fn stop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.stopping = true;
        }
        self.feed(Input::Drain);
    }

    pub(super) fn stopped(&mut self) {
        self.flush(self.incarnation);
        self.daemon = None;
        self.incarnation += 1;
        self.session = None;
        self.broker.cut(&mut self.random, self.now);
        self.broker.give_back();
        self.broker.give_back_entries();
        self.soon(500, Due::Start);
    }

    pub(super) fn lose_session(&mut self) {
        self.note_begun();
        self.session = None;
        self.broker.cut(&mut self.random, self.now);
        self.await_release();
        self.broker.give_back();
        self.broker.give_back_entries();
        if let Some(daemon) = &mut self.daemon
            && !Faulty::StaleTag.is_planted()
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
        self.broker.give_back_entries();
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
}
