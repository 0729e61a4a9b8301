//! Last stage of loading: a plugin that can be called.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::compile::mode::CodeKind;
use super::optimise::Optimisation;
use super::plugin_code::CodeSlot;
use crate::abi::descriptor::PluginDescriptor;
use crate::call::background::Pace;
use crate::call::cpu::CpuSampling;
use crate::call::debug::DebugInfo;
use crate::engine::shared::Engine;
use crate::grants::granted::Grants;
use trunkline_config::{self as config, EmitGrant};
use trunkline_event::PluginName;

/// A plugin that can be called. Cheap to clone: every call holds a clone.
#[derive(Clone)]
pub struct Ready(Arc<LoadedPlugin>);

/// Parts of a [`Ready`] plugin. Only its code changes, once, from quick to optimised.
pub struct LoadedPlugin {
    pub(crate) engine: Engine,
    pub(crate) code: Arc<CodeSlot>,
    pub(crate) optimisation: Optimisation,
    pub(crate) interface: &'static str,
    pub(crate) limits: config::Limits,
    pub(crate) grants: Arc<Grants>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) cpu: CpuSampling,
    pub(crate) debug: Arc<DebugInfo>,
    /// Name in routes.toml.
    pub name: PluginName,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub digest: Arc<str>,
    /// Answer of the plugin's `describe`, if the plugin exports it.
    pub descriptor: Option<PluginDescriptor>,
    /// Whether the machine code came from the cache.
    pub is_cached: bool,
    /// Duration of loading.
    pub load_time: Duration,
}

impl Ready {
    pub(crate) fn new(plugin: LoadedPlugin) -> Self {
        Self(Arc::new(plugin))
    }

    /// Begins to make optimised code in the background, unless the code is optimised or the compilation has begun. Every
    /// call that begins after the end of the compilation uses the optimised code.
    pub fn optimise(&self) {
        self.optimisation.begin(&self.code);
    }

    /// The kind of the code that the next call uses.
    #[must_use]
    pub fn code(&self) -> CodeKind {
        self.code.current().kind
    }

    /// Patterns that the emissions have to match; `None` when only the route decides.
    #[must_use]
    pub fn emit(&self) -> Option<&[EmitGrant]> {
        self.grants.emit.as_deref()
    }

    /// The interface through which the plugin is called, with its version.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        self.interface
    }

    /// A text without the plugin's secrets.
    #[must_use]
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.grants.redactor.clean(text)
    }
}

impl Deref for Ready {
    type Target = LoadedPlugin;

    fn deref(&self) -> &LoadedPlugin {
        &self.0
    }
}
