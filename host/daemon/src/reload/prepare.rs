//! Preparing a generation beside the one that runs.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::facts::{self, Facts};
use super::{Fault, Inputs, Refused};
use trunkline_config::{self as config, Config};
use trunkline_event::PluginName;
use trunkline_plugin_host::{self as plugin, Engine, Ready};
use trunkline_telemetry as telemetry;

/// Plugins that ran lately: going back to one of them compiles and links nothing.
const RECENT_MAX: usize = 8;

/// One checked set of routes and plugins. Immutable: a change makes another one.
#[derive(Clone)]
pub struct Generation {
    /// Counts generations of this process, from 1; 0 before the first.
    pub number: u64,
    /// When it was taken over, RFC 3339.
    pub since: String,
    /// What the files say.
    pub config: Arc<Config>,
    /// Every plugin that a route names.
    pub plugins: BTreeMap<PluginName, Installed>,
}

/// A plugin of a generation.
#[derive(Clone)]
pub struct Installed {
    settings: config::Plugin,
    /// Of the component and what belongs to it.
    facts: Vec<Option<Facts>>,
    /// The plugin, or why it cannot run.
    pub state: Result<Ready, String>,
    /// Its file is gone; it runs on from memory.
    pub orphaned: bool,
}

/// What is needed to prepare.
pub struct Preparer {
    engine: Engine,
    recent: Mutex<VecDeque<(config::Plugin, Ready)>>,
}

impl Generation {
    /// What stands before the first one: the configuration, and no plugin yet.
    #[must_use]
    pub fn none(config: Arc<Config>) -> Self {
        Self { number: 0, since: now(), config, plugins: BTreeMap::new() }
    }

    /// The files that it was made of, for watching.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        Inputs::of(&self.config)
    }

    /// The digest of a plugin that can run.
    #[must_use]
    pub fn digest(&self, plugin: &PluginName) -> Option<&str> {
        Some(&self.plugins.get(plugin)?.state.as_ref().ok()?.digest)
    }

    /// The plugins that are others than in an earlier one, by their digests or settings.
    #[must_use]
    pub fn changed_plugins(&self, before: &Self) -> Vec<PluginName> {
        let is_same = |name: &PluginName, now: &Installed| match (before.plugins.get(name), &now.state) {
            (Some(Installed { settings, state: Ok(old), .. }), Ok(new)) => {
                old.digest == new.digest && *settings == now.settings
            }
            (Some(Installed { state: Err(old), .. }), Err(new)) => old == new,
            (Some(_) | None, Ok(_) | Err(_)) => false,
        };
        self.plugins.iter().filter(|(name, now)| !is_same(name, now)).map(|(name, _)| name.clone()).collect()
    }
}

