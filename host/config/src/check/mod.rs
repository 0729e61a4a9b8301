//! From the raw configuration to the checked one: names are resolved, files are read, sections are compared.

pub(crate) mod broker;
pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod plugins;
pub(crate) mod routes;
pub(crate) mod state_dir;
mod token;
pub(crate) mod topology;
