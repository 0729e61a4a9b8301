//! One function for each kind of occurrence. The function counts the occurrence and writes its log line.

mod archive;
mod broker;
mod calls;
mod counters;
mod event;
mod host_calls;
mod http;
mod plugin;
mod reload;
mod rollout;
mod route;
mod state;
mod streams;

pub use archive::{archive_failed, archive_loaded, archived};
pub use broker::{
    BrokerConnectionState, broker_certificate, broker_reconnected, broker_status, store_committed, store_size,
};
pub(crate) use calls::add_cpu;
pub use calls::{CallMetrics, Variant};
pub use event::{EventOrigin, EventRouting, event_accepted, event_repeated, headers_dropped};
pub use host_calls::{HostCallMetrics, HostInterface, HostOutcome};
pub use http::{
    HookResult, hook_added, hook_answered, hook_path_removed, hook_refused, hook_removed, http_answered, http_refused,
    http_turned_away,
};
pub use plugin::{CompiledCode, plugin_loaded, plugin_orphaned, plugin_refused};
pub use reload::{generation_adopted, reload_refused, reload_unchanged};
pub use rollout::{
    canary_loaded, canary_seen, rollout_begun, rollout_promoted, rollout_rolled_back, shadow_compared, shadow_loaded,
    shadow_skipped,
};
pub use route::{
    OrderLost, PublishResult, RouteMetrics, Settled, last_message_sent, route_down, route_ended, route_removed,
    route_up,
};
pub use state::{state_committed, state_failed};
pub use streams::{stream_closed, stream_opened, stream_sent};
