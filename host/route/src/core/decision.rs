//! Decisions about failed events, as a table without clock, broker or plugin.

use std::time::Duration;

use trunkline_broker::{Passing, Permanent};
use trunkline_config::{Retry, RetryStep, Unroutable};
use trunkline_event::{CallFailure, Reason};

/// Decision about a delivery whose event could not be handled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// A copy that comes back after the delay of this step.
    Retry {
        /// Delay of the retry.
        step: RetryStep,
        /// Error text.
        error: String,
    },
    /// A copy into the dead-letter queue.
    DeadLetter {
        /// Reason of the dead letter.
        reason: Reason,
        /// The error text.
        error: String,
    },
}

impl Decision {
    pub(crate) fn dead_letter(reason: Reason, error: impl Into<String>) -> Self {
        Self::DeadLetter { reason, error: error.into() }
    }
}

/// Decision about an event whose message outlived its own TTL. `attempt` is the attempt that does not begin any more, and `last` is the
/// error of the attempt before.
pub(crate) fn expired(attempt: u32, last: Option<&str>) -> Decision {
    let last = last.map(|last| format!("; the last error: {last}")).unwrap_or_default();
    Decision::dead_letter(Reason::Expired, format!("the TTL of the message ended before attempt {attempt} began{last}"))
}

/// Decision after a failed call: a passing failure is retried while attempts remain; every other failure is dead-lettered.
pub(super) fn after_failure(failure: &CallFailure, attempt: u32, retry: &Retry) -> Decision {
    let at_least = match failure {
        CallFailure::Retry { after, .. } => after.unwrap_or_default(),
        CallFailure::Rejected(_)
        | CallFailure::Trap(_)
        | CallFailure::Timeout(_)
        | CallFailure::Memory(_)
        | CallFailure::TooLarge(_)
        | CallFailure::Invalid(_) => Duration::ZERO,
    };
    if !failure.is_passing() {
        return Decision::dead_letter(failure.reason(), failure.text());
    }
    again(attempt, retry, at_least, failure.reason(), failure.text())
}

/// Decision after the broker refused a message for good. `what` names the message.
pub(super) fn after_permanent(refusal: &Permanent, what: &str) -> Decision {
    Decision::dead_letter(refusal.reason(), format!("{what}: {refusal}"))
}

/// Decision after the broker did not take an emission. `None` means: a target is full, so publish the rest again later, and
/// neither acknowledge the delivery nor give the event up.
pub(super) fn after_refusal(
    refusal: &Passing,
    unroutable: Unroutable,
    attempt: u32,
    retry: &Retry,
) -> Option<Decision> {
    let reason = match refusal {
        Passing::Full | Passing::NoRoom(_) => return None,
        Passing::Unroutable { .. } => Reason::Unroutable,
        // The exchange may be declared a moment later, so this is a passing failure.
        Passing::NoExchange(_) => Reason::Refused,
    };
    let error = refusal.to_string();
    Some(match unroutable {
        Unroutable::DeadLetter => Decision::dead_letter(reason, error),
        Unroutable::Accept | Unroutable::Retry => again(attempt, retry, Duration::ZERO, reason, error),
    })
}

/// The retry step of an attempt: a later step when the plugin asked for more time, but at most the longest step.
fn again(attempt: u32, retry: &Retry, at_least: Duration, reason: Reason, error: String) -> Decision {
    let due = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(scheduled) = retry.steps.get(due).filter(|_| attempt <= retry.max) else {
        return Decision::dead_letter(reason, format!("after {attempt} attempts: {error}"));
    };
    let longer = retry.steps.iter().find(|step| step.delay >= at_least.max(scheduled.delay));
    let step = *longer.or(retry.steps.last()).unwrap_or(scheduled);
    Decision::Retry { step, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(delays_ms: &[u64]) -> Retry {
        let step = |ms: &u64| RetryStep { delay: Duration::from_millis(*ms), spread: Duration::ZERO };
        Retry { max: u32::try_from(delays_ms.len()).expect("few"), steps: delays_ms.iter().map(step).collect() }
    }

    fn asks(after_ms: Option<u64>) -> CallFailure {
        CallFailure::Retry { reason: "busy".to_owned(), after: after_ms.map(Duration::from_millis) }
    }

    /// `Ok(ms)` for a retry after so long, `Err(reason)` for a dead letter.
    fn short(decision: &Decision) -> Result<u128, Reason> {
        match decision {
            Decision::Retry { step, .. } => Ok(step.delay.as_millis()),
            Decision::DeadLetter { reason, .. } => Err(*reason),
        }
    }

    #[test]
    fn failures_by_attempt() {
        let steps = retry(&[1000, 2000, 4000]);
        let table: [(CallFailure, u32, Result<u128, Reason>); 16] = [
            (asks(None), 1, Ok(1000)),
            (asks(None), 2, Ok(2000)),
            (asks(None), 3, Ok(4000)),
            (asks(None), 4, Err(Reason::Exhausted)),
            (asks(None), 99, Err(Reason::Exhausted)),
            (asks(Some(1500)), 1, Ok(2000)),
            (asks(Some(100)), 2, Ok(2000)),
            (asks(Some(60_000)), 1, Ok(4000)),
            (CallFailure::Trap("t".into()), 1, Ok(1000)),
            (CallFailure::Trap("t".into()), 4, Err(Reason::Trap)),
            (CallFailure::Timeout(Duration::from_secs(1)), 4, Err(Reason::Timeout)),
            (CallFailure::Memory("m".into()), 4, Err(Reason::Memory)),
            (CallFailure::Rejected("no".into()), 1, Err(Reason::Rejected)),
            (CallFailure::TooLarge("big".into()), 1, Err(Reason::TooLarge)),
            (CallFailure::Invalid("bad".into()), 1, Err(Reason::Invalid)),
            (CallFailure::Memory("m".into()), 2, Ok(2000)),
        ];
        for (failure, attempt, expected) in table {
            assert_eq!(short(&after_failure(&failure, attempt, &steps)), expected, "{failure:?} at attempt {attempt}");
        }
    }

    #[test]
    fn without_retries_the_first_failure_is_the_last() {
        assert_eq!(short(&after_failure(&asks(Some(5)), 1, &retry(&[]))), Err(Reason::Exhausted));
    }

    #[test]
    fn refusals_by_policy() {
        let steps = retry(&[1000]);
        let nobody = Passing::Unroutable { exchange: "e".into(), key: "k".into() };
        let missing = Passing::NoExchange("e".into());
        let table = [
            (&nobody, Unroutable::Retry, 1, Some(Ok(1000))),
            (&nobody, Unroutable::Retry, 2, Some(Err(Reason::Unroutable))),
            (&nobody, Unroutable::DeadLetter, 1, Some(Err(Reason::Unroutable))),
            (&missing, Unroutable::Accept, 1, Some(Ok(1000))),
            (&missing, Unroutable::Accept, 2, Some(Err(Reason::Refused))),
            (&Passing::Full, Unroutable::DeadLetter, 1, None),
            (&Passing::NoRoom(String::new()), Unroutable::DeadLetter, 1, None),
        ];
        for (refusal, policy, attempt, expected) in table {
            let decision = after_refusal(refusal, policy, attempt, &steps);
            assert_eq!(decision.as_ref().map(short), expected, "{refusal:?} {policy:?} {attempt}");
        }
    }

    #[test]
    fn error_texts_survive() {
        let Decision::DeadLetter { error, .. } = after_failure(&asks(None), 2, &retry(&[10])) else {
            panic!("one retry is all there is");
        };
        assert_eq!(error, "after 2 attempts: busy");
    }
}
