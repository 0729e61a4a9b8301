//! The log of the daemon: its filter, its format, and the writer that never waits for a reader.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use trunkline::daemon;
use trunkline_config::LogFilter;
use trunkline_telemetry::LogWriter;

/// Time to write the line of a panic, which may be the last line of the process.
const PANIC_WRITTEN_WITHIN: Duration = Duration::from_millis(200);

/// The format of log lines.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Starts the log. The caller flushes the writer before the process ends.
///
/// # Errors
/// When the system gives no thread or no descriptor.
pub(crate) fn start(format: LogFormat, filter: &LogFilter) -> io::Result<LogWriter> {
    let log = LogWriter::stderr()?;
    let panics = log.clone();
    // The default hook would wait for a reader of stderr, while the thread holds its locks.
    std::panic::set_hook(Box::new(move |panic| report(&mut panics.clone(), panic)));
    let filter = env_filter(filter.directives())?;
    let fit = tracing_subscriber::filter::filter_fn(|line| daemon::is_fit_to_log(line.target(), *line.level()));
    let writer = log.clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    // The subscriber would print its own errors to stderr.
    let builder = builder.log_internal_errors(false);
    let as_text = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    if as_text {
        builder.with_ansi(io::stderr().is_terminal()).finish().with(fit).init();
    } else {
        builder.json().flatten_event(true).finish().with(fit).init();
    }
    Ok(log)
}

/// The filter with these directives. The lines of the AMQP client are off unless a directive names their target.
fn env_filter(directives: &str) -> io::Result<EnvFilter> {
    EnvFilter::try_new(format!("{},{directives}", daemon::CLIENT_LOG_DIRECTIVES)).map_err(io::Error::other)
}

/// Writes the text of Rust's default hook.
fn report(log: &mut LogWriter, panic: &PanicHookInfo<'_>) {
    let current = std::thread::current();
    let mut text = format!("thread '{}' {panic}\n", current.name().unwrap_or("<unnamed>"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("stack backtrace:\n{trace}"));
    }
    let _dropped_and_counted = log.write_all(text.as_bytes());
    log.finish(PANIC_WRITTEN_WITHIN, PANIC_WRITTEN_WITHIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_client_are_off_unless_a_directive_names_them() {
        let shown = |directives: &str| env_filter(directives).expect("directives").to_string();
        let quiet = shown(LogFilter::default().directives());
        assert!(quiet.contains("lapin=off") && quiet.contains("info"), "{quiet}");
        let loud = shown("info,lapin=debug");
        assert!(loud.contains("lapin=debug") && !loud.contains("lapin=off"), "{loud}");
    }
}
