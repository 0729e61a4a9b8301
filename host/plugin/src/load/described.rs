//! Third stage of loading: a component with the descriptor that it gave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::compile::mode::CodeKind;
use super::error::Error;
use super::linked::Linked;
use super::optimise::{Optimisation, Unoptimised};
use super::plugin_code::CodeSlot;
use super::ready::{LoadedPlugin, Ready};
use crate::abi::descriptor::PluginDescriptor;
use crate::abi::linked::LinkedComponent;
use crate::call::background::Pace;
use crate::call::backtrace;
use crate::call::call_data::CallContext;
use crate::call::cpu::CpuSampling;
use crate::call::debug::DebugInfo;
use crate::call::failure::{self, HOST_PANIC};
use crate::call::store::new_store;
use crate::engine::shared::Engine;
use crate::grants::granted::Grants;
use crate::recording::answers::HostAnswers;
use trunkline_config as config;
use trunkline_event::{CallFailure, PluginName};

/// A linked component with its descriptor, settings and debug information.
pub struct Described {
    engine: Engine,
    component: LinkedComponent,
    descriptor: Option<PluginDescriptor>,
    name: PluginName,
    digest: String,
    is_cached: bool,
    allow: config::Allow,
    unoptimised: Option<Bytes>,
    limits: config::Limits,
    pace: Arc<Pace>,
    debug: Arc<DebugInfo>,
}

impl Linked {
    /// Calls `describe`, if the plugin exports it, under the limits of an event and without any grant.
    ///
    /// # Errors
    /// When `describe` fails, runs too long, or returns too much.
    pub async fn describe(
        self,
        engine: &Engine,
        name: &PluginName,
        plugin: &config::Plugin,
    ) -> Result<Described, Error> {
        let Self { component, digest, is_cached, unoptimised } = self;
        let (pace, debug) = (Arc::<Pace>::default(), Arc::new(DebugInfo::new(&plugin.file, &digest)));
        let limits = plugin.limits;
        let call = {
            let (engine, component, name, debug) = (engine.clone(), component.clone(), name.clone(), debug.clone());
            Box::pin(async move { describe(&engine, &component, &name, limits, &debug).await })
        };
        let described = engine.background.run(&pace, call).await;
        let descriptor = described.unwrap_or_else(|| Err(HOST_PANIC.to_owned())).map_err(Error::Describe)?;
        let (engine, name, allow) = (engine.clone(), name.clone(), plugin.allow.clone());
        Ok(Described {
            engine,
            component,
            descriptor,
            name,
            digest,
            is_cached,
            allow,
            unoptimised,
            limits,
            pace,
            debug,
        })
    }
}

impl Described {
    /// The plugin with its grants, which can be called. `load_time` is the time since the load began.
    pub(crate) fn ready(self, grants: Arc<Grants>, load_time: Duration) -> Ready {
        let kind = if self.unoptimised.is_some() { CodeKind::Quick } else { CodeKind::Optimised };
        let unoptimised = self.unoptimised.map(|component| Unoptimised {
            engine: self.engine.clone(),
            name: self.name.clone(),
            allow: self.allow,
            digest: self.digest.clone(),
            component,
        });
        Ready::new(LoadedPlugin {
            engine: self.engine,
            interface: self.component.interface(),
            code: Arc::new(CodeSlot::new(self.component, kind)),
            optimisation: Optimisation::of(unoptimised),
            limits: self.limits,
            grants,
            pace: self.pace,
            cpu: CpuSampling::default(),
            debug: self.debug,
            name: self.name,
            digest: self.digest.into(),
            descriptor: self.descriptor,
            is_cached: self.is_cached,
            load_time,
        })
    }
}

async fn describe(
    engine: &Engine,
    component: &LinkedComponent,
    name: &PluginName,
    limits: config::Limits,
    debug: &DebugInfo,
) -> Result<Option<PluginDescriptor>, String> {
    let ends = Instant::now() + limits.timeout;
    let mut store = new_store(
        engine,
        CallContext {
            plugin: name,
            event: "describe",
            tenant: None,
            limits: &limits,
            ends,
            grants: Arc::new(Grants::none(name)),
            answers: HostAnswers::Live,
        },
    );
    match tokio::time::timeout_at(ends.into(), component.describe(&mut store)).await {
        Err(_elapsed) => Err(CallFailure::Timeout(limits.timeout).text()),
        Ok(Err(error)) => {
            let text = failure::of_engine_error(&error, &store, &limits).text();
            Err(text + &debug.render(backtrace::frames(&error)).await)
        }
        Ok(Ok(descriptor)) => descriptor.map(PluginDescriptor::checked).transpose(),
    }
}
