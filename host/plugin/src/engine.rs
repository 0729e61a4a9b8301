//! One engine a process: how components are compiled, where instances live, and the clock that interrupts them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails};

use super::Error;
use super::abi;
use super::background::Background;
use super::cache::Cache;
use super::compile::Compiler;
use super::grants::Services;
use super::host::Host;
use trunkline_telemetry::wait;

/// How often a running guest gives its thread back, so that a loop delays others by no more than this.
const TICK: Duration = Duration::from_millis(10);
/// Instances that live at a time, over all routes. Address space only: 4 GiB each, memory as it is touched.
const INSTANCES_MAX: u32 = 256;
/// A component built from Rust has a main module, and small ones that tie it to its imports.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 16;
const TABLES_PER_COMPONENT_MAX: u32 = 16;
const MEMORIES_PER_COMPONENT_MAX: u32 = 4;
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// The largest `limits.memory` that can be configured.
const MEMORY_MAX_BYTES: usize = 4 << 30;
/// Bytes of a slot that stay mapped for the next instance. With `PAGEMAP_SCAN` only pages that were written are
/// copied back, so a large figure costs nothing; without it every one of them is.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;
pub(super) const WASM_STACK_MAX_BYTES: usize = 512 << 10;
const HOST_STACK_BYTES: usize = 1 << 20;

/// The process's WebAssembly engine with its linker, code cache and instance slots. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) engine: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) cache: Arc<Cache>,
    pub(super) compiler: Arc<Compiler>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) services: Arc<Services>,
    pub(super) background: Arc<Background>,
}

impl Engine {
    /// Starts the engine and its ticker thread, which ends when the last clone is dropped. `cache_dir` holds compiled
    /// code; it is made if it is missing. `compiler` says where what is not there is compiled.
    ///
    /// # Errors
    /// When the machine lacks something the engine needs, or the cache directory cannot be trusted.
    pub fn new(cache_dir: &Path, compiler: Compiler) -> Result<Self, Error> {
        let engine = wasmtime::Engine::new(&config()).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let mut linker = Linker::new(&engine);
        abi::link_host(&mut linker).map_err(|error| Error::Engine(format!("{error:#}")))?;
        start_ticker(&engine)?;
        let slots = usize::try_from(INSTANCES_MAX).unwrap_or(usize::MAX);
        Ok(Self {
            cache: Arc::new(Cache::open(cache_dir, &engine)?),
            compiler: Arc::new(compiler),
            engine,
            linker: Arc::new(linker),
            slots: Arc::new(Semaphore::new(slots)),
            services: Arc::default(),
            background: Arc::new(Background::start()?),
        })
    }

    /// Keeps the state of plugins in `dir`. Without it they are loaded and checked, but cannot keep any.
    #[must_use]
    pub fn keeping_state(self, dir: &Path) -> Self {
        Self { services: Arc::new(Services::new(Some(dir.to_owned()))), ..self }
    }
}

fn config() -> Config {
    let mut config = config_of_compiler();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// What decides on machine code: the same for whoever compiles and for whoever runs it. Without the pool, which
/// reserves terabytes of addresses that a compiler with a limit does not get.
pub(super) fn config_of_compiler() -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // Without the bookkeeping of component-model async a call is cheaper, and the interface does not use it.
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_MAX_BYTES)
        .async_stack_size(HOST_STACK_BYTES)
        .memory_init_cow(true)
        // Frames are resolved by `backtrace`, and no environment variable may change what a dead letter says.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_PER_COMPONENT_MAX)
        .total_memories(INSTANCES_MAX * 2)
        .total_tables(INSTANCES_MAX * 4)
        .total_stacks(INSTANCES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_MAX_BYTES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// An OS thread and not a task: a busy runtime must not stop the clock. It holds the engine weakly and ends with it.
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
        .map_err(|error| Error::Engine(format!("cannot start the epoch thread: {error}")))
}
