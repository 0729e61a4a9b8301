//! The daemon with the example's routes, a producer, and a consumer of the emissions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use trunkline_broker::Publication;
use trunkline_support::{Daemon, eventually};

use super::{FIRST, SECOND};
use crate::bench::{Bench, binary, message};
use crate::systems::applications::{Beside, VOICE, nothing_differs};
use crate::systems::clients::{Client, Library};

const NAME: &str = "voice-by-kraliki";
const EXCHANGE: &str = "ocelot.events";
/// The key of the events that the application consumes.
const ENDED: &str = "comms.call.ended";
const MARK: &str = "mark";
const DEDUPE: &str = "dedupe = \"24h\"\n";
/// The time from the task to the call back, which is rounded up to the second.
pub const AFTER_MS: i128 = 3000;

/// The routes of each type.
const ROUTES: [(&str, &[&str]); 6] = [
    ("call.started", &["crm-started", "metrics-started"]),
    ("call.ended", &["callback-tasks", "crm-ended", "metrics-ended"]),
    ("call.transcribed", &["crm-transcribed", "transcript-reviews"]),
    ("sentiment.analyzed", &["crm-sentiment", "escalations", "quality-flags", "supervisor-alerts"]),
    ("campaign.completed", &["campaign-optimizer", "campaign-reports", "campaign-sequence"]),
    ("campaign.sequence.defined", &["campaign-sequence-defined"]),
];

enum Witness {
    /// On the embedded broker: the log lines of the daemons that ended, which contain the emissions.
    Logs(Vec<Value>),
    /// On RabbitMQ.
    Clients { producer: Client, consumer: Client },
}

pub struct Stage {
    bench: Bench,
    daemon: Option<Daemon>,
    witness: Witness,
    beside: Option<Beside>,
    drops_repetitions: bool,
    /// The expected number of settled events of each route since the daemon's start.
    expected: BTreeMap<&'static str, u64>,
}

pub fn folder() -> PathBuf {
    xtask::root().join("examples").join(NAME)
}

/// The envelopes of `story`, in order.
pub fn story() -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder().join("story"))
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let read = |file: &PathBuf| serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
    let events: Vec<Value> = files.iter().map(read).collect();
    assert_eq!(events.len(), 13);
    events
}

/// An event of the story for one organisation.
fn of(organization: &str, event: &Value) -> Value {
    let mut event = event.clone();
    event["id"] = json!(format!("{organization}-{}", event["id"].as_str().expect("an id")));
    event["organizationId"] = json!(organization);
    event
}

fn key(event: &Value) -> String {
    format!("comms.{}", event["type"].as_str().expect("a type"))
}

impl Stage {
    /// With `dedupe` the file is used unchanged, else without that line.
    pub async fn embedded(bench: Bench, dedupe: bool) -> Self {
        Self::new(bench, dedupe, None).await
    }

    /// With the libraries of the producer and the consumer.
    pub async fn amqp(bench: Bench, dedupe: bool, clients: (Library, Library)) -> Self {
        Self::new(bench, dedupe, None).await.with_clients(clients).await
    }

    /// The same, beside an application that has declared its queue.
    pub async fn beside(bench: Bench, clients: (Library, Library)) -> Self {
        let beside = Beside::start(NAME, VOICE, Library::AioPika, &bench.broker).await;
        Self::new(bench, true, Some(beside)).await.with_clients(clients).await
    }

    async fn new(bench: Bench, drops_repetitions: bool, beside: Option<Beside>) -> Self {
        let (witness, expected) = (Witness::Logs(Vec::new()), BTreeMap::new());
        let mut stage = Self { bench, daemon: None, witness, beside, drops_repetitions, expected };
        stage.start().await;
        stage
    }

    async fn with_clients(mut self, (producer, consumer): (Library, Library)) -> Self {
        let broker = &self.bench.broker;
        let producer = Client::producer(producer, broker, [EXCHANGE, "topic"]).await;
        let consumer = Client::consumer(consumer, broker, [EXCHANGE, "topic", "#"]).await;
        self.witness = Witness::Clients { producer, consumer };
        self
    }

