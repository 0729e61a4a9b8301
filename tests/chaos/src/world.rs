//! All parts that a run starts: the node and its proxy, the daemon, and the monitor.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::rabbitmq::{self, RabbitmqNode};

use crate::daemon::{Daemon, Settings};
use crate::http::Client;
use crate::monitor::{Watch, metrics};
use crate::plan::routes;
use crate::proxy::Proxy;
use crate::schedule::BrokerKind;
use crate::source::Source;
use crate::{amqp, embedded, side};

/// The daemon's user on RabbitMQ, so that a fault can take permissions from the daemon alone.
pub const USER: &str = "chaos";
const PASSWORD: &str = "secret";
const LOOK: Duration = Duration::from_millis(10);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A running system.
pub struct World {
    /// The broker.
    pub broker: BrokerKind,
    /// Events and history.
    pub source: Arc<Source>,
    /// The daemon.
    pub daemon: Daemon,
    /// The address of its listener.
    pub address: SocketAddr,
    /// The observations of the daemon.
    pub watch: Arc<Watch>,
    /// The proxy between the daemon and the node.
    pub proxy: Option<Proxy>,
    /// The RabbitMQ node.
    pub node: Option<Arc<RabbitmqNode>>,
    /// The URL of the node itself.
    pub url: String,
    /// routes.toml.
    pub routes: PathBuf,
    /// The daemon's state directory.
    pub state: PathBuf,
    /// The daemon's log.
    pub log: PathBuf,
}

/// The time until the next settled event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The time.
    Took(Duration),
    /// There was nothing left to settle.
    NothingToDo,
    /// No event was settled.
    Never,
}

impl World {
    /// Starts the broker, and the daemon on it.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(broker: BrokerKind, source: Arc<Source>, binary: &Path, dir: &Path) -> Result<Self> {
        let (routes_file, state) = (dir.join("routes.toml"), dir.join("state"));
        std::fs::write(&routes_file, routes(broker, trunkline_support::guests()))?;
        let (mut node, mut proxy, mut url) = (None, None, "embedded".to_owned());
        let mut daemons_url = url.clone();
        if broker == BrokerKind::Amqp {
            let started = tokio::task::spawn_blocking(start_node).await??;
            url = started.url();
            let port =
                url.rsplit(':').next().and_then(|rest| rest.split('/').next()).and_then(|port| port.parse().ok());
            let port: u16 = port.context("the node's URL has no port")?;
            let between = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await?;
            daemons_url = url.replace(&format!(":{port}/"), &format!(":{}/", between.address().port()));
            daemons_url = daemons_url.replace("guest:guest", &format!("{USER}:{PASSWORD}"));
            (node, proxy) = (Some(Arc::new(started)), Some(between));
        }
        let log = dir.join("daemon.log");
        let settings = Settings {
            binary: binary.to_owned(),
            routes: routes_file.clone(),
            state: state.clone(),
            broker: daemons_url,
            log: log.clone(),
        };
        let daemon = Daemon::new(settings)?;
        let (address, watch) = (daemon.address(), Arc::new(Watch::default()));
        let routes = routes_file;
        let mut world = Self { broker, source, daemon, address, watch, proxy, node, url, routes, state, log };
        world.daemon.start()?;
        world.daemon.wait(true).await?;
        world.note_pid();
        Ok(world)
    }

    /// Ends the node and waits until all its processes have ended, because its port mapper refuses to end before.
    ///
    /// # Errors
    /// When the node does not end.
    pub async fn close(&mut self) -> Result<()> {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        let ending = node.clone();
        tokio::task::spawn_blocking(move || ending.kill()).await??;
        let since = Instant::now();
        while amqp::is_listening(&self.url).await && since.elapsed() < CLOSE_WITHIN {
            tokio::time::sleep(LOOK).await;
        }
        tokio::task::spawn_blocking(move || drop(node)).await?;
        Ok(())
    }

    /// Gives the daemon's process id to the monitor.
    pub fn note_pid(&self) {
        self.watch.pid.store(u64::from(self.daemon.pid().unwrap_or_default()), Ordering::Relaxed);
    }

    /// The length of the daemon's log, in bytes.
    ///
    /// # Errors
    /// When the file is missing.
    pub fn log_length(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// The daemon's log after the first `from` bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log_after(&self, from: u64) -> Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The checked configuration, with the address of the node instead of the proxy.
    ///
    /// # Errors
    /// When routes.toml is wrong.
    pub fn config(&self) -> Result<trunkline_config::Config> {
        embedded::config(&self.routes, &self.state, &self.url)
    }

    /// The number of deliveries that the daemon has settled; `None` while it does not answer.
    pub async fn settled(&self) -> Option<u64> {
        metrics(&mut Client::new(self.address)).await.ok().map(|metrics| metrics.settled)
    }

    /// Waits until the daemon has settled more than `base` deliveries. The time counts from `since`, when the fault was
    /// healed.
    pub async fn recovery(&self, since: Instant, base: u64, within: Duration) -> Recovery {
        let mut client = Client::new(self.address);
        loop {
            let looked = metrics(&mut client).await.ok();
            if let Some(seen) = &looked {
                self.watch.note(seen);
                if seen.settled > base {
                    return Recovery::Took(since.elapsed());
                }
            }
            if since.elapsed() > within {
                let is_idle = self.source.is_stopped() && looked.is_some_and(|seen| seen.settled == base);
                return if is_idle && self.is_done() { Recovery::NothingToDo } else { Recovery::Never };
            }
            if self.source.is_stopped() && self.is_done() {
                return Recovery::NothingToDo;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// True when no confirmed event waits, as far as can be seen now.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.broker {
            BrokerKind::Amqp => {
                let ledger = self.source.ledger();
                ledger.settled() >= ledger.confirmed() && self.source.hostile().waiting() == 0
            }
            BrokerKind::Embedded => self.watch.waiting.load(Ordering::Relaxed) == 0,
        }
    }
}

/// A node with a small limit for messages, and with a user for the daemon.
fn start_node() -> Result<RabbitmqNode> {
    rabbitmq::ensure()?;
    let node = RabbitmqNode::start_with(&format!("max_message_size = {}\n", side::MESSAGE_MAX_BYTES))?;
    // One command instead of two, because each starts an Erlang VM.
    let user = format!("<<\"{USER}\">>");
    node.ctl(&[
        "eval",
        &format!(
            "ok = rabbit_auth_backend_internal:add_user({user}, <<\"{PASSWORD}\">>, {user}), \
             ok = rabbit_auth_backend_internal:set_permissions({user}, <<\"/\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, {user})."
        ),
    ])?;
    Ok(node)
}
