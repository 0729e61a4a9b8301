//! Flags, logging, exit code.

mod cli;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use trunkline::{daemon, scaffold};
use trunkline_config as config;
use trunkline_http as admin;
use trunkline_telemetry as telemetry;

use cli::{Cli, Command, Paths, exit};

/// How long tasks get to end once everything is drained; only what blocks a thread needs any of it.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);
/// What the last log lines get to be read when the daemon ends, as long as somebody reads.
const LOG_WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// Nobody does when nothing could be written for so long.
const LOG_STUCK_AFTER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else is wrong usage (sysexits 64, where clap says 2).
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let printed = error.print();
            return ExitCode::from(if printed.is_ok() { code } else { exit::FAILED });
        }
    };
    ExitCode::from(match cli.command {
        Command::Run(arguments) => run(&arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Rollout(arguments) => cli::rollout::run(&arguments),
        Command::Replay(arguments) => cli::replay::run(&arguments).unwrap_or_else(|error| failed(&*error)),
        Command::Repair(arguments) => match load(&arguments.paths) {
            Ok(loaded) => cli::repair::run(&loaded.config.state_dir),
            Err(code) => code,
        },
        Command::Lock(arguments) => lock(&arguments),
        Command::Explain { code } => explain(&code),
        Command::New(arguments) => new(arguments),
        Command::Wrap { module, out } => wrap(&module, &out),
        Command::Compile(limits) => {
            daemon::compile_for_parent(Duration::from_secs(limits.cpu_s), limits.memory_max_bytes)
        }
    })
}

fn run(arguments: &cli::Run) -> u8 {
    let loaded = match load(&arguments.paths) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = daemon::room_for_threads() {
        return failed(&error);
    }
    let mut log = match cli::logging::start(arguments.log_format) {
        Ok(log) => log,
        Err(error) => return failed(&format!("cannot log to stderr: {error}")),
    };
    for warning in &loaded.warnings {
        tracing::warn!(code = warning.code, "{}", warning.message);
    }
    let ended = run_daemon(arguments, loaded.config);
    if let Err(error) = &ended {
        // Not by `eprintln!`, which would wait for a reader that may not be there.
        let _dropped_and_counted = log.write_all(format!("error: {error:#}\n").as_bytes());
    }
    let is_hard = matches!(ended, Ok(daemon::End::Hard));
    log.finish(LOG_WRITTEN_WITHIN, if is_hard { LOG_STUCK_AFTER / 10 } else { LOG_STUCK_AFTER });
    match ended {
        Ok(daemon::End::Drained) => exit::OK,
        Ok(daemon::End::Overdue | daemon::End::Hard) | Err(_) => exit::FAILED,
    }
}

fn run_daemon(arguments: &cli::Run, config: config::Config) -> anyhow::Result<daemon::End> {
    let exposition = telemetry::install()?;
    let runtime = runtime()?;
    // Until the end of the process, since the last task may outlive the daemon for a moment.
    let _state_dir = daemon::take_state_dir(&config)?;
    let start = daemon::Start { sources: arguments.paths.sources(), config, exposition, grace: arguments.grace };
    let ended = runtime.block_on(daemon::run(start));
    if matches!(ended, Ok(daemon::End::Drained)) {
        // The last of those who share the store goes with its task, and closes the file.
        runtime.shutdown_timeout(TASKS_END_WITHIN);
    } else {
        // What still runs is of no use: a hard stop does not wait for a compiler or a guest.
        runtime.shutdown_background();
    }
    ended
}

fn check(arguments: &cli::Check) -> u8 {
    let loaded = match load(&arguments.paths) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let color = std::io::stderr().is_terminal();
    if !loaded.warnings.is_empty() {
        eprint!("{}", config::render(&loaded.warnings, color));
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let refused = match runtime.block_on(daemon::check_plugins(&loaded.config)) {
        Ok(refused) => refused,
        Err(error) => return failed(&error),
    };
    for (plugin, error) in &refused {
        eprintln!("error: plugin {plugin}: {error}");
    }
    if !refused.is_empty() {
        return exit::FAILED;
    }
    let (routes, plugins) = (loaded.config.routes.len(), loaded.config.plugins.len());
    println!("{}: {routes} routes, {plugins} plugins: good", loaded.config.file.display());
    exit::OK
}

fn lock(arguments: &cli::Lock) -> u8 {
    let loaded = match load(&arguments.paths) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let file = config::Lock::beside(&loaded.config.file);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let (lock, changes) = match runtime.block_on(daemon::lock_plugins(&loaded.config)) {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    for change in &changes {
        println!("{change}");
    }
    if arguments.check {
        if changes.is_empty() {
            return exit::OK;
        }
        eprintln!("{} does not fit; run `trunkline lock`", file.display());
        return exit::FAILED;
    }
    match lock.write(&file) {
        Ok(()) => {
            println!("{}: {} plugins", file.display(), lock.plugins.len());
            exit::OK
        }
        Err(error) => failed(&error),
    }
}

fn explain(code: &str) -> u8 {
    match config::explain(code).or_else(|| admin::explain(code)) {
        Some(text) => {
            println!("{code}: {text}");
            exit::OK
        }
        None => {
            eprintln!("error: there is no code {code:?}; codes look like TL012");
            exit::USAGE
        }
    }
}

fn new(arguments: cli::New) -> u8 {
    let cli::New { name, lang, path, sdk } = arguments;
    let created = match scaffold::create(&scaffold::Request { name, language: lang, path, sdk }) {
        Ok(created) => created,
        Err(error @ (scaffold::Error::Name { .. } | scaffold::Error::Sdk(_))) => {
            eprintln!("error: {error}");
            return exit::USAGE;
        }
        Err(error @ (scaffold::Error::Exists(_) | scaffold::Error::Write { .. })) => return failed(&error),
    };
    println!("{} is there. Next:\n\n    cd {}", created.path.display(), created.path.display());
    for command in &created.next {
        println!("    {command}");
    }
    println!("\nThe component will be {}. How it is run stands in README.md.", created.component);
    exit::OK
}

fn wrap(module: &Path, out: &Path) -> u8 {
    let bytes = match std::fs::read(module) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("error: cannot read {}: {error}", module.display());
            return exit::NO_INPUT;
        }
    };
    let component = match scaffold::wrap(&bytes) {
        Ok(component) => component,
        Err(error) => {
            eprintln!("error: {}: {error}", module.display());
            return exit::DATA;
        }
    };
    match std::fs::write(out, component) {
        Ok(()) => exit::OK,
        Err(error) => failed(&format!("cannot write {}: {error}", out.display())),
    }
}

/// Reads routes.toml, or prints all that is wrong with it.
fn load(paths: &Paths) -> Result<config::Loaded, u8> {
    config::load(&paths.sources()).map_err(|rejected| {
        eprint!("{}", rejected.render(std::io::stderr().is_terminal()));
        if rejected.is_missing() { exit::NO_INPUT } else { exit::CONFIG }
    })
}

/// Where there are no threads, tokio panics rather than answer: so that is found out first.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    daemon::room_for_threads()?;
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    eprintln!("error: {error:#}");
    exit::FAILED
}
