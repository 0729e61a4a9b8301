//! One log line a settled event, with what its plugin emitted: the target `trunkline::trace`, at debug level. Data goes
//! to the log only when somebody asks for it, as the demo does.

use super::Settled;
use trunkline_event::{Reason, RouteName};

/// The target of these lines, for log filters: `trunkline::trace=debug`.
const TARGET: &str = "trunkline::trace";

/// One emission.
#[derive(Debug, serde::Serialize)]
pub struct EmittedTrace {
    /// Id.
    pub id: String,
    /// Type.
    pub r#type: String,
    /// Exchange.
    pub exchange: String,
    /// Key.
    pub routing_key: String,
    /// Whether a queue took it.
    pub routed: bool,
    /// The payload as text.
    pub data: String,
}

/// One settled event.
pub struct SettledTrace<'a> {
    /// The route.
    pub route: &'a RouteName,
    /// The event's id.
    pub event: &'a str,
    /// The event's type.
    pub kind: &'a str,
    /// How it ended.
    pub settled: Settled,
    /// Why, for a dead letter.
    pub reason: Option<Reason>,
}

impl SettledTrace<'_> {
    /// Whether anybody listens; what follows is not made otherwise.
    #[must_use]
    pub fn is_wanted() -> bool {
        tracing::enabled!(target: TARGET, tracing::Level::DEBUG)
    }

    /// Writes the line. `emitted` is a JSON array of [`EmittedTrace`].
    pub fn write(&self, emitted: &[EmittedTrace]) {
        let emitted = serde_json::to_string(emitted).unwrap_or_default();
        let reason = self.reason.map_or("", Reason::as_str);
        let (route, event, kind, outcome) = (self.route, self.event, self.kind, self.settled.as_str());
        tracing::debug!(target: TARGET, %route, event, r#type = kind, outcome, reason, emitted, "settled");
    }
}
