//! `trunkline run`

use std::io::Write;
use std::time::Duration;

use clap::Args;
use trunkline::daemon;
use trunkline_config as config;
use trunkline_telemetry as telemetry;

use super::logging::{self, LogFormat};
use super::paths::Paths;
use super::{exit, runtime};

/// Time for tasks to end after the drain. Only tasks that block a thread need any.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);
/// Time to write the last log lines when the daemon ends.
const LOG_WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// The log is given up when no byte could be written for this time.
const LOG_STUCK_AFTER: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// The longest time to finish the events in progress after SIGTERM.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// The format of log lines on stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
}

/// Runs the daemon until a signal ends it.
pub(super) fn run(arguments: &Run) -> u8 {
    let loaded = match arguments.paths.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = daemon::room_for_threads() {
        return exit::failed(&error);
    }
    let mut log = match logging::start(arguments.log_format, &loaded.config.log_filter) {
        Ok(log) => log,
        Err(error) => return exit::failed(&format!("the daemon cannot write its log to stderr: {error}")),
    };
    for warning in &loaded.warnings {
        tracing::warn!(code = warning.code, "{}", warning.message);
    }
    let ended = run_daemon(arguments, loaded.config);
    if let Err(error) = &ended {
        // `eprintln!` would wait for a reader of stderr.
        let _dropped_and_counted = log.write_all(format!("error: {error:#}\n").as_bytes());
    }
    let is_hard = matches!(ended, Ok(daemon::RunOutcome::Hard));
    log.finish(LOG_WRITTEN_WITHIN, if is_hard { LOG_STUCK_AFTER / 10 } else { LOG_STUCK_AFTER });
    match ended {
        Ok(daemon::RunOutcome::Drained) => exit::OK,
        Ok(daemon::RunOutcome::Overdue | daemon::RunOutcome::Hard) | Err(_) => exit::FAILED,
    }
}

fn run_daemon(arguments: &Run, config: config::Config) -> anyhow::Result<daemon::RunOutcome> {
    let exposition = telemetry::install()?;
    let runtime = runtime::start()?;
    // The directory stays taken until the process ends, because the last task may outlive the daemon for a moment.
    let _state_dir = daemon::take_state_dir(&config)?;
    let settings =
        daemon::RunSettings { sources: arguments.paths.sources(), config, exposition, grace: arguments.grace };
    let ended = runtime.block_on(daemon::run(settings));
    if matches!(ended, Ok(daemon::RunOutcome::Drained)) {
        // The last task that shares the store ends here, and closes the file.
        runtime.shutdown_timeout(TASKS_END_WITHIN);
    } else {
        // A hard stop waits for no compiler and no guest.
        runtime.shutdown_background();
    }
    ended
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(span).map_err(|error| error.to_string())
}
