//! All of WebAssembly: engine, limits, loading, the interface versions, and the call itself.
//!
//! Promises: a plugin runs in a fresh instance for every event, so nothing it keeps can reach another event or tenant;
//! it gets only what the linker gives it; a call ends within its limits, and whatever the guest does comes out as an
//! [`Outcome`](trunkline_event::Outcome), never as an error of the host. Does not know brokers, routes or messages.

#![deny(unsafe_code)]

mod abi;
mod background;
mod backtrace;
mod cache;
mod compile;
mod debug;
mod descriptor;
mod engine;
mod expect;
mod grants;
mod host;
mod http;
mod invoke;
mod load;
mod ready;
mod redact;
mod slot;
mod stdio;
mod tape;

pub use compile::{COMPILE_VERB, Compiler, Error as CompileError, compile_for_parent};
pub use descriptor::Descriptor;
pub use engine::Engine;
pub use expect::{Expected, signature_file};
pub use invoke::Invocation;
pub use load::{Compiled, Error, Linked, digest_of, load, load_one};
pub use ready::{Parts, Ready};
pub use slot::Slot;
pub use tape::{Outside, Tape};
