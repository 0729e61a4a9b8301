//! Start and end of the model's daemon, and the loss of a session, a channel or a consumer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::daemon::{ModelDaemon, NOTICED_WITHIN_MS};
use super::faulty::Faulty;
use super::ports::{Journal, ModelPorts};
use super::profile::profile;
use super::schedule::{Due, Simulation};
use crate::executor::{Executor, ExecutorInput};
use trunkline_broker::amqp::parts::{AckBatch, ConfirmWindow, PublishOutcome};

/// Time after which a daemon with the planted mistake learns of the end of its consumer.
const UNSEEN: Duration = Duration::from_secs(10);

impl Simulation {
    /// Starts a new daemon, with a session as soon as the broker has one.
    pub(super) fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.incarnation += 1;
        let journal = Rc::new(Journal::default());
        journal.now.set(self.now);
        let profile = Arc::new(profile(&self.scenario));
        let executor = Executor::new(profile, ModelPorts(journal.clone()), fastrand::Rng::with_seed(0));
        self.daemon = Some(ModelDaemon {
            executor,
            journal,
            asked: HashMap::new(),
            window: ConfirmWindow::default(),
            done: AckBatch::default(),
            waiting: Vec::new(),
            alone: VecDeque::new(),
            blocked: false,
            reported_blocked: false,
            session: None,
            stopping: false,
            alarm: None,
            flushing: false,
            unsent: Vec::new(),
            acknowledged: Vec::new(),
            entry_work: BTreeMap::new(),
            entry_work_last: 0,
        });
        self.begin_session();
    }

    pub(super) fn begin_session(&mut self) {
        if self.session.is_none() && self.daemon.is_some() {
            self.sessions += 1;
            self.session = Some(self.sessions);
            self.notice_soon();
        }
    }

    /// The daemon learns of the state of the broker, after a while.
    pub(super) fn notice_soon(&mut self) {
        self.soon(NOTICED_WITHIN_MS, Due::Noticed(self.incarnation));
    }

    pub(super) fn noticed(&mut self, incarnation: u64) {
        if incarnation != self.incarnation {
            return;
        }
        let (session, ordered) = (self.session, self.scenario.ordered);
        let Some(daemon) = &mut self.daemon else { return };
        daemon.blocked = self.broker.blocked;
        let blocked = daemon.reported_alarm();
        let broker = ExecutorInput::Broker { session, blocked };
        if daemon.session == session {
            return self.step([broker]);
        }
        daemon.entry_work.clear();
        // On an ordered route the waiting list is read before any event is taken.
        daemon.session = session.filter(|_| !ordered);
        let subscribed = daemon.session.map(|session| ExecutorInput::Subscribed { session });
        self.step([broker, ExecutorInput::Unsubscribed, ExecutorInput::Resigned].into_iter().chain(subscribed));
        if let Some(session) = session.filter(|_| ordered) {
            self.soon(50, Due::Read(incarnation, session));
        }
    }

    /// Notes that every event in work may be handled again.
    pub(super) fn note_begun(&mut self) {
        self.struck = self.now;
        let Some(daemon) = &self.daemon else { return };
        let held = daemon.journal.held.borrow();
        self.may_repeat.extend(held.values().filter(|held| held.begun).map(|held| held.number));
        self.may_repeat.extend(&daemon.unsent);
    }

    /// The daemon is killed.
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

    /// The daemon gets SIGTERM.
    pub(super) fn stop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.stopping = true;
        }
        self.step([ExecutorInput::Drain]);
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
            daemon.done = AckBatch::default();
        }
        // Publishes on their way fail before or after the daemon learns of the end of the session.
        if self.random.bool() {
            self.fail_publishes();
            self.noticed(self.incarnation);
        } else {
            self.noticed(self.incarnation);
            self.fail_publishes();
        }
    }

    /// The broker closes the consumer's channel, for example because an acknowledgement took too long. The daemon opens another
    /// channel, which is another subscription for the executor.
    pub(super) fn lose_consumer(&mut self) {
        self.note_begun();
        self.sessions += 1;
        self.session = Some(self.sessions);
        self.broker.give_back();
        self.broker.give_back_entries();
        if let Some(daemon) = &mut self.daemon {
            daemon.done = AckBatch::default();
        }
        if Faulty::ConsumerEndUnseen.is_planted() {
            return self.at(self.now + UNSEEN, Due::Noticed(self.incarnation));
        }
        self.notice_soon();
    }

    pub(super) fn lose_channel(&mut self) {
        self.broker.cut(&mut self.random, self.now);
        self.await_release();
        self.fail_publishes();
    }

    /// Notes the publishes on their way when their channel is lost. Arrived messages have no confirm and may be published again.
    pub(super) fn note_unanswered(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let held = daemon.journal.held.borrow();
        let unanswered = daemon.waiting.iter().filter_map(|waiting| held.get(&waiting.ticket));
        self.may_repeat.extend(unanswered.map(|held| held.number));
    }

    fn fail_publishes(&mut self) {
        self.note_unanswered();
        let Some(daemon) = &mut self.daemon else { return };
        daemon.window.fail(|| PublishOutcome::Lost("the channel was closed".to_owned()));
        daemon.window = ConfirmWindow::default();
        daemon.alone.clear();
        self.collect_answers();
    }
}
