//! Which publishes of one channel are confirmed, returned or refused: the bookkeeping, without a channel.
//!
//! AMQP returns an unroutable message without its delivery tag, and lapin hands the oldest return it has to whichever
//! confirm it resolves next, in any order within a `multiple` acknowledgement. So no confirm says anything about its
//! own message. Three facts decide instead, once every confirm that lapin has resolved so far was taken in:
//! - A resolved message whose id, exchange and key were returned is unroutable.
//! - Returns come in the order of the tags, each before the confirm of its own message and of every later one. So a
//!   confirm that carries no return proves that no return was waiting, and that no message up to its tag has one that
//!   was not seen.
//! - Each resolved confirm takes one return. So once every tag up to one is resolved, every return among them was taken.
//!
//! A confirm that never comes therefore holds no later message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::publish::unroutable;
use crate::{Confirmed, Passing, Refusal};

/// A confirm that takes longer will not come, unless the broker has blocked the connection.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// What became of a message that was to be published.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// It is with the broker.
    Confirmed(Confirmed),
    /// The broker did not take it.
    Refused(Refusal),
    /// Nobody knows what became of it.
    Lost(String),
    /// It was not written: another channel may take it.
    Unsent,
    /// Some message of the channel was refused, perhaps this one: each is to be published alone.
    Suspect,
}

/// What identifies a message when it is returned: id, exchange, key.
pub type Identity = (String, String, String);

struct Pending {
    identity: Identity,
    accept_unroutable: bool,
    reply: oneshot::Sender<Answer>,
    since: Instant,
    /// The broker's answer: taken or not.
    taken: Option<bool>,
}

/// The messages of a channel without an answer, by their delivery tags.
#[derive(Default)]
pub struct Window {
    pending: BTreeMap<u64, Pending>,
    /// Tags that are resolved and not answered.
    resolved: BTreeSet<u64>,
    returned: HashMap<Identity, usize>,
    /// What the broker would not have, and after what time it said so.
    nacked: Vec<(Identity, Duration)>,
    /// The highest tag whose confirm carried no return.
    proven: u64,
    next: u64,
}

impl Window {
    /// A message is written. Gives its tag.
    pub fn add(&mut self, identity: Identity, accept_unroutable: bool, reply: oneshot::Sender<Answer>) -> u64 {
        self.next += 1;
        self.pending
            .insert(self.next, Pending { identity, accept_unroutable, reply, since: Instant::now(), taken: None });
        self.next
    }

    /// Messages without an answer.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every message has its answer.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A confirm, with the return that lapin handed to it.
    pub fn resolve(&mut self, tag: u64, taken: bool, returned: Option<Identity>) {
        if returned.is_none() {
            self.proven = self.proven.max(tag);
        }
        if let Some(pending) = self.pending.get_mut(&tag) {
            pending.taken = Some(taken);
            self.resolved.insert(tag);
        }
        if let Some(identity) = returned {
            *self.returned.entry(identity).or_default() += 1;
        }
    }

    /// Answers every message that can be judged. To be called when all confirms that are there were resolved.
    pub fn settle(&mut self) {
        // The common case: confirms in order.
        while let Some(first) = self.pending.first_entry() {
            let tag = *first.key();
            if first.get().taken.is_none() {
                break;
            }
            self.answer(tag);
        }
        // Behind a confirm that is missing.
        for tag in std::mem::take(&mut self.resolved) {
            let is_known = |pending: &Pending| tag <= self.proven || self.returned.contains_key(&pending.identity);
            if self.pending.get(&tag).is_some_and(is_known) {
                self.answer(tag);
            } else {
                self.resolved.insert(tag);
            }
        }
    }

    fn answer(&mut self, tag: u64) {
        self.resolved.remove(&tag);
        let Some(Pending { identity, accept_unroutable, reply, taken, since }) = self.pending.remove(&tag) else {
            return;
        };
        let was_returned = self.take_return(&identity);
        let answer = match (was_returned, taken) {
            (true, _) => unroutable(&identity.1, &identity.2, accept_unroutable),
            (false, Some(true)) => Answer::Confirmed(Confirmed::Routed),
            (false, Some(false) | None) => {
                self.nacked.push((identity, since.elapsed()));
                Answer::Refused(Passing::Full.into())
            }
        };
        let _nobody_waits = reply.send(answer);
    }

    /// Takes what the broker would not have, each with the time until it said so.
    pub(super) fn take_nacked(&mut self) -> Vec<(Identity, Duration)> {
        std::mem::take(&mut self.nacked)
    }

