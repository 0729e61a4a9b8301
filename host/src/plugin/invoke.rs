//! One call of a plugin: a fresh instance, its limits, and what came of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use wasmtime::{Store, Trap};

use super::grants::Grants;
use super::host::{Host, OverBudget, budget_bytes};
use super::load::{Descriptor, Ready};
use crate::config::Limits;
use crate::event::{Emission, Event, Failure, Outcome};

/// What the disk gets for the state of a call.
const KEEP_WITHIN: Duration = Duration::from_secs(10);
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
        let mut store = self.store(&event.id, event.tenant.as_deref(), self.grants.clone());
        let call = AssertUnwindSafe(self.pre.handle(&mut store, event)).catch_unwind();
        let answer = tokio::time::timeout(self.limits.timeout, call).await;
        let outcome = match answer {
            Err(_elapsed) => Outcome::Failed(Failure::Timeout(self.limits.timeout)),
            // A panic of the host inside a host call is ours, but it must not take the route with it.
            Ok(Err(_panic)) => Outcome::Failed(Failure::Trap("the host panicked during the call".to_owned())),
            Ok(Ok(Err(error))) => Outcome::Failed(explain(&error, &store, &self.limits)),
            Ok(Ok(Ok(Err(failure)))) => Outcome::Failed(clip_failure(self.redact(failure))),
            Ok(Ok(Ok(Ok(emissions)))) => check_output(emissions, &self.limits),
        };
        let outcome = keep(&mut store, outcome).await;
        let outcome = self.redacted(outcome);
        store.data_mut().finish_log();
        let memory_bytes = store.data().memory.used_bytes;
        let log = store.data_mut().log.last();
        Invocation { outcome, took: started.elapsed(), memory_bytes, log }
    }

    /// Calls `describe`, if the plugin has it, under the same limits as an event.
    pub(super) async fn describe(&self) -> Result<Option<Descriptor>, String> {
        let mut store = self.store("describe", None, Arc::new(Grants::none(&self.name)));
        match tokio::time::timeout(self.limits.timeout, self.pre.describe(&mut store)).await {
            Err(_elapsed) => Err(Failure::Timeout(self.limits.timeout).text()),
            Ok(Err(error)) => Err(explain(&error, &store, &self.limits).text()),
            Ok(Ok(descriptor)) => Ok(descriptor),
        }
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

    fn store(&self, event: &str, tenant: Option<&str>, grants: Arc<Grants>) -> Store<Host> {
        let host = Host::new(&self.name, event, tenant, &self.limits, grants);
        let mut store = Store::new(&self.engine.engine, host);
        store.limiter(|host| &mut host.memory);
        // The guest gives its thread back at every tick; the timeout around the call then ends it.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(budget_bytes(&self.limits));
        store
    }
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
