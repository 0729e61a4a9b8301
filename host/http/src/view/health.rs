//! The health of the daemon, its broker and its routes.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The health of the daemon.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// Status of the daemon: `ok`, `degraded` or `draining`. The status is `degraded` while `broker`, `routes` or
    /// `conditions` shows a problem.
    pub status: &'static str,
    /// Version of Trunkline.
    pub version: &'static str,
    /// State of the broker.
    pub broker: BrokerHealth,
    /// State of every route of the configuration. The key of the map is the name of the route.
    pub routes: BTreeMap<String, RouteHealth>,
    /// Raised conditions. The metric `trunkline_condition` shows the same conditions.
    pub conditions: Vec<ConditionView>,
    /// Whether the daemon accepts events. The daemon then has a session with the broker and does not drain.
    #[serde(skip)]
    #[schema(ignore)]
    pub ready: bool,
}

/// A condition that is raised.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConditionView {
    /// Kind of the condition, such as `broker-away`.
    #[schema(value_type = String)]
    pub condition: &'static str,
    /// Route, queue or store that has the problem. The text is empty if the condition has only one possible subject.
    pub subject: String,
    /// Description of the problem, as a sentence.
    pub detail: String,
    /// Time at which the condition was raised, in RFC 3339.
    #[schema(format = DateTime)]
    pub since: String,
}

/// The state of the broker, without credentials.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BrokerHealth {
    /// Address of the broker: `embedded` or `amqp://host:port/vhost`.
    pub broker: String,
    /// True while the daemon has a session with the broker.
    pub connected: bool,
    /// True while an alarm of the broker stops publishers.
    pub blocked: bool,
    /// Number of sessions with the broker since the start of the daemon.
    pub session: u64,
    /// Product name that the broker reported. Null for the embedded broker.
    #[schema(examples("RabbitMQ"))]
    pub product: Option<String>,
    /// Version that the broker reported. Null for the embedded broker.
    #[schema(examples("4.0.5"))]
    pub version: Option<String>,
    /// Refusals of the broker during the declaration of the topology.
    pub refused: Vec<String>,
    /// Reason why the daemon has no session with the broker.
    pub error: Option<String>,
}

/// The state of a route.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RouteHealth {
    /// Name of the route's plugin, or `archive` for a route with an archive.
    pub plugin: String,
    /// SHA-256 of the running plugin.
    pub digest: Option<String>,
    /// Reason why the route does not run.
    pub error: Option<String>,
}
