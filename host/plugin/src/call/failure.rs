//! Failures of a call: the limit or fault behind an error of the engine, and the bounds of error texts.

use wasmtime::{Store, Trap, WasmBacktrace};

use super::call_data::{CallData, OverBudget};
use super::memory::{Denied, TABLE_ELEMENTS_MAX};
use crate::engine::settings::WASM_STACK_MAX_BYTES;
use trunkline_config::Limits;
use trunkline_event::CallFailure;

/// Text of a failure after a panic of the host.
pub(crate) const HOST_PANIC: &str = "the host panicked during the call";

/// Distance from address 0 up to which a memory fault counts as a full stack in the plugin's memory. A wrong pointer of a
/// smaller distance is reported as a full stack too.
const OWN_FRAME_MAX_BYTES: u64 = 1 << 20;
/// Bytes of an error text that are kept.
const ERROR_TEXT_MAX_BYTES: usize = 1024;

/// The failure behind an error of the engine: a limit, or a fault of the guest.
pub(crate) fn of_engine_error(error: &wasmtime::Error, store: &Store<CallData>, limits: &Limits) -> CallFailure {
    let host = store.data();
    if let Some(denied) = host.memory.denied {
        return CallFailure::Memory(match denied {
            Denied::Memory => {
                format!("the plugin needs more memory than limits.memory ({} bytes)", limits.memory_max_bytes)
            }
            Denied::Table => format!("the plugin needs more than {TABLE_ELEMENTS_MAX} table elements"),
        });
    }
    let text = format!("{error:#}");
    // wasmtime has no type for this error. The tests with the guests `bigmouth` and `copier` fail when the text changes.
    if error.is::<OverBudget>() || text.contains("fuel allocated for hostcalls has been exhausted") {
        let Limits { output_max_bytes: output, emissions_max: emissions, .. } = limits;
        // An answer is read after the guest returned. The arguments of a host call are read while the guest runs.
        let returned = error.downcast_ref::<WasmBacktrace>().is_none_or(|trace| trace.frames().is_empty());
        return CallFailure::TooLarge(match returned {
            true => {
                format!(
                    "the answer is larger than limits.output ({output} bytes) and limits.emissions ({emissions}) allow"
                )
            }
            false if error.is::<OverBudget>() => {
                format!("the data that the plugin passed to the host is larger than limits.output ({output} bytes)")
            }
            false => format!("one host call copies more data than limits.output ({output} bytes)"),
        });
    }
    let stderr = without_rust_advice(&host.stderr_text());
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => {
            format!("{}; the limit of a plugin's call stack is {} KiB", Trap::StackOverflow, WASM_STACK_MAX_BYTES >> 10)
        }
        Some(trap @ Trap::MemoryOutOfBounds) if is_below_memory(&text) => {
            format!("{}: the stack in the plugin's memory is full ({trap})", Trap::StackOverflow)
        }
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    tracing::debug!(target: "trunkline::plugin", "trap: {text}");
    CallFailure::Trap(clip(if stderr.is_empty() { cause } else { format!("{stderr} ({cause})") }))
}

/// Whether a memory fault lies just below address 0. Rust puts a plugin's own stack, for variables that have an address, at
/// the beginning of the memory, so that a full stack faults there. wasmtime has no type for the address.
fn is_below_memory(text: &str) -> bool {
    let (_, rest) = text.split_once("memory fault at wasm address 0x").unwrap_or_default();
    let digits = rest.split(|letter: char| !letter.is_ascii_hexdigit()).next().unwrap_or_default();
    let zero = 1_u64 << 32;
    u64::from_str_radix(digits, 16).is_ok_and(|address| address.abs_diff(zero) <= OWN_FRAME_MAX_BYTES)
}

/// The guest's stderr without the advice of Rust's library to set `RUST_BACKTRACE`, which has no effect in a plugin.
fn without_rust_advice(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
    lines.join("\n")
}

/// The failure of a plugin with a bounded text.
pub(crate) fn clip_failure(failure: CallFailure) -> CallFailure {
    match failure {
        CallFailure::Retry { reason, after } => CallFailure::Retry { reason: clip(reason), after },
        CallFailure::Rejected(text) => CallFailure::Rejected(clip(text)),
        CallFailure::Trap(_)
        | CallFailure::Timeout(_)
        | CallFailure::Memory(_)
        | CallFailure::TooLarge(_)
        | CallFailure::Invalid(_) => failure,
    }
}

/// The first [`ERROR_TEXT_MAX_BYTES`] of a text, cut between characters.
fn clip(mut text: String) -> String {
    if text.len() > ERROR_TEXT_MAX_BYTES {
        let end = text.floor_char_boundary(ERROR_TEXT_MAX_BYTES);
        text.truncate(end);
    }
    text
}
