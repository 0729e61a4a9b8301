//! Canary and shadow of a route.

use crate::model::routes::flow::OrderBy;
use trunkline_event::PluginName;

/// `routes.NAME.canary`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The plugin; a key of `Config::plugins`.
    pub plugin: PluginName,
    /// Share of the keys, in hundredths of a percent.
    pub share: u16,
    /// The part of an event that is the key. When absent: the route's `order-by`, else the event's id.
    pub by: Option<OrderBy>,
    /// Whether the daemon promotes the canary and rolls it back by itself.
    pub auto: bool,
}

/// `routes.NAME.shadow`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The plugin; a key of `Config::plugins`.
    pub plugin: PluginName,
    /// Share of the events, in hundredths of a percent.
    pub share: u16,
}
