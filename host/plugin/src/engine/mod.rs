//! The WebAssembly engine of the process.

pub(crate) mod services;
pub(crate) mod settings;
pub(crate) mod shared;
