//! The instructions that a message costs the daemon outside of wasmtime and of the sockets: header check, codec, executor, core,
//! emission, confirms, acknowledgements and metrics. The test is also the program that `cargo xtask bench` runs in callgrind.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::broker::{DEAD, OUT, SOURCE};
use super::ports::{ModelDelivery, ModelQueue};
use super::profile::ROUTE;
use crate::core::Ticket;
use crate::executor::{CallResult, Completion, Executor, ExecutorInput, Ports, RouteReport, WorkRequest};
use crate::inbound::ExecutorTime;
use crate::outbound::emit;
use crate::profile::Profile;
use trunkline_broker::amqp::parts::{
    self, AckBatch, Confirm, ConfirmWindow, PendingPublish, PublishOutcome, SingleFrames,
};
use trunkline_broker::{Batch, NothingPublished};
use trunkline_config::{Codec, DeadLetter, Emit, Handler, Retry, RetryStep, Route, Unroutable};
use trunkline_event::{
    Emission, Event, ExchangeName, HeaderKey, Message, PluginName, Properties, QueueName, RoutingKey,
};
use trunkline_telemetry::{RouteMetrics, Settled};

/// The messages of the test. A program that counts instructions sets another number.
const MESSAGES: usize = 1_000;
const MESSAGES_VARIABLE: &str = "TRUNKLINE_TEST_MESSAGES";
/// The codec that a program measures alone.
const CODEC_VARIABLE: &str = "TRUNKLINE_TEST_CODEC";
/// Deliveries that arrive together.
const TURN: usize = 64;
const BODY_BYTES: usize = 1024;

/// The ports of a route with its real metrics.
struct CountedPorts {
    metrics: RouteMetrics,
    settled: Rc<Cell<usize>>,
}

impl Ports for CountedPorts {
    type Delivery = ModelDelivery;

    fn clock(&self) -> ExecutorTime {
        ExecutorTime { since_start: Duration::from_secs(1), wall: jiff::Timestamp::UNIX_EPOCH }
    }

    fn plugin_digest(&self) -> Arc<str> {
        Arc::from("d")
    }

    fn nothing_published(&self) -> NothingPublished {
        NothingPublished::NoEmissions
    }

    fn report(&mut self, report: RouteReport<'_, ModelDelivery>) {
        match report {
            RouteReport::Received(item) => self.metrics.received(item.message.body.len(), None),
            RouteReport::Settled { took, .. } => {
                self.metrics.settled(Settled::Ack, took);
                self.settled.set(self.settled.get() + 1);
            }
            RouteReport::Unproven { .. }
            | RouteReport::Left { .. }
            | RouteReport::Held { .. }
            | RouteReport::Released
            | RouteReport::Circuit(_)
            | RouteReport::OrderLost { .. }
            | RouteReport::NoOrderingKey { .. }
            | RouteReport::RefusedForGood(_)
            | RouteReport::Unconfirmed { .. }
            | RouteReport::EntryNotRewritten(_)
            | RouteReport::MarkerNotSent(_) => panic!("a run without faults reports no fault"),
        }
    }
}

/// A route whose plugin gives back its event, with everything that follows in the daemon.
struct CountedRoute {
    codec: Codec,
    emit: Emit,
    key: HeaderKey,
    executor: Executor<CountedPorts>,
    window: ConfirmWindow,
    acknowledged: AckBatch,
    settled: Rc<Cell<usize>>,
    /// Publishes without their confirms.
    published: Vec<(Ticket, Batch, Vec<oneshot::Receiver<PublishOutcome>>)>,
}

fn profile(codec: Codec, emit: Emit, key: HeaderKey) -> Profile {
    let step = RetryStep { delay: Duration::from_secs(1), spread: Duration::ZERO };
    let settings = Route {
        queue: QueueName::new(SOURCE).expect("a name"),
        handler: Handler::Plugin(PluginName::new("p").expect("a name")),
        schema: None,
        emit,
        retry: Retry { max: 1, steps: vec![step] },
        dead_letter: DeadLetter {
            exchange: ExchangeName::default_exchange(),
            key: RoutingKey::new(DEAD).expect("a key"),
        },
        concurrency: 16,
        hops_max: 16,
        body_max_bytes: 1 << 20,
        dedupe: None,
        order_by: None,
        waiting: None,
        rate: None,
        tenant: None,
        circuit: None,
        canary: None,
        shadow: None,
    };
    let runs = Arc::from(settings.runs());
    Profile { name: ROUTE.clone(), settings, runs, prefetch: 200, codec_in: codec, is_atomic: false, key: Some(key) }
}

impl CountedRoute {
    fn new(codec: Codec) -> Self {
        let emit = Emit {
            exchange: ExchangeName::new(OUT).expect("a name"),
            key: "{type}".to_owned(),
            types: None,
            unroutable: Unroutable::Accept,
            reply: false,
        };
        let key = HeaderKey::new(&[7; 32]);
        let settled = Rc::new(Cell::new(0));
        let ports = CountedPorts { metrics: RouteMetrics::new(&ROUTE, "p", OUT, 16), settled: settled.clone() };
        let profile = Arc::new(profile(codec, emit.clone(), key.clone()));
        let mut executor = Executor::new(profile, ports, fastrand::Rng::with_seed(1));
        let started =
            [ExecutorInput::Broker { session: Some(1), blocked: false }, ExecutorInput::Subscribed { session: 1 }];
        assert_eq!(executor.step(started).count(), 0);
        let (window, acknowledged) = (ConfirmWindow::default(), AckBatch::default());
        Self { codec, emit, key, executor, window, acknowledged, settled, published: Vec::new() }
    }

