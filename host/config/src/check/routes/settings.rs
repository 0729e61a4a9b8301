//! The settings of routes, with the defaults.

use super::archive;
use super::schema;
use crate::diagnostics::place::ValuePlace;
use crate::model::routes::route::{Handler, SchemaRule};
use crate::parse::context::ReadContext;
use crate::parse::raw::rollout::RolloutKeys;
use crate::parse::raw::route::{RawHandler, RawRoute, RawSchemaRule, RouteInput, RouteKeys};
use trunkline_event::{PluginName, RouteName};

/// A route that has all that it needs, before its queue is known.
#[derive(Debug)]
pub(crate) struct RouteSettings {
    pub(crate) name: RouteName,
    pub(crate) place: ValuePlace,
    pub(crate) input: RouteInput,
    pub(crate) handler: Handler,
    /// With the defaults.
    pub(crate) keys: RouteKeys,
    pub(crate) rollout: RolloutKeys,
    pub(crate) schema: Option<SchemaRule>,
}

impl RouteSettings {
    /// The plugins that the route names.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = PluginName> {
        let stable = match &self.handler {
            Handler::Plugin(plugin) => Some(plugin.clone()),
            Handler::Archive(_) => None,
        };
        self.rollout.plugins().chain(stable)
    }
}

/// Lays the defaults below each route. A route that lacks what it needs was reported, and is left out.
pub(crate) fn read(cx: &mut ReadContext<'_>, raw: Vec<RawRoute>, defaults: &RouteKeys) -> Vec<RouteSettings> {
    let mut routes = Vec::new();
    for raw in raw {
        let handler = raw.handler.map(|handler| match handler {
            RawHandler::Plugin(plugin) => Handler::Plugin(plugin),
            RawHandler::Archive(raw) => Handler::Archive(archive::check(cx, raw)),
        });
        let schema = raw.schema.and_then(|rule| schema_rule(cx, &rule));
        let name = raw.name.name(cx, "route name", |text| RouteName::new(text));
        if let (Some(name), Some(handler), Some(input)) = (name, handler, raw.input) {
            let (place, keys, rollout) = (raw.name.place, raw.keys.or(defaults), raw.rollout);
            routes.push(RouteSettings { name, place, input, handler, keys, rollout, schema });
        }
    }
    routes
}

fn schema_rule(cx: &mut ReadContext<'_>, rule: &RawSchemaRule) -> Option<SchemaRule> {
    Some(SchemaRule { schema: schema::compile(cx, &rule.file)?, version: rule.version })
}
