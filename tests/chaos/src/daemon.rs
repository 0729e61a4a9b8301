//! The daemon as a process that is killed and started again, always with the same address. Its log goes to a file.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::http::Client;

/// The limit for a start, including the compilation of plugins.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The limit for an orderly end. The daemon's own grace is 30 s.
const END_WITHIN: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(10);

/// The settings of a start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A copy of the binary, which a build does not replace.
    pub binary: PathBuf,
    /// routes.toml.
    pub routes: PathBuf,
    /// Its state directory.
    pub state: PathBuf,
    /// `embedded`, or the URL of the proxy.
    pub broker: String,
    /// The file to which the log is appended.
    pub log: PathBuf,
}

/// The process.
pub struct Daemon {
    settings: Settings,
    address: SocketAddr,
    child: Option<Child>,
    /// The number of starts.
    pub starts: u64,
    /// Ends that the harness did not cause.
    pub unexpected_ends: Vec<String>,
}

impl Daemon {
    /// Chooses an address, without starting the daemon.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(settings: Settings) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, xtask::rabbitmq::free_port()?));
        Ok(Self { settings, address, child: None, starts: 0, unexpected_ends: Vec::new() })
    }

    /// The address of the listener.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, while the daemon runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn start(&mut self) -> Result<()> {
        let Settings { binary, routes, state, broker, log } = &self.settings;
        let child = Command::new(binary)
            .args(["run", "--log-format", "json", "--broker", broker, "--listen", &self.address.to_string()])
            .arg("--config")
            .arg(routes)
            .arg("--state")
            .arg(state)
            .env("LOG_LEVEL", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(append(log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be run", binary.display()))?;
        self.child = Some(child);
        self.starts += 1;
        Ok(())
    }

    /// Waits until the daemon answers, and until it is ready if `ready`.
    ///
    /// # Errors
    /// When the daemon ends instead, or takes too long.
    pub async fn wait(&mut self, ready: bool) -> Result<()> {
        let mut client = Client::new(self.address);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok((status, _)) = client.get("/readyz").await
                && (status == 200 || !ready)
            {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().context("it is not running")?.try_wait()? {
                self.child = None;
                let log = std::fs::read_to_string(&self.settings.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                bail!("the daemon ended while it started ({status}): {last}");
            }
            if Instant::now() > deadline {
                bail!("the daemon was not ready within {READY_WITHIN:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Errors
    /// When the daemon does not run.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the daemon is not running")?;
        signal(pid, name).await
    }

    /// Waits for the end of the daemon; `None` when it still runs.
    ///
    /// # Errors
    /// When the daemon is not running.
    pub async fn ended_within(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("the daemon is not running")?;
        let Ok(status) = tokio::time::timeout(within, child.wait()).await else {
            return Ok(None);
        };
        self.child = None;
        Ok(Some(status?))
    }

    /// Waits for the end of the daemon.
    ///
    /// # Errors
    /// When the daemon does not end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the daemon is not running")?;
        match tokio::time::timeout(END_WITHIN, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_elapsed) => {
                let _killed = child.kill().await;
                bail!("the daemon did not end within {END_WITHIN:?}")
            }
        }
    }

    /// Notes an end that the harness did not cause, and starts the daemon again.
    ///
    /// # Errors
    /// When the daemon cannot be started.
    pub async fn ensure_alive(&mut self) -> Result<()> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?.map(describe),
            None => Some("was not running".to_owned()),
        };
        let Some(how) = ended else {
            return Ok(());
        };
        self.unexpected_ends.push(how);
        self.start()?;
        self.wait(false).await
    }
}

/// Sends a signal to a process, named without `SIG`.
///
/// # Errors
/// When there is no such process.
pub async fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().await?;
    if sent.success() { Ok(()) } else { bail!("process {pid} did not take SIG{name}") }
}

/// Tells whether a process is stopped.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// Describes the end of a process.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

fn append(log: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(log)?)
}

/// The largest resident memory of a process, in bytes.
#[must_use]
pub fn rss_max_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