impl Preparer {
    /// Prepares on this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, recent: Mutex::default() }
    }

    /// The first generation: a plugin that cannot run holds only its own routes down.
    pub async fn first(&self, config: Arc<Config>) -> Generation {
        let before = Generation::none(config.clone());
        let plugins = self.install(&before, &config).await;
        Generation { number: 1, since: now(), plugins, config }
    }

    /// The generation after another one, or nothing when it would be the same.
    ///
    /// # Errors
    /// When a plugin that is new or changed cannot run.
    pub async fn next(&self, before: &Generation, config: Config) -> Result<Option<Generation>, Refused> {
        check_fixed(&before.config, &config)?;
        let plugins = self.install(before, &config).await;
        let was_known = |name: &PluginName, error: &str| {
            let old = before.plugins.get(name).and_then(|old| old.state.as_ref().err());
            old.is_some_and(|old| old == error)
        };
        let faults: Vec<Fault> = plugins
            .iter()
            .filter_map(|(name, plugin)| Some((name, plugin.state.as_ref().err()?)))
            .filter(|(name, error)| !was_known(name, error))
            .map(|(name, error)| Fault::of_plugin(name, error))
            .collect();
        if !faults.is_empty() {
            return Err(Refused { faults });
        }
        let next = Generation { number: before.number + 1, since: now(), config: Arc::new(config), plugins };
        let is_same = *next.config == *before.config
            && next.changed_plugins(before).is_empty()
            && next
                .plugins
                .iter()
                .all(|(name, plugin)| before.plugins.get(name).is_some_and(|old| old.orphaned == plugin.orphaned));
        Ok((!is_same).then_some(next))
    }

    /// Remembers plugins that are about to be replaced.
    pub fn retire(&self, before: &Generation, next: &Generation) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for name in next.changed_plugins(before) {
            let Some(Installed { settings, state: Ok(ready), .. }) = before.plugins.get(&name) else { continue };
            recent.retain(|(known, old)| known != settings || old.digest != ready.digest);
            recent.push_back((settings.clone(), ready.clone()));
        }
        while recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }

    async fn install(&self, before: &Generation, config: &Config) -> BTreeMap<PluginName, Installed> {
        let mut tasks = JoinSet::new();
        let mut installed = BTreeMap::new();
        for (name, settings) in &config.plugins {
            // Looked at before it is read: a file that changes meanwhile is noticed the next time.
            let facts: Vec<Option<Facts>> = facts::files(settings).iter().map(|file| Facts::of(file)).collect();
            let old = before.plugins.get(name).filter(|old| old.settings == *settings);
            if let Some(kept) = old.and_then(|old| old.kept(name, &facts)) {
                installed.insert(name.clone(), kept);
                continue;
            }
            let (engine, name, settings) = (self.engine.clone(), name.clone(), settings.clone());
            let mut known = self.recent(&settings);
            known.extend(old.and_then(|old| old.state.as_ref().ok()).cloned());
            if !settings.signers.is_empty() {
                // The same component may have lost its signature.
                known.clear();
            }
            tasks.spawn(async move {
                let state = load(&engine, &name, &settings, known).await;
                (name, Installed { settings, facts, state, orphaned: false })
            });
        }
        installed.extend(tasks.join_all().await);
        installed
    }

    fn recent(&self, settings: &config::Plugin) -> Vec<Ready> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().filter(|(known, _)| known == settings).map(|(_, ready)| ready.clone()).collect()
    }
}

impl Installed {
    /// Itself, when its file is as it was, or is gone while the plugin is in memory.
    fn kept(&self, name: &PluginName, facts: &[Option<Facts>]) -> Option<Self> {
        let is_gone = facts.first().is_none_or(Option::is_none);
        if facts == self.facts {
            return Some(Self { orphaned: self.orphaned && is_gone, ..self.clone() });
        }
        if is_gone && self.state.is_ok() {
            if !self.orphaned {
                telemetry::plugin_orphaned(name, &self.settings.file);
            }
            return Some(Self { orphaned: true, ..self.clone() });
        }
        None
    }
}

async fn load(
    engine: &Engine,
    name: &PluginName,
    settings: &config::Plugin,
    known: Vec<Ready>,
) -> Result<Ready, String> {
    if !known.is_empty() {
        let file: PathBuf = settings.file.clone();
        let digest = tokio::task::spawn_blocking(move || plugin::digest_of(&file)).await;
        let digest = digest.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if let Some(same) = known.into_iter().find(|ready| *ready.digest == *digest) {
            return Ok(same);
        }
    }
    let loaded = plugin::load_one(engine, name, settings).await;
    match loaded {
        Ok(plugin) => {
            telemetry::plugin_loaded(name, &plugin.digest, plugin.cached, plugin.took);
            Ok(plugin)
        }
        Err(error) => {
            telemetry::plugin_refused(name, &error.to_string());
            Err(error.to_string())
        }
    }
}

/// What a process cannot change while it runs.
fn check_fixed(before: &Config, next: &Config) -> Result<(), Refused> {
    let fixed = [
        ("[broker]", before.broker == next.broker),
        ("[http]", before.http == next.http),
        ("state-dir", before.state_dir == next.state_dir),
    ];
    let changed = fixed.into_iter().filter(|(_, is_same)| !is_same);
    let faults: Vec<Fault> =
        changed.map(|(key, _)| Fault::new(format!("{key} changed, which takes a restart of the daemon"))).collect();
    if faults.is_empty() { Ok(()) } else { Err(Refused { faults }) }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
