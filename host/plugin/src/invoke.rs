//! One call of a plugin: a fresh instance, its limits, and what came of it.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use wasmtime::{Store, Trap, WasmBacktrace};

use super::backtrace::{self, Frame};
use super::descriptor::Descriptor;
use super::engine::WASM_STACK_MAX_BYTES;
use super::grants::Grants;
use super::host::{Denied, Host, OverBudget, TABLE_ELEMENTS_MAX, budget_bytes};
use super::ready::Ready;
use super::tape::Outside;
use trunkline_config::Limits;
use trunkline_event::{Emission, Event, Failure, Outcome};

/// What the disk gets for the state of a call.
const KEEP_WITHIN: Duration = Duration::from_secs(10);
/// How far from address 0 a function's variables may lie when a plugin's own stack is full; a pointer that is wrong by less
/// is taken for one of them.
const OWN_FRAME_MAX_BYTES: u64 = 1 << 20;
/// What is kept of an error text.
const ERROR_TEXT_MAX_BYTES: usize = 1024;

/// How much longer than its limit a call may take, before it is ended without its log: a twentieth, and no less than
/// some ticks.
const OVERDUE_PART: u32 = 20;
const OVERDUE_MIN: Duration = Duration::from_millis(30);
const HOST_PANIC: &str = "the host panicked during the call";

/// What one call gave and took.
#[derive(Debug)]
pub struct Invocation {
    /// How it ended.
    pub outcome: Outcome,
    /// Wall clock from the request for an instance slot to the end.
    pub took: Duration,
    /// Linear memory of the instance when it ended, in bytes.
    pub memory_bytes: u64,
    /// The last lines that it logged or printed.
    pub log: String,
}

/// The same, as the call itself knows it.
struct Ended {
    outcome: Outcome,
    /// The guest's stack, when it trapped.
    frames: Vec<Frame>,
    memory_bytes: u64,
    log: String,
}

impl Ended {
    fn without_a_word(failure: Failure) -> Self {
        Self { outcome: Outcome::Failed(failure), frames: Vec::new(), memory_bytes: 0, log: String::new() }
    }
}

impl Ready {
    /// Runs the plugin on an event. Never fails: whatever happens is an [`Outcome`].
    pub async fn invoke(&self, event: &Arc<Event>, outside: Outside) -> Invocation {
        let started = Instant::now();
        // Never closed, so there is always a slot.
        let slot = self.engine.slots.clone().acquire_owned().await.ok();
        let (ready, event) = (self.clone(), event.clone());
        let call = Box::pin(async move {
            let _slot = slot;
            ready.call(&event, outside).await
        });
        // The call ends itself in time, with its log. Only where threads are short is it ended from here, without.
        let limit = self.limits.timeout;
        let kept = if self.grants.kv.is_some() { KEEP_WITHIN } else { Duration::ZERO };
        let overdue = limit + (limit / OVERDUE_PART).max(OVERDUE_MIN) + kept;
        let running = pin!(self.engine.background.run(&self.computes, call));
        let ended = match within(|| Instant::now() + overdue, running).await {
            Some(ended) => ended.unwrap_or_else(|| Ended::without_a_word(Failure::Trap(HOST_PANIC.to_owned()))),
            None => Ended::without_a_word(Failure::Timeout(limit)),
        };
        let Ended { mut outcome, frames, memory_bytes, log } = ended;
        // After the deadline's end: the first time this reads files.
        if let Outcome::Failed(Failure::Trap(text)) = &mut outcome {
            text.push_str(&self.debug.render(frames).await);
        }
        Invocation { outcome, took: started.elapsed(), memory_bytes, log }
    }

