//! Exchanges, queues and bindings on the broker.

mod commands;
mod declare;
mod declarer;
mod operator;

pub(crate) use commands::CommandWriter;
pub(crate) use declare::{
    DeclarationPlace, bind, declare, declare_expiring_queue, declare_queue, is_about_queue, unbind,
};
pub(crate) use declarer::{Declarer, to_wire_kind};
pub use operator::OperatorCommands;
pub(crate) use operator::policies;
