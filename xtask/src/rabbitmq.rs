//! A RabbitMQ for the tests: the one of `RABBITMQ_URL`, or private nodes of an installed server, installed first where
//! that is possible. A private node listens on loopback only, has its own directories, cookie and port mapper, and
//! ends with the process that started it, however that ends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::apt;

/// Below those that Linux gives on its own, from 32768.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const BIN: &str = "/usr/lib/rabbitmq/bin";
/// Starting takes 5 s on an idle machine, and twice as long under a build.
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// For one answer of a node; it waits for ever for one that hangs. In seconds, as `timeout` has it.
const CTL_WITHIN: &str = "120";

/// Makes sure that there is a RabbitMQ to use: given by URL, installed, or installed now.
///
/// # Errors
/// When there is none and none can be installed; the text says what to do.
pub fn ensure() -> Result<()> {
    if std::env::var_os("RABBITMQ_URL").is_some() || server().exists() {
        return Ok(());
    }
    let policy = Policy::keep_services_down()?;
    apt::install(
        &["rabbitmq-server"],
        "no RabbitMQ: set RABBITMQ_URL to a running one, or install the package rabbitmq-server (3.10 or newer)",
    )?;
    drop(policy);
    Ok(())
}

fn server() -> PathBuf {
    Path::new(BIN).join("rabbitmq-server")
}

/// Debian's hook that keeps a package from starting its service, taken away again when we put it there.
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

/// A private node.
#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    port: u16,
    /// The port of the port mapper.
    mapper: u16,
    environment: Vec<(String, String)>,
}

/// A message that was on its way from queue to queue when a node stopped is sent again after three minutes otherwise.
const ADVANCED: &str = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n";

impl Node {
    /// Starts a node with its own directories and waits until it takes connections.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts a node with more lines in its `rabbitmq.conf`, such as a listener on a [`free_port`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with(lines: &str) -> Result<Self> {
        Self::start_with_plugins(&[], lines)
    }

    /// As [`Node::start_with`], with plugins of RabbitMQ's own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with_plugins(plugins: &[&str], lines: &str) -> Result<Self> {
        Self::make(plugins, lines, None)
    }

    /// Starts nodes that are one cluster.
    ///
    /// # Errors
    /// When one does not start, or is not let in.
    pub fn start_cluster(count: usize) -> Result<Vec<Self>> {
        let first = Self::start()?;
        let others = std::thread::scope(|scope| {
            let starting: Vec<_> = (1..count).map(|_| scope.spawn(|| Self::make(&[], "", Some(&first)))).collect();
            starting.into_iter().map(|node| node.join().map_err(|_| anyhow!("starting a node panicked"))?).collect()
        });
        let others: Result<Vec<Self>> = others;
        let others = others?;
        // In one command, because each is an Erlang VM that takes longer to start than what it asks for.
        let name = first.name();
        let join = format!("ok = rabbit:stop(), ok = rabbit_mnesia:join_cluster('{name}', disc), ok = rabbit:start().");
        for node in &others {
            node.ctl(&["eval", &join])?;
        }
        Ok(std::iter::once(first).chain(others).collect())
    }

    fn make(plugins: &[&str], lines: &str, beside: Option<&Self>) -> Result<Self> {
        let name = format!("trunkline-rabbit-{}-{}", std::process::id(), free_port()?);
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let [port, distribution] = [free_port()?, free_port()?];
        // Members of a cluster find each other by the same port mapper, and trust who has the same cookie.
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
        let node = Self { environment: environment(&dir, port, distribution, mapper), dir, port, mapper };
        node.launch()?;
        Ok(node)
    }

    /// How to reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// What other nodes call it.
    fn name(&self) -> String {
        node_name(self.port)
    }

    /// The process of the node.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.dir.join("beam.pid")).ok()?.trim().parse().ok()
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        self.signal("KILL")
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> Result<()> {
        self.launch()
    }

    /// `rabbitmqctl` against this node; gives what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said, or when the node does not answer.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("timeout")
            .args(["--kill-after=5", CTL_WITHIN])
            .arg(Path::new(BIN).join("rabbitmqctl"))
            .arg("-q")
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .output()?;
        if !output.status.success() {
            let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
            bail!("rabbitmqctl {arguments:?} ({status}): {said}\n{}", self.log());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn launch(&self) -> Result<()> {
        let log = std::fs::File::create(self.dir.join("out"))?;
        let mut child = Command::new("setsid")
            .arg(server())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setsid cannot be run")?;
        let deadline = Instant::now() + START_WITHIN;
        // The AMQP port opens last; asking rabbitmqctl would cost an Erlang VM each time.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the node died ({status}):\n{}", self.log());
            }
            if Instant::now() > deadline {
                let _dead = child.kill();
                bail!("the node did not start within {START_WITHIN:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // The node deletes its own pid file early in a stop: keep a copy.
        std::fs::copy(self.dir.join("pid"), self.dir.join("beam.pid"))?;
        self.watch()?;
        // Reaped when it ends; nobody else waits for the launching shell.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// A small shell that outlives us and ends the node when we are gone without having ended it.
    fn watch(&self) -> Result<()> {
        let pid = self.pid().context("the node has no pid")?;
        let script = format!(
            "while kill -0 {ours} 2>/dev/null && kill -0 {pid} 2>/dev/null; do sleep 1; done; \
             if ! kill -0 {ours} 2>/dev/null; then kill -9 {pid} 2>/dev/null; epmd -kill >/dev/null 2>&1; rm -rf '{dir}'; fi",
            ours = std::process::id(),
            dir = self.dir.display(),
        );
        let mut watchdog = Command::new("setsid")
            .args(["sh", "-c", &script])
            .envs(self.environment.iter().cloned())
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
        // Other threads of a killed process may hold its listener for a moment.
        while is_alive(pid) || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            if Instant::now() > deadline {
                bail!("the node (process {pid}) did not end within {STOP_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _absent = std::fs::remove_file(self.dir.join("beam.pid"));
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended = self.kill();
        let mapper = Command::new("epmd").arg("-kill").envs(self.environment.iter().cloned()).output();
        drop(mapper);
        let _absent = std::fs::remove_dir_all(&self.dir);
    }
}

/// A zombie is as good as gone.
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
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.to_owned()),
        ("RABBITMQ_CTL_ERL_ARGS", format!("+S 1:1 {loopback}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A port of loopback that nobody listens on now, and that this process gives to nobody else: a node takes it seconds
/// later only. The system gives those of [`PORTS`] to nobody who asks for any.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes begin at places of their own.
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
