//! Exchanges, queues and bindings on the broker.

mod commands;
mod declare;
mod declarer;
mod look;
mod operator;
mod part;
mod stage;

pub(crate) use commands::CommandWriter;
pub(crate) use declare::{DeclarationPlace, declare, declare_expiring_queue, declare_queue};
pub(crate) use declarer::{Declarer, to_wire_kind};
pub(crate) use look::{QueueAnswer, look};
pub use operator::OperatorCommands;
pub(crate) use operator::policies;
pub(crate) use part::{bind, is_about_queue, unbind};