    async fn call(&self, event: &Event, outside: Outside) -> Ended {
        let ends = Instant::now() + self.limits.timeout;
        let mut store = self.store(&event.id, event.tenant.as_deref(), ends, (self.grants.clone(), outside));
        let answer = {
            let call = pin!(AssertUnwindSafe(self.pre.handle(&mut store, event)).catch_unwind());
            within(|| ends, call).await
        };
        let mut frames = Vec::new();
        let outcome = match answer {
            None => Outcome::Failed(Failure::Timeout(self.limits.timeout)),
            // A panic of the host inside a host call is ours, but it must not take the route with it.
            Some(Err(_panic)) => Outcome::Failed(Failure::Trap(HOST_PANIC.to_owned())),
            Some(Ok(Err(error))) => {
                frames = backtrace::frames(&error);
                Outcome::Failed(explain(&error, &store, &self.limits))
            }
            Some(Ok(Ok(Err(failure)))) => Outcome::Failed(clip_failure(self.redact(failure))),
            Some(Ok(Ok(Ok(emissions)))) => check_output(emissions, &self.limits),
        };
        let outcome = keep(&mut store, outcome).await;
        let outcome = self.redacted(outcome);
        store.data_mut().finish_log();
        let memory_bytes = store.data().memory.used_bytes;
        Ended { outcome, frames, memory_bytes, log: store.data_mut().log.last() }
    }

    /// Calls `describe`, if the plugin has it, under the same limits as an event.
    pub(super) async fn describe(&self) -> Result<Option<Descriptor>, String> {
        let ready = self.clone();
        let limit = self.limits.timeout;
        let call = Box::pin(async move {
            let (ends, grants) = (Instant::now() + limit, Arc::new(Grants::none(&ready.name)));
            let mut store = ready.store("describe", None, ends, (grants, Outside::Real));
            match tokio::time::timeout_at(ends.into(), ready.pre.describe(&mut store)).await {
                Err(_elapsed) => Err(Failure::Timeout(limit).text()),
                Ok(Err(error)) => {
                    let text = explain(&error, &store, &ready.limits).text();
                    Err(text + &ready.debug.render(backtrace::frames(&error)).await)
                }
                Ok(Ok(descriptor)) => descriptor.map(Descriptor::checked).transpose(),
            }
        });
        let described = self.engine.background.run(&self.computes, call).await;
        described.unwrap_or_else(|| Err(HOST_PANIC.to_owned()))
    }

    /// Takes secrets out of what the plugin says of a failure.
    fn redacted(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Emitted(_) => outcome,
            Outcome::Failed(failure) => Outcome::Failed(self.redact(failure)),
        }
    }

    /// A failure without the plugin's secrets.
    #[must_use]
    pub fn redact(&self, failure: Failure) -> Failure {
        let clean = |text| self.grants.redactor.cleaned(text);
        match failure {
            Failure::Retry { reason, after } => Failure::Retry { reason: clean(reason), after },
            Failure::Rejected(text) => Failure::Rejected(clean(text)),
            Failure::Trap(text) => Failure::Trap(clean(text)),
            Failure::TooLarge(text) => Failure::TooLarge(clean(text)),
            Failure::Invalid(text) => Failure::Invalid(clean(text)),
            Failure::Timeout(_) | Failure::Memory(_) => failure,
        }
    }

    fn store(&self, event: &str, tenant: Option<&str>, ends: Instant, behind: (Arc<Grants>, Outside)) -> Store<Host> {
        let host = Host::new(&self.name, (event, tenant), (&self.limits, ends), behind);
        let mut store = Store::new(&self.engine.engine, host);
        store.limiter(|host| &mut host.memory);
        // The guest gives its thread back at every tick; the timeout around the call then ends it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(budget_bytes(&self.limits));
        store
    }
}

/// A future up to a time, like [`tokio::time::timeout_at`], but most calls are done at once and then cost no timer; `ends`
/// is asked only of the others. None: it was not done by then.
async fn within<F: Future>(ends: impl FnOnce() -> Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
    if let Poll::Ready(value) = futures_util::poll!(future.as_mut()) {
        return Some(value);
    }
    tokio::time::timeout_at(ends().into(), future).await.ok()
}

/// What the call wrote to its state, or saw there, is on disk before its outcome leaves; else it is tried again.
async fn keep(store: &mut Store<Host>, outcome: Outcome) -> Outcome {
    let Some(space) = store.data_mut().used_space() else { return outcome };
    let reason = match tokio::time::timeout(KEEP_WITHIN, space.flush()).await {
        Ok(Ok(())) => return outcome,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("the state was not on disk within {} s", KEEP_WITHIN.as_secs()),
    };
    Outcome::Failed(Failure::Retry { reason, after: None })
}

