//! Verbs that ask a running daemon over its HTTP API.

mod api;
pub(super) mod replay;
pub(super) mod rollout;
