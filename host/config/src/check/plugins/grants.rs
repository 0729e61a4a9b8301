//! The grants of plugins, and whether routes can work with them.

use std::collections::BTreeMap;

use crate::check::routes::cycles;
use crate::check::topology::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::model::plugins::allow::{Allow, EmitGrant};
use crate::model::plugins::network::is_public;
use crate::model::plugins::origin::OriginHost;
use crate::model::plugins::plugin::Plugin;
use crate::model::routes::route::Route;
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::plugin::{RawAllow, RawEmitGrant};
use trunkline_event::{ExchangeName, PluginName, RouteName, RoutingKey};

/// Checks `allow`; nothing is granted when it is absent.
pub(crate) fn check(cx: &mut ReadContext<'_>, raw: RawAllow, exchanges: &Exchanges) -> Allow {
    let private_networks = raw.private_networks;
    for origin in &raw.http {
        let OriginHost::Address(address) = origin.value.host else { continue };
        if !is_public(address) && !private_networks.iter().any(|network| network.contains(address)) {
            let message =
                format!("the address {address} is not public, so the daemon would refuse requests to this address");
            cx.error(Code::BadOrigin, &origin.place, message)
                .help(format!("write `private-networks = [\"{address}\"]` beside `http`"));
        }
    }
    let http = raw.http.into_iter().map(|origin| origin.value).collect();
    let emit = raw.emit.map(|grants| grants.iter().filter_map(|grant| emit_grant(cx, grant, exchanges)).collect());
    Allow { http, private_networks, kv: raw.kv, emit }
}

fn emit_grant(cx: &mut ReadContext<'_>, raw: &RawEmitGrant, exchanges: &Exchanges) -> Option<EmitGrant> {
    let exchange = match &raw.exchange {
        None => exchanges.default.clone(),
        Some(text) if text.value.is_empty() => ExchangeName::default_exchange(),
        Some(text) => exchanges.resolve(cx, text)?,
    };
    let keys = match &raw.keys {
        Some(keys) => keys.iter().filter_map(|key| pattern(cx, key)).collect(),
        None => vec![RoutingKey::new("#").ok()?],
    };
    Some(EmitGrant::new(exchange, keys))
}

fn pattern(cx: &mut ReadContext<'_>, text: &Text) -> Option<RoutingKey> {
    text.name(cx, "topic pattern", RoutingKey::pattern)
}

/// Warns of a shadow with more grants than the stable plugin. A shadow is answered from the recording of the stable plugin.
pub(crate) fn check_shadows(
    cx: &mut ReadContext<'_>,
    routes: &BTreeMap<RouteName, Route>,
    plugins: &BTreeMap<PluginName, Plugin>,
    places: &BTreeMap<RouteName, ValuePlace>,
) {
    let asks = |plugin: &PluginName| {
        let allow = plugins.get(plugin).map(|plugin| &plugin.allow);
        allow.map_or((false, false), |allow| (!allow.http.is_empty(), allow.kv.is_some()))
    };
    for (name, route) in routes {
        let Some(shadow) = route.shadow.as_ref().map(|shadow| &shadow.plugin) else { continue };
        let Some(stable) = route.plugin() else { continue };
        let (may, wants) = (asks(stable), asks(shadow));
        for (key, beyond) in [("http", wants.0 && !may.0), ("kv", wants.1 && !may.1)] {
            if let Some(place) = places.get(name).filter(|_| beyond) {
                let message = format!(
                    "the shadow \"{shadow}\" has the grant `{key}`, which the stable plugin \"{stable}\" does not have"
                );
                let help = format!(
                    "add `{key}` to `allow` of [plugins.{stable}], or remove `{key}` from `allow` of [plugins.{shadow}]"
                );
                cx.findings.warning(Code::ShadowGrants, place, message).help(help);
            }
        }
    }
}

/// Reports routes whose plugin may not emit to the route's target. An exchange that no grant names is an error, and so is the
/// nameless exchange for replies. A key is a warning, because a plugin may choose another key.
pub(crate) fn check_emit(
    cx: &mut ReadContext<'_>,
    routes: &BTreeMap<RouteName, Route>,
    plugins: &BTreeMap<PluginName, Plugin>,
    places: &BTreeMap<RouteName, ValuePlace>,
) {
    for (name, route) in routes {
        let Some(plugin) = route.plugin() else { continue };
        let grants = plugins.get(plugin).and_then(|plugin| plugin.allow.emit.as_ref());
        let (Some(grants), Some(place)) = (grants, places.get(name)) else { continue };
        let emit = &route.emit;
        if emit.reply && !grants.iter().any(|grant| grant.exchange.is_default()) {
            let message = format!(
                "the plugin \"{plugin}\" may not emit to the nameless exchange, to which this route publishes replies"
            );
            let help =
                format!("add `{{ exchange = \"\", keys = [\"#\"] }}` to `emit` in `allow` of [plugins.{plugin}]");
            cx.error(Code::EmitGrant, place, message).help(help);
        }
        let shown = |key: &str| format!("`{{ exchange = \"{}\", keys = [\"{key}\"] }}`", emit.exchange);
        if !grants.iter().any(|grant| grant.exchange == emit.exchange) {
            let message = format!(
                "the plugin \"{plugin}\" may not emit to the exchange \"{}\", to which this route publishes",
                emit.exchange
            );
            let help = format!("add {} to `emit` in `allow` of [plugins.{plugin}]", shown("#"));
            cx.error(Code::EmitGrant, place, message).help(help);
            continue;
        }
        let keys = cycles::keys(emit);
        for key in keys.iter().filter(|key| !grants.iter().any(|grant| grant.allows(&emit.exchange, key))) {
            let message =
                format!("the plugin \"{plugin}\" may not emit with the key \"{key}\", with which this route publishes");
            let help = format!("add {} to `emit` in `allow` of [plugins.{plugin}]", shown(key));
            cx.findings.warning(Code::EmitGrant, place, message).help(help);
        }
    }
}
