//! The checked configuration: no name, key or number in it can be wrong.

pub(crate) mod broker;
pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod log_filter;
pub(crate) mod plugins;
pub(crate) mod routes;
pub mod schema;
pub(crate) mod secret;
