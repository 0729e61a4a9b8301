//! `examples/event-broker` with its own files and environment variables, alone and beside a service that declares the queues
//! first and takes the batches.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trunkline_broker::{Broker, Publication};
use trunkline_config::{self as config, Sources};
use trunkline_event::Message;
use trunkline_support::Daemon;

use super::applications::{Beside, EVENT_BROKER, nothing_differs};
use super::clients::Library;
use super::example::{On, stories, stories_beside};
use crate::bench::{Bench, binary, drain, metric};
use crate::http::sse::Client;

const NAME: &str = "event-broker";
/// The batches of the story.
const BATCHES: usize = 7;

stories!(its_story);
stories_beside!(its_story);

/// The variables of the example, with a pool of one, so that the order can be seen.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("QUEUE_TTL", "86400000"),
    ("QUEUE_MAX_LENGTH", "10000"),
    ("WORKER_PREFETCH_COUNT", "10"),
    ("WORKER_POOL_SIZE", "1"),
    ("BATCH_SIZE", "4"),
    ("BATCH_SECONDS", "8"),
];

/// The place of one story.
struct Stage {
    bench: Bench,
    beside: Option<Beside>,
}

impl Stage {
    async fn new(on: On) -> Self {
        let bench = Bench::on(on.broker());
        let beside = match on {
            On::Beside => Some(Beside::start(NAME, EVENT_BROKER, Library::Amqplib, &bench.broker).await),
            On::Embedded | On::RabbitMq => None,
        };
        Self { bench, beside }
    }

    fn routes(&self) -> PathBuf {
        self.beside.as_ref().map_or_else(|| example().join("routes.toml"), |beside| beside.routes.file.clone())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let archive = ("ARCHIVE_DIR", self.bench.path("archive").display().to_string());
        let plugins = ("PLUGIN_DIR", trunkline_support::plugins().display().to_string());
        ENVIRONMENT.iter().map(|(name, value)| (*name, (*value).to_owned())).chain([archive, plugins]).collect()
    }

    async fn start(&self) -> Daemon {
        let environment = self.environment();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (state, broker) = (self.bench.state(), &self.bench.broker);
        let daemon = Daemon::start_with(binary(), &self.routes(), &state, broker, &environment).await;
        let daemon = daemon.expect("it starts");
        daemon.runs().await;
        daemon
    }

    /// Opens the broker with the example's queues; the embedded one only while no daemon runs.
    async fn open(&self) -> Broker {
        let sources = Sources {
            file: self.routes(),
            environment: self.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            broker_url: Some(self.bench.broker.clone()),
            listen: None,
            state_dir: Some(self.bench.state()),
            insecure: false,
        };
        let config = config::load(&sources).unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config;
        let queue = &config.topology.queues[&self.bench.queue("events")];
        assert_eq!((queue.ttl.map(|ttl| ttl.as_secs()), queue.max_length), (Some(86_400), Some(10_000)));
        assert_eq!((queue.prefetch, queue.max_priority), (10, Some(10)));
        let topology = std::sync::Arc::new(config.topology);
        let broker = Broker::open(&config.broker, topology, &config.state_dir).await.expect("it opens");
        crate::bench::connected(&broker).await;
        broker
    }

