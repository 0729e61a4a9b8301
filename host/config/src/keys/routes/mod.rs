//! Keys of routes.

pub(crate) mod archive;
pub(crate) mod flow;
pub(crate) mod rollout;
pub(crate) mod route;
