//! The checked configuration as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::broker::connection::BrokerChoice;
use crate::model::broker::topology::Topology;
use crate::model::http::event_type::EventType;
use crate::model::http::hook::Hook;
use crate::model::http::listener::Http;
use crate::model::log_filter::LogFilter;
use crate::model::plugins::plugin::Plugin;
use crate::model::routes::route::Route;
use trunkline_event::{ExchangeName, PluginName, RouteName};

/// The checked configuration from routes.toml, the environment and the flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The routes file.
    pub file: PathBuf,
    /// The routes file, included files, directories of included files, schemas and files of secrets. Absolute.
    pub files: Vec<PathBuf>,
    /// SHA-256 of the texts of all files, in lower-case hexadecimal.
    pub digest: String,
    /// The state directory. Absolute.
    pub state_dir: PathBuf,
    /// The state directory by the default of earlier versions, where the default is used.
    pub earlier_state_dir: Option<PathBuf>,
    /// The broker.
    pub broker: BrokerChoice,
    /// The HTTP listener.
    pub http: Http,
    /// The filter of log lines.
    pub log_filter: LogFilter,
    /// The topology of the broker.
    pub topology: Topology,
    /// Every plugin that a route names.
    pub plugins: BTreeMap<PluginName, Plugin>,
    /// The routes.
    pub routes: BTreeMap<RouteName, Route>,
    /// Event types that the HTTP API knows, by type.
    pub event_types: BTreeMap<String, EventType>,
    /// Hooks by name.
    pub hooks: BTreeMap<String, Hook>,
    /// The exchange for published events that name none.
    pub default_exchange: ExchangeName,
}
