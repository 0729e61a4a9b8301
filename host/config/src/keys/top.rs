//! The top of routes.toml.

use crate::keys::broker::BROKER;
use crate::keys::defaults::DEFAULTS;
use crate::keys::http::event_type::EVENT_TYPE;
use crate::keys::http::hook::HOOK;
use crate::keys::http::listener::HTTP;
use crate::keys::key::{Boolean, Inner, Key, Named, TextValue, Texts};
use crate::keys::plugins::plugin::PLUGIN;
use crate::keys::routes::route::ROUTE;
use crate::keys::section::Section;
use crate::keys::topology::exchange::EXCHANGE;
use crate::keys::topology::queue::QUEUE;

pub(crate) static PLUGIN_DIR: Key<TextValue> = Key::text(
    "plugin-dir",
    "the path of a directory",
    "The directory with the files of the plugins. A relative path is resolved from the directory of routes.toml.",
)
.or("plugins");

pub(crate) static STATE_DIR: Key<TextValue> = Key::text(
    "state-dir",
    "the path of a directory",
    "The state directory, which contains all files that the daemon keeps. A relative path is resolved from the directory of routes.toml. The option `--state` has precedence over `state-dir`.",
)
.note("`$STATE_DIRECTORY`, else `.trunkline` beside routes.toml");

pub(crate) static INCLUDE: Key<Texts> = Key::texts(
    "include",
    "the path of a file",
    "Further configuration files with exchanges, queues, plugins, routes, hooks and event types. The last part of a path may contain `*`. A relative path is resolved from the directory of routes.toml.",
);

pub(crate) static LOCKED: Key<Boolean> = Key::boolean(
    "locked",
    "With `true`, the daemon requires the lock file `plugins.lock` beside routes.toml. With `false`, the daemon ignores the lock file.",
)
.note("the daemon uses the lock file if the lock file exists");

pub(crate) static REQUIRE_SIGNATURE: Key<Texts> = Key::texts(
    "require-signature",
    "a minisign public key",
    "The public keys for the signatures of plugins. Every plugin needs a signature by one of these keys. The signature is in `NAME.wasm.minisig` beside the file of the plugin.",
);

pub(crate) static BROKER_TABLE: Key<Inner> =
    Key::table("broker", &BROKER, "The broker that the daemon connects to.").note("the embedded broker");
pub(crate) static HTTP_TABLE: Key<Inner> = Key::table("http", &HTTP, "The settings of the HTTP listener.");
pub(crate) static DEFAULTS_TABLE: Key<Inner> =
    Key::table("defaults", &DEFAULTS, "The defaults for queues, routes and plugins.");
pub(crate) static EXCHANGES: Key<Named> = Key::named("exchanges", &EXCHANGE, "The settings of exchanges.");
pub(crate) static QUEUES: Key<Named> = Key::named("queues", &QUEUE, "The settings of queues.");
pub(crate) static PLUGINS: Key<Named> = Key::named("plugins", &PLUGIN, "The settings of plugins.");
pub(crate) static ROUTES: Key<Named> = Key::named("routes", &ROUTE, "The routes of the daemon.");
pub(crate) static HOOKS: Key<Named> =
    Key::named("hooks", &HOOK, "The hooks. A hook publishes HTTP requests as events.");
pub(crate) static EVENT_TYPES: Key<Named> =
    Key::named("event-types", &EVENT_TYPE, "The event types that the HTTP API describes.");

pub(crate) static TOP: Section = Section {
    title: "Top level",
    about: "These keys are at the top of routes.toml, before the first table.",
    example: "plugin-dir = \"target/plugins\"\nstate-dir = \"state\"\n\n[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\n",
    path: &[],
    keys: &[&[
        &BROKER_TABLE,
        &HTTP_TABLE,
        &DEFAULTS_TABLE,
        &EXCHANGES,
        &QUEUES,
        &PLUGINS,
        &ROUTES,
        &HOOKS,
        &EVENT_TYPES,
        &PLUGIN_DIR,
        &STATE_DIR,
        &INCLUDE,
        &LOCKED,
        &REQUIRE_SIGNATURE,
    ]],
    reserved: &[],
};
