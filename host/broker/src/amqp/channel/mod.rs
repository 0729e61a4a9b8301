//! The parts that every channel shares: closing, refusals, and the conversion of messages.

mod convert;
mod lifecycle;
mod refusal;

pub(crate) use convert::{
    exchange_name, from_wire, headers_to_table, routing_key_of, short_string, to_field_value, to_wire_properties,
};
pub(crate) use lifecycle::{close, release};
pub(crate) use refusal::{closes_only_its_channel, is_refusal, queue_error, refusal_text, says_missing, with_remedy};
