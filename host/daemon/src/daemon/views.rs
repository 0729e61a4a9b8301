//! The daemon's state in the form of the HTTP API.

use std::collections::BTreeMap;

use crate::reload::{Generation, InstalledPlugin};
use trunkline_config as config;
use trunkline_event::{PluginName, RouteName};
use trunkline_http::{ConditionView, GenerationView, PluginView, RouteHealth};
use trunkline_telemetry::{Condition, RaisedCondition, raised_conditions};

/// The conditions whose subject is a route.
const OF_ROUTES: [Condition; 3] = [Condition::RouteEnded, Condition::RouteDown, Condition::RouteStuck];

/// Every raised condition.
pub(super) fn conditions() -> Vec<ConditionView> {
    let view = |raised: RaisedCondition| ConditionView {
        condition: raised.condition.as_str(),
        subject: raised.subject,
        detail: raised.detail,
        since: raised.since,
    };
    raised_conditions().into_iter().map(view).collect()
}

/// The health of every route. The error of a route is the error of its plugin, or the first condition of the route.
pub(super) fn routes(generation: &Generation, raised: &[ConditionView]) -> BTreeMap<String, RouteHealth> {
    let plugin_health = |plugin: &PluginName| {
        let (digest, error) = match generation.plugins.get(plugin).map(|installed| &installed.state) {
            Some(Ok(ready)) => (Some(ready.digest.to_string()), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, Some("the daemon is loading the plugin of the route".to_owned())),
        };
        RouteHealth { plugin: plugin.to_string(), digest, error }
    };
    let health = |(name, route): (&RouteName, &config::Route)| {
        let RouteHealth { plugin, digest, error } = match route.plugin() {
            Some(plugin) => plugin_health(plugin),
            None => RouteHealth { plugin: route.runs().to_owned(), digest: None, error: None },
        };
        let of_route = |raised: &&ConditionView| {
            raised.subject == name.as_str() && OF_ROUTES.iter().any(|kind| kind.as_str() == raised.condition)
        };
        let error = error.or_else(|| raised.iter().find(of_route).map(|raised| raised.detail.clone()));
        (name.to_string(), RouteHealth { plugin, digest, error })
    };
    generation.config.routes.iter().map(health).collect()
}

/// A generation, without its reloads.
pub(super) fn generation(generation: &Generation) -> GenerationView {
    let plugin = |installed: &InstalledPlugin| match &installed.state {
        Ok(ready) => PluginView {
            state: if installed.orphaned { "orphaned" } else { "ready" },
            digest: Some(ready.digest.to_string()),
            version: ready.descriptor.as_ref().map(|descriptor| descriptor.version.clone()),
            code: Some(ready.code().as_str()),
            error: None,
        },
        Err(error) => {
            PluginView { state: "refused", digest: None, version: None, code: None, error: Some(error.clone()) }
        }
    };
    let plugins = generation.plugins.iter().map(|(name, installed)| (name.to_string(), plugin(installed)));
    let routes = generation.config.routes.iter();
    GenerationView {
        number: generation.number,
        since: generation.since.clone(),
        config: generation.config.digest.clone(),
        files: generation.config.files.iter().map(|file| file.display().to_string()).collect(),
        plugins: plugins.collect(),
        routes: routes.map(|(name, route)| (name.to_string(), route.runs().to_owned())).collect(),
        last_reload: None,
        last_refusal: None,
    }
}
