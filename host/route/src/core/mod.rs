//! Decisions of a route, without I/O: inputs and the time go in, actions come out.

mod action;
mod circuit;
mod decision;
mod facts;
mod input;
mod job;
mod ordering;
mod rate;
mod settle;
mod state;
mod tenants;

pub(crate) use action::{Action, CircuitState, DeliveryOutcome, PublishPlan};
pub(crate) use decision::{Decision, expired};
pub(crate) use facts::{DeliveryFacts, Rules, Ticket};
pub(crate) use input::{CoreInput, Incomplete};
pub(crate) use state::Core;
