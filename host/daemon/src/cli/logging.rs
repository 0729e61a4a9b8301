//! Log lines of the daemon: what is logged, how it looks, and that nobody waits for its reader.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use trunkline::daemon;
use trunkline_telemetry::LogWriter;

use super::LogFormat;

/// A panic may be the last that the process says, so that it waits for its line to be written, but not long.
const PANIC_WRITTEN_WITHIN: Duration = Duration::from_millis(200);

/// Begins to log. The writer has to be flushed before the process ends.
///
/// # Errors
/// When the system gives no thread or no descriptor.
pub(crate) fn start(format: LogFormat) -> io::Result<LogWriter> {
    let log = LogWriter::stderr()?;
    let panics = log.clone();
    // The usual hook would wait for ever where nobody reads stderr, with whatever the thread holds.
    std::panic::set_hook(Box::new(move |panic| report(&mut panics.clone(), panic)));
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOG_LEVEL")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let fit = tracing_subscriber::filter::filter_fn(|line| daemon::is_fit_to_log(line.target(), *line.level()));
    let writer = log.clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    // It would print to stderr itself.
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

/// As Rust's own hook tells it.
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
