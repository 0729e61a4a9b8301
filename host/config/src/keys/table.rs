//! All sections, in the order of the reference page.

use super::http::{event_type, hook, listener};
use super::plugins::{limits, plugin};
use super::routes::{archive, flow, rollout, route};
use super::section::Section;
use super::shape::KeyEntry;
use super::topology::{exchange, queue};
use super::{broker, defaults, secret, top};

/// The sections of routes.toml.
pub(crate) static SECTIONS: [&Section; 29] = [
    &top::TOP,
    &broker::BROKER,
    &broker::TLS,
    &listener::HTTP,
    &defaults::DEFAULTS,
    &exchange::DEFAULT_EXCHANGE,
    &exchange::EXCHANGE,
    &queue::QUEUE,
    &queue::BINDING,
    &queue::DEAD_LETTER_TARGET,
    &route::ROUTE,
    &route::EMIT,
    &route::RETRY,
    &route::SCHEMA_RULE,
    &flow::DEDUPE_WINDOW,
    &flow::TENANT_RULE,
    &flow::CIRCUIT_BREAKER,
    &rollout::CANARY,
    &rollout::SHADOW,
    &archive::ARCHIVE,
    &plugin::PLUGIN,
    &limits::LIMITS,
    &plugin::ALLOW,
    &plugin::QUOTA,
    &plugin::EMIT_GRANT,
    &hook::HOOK,
    &hook::SIGNATURE,
    &hook::HANDSHAKE,
    &event_type::EVENT_TYPE,
];

/// Every key of routes.toml, section by section.
#[must_use]
pub fn keys() -> Vec<KeyEntry> {
    sections().flat_map(|section| section.entries()).collect()
}

/// All sections. The section of secrets is the last section.
pub(crate) fn sections() -> impl Iterator<Item = &'static Section> {
    SECTIONS.into_iter().chain([&secret::SECRET])
}

/// The titles of the sections that accept a key. `[defaults]` is left out if another section accepts the key.
pub(crate) fn homes(key: &str) -> Vec<&'static str> {
    let taking = || sections().filter(|section| section.has(key)).map(|section| section.title);
    let own = taking().filter(|title| *title != defaults::DEFAULTS.title).collect::<Vec<_>>();
    if own.is_empty() { taking().collect() } else { own }
}
