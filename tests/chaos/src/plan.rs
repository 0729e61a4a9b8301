//! The events of a run. Everything about event `n` follows from the seed, so no list is kept. This module knows neither
//! brokers nor faults.

use serde_json::{Value, json};
use trunkline_event::{RouteName, emission_id};

use crate::schedule::BrokerKind;
use crate::side;

/// The exchange that events are published to.
pub const EXCHANGE: &str = "chaos-events";
/// The queue of the guest's emissions, which the sink consumes.
pub const OUTPUT_QUEUE: &str = "chaos-out";
/// The queue that is deleted and declared again.
pub const TARGET_QUEUE: &str = "chaos-target";
/// Dead letters of both routes.
pub const DEAD_LETTER_QUEUES: [&str; 2] = ["chaos-echo.dlq", "chaos-direct.dlq"];
/// The largest number of deliveries that a route holds.
pub const PREFETCH: u64 = 200;
/// The largest number of emissions of an event.
pub const EMISSIONS_MAX: usize = 3;

/// One event in this many is rejected by the guest.
const POISON_EVERY: u64 = 250;
/// One event in this many goes to the queue that is deleted.
const DIRECT_EVERY: u64 = 10;

/// The two routes for the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Emissions go to the topic exchange, into a quorum queue that is never deleted.
    Echo,
    /// Emissions go to a direct exchange, into a classic queue that is deleted at times.
    Direct,
}

impl Route {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Echo, Self::Direct];

    /// The name in routes.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "chaos-echo",
            Self::Direct => "chaos-direct",
        }
    }

    /// Routing key and type of its events.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Echo => "in",
            Self::Direct => "direct",
        }
    }
}

/// The expected result of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// The route.
    pub route: Route,
    /// The number of outputs; 0 for poison.
    pub emissions: usize,
    /// The event must become a dead letter.
    pub is_poison: bool,
}

/// The events of a seed.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    names: [RouteName; 2],
}

impl Plan {
    /// # Errors
    /// Never: the names are valid constants.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        Ok(Self { seed, names: [RouteName::new(Route::Echo.name())?, RouteName::new(Route::Direct.name())?] })
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Event `number`.
    #[must_use]
    pub fn event(&self, number: u64) -> Event {
        let mut random = fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let route = if random.u64(0..DIRECT_EVERY) == 0 { Route::Direct } else { Route::Echo };
        let is_poison = random.u64(0..POISON_EVERY) == 0;
        let emissions = match random.u8(0..20) {
            _ if is_poison => 0,
            0 => 3,
            1 => 2,
            _ => 1,
        };
        Event { number, route, emissions, is_poison }
    }

    /// A healthy event of a route, for probes: the first one from `number` on.
    #[must_use]
    pub fn healthy_from(&self, route: Route, number: u64) -> Event {
        (number..)
            .map(|number| self.event(number))
            .find(|event| event.route == route && !event.is_poison)
            .unwrap_or(Event { number, route, emissions: 1, is_poison: false })
    }

    /// The id of an event.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("c{:016x}-{number}", self.seed)
    }

    /// The number of an id that this plan made.
    #[must_use]
    pub fn number(&self, id: &str) -> Option<u64> {
        let (seed, number) = id.strip_prefix('c')?.split_once('-')?;
        (u64::from_str_radix(seed, 16).ok()? == self.seed).then_some(())?;
        number.parse().ok()
    }

    /// The body of an event and of all its outputs.
    #[must_use]
    pub fn body(number: u64) -> String {
        format!("{{\"n\":{number}}}")
    }

    /// The attributes that control the guest.
    #[must_use]
    pub fn attributes(event: Event) -> Vec<(&'static str, String)> {
        let mut attributes = Vec::new();
        if event.is_poison {
            attributes.push(("poison", "1".to_owned()));
        } else if event.emissions != 1 {
            attributes.push(("emit", event.emissions.to_string()));
        }
        attributes
    }

    /// The body of `POST /api/v1/events`.
    #[must_use]
    pub fn request(&self, event: Event) -> Value {
        let attributes: serde_json::Map<String, Value> =
            Self::attributes(event).into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
        json!({
            "type": event.route.key(),
            "id": self.id(event.number),
            "data": { "n": event.number },
            "attributes": attributes,
        })
    }

    /// The expected id of output `index` of an event.
    #[must_use]
    pub fn output_id(&self, event: Event, index: usize) -> String {
        let name = match event.route {
            Route::Echo => &self.names[0],
            Route::Direct => &self.names[1],
        };
        emission_id(&self.id(event.number), name, index, None)
    }
}

/// The routes file of a run.
#[must_use]
pub fn routes(broker: BrokerKind, plugin_dir: &std::path::Path) -> String {
    let load = format!(
        r#"plugin-dir = {dir:?}

[defaults]
exchange = {{ name = "{EXCHANGE}", type = "topic" }}
prefetch = {PREFETCH}

[exchanges.chaos-direct]
type = "direct"

[queues.{OUTPUT_QUEUE}]
owned = true
bind = "echoed"

[queues.{TARGET_QUEUE}]
owned = true
type = "classic"
bind = {{ exchange = "chaos-direct", keys = "target" }}

[routes.chaos-echo]
from = "in"
plugin = "picky"

[routes.chaos-direct]
from = "direct"
plugin = "picky"
emit = {{ exchange = "chaos-direct", key = "target", unroutable = "retry" }}
retry = {{ max = 8, delay = "250ms", multiplier = 2, max-delay = "8s" }}
"#,
        dir = plugin_dir.display().to_string()
    );
    load + &side::routes(broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_follow_from_the_seed() {
        let (plan, same, other) = (Plan::new(7).unwrap(), Plan::new(7).unwrap(), Plan::new(8).unwrap());
        let all: Vec<Event> = (0..5_000).map(|number| plan.event(number)).collect();
        assert_eq!(all, (0..5_000).map(|number| same.event(number)).collect::<Vec<_>>());
        assert_ne!(all, (0..5_000).map(|number| other.event(number)).collect::<Vec<_>>());
        assert!(all.iter().any(|event| event.is_poison && event.emissions == 0));
        assert!(all.iter().any(|event| event.route == Route::Direct));
        assert!((1..=EMISSIONS_MAX).all(|count| all.iter().any(|event| event.emissions == count)));
    }

    #[test]
    fn ids_lead_back_to_numbers() {
        let plan = Plan::new(u64::MAX).unwrap();
        assert_eq!(plan.number(&plan.id(123)), Some(123));
        assert_eq!(plan.number(&Plan::new(1).unwrap().id(123)), None, "the event belongs to another run");
        assert_eq!(plan.number("nonsense"), None);
    }
}
