//! One publish channel of an exchange, from opening to its end. `confirms` decides which message each confirm answers.
//!
//! A broker that refuses a message closes the channel of that message, and names the broken rule but not the message. All
//! messages in flight are then published again, each alone, until the refused one is found. The other messages keep their
//! ids and are confirmed. A missing exchange refuses every message, so no single message has to be found.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::channel_address::{ChannelAddress, ChannelKind};
use super::confirms::{CONFIRM_WITHIN, Confirm, ConfirmWindow, MessageIdentity, PendingPublish, PublishOutcome};
use super::direct_reply::is_direct_reply;
use super::history::PublishHistory;
use super::unconfirmed::{Resolved, Unconfirmed, Unwritten};
use crate::Passing;
use crate::amqp::channel::{
    closes_only_its_channel, exchange_name, release, routing_key_of, says_missing, short_string, to_wire_properties,
};
use crate::amqp::connection::Session;
use trunkline_event::Message;
use trunkline_telemetry::wait;

/// Messages without a confirm on a shared channel. lapin walks all of them for each `multiple` confirm.
const IN_FLIGHT_MAX: usize = 1000;
/// Time between checks for confirms that are overdue.
const OVERDUE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between checks whether the first message waits for long.
const LATE_CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// The longest wait for the end of a channel that is given up. Its broker may not answer at all.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A message to publish.
pub(crate) struct PublishJob {
    pub(crate) message: Arc<Message>,
    pub(crate) accept_unroutable: bool,
    pub(crate) reply: oneshot::Sender<PublishOutcome>,
}

/// One publish channel.
pub(crate) struct PublishChannel {
    pub(crate) session: Arc<Session>,
    pub(crate) history: Arc<Mutex<PublishHistory>>,
    pub(crate) address: ChannelAddress,
}

/// Why a channel ended.
enum ChannelEnd {
    /// Every sender of jobs is gone.
    Idle,
    /// A confirm did not come in time.
    Overdue,
    /// The channel or the connection failed.
    Failed(lapin::Error),
    /// The channel closed while nothing was in flight, or the session ended.
    Closed,
}

impl PublishChannel {
    /// Publishes jobs until the channel or the session ends. The next publish to the exchange opens another channel.
    pub(crate) async fn run(self, mut jobs: mpsc::Receiver<PublishJob>) {
        let mut in_flight = InFlight { kind: self.address.kind, window: ConfirmWindow::default(), alone: None };
        let end = tokio::select! {
            end = self.serve(&mut in_flight, &mut jobs) => end,
            () = self.session.over.cancelled() => ChannelEnd::Closed,
        };
        let exchange = &self.address.exchange;
        let is_missing = matches!(&end, ChannelEnd::Failed(error) if says_missing(error));
        if is_missing {
            self.history.lock().exchange_is_missing(exchange);
        }
        let missing = || PublishOutcome::Refused(Passing::NoExchange(exchange.to_string()).into());
        if is_missing {
            in_flight.window.fail(missing);
        } else {
            self.answer_in_flight(&mut in_flight, &end);
        }
        jobs.close();
        let is_refused = self.address.kind == ChannelKind::Alone
            && matches!(&end, ChannelEnd::Failed(error) if closes_only_its_channel(error));
        while let Some(job) = jobs.recv().await {
            let _caller_gone = job.reply.send(match (is_missing, is_refused) {
                // A job that waited for a missing exchange is answered without a channel of its own.
                (true, _) => missing(),
                // The refusal of another message is no failed try of this one.
                (false, true) => PublishOutcome::PublishAlone,
                (false, false) => PublishOutcome::Unsent,
            });
        }
    }

    /// Answers the messages in flight on a channel that ended.
    fn answer_in_flight(&self, in_flight: &mut InFlight, end: &ChannelEnd) {
        let exchange = &self.address.exchange;
        match end {
            ChannelEnd::Failed(error) if closes_only_its_channel(error) => match in_flight.alone.take() {
                Some(message) => {
                    let refusal = self.history.lock().refused(&message, error);
                    tracing::debug!(%exchange, key = %message.routing_key, %refusal, "the broker permanently refused a message; the daemon does not publish the message again");
                    in_flight.window.fail(|| PublishOutcome::Refused(refusal.clone().into()));
                }
                None => in_flight.window.fail(|| PublishOutcome::PublishAlone),
            },
            ChannelEnd::Failed(error) => in_flight.window.fail(|| PublishOutcome::Lost(error.to_string())),
            ChannelEnd::Overdue => {
                let mut history = self.history.lock();
                in_flight.window.late().for_each(|late| history.unanswered(exchange, &late.routing_key));
                drop(history);
                let within_s = CONFIRM_WITHIN.as_secs();
                in_flight.window.fail(|| {
                    PublishOutcome::Lost(format!("the broker did not confirm the message within {within_s} s"))
                });
            }
            ChannelEnd::Idle | ChannelEnd::Closed => {
                in_flight.window.fail(|| PublishOutcome::Lost("the session ended".to_owned()));
            }
        }
    }

