//! Write Trunkline plugins in Rust.
//!
//! ```
//! use trunkline_plugin::{Emission, Event, Failure, handler};
//!
//! #[handler]
//! fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
//!     let call: trunkline_plugin::json::Value = event.json()?;
//!     if call["outcome"] != "callback_requested" {
//!         return Ok(vec![]);
//!     }
//!     Ok(vec![Emission::json("planning.task.created", &call)?])
//! }
//! ```
//!
//! A plugin is a `cdylib` built for `wasm32-wasip2`. It runs in a fresh instance for every event, so statics never carry
//! anything over. Natively it is an ordinary function, tested with [`testing`].

#[cfg(target_os = "wasi")]
mod arena;
pub mod config;
#[cfg(feature = "kv")]
pub mod document;
mod emission;
mod event;
mod failure;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kv")]
pub mod kv;
pub mod log;
#[cfg(target_os = "wasi")]
mod stdio;
pub mod testing;
pub mod time;

pub use emission::Emission;
pub use event::Event;
pub use failure::Failure;
pub use trunkline_plugin_macros::handler;

/// JSON values, for plugins that look at fields one by one.
pub mod json {
    pub use serde_json::{Map, Value, from_slice, from_value, json, to_vec};
}

/// What a plugin says of itself; filled in by `#[handler(description = "...", takes = [...], emits = [...])]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Name, from the package.
    pub name: &'static str,
    /// Semantic version, from the package.
    pub version: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Event types it handles; empty for any.
    pub takes: &'static [&'static str],
    /// Event types it may emit.
    pub emits: &'static [&'static str],
}

/// For the code that `#[handler]` writes; not part of the interface.
#[doc(hidden)]
pub mod export;

/// Generated from wit/plugin-v0.1.
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/plugin-v0.1",
        world: "rust-plugin",
        pub_export_macro: true,
        // `#[handler]` exports the functions under their own names, and only these.
        export_prefix: "unused ",
        default_bindings_module: "trunkline_plugin::export::bindings",
        generate_all,
    });
}
