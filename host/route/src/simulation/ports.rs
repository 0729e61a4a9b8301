//! The ports of the model's daemon: deliveries, the clock, and a journal of the executor's reports.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::broker::number;
use crate::core::Ticket;
use crate::executor::{Ports, RouteReport};
use crate::inbound::{ExecutorTime, IncomingDelivery, Item};
use trunkline_broker::NothingPublished;
use trunkline_event::Message;
use trunkline_telemetry::OrderLost;

/// The queue that a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelQueue {
    /// The route's queue.
    Source,
    /// The queue of the waiting list.
    List,
}

/// A delivery of the model's broker.
#[derive(Debug, Clone)]
pub(super) struct ModelDelivery {
    pub(super) queue: ModelQueue,
    /// Session in which the broker handed the message out.
    pub(super) session: u64,
    pub(super) tag: u64,
    pub(super) message: Arc<Message>,
    /// Deliveries before this one.
    pub(super) deliveries: u32,
}

impl IncomingDelivery for ModelDelivery {
    fn message(&self) -> &Arc<Message> {
        &self.message
    }

    fn unreadable(&self) -> Option<&str> {
        None
    }

    fn is_suspect(&self) -> bool {
        self.deliveries >= 2
    }

    fn is_redelivered(&self) -> bool {
        self.deliveries > 0
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

/// A delivery that the executor holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Number of the event in the schedule.
    pub(super) number: usize,
    pub(super) session: u64,
    pub(super) tag: u64,
    /// Id of the event, if the event came with one.
    pub(super) own_id: Option<String>,
    /// Whether the event was looked up, run or copied.
    pub(super) begun: bool,
}

/// Everything that the executor reported.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Time of the schedule.
    pub(super) now: Cell<Duration>,
    pub(super) held: RefCell<BTreeMap<Ticket, Held>>,
    /// Deliveries that were left to the broker, since the model looked last.
    pub(super) left: RefCell<Vec<Held>>,
    /// Events whose order was lost, with the reason, since the model looked last.
    pub(super) order_lost: RefCell<Vec<(OrderLost, String)>>,
    /// Deliveries without a settlement, since the model looked last.
    pub(super) unproven: RefCell<Vec<Ticket>>,
}

/// The surroundings of the model's executor.
pub(super) struct ModelPorts(pub(super) Rc<Journal>);

impl Ports for ModelPorts {
    type Delivery = ModelDelivery;

    fn clock(&self) -> ExecutorTime {
        let since_start = self.0.now.get();
        let unix_ms = i64::try_from(since_start.as_millis()).expect("a schedule takes hours");
        ExecutorTime { since_start, wall: jiff::Timestamp::from_millisecond(unix_ms).expect("a time") }
    }

    fn plugin_digest(&self) -> Arc<str> {
        Arc::from("d")
    }

    fn nothing_published(&self) -> NothingPublished {
        NothingPublished::NoEmissions
    }

    fn report(&mut self, report: RouteReport<'_, ModelDelivery>) {
        let journal = &self.0;
        match report {
            RouteReport::Received(item) => {
                journal.held.borrow_mut().insert(item.ticket, held(item));
            }
            RouteReport::Settled { item, .. } => {
                journal.held.borrow_mut().remove(&item.ticket);
            }
            RouteReport::Left { item, .. } => {
                let held = journal.held.borrow_mut().remove(&item.ticket);
                journal.left.borrow_mut().extend(held);
            }
            RouteReport::Unproven { item, .. } => journal.unproven.borrow_mut().push(item.ticket),
            RouteReport::OrderLost { why, event, .. } => journal.order_lost.borrow_mut().push((why, event.to_owned())),
            RouteReport::Held { .. }
            | RouteReport::Released
            | RouteReport::Circuit(_)
            | RouteReport::NoOrderingKey { .. }
            | RouteReport::RefusedForGood(_)
            | RouteReport::Unconfirmed { .. }
            | RouteReport::EntryNotRewritten(_)
            | RouteReport::MarkerNotSent(_) => {}
        }
    }
}

fn held(item: &Item<ModelDelivery>) -> Held {
    let delivery = item.delivery.as_ref().expect("it has just arrived");
    Held {
        number: number(&item.message),
        session: delivery.session,
        tag: delivery.tag,
        own_id: item.event.as_ref().filter(|event| event.own_id).map(|event| event.id.clone()),
        begun: false,
    }
}
