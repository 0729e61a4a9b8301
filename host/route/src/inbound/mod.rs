//! From a delivery to an event that the core may start.

mod admit;
mod incoming_delivery;
mod item;
mod provenance;
mod receive;

pub(crate) use incoming_delivery::{ExecutorTime, IncomingDelivery};
pub(crate) use item::Item;
pub(crate) use provenance::Provenance;
pub(crate) use receive::{Arrival, Intake, receive};
