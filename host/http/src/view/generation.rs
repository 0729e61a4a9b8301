//! The running generation and the results of reloads.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The running generation, and the results of the last reloads.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GenerationView {
    /// Number of the generation in this process, counted from 1. The number is 0 while the first generation is loaded.
    pub number: u64,
    /// Time at which the generation was prepared, in RFC 3339.
    #[schema(format = DateTime)]
    pub since: String,
    /// SHA-256 of the texts of all configuration files.
    pub config: String,
    /// Paths of the configuration files, and of the directories with included files.
    pub files: Vec<String>,
    /// State of each plugin. The key of the map is the name of the plugin.
    pub plugins: BTreeMap<String, PluginView>,
    /// Plugin of each route, or `archive` for a route with an archive. The key of the map is the name of the route.
    pub routes: BTreeMap<String, String>,
    /// Result of the last reload. Null before the first reload.
    pub last_reload: Option<ReloadView>,
    /// Result of the last refused reload. Null if no reload was refused.
    pub last_refusal: Option<ReloadView>,
}

/// A plugin of the generation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PluginView {
    /// State of the plugin: `ready`, `orphaned` or `refused`. The file of an orphaned plugin is missing. An orphaned plugin
    /// continues to run from memory.
    pub state: &'static str,
    /// SHA-256 of the loaded file.
    pub digest: Option<String>,
    /// Version from the descriptor of the plugin.
    pub version: Option<String>,
    /// Kind of the machine code that the next call uses: `quick` or `optimised`. A large plugin uses quick code until its
    /// optimised code is ready.
    pub code: Option<&'static str>,
    /// Reason why the plugin does not run.
    pub error: Option<String>,
}

/// The result of a reload.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReloadView {
    /// Time at which the reload ended, in RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// Cause of the reload: `watch`, `signal` or `api`.
    pub by: &'static str,
    /// Result of the reload: `swapped`, `unchanged` or `refused`.
    pub result: &'static str,
    /// Reasons for a refusal. Each reason has a `message`. A reason may also have `code`, `file`, `line`, `column`, `help` and
    /// `plugin`.
    pub errors: Vec<serde_json::Value>,
}

/// The result of a reload that was not refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reloaded {
    /// Result of the reload: `swapped` or `unchanged`.
    pub result: &'static str,
    /// Number of the running generation.
    pub generation: u64,
}
