//! One publish channel of an exchange, and its confirms; who is answered what is judged in [`super::confirms`].
//!
//! A broker that refuses a message closes the channel that it came on, and says which rule was broken but not by which
//! message. So what was in flight is then published again, each message alone, until the one is found: its neighbours
//! keep their ids and are confirmed. An exchange that is missing refuses everything, and nobody has to be found.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::confirms::{Answer, CONFIRM_WITHIN, Identity, Window};
use super::convert::{name, to_properties};
use super::session::{Session, let_go};
use super::suspects::{Lane, is_of_channel, says_missing};
use crate::Passing;
use trunkline_event::{ExchangeName, Message};
use trunkline_telemetry::wait;

/// Messages without an answer on a shared channel; lapin walks all of them for each `multiple` confirm.
const IN_FLIGHT_MAX: usize = 1000;
const LOOK: Duration = Duration::from_secs(1);
/// A channel that is given up may belong to a broker that answers nothing.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A message to publish.
pub(super) struct Job {
    pub(super) message: Arc<Message>,
    pub(super) accept_unroutable: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Why a channel is given up.
enum End {
    /// Nobody publishes to it any more.
    Idle,
    /// A confirm did not come in time.
    Overdue,
    /// The channel or the connection failed.
    Failed(lapin::Error),
    /// It was closed while nothing was in flight, or the session ended.
    Closed,
}

/// Runs until the channel or the session ends; the next publish to the exchange opens another channel.
pub(super) async fn run(session: Arc<Session>, exchange: ExchangeName, lane: Lane, mut jobs: mpsc::Receiver<Job>) {
    let mut flight = Flight { lane, window: Window::default(), alone: None };
    let end = tokio::select! {
        end = collect(&session, &exchange, &mut flight, &mut jobs) => end,
        () = session.over.cancelled() => End::Closed,
    };
    let is_missing = matches!(&end, End::Failed(error) if says_missing(error));
    if is_missing {
        session.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(exchange.clone());
    }
    let missing = || Answer::Refused(Passing::NoExchange(exchange.to_string()).into());
    match &end {
        End::Failed(_) if is_missing => flight.window.fail(missing),
        End::Failed(error) if is_of_channel(error) => match flight.alone.take() {
            Some(message) => {
                let refusal = session.suspects().refused(&message, error);
                tracing::debug!(%exchange, key = %message.routing_key, %refusal, "a message is refused for good");
                flight.window.fail(|| Answer::Refused(refusal.clone().into()));
            }
            None => flight.window.fail(|| Answer::Suspect),
        },
        End::Failed(error) => flight.window.fail(|| Answer::Lost(error.to_string())),
        End::Overdue => {
            flight.window.late().for_each(|(_, _, key)| session.suspects().unanswered(&exchange, key));
            flight.window.fail(|| Answer::Lost(format!("no confirm within {} s", CONFIRM_WITHIN.as_secs())));
        }
        End::Idle | End::Closed => flight.window.fail(|| Answer::Lost("the session ended".to_owned())),
    }
    jobs.close();
    let is_refused = lane == Lane::Alone && matches!(&end, End::Failed(error) if is_of_channel(error));
    while let Some(job) = jobs.recv().await {
        let _nobody_waits = job.reply.send(match (is_missing, is_refused) {
            // What waited behind a message for a missing exchange need not find that out for itself.
            (true, _) => missing(),
            // Another one's refusal is no failed try of this one.
            (false, true) => Answer::Suspect,
            (false, false) => Answer::Unsent,
        });
    }
}

/// What is on its way on a channel.
struct Flight {
    lane: Lane,
    window: Window,
    /// The message that has the channel for itself.
    alone: Option<Arc<Message>>,
}

impl Flight {
    fn has_room(&self) -> bool {
        let most = match self.lane {
            Lane::Shared | Lane::Unanswered => IN_FLIGHT_MAX,
            Lane::Alone => 1,
        };
        self.window.len() < most
    }

    fn resolve(&mut self, tag: u64, confirmed: Result<Confirmation, lapin::Error>) -> Result<(), End> {
        match confirmed.map_err(End::Failed)? {
            Confirmation::Ack(returned) => self.window.resolve(tag, true, returned.as_ref().map(returned_identity)),
            Confirmation::Nack(returned) => self.window.resolve(tag, false, returned.as_ref().map(returned_identity)),
            // Confirms are switched on; without them nothing would be known.
            Confirmation::NotRequested => return Err(End::Closed),
        }
        Ok(())
    }