    async fn start(&mut self) {
        let file = match &self.beside {
            Some(beside) => beside.routes.file.clone(),
            None if self.drops_repetitions => folder().join("routes.toml"),
            None => self.bench.write_routes(&self.text()),
        };
        let environment = [
            ("VOICE_CALLBACK_AFTER", "3s"),
            ("VOICE_CALLBACK_ROUND", "1s"),
            ("VOICE_OPENS", "00:00"),
            ("VOICE_CLOSES", "24:00"),
            ("VOICE_DAYS", "mon-sun"),
        ];
        let started = Daemon::start_with(binary(), &file, &self.bench.state(), &self.bench.broker, &environment).await;
        self.expected.clear();
        let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
        daemon.runs().await;
        self.daemon = Some(daemon);
    }

    /// The file with absolute paths.
    fn text(&self) -> String {
        let text = std::fs::read_to_string(folder().join("routes.toml")).expect("routes.toml");
        let text = text.replace("../../target/plugins", &trunkline_support::plugins().display().to_string());
        let text = text.replace("\"schemas/", &format!("\"{}/schemas/", folder().display()));
        assert!(text.contains(DEDUPE));
        if self.drops_repetitions { text } else { text.replace(DEDUPE, "") }
    }

    /// Whether the routes of the file have schemas.
    pub fn has_schemas() -> bool {
        std::fs::read_to_string(folder().join("routes.toml")).expect("routes.toml").contains("\nschema = ")
    }

