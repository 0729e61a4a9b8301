//! The messages of a plan. Time and jitter are arguments, so that the result depends on the arguments only.

use std::time::Duration;

use super::copies::{self, RetryWait};
use crate::codec::header;
use crate::core::{Decision, PublishPlan};
use crate::inbound::Provenance;
use crate::order::list::{self as waiting, ListPlace, Waiter};
use trunkline_broker::Publication;
use trunkline_config::{DeadLetter, Retry};
use trunkline_event::{Message, QueueName, millis};

/// Wait of a parked event on a route without retries, which never parks an event.
const PARK: Duration = Duration::from_secs(1);

/// Queues and exchanges to which the copies of a route go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyTargets<'a> {
    /// Queue to which retries come back.
    pub(crate) source: &'a QueueName,
    pub(crate) retry: &'a Retry,
    pub(crate) dead_letter: &'a DeadLetter,
    /// Queue of the waiting list, on a route with `order-by`. No copy of such a route waits for longer than the first delay.
    pub(crate) waiting: Option<&'a QueueName>,
}

/// A delivery from which the messages of a plan are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanSource<'a> {
    pub(crate) message: &'a Message,
    pub(crate) provenance: &'a Provenance,
    pub(crate) emissions: &'a [Publication],
    /// Waiting-list entry to publish, if the event begins to wait.
    pub(crate) entry: Option<(&'a Waiter, ListPlace)>,
}

/// Time in milliseconds since the Unix epoch, and the share of the jitter to take, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanTime {
    pub(crate) now_ms: u64,
    pub(crate) jitter: f64,
}

/// Makes the messages of a plan.
pub(crate) fn messages(
    plan: &PublishPlan,
    from: PlanSource<'_>,
    places: CopyTargets<'_>,
    time: PlanTime,
) -> Vec<Publication> {
    let PlanSource { message, provenance, emissions, entry } = from;
    let first = places.retry.steps.first();
    let is_ordered = places.waiting.is_some();
    let mut planned = match plan {
        PublishPlan::Emissions => emissions.to_vec(),
        PublishPlan::Copy(Decision::Retry { step, error }) => {
            let due_ms = is_ordered.then(|| time.now_ms.saturating_add(millis(step.delay)));
            let held = first.filter(|_| is_ordered).unwrap_or(step);
            let delay = held.delay + held.spread.mul_f64(time.jitter);
            let wait = RetryWait { source: places.source, delay, due_ms };
            vec![copies::retry(message, provenance, &wait, error)]
        }
        PublishPlan::Copy(Decision::DeadLetter { reason, error }) => {
            vec![copies::dead_letter(message, provenance, places.dead_letter, *reason, error)]
        }
        PublishPlan::Cut(reason, error) => {
            vec![copies::dead_letter_without_body(message, provenance, places.dead_letter, *reason, error)]
        }
        PublishPlan::AwaitTurn(wait) => {
            vec![copies::await_turn(message, provenance, places.source, *wait, time.now_ms)]
        }
        PublishPlan::Park => {
            let due_ms = message.properties.headers.int(header::DUE).and_then(|ms| u64::try_from(ms).ok());
            let round = first.map_or(PARK, |step| step.delay);
            // An event whose time comes before the end of the round does not wait for the end.
            let left = due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(time.now_ms)));
            let delay = left.filter(|left| !left.is_zero()).map_or(round, |left| left.min(round));
            let wait = RetryWait { source: places.source, delay, due_ms };
            vec![copies::park(message, provenance, &wait)]
        }
    };
    if !is_ordered && *plan != PublishPlan::Emissions {
        hold_within_ttl(&mut planned, provenance, time.now_ms);
    }
    if let (true, Some(list), Some((waiter, place))) = (plan.waits(), places.waiting, entry) {
        planned.push(waiting::entry(list, waiter, place, provenance.key.as_ref()));
    }
    planned
}