    /// Opens the channel and publishes on it.
    async fn serve(&self, in_flight: &mut InFlight, jobs: &mut mpsc::Receiver<PublishJob>) -> ChannelEnd {
        let channel = match self.session.publish.create_channel().await {
            Ok(channel) => channel,
            Err(error) => return ChannelEnd::Failed(error),
        };
        let ready = async {
            self.look_for_exchange(&channel).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await
        };
        let end = match ready.await {
            Ok(()) => self.publish_jobs(&channel, in_flight, jobs).await,
            Err(error) => ChannelEnd::Failed(error),
        };
        if matches!(end, ChannelEnd::Overdue) {
            let (what, within_s) =
                ("a confirm did not arrive in time; the channel is closed", CONFIRM_WITHIN.as_secs());
            let exchange = &self.address.exchange;
            tracing::warn!(%exchange, within_s, "{what}, and the messages on the channel are published again");
            // A confirm that comes after the close is ignored.
            let closing = channel.close(200, ShortString::default());
            let _silent = tokio::time::timeout(CLOSE_WITHIN, closing).await;
        }
        release(channel).await;
        end
    }

    /// Looks for an exchange that was missing, before anything is published to it again. A missing exchange closes the channel
    /// here as well, but nothing is in flight yet.
    async fn look_for_exchange(&self, channel: &Channel) -> Result<(), lapin::Error> {
        let exchange = &self.address.exchange;
        if !self.history.lock().was_missing(exchange) {
            return Ok(());
        }
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let (exchange_name, kind) = (short_string(exchange.as_str()), lapin::ExchangeKind::Direct);
        channel.exchange_declare(exchange_name, kind, options, FieldTable::default()).await?;
        self.history.lock().exchange_exists(exchange);
        Ok(())
    }

    async fn publish_jobs(
        &self,
        channel: &Channel,
        in_flight: &mut InFlight,
        jobs: &mut mpsc::Receiver<PublishJob>,
    ) -> ChannelEnd {
        let mut unconfirmed = Unconfirmed::new();
        let mut overdue_check = wait::every(OVERDUE_CHECK_INTERVAL);
        let mut late_check = wait::every(LATE_CHECK_INTERVAL);
        loop {
            let has_room = in_flight.has_room() && unconfirmed.has_room();
            tokio::select! {
                biased;
                resolved = poll_fn(|context| unconfirmed.poll_resolved(context)), if !unconfirmed.is_empty() => {
                    let resolved = in_flight.resolve_all(resolved);
                    self.settle(in_flight);
                    if let Err(end) = resolved {
                        return self.why(end, in_flight, &mut unconfirmed).await;
                    }
                }
                job = jobs.recv(), if has_room => {
                    let mut next = job;
                    if next.is_none() {
                        return ChannelEnd::Idle;
                    }
                    // All jobs that wait share one write.
                    while let Some(job) = next.take() {
                        if let Err(end) = begin(channel, in_flight, &mut unconfirmed, job, publish) {
                            return self.closing(in_flight, &mut unconfirmed, end).await;
                        }
                        if in_flight.has_room() && unconfirmed.has_room() {
                            next = jobs.try_recv().ok();
                        }
                    }
                }
                // The next poll notices that the first message waits for long.
                _ = late_check.tick(), if !unconfirmed.is_empty() => {}
                _ = overdue_check.tick() => {
                    let is_blocked = self.session.status.borrow().blocked;
                    let unblocked = *self.session.unblocked.lock();
                    if !is_blocked && in_flight.window.is_overdue(unblocked) {
                        return ChannelEnd::Overdue;
                    }
                    // Without anything in flight, only this check notices that the channel is closed.
                    if in_flight.window.is_empty() && !channel.status().connected() {
                        return ChannelEnd::Closed;
                    }
                }
            }
        }
    }

    /// The end of a channel on which a message could not be queued.
    async fn closing<F: Future<Output = Resolved>>(
        &self,
        in_flight: &mut InFlight,
        unconfirmed: &mut Unconfirmed<F>,
        unqueued: Unqueued,
    ) -> ChannelEnd {
        let Unqueued { tag, error } = unqueued;
        if !is_of_closing_channel(&error) {
            return ChannelEnd::Failed(error);
        }
        let end = self.why(ChannelEnd::Closed, in_flight, unconfirmed).await;
        if !matches!(&end, ChannelEnd::Failed(error) if says_missing(error)) {
            in_flight.window.unsent(tag);
        }
        end
    }

    /// The reason of an end. The error of a message that a closing channel dropped says nothing, but the other confirms do.
    async fn why<F: Future<Output = Resolved>>(
        &self,
        end: ChannelEnd,
        in_flight: &mut InFlight,
        unconfirmed: &mut Unconfirmed<F>,
    ) -> ChannelEnd {
        match &end {
            ChannelEnd::Failed(error) if !is_of_closing_channel(error) => return end,
            ChannelEnd::Idle | ChannelEnd::Overdue | ChannelEnd::Failed(_) | ChannelEnd::Closed => {}
        }
        let resolved = in_flight.resolve_all(unconfirmed.rest().await);
        self.settle(in_flight);
        resolved.err().unwrap_or(end)
    }

