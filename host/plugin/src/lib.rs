//! WebAssembly of the daemon: the engine, loading, grants, the interface versions, and the call of a plugin.
//!
//! Every event gets a fresh instance, so nothing that a plugin keeps in memory reaches another event or tenant. A plugin
//! gets only the imports that its linker has. A call ends within its limits. Every failure of a guest is an
//! [`CallOutcome`](trunkline_event::CallOutcome), never an error of the host. The crate knows no broker, no route and no message.

#![deny(unsafe_code)]

mod abi;
mod call;
mod engine;
mod grants;
mod http;
mod load;
mod recording;

pub use abi::descriptor::PluginDescriptor;
pub use call::invoke::Invocation;
pub use engine::shared::Engine;
pub use load::compile::child::compile_for_parent;
pub use load::compile::compiler::Compiler;
pub use load::compile::error::CompileError;
pub use load::compile::mode::{CodeKind, CompileMode};
pub use load::compile::protocol::COMPILE_VERB;
pub use load::compile::report::{CompileReport, CompileStage};
pub use load::compiled::Compiled;
pub use load::current::CurrentPlugin;
pub use load::described::Described;
pub use load::error::Error;
pub use load::file::digest_of;
pub use load::linked::Linked;
pub use load::plugins::{load, load_one};
pub use load::ready::{LoadedPlugin, Ready};
pub use load::requirements::{FileRequirements, signature_file};
pub use recording::answers::HostAnswers;
pub use recording::contents::Recording;
