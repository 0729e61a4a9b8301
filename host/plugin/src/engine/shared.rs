//! The engine of the process, with its linker, its code cache, and the clock that interrupts guests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use super::services::Services;
use super::settings;
use crate::abi::imports;
use crate::call::background::Background;
use crate::call::call_data::CallData;
use crate::load::cache::Cache;
use crate::load::compile::compiler::Compiler;
use crate::load::error::Error;
use trunkline_telemetry::wait;

/// Time after which a running guest gives its thread back. An endless loop delays other events by no more than this.
const TICK: Duration = Duration::from_millis(10);

/// The WebAssembly engine of the process, with its linker, code cache and instance permits. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Arc<Linker<CallData>>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) compiler: Arc<Compiler>,
    /// One permit for each instance that may live.
    pub(crate) instances: Arc<Semaphore>,
    pub(crate) services: Arc<Services>,
    pub(crate) background: Arc<Background>,
}

impl Engine {
    /// Starts the engine and its ticker thread, which ends when the last clone is dropped. `cache_dir` is the folder of
    /// compiled code, made if it does not exist. `compiler` compiles components that the folder does not have.
    ///
    /// # Errors
    /// When the machine lacks a feature that the engine needs, or the cache folder cannot be trusted.
    pub fn new(cache_dir: &Path, compiler: Compiler) -> Result<Self, Error> {
        let engine =
            wasmtime::Engine::new(&settings::engine_config()).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let mut linker = Linker::new(&engine);
        imports::link_for_every_plugin(&mut linker).map_err(|error| Error::Engine(format!("{error:#}")))?;
        start_ticker(&engine)?;
        let instances = usize::try_from(settings::INSTANCES_MAX).unwrap_or(usize::MAX);
        Ok(Self {
            cache: Arc::new(Cache::open(cache_dir, &engine)?),
            compiler: Arc::new(compiler),
            engine,
            linker: Arc::new(linker),
            instances: Arc::new(Semaphore::new(instances)),
            services: Arc::default(),
            background: Arc::new(Background::start()?),
        })
    }

    /// Keeps the state of plugins in `dir`. An engine without a state folder loads and checks plugins, and refuses their
    /// calls for state.
    #[must_use]
    pub fn keeping_state(self, dir: &Path) -> Self {
        Self { services: Arc::new(Services::new(Some(dir.to_owned()))), ..self }
    }
}

/// Starts the clock on an OS thread, because a busy runtime must not stop it. The thread holds the engine weakly and ends
/// with it.
fn start_ticker(engine: &wasmtime::Engine) -> Result<(), Error> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("trunkline-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                wait::block(TICK);
            }
        })
        .map(drop)
        .map_err(|error| Error::Engine(format!("the thread that interrupts plugins cannot be started: {error}")))
}
