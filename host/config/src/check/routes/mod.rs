//! `[routes.NAME]`.

mod archive;
pub(crate) mod cycles;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod schema;
pub(crate) mod settings;
