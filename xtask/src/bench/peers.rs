//! The peers: programs with other AMQP clients that consume a message, publish the message with a confirm, and acknowledge the
//! message. Their sources are in `benches/peers`. The command builds and installs the peers itself, below `target/bench`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::{languages, progress, root};

use super::place::{TemporaryFolder, kept};
use super::program::MeasuredProgram;

/// The variable that names the folder of a finished build of the peer with lapin.
const PEERS_VARIABLE: &str = "TRUNKLINE_BENCH_PEERS";

/// A program that does the same as a route with the plugin `echo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// lapin alone, which acknowledges and publishes in batches of 64, with a prefetch of 200. This peer is the baseline.
    Lapin,
    /// amqplib of Node.js, with a prefetch of 200.
    Amqplib,
    /// aio-pika of Python, with its usual callback and a prefetch of 100.
    AioPika,
    /// FastStream of Python, with a prefetch of 100.
    FastStream,
}

impl Peer {
    /// The name in tables and in the committed ratios.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lapin => "lapin",
            Self::Amqplib => "amqplib",
            Self::AioPika => "aio-pika",
            Self::FastStream => "FastStream",
        }
    }

    /// Builds or installs the peer.
    pub(crate) fn install(self) -> Result<()> {
        match self {
            Self::Lapin => build(),
            Self::Amqplib => node(),
            Self::AioPika | Self::FastStream => python(),
        }
    }

    /// Starts the peer, which runs without an end.
    pub(crate) fn start(self, url: &str) -> Result<MeasuredProgram> {
        MeasuredProgram::start(self.name(), &mut self.command(url)?, TemporaryFolder::new()?)
    }

    fn command(self, url: &str) -> Result<Command> {
        let sources = root().join("benches/peers");
        let mut command = match self {
            Self::Lapin => lapin(&["echo", "--mode=batch", "--prefetch=200", "--batch=64", "--forever"], url)?,
            Self::Amqplib => {
                let mut node = Command::new("node");
                node.arg(kept("node")?.join("echo.js")).env("PREFETCH", "200");
                node
            }
            Self::AioPika | Self::FastStream => {
                let file = if self == Self::AioPika { "echo_aiopika.py" } else { "echo_faststream.py" };
                let mut python = Command::new(kept("python")?.join("venv/bin/python"));
                python.arg(sources.join("py").join(file)).env("PYTHONDONTWRITEBYTECODE", "1");
                python
            }
        };
        command.env("RMQ_URL", url).env("FOREVER", "1");
        Ok(command)
    }
}

/// A command of the program with lapin, which also makes the queues, fills them and measures latencies.
pub(crate) fn lapin(arguments: &[&str], url: &str) -> Result<Command> {
    let mut command = Command::new(lapin_target()?.join("release/amqp-bench"));
    command.args(arguments).env("RMQ_URL", url).env_remove("RUST_LOG");
    Ok(command)
}

/// Runs a command of the program with lapin and gives its output.
pub(crate) fn run_lapin(arguments: &[&str], url: &str) -> Result<String> {
    let output = lapin(arguments, url)?.output().context("amqp-bench cannot be run")?;
    if !output.status.success() {
        bail!("amqp-bench {arguments:?} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder of a finished build, which [`PEERS_VARIABLE`] names.
fn given_target() -> Option<PathBuf> {
    std::env::var_os(PEERS_VARIABLE).filter(|target| !target.is_empty()).map(PathBuf::from)
}

fn lapin_target() -> Result<PathBuf> {
    given_target().map_or_else(|| kept("rs"), Ok)
}

fn build() -> Result<()> {
    if given_target().is_some() {
        return Ok(());
    }
    let mut cargo = xtask::cargo();
    cargo.current_dir(root().join("benches/peers/rs")).args(["build", "--release", "--locked", "--target-dir"]);
    // The lints of the workspace are not for the peers.
    cargo.arg(lapin_target()?).env_remove("RUSTC_WORKSPACE_WRAPPER");
    let built = progress::run(&mut cargo, "the peer with lapin")?;
    if built.success() { Ok(()) } else { bail!("the peer with lapin cannot be built ({built})") }
}

fn node() -> Result<()> {
    languages::ensure_node()?;
    let (sources, folder) = (root().join("benches/peers/node"), kept("node")?);
    for file in ["echo.js", "package.json", "package-lock.json"] {
        std::fs::copy(sources.join(file), folder.join(file))?;
    }
    let lock = std::fs::read_to_string(sources.join("package-lock.json"))?;
    once(&folder.join("node_modules/.trunkline"), &lock, || {
        let mut npm = Command::new("npm");
        quietly(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder), "amqplib")
    })
}

fn python() -> Result<()> {
    languages::ensure_python()?;
    let requirements = root().join("benches/peers/py/requirements.txt");
    let venv = kept("python")?.join("venv");
    let text = std::fs::read_to_string(&requirements)?;
    once(&venv.join(".trunkline"), &text, || {
        quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "Python")?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        quietly(&mut pip, "aio-pika and FastStream")
    })
}

/// Runs an installation, except where the stamp says that the same one was done.
fn once(stamp: &Path, text: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::fs::read_to_string(stamp).is_ok_and(|old| old == text) {
        return Ok(());
    }
    install()?;
    Ok(std::fs::write(stamp, text)?)
}

fn quietly(command: &mut Command, subject: &str) -> Result<()> {
    eprintln!("installing {subject} ...");
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let [out, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    bail!("{command:?} failed ({}):\n{out}{errors}", output.status)
}
