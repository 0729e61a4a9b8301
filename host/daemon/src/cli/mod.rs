//! The command line.

mod arguments;
mod check;
mod exit;
mod explain;
mod lock;
mod logging;
mod paths;
mod plugin;
mod remote;
mod repair;
mod run;
mod runtime;

pub(crate) use arguments::execute;

#[cfg(test)]
mod tests;
