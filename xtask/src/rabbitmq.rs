//! A RabbitMQ for the tests: the one of `RABBITMQ_URL`, or private nodes of an installed server. A missing server is installed
//! where that is possible. A private node listens on loopback only and has its own directories, cookie and port mapper. The node
//! ends with the process that started it, also when that process crashes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::apt;

mod control;
mod releases;
mod server;

pub use control::NodeControl;
pub use releases::{DebianRelease, RELEASES, RootUse};
pub use server::{ROOT_VARIABLE, RabbitmqServer};

/// Ports for nodes, below the ports from 32768 that Linux assigns by itself.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Limit for a start. A start takes 5 s on an idle machine and twice as long beside a build.
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// Makes sure that there is a RabbitMQ: the one of `RABBITMQ_URL`, the one of [`ROOT_VARIABLE`], an installed one, or one that this
/// function installs.
///
/// # Errors
/// When none can be installed. The error says what to do.
pub fn ensure() -> Result<()> {
    let server = RabbitmqServer::chosen();
    if std::env::var_os("RABBITMQ_URL").is_some() || server.version().is_some() {
        return Ok(());
    }
    if let Some(root) = server.root() {
        bail!("{} has no RabbitMQ; `cargo xtask matrix` makes the roots of other Debian releases", root.display());
    }
    let policy = Policy::keep_services_down()?;
    apt::install(
        &["rabbitmq-server"],
        "no RabbitMQ: set RABBITMQ_URL to a running one, or install the package rabbitmq-server (3.10 or newer)",
    )?;
    drop(policy);
    Ok(())
}

/// Debian's hook that keeps a package from starting its service. The drop removes a hook that this value made.
struct Policy(Option<PathBuf>);

impl Policy {
    fn keep_services_down() -> Result<Self> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self(None));
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path)?;
        file.write_all(b"#!/bin/sh\nexit 101\n")?;
        Ok(Self(Some(path)))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _absent = std::fs::remove_file(path);
        }
    }
}

/// A private node. It ends when the value is dropped.
#[derive(Debug)]
pub struct RabbitmqNode {
    server: RabbitmqServer,
    dir: PathBuf,
    /// The port of the port mapper.
    mapper: u16,
    control: NodeControl,
}

/// Shortens the time after which a node sends a dead letter again whose confirm was lost. The default is three minutes.
const ADVANCED: &str = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n";

impl RabbitmqNode {
    /// Starts a node with its own directories and waits until it takes connections.
    ///
    /// # Errors
    /// When the node does not start.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts a node with more lines in its `rabbitmq.conf`, such as a listener on a [`free_port`].
    ///
    /// # Errors
    /// When the node does not start.
    pub fn start_with(lines: &str) -> Result<Self> {
        Self::start_with_plugins(&[], lines)
    }

    /// As [`RabbitmqNode::start_with`], with plugins of RabbitMQ's own.
    ///
    /// # Errors
    /// When the node does not start.
    pub fn start_with_plugins(plugins: &[&str], lines: &str) -> Result<Self> {
        Self::make(&RabbitmqServer::chosen(), plugins, lines, None)
    }

    /// Starts nodes that are one cluster.
    ///
    /// # Errors
    /// When a node does not start or cannot join.
    pub fn start_cluster(count: usize) -> Result<Vec<Self>> {
        Self::start_cluster_of(&RabbitmqServer::chosen(), count)
    }

    /// As [`RabbitmqNode::start_cluster`], with the nodes of a server.
    ///
    /// # Errors
    /// As [`RabbitmqNode::start_cluster`].
    pub fn start_cluster_of(server: &RabbitmqServer, count: usize) -> Result<Vec<Self>> {
        let first = Self::make(server, &[], "", None)?;
        let others = std::thread::scope(|scope| {
            let starting: Vec<_> =
                (1..count).map(|_| scope.spawn(|| Self::make(server, &[], "", Some(&first)))).collect();
            starting.into_iter().map(|node| node.join().map_err(|_| anyhow!("starting a node panicked"))?).collect()
        });
        let others: Result<Vec<Self>> = others;
        let others = others?;
        // One command for all steps, because each command starts an Erlang VM. RabbitMQ 4.3 has no Mnesia.
        let name = first.name();
        let join = format!(
            "{{Module, Join}} = case code:which(rabbit_db_cluster) of \
             non_existing -> {{rabbit_mnesia, join_cluster}}; _ -> {{rabbit_db_cluster, join}} end, \
             ok = rabbit:stop(), ok = Module:Join('{name}', disc), ok = rabbit:start()."
        );
        for node in &others {
            node.ctl(&["eval", &join])?;
        }
        Ok(std::iter::once(first).chain(others).collect())
    }

    fn make(server: &RabbitmqServer, plugins: &[&str], lines: &str, beside: Option<&Self>) -> Result<Self> {
        let name = format!("trunkline-rabbit-{}-{}", std::process::id(), free_port()?);
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let [port, distribution] = [free_port()?, free_port()?];
        // Members of a cluster share the port mapper and the cookie.
        let (mapper, cookie) = match beside {
            Some(other) => (other.mapper, std::fs::read_to_string(other.dir.join(".erlang.cookie"))?),
            None => (free_port()?, format!("COOKIE{port}{distribution}")),
        };
        std::fs::write(dir.join(".erlang.cookie"), cookie)?;
        std::fs::set_permissions(dir.join(".erlang.cookie"), std::fs::Permissions::from_mode(0o400))?;
        std::fs::write(dir.join("enabled_plugins"), format!("[{}].\n", plugins.join(",")))?;
        let settings = "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 4GiB\n";
        let settings = format!("listeners.tcp.default = 127.0.0.1:{port}\n{settings}{lines}");
        std::fs::write(dir.join("rabbitmq.conf"), settings)?;
        std::fs::write(dir.join("advanced.config"), ADVANCED)?;
        let control = NodeControl::new(server.clone(), port, environment(&dir, port, distribution, mapper));
        control.write(&dir)?;
        let node = Self { server: server.clone(), dir, mapper, control };
        node.launch()?;
        Ok(node)
    }