    /// Messages whose confirms should be there by far.
    pub(super) fn late(&self) -> impl Iterator<Item = &Identity> {
        let late = |pending: &&Pending| pending.taken.is_none() && pending.since.elapsed() > CONFIRM_WITHIN / 2;
        self.pending.values().filter(late).map(|pending| &pending.identity)
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

    /// Whether some confirm should have come. The time of an alarm does not count.
    pub(super) fn is_overdue(&self, unblocked: Option<Instant>) -> bool {
        let first = self.pending.values().find(|pending| pending.taken.is_none());
        let since = first.map(|first| unblocked.map_or(first.since, |unblocked| unblocked.max(first.since)));
        since.is_some_and(|since| since.elapsed() > CONFIRM_WITHIN)
    }

    /// A message was not written after all.
    pub(super) fn unsent(&mut self, tag: u64) {
        if let Some(pending) = self.pending.remove(&tag) {
            let _nobody_waits = pending.reply.send(Answer::Unsent);
        }
    }

    /// Answers everything that is open: the channel is gone.
    pub fn fail(&mut self, answer: impl Fn() -> Answer) {
        self.resolved.clear();
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _nobody_waits = pending.reply.send(answer());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn name_of(id: u64) -> Identity {
        (id.to_string(), "e".to_owned(), "k".to_owned())
    }

    fn is_unroutable(answer: &Answer) -> bool {
        matches!(answer, Answer::Refused(Refusal::Passing(Passing::Unroutable { .. })))
    }

    /// Returns taken by other confirms than their own, in any order of resolution: exact blame all the same.
    #[test]
    fn blame_does_not_depend_on_which_confirm_carries_a_return() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let mut window = Window::default();
            let count = random.u64(1..40);
            let mut answers = Vec::new();
            let mut waiting = VecDeque::new();
            for id in 1..=count {
                let (reply, answer) = oneshot::channel();
                window.add(name_of(id), false, reply);
                let is_returned = random.u8(..10) == 0;
                if is_returned {
                    waiting.push_back(id);
                }
                answers.push((is_returned, answer));
            }
            // One `multiple` acknowledgement for all, walked in a random order, as lapin does.
            let mut order: Vec<u64> = (1..=count).collect();
            random.shuffle(&mut order);
            for tag in order {
                window.resolve(tag, true, waiting.pop_front().map(name_of));
                if random.bool() {
                    window.settle();
                }
            }
            window.settle();
            for (id, (is_returned, mut answer)) in answers.into_iter().enumerate() {
                let answer = answer.try_recv().expect("everything is answered");
                assert_eq!(is_unroutable(&answer), is_returned, "{id}");
            }
        }
    }

    /// A broker as RabbitMQ is: returns at once and in order, confirms late, in parts and in any order, some of them never.
    #[test]
    fn a_confirm_that_never_comes_holds_no_other_and_blames_nobody() {
        let mut random = fastrand::Rng::with_seed(12);
        let mut early = 0;
        for _ in 0..2000 {
            let mut window = Window::default();
            let count = random.u64(2..40);
            let stuck: BTreeSet<u64> = (1..=count).filter(|_| random.u8(..8) == 0).collect();
            let returned: BTreeSet<u64> = (1..=count).filter(|id| !stuck.contains(id) && random.u8(..4) == 0).collect();
            let mut answers: BTreeMap<u64, oneshot::Receiver<Answer>> = BTreeMap::new();
            for id in 1..=count {
                let (reply, answer) = oneshot::channel();
                window.add(name_of(id), false, reply);
                answers.insert(id, answer);
            }
            let mut waiting: VecDeque<u64> = VecDeque::new();
            let (mut handled, mut unconfirmed) = (0, Vec::new());
            while handled < count || !unconfirmed.is_empty() {
                if handled < count && random.bool() {
                    handled += 1;
                    waiting.extend(returned.contains(&handled).then_some(handled));
                    unconfirmed.extend((!stuck.contains(&handled)).then_some(handled));
                    continue;
                }
                if unconfirmed.is_empty() {
                    continue;
                }
                for _ in 0..random.usize(1..=unconfirmed.len()) {
                    let tag = unconfirmed.swap_remove(random.usize(..unconfirmed.len()));
                    window.resolve(tag, true, waiting.pop_front().map(name_of));
                }
                window.settle();
            }
            for (id, answer) in &mut answers {
                match answer.try_recv() {
                    Ok(answer) => {
                        assert!(!stuck.contains(id), "{id} has no confirm");
                        assert_eq!(is_unroutable(&answer), returned.contains(id), "{id}");
                        early += u32::from(stuck.iter().any(|stuck| stuck < id));
                    }
                    Err(_open) => assert!(!stuck.is_empty(), "{id} is open although every confirm came"),
                }
            }
        }
        assert!(early > 10_000, "hardly any message was answered behind a missing confirm: {early}");
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
        assert_eq!(answer.try_recv(), Ok(Answer::Refused(Passing::Full.into())));
    }
}
