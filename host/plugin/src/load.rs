//! From a file to a plugin that can run, in stages that cannot be skipped: `Compiled`, `Linked`, `Ready`. Only `Ready`
//! can be called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use wasmtime::component::Component;

use super::abi::{self, Interface, Mismatch};
use super::cache;
use super::compile;
use super::debug::Debug;
use super::engine::Engine;
use super::expect::Expected;
use super::grants::Grants;
use super::ready::{Parts, Ready};
use trunkline_config as config;
use trunkline_event::PluginName;

/// The largest component that is read: C takes some 10 KiB, Rust 100, JavaScript with its interpreter 12 MiB, Python 18.
const COMPONENT_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Why a plugin cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Over [`COMPONENT_MAX_BYTES`].
    #[error("{} is {bytes} bytes long; a component may have {COMPONENT_MAX_BYTES}", file.display())]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Something else than a component.
    #[error("{} is not a component: {what}", file.display())]
    NotAComponent {
        /// Which.
        file: PathBuf,
        /// What it looks like.
        what: String,
    },
    /// The configured digest is another.
    #[error(
        "{} has the sha-256 digest {found}, not the configured {expected}: what [plugins.NAME] grants belongs to that \
         digest only; if the new file is the right one, change `digest`",
        file.display()
    )]
    Digest {
        /// Which.
        file: PathBuf,
        /// From routes.toml.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// Not what `plugins.lock` says.
    #[error("{0}")]
    Lock(String),
    /// Not signed as `require-signature` wants it.
    #[error("{} {problem}", file.display())]
    Signature {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A secret is not there.
    #[error("the secret {name}: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The plugin keeps state, and the store does not open.
    #[error("`allow.kv`: {0}")]
    State(String),
    /// The plugin may use https, and there is nobody to trust.
    #[error("`allow.http`: no certificates to trust: {0}")]
    Tls(String),
    /// The compiler gave it up.
    #[error("{} is not compiled: {why}", file.display())]
    Compile {
        /// Which.
        file: PathBuf,
        /// At which limit, or how it ended.
        #[source]
        why: compile::Error,
    },
    /// A component that is no plugin.
    #[error("a component of another world: it exports {exports}; a plugin exports {}", Interface::V0_1.handler())]
    World {
        /// What it exports.
        exports: String,
    },
    /// A component with the handlers of two interfaces.
    #[error("it exports both {one} and {other}; a plugin exports one handler")]
    Ambiguous {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// It wants what it does not get.
    #[error("imports that are not granted: {0}")]
    Imports(String),
    /// The linker's word, for what passes the checks above and still does not fit.
    #[error("does not fit its interfaces: {0}")]
    Link(String),
    /// `describe` trapped or ran too long.
    #[error("describe() failed: {0}")]
    Describe(String),
    /// The code cache cannot be used.
    #[error("the code cache {} cannot be trusted: {reason}", dir.display())]
    Cache {
        /// Where.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The engine does not start on this machine.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
}

/// Machine code of a component.
pub struct Compiled {
    component: Component,
    digest: String,
    bytes: u64,
    cached: bool,
}

/// A component whose exports and imports fit.
pub struct Linked {
    pre: abi::Pre,
    digest: String,
    cached: bool,
}

/// A file that may be a plugin, and its code if the cache has it.
struct Found {
    bytes: Vec<u8>,
    digest: String,
    component: Option<Component>,
}

impl Found {
    fn read(engine: &Engine, file: &Path, expected: &Expected) -> Result<Self, Error> {
        let bytes = read_bounded(file)?;
        check_preamble(file, &bytes)?;
        let digest = hex(&Sha256::digest(&bytes));
        expected.check(file, &bytes, &digest)?;
        let component = engine.cache.get(&engine.engine, &digest);
        Ok(Self { bytes, digest, component })
    }
}

/// Off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Engine(format!("loading panicked: {error}")))?
}

impl Compiled {
    /// Reads a file, and compiles it where the engine says, unless its code is in the cache.
    ///
    /// # Errors
    /// When the file is no component, not the expected one, or too much for the compiler.
    pub async fn read(engine: &Engine, file: &Path, expected: Expected) -> Result<Self, Error> {
        let found = {
            let (engine, file) = (engine.clone(), file.to_owned());
            blocking(move || Found::read(&engine, &file, &expected)).await?
        };
        let length = found.bytes.len() as u64;
        if let Some(component) = found.component {
            return Ok(Self { component, digest: found.digest, bytes: length, cached: true });
        }
        let turn = engine.compiler.turn().await;
        // Whoever was before us may have compiled the same: plugins that differ in their configuration share code.
        let (digest, cached) = {
            let engine = engine.clone();
            blocking(move || {
                let component = engine.cache.get(&engine.engine, &found.digest);
                Ok((found.digest, component))
            })
            .await?
        };
        if let Some(component) = cached {
            return Ok(Self { component, digest, bytes: length, cached: true });
        }
        let code = engine.compiler.compile(&engine.engine, found.bytes).await.map_err(|error| match error {
            compile::Error::Refused(what) => Error::NotAComponent { file: file.to_owned(), what },
            why @ (compile::Error::Cpu(_)
            | compile::Error::Clock(_)
            | compile::Error::Memory(_)
            | compile::Error::Code(_)
            | compile::Error::Crashed(_)
            | compile::Error::Start(_)) => Error::Compile { file: file.to_owned(), why },
        })?;
        let compiled = {
            let engine = engine.clone();
            blocking(move || {
                let component =
                    cache::component(&engine.engine, &code).map_err(|error| Error::Link(format!("{error:#}")))?;
                engine.cache.put(&digest, &code);
                Ok(Self { component, digest, bytes: length, cached: false })
            })
            .await
        };
        drop(turn);
        compiled
    }

    /// sha-256 of the file, its length in bytes, and the names of the interfaces that it imports.
    #[must_use]
    pub fn facts(&self, engine: &Engine) -> (&str, u64, Vec<String>) {
        (&self.digest, self.bytes, abi::imports(&self.component, &engine.engine))
    }

    /// Checks exports and imports.
    ///
    /// # Errors
    /// When it is no plugin, or wants more than it is granted.
    pub fn link(self, engine: &Engine, allow: &config::Allow) -> Result<Linked, Error> {
        let interface = abi::interface(&self.component, &engine.engine).map_err(|mismatch| match mismatch {
            Mismatch::None(exports) if exports.is_empty() => Error::World { exports: "nothing".to_owned() },
            Mismatch::None(exports) => Error::World { exports: exports.join(", ") },
            Mismatch::Several(one, other) => Error::Ambiguous { one: one.handler(), other: other.handler() },
        })?;
        let refused = abi::refused_imports(&self.component, &engine.engine, interface, allow);
        if !refused.is_empty() {
            return Err(Error::Imports(refused.join("; ")));
        }
        let link_error = |error: wasmtime::Error| Error::Link(format!("{error:#}"));
        let linker = abi::granted(&engine.linker, allow).map_err(link_error)?;
        let pre = linker.instantiate_pre(&self.component).map_err(link_error)?;
        let pre = abi::Pre::new(interface, pre).map_err(link_error)?;
        Ok(Linked { pre, digest: self.digest, cached: self.cached })
    }
}

impl Linked {
    /// Asks the plugin to describe itself, if it can, and makes it callable.
    ///
    /// # Errors
    /// When `describe` fails.
    pub async fn ready(self, engine: &Engine, name: &PluginName, plugin: &config::Plugin) -> Result<Ready, Error> {
        // Opening a store and reading certificates wait for the disk.
        let grants = {
            let (name, plugin, services) = (name.clone(), plugin.clone(), engine.services.clone());
            let making = tokio::task::spawn_blocking(move || Grants::new(&name, &plugin, &services));
            making.await.map_err(|error| Error::Engine(format!("what is granted cannot be made: {error}")))??
        };
        let mut ready = Ready::new(Parts {
            engine: engine.clone(),
            pre: self.pre,
            limits: plugin.limits,
            grants: Arc::new(grants),
            computes: Arc::default(),
            debug: Arc::new(Debug::new(&plugin.file, &self.digest)),
            name: name.clone(),
            digest: self.digest.into(),
            descriptor: None,
            cached: self.cached,
            took: Duration::ZERO,
        });
        let descriptor = ready.describe().await.map_err(Error::Describe)?;
        ready.change().descriptor = descriptor.map(Arc::new);
        Ok(ready)
    }
}

/// Loads plugins side by side, off the async threads. One that cannot run does not stop the others.
pub async fn load(
    engine: &Engine,
    plugins: &BTreeMap<PluginName, config::Plugin>,
) -> BTreeMap<PluginName, Result<Ready, Error>> {
    let mut tasks = JoinSet::new();
    for (name, plugin) in plugins {
        let (engine, name, plugin) = (engine.clone(), name.clone(), plugin.clone());
        tasks.spawn(async move {
            let result = load_one(&engine, &name, &plugin).await;
            (name, result)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Loads one plugin, off the async threads.
///
/// # Errors
/// Why it cannot run.
pub async fn load_one(engine: &Engine, name: &PluginName, plugin: &config::Plugin) -> Result<Ready, Error> {
    let started = Instant::now();
    let compiled = Compiled::read(engine, &plugin.file, Expected::new(name, plugin)).await?;
    let linked = {
        let (engine, allow) = (engine.clone(), plugin.allow.clone());
        blocking(move || compiled.link(&engine, &allow)).await?
    };
    let mut ready = linked.ready(engine, name, plugin).await?;
    ready.change().took = started.elapsed();
    Ok(ready)
}

/// The digest of a file as it is now, as [`Ready::digest`].
///
/// # Errors
/// When it cannot be read, or is too large.
pub fn digest_of(file: &Path) -> Result<String, Error> {
    Ok(hex(&Sha256::digest(read_bounded(file)?)))
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::Read { file: file.to_owned(), reason: error.to_string() };
    let facts = std::fs::metadata(file).map_err(failed)?;
    if !facts.is_file() {
        return Err(Error::Read { file: file.to_owned(), reason: "it is no file".to_owned() });
    }
    if facts.len() > COMPONENT_MAX_BYTES {
        return Err(Error::TooLarge { file: file.to_owned(), bytes: facts.len() });
    }
    std::fs::read(file).map_err(failed)
}

/// Tells what a file is before the parser complains about its first bytes.
fn check_preamble(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let what = match bytes {
        [] => "the file is empty",
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => "a core module; build it for wasm32-wasip2, or wrap it as a component",
        [0, b'a', b's', b'm', ..] => "WebAssembly of an unknown version, or cut short",
        [0x7f, b'E', b'L', b'F', ..] => "a program for this machine (ELF)",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'(', ..] => "WebAssembly text; assemble it first",
        _ => "it does not begin as WebAssembly does",
    };
    Err(Error::NotAComponent { file: file.to_owned(), what: what.to_owned() })
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
