//! Errors of loading a plugin.

use std::path::PathBuf;

use super::compile::error::CompileError;

/// Longest component in bytes that is read. C takes some 10 KiB, Rust 100 KiB, JavaScript 12 MiB, Python 18 MiB.
pub(crate) const COMPONENT_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Reason why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not exist or cannot be read.
    #[error("the file {} cannot be read: {reason}", file.display())]
    Read {
        /// The plugin's file.
        file: PathBuf,
        /// Error text of the system.
        reason: String,
    },
    /// The file is longer than 32 MiB.
    #[error("the file {} has {bytes} bytes; the limit of a component is {COMPONENT_MAX_BYTES} bytes", file.display())]
    TooLarge {
        /// The plugin's file.
        file: PathBuf,
        /// Length of the file.
        bytes: u64,
    },
    /// The file is not a component.
    #[error("the file {} is not a component: {what}", file.display())]
    NotAComponent {
        /// The plugin's file.
        file: PathBuf,
        /// Kind of the file, or the compiler's text.
        what: String,
    },
    /// The file has another digest than the configured one.
    #[error(
        "the file {} has the sha-256 digest {found}, but `digest` in [plugins.NAME] is {expected}; if the new file is the \
         right one, change `digest`",
        file.display()
    )]
    Digest {
        /// The plugin's file.
        file: PathBuf,
        /// Digest in routes.toml.
        expected: String,
        /// Digest of the file.
        found: String,
    },
    /// The file does not match `plugins.lock`.
    #[error("{0}")]
    Lock(String),
    /// The file has no valid signature of a key in `require-signature`.
    #[error("the file {} {problem}", file.display())]
    Signature {
        /// The plugin's file.
        file: PathBuf,
        /// The problem, as the end of a sentence about the file.
        problem: String,
    },
    /// A secret cannot be read.
    #[error("the secret {name} cannot be read: {reason}")]
    Secret {
        /// Name of the secret.
        name: String,
        /// The problem.
        reason: String,
    },
    /// The plugin is granted state, and the store cannot be opened.
    #[error("`allow.kv` cannot be granted: {0}")]
    State(String),
    /// The plugin is granted an https origin, and the system has no trusted certificates.
    #[error("`allow.http` needs trusted certificates: {0}")]
    Tls(String),
    /// The compiler reached a limit or failed.
    #[error("the file {} cannot be compiled: {why}", file.display())]
    Compile {
        /// The plugin's file.
        file: PathBuf,
        /// The limit or the failure.
        #[source]
        why: CompileError,
    },
    /// The component has no handler.
    #[error("the component exports {exports}, but a plugin must export {handler}")]
    World {
        /// Names of the component's exports.
        exports: String,
        /// Name of the export that makes a component a plugin.
        handler: &'static str,
    },
    /// The component has the handlers of two interfaces.
    #[error("the component exports both {one} and {other}, but a plugin must export one handler")]
    Ambiguous {
        /// Name of the first handler.
        one: &'static str,
        /// Name of the second handler.
        other: &'static str,
    },
    /// The component imports interfaces that are not granted.
    #[error("imports that are not granted: {0}")]
    Imports(String),
    /// The engine refuses to link the component, although its imports and exports have the right names.
    #[error("the component does not match the interfaces that the component names: {0}")]
    Link(String),
    /// `describe` failed, ran too long, or returned too much.
    #[error("the plugin's function `describe` failed: {0}")]
    Describe(String),
    /// The code cache cannot be used.
    #[error("the code cache {} cannot be trusted: {reason}", dir.display())]
    Cache {
        /// The cache folder.
        dir: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The engine does not start on this machine.
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(String),
}
