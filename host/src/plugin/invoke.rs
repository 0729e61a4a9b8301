//! One call of a plugin: a fresh instance, its limits, and what came of it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use wasmtime::{Store, Trap};

use super::host::{Host, OverBudget, budget_bytes};
use super::load::{Descriptor, Ready};
use crate::config::Limits;
use crate::event::{Emission, Event, Failure, Outcome};

/// What is kept of an error text.
const ERROR_TEXT_MAX_BYTES: usize = 1024;

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

impl Ready {
    /// Runs the plugin on an event. Never fails: whatever happens is an [`Outcome`].
    pub async fn invoke(&self, event: &Event) -> Invocation {
        let started = Instant::now();
        let _slot = self.engine.slots.acquire().await;
        let mut store = self.store(&event.id);
        let call = AssertUnwindSafe(self.pre.handle(&mut store, event)).catch_unwind();
        let answer = tokio::time::timeout(self.limits.timeout, call).await;
        let outcome = match answer {
            Err(_elapsed) => Outcome::Failed(Failure::Timeout(self.limits.timeout)),
            // A panic of the host inside a host call is ours, but it must not take the route with it.
            Ok(Err(_panic)) => Outcome::Failed(Failure::Trap("the host panicked during the call".to_owned())),
            Ok(Ok(Err(error))) => Outcome::Failed(explain(&error, &store, &self.limits)),
            Ok(Ok(Ok(Err(failure)))) => Outcome::Failed(clip_failure(failure)),
            Ok(Ok(Ok(Ok(emissions)))) => check_output(emissions, &self.limits),
        };
        store.data_mut().finish_log();
        let memory_bytes = store.data().memory.used_bytes;
        let log = store.data_mut().log.last();
        Invocation { outcome, took: started.elapsed(), memory_bytes, log }
    }

    /// Calls `describe`, if the plugin has it, under the same limits as an event.
    pub(super) async fn describe(&self) -> Result<Option<Descriptor>, String> {
        let mut store = self.store("describe");
        match tokio::time::timeout(self.limits.timeout, self.pre.describe(&mut store)).await {
            Err(_elapsed) => Err(Failure::Timeout(self.limits.timeout).text()),
            Ok(Err(error)) => Err(explain(&error, &store, &self.limits).text()),
            Ok(Ok(descriptor)) => Ok(descriptor),
        }
    }

    fn store(&self, event: &str) -> Store<Host> {
        let host = Host::new(&self.name, event, &self.limits, self.config.clone());
        let mut store = Store::new(&self.engine.engine, host);
        store.limiter(|host| &mut host.memory);
        // The guest gives its thread back at every tick; the timeout around the call then ends it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(budget_bytes(&self.limits));
        store
    }
}

/// Which limit or fault stands behind an error of the engine.
fn explain(error: &wasmtime::Error, store: &Store<Host>, limits: &Limits) -> Failure {
    let host = store.data();
    if host.memory.denied {
        return Failure::Memory(limits.memory_max_bytes);
    }
    let text = format!("{error:#}");
    // wasmtime has no type for it; the guest `bigmouth` holds this text.
    if error.is::<OverBudget>() || text.contains("fuel allocated for hostcalls has been exhausted") {
        return Failure::TooLarge(format!(
            "the answer is larger than limits.output ({} bytes)",
            limits.output_max_bytes
        ));
    }
    let said = host.stderr_text();
    let cause = error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), Trap::to_string);
    tracing::debug!(target: "trunkline::plugin", "trap: {text}");
    Failure::Trap(clip(if said.is_empty() { cause } else { format!("{said} ({cause})") }))
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
