//! `[plugins.NAME]`, and `limits` of `[defaults]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::key::{self, Key};
use crate::keys::plugins::limits::{EMISSIONS, HTTP_BODY, LOG, MEMORY, OUTPUT, TIMEOUT};
use crate::keys::plugins::plugin::{
    ALLOW_TABLE, CONFIG, DIGEST, EMIT, EMIT_GRANT, FILE, GRANT_EXCHANGE, GRANT_KEYS, HTTP, KV, LIMITS_TABLE,
    PRIVATE_NETWORKS, QUOTA_BYTES, QUOTA_KEYS, QUOTA_TENANTS, QUOTA_TOTAL, REQUIRE_SIGNATURE, SECRETS,
};
use crate::keys::secret::SECRET;
use crate::keys::top::PLUGINS;
use crate::model::plugins::network::Network;
use crate::model::plugins::origin::Origin;
use crate::model::plugins::plugin::Limits;
use crate::model::plugins::quota::Quota;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::secret::RawSecret;
use crate::parse::table::Table;
use crate::parse::value::{TomlValue, dotted, text, wrong};

/// One `[plugins.NAME]`.
#[derive(Debug)]
pub(crate) struct RawPlugin {
    pub(crate) name: Text,
    pub(crate) file: Option<Text>,
    /// Whether the key `file` is there, readable or not.
    pub(crate) has_file: bool,
    pub(crate) digest: Option<String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: Vec<(String, RawSecret)>,
    pub(crate) allow: RawAllow,
    pub(crate) signers: Option<Vec<Text>>,
    pub(crate) limits: LimitKeys,
}

/// `allow`
#[derive(Debug, Default)]
pub(crate) struct RawAllow {
    pub(crate) http: Vec<At<Origin>>,
    pub(crate) private_networks: Vec<Network>,
    pub(crate) kv: Option<Quota>,
    pub(crate) emit: Option<Vec<RawEmitGrant>>,
}

/// One item of `allow.emit`. Without `exchange` the default exchange is meant, without `keys` every key.
#[derive(Debug)]
pub(crate) struct RawEmitGrant {
    pub(crate) exchange: Option<Text>,
    pub(crate) keys: Option<Vec<Text>>,
}

/// The limits of one table; every key may be absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LimitKeys {
    memory: Option<u64>,
    timeout: Option<Duration>,
    emissions: Option<u32>,
    output: Option<u64>,
    log: Option<u64>,
    http_body: Option<u64>,
}

impl LimitKeys {
    /// Reads the keys of a table, which may have others.
    pub(super) fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        Self {
            memory: table.size(cx, &MEMORY).map(|at| at.value),
            timeout: table.duration(cx, &TIMEOUT).map(|at| at.value),
            emissions: table.integer(cx, &EMISSIONS).map(|at| at.value),
            output: table.size(cx, &OUTPUT).map(|at| at.value),
            log: table.size(cx, &LOG).map(|at| at.value),
            http_body: table.size(cx, &HTTP_BODY).map(|at| at.value),
        }
    }

    /// The own keys, and those of `other` where there is none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            timeout: self.timeout.or(other.timeout),
            emissions: self.emissions.or(other.emissions),
            output: self.output.or(other.output),
            log: self.log.or(other.log),
            http_body: self.http_body.or(other.http_body),
        }
    }

    /// All limits, with the defaults of the table of keys.
    pub(crate) fn limits(self) -> Limits {
        Limits {
            memory_max_bytes: self.memory.unwrap_or(MEMORY.fallback()),
            timeout: self.timeout.unwrap_or(TIMEOUT.fallback()),
            emissions_max: self.emissions.unwrap_or(EMISSIONS.fallback()),
            output_max_bytes: self.output.unwrap_or(OUTPUT.fallback()),
            log_max_bytes: self.log.unwrap_or(LOG.fallback()),
            http_body_max_bytes: self.http_body.unwrap_or(HTTP_BODY.fallback()),
        }
    }
}

pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawPlugin> {
    let mut plugins = Vec::new();
    for (name, table) in top.named(cx, &PLUGINS) {
        plugins.push(RawPlugin {
            name,
            file: table.text(cx, &FILE),
            has_file: table.has(&FILE),
            digest: digest(cx, &table),
            config: config(cx, &table),
            secrets: secrets(cx, &table),
            allow: table.table(cx, &ALLOW_TABLE).map(|table| RawAllow::read(cx, &table)).unwrap_or_default(),
            signers: table.texts(cx, &REQUIRE_SIGNATURE),
            limits: table.table(cx, &LIMITS_TABLE).map(|table| LimitKeys::read(cx, &table)).unwrap_or_default(),
        });
    }
    plugins
}

fn digest(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<String> {
    let text = table.text(cx, &DIGEST)?;
    let digits = text.value.strip_prefix("sha256:").unwrap_or(&text.value);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(digits.to_ascii_lowercase());
    }
    let message = format!("`digest` is {}, which is not 64 hexadecimal digits", text.shown());
    cx.error(Code::Digest, &text.place, message).help("copy the digest that `sha256sum FILE` prints");
    None
}

fn config(cx: &mut ReadContext<'_>, table: &Table<'_>) -> BTreeMap<String, String> {
    let entries = table.entries(cx, &CONFIG).unwrap_or_default().into_iter();
    entries
        .filter_map(|(name, value)| Some((name.value.to_owned(), text(cx, name.value, value, "a string")?.value)))
        .collect()
}

