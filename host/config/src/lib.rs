//! routes.toml: read, laid over by environment and flags, checked.
//!
//! Owns the way from text to [`Config`]. Promises that past it nobody meets a name, key or number that could still be
//! wrong, and that all mistakes of a file are told at once, each with a stable code, a place and what to write
//! instead. Knows no broker and no engine: whether a plugin's file is there and good is the loader's to say.

#![deny(unsafe_code)]

mod address;
mod check_archive;
mod check_bindings;
mod check_broker;
mod check_event_types;
mod check_exchanges;
mod check_flow;
mod check_grants;
mod check_hooks;
mod check_http;
mod check_management;
mod check_plugins;
mod check_queues;
mod check_rollout;
mod check_routes;
mod check_schema;
mod check_tls;
mod checked;
mod checked_hooks;
mod checked_http;
mod checked_routes;
mod codes;
mod cycles;
mod defaults;
mod derive;
mod diagnostics;
mod environment;
mod files;
mod grants;
mod include;
mod lock;
pub mod pem;
mod quota;
pub mod schema;
mod state;
pub mod state_dir;
#[cfg(test)]
mod tests;
mod topology;
mod values;
mod variables;
mod walk;

pub use address::{Network, is_public};
pub use checked::*;
pub use checked_hooks::{Hook, Signature, Template};
pub use checked_http::Http;
pub use checked_routes::*;
pub use codes::explain;
pub use diagnostics::{Diagnostic, Severity, render};
pub use grants::*;
pub use lock::{Entry, Lock, Locked};
pub use quota::{Quota, WrittenQuota};
pub use state::STATE_BESIDE;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use check_routes::RawRoute;
use codes::Code;
use defaults::Defaults;
use diagnostics::{Findings, Place};
use files::{File, Files};
use walk::{Context, Table};

/// Where a configuration comes from. Flags go over the environment, that over the file, that over the defaults.
/// Not `Debug`, because the environment is full of secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The routes file.
    pub file: PathBuf,
    /// The environment, by name.
    pub environment: BTreeMap<String, String>,
    /// `--broker`: a URL, or `embedded`.
    pub broker_url: Option<String>,
    /// `--listen`: `IP:PORT`.
    pub listen: Option<String>,
    /// `--state`; relative to the current directory.
    pub state_dir: Option<PathBuf>,
    /// `--insecure`: listening beyond loopback needs no token.
    pub insecure: bool,
}

impl Sources {
    /// The directory that paths in the file begin at. Absolute, if the current directory is known.
    fn directory(&self) -> PathBuf {
        let directory = self.file.parent().unwrap_or(Path::new(""));
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
    }
}

/// A good configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// A configuration that nothing runs with.
#[derive(Debug)]
pub struct Rejected {
    /// All that is wrong with it, and the warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that it was read from, as [`Config::files`].
    pub files: Vec<PathBuf>,
    missing: bool,
}

impl Rejected {
    /// Whether the file is not there or may not be read, rather than wrong.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// All diagnostics as text, and a line that counts them.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let count = |severity| self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        let shown = |count, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let mut text = render(&self.diagnostics, color);
        text.push_str(&shown(count(Severity::Error), "error"));
        match count(Severity::Warning) {
            0 => {}
            warnings => text.push_str(&format!(", {}", shown(warnings, "warning"))),
        }
        if let Some(first) = self.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error) {
            text.push_str(&format!("; `trunkline explain {}` says more about the first", first.code));
        }
        text.push('\n');
        text
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Rejected {}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, Rejected> {
    match std::fs::read_to_string(&sources.file) {
        Ok(source) => check(&source, sources),
        Err(error) => {
            let mut findings = Findings::default();
            let file = sources.file.display();
            let missing = error.kind() != io::ErrorKind::InvalidData;
            let code = if missing { Code::NoFile } else { Code::Syntax };
            let finding = findings.error_anywhere(code, format!("cannot read {file}: {error}"));
            finding.help(if missing { "name the routes file with --config FILE" } else { "save it as UTF-8" });
            let files = Files::new(&sources.file, String::new());
            Err(Rejected { diagnostics: findings.finish(&files), files: vec![sources.file.clone()], missing })
        }
    }
}

