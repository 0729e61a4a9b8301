//! How the daemon of the model publishes: through the window of confirms, or in one transaction.

use tokio::sync::oneshot;

use super::broker::{DEAD, OUT, Taken};
use super::daemon::{Item, QUEUE, Waiting, retry};
use super::world::{Due, World};
use crate::broker::amqp::parts::Answer;
use crate::broker::{Passing, Publication, Refusal};
use crate::config::DeadLetter;
use crate::event::{ExchangeName, RoutingKey, millis};
use crate::route::copies::Seen;
use crate::route::core::{Incomplete, Input, Plan, Ticket};
use crate::route::plan::{Moment, Places, Source, messages};

impl World {
    fn planned(&self, item: &Item, plan: &Plan) -> Vec<Publication> {
        let attempt = item.event.attempt;
        let id = item.event.id.clone();
        let seen = Seen {
            id,
            attempt,
            now: "T".into(),
            route: "r".into(),
            plugin: "p".into(),
            digest: "d".into(),
            log: String::new(),
            own_id: true,
            key: None,
        };
        let key = RoutingKey::new(DEAD).expect("a key");
        let places = Places {
            source: &QUEUE,
            retry: &retry(self.scenario.ordered, self.scenario.atomic),
            dead_letter: &DeadLetter { exchange: ExchangeName::default_exchange(), key },
            is_ordered: self.scenario.ordered,
        };
        let source = Source { message: &item.message, seen: &seen, emissions: &item.emissions };
        messages(plan, source, places, Moment { now_ms: millis(self.now), luck: 0.0 })
    }

    pub(super) fn publish(&mut self, ticket: Ticket, plan: &Plan) {
        let Some(item) = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket)) else { return };
        let publications = self.planned(item, plan);
        if publications.is_empty() {
            return self.feed(Input::Published(ticket, Ok(())));
        }
        if let Some(item) = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket)) {
            item.open = Some(publications.into());
        }
        self.publish_rest(ticket);
    }

    pub(super) fn publish_rest(&mut self, ticket: Ticket) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(batch) = daemon.items.get_mut(&ticket).and_then(|item| item.open.take()) else { return };
        let mut waiting = Waiting { ticket, batch, answers: Vec::new(), refused: Vec::new(), lost: false };
        for (index, publication) in waiting.batch.rest() {
            let (reply, answer) = oneshot::channel();
            waiting.answers.push((index, answer));
            if self.session.is_none() {
                drop(reply.send(Answer::Lost("no session".to_owned())));
                continue;
            }
            let message = &publication.message;
            let id = message.properties.message_id.clone().unwrap_or_default();
            let identity = (id, message.exchange.to_string(), message.routing_key.to_string());
            let tag = daemon.window.add(identity, publication.accept_unroutable, reply);
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
        if self.broker.take(self.now).is_some() {
            self.await_release();
            self.soon(15, Due::Confirm);
            if !self.broker.inbound.is_empty() {
                self.soon(3, Due::Take);
            }
        }
    }

    pub(super) fn confirm(&mut self) {
        let frame = self.broker.confirm(&mut self.random);
        let Some(daemon) = &mut self.daemon else { return };
        for (tag, taken, returned) in frame {
            daemon.window.resolve(tag, taken, returned);
        }
        daemon.window.settle();
        if self.broker.has_unconfirmed() {
            self.soon(10, Due::Confirm);
        }
        self.collect_answers();
    }

    /// Publishes that are completely answered.
    pub(super) fn collect_answers(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let (mut complete, mut still) = (Vec::new(), Vec::new());
        for mut waiting in std::mem::take(&mut daemon.waiting) {
            let mut open = Vec::new();
            for (index, mut answer) in waiting.answers {
                match answer.try_recv() {
                    Ok(Answer::Confirmed(confirmed)) => waiting.batch.confirm(index, confirmed),
                    Ok(Answer::Refused(refusal)) => waiting.refused.push(refusal),
                    Ok(Answer::Lost(_) | Answer::Unsent | Answer::Suspect)
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
        for Waiting { ticket, batch, refused, lost, .. } in complete {
            let result = incomplete(refused, lost).map_or(Ok(()), Err);
            let item = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket));
            if let Some(item) = item.filter(|_| result.is_err()) {
                item.open = Some(batch);
            }
            self.feed(Input::Published(ticket, result));
        }
    }

    /// The transaction of the embedded broker: all of it, or nothing.
    pub(super) fn committed(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let Some(item) = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket)) else { return };
        let Some((plan, marks)) = item.committing.clone() else { return };
        let publications = self.planned(item, &plan);
        let (id, tag) = (item.event.id.clone(), item.tag);
        let refusal = |publication: &Publication| {
            let key = publication.message.routing_key.as_str();
            let is_nowhere = key == super::plugin::NOBODY && !publication.accept_unroutable;
            let nowhere = || Passing::Unroutable { exchange: OUT.to_owned(), key: key.to_owned() };
            is_nowhere.then(nowhere).or(self.broker.full.then_some(Passing::Full)).map(Refusal::from)
        };
        let refused: Vec<Refusal> = publications.iter().filter_map(refusal).collect();
        if let Some(incomplete) = incomplete(refused, false) {
            return self.feed(Input::Published(ticket, Err(incomplete)));
        }
        if let Err(problem) = self.broker.acknowledge(tag, false) {
            self.violations.push(problem);
        }
        for publication in publications {
            let _fate: Taken = self.broker.store(publication, self.now);
        }
        if marks {
            self.marks.insert(id, 1);
        }
        self.await_release();
        self.feed(Input::Published(ticket, Ok(())));
    }
}

/// What the core is told of a publish; nothing when all of it is confirmed.
fn incomplete(refused: Vec<Refusal>, lost: bool) -> Option<Incomplete> {
    let mut passing = Vec::new();
    for refusal in refused {
        match refusal {
            Refusal::Permanent(permanent) => return Some(Incomplete::Permanent(permanent)),
            Refusal::Passing(refusal) => passing.push(refusal),
        }
    }
    match (lost, passing.is_empty()) {
        (true, _) => Some(Incomplete::Lost("lost".to_owned())),
        (false, true) => None,
        (false, false) => Some(Incomplete::Passing(passing)),
    }
}
