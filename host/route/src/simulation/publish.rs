//! Publishing in the model: through the window of confirms, or in one transaction.

use tokio::sync::oneshot;

use super::broker::{OUT, Taken, refused_for_good};
use super::daemon::Waiting;
use super::faulty::Faulty;
use super::ports::ModelDelivery;
use super::schedule::{Due, Simulation};
use crate::codec::header;
use crate::core::Ticket;
use crate::executor::{Completion, DeliveryGroup, ExecutorInput, FailedCommit};
use trunkline_broker::amqp::parts::{self, CONFIRM_WITHIN, Confirm, ConfirmWindow, PendingPublish, PublishOutcome};
use trunkline_broker::{Batch, Confirmed, DedupeRecord, Passing, Publication, Receipt, Refusal, Unpublished};

impl Simulation {
    pub(super) fn publish(&mut self, ticket: Ticket, batch: Batch) {
        let Some(daemon) = &mut self.daemon else { return };
        let whole = batch.rest().map(|(_, publication)| publication.clone()).collect();
        let mut waiting = Waiting { ticket, batch, whole, answers: Vec::new(), refused: Vec::new(), lost: false };
        for (index, publication) in waiting.batch.rest() {
            let (reply, answer) = oneshot::channel();
            waiting.answers.push((index, answer));
            if self.session.is_none() {
                drop(reply.send(PublishOutcome::Lost("no session".to_owned())));
                continue;
            }
            let tag = daemon.window.add(PendingPublish {
                message: publication.message.clone(),
                accept_unroutable: publication.accept_unroutable,
                reply,
            });
            self.broker.inbound.push_back((tag, publication.clone()));
        }
        daemon.waiting.push(waiting);
        if !self.broker.inbound.is_empty() {
            self.soon(10, Due::Take);
        }
        if self.session.is_none() || self.broker.inbound.is_empty() {
            self.collect_answers();
        }
    }

    pub(super) fn take(&mut self) {
        if self.broker.blocked {
            return;
        }
        match self.broker.take(self.now) {
            None => {}
            Some(Taken::Never(_)) => self.close_for_one(),
            Some(Taken::Stored | Taken::Returned | Taken::Refused) => {
                self.await_release();
                self.entries_soon();
                self.soon(15, Due::Confirm);
                if !self.broker.inbound.is_empty() {
                    self.soon(3, Due::Take);
                }
            }
        }
        // A header that routes further may have put a message into the queue.
        self.deliver();
    }

    /// The broker closes the channel without naming the refused message, so each message is published alone.
    fn close_for_one(&mut self) {
        self.broker.close();
        self.note_unanswered();
        *self.seen_faults.entry("refused").or_default() += 1;
        let Some(daemon) = &mut self.daemon else { return };
        daemon.window.fail(|| PublishOutcome::PublishAlone);
        daemon.window = ConfirmWindow::default();
        self.collect_answers();
    }

    /// Publishes the next message alone.
    pub(super) fn take_alone(&mut self, incarnation: u64) {
        if incarnation != self.incarnation || self.daemon.is_none() {
            return;
        }
        if self.broker.blocked {
            return self.soon(50, Due::Alone(incarnation));
        }
        let Some((reply, publication)) = self.daemon.as_mut().and_then(|daemon| daemon.alone.pop_front()) else {
            return;
        };
        let (exchange, key) = (publication.message.exchange.to_string(), publication.message.routing_key.to_string());
        let accepts = publication.accept_unroutable;
        let answer = match self.broker.store(publication, self.now) {
            Taken::Stored => PublishOutcome::Confirmed(Confirmed::Routed),
            Taken::Returned if accepts => PublishOutcome::Confirmed(Confirmed::Unrouted),
            Taken::Returned => PublishOutcome::Refused(Passing::Unroutable { exchange, key }.into()),
            Taken::Refused => PublishOutcome::Refused(Passing::Full.into()),
            Taken::Never(permanent) => PublishOutcome::Refused(permanent.into()),
        };
        drop(reply.send(answer));
        self.await_release();
        self.entries_soon();
        self.collect_answers();
        self.soon(5, Due::Alone(incarnation));
        self.deliver();
    }

    /// A confirm did not come in time: its channel is closed.
    pub(super) fn overdue(&mut self, incarnation: u64) {
        let is_late = self.daemon.as_ref().is_some_and(|daemon| !daemon.window.is_empty());
        if incarnation == self.incarnation && is_late && !self.broker.blocked {
            self.lose_channel();
        }
    }

    pub(super) fn confirm(&mut self) {
        if self.broker.swallow(&mut self.random) {
            *self.seen_faults.entry("unconfirmed").or_default() += 1;
            self.at(self.now + CONFIRM_WITHIN, Due::Overdue(self.incarnation));
        }
        let frame = self.broker.confirm(&mut self.random);
        let Some(daemon) = &mut self.daemon else { return };
        for (tag, taken, returned) in frame {
            daemon.window.resolve(tag, if taken { Confirm::Ack } else { Confirm::Nack }, returned);
        }
        daemon.window.settle();
        if self.broker.has_unconfirmed() {
            self.soon(10, Due::Confirm);
        }
        self.collect_answers();
    }

