//! One publish channel and its confirms.
//!
//! AMQP returns an unroutable message without its delivery tag, and lapin hands the oldest return it has to whichever
//! confirm it resolves next, in any order within a `multiple` acknowledgement. So no confirm says anything about its
//! own message. The rule here: returns are collected by message id, exchange and key, and a message is answered only
//! when every confirm up to the highest one seen is resolved. That is enough: returns come in the order of the tags,
//! each before the confirm of its message, and each resolved confirm takes one (`ReturnedMessages::get_waiting_message`
//! pops the front), so once m confirms in a row from the first are resolved, every return among them has been taken.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::convert::{name, to_properties};
use super::publish::unroutable;
use super::session::{Session, let_go};
use crate::broker::bug::Bug;
use crate::broker::{Fate, Refusal};
use crate::event::{ExchangeName, Message};

/// Messages without an answer; lapin walks all of them for each `multiple` confirm.
const IN_FLIGHT_MAX: usize = 1000;
/// A confirm that takes longer will not come, unless the broker has blocked us. Then nothing is known, and the session
/// is given up.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(1);

/// A message to publish.
pub(super) struct Job {
    pub(super) message: Message,
    pub(super) accept_unroutable: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Confirmed(Fate),
    Refused(Refusal),
    /// Nobody knows.
    Lost(String),
    /// The channel was closed before it was written: another one may take it.
    Unsent,
}

/// What identifies a message when it is returned: id, exchange, key.
pub(crate) type Identity = (String, String, String);

struct Pending {
    identity: Identity,
    accept_unroutable: bool,
    reply: oneshot::Sender<Answer>,
    since: Instant,
    /// The broker's word: taken or not.
    taken: Option<bool>,
}

/// The bookkeeping, without a channel.
#[derive(Default)]
pub(crate) struct Window {
    pending: BTreeMap<u64, Pending>,
    returned: HashMap<Identity, usize>,
    next: u64,
}

impl Window {
    pub(crate) fn add(&mut self, identity: Identity, accept_unroutable: bool, reply: oneshot::Sender<Answer>) -> u64 {
        self.next += 1;
        self.pending
            .insert(self.next, Pending { identity, accept_unroutable, reply, since: Instant::now(), taken: None });
        self.next
    }

    pub(crate) fn resolve(&mut self, tag: u64, taken: bool, returned: Option<Identity>) {
        let returned = self.blamed(tag, returned);
        if let Some(pending) = self.pending.get_mut(&tag) {
            pending.taken = Some(taken);
        }
        if let Some(identity) = returned {
            *self.returned.entry(identity).or_default() += 1;
        }
    }

    /// Whom a return is about, which is never decided by the confirm that carries it.
    fn blamed(&self, tag: u64, returned: Option<Identity>) -> Option<Identity> {
        if Bug::ReturnIgnored.is_planted() {
            return None;
        }
        if Bug::ReturnBlamedOnNext.is_planted() {
            return returned.and(self.pending.get(&tag).map(|pending| pending.identity.clone()));
        }
        returned
    }

    /// Answers the resolved ones that come before every unresolved one.
    pub(crate) fn settle(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            let Some(taken) = first.get().taken else {
                return;
            };
            let Pending { identity, accept_unroutable, reply, .. } = first.remove();
            let was_returned = self.take_return(&identity);
            let answer = match (was_returned, taken) {
                (true, _) => unroutable(&identity.1, &identity.2, accept_unroutable),
                (false, true) => Answer::Confirmed(Fate::Routed),
                (false, false) => Answer::Refused(Refusal::Nacked),
            };
            let _nobody_waits = reply.send(answer);
        }
    }

    fn take_return(&mut self, identity: &Identity) -> bool {
        let Some(count) = self.returned.get_mut(identity) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.returned.remove(identity);
        }
        true
    }

    /// Whether the first confirm should have come. The time of an alarm does not count.
    fn is_overdue(&self, unblocked: Option<Instant>) -> bool {
        let first = self.pending.values().next();
        let since = first.map(|first| unblocked.map_or(first.since, |unblocked| unblocked.max(first.since)));
        since.is_some_and(|since| since.elapsed() > CONFIRM_WITHIN)
    }

    fn unsent(&mut self, tag: u64) {
        if let Some(pending) = self.pending.remove(&tag) {
            let _nobody_waits = pending.reply.send(Answer::Unsent);
        }
    }

    pub(crate) fn fail(&mut self, answer: impl Fn() -> Answer) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _nobody_waits = pending.reply.send(answer());
        }
    }
}

/// Runs until the channel or the session ends; the next publish to the exchange opens another channel.
pub(super) async fn run(session: Arc<Session>, exchange: ExchangeName, mut jobs: mpsc::Receiver<Job>) {
    let mut window = Window::default();
    let ended = tokio::select! {
        ended = collect(&session, &exchange, &mut window, &mut jobs) => ended,
        () = session.over.cancelled() => Err(None),
    };
    let is_missing = says_missing(&ended);
    if is_missing {
        session.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(exchange.clone());
    }
    let answer = || match &ended {
        _ if is_missing => Answer::Refused(Refusal::NoExchange(exchange.to_string())),
        Err(Some(error)) => Answer::Lost(error.to_string()),
        Err(None) | Ok(()) => Answer::Lost("the session ended".to_owned()),
    };
    window.fail(answer);
    jobs.close();
    while let Some(job) = jobs.recv().await {
        // What waited behind a message for a missing exchange need not find that out for itself.
        let _nobody_waits = job.reply.send(if is_missing { answer() } else { Answer::Unsent });
    }
}

