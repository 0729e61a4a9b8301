//! Plugins: files, grants, limits, lock.

pub(crate) mod allow;
pub(crate) mod lock;
pub(crate) mod network;
pub(crate) mod origin;
pub(crate) mod plugin;
pub(crate) mod quota;
