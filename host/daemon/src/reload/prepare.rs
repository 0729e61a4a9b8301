//! Preparing a generation while another one runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use trunkline_config::{self as config, Config};
use trunkline_event::PluginName;
use trunkline_plugin_host::{self as plugin, CodeKind, Engine, Ready};
use trunkline_telemetry::{self as telemetry, CompiledCode};

use super::blocking::on_blocking_thread;
use super::file_stamp::{FileStamp, plugin_files};
use super::generation::{Generation, InstalledPlugin, now};
use super::refusal::{RefusalReason, RefusedReload};

/// Recently replaced plugins that are kept. Going back to one of them compiles and links nothing.
const RECENT_MAX: usize = 8;

/// Prepares generations.
pub struct Preparer {
    engine: Engine,
    recent: Mutex<VecDeque<(config::Plugin, Ready)>>,
}

impl Preparer {
    /// Prepares with this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, recent: Mutex::default() }
    }

    /// The first generation. A plugin that cannot run stops only its own routes.
    pub async fn first(&self, config: Arc<Config>) -> Generation {
        let before = Generation::before_first(config.clone());
        let plugins = self.install(&before, &config).await;
        Generation { number: 1, since: now(), plugins, config }
    }

    /// The generation after `before`, or `None` when it would be the same.
    ///
    /// # Errors
    /// When a plugin that is new or changed cannot run.
    pub async fn next(&self, before: &Generation, config: Config) -> Result<Option<Generation>, RefusedReload> {
        check_fixed(&before.config, &config)?;
        let plugins = self.install(before, &config).await;
        let was_known = |name: &PluginName, error: &str| {
            let old = before.plugins.get(name).and_then(|old| old.state.as_ref().err());
            old.is_some_and(|old| old == error)
        };
        let reasons: Vec<RefusalReason> = plugins
            .iter()
            .filter_map(|(name, plugin)| Some((name, plugin.state.as_ref().err()?)))
            .filter(|(name, error)| !was_known(name, error))
            .map(|(name, error)| RefusalReason::of_plugin(name, error))
            .collect();
        if !reasons.is_empty() {
            return Err(RefusedReload { reasons });
        }
        let next = Generation { number: before.number + 1, since: now(), config: Arc::new(config), plugins };
        // The state before the first generation has no routes, so the same configuration is new to it.
        let is_same = before.number > 0
            && *next.config == *before.config
            && next.changed_plugins(before).is_empty()
            && next
                .plugins
                .iter()
                .all(|(name, plugin)| before.plugins.get(name).is_some_and(|old| old.orphaned == plugin.orphaned));
        Ok((!is_same).then_some(next))
    }

    /// Keeps the plugins that `next` replaces.
    pub fn retire(&self, before: &Generation, next: &Generation) {
        let mut recent = self.recent.lock();
        for name in next.changed_plugins(before) {
            let Some(InstalledPlugin { settings, state: Ok(ready), .. }) = before.plugins.get(&name) else { continue };
            // A plugin with quick code still compiles, and a plugin that is not kept ends its compiler.
            if ready.code() == CodeKind::Quick {
                continue;
            }
            recent.retain(|(known, old)| known != settings || old.digest != ready.digest);
            recent.push_back((settings.clone(), ready.clone()));
        }
        while recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }

    async fn install(&self, before: &Generation, config: &Config) -> BTreeMap<PluginName, InstalledPlugin> {
        let mut tasks = JoinSet::new();
        let mut installed = BTreeMap::new();
        for (name, settings) in &config.plugins {
            // The stamp is taken before the file is read, so that a change meanwhile is found at the next reload.
            let stamps = stamps(settings).await;
            let old = before.plugins.get(name).filter(|old| old.settings == *settings);
            if let Some(kept) = old.and_then(|old| old.kept(name, &stamps)) {
                installed.insert(name.clone(), kept);
                continue;
            }
            let (engine, name, settings) = (self.engine.clone(), name.clone(), settings.clone());
            let mut known = self.recent(&settings);
            known.extend(old.and_then(|old| old.state.as_ref().ok()).cloned());
            if !settings.signers.is_empty() {
                // The same component may have lost its signature, so it is loaded again.
                known.clear();
            }
            tasks.spawn(async move {
                let state = load(&engine, &name, &settings, known).await;
                (name, InstalledPlugin { settings, stamps, state, orphaned: false })
            });
        }
        installed.extend(tasks.join_all().await);
        installed
    }

    fn recent(&self, settings: &config::Plugin) -> Vec<Ready> {
        let recent = self.recent.lock();
        recent.iter().filter(|(known, _)| known == settings).map(|(_, ready)| ready.clone()).collect()
    }
}

/// The stamps of a plugin's files.
async fn stamps(settings: &config::Plugin) -> Vec<Option<FileStamp>> {
    let files = plugin_files(settings);
    on_blocking_thread(move || files.iter().map(|file| FileStamp::of(file)).collect()).await
}

async fn load(
    engine: &Engine,
    name: &PluginName,
    settings: &config::Plugin,
    known: Vec<Ready>,
) -> Result<Ready, String> {
    if !known.is_empty() {
        let file = settings.file.clone();
        let digest = tokio::task::spawn_blocking(move || plugin::digest_of(&file)).await;
        let digest = digest.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if let Some(same) = known.into_iter().find(|ready| *ready.digest == *digest) {
            return Ok(same);
        }
    }
    let loaded = plugin::load_one(engine, name, settings).await;
    match loaded {
        Ok(plugin) => {
            let code = if plugin.is_cached { CompiledCode::Cached } else { CompiledCode::Fresh };
            telemetry::plugin_loaded(name, &plugin.digest, code, plugin.load_time);
            Ok(plugin)
        }
        Err(error) => {
            telemetry::plugin_refused(name, &error.to_string());
            Err(error.to_string())
        }
    }
}

/// Refuses changes that need a restart.
fn check_fixed(before: &Config, next: &Config) -> Result<(), RefusedReload> {
    let fixed = [
        ("[broker]", before.broker == next.broker),
        ("[http]", before.http == next.http),
        ("state-dir", before.state_dir == next.state_dir),
    ];
    let changed = fixed.into_iter().filter(|(_, is_same)| !is_same);
    let reasons: Vec<RefusalReason> = changed
        .map(|(key, _)| RefusalReason::new(format!("{key} changed; restart the daemon to apply the change")))
        .collect();
    if reasons.is_empty() { Ok(()) } else { Err(RefusedReload { reasons }) }
}
