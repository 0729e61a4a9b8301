//! Lines of the plugin's log (`wasi:logging`). The host adds the plugin's name and the event's id to each line.

/// Writes a line for the developer of the plugin.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Writes a line about normal operation.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Writes a line about a problem that the plugin handled.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Writes a line about an error.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Level of [`debug`].
    Debug,
    /// Level of [`info`].
    Info,
    /// Level of [`warn`].
    Warn,
    /// Level of [`error`].
    Error,
}

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    use crate::bindings::wasi::logging::logging;
    let level = match level {
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, "", message);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    crate::testing::record_log(level, message);
}
