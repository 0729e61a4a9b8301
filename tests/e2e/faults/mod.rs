//! Faults of the catalogue that need a whole daemon. Each test breaks something from outside. No event is lost, the
//! reason is right, other routes go on, and no restart is needed unless the row says so.
//!
//! Other modules have a broker that is late, killed, or closes connections (`broker_faults.rs`), SIGTERM and SIGKILL
//! under load (`ten_thousand.rs`), misbehaving guests (`guests.rs`), and bad input (`bad_input.rs`).

mod alarms;
mod backlog;
mod broker;
mod cgroup;
mod clocks;
mod cluster;
mod dedupe;
mod delays;
mod disk;
pub(crate) mod frames;
mod full;
mod held;
mod host;
pub(crate) mod isolation;
mod keep;
mod kernel;
mod order;
mod pipes;
mod poison;
mod refused;
mod retries;
mod starved;
mod store;
mod strace;
mod timeouts;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::Value;
use trunkline_broker::{Broker, Next, NothingPublished, Settlement};
use trunkline_event::Message;
use trunkline_support::Daemon;

use crate::bench::{Bench, message, metric, settled};

/// Publishes events `e0` and on into `$P-events`, all with one key and one body.
async fn fill(bench: &Bench, broker: &Broker, key: &str, count: usize, body: &'static str) {
    let exchange = format!("{}-events", bench.prefix);
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let batch = chunk.iter().map(|n| message(&exchange, key, &format!("e{n}"), body));
        drop(broker.publish(batch.collect::<Vec<_>>()).await.expect("confirmed"));
    }
}

/// Publishes an event over HTTP; gives its id.
fn post(daemon: &Daemon, kind: &str, data: impl Into<Value>) -> String {
    let body = serde_json::json!({ "type": kind, "data": data.into() }).to_string();
    let (status, accepted) = daemon.post("/api/v1/events", &body);
    let taken = (status, &accepted["routed"]);
    assert_eq!(taken, (202, &Value::Bool(true)), "{accepted}\n{}", last_lines(&daemon.log()));
    accepted["id"].as_str().expect("an id").to_owned()
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Publishes an event over HTTP, and waits for its outcome.
async fn handled(daemon: &Daemon, kind: &str, data: impl Into<Value>) {
    let id = post(daemon, kind, data);
    let settled = daemon.settled(&id).await;
    assert_eq!(settled["outcome"], "ack", "{settled}");
}

/// A series with the label `route` only.
fn of_route(bench: &Bench, series: &str, route: &str) -> String {
    format!("{series}{{route=\"{}-{route}\"}}", bench.prefix)
}

async fn is_up(bench: &Bench, daemon: &Daemon, route: &str, wanted: bool) {
    let wanted = if wanted { 1.0 } else { 0.0 };
    metric(daemon, &of_route(bench, "trunkline_route_up", route), |up| up == wanted).await;
}

fn id(message: &Message) -> String {
    message.properties.message_id.clone().expect("an id")
}

fn header(message: &Message, name: &str) -> String {
    message.properties.headers.text(name).unwrap_or_default().to_owned()
}

/// The ids of the events that messages follow from.
fn causes(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| header(message, "trunkline-cause")).collect()
}

/// Takes messages of a queue until there are `wanted` different ones; gives all of them, including repeats.
async fn taken(
    bench: &Bench,
    broker: &Broker,
    queue: &str,
    wanted: usize,
    key: impl Fn(&Message) -> String,
) -> Vec<Message> {
    let mut subscription = broker.subscribe(&bench.queue(queue), 100, "taken").await.expect("the queue exists");
    let (mut messages, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() < wanted {
        let next = tokio::time::timeout(trunkline_support::patience(), subscription.next()).await;
        match next {
            Ok(Next::Delivery(delivery)) => {
                seen.insert(key(&delivery.message));
                messages.push(delivery.message.copy());
                delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
            }
            Ok(Next::Cancelled(reason) | Next::Ended(reason)) => panic!("{reason}"),
            Err(_elapsed) => panic!("{} of {wanted} in {queue}", seen.len()),
        }
    }
    subscription.close().await.expect("acknowledged");
    messages
}

/// A client that breaks the broker's objects.
struct Breaker {
    connection: Connection,
    channel: Channel,
}

impl Breaker {
    async fn on(bench: &Bench) -> Self {
        let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
        let connection = connecting.await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        Self { connection, channel }
    }

    /// The number of ready messages in a queue.
    async fn ready(&self, bench: &Bench, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let channel = self.connection.create_channel().await.expect("a channel");
        let name = bench.queue(queue).as_str().into();
        let found = channel.queue_declare(name, options, FieldTable::default()).await;
        found.expect("the queue exists").message_count()
    }
}

/// A mount point of the test, removed with the test. The tests run as root, as in a container of CI.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts a small disk.
    pub fn small(at: &Path, megabytes: u32) -> Self {
        std::fs::create_dir_all(at).expect("a directory");
        mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], at);
        Self(at.to_owned())
    }

    /// Mounts a directory read-only, for root too.
    fn read_only(at: &Path) -> Self {
        mount(&["--bind", &at.display().to_string()], at);
        let mounted = Self(at.to_owned());
        mount(&["-o", "remount,bind,ro"], at);
        mounted
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount").args(arguments).arg(at).output().expect("mount can be run");
    assert!(output.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone = Command::new("umount").args([OsStr::new("--lazy"), self.0.as_os_str()]).status();
    }
}
