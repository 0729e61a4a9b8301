//! Flags, logging, exit code.

mod cli;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use trunkline::{admin, config, daemon, scaffold, telemetry};

use cli::{Cli, Command, LogFormat, Paths, exit};

/// How long tasks get to end once everything is drained; only what blocks a thread needs any of it.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);

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
    start_logging(arguments.log_format);
    for warning in &loaded.warnings {
        tracing::warn!(code = warning.code, "{}", warning.message);
    }
    let exposition = match telemetry::install() {
        Ok(exposition) => exposition,
        Err(error) => return failed(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let start =
        daemon::Start { sources: arguments.paths.sources(), config: loaded.config, exposition, grace: arguments.grace };
    let ended = runtime.block_on(daemon::run(start));
    if matches!(ended, Ok(daemon::End::Drained)) {
        // The last of those who share the store goes with its task, and closes the file.
        runtime.shutdown_timeout(TASKS_END_WITHIN);
    } else {
        // What still runs is of no use: a hard stop does not wait for a compiler or a guest.
        runtime.shutdown_background();
    }
    match ended {
        Ok(daemon::End::Drained) => exit::OK,
        Ok(daemon::End::Overdue | daemon::End::Hard) => exit::FAILED,
        Err(error) => failed(&error),
    }
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
        Err(code) => return code,
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
        Err(code) => return code,
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
fn runtime() -> Result<tokio::runtime::Runtime, u8> {
    daemon::room_for_threads().map_err(|error| failed(&error))?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    eprintln!("error: {error:#}");
    exit::FAILED
}

fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOG_LEVEL")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let fit = tracing_subscriber::filter::filter_fn(|line| daemon::is_fit_to_log(line.target(), *line.level()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A closed stderr (a collector that restarts, `| head -1`) loses lines and never ends the daemon.
    let builder = builder.log_internal_errors(false);
    let as_text = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    if as_text {
        builder.with_ansi(std::io::stderr().is_terminal()).finish().with(fit).init();
    } else {
        builder.json().flatten_event(true).finish().with(fit).init();
    }
}