    /// Takes deliveries in until the route wants no further ones, and then the confirms of everything that was published. Gives
    /// the number of deliveries that were taken in.
    fn turn(&mut self, first: usize, count: usize) -> usize {
        let mut taken = 0;
        while taken < count && self.executor.wants() {
            let tag = u64::try_from(first + taken + 1).expect("few");
            let mut message = message(self.codec, first + taken);
            self.key.admit(&mut message);
            let (queue, session) = (ModelQueue::Source, 1);
            let delivery = ModelDelivery { queue, session, tag, message: Arc::new(message), deliveries: 0 };
            self.step([ExecutorInput::Arrived(delivery)]);
            taken += 1;
        }
        assert!(taken > 0, "an idle route wants deliveries");
        let last = self.window.len();
        for tag in first + 1..=first + last {
            self.window.resolve(u64::try_from(tag).expect("few"), Confirm::Ack, None);
        }
        self.window.settle();
        for (ticket, mut batch, answers) in std::mem::take(&mut self.published) {
            for (index, mut answer) in answers.into_iter().enumerate() {
                let Ok(PublishOutcome::Confirmed(confirmed)) = answer.try_recv() else { panic!("no confirm") };
                parts::confirm(&mut batch, index, confirmed);
            }
            let receipt = parts::receipt(batch).expect("every message is confirmed");
            self.step([ExecutorInput::Completed(ticket, Completion::Published(Ok(receipt)))]);
        }
        drop(self.acknowledged.frames(SingleFrames::Late));
        taken
    }

    fn step(&mut self, inputs: impl IntoIterator<Item = ExecutorInput<ModelDelivery>>) {
        let requests: Vec<_> = self.executor.step(inputs).collect();
        for request in requests {
            match request {
                WorkRequest::Invoke { ticket, event, .. } => {
                    let called = Completion::Invoked(self.called(&event));
                    self.step([ExecutorInput::Completed(ticket, called)]);
                }
                WorkRequest::Publish(ticket, batch) => self.publish(ticket, batch),
                WorkRequest::Settle(delivery, _settlement) => self.acknowledged.add(delivery.tag),
                WorkRequest::LookUp(..)
                | WorkRequest::Commit { .. }
                | WorkRequest::WriteRecord(..)
                | WorkRequest::Entry(_) => panic!("a plain route makes no such request"),
            }
        }
    }

    fn publish(&mut self, ticket: Ticket, batch: Batch) {
        let mut answers = Vec::new();
        for (_, publication) in batch.rest() {
            let (reply, answer) = oneshot::channel();
            let (message, accept_unroutable) = (publication.message.clone(), publication.accept_unroutable);
            self.window.add(PendingPublish { message, accept_unroutable, reply });
            answers.push(answer);
        }
        self.published.push((ticket, batch, answers));
    }

    /// The result of a plugin that gives back its event.
    fn called(&self, event: &Event) -> CallResult {
        let context = emit::EmitContext {
            route: &ROUTE,
            emit: &self.emit,
            allow: None,
            codec: self.codec,
            reply_codec: self.codec,
            plugin: "p",
            digest: "d",
            now: "2026-01-01T00:00:00Z",
            now_seconds: 1,
            key: Some(&self.key),
        };
        let emission = Emission {
            kind: "echoed".to_owned(),
            content_type: Some(event.content_type.clone()),
            data: event.data.clone(),
            ..Emission::default()
        };
        let result = emit::publications(&context, event, &[emission]);
        CallResult { result, log: String::new(), plugin: Arc::from("p"), digest: Arc::from("d") }
    }
}

/// A message of another program, with JSON of one KiB.
fn message(codec: Codec, number: usize) -> Message {
    let pad = "x".repeat(BODY_BYTES - 64);
    let data = format!(r#"{{"id":{number:>12},"customer":{{"n":42}},"pad":"{pad}"}}"#);
    let id = format!("0190a5d2-0f6e-7b0e-9a55-{number:012}");
    let (body, content_type) = match codec {
        Codec::Raw => (data, "application/json"),
        Codec::Cloudevents => {
            let body = format!(
                r#"{{"specversion":"1.0","id":"{id}","type":"order.created","source":"shop","datacontenttype":"application/json","data":{data}}}"#
            );
            (body, "application/cloudevents+json")
        }
        Codec::Ocelot => {
            let body = format!(
                r#"{{"id":"{id}","type":"order.created","source":"shop","timestamp":"2026-01-01T00:00:00Z","organizationId":"org-1","data":{data}}}"#
            );
            (body, "application/json")
        }
    };
    let properties = Properties {
        message_id: Some(id),
        content_type: Some(content_type.to_owned()),
        timestamp: Some(1_767_225_600),
        ..Properties::default()
    };
    Message {
        exchange: ExchangeName::new("orders").expect("a name"),
        routing_key: RoutingKey::new("order.created").expect("a key"),
        properties,
        body: body.into(),
    }
}

/// A run without faults settles every message. callgrind counts the instructions of two runs with different numbers of messages.
#[test]
fn every_message_of_a_plain_route_is_settled() {
    let messages = std::env::var(MESSAGES_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(MESSAGES);
    let only = std::env::var(CODEC_VARIABLE).ok();
    // A second test of the same process has a recorder already.
    let _recorder = trunkline_telemetry::install();
    for (name, codec) in [("raw", Codec::Raw), ("cloudevents", Codec::Cloudevents), ("ocelot", Codec::Ocelot)] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let (mut route, mut taken) = (CountedRoute::new(codec), 0);
        while taken < messages {
            taken += route.turn(taken, TURN.min(messages - taken));
        }
        assert_eq!((route.executor.held(), route.settled.get()), (0, messages), "{name}");
    }
}
