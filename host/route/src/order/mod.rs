//! Order within a key: the ordering key of an event, and the waiting list of an ordered route.

pub(crate) mod key;
pub(crate) mod list;
