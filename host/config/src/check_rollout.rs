//! `canary` and `shadow` of a route: plugins beside the one that runs.

use std::ops::RangeInclusive;

use super::check_flow;
use super::checked_routes::{Canary, Shadow};
use super::codes::Code;
use super::walk::{Context, Table};
use trunkline_event::PluginName;

const PERCENT: RangeInclusive<f64> = 0.01..=100.0;
const SAMPLE: RangeInclusive<f64> = 0.01..=100.0;

/// What one table says.
#[derive(Debug, Clone, Default)]
pub(super) struct RolloutKeys {
    pub(super) canary: Option<Canary>,
    pub(super) shadow: Option<Shadow>,
}

impl RolloutKeys {
    /// `stable` is the route's own plugin.
    pub(super) fn read(cx: &mut Context<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Self {
        Self { canary: canary(cx, table, stable), shadow: shadow(cx, table, stable) }
    }

    /// The plugins that they name.
    pub(super) fn plugins(&self) -> impl Iterator<Item = PluginName> {
        let canary = self.canary.as_ref().map(|canary| canary.plugin.clone());
        canary.into_iter().chain(self.shadow.as_ref().map(|shadow| shadow.plugin.clone()))
    }
}

/// `{plugin = "NAME", percent = 10, by = "tenant", auto = true}`
fn canary(cx: &mut Context<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Option<Canary> {
    let inner = table.table(cx, "canary")?;
    inner.check_keys(cx, &["plugin", "percent", "by", "auto"], &[]);
    inner.require(cx, "plugin", "plugin = \"NAME\"");
    inner.require(cx, "percent", "percent = 10");
    let plugin = plugin(cx, &inner, stable);
    let percent = inner.number(cx, "percent", PERCENT);
    let by = check_flow::key(cx, &inner, "by");
    let auto = inner.boolean(cx, "auto").unwrap_or(true);
    Some(Canary { plugin: plugin?, share: share(percent?), by, auto })
}

/// `{plugin = "NAME", sample = 25}`
fn shadow(cx: &mut Context<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Option<Shadow> {
    let inner = table.table(cx, "shadow")?;
    inner.check_keys(cx, &["plugin", "sample"], &[]);
    inner.require(cx, "plugin", "plugin = \"NAME\"");
    let plugin = plugin(cx, &inner, stable);
    let sample = inner.number(cx, "sample", SAMPLE).unwrap_or(100.0);
    Some(Shadow { plugin: plugin?, share: share(sample) })
}

fn plugin(cx: &mut Context<'_>, table: &Table<'_>, stable: Option<&PluginName>) -> Option<PluginName> {
    let text = table.text(cx, "plugin")?;
    let plugin = text.name(cx, |text| PluginName::new(text))?;
    if Some(&plugin) == stable {
        let message = format!("{} names the plugin that the route runs anyway", table.title);
        cx.error(Code::SamePlugin, &text.place, message).help("name another plugin, or remove it");
        return None;
    }
    Some(plugin)
}

/// Per cent as hundredths of one; the bounds keep it within 1 to 10000.
fn share(percent: f64) -> u16 {
    (percent * 100.0).round() as u16
}
