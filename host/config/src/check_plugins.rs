//! `[plugins.NAME]` and `limits`, which `[defaults]` may have too.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check_exchanges::Exchanges;
use super::check_grants;
use super::checked::{Limits, Plugin};
use super::codes::Code;
use super::diagnostics::Place;
use super::walk::{Context, Table, text};
use trunkline_event::PluginName;

/// A component needs a page of 64 KiB to begin with; 4 GiB is all that 32 bits address.
const MEMORY: RangeInclusive<u64> = 64 * 1024..=4 * 1024 * 1024 * 1024;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
const EMISSIONS: RangeInclusive<u32> = 0..=100_000;
const OUTPUT: RangeInclusive<u64> = 1..=1024 * 1024 * 1024;
const LOG: RangeInclusive<u64> = 0..=16 * 1024 * 1024;

const HTTP_BODY: RangeInclusive<u64> = 0..=128 * 1024 * 1024;

pub(super) const LIMIT_KEYS: [&str; 6] = ["memory", "timeout", "emissions", "output", "log", "http-body"];

/// What one table says about limits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LimitKeys {
    memory: Option<u64>,
    timeout: Option<Duration>,
    emissions: Option<u32>,
    output: Option<u64>,
    log: Option<u64>,
    http_body: Option<u64>,
}

impl LimitKeys {
    /// Reads the keys of a table, which may have others.
    pub(super) fn read(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        Self {
            memory: table.size(cx, "memory", &MEMORY).map(|at| at.value),
            timeout: table.duration(cx, "timeout", &TIMEOUT).map(|at| at.value),
            emissions: table.integer(cx, "emissions", EMISSIONS).map(|at| at.value),
            output: table.size(cx, "output", &OUTPUT).map(|at| at.value),
            log: table.size(cx, "log", &LOG).map(|at| at.value),
            http_body: table.size(cx, "http-body", &HTTP_BODY).map(|at| at.value),
        }
    }

    /// Reads `limits = {...}` of a table.
    pub(super) fn read_table(cx: &mut Context<'_>, table: &Table<'_>) -> Self {
        let Some(limits) = table.table(cx, "limits") else { return Self::default() };
        limits.check_keys(cx, &LIMIT_KEYS, &[]);
        Self::read(cx, &limits)
    }

    /// The own keys, and those of `other` where there is none.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            timeout: self.timeout.or(other.timeout),
            emissions: self.emissions.or(other.emissions),
            output: self.output.or(other.output),
            log: self.log.or(other.log),
            http_body: self.http_body.or(other.http_body),
        }
    }

    fn checked(self) -> Limits {
        let default = Limits::default();
        Limits {
            memory_max_bytes: self.memory.unwrap_or(default.memory_max_bytes),
            timeout: self.timeout.unwrap_or(default.timeout),
            emissions_max: self.emissions.unwrap_or(default.emissions_max),
            output_max_bytes: self.output.unwrap_or(default.output_max_bytes),
            log_max_bytes: self.log.unwrap_or(default.log_max_bytes),
            http_body_max_bytes: self.http_body.unwrap_or(default.http_body_max_bytes),
        }
    }
}

/// The plugins that tables describe, and where a plugin without a table is found.
pub(super) struct Plugins {
    described: BTreeMap<PluginName, (Plugin, Place)>,
    directory: PathBuf,
    limits: Limits,
    signers: Vec<String>,
}

impl Plugins {
    /// Reads all tables. `directory` is that of routes.toml.
    pub(super) fn read(
        cx: &mut Context<'_>,
        top: &Table<'_>,
        directory: &Path,
        defaults: LimitKeys,
        exchanges: &Exchanges,
    ) -> Self {
        const KNOWN: [&str; 7] = ["file", "digest", "config", "secrets", "allow", "require-signature", "limits"];
        let plugin_dir = top.text(cx, "plugin-dir").map_or_else(|| "plugins".to_owned(), |text| text.value);
        let mut plugins = Self {
            described: BTreeMap::new(),
            directory: directory.join(plugin_dir),
            limits: defaults.checked(),
            signers: check_grants::signers(cx, top).unwrap_or_default(),
        };
        for (name, table) in top.tables(cx, "plugins") {
            table.check_keys(cx, &KNOWN, &[]);
            let file = table.text(cx, "file").map(|text| directory.join(text.value));
            let mut plugin = plugins.plain(file.unwrap_or_default());
            let has_file = table.has("file");
            plugin.digest = digest(cx, &table);
            plugin.config = config(cx, &table);
            plugin.secrets = check_grants::secrets(cx, &table, directory);
            plugin.allow = check_grants::allow(cx, &table, exchanges);
            plugin.limits = LimitKeys::read_table(cx, &table).or(defaults).checked();
            if let Some(signers) = check_grants::signers(cx, &table) {
                plugin.signers = signers;
            }
            if let Some(known) = name.name(cx, |text| PluginName::new(text)) {
                if !has_file {
                    plugin.file = plugins.file(&known);
                }
                plugins.described.insert(known, (plugin, name.place));
            }
        }
        plugins
    }

    /// A plugin of which nothing is said.
    fn plain(&self, file: PathBuf) -> Plugin {
        Plugin { signers: self.signers.clone(), limits: self.limits, ..Plugin::of(file) }
    }

    fn file(&self, name: &PluginName) -> PathBuf {
        self.directory.join(format!("{name}.wasm"))
    }

    /// Those that routes name; a warning for each other one.
    pub(super) fn used(
        mut self,
        cx: &mut Context<'_>,
        named: impl Iterator<Item = PluginName>,
    ) -> BTreeMap<PluginName, Plugin> {
        let mut used = BTreeMap::new();
        for name in named {
            if used.contains_key(&name) {
                continue;
            }
            let described = self.described.remove(&name).map(|(plugin, _)| plugin);
            let plugin = described.unwrap_or_else(|| self.plain(self.file(&name)));
            used.insert(name, plugin);
        }
        // After an error the route that names it may be the broken one.
        let unused = self.described.iter().filter(|_| !cx.findings.has_errors()).collect::<Vec<_>>();
        for (name, (_, place)) in unused {
            cx.findings.warning(Code::UnusedPlugin, place, format!("no route names plugin \"{name}\""));
        }
        used
    }
}

fn digest(cx: &mut Context<'_>, table: &Table<'_>) -> Option<String> {
    let text = table.text(cx, "digest")?;
    let digits = text.value.strip_prefix("sha256:").unwrap_or(&text.value);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    cx.error(Code::Digest, &text.place, "`digest` is not 64 hexadecimal digits")
        .help("take what `sha256sum FILE` prints");
    None
}

fn config(cx: &mut Context<'_>, table: &Table<'_>) -> BTreeMap<String, String> {
    let Some(inner) = table.table(cx, "config") else { return BTreeMap::new() };
    let entries = inner.values().into_iter();
    entries
        .filter_map(|(name, value)| Some((name.value.to_owned(), text(cx, name.value, value, "a string")?.value)))
        .collect()
}
