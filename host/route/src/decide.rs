//! The pure choice of what to do with an outcome. No clock, no broker, no plugin: a table.

use std::time::Duration;

use trunkline_broker::{Passing, Permanent};
use trunkline_config::{Retry, RetryStep, SchemaRule, Unroutable};
use trunkline_event::{Event, Failure, Reason};

/// The attribute with the version of the data: `metadata.version` of the ocelot envelope.
const VERSION: &str = "version";
/// Violations in the text of a dead letter, which is a header.
const TOLD_MAX: usize = 8;

/// What becomes of a delivery whose event could not be handled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// A copy into the retry queue of this step.
    Retry {
        /// Where and how long.
        step: RetryStep,
        /// What went wrong.
        error: String,
    },
    /// A copy into the dead-letter queue.
    DeadLetter {
        /// Why.
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

/// Whether an event is let in at all. `None` means yes.
pub(super) fn admit(event: &Event, hops_max: u32, schema: Option<&SchemaRule>) -> Option<Decision> {
    if event.hops > hops_max {
        let error = format!("{} hops from the first event of its chain; max-hops is {hops_max}", event.hops);
        return Some(Decision::dead_letter(Reason::Loop, error));
    }
    let problem = schema.and_then(|rule| misfit(event, rule))?;
    Some(Decision::dead_letter(Reason::Schema, problem))
}

/// Why an event does not fit, if it does not.
fn misfit(event: &Event, rule: &SchemaRule) -> Option<String> {
    if let Some(wanted) = rule.version {
        let found = event.attributes.iter().find(|(name, _)| name == VERSION).map(|(_, value)| value.as_str());
        let major = found.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if major != Some(wanted) {
            let found = found.map_or_else(|| "no version".to_owned(), |found| format!("version {found:?}"));
            return Some(format!("the event has {found}; this route takes {wanted}.x"));
        }
    }
    let violations = rule.schema.check(&event.data).err()?;
    let mut told: Vec<String> = violations.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if violations.len() > TOLD_MAX {
        told.push(format!("and {} more", violations.len() - TOLD_MAX));
    }
    Some(told.join("; "))
}

/// Passing failures wait for their next attempt while there is one; all others are dead letters.
pub(crate) fn after_failure(failure: &Failure, attempt: u32, retry: &Retry) -> Decision {
    let at_least = match failure {
        Failure::Retry { after, .. } => after.unwrap_or_default(),
        Failure::Rejected(_)
        | Failure::Trap(_)
        | Failure::Timeout(_)
        | Failure::Memory(_)
        | Failure::TooLarge(_)
        | Failure::Invalid(_) => Duration::ZERO,
    };
    if !failure.is_passing() {
        return Decision::dead_letter(failure.reason(), failure.text());
    }
    again(attempt, retry, at_least, failure.reason(), failure.text())
}

/// What follows when the broker will never take what an event leads to.
pub(super) fn after_permanent(refusal: &Permanent, what: &str) -> Decision {
    Decision::dead_letter(refusal.reason(), format!("{what}: {refusal}"))
}

/// What follows when the broker did not take an emission. `None` means that waiting and publishing the rest again is the
/// answer: a target is full, and the input must neither be acknowledged nor given up.
pub(super) fn after_refusal(
    refusal: &Passing,
    unroutable: Unroutable,
    attempt: u32,
    retry: &Retry,
) -> Option<Decision> {
    let reason = match refusal {
        Passing::Full | Passing::NoRoom(_) => return None,
        Passing::Unroutable { .. } => Reason::Unroutable,
        // Whoever deploys it may be a moment late, so it is tried again as any passing failure.
        Passing::NoExchange(_) => Reason::Refused,
    };
    let error = refusal.to_string();
    Some(match unroutable {
        Unroutable::DeadLetter => Decision::dead_letter(reason, error),
        Unroutable::Accept | Unroutable::Retry => again(attempt, retry, Duration::ZERO, reason, error),
    })
}

/// The step of this attempt, or a later one when the plugin asked for more time; the longest there is at most.
fn again(attempt: u32, retry: &Retry, at_least: Duration, reason: Reason, error: String) -> Decision {
    let due = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(scheduled) = retry.steps.get(due).filter(|_| attempt <= retry.max) else {
        return Decision::dead_letter(reason, format!("after {attempt} attempts: {error}"));
    };
    let longer = retry.steps.iter().find(|step| step.delay >= at_least.max(scheduled.delay));
    let step = longer.or(retry.steps.last()).unwrap_or(scheduled).clone();
    Decision::Retry { step, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::QueueName;

    fn retry(delays_ms: &[u64]) -> Retry {
        let step = |ms: &u64| RetryStep {
            delay: Duration::from_millis(*ms),
            spread: Duration::ZERO,
            queues: vec![QueueName::new(format!("q.retry.{ms}")).expect("valid")],
        };
        Retry { max: u32::try_from(delays_ms.len()).expect("few"), steps: delays_ms.iter().map(step).collect() }
    }

    fn asks(after_ms: Option<u64>) -> Failure {
        Failure::Retry { reason: "busy".to_owned(), after: after_ms.map(Duration::from_millis) }
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
        let table: [(Failure, u32, Result<u128, Reason>); 16] = [
            (asks(None), 1, Ok(1000)),
            (asks(None), 2, Ok(2000)),
            (asks(None), 3, Ok(4000)),
            (asks(None), 4, Err(Reason::Exhausted)),
            (asks(None), 99, Err(Reason::Exhausted)),
            (asks(Some(1500)), 1, Ok(2000)),
            (asks(Some(100)), 2, Ok(2000)),
            (asks(Some(60_000)), 1, Ok(4000)),
            (Failure::Trap("t".into()), 1, Ok(1000)),
            (Failure::Trap("t".into()), 4, Err(Reason::Trap)),
            (Failure::Timeout(Duration::from_secs(1)), 4, Err(Reason::Timeout)),
            (Failure::Memory("m".into()), 4, Err(Reason::Memory)),
            (Failure::Rejected("no".into()), 1, Err(Reason::Rejected)),
            (Failure::TooLarge("big".into()), 1, Err(Reason::TooLarge)),
            (Failure::Invalid("bad".into()), 1, Err(Reason::Invalid)),
            (Failure::Memory("m".into()), 2, Ok(2000)),
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