/// Which limit or fault stands behind an error of the engine.
fn explain(error: &wasmtime::Error, store: &Store<Host>, limits: &Limits) -> Failure {
    let host = store.data();
    if let Some(denied) = host.memory.denied {
        return Failure::Memory(match denied {
            Denied::Memory => format!("wanted more memory than limits.memory ({} bytes)", limits.memory_max_bytes),
            Denied::Table => format!("wanted more than {TABLE_ELEMENTS_MAX} table elements"),
        });
    }
    let text = format!("{error:#}");
    // wasmtime has no type for it; the guests `bigmouth` and `copier` hold this text.
    if error.is::<OverBudget>() || text.contains("fuel allocated for hostcalls has been exhausted") {
        let Limits { output_max_bytes: output, emissions_max: emissions, .. } = limits;
        // What the guest answers is read after it returned; what it hands to a host call, while it runs.
        let returned = error.downcast_ref::<WasmBacktrace>().is_none_or(|trace| trace.frames().is_empty());
        return Failure::TooLarge(match returned {
            true => {
                format!("the answer is larger than limits.output ({output} bytes) and limits.emissions ({emissions})")
            }
            false if error.is::<OverBudget>() => {
                format!("what it gave the host is larger than limits.output ({output} bytes)")
            }
            false => format!("one call of the host copies more than limits.output ({output} bytes)"),
        });
    }
    let said = said(&host.stderr_text());
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => {
            format!("{}; a plugin's has {} KiB", Trap::StackOverflow, WASM_STACK_MAX_BYTES >> 10)
        }
        Some(trap @ Trap::MemoryOutOfBounds) if is_below_memory(&text) => {
            format!("{}: the one in the plugin's memory is full ({trap})", Trap::StackOverflow)
        }
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    tracing::debug!(target: "trunkline::plugin", "trap: {text}");
    Failure::Trap(clip(if said.is_empty() { cause } else { format!("{said} ({cause})") }))
}

/// Whether a fault lies where a plugin's own stack ends, for variables that have an address: Rust puts it at the beginning
/// of the memory, so that it runs out below address 0. wasmtime has no type for the place.
fn is_below_memory(text: &str) -> bool {
    let (_, rest) = text.split_once("memory fault at wasm address 0x").unwrap_or_default();
    let digits = rest.split(|letter: char| !letter.is_ascii_hexdigit()).next().unwrap_or_default();
    let zero = 1_u64 << 32;
    u64::from_str_radix(digits, 16).is_ok_and(|address| address.abs_diff(zero) <= OWN_FRAME_MAX_BYTES)
}

/// What the guest wrote to stderr, without the advice of Rust's library, which nobody can follow here.
fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
    lines.join("\n")
}

fn check_output(emissions: Vec<Emission>, limits: &Limits) -> Outcome {
    let count = emissions.len();
    if count as u64 > u64::from(limits.emissions_max) {
        let text = format!("{count} emissions; limits.emissions is {}", limits.emissions_max);
        return Outcome::Failed(Failure::TooLarge(text));
    }
    let bytes = emissions.iter().map(size).sum::<u64>();
    if bytes > limits.output_max_bytes {
        let text = format!("emissions of {bytes} bytes; limits.output is {} bytes", limits.output_max_bytes);
        return Outcome::Failed(Failure::TooLarge(text));
    }
    Outcome::Emitted(emissions)
}

fn size(emission: &Emission) -> u64 {
    let texts = [&emission.content_type, &emission.routing_key, &emission.subject, &emission.dedupe_key];
    let optional = texts.into_iter().flatten().map(String::len).sum::<usize>();
    let attributes = emission.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    (emission.kind.len() + emission.data.len() + optional + attributes) as u64
}

fn clip_failure(failure: Failure) -> Failure {
    match failure {
        Failure::Retry { reason, after } => Failure::Retry { reason: clip(reason), after },
        Failure::Rejected(text) => Failure::Rejected(clip(text)),
        Failure::Trap(_) | Failure::Timeout(_) | Failure::Memory(_) | Failure::TooLarge(_) | Failure::Invalid(_) => {
            failure
        }
    }
}

/// At most [`ERROR_TEXT_MAX_BYTES`], cut between characters.
fn clip(mut text: String) -> String {
    if text.len() > ERROR_TEXT_MAX_BYTES {
        let end = text.floor_char_boundary(ERROR_TEXT_MAX_BYTES);
        text.truncate(end);
    }
    text
}
