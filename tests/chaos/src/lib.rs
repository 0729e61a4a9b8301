//! Runs the real daemon under faults. A seed gives the faults, a producer publishes events, sinks take the outputs, and
//! a checker tells whether a confirmed event was lost. Started by `cargo xtask chaos`.

pub mod amqp;
pub mod checker;
pub mod daemon;
pub mod embedded;
pub mod faults;
pub mod finish;
pub mod hostile;
pub mod http;
pub mod ledger;
pub mod monitor;
pub mod plan;
pub mod proxy;
pub mod report;
pub mod run;
pub mod schedule;
pub mod side;
pub mod source;
pub mod strace;
pub mod usage;
pub mod world;
