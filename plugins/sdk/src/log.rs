//! Lines of the plugin's log (`wasi:logging`), with the event's id added by the host.

/// Of use to who develops the plugin.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Something worth knowing happened.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something is odd, and handled.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something is wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// See [`debug`].
    Debug,
    /// See [`info`].
    Info,
    /// See [`warn`].
    Warn,
    /// See [`error`].
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
