//! Every metric and the log line that goes with it, the conditions of `/health`, the writer of log lines, and all waiting.
//!
//! Each kind of occurrence has one function, which counts the occurrence and logs it. Metric and log line therefore agree.
//! Labels are closed sets or names from routes.toml, never content of messages. Names and buckets follow the conventions
//! of Prometheus: base units last, `_total` on counters. Counters start at 0 when a route is loaded.

#![deny(unsafe_code)]

mod conditions;
mod exposition;
mod line_limit;
mod log;
mod metric_table;
mod occurrence;
mod repeat_limit;
mod scrape_figures;
mod series_owner;
mod trace;
pub mod wait;

pub use conditions::{Condition, RaisedCondition, raised_conditions};
pub use exposition::{Exposition, install, refresh_process};
pub use log::LogWriter;
pub use metric_table::{METRICS, Metric, MetricKind, MetricUnit};
pub use occurrence::*;
pub use repeat_limit::RepeatLimit;
pub use scrape_figures::{QueueFigures, ScrapeFigures};
pub use series_owner::SeriesOwner;
pub use trace::{EmittedTrace, SettledTrace};

#[cfg(test)]
mod tests;
