//! Optimised code for a plugin that serves with quick code: compiled in the background, and then used by the next call.
//!
//! The task belongs to the plugin. When the plugin was replaced or removed, and its last call has ended, the task and its
//! compiler end too. Quick code stays in the cache until the optimised code is there, so a stop of the daemon loses only
//! the time of the compiler.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::compile::mode::CompileMode;
use super::compile::report::{CompileStage, CompileWatch};
use super::compiled::{off_async_threads, store};
use super::linked::link;
use super::plugin_code::CodeSlot;
use crate::abi::linked::LinkedComponent;
use crate::engine::shared::Engine;
use trunkline_config as config;
use trunkline_event::PluginName;

/// A component that has only quick code.
pub(crate) struct Unoptimised {
    pub(crate) engine: Engine,
    pub(crate) name: PluginName,
    pub(crate) allow: config::Allow,
    pub(crate) digest: String,
    pub(crate) component: Bytes,
}

/// The optimisation of one plugin.
pub(crate) struct Optimisation(Mutex<Step>);

enum Step {
    /// The code is optimised.
    Needless,
    /// The code is quick code, and no task runs.
    Possible(Box<Unoptimised>),
    /// The task runs or has ended. The set only ends the task.
    Begun(JoinSet<()>),
}

impl Optimisation {
    pub(crate) fn of(unoptimised: Option<Unoptimised>) -> Self {
        let step = unoptimised.map_or(Step::Needless, |unoptimised| Step::Possible(Box::new(unoptimised)));
        Self(Mutex::new(step))
    }

    /// Begins to make optimised code, unless the code is optimised or the task was begun.
    pub(crate) fn begin(&self, slot: &Arc<CodeSlot>) {
        let mut step = self.0.lock();
        *step = match std::mem::replace(&mut *step, Step::Needless) {
            Step::Possible(unoptimised) => {
                let mut tasks = JoinSet::new();
                tasks.spawn(optimise(*unoptimised, slot.clone()));
                Step::Begun(tasks)
            }
            Step::Begun(tasks) => Step::Begun(tasks),
            Step::Needless => Step::Needless,
        };
    }
}

async fn optimise(unoptimised: Unoptimised, slot: Arc<CodeSlot>) {
    let name = unoptimised.name.clone();
    match optimised(unoptimised).await {
        Ok(component) => slot.replace(component),
        Err(error) => tracing::warn!(
            plugin = %name,
            "a plugin has no optimised code; the plugin continues with quick code, and its calls take longer: {error}"
        ),
    }
}

/// The linked component with optimised code, from the cache or from a compiler.
async fn optimised(unoptimised: Unoptimised) -> Result<LinkedComponent, String> {
    let Unoptimised { engine, name, allow, digest, component } = unoptimised;
    let mode = CompileMode::Background;
    let mut watch = CompileWatch::begin(engine.compiler.reporter, &name, mode, component.len());
    let permit = watch.during(CompileStage::Waits, engine.compiler.permit(mode)).await;
    // A plugin with the same file may have made the code.
    let (digest, cached) = {
        let engine = engine.clone();
        let find = move || {
            let cached = engine.cache.get(&engine.engine, &digest, mode.code());
            Ok((digest, cached))
        };
        off_async_threads(find).await.map_err(|error| error.to_string())?
    };
    let component = match cached {
        Some(component) => component,
        None => {
            let compilation = engine.compiler.compile(&engine.engine, mode, component);
            let code = watch.during(CompileStage::Runs, compilation).await.map_err(|error| error.to_string())?;
            store(&engine, &digest, code).await.map_err(|error| error.to_string())?
        }
    };
    let linked = {
        let engine = engine.clone();
        off_async_threads(move || link(&engine, &component, &allow)).await
    };
    drop(permit);
    let linked = linked.map_err(|error| error.to_string())?;
    watch.end();
    Ok(linked)
}