    /// Completes the publishes whose messages are all answered.
    pub(super) fn collect_answers(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let (mut complete, mut still) = (Vec::new(), Vec::new());
        for mut waiting in std::mem::take(&mut daemon.waiting) {
            let mut open = Vec::new();
            for (index, mut answer) in waiting.answers {
                match answer.try_recv() {
                    Ok(PublishOutcome::Confirmed(confirmed)) => parts::confirm(&mut waiting.batch, index, confirmed),
                    Ok(PublishOutcome::Refused(refusal)) => waiting.refused.push((index, refusal)),
                    Ok(PublishOutcome::PublishAlone) => {
                        let publication = waiting.batch.rest().find(|(place, _)| *place == index);
                        let (reply, answer) = oneshot::channel();
                        if let Some((_, publication)) = publication {
                            daemon.alone.push_back((reply, publication.clone()));
                        }
                        open.push((index, answer));
                    }
                    Ok(PublishOutcome::Lost(_) | PublishOutcome::Unsent)
                    | Err(oneshot::error::TryRecvError::Closed) => waiting.lost = true,
                    Err(oneshot::error::TryRecvError::Empty) => open.push((index, answer)),
                }
            }
            waiting.answers = open;
            if waiting.answers.is_empty() {
                complete.push(waiting);
            } else {
                still.push(waiting);
            }
        }
        daemon.waiting = still;
        if !daemon.alone.is_empty() {
            self.soon(5, Due::Alone(self.incarnation));
        }
        let completed = complete.into_iter().map(|waiting| (waiting.ticket, published(waiting)));
        for (ticket, result) in completed {
            self.step([ExecutorInput::Completed(ticket, Completion::Published(result))]);
        }
    }

    /// The transaction of the embedded broker, which takes all messages or none.
    pub(super) fn committed(
        &mut self,
        deliveries: DeliveryGroup<ModelDelivery>,
        batch: Batch,
        record: Option<DedupeRecord>,
    ) -> Completion<ModelDelivery> {
        let refusal = |publication: &Publication| {
            let key = publication.message.routing_key.as_str();
            let is_nowhere = key == super::plugin::UNBOUND && !publication.accept_unroutable;
            let nowhere = || Passing::Unroutable { exchange: OUT.to_owned(), key: key.to_owned() };
            let is_full = self.broker.full || self.broker.half_full && key == super::plugin::MADE[1];
            let passing = is_nowhere.then(nowhere).or(is_full.then_some(Passing::Full)).map(Refusal::from);
            refused_for_good(&publication.message).map(Refusal::from).or(passing)
        };
        let refused = batch.publications().enumerate();
        let refused: Vec<_> = refused.filter_map(|(index, of)| Some((index, refusal(of)?))).collect();
        if !refused.is_empty() {
            let unpublished = Unpublished { batch, refused: reported(refused), lost: None };
            let confirmed = |_: &Publication| Confirmed::Routed;
            return Completion::Committed(match counts_as_confirmed(&unpublished) {
                true => Ok(unpublished.batch.publications().map(confirmed).collect()),
                false => Err(Box::new(FailedCommit { deliveries, unpublished })),
            });
        }
        if let Err(problem) = self.broker.acknowledge(deliveries.first.tag, false) {
            self.violations.push(problem);
        }
        deliveries.entries.iter().for_each(|entry| drop(self.broker.listed.remove(&entry.tag)));
        let mut confirmed = Vec::new();
        for publication in batch.publications() {
            confirmed.push(match self.broker.store(publication.clone(), self.now) {
                Taken::Returned => Confirmed::Unrouted,
                Taken::Stored | Taken::Refused | Taken::Never(_) => Confirmed::Routed,
            });
        }
        if let Some(record) = record {
            self.note(record.id, record.settled_as);
        }
        self.entries_soon();
        self.await_release();
        Completion::Committed(Ok(confirmed))
    }
}

/// The result of a publish whose messages are all answered.
fn published(waiting: Waiting) -> Result<Receipt, Unpublished> {
    let Waiting { batch, whole, refused, lost, .. } = waiting;
    let batch = match parts::receipt(batch) {
        Ok(receipt) => {
            assert!(refused.is_empty() && !lost, "it is complete when every message is confirmed");
            return Ok(receipt);
        }
        Err(batch) => batch,
    };
    let mut unpublished = Unpublished { batch, refused: reported(refused), lost: lost.then(|| "lost".to_owned()) };
    let is_passing = unpublished.lost.is_none() && unpublished.permanent().is_none();
    if counts_as_confirmed(&unpublished) || Faulty::ReceiptOfNothing.is_planted() && is_passing {
        let open: Vec<usize> = unpublished.batch.rest().map(|(index, _)| index).collect();
        open.into_iter().for_each(|index| parts::confirm(&mut unpublished.batch, index, Confirmed::Routed));
        return parts::receipt(unpublished.batch).map_err(|batch| Unpublished {
            batch,
            refused: Vec::new(),
            lost: None,
        });
    }
    if Faulty::WholeBatchAgain.is_planted() {
        unpublished.batch = Batch::from(whole);
    }
    Err(unpublished)
}

/// Whether a planted mistake takes a publish for confirmed.
fn counts_as_confirmed(unpublished: &Unpublished) -> bool {
    let is_letter = |of: &Publication| header::is_dead_letter(&of.message.properties.headers);
    let is_copy = unpublished.batch.publications().any(is_letter);
    let is_passing = unpublished.lost.is_none() && unpublished.permanent().is_none();
    Faulty::LostCountsAsConfirmed.is_planted() || Faulty::DeadLetterUnconfirmed.is_planted() && is_copy && is_passing
}

/// The refusals as the client of the broker gives them.
fn reported(refused: Vec<(usize, Refusal)>) -> Vec<(usize, Refusal)> {
    let reported = |(index, refusal)| match refusal {
        Refusal::Permanent(_) if Faulty::RefusalPasses.is_planted() => (index, Passing::Full.into()),
        Refusal::Permanent(_) | Refusal::Passing(_) => (index, refusal),
    };
    refused.into_iter().map(reported).collect()
}
