//! `canary` and `shadow` of a route: plugins beside the stable one.

use super::flow;
use crate::diagnostics::codes::Code;
use crate::keys::key::{self, Key};
use crate::keys::routes::rollout::{
    CANARY_AUTO, CANARY_BY, CANARY_PERCENT, CANARY_PLUGIN, SHADOW_PLUGIN, SHADOW_SAMPLE,
};
use crate::keys::routes::route::{CANARY_TABLE, SHADOW_TABLE};
use crate::model::routes::rollout::{Canary, Shadow};
use crate::parse::context::ReadContext;
use crate::parse::table::Table;
use trunkline_event::PluginName;

#[derive(Debug, Clone, Default)]
pub(crate) struct RolloutKeys {
    pub(crate) canary: Option<Canary>,
    pub(crate) shadow: Option<Shadow>,
}

impl RolloutKeys {
    /// `stable` is the route's own plugin.
    pub(super) fn read(cx: &mut ReadContext<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Self {
        Self { canary: canary(cx, table, stable), shadow: shadow(cx, table, stable) }
    }

    /// The plugins that they name.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = PluginName> {
        let canary = self.canary.as_ref().map(|canary| canary.plugin.clone());
        canary.into_iter().chain(self.shadow.as_ref().map(|shadow| shadow.plugin.clone()))
    }
}

/// `{ plugin = "NAME", percent = 10, by = "tenant", auto = true }`
fn canary(cx: &mut ReadContext<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Option<Canary> {
    let inner = table.table(cx, &CANARY_TABLE)?;
    inner.require(cx, &CANARY_PLUGIN, "plugin = \"NAME\"");
    inner.require(cx, &CANARY_PERCENT, "percent = 10");
    let plugin = plugin(cx, &inner, &CANARY_PLUGIN, stable);
    let percent = inner.number(cx, &CANARY_PERCENT);
    let by = flow::event_field(cx, &inner, &CANARY_BY);
    let auto = inner.boolean(cx, &CANARY_AUTO).unwrap_or(CANARY_AUTO.fallback());
    Some(Canary { plugin: plugin?, share: share(percent?), by, auto })
}

/// `{ plugin = "NAME", sample = 25 }`
fn shadow(cx: &mut ReadContext<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Option<Shadow> {
    let inner = table.table(cx, &SHADOW_TABLE)?;
    inner.require(cx, &SHADOW_PLUGIN, "plugin = \"NAME\"");
    let plugin = plugin(cx, &inner, &SHADOW_PLUGIN, stable);
    let sample = inner.number(cx, &SHADOW_SAMPLE).unwrap_or(SHADOW_SAMPLE.fallback());
    Some(Shadow { plugin: plugin?, share: share(sample) })
}

fn plugin(
    cx: &mut ReadContext<'_>,
    table: &Table<'_>,
    key: &'static Key<key::TextValue>,
    stable: Option<&PluginName>,
) -> Option<PluginName> {
    let text = table.text(cx, key)?;
    let plugin = text.name(cx, "plugin name", |text| PluginName::new(text))?;
    if Some(&plugin) == stable {
        let message =
            format!("{} names the plugin \"{plugin}\", which is already the `plugin` of the route", table.title);
        cx.error(Code::SamePlugin, &text.place, message)
            .help(format!("write `plugin = \"NAME\"` with another plugin, or remove {}", table.title));
        return None;
    }
    Some(plugin)
}

/// Percent as hundredths of a percent. The bounds of the keys keep the result within 1 to 10000.
fn share(percent: f64) -> u16 {
    (percent * 100.0).round() as u16
}
