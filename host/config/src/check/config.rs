//! The configuration as a whole.

use super::broker::connection;
use super::http::{event_types, hooks, listener};
use super::plugins::{grants, lock as plugin_lock, plugin};
use super::routes::settings::{self, RouteSettings};
use super::routes::{cycles, route};
use super::state_dir;
use super::topology::{derived, exchanges, queues};
use crate::model::broker::connection::BrokerChoice;
use crate::model::broker::topology::Topology;
use crate::model::config::Config;
use crate::model::plugins::lock;
use crate::parse::context::ReadContext;
use crate::parse::environment::Overlay;
use crate::parse::raw::config::RawConfig;
use crate::sources::Sources;

/// Checks the sections in the order in which they need each other. `files` and `digest` are for the caller to fill in.
/// `None` only after an error was reported.
pub(crate) fn check(cx: &mut ReadContext<'_>, raw: RawConfig, overlay: &Overlay, sources: &Sources) -> Option<Config> {
    let checked = connection::check(cx, &raw.broker, sources, overlay);
    let http = listener::check(cx, &raw.http, sources, overlay);
    let state = state_dir::place(cx, raw.state_dir.as_ref(), sources);
    let defaults = raw.defaults;
    let codec = defaults.queue.codec;
    let exchanges = exchanges::Exchanges::check(cx, raw.exchanges, defaults.exchange, overlay, codec);
    let mut queue_defaults = queues::defaults(cx, defaults.queue, &exchanges, overlay);
    queue_defaults.prefetch = queue_defaults.prefetch.or(raw.broker.prefetch);
    let mut route_defaults = defaults.route;
    route_defaults.concurrency = overlay.concurrency.as_ref().map(|at| at.value).or(route_defaults.concurrency);
    let settings = plugin::PluginDefaults::check(cx, raw.plugin_dir, raw.signers, defaults.limits);
    let plugins = plugin::DescribedPlugins::check(cx, raw.plugins, settings, &exchanges);
    let queues = queues::check(cx, raw.queues, &exchanges);
    let routes = settings::read(cx, raw.routes, &route_defaults);
    let event_types = event_types::check(cx, raw.event_types);
    let hooks = hooks::check(cx, raw.hooks, &exchanges, &http, sources);

    let named = routes.iter().flat_map(RouteSettings::plugins);
    let mut plugins = plugins.used(cx, named);
    let places = routes.iter().map(|route| (route.name.clone(), route.place.clone())).collect();
    let mut derived = derived::derive(cx, &exchanges, queues, &routes, &queue_defaults);
    if matches!(checked.broker, Some(BrokerChoice::Embedded)) {
        derived.warn_of_queues_of_others(cx);
    } else {
        derived.warn_of_losses(cx);
    }
    let routes = route::check(cx, &exchanges, &mut derived, routes);
    cycles::warn(cx, &routes, &derived.bindings, &exchanges.by_name, &places);
    grants::check_shadows(cx, &routes, &plugins, &places);
    grants::check_emit(cx, &routes, &plugins, &places);
    plugin_lock::apply(&lock::locked(&sources.file, raw.locked), &mut plugins);
    let (state, broker) = (state?, checked.broker?);
    Some(Config {
        file: sources.file.clone(),
        files: Vec::new(),
        digest: String::new(),
        state_dir: state.dir,
        earlier_state_dir: state.earlier,
        broker,
        http,
        log_filter: overlay.log_filter.clone(),
        topology: Topology {
            mode: checked.mode,
            exchanges: exchanges.by_name,
            queues: derived.queues,
            bindings: derived.bindings,
        },
        plugins,
        routes,
        event_types,
        hooks,
        default_exchange: exchanges.default,
    })
}
