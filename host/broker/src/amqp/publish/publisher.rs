//! The publisher of a session: every message to the channel of its exchange, and one result for a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::channel::{PublishChannel, PublishJob};
use super::channel_address::{ChannelAddress, ChannelKind};
use super::confirms::PublishOutcome;
use super::direct_reply;
use super::history::PublishHistory;
use crate::amqp::connection::Session;
use crate::amqp::delay;
use crate::{Batch, DELAY_MAX, Passing, Permanent, Publication, Receipt, Refusal, Unpublished};
use trunkline_event::{ExchangeName, Message};
use trunkline_telemetry::wait::{self, Loop, RetryLoop};

/// Publishes that wait for their channel.
const JOBS_WAITING_MAX: usize = 1024;
/// The time after which the removal of a queue is over. RabbitMQ 4.3.6 on an idle machine takes less than 10 ms.
const REMOVAL_WITHIN: Duration = Duration::from_millis(100);

/// Publishes on the channels of one session.
pub(crate) struct AmqpPublisher {
    session: Arc<Session>,
    history: Arc<Mutex<PublishHistory>>,
    channels: Mutex<HashMap<ExchangeName, ExchangeChannels>>,
}

/// The publish channels of an exchange, each opened on first use.
#[derive(Default)]
struct ExchangeChannels {
    shared: Option<mpsc::Sender<PublishJob>>,
    alone: Option<mpsc::Sender<PublishJob>>,
    unanswered: Option<mpsc::Sender<PublishJob>>,
}

impl ExchangeChannels {
    fn of(&mut self, kind: ChannelKind) -> &mut Option<mpsc::Sender<PublishJob>> {
        match kind {
            ChannelKind::Shared => &mut self.shared,
            ChannelKind::Alone => &mut self.alone,
            ChannelKind::Unanswered => &mut self.unanswered,
        }
    }
}

/// A batch whose open messages have their form on the wire.
pub(crate) struct PreparedBatch {
    batch: Batch,
    messages: Vec<PreparedMessage>,
    has_delays: bool,
}

/// A message that is with its channel, and its outcome.
pub(super) type HandedOver = (PreparedMessage, oneshot::Receiver<PublishOutcome>);

/// A message in its form on the wire, with its place in the batch.
pub(super) struct PreparedMessage {
    index: usize,
    message: Arc<Message>,
    accept_unroutable: bool,
    kind: ChannelKind,
    nacks: NackCount,
}

/// The nacks of a message in one call of [`AmqpPublisher::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NackCount {
    None,
    One,
}

impl PreparedBatch {
    /// The batch and its message, if the batch has one open message.
    ///
    /// # Errors
    /// The same batch, with several messages.
    pub(super) fn into_single(mut self) -> Result<(Batch, PreparedMessage), Self> {
        match self.messages.pop() {
            Some(only) if self.messages.is_empty() => Ok((self.batch, only)),
            Some(last) => {
                self.messages.push(last);
                Err(self)
            }
            None => Err(self),
        }
    }

    /// Whether a message of the batch is delayed, so that the delay queues have to exist.
    pub(crate) const fn has_delays(&self) -> bool {
        self.has_delays
    }

    /// The batch as one that was not published, for this reason.
    pub(crate) fn lost(self, reason: impl Into<String>) -> Unpublished {
        Unpublished::lost(self.batch, reason)
    }
}

