//! The interfaces between the daemon and a component, one module for each version.

pub(crate) mod descriptor;
pub(crate) mod imports;
pub(crate) mod interface;
mod kv;
pub(crate) mod linked;
mod messaging;
mod v0_1;
