//! Settings of the engine: how components are compiled, and the pool of instances.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::load::compile::mode::CodeKind;

/// Instances that live at a time, over all routes. Each reserves 4 GiB of addresses; memory is used as it is touched.
pub(crate) const INSTANCES_MAX: u32 = 256;
/// Core modules of a component: the main module, and small modules that connect it with its imports.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 16;
const TABLES_PER_COMPONENT_MAX: u32 = 16;
const MEMORIES_PER_COMPONENT_MAX: u32 = 4;
const TABLE_ELEMENTS_MAX: usize = 10_000;
/// The largest `limits.memory` that can be configured.
const MEMORY_MAX_BYTES: usize = 4 << 30;
/// Bytes of an instance's memory that stay mapped for the next instance. With `PAGEMAP_SCAN` only written pages are copied
/// back, so a large figure costs nothing. Without `PAGEMAP_SCAN` all of these bytes are copied.
const KEEP_RESIDENT_BYTES: usize = 4 << 20;
pub(crate) const WASM_STACK_MAX_BYTES: usize = 512 << 10;
const HOST_STACK_BYTES: usize = 1 << 20;

/// Settings of the engine that runs components.
pub(crate) fn engine_config() -> Config {
    let mut config = compiler_config(CodeKind::Optimised);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// Settings that decide about machine code, the same for the compiler and for the engine that runs the code. The pool is
/// left out: it reserves terabytes of addresses, which a compiler child with a limit does not get. The engine loads both
/// kinds of code, because a kind changes only settings that wasmtime does not compare.
pub(crate) fn compiler_config(code: CodeKind) -> Config {
    let mut config = Config::new();
    match code {
        CodeKind::Quick => {
            // The faster register allocator `SinglePass` is not an option: wasmtime gives no security advisories for it.
            // Stacks are walked by frame pointers, which need no unwind information.
            config.cranelift_opt_level(OptLevel::None).native_unwind_info(false);
        }
        CodeKind::Optimised => {
            config.cranelift_opt_level(OptLevel::Speed);
        }
    }
    config
        .epoch_interruption(true)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // The interfaces do not use component-model async, and without its bookkeeping a call is cheaper.
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_MAX_BYTES)
        .async_stack_size(HOST_STACK_BYTES)
        .memory_init_cow(true)
        // `call/backtrace.rs` resolves frames. No environment variable may change the text of a dead letter.
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
