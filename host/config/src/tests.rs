//! Tests of whole files: the corpus of broken files (testdata/*.toml with the expected text beside each), and good files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::diagnostics::codes::Code;
use crate::load::check;
use trunkline_event::{ExchangeName, HeaderValue, PluginName, QueueName, RouteName, RoutingKey};

mod corpus;
mod good;
mod grants;
mod hooks;
mod keys;
mod owners;
mod precedence;
mod rollout;
mod tls;

/// Sources for a file of that name, with `HOME` as the only variable.
fn sources(name: &str) -> Sources {
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/user".to_owned())]);
    Sources { file: PathBuf::from(name), environment, ..Sources::default() }
}

const SMALLEST: &str = "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\n";

fn loaded(source: &str, change: impl FnOnce(&mut Sources)) -> Loaded {
    let mut sources = sources("/etc/trunkline/routes.toml");
    change(&mut sources);
    check(source, &sources).unwrap_or_else(|rejected| panic!("{source}\n{}", rejected.render(false)))
}

fn config(source: &str) -> Config {
    let loaded = loaded(source, |_| {});
    assert!(loaded.warnings.is_empty(), "{}", render(&loaded.warnings, false));
    loaded.config
}

/// The configuration with these environment variables.
fn config_with(source: &str, variables: &[(&str, &str)]) -> Config {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    loaded(source, |sources| sources.environment.extend(variables)).config
}

fn queue<'c>(config: &'c Config, name: &str) -> &'c Queue {
    config.topology.queues.get(name).unwrap_or_else(|| panic!("{name} in {:?}", queue_names(config)))
}

fn route<'c>(config: &'c Config, name: &str) -> &'c Route {
    config.routes.get(name).unwrap_or_else(|| panic!("{name} in {:?}", config.routes.keys()))
}

fn queue_names(config: &Config) -> Vec<&str> {
    config.topology.queues.keys().map(QueueName::as_str).collect()
}

fn to_queue(name: &str) -> DeadLetter {
    DeadLetter { exchange: ExchangeName::default_exchange(), key: RoutingKey::new(name).expect("a key") }
}

fn key(exchange: &str, queue: &str, key: &str) -> Binding {
    Binding {
        exchange: ExchangeName::new(exchange).expect("a name"),
        queue: QueueName::new(queue).expect("a name"),
        matches: Match::Key(RoutingKey::new(key).expect("a key")),
    }
}
