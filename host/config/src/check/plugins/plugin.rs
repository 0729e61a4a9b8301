//! Plugins.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;

use super::grants;
use crate::check::topology::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::top::PLUGIN_DIR;
use crate::model::plugins::plugin::Plugin;
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::plugin::{LimitKeys, RawPlugin};
use trunkline_event::PluginName;

/// A public key of minisign: algorithm, number, Ed25519 key.
const SIGNER_BYTES: usize = 2 + 8 + 32;

/// Defaults of plugins.
#[derive(Debug)]
pub(crate) struct PluginDefaults {
    directory: PathBuf,
    limits: LimitKeys,
    signers: Vec<String>,
}

impl PluginDefaults {
    pub(crate) fn check(
        cx: &mut ReadContext<'_>,
        plugin_dir: Option<Text>,
        signed_by: Option<Vec<Text>>,
        limits: LimitKeys,
    ) -> Self {
        let plugin_dir = plugin_dir.map(|text| text.value);
        let directory = cx.path(plugin_dir.as_deref().or(PLUGIN_DIR.value.default).unwrap_or_default());
        Self { directory, limits, signers: signed_by.map(|keys| signers(cx, keys)).unwrap_or_default() }
    }

    /// A plugin without a table.
    fn plain(&self, file: PathBuf) -> Plugin {
        Plugin { signers: self.signers.clone(), limits: self.limits.limits(), ..Plugin::of(file) }
    }

    fn file(&self, name: &PluginName) -> PathBuf {
        self.directory.join(format!("{name}.wasm"))
    }
}

/// The plugins that tables describe, and where a plugin without a table is found.
pub(crate) struct DescribedPlugins {
    described: BTreeMap<PluginName, (Plugin, ValuePlace)>,
    settings: PluginDefaults,
}

impl DescribedPlugins {
    pub(crate) fn check(
        cx: &mut ReadContext<'_>,
        raw: Vec<RawPlugin>,
        settings: PluginDefaults,
        exchanges: &Exchanges,
    ) -> Self {
        let mut plugins = Self { described: BTreeMap::new(), settings };
        for raw in raw {
            let settings = &plugins.settings;
            let file = raw.file.as_ref().map(|text| cx.path(&text.value)).unwrap_or_default();
            let mut plugin = settings.plain(file);
            plugin.digest = raw.digest;
            plugin.config = raw.config;
            for (name, secret) in raw.secrets {
                // A secret that cannot be read is kept as the reason: it holds the routes of this plugin down, and no others.
                let secret = secret.resolve(cx).map_err(|error| error.to_string());
                plugin.secrets.insert(name, secret);
            }
            plugin.allow = grants::check(cx, raw.allow, exchanges);
            plugin.limits = raw.limits.or(settings.limits).limits();
            if let Some(keys) = raw.signers {
                plugin.signers = signers(cx, keys);
            }
            if let Some(name) = raw.name.name(cx, "plugin name", |text| PluginName::new(text)) {
                if !raw.has_file {
                    plugin.file = settings.file(&name);
                }
                plugins.described.insert(name, (plugin, raw.name.place));
            }
        }
        plugins
    }

    /// The plugins that routes name; a warning for each other one.
    pub(crate) fn used(
        mut self,
        cx: &mut ReadContext<'_>,
        named: impl Iterator<Item = PluginName>,
    ) -> BTreeMap<PluginName, Plugin> {
        let mut used = BTreeMap::new();
        for name in named {
            if used.contains_key(&name) {
                continue;
            }
            let described = self.described.remove(&name).map(|(plugin, _)| plugin);
            let plugin = described.unwrap_or_else(|| self.settings.plain(self.settings.file(&name)));
            used.insert(name, plugin);
        }
        // After an error the route that names it may be the broken one.
        let unused = self.described.iter().filter(|_| !cx.findings.has_errors()).collect::<Vec<_>>();
        for (name, (_, place)) in unused {
            let message = format!("no route names the plugin \"{name}\", so the daemon does not load the plugin");
            cx.findings
                .warning(Code::UnusedPlugin, place, message)
                .help(format!("write `plugin = \"{name}\"` in a route, or remove [plugins.{name}]"));
        }
        used
    }
}

/// `require-signature`: public keys of minisign.
fn signers(cx: &mut ReadContext<'_>, keys: Vec<Text>) -> Vec<String> {
    let mut signers = Vec::new();
    for text in keys {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&text.value).unwrap_or_default();
        if bytes.len() == SIGNER_BYTES && bytes.starts_with(b"Ed") {
            signers.push(text.value);
        } else {
            cx.error(
                Code::BadSigner,
                &text.place,
                format!("{} in `require-signature` is not a public key of minisign", text.shown()),
            )
            .help("copy the second line of the .pub file: a public key has 56 characters and begins with RW");
        }
    }
    signers
}
