//! `[plugins.NAME]` and `plugins.lock`.

pub(crate) mod grants;
pub(crate) mod lock;
pub(crate) mod plugin;
