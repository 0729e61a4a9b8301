//! The plugins or the archive of a route, with their metrics.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::rollouts::Rollouts;
use crate::archive::RouteArchive;
use trunkline_broker::NothingPublished;
use trunkline_config as config;
use trunkline_event::RouteName;
use trunkline_plugin_host::CurrentPlugin;
use trunkline_telemetry::{self as telemetry, Variant};

/// Calls of a shadow that may run at a time. Further events are skipped.
const SHADOWS_MAX: usize = 4;

/// Slots of a route's plugins.
pub struct RoutePlugins {
    /// The stable plugin.
    pub stable: CurrentPlugin,
    /// The canary, if it can run.
    pub canary: Option<CurrentPlugin>,
    /// The shadow, if it can run.
    pub shadow: Option<CurrentPlugin>,
}

/// The plugins or the archive that handle the events of a route.
pub enum Handlers {
    /// Plugins run on the events.
    Plugins(RoutePlugins),
    /// Events are archived; no plugin runs.
    Archive(RouteArchive),
}

/// The plugins or the archive of a route, with their metrics.
pub(crate) enum RouteHandler {
    Plugins(Box<PluginVariants>),
    Archive(RouteArchive),
}

/// The plugins of a route.
pub(crate) struct PluginVariants {
    pub(super) stable: PluginVariant,
    pub(super) canary: Option<CanaryPlugin>,
    pub(super) shadow: Option<ShadowPlugin>,
    /// Calls of the shadow that run now.
    pub(super) shadows: Mutex<JoinSet<()>>,
}

/// A plugin of a route, with its metrics.
pub(crate) struct PluginVariant {
    pub(super) slot: CurrentPlugin,
    pub(super) calls: telemetry::CallMetrics,
}

/// The canary of a route.
pub(crate) struct CanaryPlugin {
    pub(super) variant: PluginVariant,
    pub(super) settings: config::Canary,
    pub(super) rollouts: Arc<Rollouts>,
}

/// The shadow of a route.
pub(crate) struct ShadowPlugin {
    pub(super) variant: Arc<PluginVariant>,
    pub(super) share: u16,
    pub(super) places: Arc<Semaphore>,
}

impl RouteHandler {
    pub(crate) fn new(
        route: &RouteName,
        settings: &config::Route,
        handlers: Handlers,
        rollouts: &Arc<Rollouts>,
    ) -> Self {
        let plugins = match handlers {
            Handlers::Archive(archive) => {
                telemetry::archive_loaded(route);
                return Self::Archive(archive);
            }
            Handlers::Plugins(plugins) => plugins,
        };
        let canary = plugins.canary.zip(settings.canary.clone());
        let shadow = plugins.shadow.zip(settings.shadow.as_ref());
        Self::Plugins(Box::new(PluginVariants {
            stable: PluginVariant::new(route, plugins.stable, Variant::Stable),
            canary: canary.map(|(slot, settings)| CanaryPlugin::new(route, slot, settings, rollouts.clone())),
            shadow: shadow.map(|(slot, settings)| ShadowPlugin::new(route, slot, settings)),
            shadows: Mutex::default(),
        }))
    }

    /// Digest of the plugin that runs now; empty on an archive route.
    pub(crate) fn digest(&self) -> Arc<str> {
        match self {
            Self::Plugins(variants) => variants.stable.slot.current().digest.clone(),
            Self::Archive(_) => Arc::from(""),
        }
    }

    /// Reason why an event without emissions may be acknowledged.
    pub(crate) fn nothing_published(&self) -> NothingPublished {
        match self {
            Self::Plugins(_) => NothingPublished::NoEmissions,
            Self::Archive(_) => NothingPublished::Archived,
        }
    }

    /// The route ends: a failed write of the archive is not tried again.
    pub(crate) fn drain(&self) {
        match self {
            Self::Plugins(_) => {}
            Self::Archive(archive) => archive.drain(),
        }
    }

    /// Removes the plugin's secrets from a text.
    pub(crate) fn clean(&self, text: &str) -> String {
        match self {
            Self::Plugins(variants) => variants.stable.slot.current().clean(text).into_owned(),
            Self::Archive(_) => text.to_owned(),
        }
    }
}

impl PluginVariant {
    fn new(route: &RouteName, slot: CurrentPlugin, variant: Variant) -> Self {
        let calls = telemetry::CallMetrics::new(route, &slot.current().name, variant);
        Self { slot, calls }
    }
}

impl CanaryPlugin {
    fn new(route: &RouteName, slot: CurrentPlugin, settings: config::Canary, rollouts: Arc<Rollouts>) -> Self {
        telemetry::canary_loaded(route);
        Self { variant: PluginVariant::new(route, slot, Variant::Canary), settings, rollouts }
    }
}

impl ShadowPlugin {
    fn new(route: &RouteName, slot: CurrentPlugin, settings: &config::Shadow) -> Self {
        telemetry::shadow_loaded(route);
        let variant = Arc::new(PluginVariant::new(route, slot, Variant::Shadow));
        Self { variant, share: settings.share, places: Arc::new(Semaphore::new(SHADOWS_MAX)) }
    }
}
