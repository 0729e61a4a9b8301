//! The daemon of the model: the real executor, whose requests the model performs on its own broker and clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::broker::{ModelMessage, number};
use super::faulty::Faulty;
use super::ports::{Journal, ModelDelivery, ModelPorts, ModelQueue};
use super::schedule::{Due, Simulation};
use crate::codec::header;
use crate::core::Ticket;
use crate::executor::{Completion, Executor, ExecutorInput, WorkRequest};
use trunkline_broker::amqp::parts::{AckBatch, ConfirmWindow, PublishOutcome, SingleFrames};
use trunkline_broker::{Batch, DedupeLookup, Publication, Refusal, SettledAs};
use trunkline_event::Message;
use trunkline_telemetry::OrderLost;

/// Time within which the daemon learns of the end of a session or of a consumer.
pub(super) const NOTICED_WITHIN_MS: u64 = 20;
const NOTICED_WITHIN: Duration = Duration::from_millis(NOTICED_WITHIN_MS);

/// Messages of one publish that are not all answered.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) batch: Batch,
    /// The messages that were open when the publish began.
    pub(super) whole: Vec<Publication>,
    /// Answers by the index of the message.
    pub(super) answers: Vec<(usize, oneshot::Receiver<PublishOutcome>)>,
    pub(super) refused: Vec<(usize, Refusal)>,
    pub(super) lost: bool,
}

pub(super) struct ModelDaemon {
    pub(super) executor: Executor<ModelPorts>,
    pub(super) journal: Rc<Journal>,
    /// Requests that are answered later.
    pub(super) asked: HashMap<Ticket, WorkRequest<ModelDelivery>>,
    pub(super) window: ConfirmWindow,
    pub(super) done: AckBatch,
    pub(super) waiting: Vec<Waiting>,
    /// Messages that are published one by one, because one among them was refused for good.
    pub(super) alone: VecDeque<(oneshot::Sender<PublishOutcome>, Publication)>,
    /// Whether the daemon has learned of an alarm.
    pub(super) blocked: bool,
    /// Whether the executor has learned of the alarm.
    pub(super) reported_blocked: bool,
    /// Session in which the daemon consumes.
    pub(super) session: Option<u64>,
    pub(super) stopping: bool,
    /// Time of the next tick.
    pub(super) alarm: Option<Duration>,
    pub(super) flushing: bool,
    /// Events whose acknowledgement is not sent yet.
    pub(super) unsent: Vec<usize>,
    /// Deliveries that a planted mistake acknowledged too early: session and tag.
    pub(super) acknowledged: Vec<(u64, u64)>,
    /// Requests about the waiting list that are answered later, by number.
    pub(super) entry_work: BTreeMap<u64, crate::executor::EntryRequest<ModelDelivery>>,
    pub(super) entry_work_last: u64,
}

impl ModelDaemon {
    /// Whether the executor learns of an alarm now.
    pub(super) fn reported_alarm(&mut self) -> bool {
        let is_missed = self.reported_blocked && Faulty::LostWakeup.is_planted();
        self.reported_blocked = self.blocked && !Faulty::BlockedIgnored.is_planted() || is_missed;
        self.reported_blocked
    }
}

/// The message as the broker client hands it out, which may have a planted mistake.
fn handed_out(message: Arc<Message>) -> Arc<Message> {
    let is_own = message.properties.message_id.is_some() && message.properties.headers.get(header::OWN_ID).is_none();
    if is_own || !Faulty::WeakIdsAreReal.is_planted() {
        return message;
    }
    let mut message = message.copy();
    message.properties.message_id = Some(format!("hash of {:?}", message.body));
    message.properties.headers.remove(header::OWN_ID);
    Arc::new(message)
}

impl Simulation {
    /// Hands out deliveries while the executor wants some.
    pub(super) fn deliver(&mut self) {
        loop {
            let Some(daemon) = &self.daemon else { return };
            let Some(session) = self.session.filter(|session| daemon.session == Some(*session)) else { return };
            if !daemon.executor.wants() {
                return;
            }
            let Some((tag, ModelMessage { message, deliveries })) = self.broker.deliver(self.scenario.prefetch) else {
                return;
            };
            let message = handed_out(message);
            self.step([ExecutorInput::Arrived(ModelDelivery {
                queue: ModelQueue::Source,
                session,
                tag,
                message,
                deliveries,
            })]);
        }
    }