    /// The batches with their tenants, in the order of their arrival. Beside the service, the service has taken the batches.
    /// On RabbitMQ, the events that waited before the daemon started have no tenant, because no daemon signed them.
    async fn batches(&self, broker: &Broker) -> Vec<(Option<String>, Value)> {
        let tenant = |text: Option<&str>| text.map(str::to_owned);
        match &self.beside {
            Some(beside) => {
                let lines = beside.application.has(BATCHES).await;
                let batch = |line: &Value| (tenant(line["headers"]["trunkline-tenant"].as_str()), line["body"].clone());
                lines.iter().map(batch).collect()
            }
            None => {
                let messages = drain(broker, &self.bench.queue("batches"), BATCHES).await;
                let batch = |message: &Message| {
                    let body: Value = serde_json::from_slice(&message.body).expect("JSON");
                    (tenant(message.properties.headers.text("trunkline-tenant")), body)
                };
                messages.iter().map(batch).collect()
            }
        }
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(NAME)
}

/// An event of the queue, in the form of the API.
fn waiting(kind: &str, id: &str, priority: u8) -> Publication {
    let mut publication = crate::bench::message("event-broker", &format!("events.{kind}"), id, "{\"name\":\"n\"}");
    let properties = &mut publication.message_mut().properties;
    properties.kind = Some(kind.to_owned());
    properties.content_type = Some("application/json".to_owned());
    properties.priority = Some(priority);
    properties.headers.set("trunkline-tenant", "org-1");
    publication
}

fn ids(batch: &Value) -> Vec<&str> {
    batch["events"].as_array().expect("events").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

fn acknowledged(route: &str) -> String {
    format!("trunkline_messages_settled_total{{route=\"{route}\",outcome=\"ack\"}}")
}

/// Checks the further paths of the service.
async fn service(daemon: &Daemon) {
    let get = |path: &str| -> Value {
        let (status, text) = daemon.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    };
    let types = get("/api/v1/events/types");
    let names: Vec<&str> =
        types["types"].as_array().expect("a list").iter().filter_map(|t| t["type"].as_str()).collect();
    assert_eq!(names, ["custom", "notification", "system", "user", "voice"]);
    // Each event of a batch is answered on its own.
    let bad = json!({ "type": "system", "organizationId": "org-1", "data": { "component": 7 } });
    let (status, answer) = daemon.post("/api/v1/events/batch", &json!({ "events": [bad] }).to_string());
    assert_eq!((status, &answer["results"][0]["status"]), (207, &json!(422)), "{answer}");
    assert!(answer["results"][0]["problem"]["errors"].to_string().contains("/component"), "{answer}");
    let queues = get("/api/v1/events/queues");
    let events = queues["queues"].as_array().expect("a list").iter().find(|queue| queue["name"] == "events");
    assert!(events.is_some_and(|queue| queue["consumers"].as_u64() >= Some(1)), "{queues}");
    assert!(get("/api/v1/events/stats").is_object());
}

/// All inputs and outputs are archived: ten inputs, and seven batches.
async fn history(stage: &Stage, daemon: &Daemon) {
    metric(daemon, &acknowledged("archive"), |count| count >= 17.0).await;
    let mut replay = std::process::Command::new(binary());
    replay.args(["replay", "archive", "--dry-run", "--format", "json", "--config"]).arg(stage.routes());
    replay.envs(stage.environment()).args(["--url", &daemon.url("")]);
    let output = replay.output().expect("it runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["published"], &told["refused"]), (&json!(17), &json!(0)), "{told}");
}

/// Publishes the sample of each type, with the priority of its type, and one event of another organisation.
async fn posted(daemon: &Daemon) {
    let mut samples: Vec<PathBuf> = std::fs::read_dir(example().join("samples"))
        .expect("samples")
        .map(|entry| entry.expect("one").path())
        .collect();
    samples.sort();
    assert_eq!(samples.len(), 5);
    for sample in &samples {
        let text = std::fs::read_to_string(sample).expect("a file");
        let event: Value = serde_json::from_str(&text).expect("JSON");
        let kind = event["type"].as_str().expect("a type");
        let (status, answer) = daemon.post("/api/v1/events", &text);
        assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
        assert_eq!(answer["routing_key"], format!("events.{kind}"));
    }
    let data = json!({ "call_id": "c", "action": "ended" });
    let foreign = json!({ "type": "voice", "id": "foreign", "organizationId": "org-2", "data": data });
    assert_eq!(daemon.post("/api/v1/events", &foreign.to_string()).0, 202);
    service(daemon).await;
    // The same event is accepted once.
    let again = std::fs::read_to_string(&samples[0]).expect("a file");
    let (status, answer) = daemon.post("/api/v1/events", &again);
    assert_eq!((status, &answer["repeated"]), (202, &json!(true)), "{answer}");
}

async fn its_story(on: On) {
    let stage = Stage::new(on).await;
    // Waiting events are handled by priority, and collected in that order.
    let broker = stage.open().await;
    for (id, priority) in [("low", 1), ("middle", 5), ("high", 9), ("highest", 10)] {
        let _receipt = broker.publish(vec![waiting("voice", id, priority)]).await.expect("confirmed");
    }
    broker.close(std::time::Duration::from_secs(5)).await;
    drop(broker);

    let daemon = stage.start().await;
    let client = Client::open(&daemon, "/api/v1/events/stream?pattern=batch,events.%23", None).becomes_ready().await;
    metric(&daemon, &acknowledged("consumer"), |count| count >= 4.0).await;

    posted(&daemon).await;
    metric(&daemon, &acknowledged("consumer"), |count| count >= 10.0).await;

    // One batch was full. Six more are closed by their timers: five types of org-1, and one of org-2.
    let batches = |client: &Client| client.events().iter().filter(|event| event.data["type"] == "batch").count();
    trunkline_support::eventually("seven batches", || {
        let found = (batches(&client) >= 6).then_some(());
        async move { found }
    })
    .await;
    assert_eq!(client.events().iter().filter(|event| event.data["routing_key"] == "events.voice").count(), 2);
    metric(&daemon, &acknowledged("batch-timers"), |count| count >= 14.0).await;
    history(&stage, &daemon).await;
    nothing_differs(&daemon);
    assert!(daemon.terminate().await.success());

    let broker = stage.open().await;
    let taken = stage.batches(&broker).await;
    assert_eq!(taken.len(), BATCHES);
    let (_, full) = &taken[0];
    assert_eq!((&full["reason"], ids(full)), (&json!("size"), vec!["highest", "high", "middle", "low"]));
    let mut rest: Vec<(String, String, Vec<String>)> = taken[1..]
        .iter()
        .map(|(tenant, batch)| {
            assert_eq!(batch["reason"], "time");
            let ids = ids(batch).into_iter().map(str::to_owned).collect();
            (tenant.clone().expect("a tenant"), batch["type"].as_str().expect("a type").to_owned(), ids)
        })
        .collect();
    rest.sort();
    let expected = [
        ("org-1", "custom", "event-broker-sample-5"),
        ("org-1", "notification", "event-broker-sample-4"),
        ("org-1", "system", "event-broker-sample-3"),
        ("org-1", "user", "event-broker-sample-2"),
        ("org-1", "voice", "event-broker-sample-1"),
        ("org-2", "voice", "foreign"),
    ];
    let expected = expected.map(|(tenant, kind, id)| (tenant.to_owned(), kind.to_owned(), vec![id.to_owned()]));
    assert_eq!(rest, expected);
    for queue in ["events", "events.dlq", "batch-timers", "batch-timers.dlq"] {
        assert_eq!(drain(&broker, &stage.bench.queue(queue), 0).await.len(), 0, "{queue}");
    }
}
