//! The messages of a plan. No clock and no chance in here: the simulator builds them with the same code.

use std::time::Duration;

use super::copies::{self, Seen, Wait};
use super::core::Plan;
use super::decide::Decision;
use super::waiting::{self, Place, Waiter};
use crate::codec::header;
use trunkline_broker::Publication;
use trunkline_config::{DeadLetter, Retry, RetryStep};
use trunkline_event::{Message, QueueName, millis};

/// Where an event is parked on a route that has no retries, which never parks any.
static PARK: RetryStep = RetryStep { delay: Duration::from_secs(1), spread: Duration::ZERO, queues: Vec::new() };

/// Where the copies of a route go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The queue that retries come back to.
    pub(crate) source: &'a QueueName,
    pub(crate) retry: &'a Retry,
    pub(crate) dead_letter: &'a DeadLetter,
    /// With `order-by` everything waits in one queue, so that it comes back in order, and this queue lists it.
    pub(crate) waiting: Option<&'a QueueName>,
}

/// What is copied, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) message: &'a Message,
    pub(crate) seen: &'a Seen,
    pub(crate) emissions: &'a [Publication],
    /// The entry that it gets on the list of those that wait, if it waits and has none.
    pub(crate) entry: Option<(&'a Waiter, Place)>,
}

/// When it is made, in milliseconds since the Unix epoch, and how much of the jitter is taken, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    pub(crate) luck: f64,
}

/// What is published for a plan.
pub(crate) fn messages(plan: &Plan, from: Source<'_>, places: Places<'_>, moment: Moment) -> Vec<Publication> {
    let Source { message, seen, emissions, entry } = from;
    let first = places.retry.steps.first();
    let is_ordered = places.waiting.is_some();
    let mut planned = match plan {
        Plan::Emissions => emissions.to_vec(),
        Plan::Copy(Decision::Retry { step, error }) => {
            let due_ms = is_ordered.then(|| moment.now_ms.saturating_add(millis(step.delay)));
            let held = first.filter(|_| is_ordered).unwrap_or(step);
            let wait = Wait { source: places.source, step: held, due_ms, luck: moment.luck };
            vec![copies::retry(message, seen, &wait, error)]
        }
        Plan::Copy(Decision::DeadLetter { reason, error }) => {
            vec![copies::dead_letter(message, seen, places.dead_letter, *reason, error)]
        }
        Plan::Cut(reason, error) => {
            vec![copies::dead_letter_without_body(message, seen, places.dead_letter, *reason, error)]
        }
        Plan::Queue(wait) => vec![copies::queue(message, seen, places.source, *wait, moment.now_ms)],
        Plan::Park => {
            let due_ms = message.properties.headers.int(header::DUE).and_then(|ms| u64::try_from(ms).ok());
            let wait = Wait { source: places.source, step: first.unwrap_or(&PARK), due_ms, luck: 0.0 };
            vec![copies::park(message, seen, &wait)]
        }
    };
    if let (true, Some(list), Some((waiter, place))) = (plan.waits(), places.waiting, entry) {
        planned.push(waiting::entry(list, waiter, place, seen.key.as_ref()));
    }
    planned
}
