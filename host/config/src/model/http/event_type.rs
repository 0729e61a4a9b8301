//! Event types that the HTTP API publishes.

use crate::model::schema::Schema;
use trunkline_event::RoutingKey;

/// `[event-types.NAME]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventType {
    /// Routing key; the type itself when absent.
    pub key: Option<RoutingKey>,
    /// The schema that the data has to fit.
    pub schema: Option<Schema>,
    /// AMQP priority of events that give none.
    pub priority: Option<u8>,
    /// A description for people.
    pub description: Option<String>,
}
