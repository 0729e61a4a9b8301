//! Code that the tests of whole daemons share: a directory with routes, and one of the two brokers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use trunkline_broker::{Broker, Delivery, Next, NothingPublished, Publication, Settlement};
use trunkline_config::{self as config, Config, Sources};
use trunkline_event::{ExchangeName, Message, Properties, QueueName, RoutingKey};
use trunkline_support::{Daemon, Ended, eventually};

/// The daemon under test: this build's, or an older one from `TRUNKLINE_TEST_BINARY`, to see a test fail.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        std::env::var("TRUNKLINE_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trunkline").to_owned())
    });
    &BINARY
}

/// One route, which runs the plugin `echo`, and a queue for the emissions. Further keys of the route may follow.
pub const ECHO: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = "echoed"
[routes.$P-echo]
from = "in"
plugin = "echo"
"#;

/// The place of one test: files, state, and a prefix for names on the shared broker.
pub struct Bench {
    dir: tempfile::TempDir,
    pub broker: String,
    pub prefix: String,
}

impl Bench {
    pub fn embedded() -> Self {
        Self::on("embedded".to_owned())
    }

    pub fn amqp() -> Self {
        Self::on(trunkline_support::rabbitmq::url())
    }

    /// On a private broker.
    pub fn on(broker: String) -> Self {
        let prefix = format!("t{}", uuid::Uuid::now_v7().simple());
        Self { dir: tempfile::tempdir().expect("a directory"), broker, prefix }
    }

