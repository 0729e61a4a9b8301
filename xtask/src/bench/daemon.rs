//! The daemon of the benchmark: its program in the release profile, its components, and a running daemon.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::{progress, root};

use super::components;
use super::place::TemporaryFolder;
use super::program::MeasuredProgram;

/// The variable that names a program to measure instead of the one that the command builds.
pub(crate) const DAEMON_VARIABLE: &str = "TRUNKLINE_BENCH_DAEMON";
/// The configuration in the folder of a daemon.
const ROUTES_FILE: &str = "routes.toml";
/// Limit for the start of the daemon.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Time between two looks at the log.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The profile of the measured daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DaemonProfile {
    /// The profile of the published figures.
    Release,
    /// The profile of the tests. CI has this build already, and a release build would take longer than the whole quick run.
    Dev,
}

/// The program of the daemon, and the folder of the components.
#[derive(Debug, Clone)]
pub(crate) struct DaemonProgram {
    pub(crate) file: PathBuf,
    pub(crate) plugins: PathBuf,
}

impl DaemonProgram {
    /// The program of [`DAEMON_VARIABLE`] or a build of the daemon, and the component `echo`.
    pub(crate) fn build(profile: DaemonProfile) -> Result<Self> {
        let plugins = components::build()?;
        if let Some(file) = std::env::var_os(DAEMON_VARIABLE).filter(|file| !file.is_empty()) {
            let file = PathBuf::from(file);
            println!("the daemon is {}, not a new build", file.display());
            return Ok(Self { file: file.canonicalize().with_context(|| file.display().to_string())?, plugins });
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let file = match profile {
            DaemonProfile::Release => {
                let mut cargo = xtask::cargo();
                let built = progress::run(cargo.args(["build", "--release", "--bin", "trunkline"]), "the daemon")?;
                if !built.success() {
                    bail!("the release build of the daemon failed ({built})");
                }
                target.join("release/trunkline")
            }
            DaemonProfile::Dev => {
                xtask::build(&["--bin", "trunkline"])?;
                target.join("debug/trunkline")
            }
        };
        Ok(Self { file, plugins })
    }

    /// Starts a daemon with a configuration; the folder of the components is added.
    pub(crate) fn start(&self, broker: &str, routes: &str) -> Result<BenchDaemon> {
        let folder = TemporaryFolder::new()?;
        let state = folder.path().join("state");
        BenchDaemon::start(self, broker, routes, folder, &state)
    }

    /// Starts a daemon with a state directory that other daemons used before.
    pub(crate) fn start_again(&self, broker: &str, routes: &str, state: &Path) -> Result<BenchDaemon> {
        BenchDaemon::start(self, broker, routes, TemporaryFolder::new()?, state)
    }

    /// The text of a configuration file with the folder of the components.
    fn file_text(&self, routes: &str) -> String {
        format!("plugin-dir = {:?}\n{routes}", self.plugins.display().to_string())
    }
}

/// A running daemon.
pub(crate) struct BenchDaemon {
    pub(crate) program: MeasuredProgram,
    daemon_program: DaemonProgram,
    address: String,
}

impl BenchDaemon {
    fn start(
        program: &DaemonProgram,
        broker: &str,
        routes: &str,
        folder: TemporaryFolder,
        state: &Path,
    ) -> Result<Self> {
        let file = folder.path().join(ROUTES_FILE);
        std::fs::write(&file, program.file_text(routes))?;
        let mut command = Command::new(&program.file);
        command.args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--broker", broker, "--config"]);
        command.arg(&file).arg("--state").arg(state).current_dir(folder.path());
        for name in ["LOG_LEVEL", "RABBITMQ_URL", "WORKER_POOL_SIZE", "WORKER_PREFETCH_COUNT"] {
            command.env_remove(name);
        }
        let daemon_program = program.clone();
        let program = MeasuredProgram::start("trunkline", &mut command, folder)?;
        let mut daemon = Self { program, daemon_program, address: String::new() };
        let listens = daemon.logged("the daemon listens for HTTP requests")?;
        daemon.address = listens["address"].as_str().context("no address")?.to_owned();
        daemon.logged("the daemon started")?;
        Ok(daemon)
    }

    /// The process without its address.
    pub(crate) fn into_program(self) -> MeasuredProgram {
        self.program
    }

    /// The address of the HTTP listener.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Replaces the configuration. The daemon watches the file and reloads.
    pub(crate) fn change(&self, routes: &str) -> Result<()> {
        let file = self.program.folder().join(ROUTES_FILE);
        let draft = file.with_extension("tmp");
        std::fs::write(&draft, self.daemon_program.file_text(routes))?;
        Ok(std::fs::rename(draft, file)?)
    }

    /// Stops the daemon in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        let _sent = Command::new("kill").arg(self.program.pid().to_string()).status()?;
        self.program.wait()
    }

    /// Waits for a line of the log and gives its fields.
    pub(crate) fn logged(&mut self, message: &str) -> Result<Value> {
        self.logged_times(message, 1)
    }

    /// Waits until the log has a line several times, and gives the fields of the last one.
    pub(crate) fn logged_times(&mut self, message: &str, times: usize) -> Result<Value> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let output = self.program.output();
            let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.filter(|line| line["message"] == message).nth(times - 1) {
                return Ok(line);
            }
            self.program.check()?;
            if Instant::now() > deadline {
                bail!("no line `{message}` within {START_WITHIN:?}:\n{}", self.program.last_lines());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
