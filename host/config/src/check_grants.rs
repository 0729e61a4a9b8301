//! `allow`, `secrets` and `require-signature` of a plugin, and whether its routes can emit at all.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use base64::Engine;
use toml::Spanned;
use toml::de::DeValue;

use super::address::{Network, is_public};
use super::check_exchanges::Exchanges;
use super::checked::Plugin;
use super::checked_routes::Route;
use super::codes::Code;
use super::diagnostics::Place;
use super::grants::{Allow, EmitGrant, Host, Origin, Secret};
use super::quota::Quota;
use super::walk::{Context, Table, Text, text, wrong};
use trunkline_event::{ExchangeName, PluginName, RouteName, RoutingKey};

const QUOTA: RangeInclusive<u64> = 1024..=64 * 1024 * 1024 * 1024;
const TOTAL_MAX: u64 = 1024 * 1024 * 1024 * 1024;
const QUOTA_DEFAULT: u64 = 16 * 1024 * 1024;
const KEYS: RangeInclusive<u64> = 1..=100_000_000;
const KEYS_DEFAULT: u64 = 100_000;
/// A secret is a password or a key file, and is held in memory.
const SECRET_MAX_BYTES: u64 = 64 * 1024;
/// A public key of minisign: algorithm, number, Ed25519 key.
const SIGNER_BYTES: usize = 2 + 8 + 32;

/// `allow`; nothing when it is not there.
pub(super) fn allow(cx: &mut Context<'_>, plugin: &Table<'_>, exchanges: &Exchanges) -> Allow {
    let Some(table) = plugin.table(cx, "allow") else { return Allow::default() };
    table.check_keys(cx, &["http", "private-networks", "kv", "emit"], &[]);
    let private_networks = parsed(cx, &table, "private-networks", Code::BadNetwork, Network::parse);
    let private_networks = private_networks.into_iter().map(|(network, _)| network).collect::<Vec<_>>();
    let http = parsed(cx, &table, "http", Code::BadOrigin, Origin::parse);
    for (origin, place) in &http {
        let Host::Address(address) = origin.host else { continue };
        if !is_public(address) && !private_networks.iter().any(|network| network.contains(address)) {
            cx.error(Code::BadOrigin, place, format!("{address} is no public address, so no request could go there"))
                .help(format!("write `private-networks = [\"{address}\"]` beside `http`"));
        }
    }
    let http = http.into_iter().map(|(origin, _)| origin).collect::<Vec<_>>();
    if http.is_empty() && !table.has("http") && table.has("private-networks") {
        cx.error(Code::MissingKey, &table.key_place("private-networks"), "`private-networks` without `http`")
            .help("write `http = [\"http://HOST:PORT\"]` beside it, or remove it");
    }
    let emit = table.value("emit").map(|value| emit(cx, value, exchanges));
    Allow { http, private_networks, kv: kv(cx, &table), emit }
}