    pub fn drops_repetitions(&self) -> bool {
        self.drops_repetitions
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    /// Publishes an event of an organisation and waits until every route has settled it. Without `dedupe`, foreign
    /// clients publish it twice.
    pub async fn publish(&mut self, organization: &str, event: &Value) {
        let event = of(organization, event);
        let mut copies = 1;
        if let Witness::Clients { producer, .. } = &mut self.witness {
            producer.publish(&key(&event), &event).await;
            if !self.drops_repetitions {
                producer.publish(&key(&event), &event).await;
                copies = 2;
            }
        } else {
            let body = json!({
                "type": event["type"], "id": event["id"], "source": event["source"], "time": event["timestamp"],
                "organizationId": event["organizationId"], "userId": event["userId"], "data": event["data"],
                "attributes": event["metadata"], "exchange": EXCHANGE, "routing_key": key(&event),
            });
            let (status, answer) = self.daemon().post("/api/v1/events", &body.to_string());
            assert_eq!(status, 202, "{answer}");
        }
        self.expect(&event, copies, copies);
        self.settled_but(&["reminders"]).await;
    }

    /// Notes the events that routes will have settled: `copies` of an event, and the tasks that follow from it.
    fn expect(&mut self, event: &Value, copies: u64, tasks: u64) {
        let (_, routes) = ROUTES.into_iter().find(|(kind, _)| event["type"] == *kind).expect("a type of the story");
        routes.iter().for_each(|route| *self.expected.entry(route).or_default() += copies);
        if event["data"]["outcome"] == "callback_requested" {
            for route in ["callback-times", "reminders"] {
                *self.expected.entry(route).or_default() += tasks;
            }
        }
    }

    /// Waits until every route has settled the expected events, and no more.
    pub async fn settled(&self) {
        self.settled_but(&[]).await;
    }

    async fn settled_but(&self, later: &[&str]) {
        let wanted = || self.expected.iter().filter(|(route, _)| !later.contains(route));
        eventually("everything is settled", || {
            let settled = settled(self.daemon());
            let of = |route: &str| settled.get(route).copied().unwrap_or_default();
            let done = wanted().all(|(route, count)| of(route) >= *count);
            async move { done.then_some(()) }
        })
        .await;
        let settled = settled(self.daemon());
        let counts: BTreeMap<&str, u64> = wanted().map(|(route, _)| (*route, settled[*route])).collect();
        assert_eq!(counts, wanted().map(|(route, count)| (*route, *count)).collect(), "{}", self.daemon().log());
    }

    /// Stops the daemon, publishes the whole story again as it is on the wire, and starts the daemon.
    pub async fn restart_with(&mut self, plays: &dyn Fn(&str, &Value) -> bool) {
        self.stop().await;
        let organizations = [FIRST, SECOND];
        let steps = story();
        let all = steps.iter().flat_map(|event| organizations.map(|organization| (organization, event)));
        let events: Vec<Value> = all
            .filter(|(organization, event)| plays(organization, event))
            .map(|(name, event)| of(name, event))
            .collect();
        if let Witness::Clients { producer, .. } = &mut self.witness {
            for event in &events {
                producer.publish(&key(event), event).await;
            }
        } else {
            let broker = self.bench.open(&self.text()).await;
            drop(broker.publish(events.iter().map(publication).collect::<Vec<_>>()).await.expect("confirmed"));
            broker.close(trunkline_support::patience()).await;
        }
        self.start().await;
        let tasks = u64::from(!self.drops_repetitions);
        events.iter().for_each(|event| self.expect(event, 1, tasks));
        self.settled().await;
    }

    async fn stop(&mut self) {
        if let Witness::Logs(lines) = &mut self.witness {
            lines.extend(emitted(&self.daemon.as_ref().expect("it runs").log()));
        }
        let daemon = self.daemon.take().expect("it runs");
        assert!(daemon.terminate().await.success());
    }

    pub async fn end(mut self) {
        if self.beside.is_some() {
            self.the_application_has_its_calls().await;
        }
        self.stop().await;
    }

    /// The queue of the application got every event with its key, in order, beside the queues of the daemon.
    async fn the_application_has_its_calls(&mut self) {
        let all = self.on_the_wire().await;
        let Some(beside) = &self.beside else { return };
        let calls: Vec<&Value> = all.iter().filter(|line| line["key"] == ENDED).map(|line| &line["body"]).collect();
        assert!(calls.len() >= 12, "three calls of two organisations, published twice: {calls:?}");
        let received = beside.application.has(calls.len()).await;
        assert_eq!(received.iter().map(|line| &line["body"]).collect::<Vec<_>>(), calls);
        nothing_differs(self.daemon());
    }

    /// All emitted envelopes so far, including repeats.
    pub async fn seen(&mut self) -> Vec<Value> {
        if let Witness::Logs(lines) = &self.witness {
            return [lines.clone(), emitted(&self.daemon().log())].concat();
        }
        let bodies = self.on_the_wire().await.into_iter().map(|line| line["body"].clone());
        bodies.filter(|body| body["source"] != "communications" && body["source"] != MARK).collect()
    }

    /// The messages of the exchange so far, as lines of the consumer.
    async fn on_the_wire(&mut self) -> Vec<Value> {
        let Witness::Clients { producer, consumer } = &mut self.witness else { return Vec::new() };
        // Messages that were confirmed earlier are earlier in the consumer's queue. No route takes the marker.
        let mark = json!({ "source": MARK, "id": consumer.received().len() });
        producer.publish(MARK, &mark).await;
        eventually("the consumer has come as far as the mark", || {
            let came = consumer.received().iter().any(|line| line["body"] == mark);
            async move { came.then_some(()) }
        })
        .await;
        consumer.received()
    }

    /// The outcome of an event on a route.
    pub fn end_of(&self, route: &str, id: &str) -> Value {
        let log = self.daemon().log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.find(|line| line["message"] == "settled" && line["event"] == id && line["route"] == route);
        found.unwrap_or_else(|| panic!("no end of {id} on {route}: {log}"))
    }
}

fn publication(event: &Value) -> Publication {
    let id = event["id"].as_str().expect("an id");
    let mut publication = message(EXCHANGE, &key(event), id, event.to_string());
    publication.message_mut().properties.content_type = Some("application/json".to_owned());
    publication
}

/// The emissions in the log.
fn emitted(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let settled = lines.filter(|line| line["message"] == "settled");
    let lists = settled.filter_map(|line| serde_json::from_str::<Vec<Value>>(line["emitted"].as_str()?).ok());
    let bodies = lists.flatten().filter_map(|one| serde_json::from_str(one["data"].as_str()?).ok());
    bodies.collect()
}

/// Settled events of each route, without retries.
fn settled(daemon: &Daemon) -> BTreeMap<String, u64> {
    let (_, text) = daemon.get("/metrics");
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("trunkline_messages_settled_total{")) {
        let label = |name: &str| line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
        let count: f64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number");
        if label("outcome").is_some_and(|outcome| ["ack", "dropped", "dead_letter"].contains(&outcome)) {
            *found.entry(label("route").expect("a route").to_owned()).or_default() += count as u64;
        }
    }
    found
}
