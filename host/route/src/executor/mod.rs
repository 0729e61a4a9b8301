//! Carries out the decisions of the core, and feeds the results back into the core.

mod entries;
mod hand_out;
mod leadership;
mod list_queue;
mod ports;
mod publish;
mod reports;
mod run;
mod settlement;
mod state;
mod tasks;
mod work;

pub(crate) use ports::CallResult;
#[cfg(test)]
pub(crate) use ports::{
    Completion, DeliveryGroup, EntryCompletion, EntryRequest, ExecutorInput, FailedCommit, Ports, RouteReport,
    WorkRequest,
};
#[cfg(test)]
pub(crate) use state::Executor;