/// Checks the text of the file, and of those that it includes.
fn check(source: &str, sources: &Sources) -> Result<Loaded, Rejected> {
    let mut files = Files::new(&sources.file, source.to_owned());
    let mut cx = Context { findings: Findings::default(), environment: &sources.environment, further: Vec::new() };
    let mut top = parse(&mut cx, source).into_inner();
    let found = include::read(&mut cx, &Table::top(&top), &sources.directory(), &mut files);
    let padded = files.iter().skip(1).map(File::padded).collect::<Vec<_>>();
    for text in &padded {
        let included = parse(&mut cx, text).into_inner();
        include::merge(&mut cx, &mut top, included);
    }
    let first = std::path::absolute(&sources.file).unwrap_or_else(|_| sources.file.clone());
    let config = read(&mut cx, &Table::top(&top), source, sources);
    let further = std::mem::take(&mut cx.further);
    let all: Vec<PathBuf> = std::iter::once(first).chain(found.files).chain(found.directories).chain(further).collect();
    let diagnostics = cx.findings.finish(&files);
    match config.filter(|_| diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning)) {
        Some(config) => {
            Ok(Loaded { config: Config { files: all, digest: files.digest(), ..config }, warnings: diagnostics })
        }
        None => Err(Rejected { diagnostics, files: all, missing: false }),
    }
}

fn parse<'t>(cx: &mut Context<'_>, text: &'t str) -> toml::Spanned<toml::de::DeTable<'t>> {
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    for error in errors {
        cx.findings.syntax(error.span().unwrap_or(0..0), error.message());
    }
    table
}

/// Reads the tables in the order in which they need each other. `None` only after an error was reported.
fn read(cx: &mut Context<'_>, top: &Table<'_>, source: &str, sources: &Sources) -> Option<Config> {
    const TABLES: [&str; 9] =
        ["broker", "http", "defaults", "exchanges", "queues", "plugins", "routes", "hooks", "event-types"];
    const OTHERS: [&str; 5] = ["plugin-dir", "state-dir", "include", "locked", "require-signature"];
    top.check_keys(cx, &[TABLES.as_slice(), &OTHERS].concat(), &[]);
    if ["queues", "routes", "hooks", "event-types"].iter().all(|key| !top.has(key)) {
        cx.findings
            .warning(Code::Nothing, &Place::File(0..0), "there is no route, no queue, no hook and no event type")
            .help("write a table [routes.NAME] with `from` and `plugin`");
    }
    let overlay = environment::read(cx);
    let broker = check_broker::read(cx, top, source, sources, &overlay);
    let http = check_http::read(cx, top, sources, &overlay);
    let state = state::place(cx, top, sources);
    let defaults = Defaults::open(cx, top);
    let default_exchange = defaults.exchange(cx);
    let exchanges = check_exchanges::Exchanges::read(cx, top, default_exchange, &overlay, defaults.codec());
    let mut queue_defaults = defaults.queue(cx, &exchanges, &overlay);
    queue_defaults.prefetch = queue_defaults.prefetch.or(broker.prefetch.map(|prefetch| prefetch.value));
    let route_defaults = defaults.route(cx, &overlay);
    let limit_defaults = defaults.limits(cx);
    let plugins = check_plugins::Plugins::read(cx, top, &sources.directory(), limit_defaults, &exchanges);
    let queues = check_queues::read(cx, top, &exchanges);
    let raw = check_routes::read(cx, top, &route_defaults, &sources.directory());
    let event_types = check_event_types::read(cx, top, &sources.directory());
    let hooks = check_hooks::read(cx, top, &exchanges, &http, sources);

    let mut plugins = plugins.used(cx, raw.iter().flat_map(RawRoute::plugins));
    let places = raw.iter().map(|route| (route.name.clone(), route.place.clone())).collect();
    let mut derived = topology::derive(cx, &exchanges, queues, &raw, &queue_defaults);
    let native_delay = matches!(broker.broker, Broker::Embedded);
    if !native_delay {
        derived.warn_of_losses(cx);
    }
    let routes = derive::routes(cx, &exchanges, &mut derived, raw, native_delay);
    cycles::warn(cx, &routes, &derived.bindings, &exchanges.by_name, &places);
    check_grants::check_shadows(cx, &routes, &plugins, &places);
    check_grants::check_emit(cx, &routes, &plugins, &places);
    lock::apply(&lock::locked(&sources.file, top.boolean(cx, "locked")), &mut plugins);
    let topology = Topology {
        mode: broker.mode,
        exchanges: exchanges.by_name,
        queues: derived.queues,
        bindings: derived.bindings,
    };
    let state = state?;
    Some(Config {
        file: sources.file.clone(),
        // Filled in by the caller, who has the files.
        files: Vec::new(),
        digest: String::new(),
        state_dir: state.dir,
        earlier_state_dir: state.earlier,
        broker: broker.broker,
        http,
        topology,
        plugins,
        routes,
        event_types,
        hooks,
        default_exchange: exchanges.default,
    })
}