    /// Gives what happened to the executor, and performs the requests that follow.
    pub(super) fn step(&mut self, inputs: impl IntoIterator<Item = ExecutorInput<ModelDelivery>>) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.journal.now.set(self.now);
        let requests: Vec<_> = daemon.executor.step(inputs).collect();
        for request in requests {
            self.perform(request);
        }
        self.read_journal();
        let Some(daemon) = &mut self.daemon else { return };
        if let Some(deadline) = daemon.executor.deadline()
            && daemon.alarm.is_none_or(|alarm| deadline < alarm || alarm <= self.now)
        {
            daemon.alarm = Some(deadline);
            self.at(deadline, Due::Tick(self.incarnation));
        }
        let Some(daemon) = &self.daemon else { return };
        if daemon.stopping && daemon.executor.held() == 0 {
            return self.stopped();
        }
        self.deliver();
    }

    pub(super) fn tick(&mut self, incarnation: u64) {
        if incarnation == self.incarnation {
            self.step([ExecutorInput::Tick]);
        }
    }

    /// Judges what the executor reported.
    fn read_journal(&mut self) {
        let Some(journal) = self.daemon.as_ref().map(|daemon| daemon.journal.clone()) else { return };
        for held in journal.left.take() {
            if Faulty::DropOnLeave.is_planted() {
                self.acknowledge_held(held.session, held.tag, held.number);
            }
        }
        for (why, event) in journal.order_lost.take() {
            // An event without an id of its own leaves an entry under its old id when the event is delivered again.
            if why != OrderLost::Missing || self.broker.has(&event) {
                self.violations.push(format!(
                    "the executor reports the loss of {event} ({why:?}), but the broker still has the event"
                ));
            }
        }
        for ticket in journal.unproven.take() {
            self.violations.push(format!("{ticket:?} was to be acknowledged without a proof"));
        }
    }

    fn perform(&mut self, request: WorkRequest<ModelDelivery>) {
        match request {
            WorkRequest::LookUp(ticket, _) => {
                self.begun(ticket);
                self.answer_later(5, ticket, request);
            }
            WorkRequest::Invoke { ticket, .. } => {
                self.begun(ticket);
                self.answer_later(200, ticket, request);
            }
            WorkRequest::Publish(ticket, batch) => {
                // A parked event counts as begun, because its delivery may come again.
                self.in_work(ticket);
                self.publishing(ticket);
                self.publish(ticket, with_planted_headers(batch));
            }
            WorkRequest::Commit { ticket, deliveries, batch, record } => {
                self.publishing(ticket);
                let batch = with_planted_headers(batch);
                self.answer_later(20, ticket, WorkRequest::Commit { ticket, deliveries, batch, record });
            }
            WorkRequest::WriteRecord(ticket, _) => self.answer_later(20, ticket, request),
            WorkRequest::Settle(delivery, _) => match delivery.queue {
                ModelQueue::Source => self.acknowledge_held(delivery.session, delivery.tag, number(&delivery.message)),
                ModelQueue::List => drop(self.broker.listed.remove(&delivery.tag)),
            },
            WorkRequest::Entry(request) => self.work_on_entries(request),
        }
    }

    fn answer_later(&mut self, most_ms: u64, ticket: Ticket, request: WorkRequest<ModelDelivery>) {
        if let Some(daemon) = &mut self.daemon {
            daemon.asked.insert(ticket, request);
        }
        self.soon(most_ms, Due::Answer(self.incarnation, ticket));
    }

    /// A request that was to be answered later is answered.
    pub(super) fn answer(&mut self, incarnation: u64, ticket: Ticket) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        let completion = match daemon.asked.remove(&ticket) {
            Some(WorkRequest::LookUp(_, record)) => {
                let ended = self.records.get(&record.id).copied();
                Completion::LookedUp(ended.map_or(DedupeLookup::Unknown, DedupeLookup::Same))
            }
            Some(WorkRequest::Invoke { event, .. }) => Completion::Invoked(self.called(&event)),
            Some(WorkRequest::Commit { deliveries, batch, record, .. }) => self.committed(deliveries, batch, record),
            Some(WorkRequest::WriteRecord(_, record)) => {
                self.note(record.id, record.settled_as);
                Completion::RecordWritten
            }
            Some(WorkRequest::Publish(..) | WorkRequest::Settle(..) | WorkRequest::Entry(_)) | None => return,
        };
        self.step([ExecutorInput::Completed(ticket, completion)]);
    }

    /// The executor has begun to publish the messages that follow from an event.
    fn publishing(&mut self, ticket: Ticket) {
        let Some(held) = self.held(ticket) else { return };
        let is_first = self.session == Some(held.session)
            && self.daemon.as_ref().is_some_and(|daemon| !daemon.acknowledged.contains(&(held.session, held.tag)));
        if Faulty::AckBeforeConfirm.is_planted() && is_first {
            self.acknowledge_held(held.session, held.tag, held.number);
            if let Some(daemon) = &mut self.daemon {
                daemon.acknowledged.push((held.session, held.tag));
            }
        } else if let Some(id) =
            held.own_id.filter(|_| self.scenario.dedupe && Faulty::RecordBeforeConfirm.is_planted())
        {
            self.note(id, SettledAs::Done);
        }
    }

    fn held(&self, ticket: Ticket) -> Option<super::ports::Held> {
        self.daemon.as_ref()?.journal.held.borrow().get(&ticket).cloned()
    }

    fn begun(&mut self, ticket: Ticket) {
        // An event with an id begins with the look-up of its dedupe record.
        if self.in_work(ticket) && self.daemon.as_ref().is_some_and(|daemon| daemon.blocked) {
            self.violations.push(format!("{ticket:?} was begun during an alarm that was known"));
        }
    }

    /// Notes that a delivery is in work. False when it was in work before.
    fn in_work(&mut self, ticket: Ticket) -> bool {
        let Some(journal) = self.daemon.as_ref().map(|daemon| daemon.journal.clone()) else { return false };
        let mut held = journal.held.borrow_mut();
        let Some(held) = held.get_mut(&ticket).filter(|held| !held.begun) else { return false };
        held.begun = true;
        // The daemon has not learned of the fault yet, so the delivery may come again.
        if self.now < self.struck + NOTICED_WITHIN {
            self.may_repeat.insert(held.number);
        }
        true
    }

    fn acknowledge_held(&mut self, session: u64, tag: u64, number: usize) {
        let Some(daemon) = &mut self.daemon else { return };
        let is_current = Some(session) == self.session || Faulty::StaleTag.is_planted();
        if !is_current || daemon.acknowledged.contains(&(session, tag)) {
            return;
        }
        daemon.done.add(tag);
        daemon.unsent.push(number);
        if !std::mem::replace(&mut daemon.flushing, true) {
            self.soon(4, Due::Flush(self.incarnation));
        }
    }

    pub(super) fn flush(&mut self, incarnation: u64) {
        let Some(daemon) = self.daemon.as_mut().filter(|_| incarnation == self.incarnation) else { return };
        daemon.flushing = false;
        if self.session.is_none() {
            daemon.unsent.clear();
            return;
        }
        let frames = daemon.done.frames(SingleFrames::Late);
        let mut frames: Vec<(u64, bool)> = frames.into_iter().map(|frame| (frame.tag, frame.multiple)).collect();
        daemon.flushing = !daemon.done.is_empty();
        if daemon.flushing {
            self.soon(4, Due::Flush(self.incarnation));
        } else {
            daemon.unsent.clear();
        }
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

    /// Writes a dedupe record.
    pub(super) fn note(&mut self, id: String, ended: SettledAs) {
        self.records.insert(id, if Faulty::DeadCountsAsDone.is_planted() { SettledAs::Done } else { ended });
    }
}

/// The batch, with the headers of the event by which the broker routes further when that mistake is planted.
fn with_planted_headers(batch: Batch) -> Batch {
    let is_fresh = batch.open() == batch.publications().len();
    if !is_fresh || !Faulty::CopiesRoute.is_planted() {
        return batch;
    }
    let restored = |publication: &Publication| {
        let mut publication = publication.clone();
        let kept = publication.message.properties.headers.get(&format!("{}CC", header::KEPT)).cloned();
        if let Some(keys) = kept {
            publication.message_mut().properties.headers.set("CC", keys);
        }
        publication
    };
    batch.publications().map(restored).collect::<Vec<_>>().into()
}
