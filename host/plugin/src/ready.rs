//! A plugin that is loaded, and what it is made of.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::abi;
use super::debug::Debug;
use super::descriptor::Descriptor;
use super::engine::Engine;
use super::grants::Grants;
use trunkline_config::{self as config, EmitGrant};
use trunkline_event::PluginName;

/// A plugin that can be called. Cheap to clone: every call keeps one.
#[derive(Clone)]
pub struct Ready(Arc<Parts>);

/// What a [`Ready`] plugin is made of.
#[derive(Clone)]
pub struct Parts {
    pub(super) engine: Engine,
    pub(super) pre: abi::Pre,
    pub(super) limits: config::Limits,
    pub(super) grants: Arc<Grants>,
    /// Whether its calls begin in the background.
    pub(super) computes: Arc<AtomicBool>,
    pub(super) debug: Arc<Debug>,
    /// Its name in routes.toml.
    pub name: PluginName,
    /// sha-256 of the file, lower-case hexadecimal.
    pub digest: Arc<str>,
    /// What it says of itself.
    pub descriptor: Option<Arc<Descriptor>>,
    /// Whether compiled code was found.
    pub cached: bool,
    /// How long it took to load.
    pub took: Duration,
}

impl Ready {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// For who makes it: a clone that somebody else holds stays as it is.
    pub(super) fn change(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.0)
    }

    /// The patterns that its emissions have to fit; none when the route alone decides.
    #[must_use]
    pub fn emit(&self) -> Option<&[EmitGrant]> {
        self.grants.emit.as_deref()
    }

    /// A text without the plugin's secrets.
    #[must_use]
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.grants.redactor.clean(text)
    }
}

impl Deref for Ready {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
