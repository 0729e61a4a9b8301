//! The broker, and what is declared on it.

pub(crate) mod codec;
pub(crate) mod connection;
pub(crate) mod topology;
pub(crate) mod url;
