//! The settings of the model's route.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::broker::{DEAD, LIST, OUT, SOURCE};
use super::faulty::Faulty;
use super::schedule::Scenario;
use crate::profile::Profile;
use trunkline_config::{Codec, DeadLetter, DedupeWindow, Emit, Handler, OrderBy, Retry, RetryStep, Route, Tenant};
use trunkline_event::{ExchangeName, PluginName, QueueName, RouteName, RoutingKey};

pub(super) static ROUTE: LazyLock<RouteName> = LazyLock::new(|| RouteName::new("r").expect("a name"));

/// The settings of the route in a schedule.
pub(super) fn profile(scenario: &Scenario) -> Profile {
    let concurrency = u16::try_from(scenario.concurrency).expect("few");
    let settings = Route {
        queue: queue(SOURCE),
        handler: Handler::Plugin(PluginName::new("p").expect("a name")),
        schema: None,
        emit: emit(scenario),
        retry: retry(),
        dead_letter: DeadLetter {
            exchange: ExchangeName::default_exchange(),
            key: RoutingKey::new(DEAD).expect("a key"),
        },
        concurrency,
        hops_max: u32::MAX,
        body_max_bytes: usize::MAX,
        dedupe: scenario.dedupe.then_some(DedupeWindow { window: Duration::MAX, max: u32::MAX }),
        order_by: (scenario.ordered && !Faulty::OrderIgnored.is_planted()).then_some(OrderBy::Subject),
        waiting: scenario.ordered.then(|| queue(LIST)),
        rate: scenario.rate,
        tenant: scenario.tenant_rate.map(|rate| Tenant { by: OrderBy::Subject, rate: Some(rate) }),
        circuit: scenario.circuit,
        canary: None,
        shadow: None,
    };
    Profile {
        name: ROUTE.clone(),
        runs: Arc::from(settings.runs()),
        settings,
        prefetch: u16::try_from(scenario.prefetch).expect("few"),
        codec_in: Codec::Raw,
        is_atomic: scenario.atomic,
        key: None,
    }
}

/// Where the emissions of a schedule go.
pub(super) fn emit(scenario: &Scenario) -> Emit {
    Emit {
        exchange: ExchangeName::new(OUT).expect("a name"),
        key: "{type}".to_owned(),
        types: None,
        unroutable: scenario.unroutable,
        reply: false,
    }
}

fn retry() -> Retry {
    let step = |ms: u64| RetryStep { delay: Duration::from_millis(ms), spread: Duration::ZERO };
    Retry { max: 4, steps: [500, 1000, 2000, 4000].map(step).to_vec() }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("a name")
}
