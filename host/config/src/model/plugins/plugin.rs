//! A plugin: its file, its settings, its limits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::plugins::allow::Allow;
use crate::model::plugins::lock::LockedPlugin;
use crate::model::secret::Secret;

/// `[plugins.NAME]`, or the defaults for a plugin without a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// The component's file. Absolute.
    pub file: PathBuf,
    /// The SHA-256 that the file needs, in lower-case hexadecimal.
    pub digest: Option<String>,
    /// Values that the plugin reads through `wasi:config/store`.
    pub config: BTreeMap<String, String>,
    /// Secrets that the plugin reads in the same way, or the reasons why they cannot be read.
    pub secrets: BTreeMap<String, Result<Secret, String>>,
    /// The grants.
    pub allow: Allow,
    /// Public keys of minisign, one of which must have signed the file. Without keys no signature is needed.
    pub signers: Vec<String>,
    /// The entry of `plugins.lock`, or the reason why the plugin may not run; `None` without a lock.
    pub locked: Option<Result<LockedPlugin, String>>,
    /// The limits of a call.
    pub limits: Limits,
}

impl Plugin {
    /// A plugin with default settings.
    #[must_use]
    pub fn of(file: PathBuf) -> Self {
        Self {
            file,
            digest: None,
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            allow: Allow::default(),
            signers: Vec::new(),
            locked: None,
            limits: Limits::default(),
        }
    }
}

/// The limits of one call of a plugin. Every limit has a value, so that no call runs without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the instance together, in bytes.
    pub memory_max_bytes: u64,
    /// Wall-clock time of the whole call, with its host calls.
    pub timeout: Duration,
    /// Emissions per event.
    pub emissions_max: u32,
    /// Data and strings of all emissions together, in bytes.
    pub output_max_bytes: u64,
    /// Log text per event, in bytes.
    pub log_max_bytes: u64,
    /// Body of an HTTP request of the plugin and of its response, in bytes.
    pub http_body_max_bytes: u64,
}

impl Limits {
    /// The limits of a plugin that names none.
    pub const DEFAULT: Self = Self {
        memory_max_bytes: 64 * 1024 * 1024,
        timeout: Duration::from_secs(1),
        emissions_max: 1000,
        output_max_bytes: 8 * 1024 * 1024,
        log_max_bytes: 64 * 1024,
        http_body_max_bytes: 1024 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
