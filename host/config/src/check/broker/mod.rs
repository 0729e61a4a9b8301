//! `[broker]`.

pub(crate) mod connection;
mod management;
mod tls;
