//! Running a plugin on an event: a fresh instance, its limits, and the outcome.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use wasmtime::Store;

use super::backtrace::{self, Frame};
use super::call_data::{CallContext, CallData};
use super::cpu::CpuMeasured;
use super::failure::{self, HOST_PANIC};
use super::store::new_store;
use crate::load::ready::Ready;
use crate::recording::answers::HostAnswers;
use trunkline_config::Limits;
use trunkline_event::{CallFailure, CallOutcome, Emission, Event};

/// Time limit for writing the state of a call to the disk.
const STATE_WITHIN: Duration = Duration::from_secs(10);
/// Time after its limit at which a call is ended from outside, without its log: a twentieth of the limit, and at least
/// some ticks.
const OVERDUE_PART: u32 = 20;
const OVERDUE_MIN: Duration = Duration::from_millis(30);

/// Result of one call.
#[derive(Debug)]
pub struct Invocation {
    /// Outcome of the call.
    pub outcome: CallOutcome,
    /// Wall clock from the request for an instance to the end.
    pub took: Duration,
    /// Linear memory of the instance when it ended, in bytes.
    pub memory_bytes: u64,
    /// Processor time that the call counts for; `None` when the call was not measured.
    pub cpu: Option<Duration>,
    /// The last lines that the plugin logged or printed.
    pub log: String,
}

/// Result of a call before its stack is rendered.
struct EndedCall {
    outcome: CallOutcome,
    /// The guest's stack, when it trapped.
    frames: Vec<Frame>,
    memory_bytes: u64,
    cpu: Option<Duration>,
    log: String,
}

impl EndedCall {
    /// A call that was ended from outside.
    fn without_log(failure: CallFailure) -> Self {
        let outcome = CallOutcome::Failed(failure);
        Self { outcome, frames: Vec::new(), memory_bytes: 0, cpu: None, log: String::new() }
    }
}

impl Ready {
    /// Runs the plugin on an event. Every failure is a [`CallOutcome`].
    pub async fn invoke(&self, event: &Arc<Event>, answers: HostAnswers) -> Invocation {
        let started = Instant::now();
        // The semaphore is never closed, so there is always a permit.
        let permit = self.engine.instances.clone().acquire_owned().await.ok();
        let (ready, event) = (self.clone(), event.clone());
        let call = Box::pin(async move {
            let _permit = permit;
            ready.call(&event, answers).await
        });
        // A call ends itself at its limit, with its log. A call that gets no thread is ended from here, without its log.
        let limit = self.limits.timeout;
        let state_time = if self.grants.kv.is_some() { STATE_WITHIN } else { Duration::ZERO };
        let overdue = limit + (limit / OVERDUE_PART).max(OVERDUE_MIN) + state_time;
        let running = pin!(self.engine.background.run(&self.pace, call));
        let ended = match within(|| Instant::now() + overdue, running).await {
            Some(ended) => ended.unwrap_or_else(|| EndedCall::without_log(CallFailure::Trap(HOST_PANIC.to_owned()))),
            None => EndedCall::without_log(CallFailure::Timeout(limit)),
        };
        let EndedCall { mut outcome, frames, memory_bytes, cpu, log } = ended;
        // The first rendering reads files, so it does not count as time of the call.
        if let CallOutcome::Failed(CallFailure::Trap(text)) = &mut outcome {
            text.push_str(&self.debug.render(frames).await);
        }
        Invocation { outcome, took: started.elapsed(), memory_bytes, cpu, log }
    }

