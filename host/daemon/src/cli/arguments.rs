//! The verbs, and their execution.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use trunkline::plugins::{self, CompileMode};

use super::check::{self, Check};
use super::lock::{self, LockArguments};
use super::plugin::{self, New};
use super::remote::replay::{self, Replay};
use super::remote::rollout::{self, Rollout};
use super::repair::{self, Repair};
use super::run::{self, Run};
use super::{exit, explain};

/// Runs sandboxed WebAssembly plugins on RabbitMQ messages.
#[derive(Parser)]
#[command(version, propagate_version = true, after_long_help = exit::HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the daemon until SIGTERM. A second signal ends the daemon at once.
    Run(Run),
    /// Check routes.toml and every plugin that the file names, without a broker.
    Check(Check),
    /// Show, promote or abort the canaries of a running daemon.
    Rollout(Rollout),
    /// Publish the events of an archive again.
    Replay(Box<Replay>),
    /// Rebuild a damaged embedded store from its readable records.
    Repair(Repair),
    /// Write plugins.lock beside routes.toml. The file lists the plugins that may run, with their digests and grants.
    Lock(LockArguments),
    /// Explain the code of a diagnostic or of an error of the HTTP API.
    Explain {
        /// The code to explain, such as TL012.
        code: String,
    },
    /// Make a folder with a new plugin, its test and its README.
    New(New),
    /// Make a component from a core module, such as the output of a C compiler.
    Wrap {
        /// The file of the core module.
        module: PathBuf,
        /// The file of the component to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Compile a component from stdin to stdout, in a child process of the daemon.
    #[command(name = plugins::COMPILE_VERB, hide = true)]
    Compile(Compile),
}

#[derive(Args)]
struct Compile {
    /// The kind of code and the priority.
    #[arg(long, value_parser = CompileMode::parse)]
    mode: CompileMode,
    /// Processor time that the child may take, in seconds.
    #[arg(long)]
    cpu_s: u64,
    /// Memory that the child may take, in bytes.
    #[arg(long)]
    memory_max_bytes: u64,
}

/// Parses the arguments of the process, and runs the verb.
pub(crate) fn execute() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. Other errors are wrong usage, for which clap has 2 and sysexits has 64.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let printed = error.print();
            return ExitCode::from(if printed.is_ok() { code } else { exit::FAILED });
        }
    };
    ExitCode::from(match cli.command {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Rollout(arguments) => rollout::run(&arguments),
        Verb::Replay(arguments) => replay::run(&arguments).unwrap_or_else(|error| exit::failed(&*error)),
        Verb::Repair(arguments) => repair::run(&arguments),
        Verb::Lock(arguments) => lock::run(&arguments),
        Verb::Explain { code } => explain::run(&code),
        Verb::New(arguments) => plugin::new(arguments),
        Verb::Wrap { module, out } => plugin::wrap(&module, &out),
        Verb::Compile(limits) => {
            plugins::compile_for_parent(limits.mode, Duration::from_secs(limits.cpu_s), limits.memory_max_bytes)
        }
    })
}
