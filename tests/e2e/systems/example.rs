//! A daemon with an example's own routes.toml. Its queues have the names that users see, so that every test has a broker
//! of its own: a directory, or a virtual host.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use trunkline_broker::Broker;
use trunkline_config::{self as config, Config, Sources};
use trunkline_event::{Message, QueueName};
use trunkline_support::Daemon;
use xtask::rabbitmq::Node;

use crate::bench::{binary, connected, drain};

/// Which broker a story is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Embedded,
    RabbitMq,
}

/// An example, a broker, and the environment that the daemon is given.
pub struct Example {
    pub broker: String,
    routes: PathBuf,
    state: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Example {
    pub fn open(name: &str, on: On, environment: &[(&str, &str)]) -> Self {
        let broker = match on {
            On::Embedded => "embedded".to_owned(),
            On::RabbitMq => virtual_host(),
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            broker,
            routes: xtask::root().join("examples").join(name).join("routes.toml"),
            state: tempfile::tempdir().expect("a directory"),
            environment: environment.iter().map(own).collect(),
        }
    }

    pub async fn start(&self) -> Daemon {
        let environment = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment = environment.collect::<Vec<_>>();
        let started = Daemon::start_with(binary(), &self.routes, self.state.path(), &self.broker, &environment).await;
        let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
        daemon.runs().await;
        daemon
    }

    /// What lies in a queue; on the embedded broker only when no daemon runs.
    pub async fn drained(&self, queue: &str, at_least: usize) -> Vec<Message> {
        let config = self.config();
        let topology = std::sync::Arc::new(config.topology);
        let broker = Broker::open(&config.broker, topology, &config.state_dir).await.expect("the broker opens");
        connected(&broker).await;
        let messages = drain(&broker, &QueueName::new(queue).expect("a name"), at_least).await;
        broker.close(trunkline_support::patience()).await;
        messages
    }

    fn config(&self) -> Config {
        let sources = Sources {
            file: self.routes.clone(),
            environment: self.environment.iter().cloned().collect(),
            broker_url: Some(self.broker.clone()),
            listen: None,
            state_dir: Some(self.state.path().to_owned()),
            insecure: false,
        };
        config::load(&sources).unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config
    }
}

/// A virtual host of a node that all tests of this process share.
fn virtual_host() -> String {
    static NODE: OnceLock<Node> = OnceLock::new();
    static HOSTS: AtomicUsize = AtomicUsize::new(0);
    let start = || xtask::rabbitmq::ensure().and_then(|()| Node::start()).expect("a RabbitMQ for the tests");
    let node = NODE.get_or_init(start);
    let name = format!("system-{}", HOSTS.fetch_add(1, Ordering::Relaxed));
    node.ctl(&["add_vhost", &name]).expect("a virtual host");
    node.ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]).expect("permissions");
    node.url().replace("%2f", &name)
}

/// The same stories on RabbitMQ and on the embedded broker, as tests of two modules `embedded` and `amqp`.
macro_rules! stories {
    ($($story:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story($crate::systems::example::On::Embedded).await;
            })+
        }

        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story($crate::systems::example::On::RabbitMq).await;
            })+
        }
    };
}
pub(super) use stories;