impl AmqpPublisher {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, history: Arc::default(), channels: Mutex::default() }
    }

    /// Publishes the open messages of a batch. The delay queues exist already.
    ///
    /// # Errors
    /// As [`AmqpPublisher::prepare`] and [`AmqpPublisher::send`].
    pub(crate) async fn publish(&self, batch: Batch) -> Result<Receipt, Unpublished> {
        self.send(self.prepare(batch)?).await
    }

    /// Gives every open message its form on the wire.
    ///
    /// # Errors
    /// The messages that the broker would never take. Nothing of the batch is published then, because it could never be
    /// complete.
    pub(crate) fn prepare(&self, batch: Batch) -> Result<PreparedBatch, Unpublished> {
        let (mut refused, mut has_delays) = (Vec::<(usize, Refusal)>::new(), false);
        let mut messages = Vec::with_capacity(batch.open());
        for (index, publication) in batch.rest() {
            has_delays |= publication.delay.is_some_and(|delay| !delay.is_zero());
            match self.prepare_message(index, publication) {
                Ok(message) => messages.push(message),
                Err(permanent) => refused.push((index, permanent.into())),
            }
        }
        if refused.is_empty() {
            return Ok(PreparedBatch { batch, messages, has_delays });
        }
        Err(Unpublished { batch, refused, lost: None })
    }

    fn prepare_message(&self, index: usize, publication: &Publication) -> Result<PreparedMessage, Permanent> {
        direct_reply::check(&publication.message)?;
        let (message, accept_unroutable) = match publication.delay.filter(|delay| !delay.is_zero()) {
            Some(delay) if delay > DELAY_MAX => return Err(Permanent::Delay(delay)),
            // A message must not be lost at a level that does not exist.
            Some(delay) => (Arc::new(delay::wrap(publication, delay, &self.session.key)?), false),
            None => (with_id(&publication.message)?, publication.accept_unroutable),
        };
        let mut history = self.history.lock();
        history.check(&message)?;
        let kind = history.channel_kind(&message);
        Ok(PreparedMessage { index, message, accept_unroutable, kind, nacks: NackCount::None })
    }

    /// Publishes prepared messages and waits for all of them, even when one is refused, because every confirm has to be
    /// known.
    ///
    /// # Errors
    /// The messages that are not confirmed, and why.
    pub(crate) async fn send(&self, prepared: PreparedBatch) -> Result<Receipt, Unpublished> {
        let PreparedBatch { batch, messages, .. } = prepared;
        let handed_over = self.hand_over(messages).await;
        self.conclude(batch, handed_over).await
    }

    /// Publishes the only message of a batch.
    ///
    /// # Errors
    /// As [`AmqpPublisher::send`].
    pub(super) async fn send_single(&self, batch: Batch, message: PreparedMessage) -> Result<Receipt, Unpublished> {
        let handed_over = self.hand_over(vec![message]).await;
        self.conclude(batch, handed_over).await
    }

    /// Waits for all messages, and publishes those again that have to be.
    ///
    /// # Errors
    /// As [`AmqpPublisher::send`].
    pub(super) async fn conclude(
        &self,
        mut batch: Batch,
        mut handed_over: Vec<HandedOver>,
    ) -> Result<Receipt, Unpublished> {
        let (mut refused, mut lost) = (Vec::new(), None);
        let mut opening = RetryLoop::new(Loop::ChannelOpen, "");
        while !handed_over.is_empty() {
            let (mut again, mut unsent, mut nacked) = (Vec::new(), false, false);
            for (message, outcome) in handed_over {
                match outcome.await {
                    Ok(PublishOutcome::Confirmed(confirmed)) => batch.confirm(message.index, confirmed),
                    Ok(PublishOutcome::Refused(refusal)) if self.may_have_met_a_removal(&message, &refusal) => {
                        nacked = true;
                        again.push(PreparedMessage { nacks: NackCount::One, ..message });
                    }
                    Ok(PublishOutcome::Refused(refusal)) => refused.push((message.index, refusal)),
                    Ok(PublishOutcome::Lost(reason)) => lost = Some(reason),
                    Ok(PublishOutcome::Unsent) => {
                        unsent = true;
                        again.push(message);
                    }
                    Ok(PublishOutcome::PublishAlone) => {
                        again.push(PreparedMessage { kind: ChannelKind::Alone, ..message });
                    }
                    Err(_dropped) => lost = Some("the session ended".to_owned()),
                }
            }
            if nacked {
                wait::after(REMOVAL_WITHIN).await;
            }
            // A closed channel costs a try. The refusal of another message costs none.
            if unsent && opening.pause("the broker repeatedly closes a channel for publishing").await.is_err() {
                lost = Some("the daemon could not open a channel for publishing".to_owned());
                break;
            }
            handed_over = self.hand_over(again).await;
        }
        if lost.is_none() && refused.is_empty() {
            return receipt(batch);
        }
        // A message that was published again has its outcome after the others.
        refused.sort_by_key(|(index, _)| *index);
        Err(Unpublished { batch, refused, lost })
    }

    /// Whether a message that was nacked is published once more, because the queue may be one that is just removed.
    fn may_have_met_a_removal(&self, nacked: &PreparedMessage, refusal: &Refusal) -> bool {
        if !self.session.features().nacks_removed_queues || *refusal != Refusal::Passing(Passing::Full) {
            return false;
        }
        let mut history = self.history.lock();
        match nacked.nacks {
            NackCount::None => history.may_be_a_removal(&nacked.message),
            NackCount::One => {
                history.stays_full(&nacked.message);
                false
            }
        }
    }

    /// Hands every message to its channel. A channel that just ended leaves the message unsent.
    async fn hand_over(&self, messages: Vec<PreparedMessage>) -> Vec<HandedOver> {
        let mut handed_over = Vec::with_capacity(messages.len());
        for prepared in messages {
            let (reply, outcome) = oneshot::channel();
            let channel = self.channel(&prepared.message.exchange, prepared.kind);
            if let Err(closed) = channel.send(prepared.job(reply)).await {
                let _receiver_is_below = closed.0.reply.send(PublishOutcome::Unsent);
            }
            handed_over.push((prepared, outcome));
        }
        handed_over
    }

    /// Hands one message to its channel, if the channel takes the message at once.
    pub(super) fn hand_over_at_once(&self, prepared: &PreparedMessage) -> Option<oneshot::Receiver<PublishOutcome>> {
        let (reply, outcome) = oneshot::channel();
        let channel = self.channel(&prepared.message.exchange, prepared.kind);
        channel.try_send(prepared.job(reply)).is_ok().then_some(outcome)
    }

    /// The channel of an exchange, opened on first use. Exchanges have channels of their own, because a missing exchange closes
    /// its channel and must not delay the confirms of other exchanges.
    fn channel(&self, exchange: &ExchangeName, kind: ChannelKind) -> mpsc::Sender<PublishJob> {
        let mut channels = self.channels.lock();
        if let Some(known) = channels.get_mut(exchange).and_then(|known| known.of(kind).as_ref())
            && !known.is_closed()
        {
            return known.clone();
        }
        let (sender, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let (session, history) = (self.session.clone(), self.history.clone());
        let address = ChannelAddress { exchange: exchange.clone(), kind };
        self.session.spawn(PublishChannel { session, history, address }.run(jobs));
        *channels.entry(exchange.clone()).or_default().of(kind) = Some(sender.clone());
        sender
    }
}

impl PreparedMessage {
    /// The place of the message in its batch.
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    fn job(&self, reply: oneshot::Sender<PublishOutcome>) -> PublishJob {
        PublishJob { message: self.message.clone(), accept_unroutable: self.accept_unroutable, reply }
    }
}

/// The receipt of a batch whose messages all have their outcome.
///
/// # Errors
/// A message has no outcome, which would be a defect. The batch counts as lost.
pub(super) fn receipt(batch: Batch) -> Result<Receipt, Unpublished> {
    batch.receipt().map_err(|batch| Unpublished::lost(batch, "a message of the batch has no outcome"))
}

/// A message that the broker can take, with an id, because a returned message is recognised by its id.
fn with_id(message: &Arc<Message>) -> Result<Arc<Message>, Permanent> {
    message.check()?;
    if message.properties.message_id.is_some() {
        return Ok(message.clone());
    }
    let mut message = message.copy();
    message.properties.message_id = Some(Uuid::now_v7().to_string());
    Ok(Arc::new(message))
}
