//! One log line for each settled event, with its emissions. The target is `trunkline::trace`, at debug level, so that data
//! is logged only when `LOG_LEVEL` asks for it.

use trunkline_event::{Reason, RouteName};

use crate::occurrence::Settled;

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
    /// Whether a queue got it.
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
    /// The outcome of the delivery.
    pub settled: Settled,
    /// The reason of a dead letter.
    pub reason: Option<Reason>,
}

impl SettledTrace<'_> {
    /// Whether the lines are logged. The caller makes no trace otherwise.
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
