//! A daemon with an example's own routes.toml. Its queues have the names that users see, so every test has a broker of
//! its own: a directory, or a virtual host.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use trunkline_broker::Broker;
use trunkline_config::{self as config, Config, Sources};
use trunkline_event::{Message, QueueName};
use trunkline_support::{Daemon, rabbitmq};

use crate::bench::{binary, connected, drain};

/// The broker of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Embedded,
    RabbitMq,
    /// RabbitMQ, with the tables of the README's section about queues that applications declare too.
    Beside,
}

impl On {
    /// A new broker.
    pub fn broker(self) -> String {
        match self {
            Self::Embedded => "embedded".to_owned(),
            Self::RabbitMq | Self::Beside => rabbitmq::virtual_host(),
        }
    }
}

/// An example, a broker, and the environment of the daemon.
pub struct Example {
    pub broker: String,
    routes: PathBuf,
    state: tempfile::TempDir,
    environment: Vec<(String, String)>,
    _beside: Option<RoutesBeside>,
}

/// A copy of an example whose routes have the tables of the README's section about queues that applications declare too.
pub struct RoutesBeside {
    pub file: PathBuf,
    _folder: tempfile::TempDir,
}

/// The heading of the README's section about queues that applications declare too.
const BESIDE: &str = "## Beside the applications";

impl Example {
    pub fn open(name: &str, on: On, environment: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let beside = (on == On::Beside).then(|| RoutesBeside::of(name));
        let unchanged = || xtask::root().join("examples").join(name).join("routes.toml");
        Self {
            broker: on.broker(),
            routes: beside.as_ref().map_or_else(unchanged, |beside| beside.file.clone()),
            state: tempfile::tempdir().expect("a directory"),
            environment: environment.iter().map(own).collect(),
            _beside: beside,
        }
    }

    /// Runs the commands of policies that `trunkline check` prints.
    pub fn paste_policies(&self) {
        let node = rabbitmq::control();
        let printed = self.check();
        let policies: Vec<&str> = printed.lines().filter(|line| line.starts_with("rabbitmqctl ")).collect();
        assert!(!policies.is_empty(), "no policy: {printed}");
        for policy in policies {
            rabbitmq::paste(&node, policy);
        }
    }

    /// The output of `trunkline check` for the example. A running daemon has locked its state directory, so the command has another
    /// one.
    pub fn check(&self) -> String {
        let state = tempfile::tempdir().expect("a directory");
        trunkline_support::share_compiled(state.path());
        let mut check = std::process::Command::new(binary());
        check.args(["check", "--broker", &self.broker, "--config"]).arg(&self.routes);
        check.arg("--state").arg(state.path()).envs(self.environment.iter().cloned());
        let output = crate::foreign::run(&mut check);
        String::from_utf8(output.stdout).expect("a text")
    }

    pub async fn start(&self) -> Daemon {
        let environment = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment = environment.collect::<Vec<_>>();
        let started = Daemon::start_with(binary(), &self.routes, self.state.path(), &self.broker, &environment).await;
        let daemon = started.unwrap_or_else(|ended| panic!("{ended:?}"));
        daemon.runs().await;
        daemon
    }

    /// The messages of a queue; on the embedded broker only while no daemon runs.
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

impl RoutesBeside {
    pub fn of(name: &str) -> Self {
        let folder = xtask::root().join("examples").join(name);
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        let (_, section) = readme.split_once(BESIDE).expect("the section");
        let (_, block) = section.split_once("```toml\n").expect("the tables");
        let (tables, _) = block.split_once("```").expect("the end of the tables");
        let routes = std::fs::read_to_string(folder.join("routes.toml")).expect("routes");
        // The routes name files beside them, and plugins in `target` of the workspace.
        let changed = tempfile::tempdir().expect("a directory");
        let place = changed.path().join("examples").join(name);
        copy(&folder, &place);
        symlink(xtask::root().join("target"), changed.path().join("target")).expect("a link");
        let file = place.join("routes.toml");
        std::fs::write(&file, replace_tables(&routes, tables)).expect("a file");
        Self { file, _folder: changed }
    }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &place);
        } else {
            std::fs::copy(path, place).expect("a copy");
        }
    }
}

/// The routes with other tables in place of the tables with the same heads. Further tables come last.
fn replace_tables(routes: &str, tables: &str) -> String {
    let mut replaced = routes.to_owned();
    for table in tables.split("\n\n").map(str::trim).filter(|table| !table.is_empty()) {
        let head = table.lines().next().expect("a head");
        assert!(head.starts_with('['), "{head} begins no table");
        replaced = match replaced.split_once(&format!("{head}\n")) {
            Some((before, after)) => {
                let kept = after.lines().skip_while(|line| !line.is_empty() && !line.starts_with(['[', '#']));
                format!("{before}{table}\n\n{}\n", kept.collect::<Vec<_>>().join("\n"))
            }
            None => format!("{replaced}\n{table}\n"),
        };
    }
    replaced
}

/// Makes tests of the same stories on RabbitMQ and on the embedded broker, in modules `embedded` and `amqp`.
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

/// Makes tests of the same stories beside the applications' own declarations, in the module `beside`.
macro_rules! stories_beside {
    ($($story:ident),+ $(,)?) => {
        mod beside {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story($crate::systems::example::On::Beside).await;
            })+
        }
    };
}
pub(super) use stories_beside;
