//! `[plugins.NAME]`, with `allow`.

use crate::keys::key::{Forms, Inner, Key, Range, Size, TextValue, Texts};
use crate::keys::plugins::limits::LIMITS;
use crate::keys::secret::SECRET;
use crate::keys::section::Section;
use crate::model::plugins::quota::Quota;

pub(crate) static FILE: Key<TextValue> = Key::text(
    "file",
    "the path of a component",
    "The file of the plugin. A relative path is resolved from the directory of routes.toml.",
)
.note("`NAME.wasm` in `plugin-dir`");

pub(crate) static DIGEST: Key<TextValue> = Key::text(
    "digest",
    "the 64 hexadecimal digits of the digest, with or without the prefix `sha256:`",
    "The SHA-256 of the plugin's file. The daemon refuses a file with another SHA-256.",
);

pub(crate) static CONFIG: Key<Forms> = Key::forms(
    "config",
    "a table of names with strings as values",
    None,
    "The values that the plugin reads through `wasi:config/store`. These values are not secret.",
);

pub(crate) static SECRETS: Key<Forms> = Key::forms(
    "secrets",
    "a table of names with `{ env = \"NAME\" }` or `{ file = \"PATH\" }` as values",
    Some(&SECRET),
    "The secrets that the plugin reads through `wasi:config/store`. The routes of the plugin do not run while a secret is missing.",
);

pub(crate) static ALLOW_TABLE: Key<Inner> = Key::table("allow", &ALLOW, "The grants of the plugin.").note("no grants");

pub(crate) static REQUIRE_SIGNATURE: Key<Texts> = Key::texts(
    "require-signature",
    "a minisign public key",
    "The public keys for the signature of the plugin. The plugin needs a signature by one of these keys. These keys replace `require-signature` at the top of routes.toml.",
)
.note("`require-signature` at the top of routes.toml");

pub(crate) static LIMITS_TABLE: Key<Inner> = Key::table("limits", &LIMITS, "The limits of one call of the plugin.");

pub(crate) static PLUGIN: Section = Section {
    title: "[plugins.NAME]",
    about: "The settings of a plugin. A plugin without settings needs no table.",
    example: "[plugins.crm-history]\nfile = \"plugins/crm-history-1.2.wasm\"\nconfig = { base = \"https://crm.example.com\" }\nsecrets = { api-key = { env = \"CRM_API_KEY\" } }\nallow = { http = [\"https://crm.example.com\"], kv = true }\n\n[routes.crm-history]\nfrom = \"comms.call.ended\"\nplugin = \"crm-history\"\n",
    path: &["plugins", "*"],
    keys: &[&[&FILE, &DIGEST, &CONFIG, &SECRETS, &ALLOW_TABLE, &REQUIRE_SIGNATURE, &LIMITS_TABLE]],
    reserved: &[],
};

pub(crate) static HTTP: Key<Texts> = Key::texts(
    "http",
    "an origin such as `https://crm.example.com`",
    "The origins that the plugin may send HTTP requests to. An origin is a scheme, a host and an optional port. The origin `https://*.example.com` covers every host below `example.com`.",
)
.note("none");

pub(crate) static PRIVATE_NETWORKS: Key<Texts> = Key::texts(
    "private-networks",
    "a network such as `10.1.0.0/16` or an IP address",
    "The private networks that the plugin may connect to. `http` must also list the origin of each request.",
)
.note("none");

pub(crate) static KV: Key<Forms> = Key::forms(
    "kv",
    "`true`, `false`, or a table with the quota",
    Some(&QUOTA),
    "`true` allows the plugin to keep state between events. A table also sets the quota of the state.",
)
.note("`false`");

pub(crate) static EMIT: Key<Forms> = Key::forms(
    "emit",
    "a routing key, a table `{ exchange, keys }`, or a list of routing keys and tables",
    Some(&EMIT_GRANT),
    "The exchanges and routing keys to which the plugin may emit. A routing key without a table applies to the default exchange.",
)
.note("every exchange and routing key to which the route publishes emissions");

pub(crate) static ALLOW: Section = Section {
    title: "`allow` of [plugins.NAME]",
    about: "The grants of a plugin. Without grants, the plugin cannot send HTTP requests and cannot keep state.",
    example: "[plugins.grader]\nallow = { http = [\"http://10.0.0.7:9000\"], private-networks = [\"10.0.0.0/24\"], emit = [\"grading.#\"] }\n\n[routes.grading]\nfrom = \"grading.requested\"\nplugin = \"grader\"\nemit = { key = \"grading.done\" }\n",
    path: &["plugins", "*", "allow"],
    keys: &[&[&HTTP, &PRIVATE_NETWORKS, &KV, &EMIT]],
    reserved: &[],
};

pub(crate) static QUOTA_BYTES: Key<Size> =
    Key::size("quota", 1024, 64 << 30, "The largest total size of the keys and values of one tenant.").or(16 << 20);

pub(crate) static QUOTA_KEYS: Key<Range<i64>> =
    Key::integer("keys", 1, 100_000_000, "The largest number of keys of one tenant.").or(100_000);

/// In a file, `total` must be at least `quota`, because one tenant may use the whole quota of the tenant.
pub(crate) static QUOTA_TOTAL: Key<Size> = Key::size(
    "total",
    1024,
    1 << 40,
    "The largest total size of the keys and values of all tenants. `total` must be at least `quota`.",
)
.or(Quota::TOTAL_BYTES)
.note("`quota`, if `quota` is larger");

pub(crate) static QUOTA_TENANTS: Key<Range<i64>> =
    Key::integer("tenants", 1, 100_000_000, "The largest number of tenants that have at least one key.")
        .or(Quota::TENANTS as i64);

pub(crate) static QUOTA: Section = Section {
    title: "`allow.kv` of [plugins.NAME]",
    about: "The quota for the state of a plugin. `kv = true` grants the default quota.",
    example: "[plugins.batcher]\nallow = { kv = { quota = \"1MiB\", keys = 1000 } }\n\n[routes.batcher]\nfrom = \"comms.call.ended\"\nplugin = \"batcher\"\n",
    path: &["plugins", "*", "allow", "kv"],
    keys: &[&[&QUOTA_BYTES, &QUOTA_KEYS, &QUOTA_TOTAL, &QUOTA_TENANTS]],
    reserved: &[],
};

pub(crate) static GRANT_EXCHANGE: Key<TextValue> = Key::text(
    "exchange",
    "the name of an exchange, or `\"\"` for the nameless exchange",
    "The exchange to which the plugin may emit.",
)
.note("the default exchange");

pub(crate) static GRANT_KEYS: Key<Texts> =
    Key::texts("keys", "a topic pattern", "The routing keys that the plugin may use on the exchange.")
        .note("every key");

pub(crate) static EMIT_GRANT: Section = Section {
    title: "`allow.emit` of [plugins.NAME]",
    about: "An exchange to which a plugin may emit, and the permitted routing keys on this exchange. An event with any other emission is dead-lettered with the reason `invalid`.",
    example: "[plugins.crm]\nallow = { emit = { exchange = \"events\", keys = [\"crm.#\"] } }\n\n[routes.crm]\nfrom = \"comms.call.ended\"\nplugin = \"crm\"\nemit = { key = \"crm.call\" }\n",
    path: &["plugins", "*", "allow", "emit"],
    keys: &[&[&GRANT_EXCHANGE, &GRANT_KEYS]],
    reserved: &[],
};
