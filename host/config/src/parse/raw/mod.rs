//! The raw configuration: what each section says, with positions. Types, units and ranges of values are checked; names are
//! not resolved, files are not read, and sections are not compared.

pub(crate) mod archive;
pub(crate) mod broker;
pub(crate) mod config;
pub(crate) mod defaults;
pub(crate) mod exchange;
pub(crate) mod flow;
pub(crate) mod hook;
pub(crate) mod http;
pub(crate) mod plugin;
pub(crate) mod queue;
pub(crate) mod rollout;
pub(crate) mod route;