fn parsed<T>(
    cx: &mut Context<'_>,
    table: &Table<'_>,
    key: &str,
    code: Code,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<(T, Place)> {
    let mut found = Vec::new();
    for text in table.texts(cx, key).unwrap_or_default() {
        match parse(&text.value) {
            Ok(value) => found.push((value, text.place)),
            Err(problem) => {
                let has_user = text.value.contains('@');
                if has_user {
                    cx.findings.hide(&text.place);
                }
                let shown = if has_user { "the value".to_owned() } else { text.shown() };
                let (problem, help) = problem.split_once("; ").unwrap_or((&problem, ""));
                let finding = cx.error(code, &text.place, format!("{shown} {problem}"));
                if !help.is_empty() {
                    finding.help(help);
                }
            }
        }
    }
    found
}

/// `kv = true`, or a table with the quota.
fn kv(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Quota> {
    let value = table.value("kv")?;
    let default = Quota::per_tenant(QUOTA_DEFAULT, KEYS_DEFAULT);
    if let Some(granted) = value.get_ref().as_bool() {
        return granted.then_some(default);
    }
    let Some(inner) = Table::inline(value, "`kv`") else {
        wrong(cx, "kv", value, "true or a table {quota, keys, total, tenants}").help("write `kv = true`");
        return None;
    };
    inner.check_keys(cx, &["quota", "keys", "total", "tenants"], &[]);
    let bytes = inner.size(cx, "quota", &QUOTA).map_or(default.bytes, |at| at.value);
    let mut count = |key: &str| {
        let counted = inner.integer::<i64>(cx, key, 1..=i64::try_from(*KEYS.end()).unwrap_or(i64::MAX));
        counted.and_then(|at| u64::try_from(at.value).ok())
    };
    let (keys, tenants) = (count("keys"), count("tenants"));
    let default = Quota::per_tenant(bytes, keys.unwrap_or(default.keys));
    // One tenant may have all that it may have.
    let total = inner.size(cx, "total", &(bytes..=TOTAL_MAX)).map(|at| at.value);
    Some(Quota {
        total_bytes: total.unwrap_or(default.total_bytes),
        tenants: tenants.unwrap_or(default.tenants),
        ..default
    })
}

/// `emit`: keys on the default exchange, `{exchange, keys}`, or a list of either, as `bind` of a queue.
fn emit(cx: &mut Context<'_>, value: &Spanned<DeValue<'_>>, exchanges: &Exchanges) -> Vec<EmitGrant> {
    const WANTED: &str = "a key, a table {exchange, keys}, or a list of them";
    let items = value.get_ref().as_array().map_or_else(|| vec![value], |items| items.iter().collect());
    let mut grants = Vec::new();
    for item in items {
        let read = match Table::inline(item, "`emit`") {
            Some(table) => emit_table(cx, &table, exchanges),
            None => text(cx, "emit", item, WANTED)
                .and_then(|key| Some(EmitGrant::new(exchanges.default.clone(), vec![pattern(cx, &key)?]))),
        };
        grants.extend(read);
    }
    grants
}

fn emit_table(cx: &mut Context<'_>, table: &Table<'_>, exchanges: &Exchanges) -> Option<EmitGrant> {
    table.check_keys(cx, &["exchange", "keys"], &[]);
    let exchange = match table.has("exchange") {
        false => exchanges.default.clone(),
        true => match table.text(cx, "exchange")? {
            text if text.value.is_empty() => ExchangeName::default_exchange(),
            text => exchanges.resolve(cx, &text)?,
        },
    };
    let keys = match table.has("keys") {
        true => table.texts(cx, "keys")?.iter().filter_map(|key| pattern(cx, key)).collect(),
        false => vec![RoutingKey::new("#").ok()?],
    };
    Some(EmitGrant::new(exchange, keys))
}

fn pattern(cx: &mut Context<'_>, text: &Text) -> Option<RoutingKey> {
    text.name(cx, RoutingKey::pattern)
}

/// `secrets`: what cannot be read is kept as the reason, for it holds this plugin's routes down and nobody else's.
pub(super) fn secrets(
    cx: &mut Context<'_>,
    plugin: &Table<'_>,
    directory: &Path,
) -> BTreeMap<String, Result<Secret, String>> {
    let Some(table) = plugin.table(cx, "secrets") else { return BTreeMap::new() };
    let config = plugin.value("config").and_then(|config| Table::inline(config, "`config`"));
    let mut secrets = BTreeMap::new();
    for (name, value) in table.values() {
        let Some(source) = Table::inline(value, format!("secret \"{}\"", name.value.escape_debug())) else {
            cx.findings.hide(&Place::File(value.span()));
            wrong(cx, name.value, value, "{ env = \"NAME\" } or { file = \"PATH\" }")
                .help("a secret never stands in the file itself");
            continue;
        };
        if let Some(config) = config.as_ref().filter(|config| config.has(name.value)) {
            let message = format!("`{}` is in `config` and in `secrets`", name.value.escape_debug());
            cx.error(Code::BadSecret, &name.place, message)
                .also(&config.key_place(name.value), "and here")
                .help("the plugin reads both by one name: rename one");
        }
        if let Some(secret) = secret(cx, &source, directory) {
            secrets.insert(name.value.to_owned(), secret);
        }
    }
    secrets
}

/// `{env = "NAME"}` or `{file = "PATH"}`.
pub(super) fn secret(cx: &mut Context<'_>, source: &Table<'_>, directory: &Path) -> Option<Result<Secret, String>> {
    source.check_keys(cx, &["env", "file"], &[]);
    match (source.text(cx, "env"), source.text(cx, "file")) {
        (Some(name), None) => {
            let value = cx.environment.get(&name.value).map(|value| value.trim());
            let name = name.value.escape_debug().to_string();
            Some(value.map_or_else(
                || Err(format!("environment variable {name} is not set")),
                |value| filled(value).ok_or_else(|| format!("environment variable {name} is empty")),
            ))
        }
        (None, Some(file)) => {
            let file = directory.join(&file.value);
            cx.further.push(file.clone());
            Some(read(&file))
        }
        (Some(_), Some(_)) => {
            cx.error(Code::BadSecret, &source.place, format!("{} has both `env` and `file`", source.title))
                .help("keep one");
            None
        }
        (None, None) if source.has("env") || source.has("file") => None,
        (None, None) => {
            cx.error(Code::MissingKey, &source.place, format!("{} has neither `env` nor `file`", source.title))
                .help("write { env = \"NAME\" }");
            None
        }
    }
}

fn filled(value: &str) -> Option<Secret> {
    (!value.is_empty()).then(|| Secret::new(value))
}

fn read(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > SECRET_MAX_BYTES {
        return Err(format!("{shown} is {length} bytes long; a secret has at most {SECRET_MAX_BYTES}"));
    }
    let content = std::fs::read_to_string(file).map_err(failed)?;
    filled(content.trim()).ok_or_else(|| format!("{shown} is empty"))
}

/// `require-signature`: public keys of minisign.
pub(super) fn signers(cx: &mut Context<'_>, table: &Table<'_>) -> Option<Vec<String>> {
    let mut signers = Vec::new();
    for text in table.texts(cx, "require-signature")? {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&text.value).unwrap_or_default();
        if bytes.len() == SIGNER_BYTES && bytes.starts_with(b"Ed") {
            signers.push(text.value);
        } else {
            cx.error(Code::BadSigner, &text.place, format!("{} is no public key of minisign", text.shown()))
                .help("take the second line of the .pub file, which begins with RW");
        }
    }
    Some(signers)
}

/// A shadow's questions are answered as the stable plugin's were: what that may not ask, nobody answers.
pub(super) fn check_shadows(
    cx: &mut Context<'_>,
    routes: &BTreeMap<RouteName, Route>,
    plugins: &BTreeMap<PluginName, Plugin>,
    places: &BTreeMap<RouteName, Place>,
) {
    let asks = |plugin: &PluginName| {
        let allow = plugins.get(plugin).map(|plugin| &plugin.allow);
        allow.map_or((false, false), |allow| (!allow.http.is_empty(), allow.kv.is_some()))
    };
    for (name, route) in routes {
        let Some(shadow) = route.shadow.as_ref().map(|shadow| &shadow.plugin) else { continue };
        let Some(stable) = route.plugin() else { continue };
        let (may, wants) = (asks(stable), asks(shadow));
        for (key, beyond) in [("http", wants.0 && !may.0), ("kv", wants.1 && !may.1)] {
            if let Some(place) = places.get(name).filter(|_| beyond) {
                let message = format!("the shadow \"{shadow}\" may use {key}, and the plugin \"{stable}\" may not");
                let help = format!("grant `{key}` to both, or remove it from [plugins.{shadow}]");
                cx.findings.warning(Code::ShadowGrants, place, message).help(help);
            }
        }
    }
}

/// Tells of routes whose plugin may not emit where they publish to. An exchange that no grant names is an error; a key
/// is only a warning, because a plugin may choose another one.
pub(super) fn check_emit(
    cx: &mut Context<'_>,
    routes: &BTreeMap<RouteName, Route>,
    plugins: &BTreeMap<PluginName, Plugin>,
    places: &BTreeMap<RouteName, Place>,
) {
    for (name, route) in routes {
        let Some(plugin) = route.plugin() else { continue };
        let grants = plugins.get(plugin).and_then(|plugin| plugin.allow.emit.as_ref());
        let (Some(grants), Some(place)) = (grants, places.get(name)) else { continue };
        let emit = &route.emit;
        let shown = |key: &str| format!("`emit = [{{ exchange = \"{}\", keys = [\"{key}\"] }}]`", emit.exchange);
        if !grants.iter().any(|grant| grant.exchange == emit.exchange) {
            let message = format!("plugin \"{plugin}\" may not emit to exchange \"{}\" of this route", emit.exchange);
            let help = format!("write {} in `allow` of [plugins.{plugin}]", shown("#"));
            cx.error(Code::EmitGrant, place, message).help(help);
            continue;
        }
        let keys = super::cycles::keys(emit);
        for key in keys.iter().filter(|key| !grants.iter().any(|grant| grant.allows(&emit.exchange, key))) {
            let message = format!("plugin \"{plugin}\" may not emit with the key \"{key}\" of this route");
            let help = format!("write {} in `allow` of [plugins.{plugin}]", shown(key));
            cx.findings.warning(Code::EmitGrant, place, message).help(help);
        }
    }
}