async fn collect(
    session: &Session,
    exchange: &ExchangeName,
    window: &mut Window,
    jobs: &mut mpsc::Receiver<Job>,
) -> Result<(), Option<lapin::Error>> {
    let channel = session.publish.create_channel().await?;
    let ready = async {
        look_for(session, &channel, exchange).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await
    };
    let ended = match ready.await {
        Ok(()) => pump(session, &channel, window, jobs).await,
        Err(error) => Err(Some(error)),
    };
    let_go(channel).await;
    ended
}

/// Asks for an exchange that was missing before anything is published to it again. The answer closes the channel as
/// well, but nothing is on its way then: a message that is written while its channel is being closed may come after the
/// client's close-ok, and the broker ends the whole connection for a frame on a channel that is not open.
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

async fn pump(
    session: &Session,
    channel: &Channel,
    window: &mut Window,
    jobs: &mut mpsc::Receiver<Job>,
) -> Result<(), Option<lapin::Error>> {
    let mut confirms = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            Some((tag, confirmed)) = confirms.next(), if !confirms.is_empty() => {
                resolve(window, tag, confirmed)?;
                while let Some(Some((tag, confirmed))) = confirms.next().now_or_never() {
                    resolve(window, tag, confirmed)?;
                }
                window.settle();
            }
            job = jobs.recv(), if window.pending.len() < IN_FLIGHT_MAX => {
                let Some(job) = job else {
                    return Ok(());
                };
                let identity = identity(&job.message);
                let tag = window.add(identity, job.accept_unroutable, job.reply);
                match write(channel, &job.message).await {
                    Ok(confirm) => confirms.push(async move { (tag, confirm.await) }),
                    Err(error) => {
                        // The channel is closing: nothing was written, and the confirms before it tell why.
                        if !matches!(error.kind(), ErrorKind::InvalidChannelState(..)) {
                            return Err(Some(error));
                        }
                        let mut ended = Err(Some(error));
                        while let Some((tag, confirmed)) = confirms.next().await {
                            if let Err(why) = resolve(window, tag, confirmed) {
                                ended = Err(why);
                                break;
                            }
                            window.settle();
                        }
                        if !says_missing(&ended) {
                            window.unsent(tag);
                        }
                        return ended;
                    }
                }
            }
            _ = look.tick() => {
                let is_blocked = session.status.borrow().blocked;
                let unblocked = *session.unblocked.lock().unwrap_or_else(PoisonError::into_inner);
                if !is_blocked && window.is_overdue(unblocked) {
                    session.over.cancel();
                }
                // A closed channel without anything in flight is noticed here.
                if window.pending.is_empty() && !channel.status().connected() {
                    return Err(None);
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

fn resolve(
    window: &mut Window,
    tag: u64,
    confirmed: Result<Confirmation, lapin::Error>,
) -> Result<(), Option<lapin::Error>> {
    match confirmed? {
        Confirmation::Ack(returned) => window.resolve(tag, true, returned.as_ref().map(returned_identity)),
        Confirmation::Nack(returned) => window.resolve(tag, false, returned.as_ref().map(returned_identity)),
        // Confirms are switched on; without them nothing would be known.
        Confirmation::NotRequested => return Err(None),
    }
    Ok(())
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

/// Whether a channel ended because its exchange is not there.
fn says_missing(ended: &Result<(), Option<lapin::Error>>) -> bool {
    let Err(Some(error)) = ended else { return false };
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(id: u32) -> Identity {
        (id.to_string(), "e".to_owned(), "k".to_owned())
    }

    /// Returns taken by other confirms than their own, in any order of resolution: exact blame all the same.
    #[test]
    fn blame_does_not_depend_on_which_confirm_carries_a_return() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let mut window = Window::default();
            let count = random.u32(1..40);
            let mut answers = Vec::new();
            let mut waiting = std::collections::VecDeque::new();
            for id in 1..=count {
                let (reply, answer) = oneshot::channel();
                window.add(name_of(id), false, reply);
                let is_unroutable = random.u8(..10) == 0;
                if is_unroutable {
                    waiting.push_back(id);
                }
                answers.push((is_unroutable, answer));
            }
            // One `multiple` acknowledgement for all, walked in a random order, as lapin does.
            let mut order: Vec<u32> = (1..=count).collect();
            random.shuffle(&mut order);
            for tag in order {
                window.resolve(u64::from(tag), true, waiting.pop_front().map(name_of));
                if random.bool() {
                    window.settle();
                }
            }
            window.settle();
            for (id, (is_unroutable, mut answer)) in answers.into_iter().enumerate() {
                let answer = answer.try_recv().expect("everything is answered");
                assert_eq!(matches!(answer, Answer::Refused(Refusal::Unroutable { .. })), is_unroutable, "{id}");
            }
        }
    }

    /// What waited for the end of an alarm gets its whole time from then on.
    #[test]
    fn an_alarm_makes_nothing_overdue() {
        let mut window = Window::default();
        let (reply, _answer) = oneshot::channel();
        let tag = window.add(name_of(1), false, reply);
        let now = Instant::now();
        let long_ago = now.checked_sub(CONFIRM_WITHIN * 2).expect("a machine that is up for a minute");
        assert!(!window.is_overdue(None) && !window.is_overdue(Some(long_ago)));
        window.pending.get_mut(&tag).expect("it waits").since = long_ago;
        assert!(window.is_overdue(None) && window.is_overdue(Some(long_ago)));
        assert!(!window.is_overdue(Some(now)));
    }

    #[test]
    fn a_nack_is_a_refusal() {
        let mut window = Window::default();
        let (reply, mut answer) = oneshot::channel();
        let tag = window.add(name_of(1), true, reply);
        window.resolve(tag, false, None);
        window.settle();
        assert_eq!(answer.try_recv(), Ok(Answer::Refused(Refusal::Nacked)));
    }
}
