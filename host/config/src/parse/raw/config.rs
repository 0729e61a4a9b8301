//! The file as a whole.

use super::broker::RawBroker;
use super::defaults::RawDefaults;
use super::exchange::{self, RawExchange};
use super::hook::{self, RawEventType, RawHook};
use super::http::RawHttp;
use super::plugin::{self, RawPlugin};
use super::queue::{self, RawQueue};
use super::route::{self, RawRoute};
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::section::Listed;
use crate::keys::top;
use crate::parse::context::{ReadContext, Text};
use crate::parse::table::Table;

/// Every section.
#[derive(Debug)]
pub(crate) struct RawConfig {
    pub(crate) broker: RawBroker,
    pub(crate) http: RawHttp,
    pub(crate) state_dir: Option<Text>,
    pub(crate) plugin_dir: Option<Text>,
    pub(crate) locked: Option<bool>,
    /// `require-signature` at the top.
    pub(crate) signers: Option<Vec<Text>>,
    pub(crate) defaults: RawDefaults,
    pub(crate) exchanges: Vec<RawExchange>,
    pub(crate) queues: Vec<RawQueue>,
    pub(crate) plugins: Vec<RawPlugin>,
    pub(crate) routes: Vec<RawRoute>,
    pub(crate) hooks: Vec<RawHook>,
    pub(crate) event_types: Vec<RawEventType>,
}

impl RawConfig {
    /// Reads all sections, and reports what is wrong inside each of them.
    pub(crate) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Self {
        top.check_keys(cx);
        let useful: [&dyn Listed; 4] = [&top::QUEUES, &top::ROUTES, &top::HOOKS, &top::EVENT_TYPES];
        if useful.iter().all(|key| !top.has(*key)) {
            cx.findings
                .warning(
                    Code::Nothing,
                    &ValuePlace::File(0..0),
                    "the file has no route, no queue, no hook and no event type",
                )
                .help("add a table [routes.NAME] with `from = \"KEY\"` and `plugin = \"NAME\"`");
        }
        Self {
            broker: RawBroker::read(cx, top),
            http: RawHttp::read(cx, top),
            state_dir: top.text(cx, &top::STATE_DIR),
            plugin_dir: top.text(cx, &top::PLUGIN_DIR),
            locked: top.boolean(cx, &top::LOCKED),
            signers: top.texts(cx, &top::REQUIRE_SIGNATURE),
            defaults: RawDefaults::read(cx, top),
            exchanges: exchange::read(cx, top),
            queues: queue::read(cx, top),
            plugins: plugin::read(cx, top),
            routes: route::read(cx, top),
            hooks: hook::read_hooks(cx, top),
            event_types: hook::read_event_types(cx, top),
        }
    }
}
