//! The command line.

mod api;
pub(crate) mod logging;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod rollout;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trunkline::daemon;
use trunkline::scaffold::Language;
use trunkline_config::Sources;

/// Exit codes, of the sysexits family.
pub(crate) mod exit {
    pub(crate) const OK: u8 = 0;
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const DATA: u8 = 65;
    pub(crate) const NO_INPUT: u8 = 66;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const CONFIG: u8 = 78;
}

/// Runs sandboxed WebAssembly plugins on RabbitMQ messages.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the daemon until SIGTERM; a second signal ends it at once.
    Run(Run),
    /// Check routes.toml and every plugin it names, without a broker.
    Check(Check),
    /// Canaries of a running daemon.
    Rollout(rollout::Rollout),
    /// Publish again what an archive route has kept.
    Replay(Box<replay::Replay>),
    /// Make a new store of what is whole in a damaged one of the embedded broker.
    Repair(repair::Repair),
    /// Write plugins.lock beside routes.toml: which plugin files may run, and what each may do.
    Lock(Lock),
    /// Say more about a diagnostic code.
    Explain {
        /// A code such as TL012.
        code: String,
    },
    /// Make a folder with a plugin that builds, with a test and a README.
    New(New),
    /// Make a plugin of a core module, such as a C compiler leaves.
    Wrap {
        /// The module.
        module: PathBuf,
        /// Where the component goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// What the daemon runs in a child: stdin to stdout.
    #[command(name = daemon::COMPILE_VERB, hide = true)]
    Compile(Compile),
}

#[derive(Args)]
pub(crate) struct Compile {
    /// Processor time that it may take, in seconds.
    #[arg(long)]
    pub(crate) cpu_s: u64,
    /// Memory that it may take, in bytes.
    #[arg(long)]
    pub(crate) memory_max_bytes: u64,
}

#[derive(Args)]
pub(crate) struct New {
    /// The plugin's name: lower-case letters, digits and '-'.
    pub(crate) name: String,
    /// rust, js, python or c.
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    /// The folder to make; ./NAME without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Rust: depend on the SDK in this folder (plugins/sdk of the repository) instead of a copy in the new one.
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// How long to finish what is in work after SIGTERM.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// How log lines look on stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

#[derive(Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Write nothing; exit with 1 when the lock differs.
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) paths: Paths,
}

#[derive(Args)]
pub(crate) struct Paths {
    /// The routes file.
    #[arg(long, default_value = "routes.toml", env = "TRUNKLINE_CONFIG")]
    pub(crate) config: PathBuf,
    /// Broker URL, or "embedded"; over environment and file.
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Address of the HTTP listener; over environment and file.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Directory of the embedded broker, of plugins' state and of compiled code; over file and environment. Without it:
    /// `state-dir` of the routes file, else $STATE_DIRECTORY, else .trunkline beside the routes file.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Listen beyond loopback without a token.
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl Paths {
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: environment(),
            broker_url: self.broker.clone(),
            listen: self.listen.map(|address| address.to_string()),
            state_dir: self.state.clone(),
            insecure: self.insecure,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// Variables that are not UTF-8 cannot be ours.
fn environment() -> std::collections::BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(span).map_err(|error| error.to_string())
}