    pub fn is_embedded(&self) -> bool {
        self.broker == "embedded"
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes routes.toml. `$P` is the test's prefix. The plugins are the guests unless the text has a `plugin-dir`.
    pub fn write_routes(&self, text: &str) -> PathBuf {
        let head =
            if text.contains("plugin-dir") { String::new() } else { self.plugin_dir(trunkline_support::guests()) };
        let file = self.path("routes.toml");
        std::fs::write(&file, head + &text.replace("$P", &self.prefix)).expect("a file");
        file
    }

    fn plugin_dir(&self, dir: &Path) -> String {
        format!("plugin-dir = {:?}\n", dir.display().to_string())
    }

    pub async fn start(&self, routes: &str) -> Daemon {
        self.try_start(routes).await.unwrap_or_else(|ended| panic!("{ended:?}"))
    }

    pub async fn try_start(&self, routes: &str) -> Result<Daemon, Ended> {
        let file = self.write_routes(routes);
        let daemon = Daemon::start(binary(), &file, &self.state(), &self.broker).await?;
        self.settles(&daemon).await;
        Ok(daemon)
    }

    /// Waits for the session of a daemon that has just started, where the broker is always available. A request waits
    /// for it some seconds only.
    async fn settles(&self, daemon: &Daemon) {
        if !self.is_embedded() && self.broker == trunkline_support::rabbitmq::url() {
            becomes_ready(daemon, true).await;
        }
    }

    /// Starts a daemon with further environment variables.
    pub async fn start_with(&self, routes: &str, environment: &[(&str, &str)]) -> Daemon {
        let file = self.write_routes(routes);
        let started = Daemon::start_with(binary(), &file, &self.state(), &self.broker, environment).await;
        let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
        self.settles(&daemon).await;
        daemon
    }

    /// Starts a daemon with further environment variables, by a shell script; `$@` are the daemon's arguments.
    pub async fn start_by(&self, shell: &str, routes: &str, environment: &[(&str, &str)]) -> Daemon {
        let (file, script) = (self.write_routes(routes), self.path("start.sh"));
        std::fs::write(&script, format!("#!/bin/sh\n{shell}\nexec '{}' \"$@\"\n", binary())).expect("a file");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
        // A test that starts a process at this moment has the script open for writing in its forked child.
        eventually("a script that can be run", || {
            let ran = std::process::Command::new(&script).arg("--version").output().is_ok();
            async move { ran.then_some(()) }
        })
        .await;
        let script = script.to_str().expect("a text");
        let started = Daemon::start_with(script, &file, &self.state(), &self.broker, environment).await;
        let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
        self.settles(&daemon).await;
        daemon
    }

    fn config(&self, routes: &str, environment: &[(&str, &str)]) -> Config {
        let file = self.write_routes(routes);
        let sources = Sources {
            file,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            broker_url: Some(self.broker.clone()),
            listen: None,
            state_dir: Some(self.state()),
            insecure: false,
        };
        config::load(&sources).unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config
    }

    /// Opens the daemon's broker with the same topology. The embedded broker can be opened only while no daemon runs.
    pub async fn open(&self, routes: &str) -> Broker {
        self.open_with(routes, &[]).await
    }

    /// With the environment variables that the routes use.
    pub async fn open_with(&self, routes: &str, environment: &[(&str, &str)]) -> Broker {
        let config = self.config(routes, environment);
        let topology = std::sync::Arc::new(config.topology);
        let broker = Broker::open(&config.broker, topology, &config.state_dir).await.expect("the broker opens");
        connected(&broker).await;
        broker
    }

    pub fn queue(&self, name: &str) -> QueueName {
        QueueName::new(name.replace("$P", &self.prefix)).expect("a name")
    }
}

/// Waits until a daemon is connected to its broker, or is not.
pub async fn becomes_ready(daemon: &Daemon, wanted: bool) {
    eventually(if wanted { "readiness" } else { "the loss" }, || {
        let is_ready = daemon.get("/readyz").0 == 200;
        async move { (is_ready == wanted).then_some(()) }
    })
    .await;
}

/// Waits until a broker is connected.
pub async fn connected(broker: &Broker) {
    let mut status = broker.status();
    let connected = status.wait_for(|status| status.connected);
    let in_time = tokio::time::timeout(trunkline_support::patience(), connected).await.expect("a connection");
    drop(in_time.expect("the broker answers"));
}

/// A plain message.
pub fn message(exchange: &str, key: &str, id: &str, body: impl Into<Bytes>) -> Publication {
    let properties = Properties {
        message_id: Some(id.to_owned()),
        content_type: Some("text/plain".to_owned()),
        ..Properties::default()
    };
    let message = Message {
        exchange: ExchangeName::new(exchange).expect("a name"),
        routing_key: RoutingKey::new(key).expect("a key"),
        properties,
        body: body.into(),
    };
    Publication::now(message)
}

/// Takes and acknowledges messages until there are `at_least`, and then all that follow at once.
pub async fn drain(broker: &Broker, queue: &QueueName, at_least: usize) -> Vec<Message> {
    let mut subscription = broker.subscribe(queue, 500, "drain").await.expect("the queue exists");
    let mut taken = Vec::new();
    loop {
        let patience =
            if taken.len() < at_least { trunkline_support::patience() } else { std::time::Duration::from_millis(500) };
        match tokio::time::timeout(patience, subscription.next()).await {
            Ok(Next::Delivery(delivery)) => taken.push(acknowledge(delivery)),
            Ok(Next::Cancelled(reason) | Next::Ended(reason)) => panic!("{reason}"),
            Err(_elapsed) => break,
        }
    }
    subscription.close().await.expect("acknowledged");
    assert!(taken.len() >= at_least, "{} of {at_least} messages in {queue}", taken.len());
    taken
}

fn acknowledge(delivery: Delivery) -> Message {
    let message = delivery.message.copy();
    delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
    message
}

/// Waits until a series of `/metrics` satisfies a condition.
pub async fn metric(daemon: &Daemon, series: &str, fits: impl Fn(f64) -> bool) -> f64 {
    eventually(series, || {
        let value = daemon.metric(series);
        let found = fits(value).then_some(value);
        async move { found }
    })
    .await
}

/// The series of a route's settled events with one outcome.
pub fn settled(bench: &Bench, route: &str, outcome: &str) -> String {
    format!("trunkline_messages_settled_total{{route=\"{}-{route}\",outcome=\"{outcome}\"}}", bench.prefix)
}

/// Makes tests of the same cases on RabbitMQ and on the embedded broker, in modules `embedded` and `amqp`.
macro_rules! on_both_brokers {
    ($($case:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case($crate::bench::Bench::embedded()).await;
            })+
        }

        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case($crate::bench::Bench::amqp()).await;
            })+
        }
    };
}
pub(crate) use on_both_brokers;
