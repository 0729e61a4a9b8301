//! The grants of a plugin.

use serde::{Deserialize, Serialize};

use crate::model::plugins::network::Network;
use crate::model::plugins::origin::Origin;
use crate::model::plugins::quota::{Quota, WrittenQuota};
use trunkline_event::{ExchangeName, PatternSet, RoutingKey};

/// `plugins.NAME.allow`. Everything else is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// Origins of HTTP requests. Without any, the interface is not linked.
    pub http: Vec<Origin>,
    /// Networks that are not public and that the plugin may connect to.
    pub private_networks: Vec<Network>,
    /// Quota of the plugin's state. Without it, the interface is not linked.
    pub kv: Option<Quota>,
    /// Exchanges and keys of emissions. Without it, the route's `emit` alone decides.
    pub emit: Option<Vec<EmitGrant>>,
}

impl Allow {
    /// The form of `plugins.lock`.
    #[must_use]
    pub fn written(&self) -> WrittenAllow {
        let emit = |grant: &EmitGrant| WrittenEmit {
            exchange: grant.exchange.to_string(),
            keys: grant.keys.iter().map(ToString::to_string).collect(),
        };
        WrittenAllow {
            http: self.http.iter().map(ToString::to_string).collect(),
            private_networks: self.private_networks.iter().map(ToString::to_string).collect(),
            kv: self.kv.map(Quota::written),
            emit: self.emit.as_ref().map(|grants| grants.iter().map(emit).collect()),
        }
    }
}

/// Grants in `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WrittenAllow {
    /// Origins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
    /// Networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_networks: Vec<String>,
    /// Quota of the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<WrittenQuota>,
    /// Exchanges and keys of emissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit: Option<Vec<WrittenEmit>>,
}

/// A grant to emit in `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenEmit {
    /// Exchange.
    pub exchange: String,
    /// Patterns.
    pub keys: Vec<String>,
}

/// One item of `allow.emit`: an exchange and patterns of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitGrant {
    /// Exchange.
    pub exchange: ExchangeName,
    keys: Vec<RoutingKey>,
    patterns: PatternSet<()>,
}

impl EmitGrant {
    /// A grant. The keys are topic patterns on every type of exchange, and one match is enough.
    #[must_use]
    pub fn new(exchange: ExchangeName, keys: Vec<RoutingKey>) -> Self {
        let patterns = keys.iter().map(|key| (key.as_str(), ())).collect();
        Self { exchange, keys, patterns }
    }

    /// Whether the grant covers an emission.
    #[must_use]
    pub fn allows(&self, exchange: &ExchangeName, key: &str) -> bool {
        self.exchange == *exchange && self.patterns.matches(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pattern_of_a_grant_is_enough() {
        let name = |text: &str| ExchangeName::new(text).expect("a name");
        let keys = ["crm.*.created", "planning.#"].map(|key| RoutingKey::pattern(key).expect("a pattern"));
        let grant = EmitGrant::new(name("events"), keys.to_vec());
        for (exchange, key, expected) in [
            ("events", "crm.lead.created", true),
            ("events", "planning", true),
            ("events", "crm.created", false),
            ("others", "planning", false),
        ] {
            assert_eq!(grant.allows(&name(exchange), key), expected, "{exchange} {key}");
        }
    }
}
