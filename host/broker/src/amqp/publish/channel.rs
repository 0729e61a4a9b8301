//! One publish channel of an exchange, from opening to its end. `confirms` decides which message each confirm answers.
//!
//! A broker that refuses a message closes the channel of that message, and names the broken rule but not the message. All
//! messages in flight are then published again, each alone, until the refused one is found. The other messages keep their
//! ids and are confirmed. A missing exchange refuses every message, so no single message has to be found.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
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
        let mut confirms = FuturesUnordered::new();
        let mut overdue_check = wait::every(OVERDUE_CHECK_INTERVAL);
        loop {
            tokio::select! {
                biased;
                Some((tag, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                    let mut resolved = in_flight.resolve(tag, confirmed);
                    while resolved.is_ok() && let Some(Some((tag, confirmed))) = confirms.next().now_or_never() {
                        resolved = in_flight.resolve(tag, confirmed);
                    }
                    self.settle(in_flight);
                    if let Err(end) = resolved {
                        return end;
                    }
                }
                job = jobs.recv(), if in_flight.has_room() => {
                    let Some(PublishJob { message, accept_unroutable, reply }) = job else {
                        return ChannelEnd::Idle;
                    };
                    let identity = MessageIdentity::of(&message);
                    let tag = in_flight.window.add(PendingPublish { identity, accept_unroutable, reply });
                    match write(channel, &message).await {
                        Ok(confirm) => {
                            in_flight.keep_if_alone(message);
                            confirms.push(async move { (tag, confirm.await) });
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::InvalidChannelState(..)) => {
                            // The channel is closing: this message was not written, and the confirms of the others say why.
                            let mut end = ChannelEnd::Closed;
                            while let Some((tag, confirmed)) = confirms.next().await {
                                if let Err(why) = in_flight.resolve(tag, confirmed) {
                                    end = why;
                                    break;
                                }
                                self.settle(in_flight);
                            }
                            if !matches!(&end, ChannelEnd::Failed(error) if says_missing(error)) {
                                in_flight.window.unsent(tag);
                            }
                            return end;
                        }
                        Err(error) => {
                            in_flight.keep_if_alone(message);
                            return ChannelEnd::Failed(error);
                        }
                    }
                }
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

    /// Answers the messages whose confirms are resolved, and adds what they show to the history.
    fn settle(&self, in_flight: &mut InFlight) {
        in_flight.window.settle();
        for (identity, took) in in_flight.window.take_nacked() {
            self.history.lock().full(&self.address, &identity.routing_key, took);
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

    fn resolve(&mut self, tag: u64, confirmed: Result<Confirmation, lapin::Error>) -> Result<(), ChannelEnd> {
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

/// Returns when the frames are written. The inner future is the confirm.
async fn write(
    channel: &Channel,
    message: &Message,
) -> Result<impl Future<Output = Result<Confirmation, lapin::Error>> + use<>, lapin::Error> {
    let options = BasicPublishOptions { mandatory: !is_direct_reply(message), ..BasicPublishOptions::default() };
    let (exchange, key) = (short_string(message.exchange.as_str()), short_string(message.routing_key.as_str()));
    channel.basic_publish(exchange, key, options, &message.body, to_wire_properties(&message.properties)).await
}

fn returned_identity(returned: &BasicReturnMessage) -> MessageIdentity {
    let delivery = &returned.delivery;
    MessageIdentity {
        message_id: delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        exchange: exchange_name(delivery.exchange.as_str()),
        routing_key: routing_key_of(delivery.routing_key.as_str()),
    }
}
