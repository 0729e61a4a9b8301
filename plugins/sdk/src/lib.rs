//! Library for Trunkline plugins in Rust.
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
//! A plugin is a `cdylib` built for `wasm32-wasip2`. Every event gets a fresh instance, so a static never carries a
//! value from one event to the next. Outside WebAssembly the handler is an ordinary function. Test the handler with
//! [`testing`].

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

/// JSON values, for plugins that read single fields.
pub mod json {
    pub use serde_json::{Map, Value, from_slice, from_value, json, to_vec};
}

/// Name, version and event types of a plugin, filled in by
/// `#[handler(description = "...", takes = [...], emits = [...])]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Name of the package.
    pub name: &'static str,
    /// Semantic version of the package.
    pub version: &'static str,
    /// One sentence about the plugin.
    pub description: &'static str,
    /// Event types that the plugin handles; empty for any type.
    pub takes: &'static [&'static str],
    /// Event types that the plugin may emit.
    pub emits: &'static [&'static str],
}

/// Items for the code that `#[handler]` generates. These items are not part of the public interface.
#[doc(hidden)]
pub mod export;

/// Bindings generated from `wit/plugin-v0.1`.
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/plugin-v0.1",
        world: "rust-plugin",
        pub_export_macro: true,
        default_bindings_module: "trunkline_plugin::export::bindings",
        generate_all,
    });
}
