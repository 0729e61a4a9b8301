//! Loading of plugins through all stages: [`Compiled`], `Linked`, `Described` and [`Ready`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::compiled::{Compiled, off_async_threads};
use super::error::Error;
use super::ready::Ready;
use super::requirements::FileRequirements;
use crate::engine::shared::Engine;
use crate::grants::granted::Grants;
use trunkline_config as config;
use trunkline_event::PluginName;

/// Loads plugins concurrently, off the async threads. A plugin that cannot be loaded does not stop the others.
pub async fn load(
    engine: &Engine,
    plugins: &BTreeMap<PluginName, config::Plugin>,
) -> BTreeMap<PluginName, Result<Ready, Error>> {
    let mut tasks = JoinSet::new();
    for (name, plugin) in plugins {
        let (engine, name, plugin) = (engine.clone(), name.clone(), plugin.clone());
        tasks.spawn(async move {
            let result = load_one(&engine, &name, &plugin).await;
            (name, result)
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Loads one plugin, off the async threads.
///
/// # Errors
/// The reason why the plugin cannot be loaded.
pub async fn load_one(engine: &Engine, name: &PluginName, plugin: &config::Plugin) -> Result<Ready, Error> {
    let started = Instant::now();
    let compiled = Compiled::read(engine, &plugin.file, FileRequirements::new(name, plugin)).await?;
    let linked = {
        let (engine, allow) = (engine.clone(), plugin.allow.clone());
        off_async_threads(move || compiled.link(&engine, &allow)).await?
    };
    // Opening a store and reading certificates wait for the disk. A missing secret is reported before the plugin runs.
    let grants = {
        let (name, plugin, services) = (name.clone(), plugin.clone(), engine.services.clone());
        off_async_threads(move || Grants::new(&name, &plugin, &services)).await?
    };
    let described = linked.describe(engine, name, plugin).await?;
    Ok(described.ready(Arc::new(grants), started.elapsed()))
}
