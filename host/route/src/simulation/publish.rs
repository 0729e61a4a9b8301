//! How the daemon of the model publishes: through the window of confirms, or in one transaction.

use tokio::sync::oneshot;

use super::broker::{DEAD, OUT, Taken, identity, refused_for_good};
use super::daemon::{Item, LISTED, QUEUE, ROUND, Waiting, retry};
use super::faulty::Faulty;
use super::world::{Due, World};
use crate::copies::Seen;
use crate::core::{Incomplete, Input, Plan, Ticket};
use crate::plan::{Moment, Places, Source, messages};
use trunkline_broker::amqp::parts::{self, Answer, CONFIRM_WITHIN, Window};
use trunkline_broker::{Batch, Confirmed, Passing, Publication, Refusal};
use trunkline_config::DeadLetter;
use trunkline_event::{ExchangeName, RoutingKey, millis};

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
            own_id: item.event.own_id,
            key: None,
        };
        let key = RoutingKey::new(DEAD).expect("a key");
        let places = Places {
            source: &QUEUE,
            retry: &retry(self.scenario.ordered, self.scenario.atomic),
            dead_letter: &DeadLetter { exchange: ExchangeName::default_exchange(), key },
            waiting: Some(&*LISTED).filter(|_| self.scenario.ordered),
        };
        let entry = item.waiter.as_ref().zip(item.place);
        let source = Source { message: &item.message, seen: &seen, emissions: &item.emissions, entry };
        let mut planned = messages(plan, source, places, Moment { now_ms: millis(self.now), luck: 0.0 });
        if Faulty::CopiesRoute.is_planted()
            && let Some(keys) = item.message.properties.headers.get("CC")
        {
            let copies = planned.iter_mut().filter(|publication| publication.message.exchange.as_str() != OUT);
            copies.for_each(|copy| copy.message_mut().properties.headers.set("CC", keys.clone()));
        }
        planned
    }

    /// Gives an event that begins to wait its place on the list.
    fn enter(&mut self, ticket: Ticket, plan: &Plan) {
        let Some(daemon) = &mut self.daemon else { return };
        let now = daemon.session;
        let Some(item) = daemon.items.get_mut(&ticket).filter(|item| Some(item.session) == now) else { return };
        item.place = match (&item.waiter, item.place) {
            (Some(waiter), None) if plan.waits() => daemon.list.place(waiter, ROUND),
            (_, place) => place.filter(|_| plan.waits()),
        };
    }

    /// Everything that was published is confirmed, with the event's entry if it had one.
    fn entered(&mut self, ticket: Ticket) {
        let Some(daemon) = &mut self.daemon else { return };
        let now = daemon.session;
        let Some(item) = daemon.items.get_mut(&ticket) else { return };
        if item.place.take().is_some()
            && let Some(waiter) = item.waiter.as_ref().filter(|_| Some(item.session) == now)
        {
            daemon.list.confirmed(waiter);
        }
    }

    pub(super) fn publish(&mut self, ticket: Ticket, plan: &Plan) {
        self.enter(ticket, plan);
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
        let whole = batch.rest().map(|(_, publication)| publication.clone()).collect();
        let mut waiting = Waiting { ticket, batch, whole, answers: Vec::new(), refused: Vec::new(), lost: false };
        for (index, publication) in waiting.batch.rest() {
            let (reply, answer) = oneshot::channel();
            waiting.answers.push((index, answer));
            if self.session.is_none() {
                drop(reply.send(Answer::Lost("no session".to_owned())));
                continue;
            }
            let tag = daemon.window.add(identity(&publication.message), publication.accept_unroutable, reply);
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
        // The header that routes further may have brought something.
        self.deliver();
    }

    /// The broker closes the channel and does not say for which of the messages on it: each is published alone.
    fn close_for_one(&mut self) {
        self.broker.close();
        self.note_unanswered();
        *self.seen_faults.entry("refused").or_default() += 1;
        let Some(daemon) = &mut self.daemon else { return };
        daemon.window.fail(|| Answer::Suspect);
        daemon.window = Window::default();
        self.collect_answers();
    }

    /// The next of the messages that are published alone.
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
            Taken::Stored => Answer::Confirmed(Confirmed::Routed),
            Taken::Returned if accepts => Answer::Confirmed(Confirmed::Unrouted),
            Taken::Returned => Answer::Refused(Passing::Unroutable { exchange, key }.into()),
            Taken::Refused => Answer::Refused(Passing::Full.into()),
            Taken::Never(permanent) => Answer::Refused(permanent.into()),
        };
        drop(reply.send(answer));
        self.await_release();
        self.entries_soon();
        self.collect_answers();
        self.soon(5, Due::Alone(incarnation));
        self.deliver();
    }

    /// A confirm that did not come in time: its channel is given up.
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
                    Ok(Answer::Confirmed(confirmed)) => parts::confirm(&mut waiting.batch, index, confirmed),
                    Ok(Answer::Refused(refusal)) => waiting.refused.push(refusal),
                    Ok(Answer::Suspect) => {
                        let publication = waiting.batch.rest().find(|(place, _)| *place == index);
                        let (reply, answer) = oneshot::channel();
                        if let Some((_, publication)) = publication {
                            daemon.alone.push_back((reply, publication.clone()));
                        }
                        open.push((index, answer));
                    }
                    Ok(Answer::Lost(_) | Answer::Unsent) | Err(oneshot::error::TryRecvError::Closed) => {
                        waiting.lost = true
                    }
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
        for Waiting { ticket, batch, whole, refused, lost, .. } in complete {
            let mut result = incomplete(refused, lost).map_or(Ok(()), Err);
            let (is_open, is_entered) = (batch.rest().next().is_some(), batch.has_last());
            let open = is_open.then_some(batch);
            assert_eq!(result.is_ok(), open.is_none(), "it is complete when every message is confirmed");
            let item = self.daemon.as_mut().and_then(|daemon| daemon.items.get_mut(&ticket));
            if let (Some(item), Some(open)) = (item, open) {
                item.open = Some(if Faulty::WholeBatchAgain.is_planted() { Batch::from(whole) } else { open });
            }
            if Faulty::ReceiptOfNothing.is_planted() && matches!(result, Err(Incomplete::Passing(_))) {
                result = Ok(());
            }
            let result = self.told_of_publish(ticket, result);
            if is_entered {
                self.entered(ticket);
            }
            self.feed(Input::Published(ticket, result));
        }
    }

    /// What the core is told of a publish.
    fn told_of_publish(&self, ticket: Ticket, result: Result<(), Incomplete>) -> Result<(), Incomplete> {
        let item = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket));
        let is_copy = item.is_some_and(|item| item.copies);
        let is_passing = matches!(result, Err(Incomplete::Passing(_)));
        let is_ignored = Faulty::LostCountsAsConfirmed.is_planted()
            || Faulty::DeadLetterUnconfirmed.is_planted() && is_copy && is_passing;
        result.or_else(|incomplete| if is_ignored { Ok(()) } else { Err(incomplete) })
    }

    /// The transaction of the embedded broker: all of it, or nothing.
    pub(super) fn committed(&mut self, incarnation: u64, ticket: Ticket) {
        if incarnation != self.incarnation {
            return;
        }
        let committing = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket)).map(|item| &item.committing);
        let Some((plan, ended)) = committing.cloned().flatten() else { return };
        self.enter(ticket, &plan);
        let Some(item) = self.daemon.as_ref().and_then(|daemon| daemon.items.get(&ticket)) else { return };
        let publications = self.planned(item, &plan);
        let (id, tag) = (item.event.id.clone(), item.tag);
        let refusal = |publication: &Publication| {
            let key = publication.message.routing_key.as_str();
            let is_nowhere = key == super::plugin::NOBODY && !publication.accept_unroutable;
            let nowhere = || Passing::Unroutable { exchange: OUT.to_owned(), key: key.to_owned() };
            let is_full = self.broker.full || self.broker.half_full && key == super::plugin::MADE[1];
            let passing = is_nowhere.then(nowhere).or(is_full.then_some(Passing::Full)).map(Refusal::from);
            refused_for_good(&publication.message).map(Refusal::from).or(passing)
        };
        let refused: Vec<Refusal> = publications.iter().filter_map(refusal).collect();
        if let Some(incomplete) = incomplete(refused, false) {
            let result = self.told_of_publish(ticket, Err(incomplete));
            return self.feed(Input::Published(ticket, result));
        }
        if let Err(problem) = self.broker.acknowledge(tag, false) {
            self.violations.push(problem);
        }
        let lent = self.daemon.as_mut().and_then(|daemon| {
            let waiter = daemon.items.get(&ticket)?.waiter.as_ref().filter(|_| !plan.waits())?;
            Some(daemon.list.lend(waiter))
        });
        lent.unwrap_or_default().iter().for_each(|tag| drop(self.broker.listed.remove(tag)));
        for publication in publications {
            let _fate: Taken = self.broker.store(publication, self.now);
        }
        if let Some(ended) = ended {
            self.note(id, ended);
        }
        self.entered(ticket);
        self.entries_soon();
        self.await_release();
        self.feed(Input::Published(ticket, Ok(())));
    }
}

/// What the core is told of a publish; nothing when all of it is confirmed.
fn incomplete(refused: Vec<Refusal>, lost: bool) -> Option<Incomplete> {
    let mut passing = Vec::new();
    for refusal in refused {
        match refusal {
            Refusal::Permanent(_) if Faulty::RefusalPasses.is_planted() => passing.push(Passing::Full),
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
