//! `[defaults]`.

use crate::keys::key::{Forms, Inner, Key};
use crate::keys::plugins::limits::{LIMIT_KEYS, LIMITS};
use crate::keys::routes::route;
use crate::keys::section::Section;
use crate::keys::topology::exchange::DEFAULT_EXCHANGE;
use crate::keys::topology::queue;

pub(crate) static LIMITS_TABLE: Key<Inner> = Key::table(
    "limits",
    &LIMITS,
    "The defaults for `limits` of plugins. `[defaults]` also accepts the keys of `limits` directly.",
);

pub(crate) static EXCHANGE: Key<Forms> = Key::forms(
    "exchange",
    "a string with the name of an exchange, or a table `{ name, type, codec }`",
    Some(&DEFAULT_EXCHANGE),
    "The default exchange.",
)
.note("the topic exchange `events`");

pub(crate) static DEFAULTS: Section = Section {
    title: "[defaults]",
    about: "The defaults for keys that a queue, a route or a plugin does not set. The daemon merges `emit` and `retry` of a route key by key with `emit` and `retry` of [defaults].",
    example: "[defaults]\nexchange = \"ocelot.events\"\nretry = { max = 3 }\nlimits = { timeout = \"2s\" }\n\n[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\n",
    path: &["defaults"],
    keys: &[queue::SHARED, route::SHARED, LIMIT_KEYS, &[&LIMITS_TABLE, &EXCHANGE]],
    reserved: route::RESERVED,
};