    /// The URL of the node, with its default user and virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        self.control.url()
    }

    /// The directory of the node. [`NodeControl::open`] takes it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sends commands to the node.
    #[must_use]
    pub fn control(&self) -> &NodeControl {
        &self.control
    }

    /// The name of the node in a cluster.
    fn name(&self) -> String {
        node_name(self.control.port())
    }

    /// The process id of the node, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.dir.join("beam.pid")).ok()?.trim().parse().ok()
    }

    /// Kills the node, as a crash would.
    ///
    /// # Errors
    /// When the node does not end.
    pub fn kill(&self) -> Result<()> {
        self.signal("KILL")
    }

    /// Stops the node in order.
    ///
    /// # Errors
    /// When the node does not end in time.
    pub fn stop(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Starts the node again, on the same port and data.
    ///
    /// # Errors
    /// When the node does not start.
    pub fn restart(&self) -> Result<()> {
        self.launch()
    }

    /// Runs `rabbitmqctl` against this node and gives its output.
    ///
    /// # Errors
    /// When the command fails, with its error output and the log of the node, or when the node does not answer.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.control.ctl(arguments).with_context(|| self.log())
    }

    fn launch(&self) -> Result<()> {
        let log = std::fs::File::create(self.dir.join("out"))?;
        let mut child = Command::new("setsid")
            .args(self.server.words("rabbitmq-server"))
            // Mnesia writes its crash dumps into the working directory.
            .current_dir(&self.dir)
            .envs(self.control.environment())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setsid cannot be run")?;
        let deadline = Instant::now() + START_WITHIN;
        // The AMQP port opens last. A test with rabbitmqctl would start an Erlang VM each time.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.control.port())).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the node ended unexpectedly ({status}):\n{}", self.log());
            }
            if Instant::now() > deadline {
                let _dead = child.kill();
                bail!("the node did not start within {START_WITHIN:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // The node deletes its pid file early in a stop, so a copy is kept.
        std::fs::copy(self.dir.join("pid"), self.dir.join("beam.pid"))?;
        self.watch()?;
        // No other code waits for the launching shell, so this thread reaps it.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Starts a shell that outlives this process and then kills the node if it still runs.
    fn watch(&self) -> Result<()> {
        let pid = self.pid().context("the node has no pid")?;
        let script = format!(
            "while kill -0 {ours} 2>/dev/null && kill -0 {pid} 2>/dev/null; do sleep 1; done; \
             if ! kill -0 {ours} 2>/dev/null; then kill -9 {pid} 2>/dev/null; \"$@\" -kill >/dev/null 2>&1; rm -rf '{dir}'; fi",
            ours = std::process::id(),
            dir = self.dir.display(),
        );
        let mut watchdog = Command::new("setsid")
            .args(["sh", "-c", &script, "sh"])
            .args(self.server.words("epmd"))
            .envs(self.control.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::spawn(move || watchdog.wait());
        Ok(())
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.dir.join("out")) {
            let _unread = file.read_to_string(&mut text);
        }
        text
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        let _gone = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status()?;
        let deadline = Instant::now() + STOP_WITHIN;
        // Threads of a killed process may hold its listener for a moment.
        while is_alive(pid) || std::net::TcpStream::connect(("127.0.0.1", self.control.port())).is_ok() {
            if Instant::now() > deadline {
                bail!("the node (process {pid}) did not end within {STOP_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _absent = std::fs::remove_file(self.dir.join("beam.pid"));
        Ok(())
    }
}

impl Drop for RabbitmqNode {
    fn drop(&mut self) {
        let _ended = self.kill();
        let mapper = self.server.command("epmd").arg("-kill").envs(self.control.environment()).output();
        drop(mapper);
        let _absent = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether a process runs. A zombie does not.
fn is_alive(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    !status.rsplit(") ").next().unwrap_or_default().starts_with('Z')
}

fn node_name(port: u16) -> String {
    format!("n{port}@localhost")
}

fn environment(dir: &Path, port: u16, distribution: u16, mapper: u16) -> Vec<(String, String)> {
    let at = |name: &str| dir.join(name).display().to_string();
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    [
        ("HOME", dir.display().to_string()),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_NODENAME", node_name(port)),
        ("RABBITMQ_MNESIA_BASE", at("mnesia")),
        ("RABBITMQ_LOG_BASE", at("log")),
        ("RABBITMQ_PID_FILE", at("pid")),
        ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
        ("RABBITMQ_SCHEMA_DIR", at("schema")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        // By default an idle scheduler of Erlang spins for a while. The tests need the processors for other programs.
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("{loopback} +sbwt none +sbwtdcpu none +sbwtdio none")),
        ("RABBITMQ_CTL_ERL_ARGS", format!("+S 1:1 {loopback}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A port of loopback without a listener, which this process hands out once, because a node opens its port seconds later. Linux
/// does not assign the ports of `PORTS` by itself.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Each process begins at another port.
    let first = std::process::id().wrapping_mul(211);
    for _ in PORTS {
        let turn = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(turn % u32::from(PORTS.end - PORTS.start))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}