    /// Answers the messages whose confirms are resolved, and adds what they show to the history.
    fn settle(&self, in_flight: &mut InFlight) {
        in_flight.window.settle();
        for (message, took) in in_flight.window.take_nacked() {
            self.history.lock().full(&self.address, &message.routing_key, took);
        }
        if in_flight.window.is_empty()
            && let Some(message) = in_flight.alone.take()
        {
            self.history.lock().confirmed(message.body.len());
        }
    }
}

/// The messages on their way on a channel.
struct InFlight {
    kind: ChannelKind,
    window: ConfirmWindow,
    /// The message that has the channel for itself.
    alone: Option<Arc<Message>>,
}

impl InFlight {
    fn has_room(&self) -> bool {
        let most = match self.kind {
            ChannelKind::Shared | ChannelKind::Unanswered => IN_FLIGHT_MAX,
            ChannelKind::Alone => 1,
        };
        self.window.len() < most
    }

    fn keep_if_alone(&mut self, message: Arc<Message>) {
        self.alone = Some(message).filter(|_| self.kind == ChannelKind::Alone);
    }

    /// Takes confirms in. The error of a message that a closing channel dropped counts last.
    fn resolve_all(&mut self, resolved: Vec<(u64, Resolved)>) -> Result<(), ChannelEnd> {
        let mut end = None;
        for (tag, confirmed) in resolved {
            match self.resolve(tag, confirmed) {
                Ok(()) => {}
                Err(ChannelEnd::Failed(error)) if is_of_closing_channel(&error) => {
                    end.get_or_insert(ChannelEnd::Failed(error));
                }
                Err(failed) => end = Some(failed),
            }
        }
        end.map_or(Ok(()), Err)
    }

    fn resolve(&mut self, tag: u64, confirmed: Resolved) -> Result<(), ChannelEnd> {
        let (confirm, returned) = match confirmed.map_err(ChannelEnd::Failed)? {
            Confirmation::Ack(returned) => (Confirm::Ack, returned),
            Confirmation::Nack(returned) => (Confirm::Nack, returned),
            // Confirms are switched on. Without them the outcome would be unknown.
            Confirmation::NotRequested => return Err(ChannelEnd::Closed),
        };
        self.window.resolve(tag, confirm, returned.as_ref().map(returned_identity));
        Ok(())
    }
}

/// A message whose frames could not be queued.
struct Unqueued {
    tag: u64,
    error: lapin::Error,
}

/// Queues the frames of a message.
///
/// # Errors
/// The message that could not be queued. The channel ends.
fn begin<'c, F>(
    channel: &'c Channel,
    in_flight: &mut InFlight,
    unconfirmed: &mut Unconfirmed<F>,
    job: PublishJob,
    confirm: impl FnOnce(&'c Channel, Arc<Message>, Unwritten) -> F,
) -> Result<(), Unqueued>
where
    F: Future<Output = Resolved>,
{
    let PublishJob { message, accept_unroutable, reply } = job;
    let tag = in_flight.window.add(PendingPublish { message: message.clone(), accept_unroutable, reply });
    let (bytes, unwritten) = (message.body.len(), unconfirmed.unwritten.clone());
    let begun = unconfirmed.begin(tag, bytes, confirm(channel, message.clone(), unwritten));
    match begun {
        Some(Err(error)) => {
            if !is_of_closing_channel(&error) {
                in_flight.keep_if_alone(message);
            }
            return Err(Unqueued { tag, error });
        }
        Some(Ok(confirmed)) => unconfirmed.found(tag, Ok(confirmed)),
        None => {}
    }
    in_flight.keep_if_alone(message);
    Ok(())
}

/// Whether a message was not written because its channel is closing.
fn is_of_closing_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidChannelState(..))
}

/// Queues the frames of a message at the first poll. Ready with the confirm.
async fn publish(channel: &Channel, message: Arc<Message>, unwritten: Unwritten) -> Resolved {
    let options = BasicPublishOptions { mandatory: !is_direct_reply(&message), ..BasicPublishOptions::default() };
    let (exchange, key) = (short_string(message.exchange.as_str()), short_string(message.routing_key.as_str()));
    let properties = to_wire_properties(&message.properties);
    let written = channel.basic_publish(exchange, key, options, &message.body, properties).await;
    unwritten.written(message.body.len());
    // The confirm may take long, and the client has the body.
    drop(message);
    written?.await
}

fn returned_identity(returned: &BasicReturnMessage) -> MessageIdentity {
    let delivery = &returned.delivery;
    MessageIdentity {
        message_id: delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        exchange: exchange_name(delivery.exchange.as_str()),
        routing_key: routing_key_of(delivery.routing_key.as_str()),
    }
}
