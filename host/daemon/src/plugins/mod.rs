//! Checking and locking the plugins of a configuration, without a broker.

mod check;
mod engine;
mod lock;

pub use check::check_plugins;
pub(crate) use engine::start_engine;
pub use lock::lock_plugins;
pub use trunkline_plugin_host::{COMPILE_VERB, CompileMode, compile_for_parent};