    /// Judges what is resolved.
    fn settle(&mut self, session: &Session) {
        self.window.settle();
        for ((_, exchange, key), took) in self.window.take_nacked() {
            if let Ok(exchange) = ExchangeName::new(exchange) {
                session.suspects().full(self.lane, &exchange, &key, took);
            }
        }
        if self.window.is_empty()
            && let Some(message) = self.alone.take()
        {
            session.suspects().confirmed(message.body.len());
        }
    }
}

async fn collect(
    session: &Session,
    exchange: &ExchangeName,
    flight: &mut Flight,
    jobs: &mut mpsc::Receiver<Job>,
) -> End {
    let channel = match session.publish.create_channel().await {
        Ok(channel) => channel,
        Err(error) => return End::Failed(error),
    };
    let ready = async {
        look_for(session, &channel, exchange).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await
    };
    let end = match ready.await {
        Ok(()) => pump(session, &channel, flight, jobs).await,
        Err(error) => End::Failed(error),
    };
    if matches!(end, End::Overdue) {
        let (what, within_s) = ("a confirm did not come; its channel is given up", CONFIRM_WITHIN.as_secs());
        tracing::warn!(%exchange, within_s, "{what}, and what was on it is published again");
        // Nothing that comes on it later counts.
        let closing = channel.close(200, ShortString::default());
        let _silent = tokio::time::timeout(CLOSE_WITHIN, closing).await;
    }
    let_go(channel).await;
    end
}

/// Asks for an exchange that was missing before anything is published to it again. The answer closes the channel as
/// well, but nothing is on its way then.
async fn look_for(session: &Session, channel: &Channel, exchange: &ExchangeName) -> Result<(), lapin::Error> {
    let was_missing = session.missing.lock().unwrap_or_else(PoisonError::into_inner).contains(exchange);
    if !was_missing {
        return Ok(());
    }
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let (exchange_name, kind) = (name(exchange.as_str()), lapin::ExchangeKind::Direct);
    channel.exchange_declare(exchange_name, kind, options, FieldTable::default()).await?;
    session.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(exchange);
    Ok(())
}

async fn pump(session: &Session, channel: &Channel, flight: &mut Flight, jobs: &mut mpsc::Receiver<Job>) -> End {
    let mut confirms = FuturesUnordered::new();
    let mut look = wait::every(LOOK);
    loop {
        tokio::select! {
            biased;
            Some((tag, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                let mut resolved = flight.resolve(tag, confirmed);
                while resolved.is_ok() && let Some(Some((tag, confirmed))) = confirms.next().now_or_never() {
                    resolved = flight.resolve(tag, confirmed);
                }
                flight.settle(session);
                if let Err(end) = resolved {
                    return end;
                }
            }
            job = jobs.recv(), if flight.has_room() => {
                let Some(job) = job else {
                    return End::Idle;
                };
                let tag = flight.window.add(identity(&job.message), job.accept_unroutable, job.reply);
                match write(channel, &job.message).await {
                    Ok(confirm) => {
                        flight.alone = Some(job.message).filter(|_| flight.lane == Lane::Alone);
                        confirms.push(async move { (tag, confirm.await) });
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::InvalidChannelState(..)) => {
                        // The channel is closing: nothing was written, and the confirms before it tell why.
                        let mut end = End::Closed;
                        while let Some((tag, confirmed)) = confirms.next().await {
                            if let Err(why) = flight.resolve(tag, confirmed) {
                                end = why;
                                break;
                            }
                            flight.settle(session);
                        }
                        if !matches!(&end, End::Failed(error) if says_missing(error)) {
                            flight.window.unsent(tag);
                        }
                        return end;
                    }
                    Err(error) => {
                        flight.alone = Some(job.message).filter(|_| flight.lane == Lane::Alone);
                        return End::Failed(error);
                    }
                }
            }
            _ = look.tick() => {
                let is_blocked = session.status.borrow().blocked;
                let unblocked = *session.unblocked.lock().unwrap_or_else(PoisonError::into_inner);
                if !is_blocked && flight.window.is_overdue(unblocked) {
                    return End::Overdue;
                }
                // A closed channel without anything in flight is noticed here.
                if flight.window.is_empty() && !channel.status().connected() {
                    return End::Closed;
                }
            }
        }
    }
}

/// Returns when the frames are written; the inner future is the confirm.
async fn write(
    channel: &Channel,
    message: &Message,
) -> Result<impl Future<Output = Result<Confirmation, lapin::Error>> + use<>, lapin::Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (name(message.exchange.as_str()), name(message.routing_key.as_str()));
    channel.basic_publish(exchange, key, options, &message.body, to_properties(&message.properties)).await
}

fn identity(message: &Message) -> Identity {
    let id = message.properties.message_id.clone().unwrap_or_default();
    (id, message.exchange.to_string(), message.routing_key.to_string())
}

fn returned_identity(returned: &BasicReturnMessage) -> Identity {
    let delivery = &returned.delivery;
    let id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
    (id, delivery.exchange.as_str().to_owned(), delivery.routing_key.as_str().to_owned())
}