    async fn call(&self, event: &Event, answers: HostAnswers) -> EndedCall {
        let ends = Instant::now() + self.limits.timeout;
        let mut store = new_store(
            &self.engine,
            CallContext {
                plugin: &self.name,
                event: &event.id,
                tenant: event.tenant.as_deref(),
                limits: &self.limits,
                ends,
                grants: self.grants.clone(),
                answers,
            },
        );
        let code = self.code.current();
        let (weight, mut spent) = (self.cpu.weight(), Duration::ZERO);
        let answer = {
            let call = pin!(AssertUnwindSafe(code.component.handle(&mut store, event)).catch_unwind());
            match weight {
                Some(_) => within(|| ends, pin!(CpuMeasured { call, spent: &mut spent })).await,
                None => within(|| ends, call).await,
            }
        };
        let cpu = weight.map(|weight| {
            self.cpu.note(spent);
            spent * weight
        });
        let mut frames = Vec::new();
        let outcome = match answer {
            None => CallOutcome::Failed(CallFailure::Timeout(self.limits.timeout)),
            // A panic in a host call is a fault of the host. The route must run on.
            Some(Err(_panic)) => CallOutcome::Failed(CallFailure::Trap(HOST_PANIC.to_owned())),
            Some(Ok(Err(error))) => {
                frames = backtrace::frames(&error);
                CallOutcome::Failed(failure::of_engine_error(&error, &store, &self.limits))
            }
            Some(Ok(Ok(Err(failure)))) => CallOutcome::Failed(failure::clip_failure(self.redact(failure))),
            Some(Ok(Ok(Ok(emissions)))) => check_output(emissions, &self.limits),
        };
        let outcome = write_state(&mut store, outcome).await;
        let outcome = self.redacted(outcome);
        store.data_mut().finish_log();
        let memory_bytes = store.data().memory.used_bytes;
        EndedCall { outcome, frames, memory_bytes, cpu, log: store.data_mut().log.last() }
    }

    /// An outcome without the plugin's secrets.
    fn redacted(&self, outcome: CallOutcome) -> CallOutcome {
        match outcome {
            CallOutcome::Emitted(_) => outcome,
            CallOutcome::Failed(failure) => CallOutcome::Failed(self.redact(failure)),
        }
    }

    /// A failure without the plugin's secrets.
    #[must_use]
    pub fn redact(&self, failure: CallFailure) -> CallFailure {
        let clean = |text| self.grants.redactor.cleaned(text);
        match failure {
            CallFailure::Retry { reason, after } => CallFailure::Retry { reason: clean(reason), after },
            CallFailure::Rejected(text) => CallFailure::Rejected(clean(text)),
            CallFailure::Trap(text) => CallFailure::Trap(clean(text)),
            CallFailure::TooLarge(text) => CallFailure::TooLarge(clean(text)),
            CallFailure::Invalid(text) => CallFailure::Invalid(clean(text)),
            CallFailure::Timeout(_) | CallFailure::Memory(_) => failure,
        }
    }
}

/// Runs a future up to a time, like [`tokio::time::timeout_at`]. A future that is done at its first poll needs no timer,
/// and `ends` is not called. `None` means that the time is over.
async fn within<F: Future>(ends: impl FnOnce() -> Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
    if let Poll::Ready(value) = futures_util::poll!(future.as_mut()) {
        return Some(value);
    }
    tokio::time::timeout_at(ends().into(), future).await.ok()
}

/// Waits until the state that the call wrote or read is on disk. Otherwise the outcome becomes a retry.
async fn write_state(store: &mut Store<CallData>, outcome: CallOutcome) -> CallOutcome {
    let Some(space) = store.data_mut().used_space() else { return outcome };
    let reason = match tokio::time::timeout(STATE_WITHIN, space.flush()).await {
        Ok(Ok(())) => return outcome,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("the state changes were not written to the disk within {} s", STATE_WITHIN.as_secs()),
    };
    CallOutcome::Failed(CallFailure::Retry { reason, after: None })
}

fn check_output(emissions: Vec<Emission>, limits: &Limits) -> CallOutcome {
    let count = emissions.len();
    if count as u64 > u64::from(limits.emissions_max) {
        let text = format!("the plugin returned {count} emissions, but limits.emissions is {}", limits.emissions_max);
        return CallOutcome::Failed(CallFailure::TooLarge(text));
    }
    let bytes = emissions.iter().map(size).sum::<u64>();
    if bytes > limits.output_max_bytes {
        let text = format!(
            "the plugin returned emissions of {bytes} bytes, but limits.output is {} bytes",
            limits.output_max_bytes
        );
        return CallOutcome::Failed(CallFailure::TooLarge(text));
    }
    CallOutcome::Emitted(emissions)
}

fn size(emission: &Emission) -> u64 {
    let texts = [&emission.content_type, &emission.routing_key, &emission.subject, &emission.dedupe_key];
    let optional = texts.into_iter().flatten().map(String::len).sum::<usize>();
    let attributes = emission.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    (emission.kind.len() + emission.data.len() + optional + attributes) as u64
}