fn secrets(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Vec<(String, RawSecret)> {
    let config = table.value(&CONFIG).and_then(|config| config.get_ref().as_table());
    let mut secrets = Vec::new();
    for (name, value) in table.entries(cx, &SECRETS).unwrap_or_default() {
        let Some(source) = Table::open(cx, value, &SECRET, format!("the secret \"{}\"", name.value.escape_debug()))
        else {
            cx.findings.hide(&ValuePlace::File(value.span()));
            wrong(cx, name.value, value, "{ env = \"NAME\" } or { file = \"PATH\" }").help(format!(
                "write `{} = {{ env = \"NAME\" }}`: routes.toml cannot contain the secret",
                dotted(name.value)
            ));
            continue;
        };
        if let Some((other, _)) = config.and_then(|config| config.get_key_value(name.value)) {
            let message = format!("the name `{}` is in both `config` and `secrets`", name.value.escape_debug());
            cx.error(Code::BadSecret, &name.place, message)
                .also(&ValuePlace::File(other.span()), "the same name")
                .help("rename the key in `config` or in `secrets`: the plugin reads the keys of `config` and `secrets` in one list");
        }
        if let Some(secret) = RawSecret::reference(cx, &source, Code::BadSecret, "NAME") {
            secrets.push((name.value.to_owned(), secret));
        }
    }
    secrets
}

impl RawAllow {
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Self {
        let private_networks = parsed(cx, table, &PRIVATE_NETWORKS, Code::BadNetwork, Network::parse);
        let http = parsed(cx, table, &HTTP, Code::BadOrigin, Origin::parse);
        if http.is_empty() && !table.has(&HTTP) && table.has(&PRIVATE_NETWORKS) {
            let place = table.key_place(&PRIVATE_NETWORKS);
            cx.error(Code::MissingKey, &place, "`private-networks` has no effect without `http`")
                .help("write `http = [\"http://HOST:PORT\"]` beside `private-networks`, or remove `private-networks`");
        }
        Self {
            http,
            private_networks: private_networks.into_iter().map(|at| at.value).collect(),
            kv: kv(cx, table),
            emit: table.value(&EMIT).map(|value| emit(cx, value)),
        }
    }
}

fn parsed<T>(
    cx: &mut ReadContext<'_>,
    table: &Table<'_>,
    key: &'static Key<key::Texts>,
    code: Code,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<At<T>> {
    let mut found = Vec::new();
    for text in table.texts(cx, key).unwrap_or_default() {
        match parse(&text.value) {
            Ok(value) => found.push(At::new(value, text.place)),
            Err(problem) => {
                let has_user = text.value.contains('@');
                if has_user {
                    cx.findings.hide(&text.place);
                }
                let shown = if has_user { "the value".to_owned() } else { text.shown() };
                cx.problem(code, &text.place, &format!("{shown} in `{}`", key.name), &problem);
            }
        }
    }
    found
}

/// `kv = true`, or a table with the quota.
fn kv(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Quota> {
    let value = table.value(&KV)?;
    if let Some(granted) = value.get_ref().as_bool() {
        return granted.then(|| quota(QUOTA_BYTES.fallback(), QUOTA_KEYS.fallback(), None, None));
    }
    let Some(inner) = table.form(cx, &KV) else {
        wrong(cx, KV.name, value, "true or a table {quota, keys, total, tenants}").help("write `kv = true`");
        return None;
    };
    let bytes = inner.size(cx, &QUOTA_BYTES).map_or(QUOTA_BYTES.fallback(), |at| at.value);
    let keys = inner.integer(cx, &QUOTA_KEYS).map_or(QUOTA_KEYS.fallback(), |at| at.value);
    let tenants = inner.integer(cx, &QUOTA_TENANTS).map(|at| at.value);
    // One tenant may use all of its quota.
    let total = inner.size_from(cx, &QUOTA_TOTAL, bytes).map(|at| at.value);
    Some(quota(bytes, keys, total, tenants))
}

fn quota(bytes: u64, keys: i64, total: Option<u64>, tenants: Option<i64>) -> Quota {
    // The bounds of the keys keep the counts above 0.
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let default = Quota::per_tenant(bytes, count(keys));
    Quota {
        total_bytes: total.unwrap_or(default.total_bytes),
        tenants: tenants.map_or(default.tenants, count),
        ..default
    }
}

/// `emit`: keys on the default exchange, `{ exchange, keys }`, or a list of either, as `bind` of a queue.
fn emit(cx: &mut ReadContext<'_>, value: &TomlValue<'_>) -> Vec<RawEmitGrant> {
    const WANTED: &str = "a key, a table {exchange, keys}, or a list of keys and tables";
    let items = value.get_ref().as_array().map_or_else(|| vec![value], |items| items.iter().collect());
    let mut grants = Vec::new();
    for item in items {
        grants.extend(match Table::open(cx, item, &EMIT_GRANT, "`emit`") {
            Some(table) => RawEmitGrant::read(cx, &table),
            None => text(cx, EMIT.name, item, WANTED).map(|key| RawEmitGrant { exchange: None, keys: Some(vec![key]) }),
        });
    }
    grants
}

impl RawEmitGrant {
    /// `None` when a key is there and cannot be used.
    fn read(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<Self> {
        let exchange = table.text(cx, &GRANT_EXCHANGE);
        let keys = table.texts(cx, &GRANT_KEYS);
        let is_read = exchange.is_some() == table.has(&GRANT_EXCHANGE) && keys.is_some() == table.has(&GRANT_KEYS);
        is_read.then_some(Self { exchange, keys })
    }
}
