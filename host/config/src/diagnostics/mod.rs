//! Errors and warnings about a configuration: codes, collection, rendering.

pub(crate) mod codes;
pub(crate) mod diagnostic;
pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod place;
pub(crate) mod quoted;
pub(crate) mod reference;
mod source;
