//! Reading and checking the parts of a request: its `Host`, its token or ticket, its query and its body.

pub(crate) mod body;
pub(crate) mod host_policy;
pub(crate) mod json;
pub(crate) mod last_event;
pub(crate) mod measured;
pub(crate) mod query;
pub(crate) mod ticket;
pub(crate) mod token;
