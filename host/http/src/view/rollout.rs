//! The trial of a canary, and the orders that end the trial.

use serde::Serialize;
use utoipa::ToSchema;

/// A canary and the state of its trial.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RolloutView {
    /// Name of the route.
    pub route: String,
    /// Stable plugin of the route.
    pub stable: String,
    /// Plugin on trial.
    pub canary: String,
    /// Share of events that the canary handles, in percent.
    pub percent: f64,
    /// True if the daemon itself ends the trial when the counted results are sufficient.
    pub auto: bool,
    /// State of the trial: the digests, the `phase`, the reason and the counted results. The phase is `trial`, `promoted` or
    /// `rolled-back`.
    pub trial: serde_json::Value,
}

/// An order that ends a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum RolloutOrder {
    /// The canary gets every event.
    Promote,
    /// The canary gets no event.
    Abort,
}