/// A copy comes back at the end of its message's own TTL at the latest, and is dead-lettered then. On an ordered route a copy comes
/// back at the end of its round, because an event whose TTL is over may have to wait for earlier events of its key.
fn hold_within_ttl(copies: &mut [Publication], provenance: &Provenance, now_ms: u64) {
    let Some(left) = provenance.left(now_ms) else { return };
    for copy in copies {
        copy.delay = copy.delay.map(|delay| delay.min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::RetryStep;
    use trunkline_event::{ExchangeName, Properties, Reason, RouteName, RoutingKey};

    const NOW_MS: u64 = 100_000;

    #[derive(Debug, Clone, Copy)]
    enum Order {
        Any,
        ByKey,
    }

    fn step(ms: u64) -> RetryStep {
        RetryStep { delay: Duration::from_millis(ms), spread: Duration::from_millis(ms / 8) }
    }

    /// The messages of a plan for a message whose header says the earliest time of the next attempt, and whose TTL ends at a time.
    /// The times are milliseconds from now.
    fn planned(
        plan: &PublishPlan,
        order: Order,
        [due_in_ms, expires_in_ms]: [Option<i64>; 2],
        jitter: f64,
    ) -> Vec<Publication> {
        let now = i64::try_from(NOW_MS).expect("small");
        let name = |text: &str| QueueName::new(text).expect("valid");
        let (source, list) = (name("q"), name("q.waiting"));
        let retry = Retry { max: 2, steps: [1_000, 1_600].map(step).to_vec() };
        let dead_letter = DeadLetter { exchange: ExchangeName::default_exchange(), key: name("q.dlq").as_key() };
        let mut properties = Properties::default();
        if let Some(due_in_ms) = due_in_ms {
            properties.headers.set(header::DUE, now + due_in_ms);
        }
        let message = Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties,
            body: bytes::Bytes::new(),
        };
        let provenance = Provenance {
            id: "e-1".into(),
            attempt: 2,
            received_at: "T".into(),
            route: RouteName::new("r").expect("valid"),
            plugin: "p".into(),
            digest: "d".into(),
            log: String::new(),
            own_id: true,
            expires_ms: expires_in_ms.map(|expires_in_ms| NOW_MS.saturating_add_signed(expires_in_ms)),
            key: None,
        };
        let emission = Publication { delay: Some(Duration::from_secs(60)), ..Publication::now(message.copy()) };
        let from = PlanSource { message: &message, provenance: &provenance, emissions: &[emission], entry: None };
        let waiting = match order {
            Order::Any => None,
            Order::ByKey => Some(&list),
        };
        let places = CopyTargets { source: &source, retry: &retry, dead_letter: &dead_letter, waiting };
        messages(plan, from, places, PlanTime { now_ms: NOW_MS, jitter })
    }

    /// The delay of the one copy of a plan, and its earliest time in milliseconds from now.
    fn copy(plan: &PublishPlan, order: Order, due_in_ms: Option<i64>, jitter: f64) -> (u128, Option<i64>) {
        let planned = planned(plan, order, [due_in_ms, None], jitter);
        let [copy] = planned.as_slice() else { panic!("one copy: {planned:?}") };
        assert_eq!((copy.message.routing_key.as_str(), copy.is_retry), ("q", true));
        let due = copy.message.properties.headers.int(header::DUE);
        let now = i64::try_from(NOW_MS).expect("small");
        (copy.delay.expect("it waits").as_millis(), due.map(|due| due - now))
    }

    #[test]
    fn a_retry_waits_for_its_step_and_on_an_ordered_route_for_one_round() {
        let plan = PublishPlan::Copy(Decision::Retry { step: step(1_600), error: "busy".into() });
        assert_eq!(copy(&plan, Order::Any, None, 0.0), (1_600, None));
        assert_eq!(copy(&plan, Order::Any, None, 1.0), (1_800, None));
        assert_eq!(copy(&plan, Order::ByKey, None, 0.0), (1_000, Some(1_600)));
    }

    /// A copy that comes back at the end of a round, and not at its time, would wait for up to twice its delay.
    #[test]
    fn the_last_round_of_an_event_ends_at_its_time() {
        for (due_in_ms, delay_ms) in [(None, 1_000), (Some(600), 600), (Some(5_000), 1_000), (Some(-1), 1_000)] {
            let waits = copy(&PublishPlan::Park, Order::ByKey, due_in_ms, 0.0);
            assert_eq!(waits, (delay_ms, due_in_ms), "{due_in_ms:?}");
        }
    }

    #[test]
    fn no_copy_waits_longer_than_the_ttl_of_its_message() {
        let retry = PublishPlan::Copy(Decision::Retry { step: step(1_600), error: "busy".into() });
        let turn = PublishPlan::AwaitTurn(Duration::from_secs(5));
        let dead = PublishPlan::Copy(Decision::dead_letter(Reason::Expired, "over"));
        for (plan, expires_in_ms, order, expected) in [
            (&retry, None, Order::Any, Some(1_600)),
            (&retry, Some(700), Order::Any, Some(700)),
            (&retry, Some(5_000), Order::Any, Some(1_600)),
            (&retry, Some(-1_000), Order::Any, Some(0)),
            (&retry, Some(700), Order::ByKey, Some(1_000)),
            (&PublishPlan::Park, Some(-1_000), Order::ByKey, Some(1_000)),
            (&turn, None, Order::Any, Some(5_000)),
            (&turn, Some(2_000), Order::Any, Some(2_000)),
            (&dead, Some(-1_000), Order::Any, None),
            (&PublishPlan::Emissions, Some(2_000), Order::Any, Some(60_000)),
        ] {
            let planned = planned(plan, order, [None, expires_in_ms], 0.0);
            let delays: Vec<_> = planned.iter().map(|planned| planned.delay.map(millis)).collect();
            assert_eq!(delays, [expected], "{plan:?} {expires_in_ms:?} {order:?}");
        }
    }
}
