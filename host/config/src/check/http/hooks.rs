//! Webhooks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::check::routes::schema;
use crate::check::token;
use crate::check::topology::exchanges::Exchanges;
use crate::diagnostics::codes::Code;
use crate::keys::http::hook::STATUS_DEFAULT;
use crate::model::http::hook::{Hook, Signature};
use crate::model::http::listener::Http;
use crate::model::http::placeholder::{Placeholder, ValueSource};
use crate::model::http::sender::{HookProvider, SENDER_STATUS, STANDARD_SECRET_PREFIX, SenderProfile, SignatureScheme};
use crate::model::http::template::Template;
use crate::model::secret::Secret;
use crate::parse::context::{ReadContext, Text};
use crate::parse::raw::hook::RawHook;
use crate::parse::secret::RawSecret;
use crate::sources::Sources;
use trunkline_event::{ExchangeName, RouteName, RoutingKey};

/// Every hook is below it, so that none takes a path of the daemon's own.
const BELOW: &str = "/hooks/";

/// Checks all hooks. A hook with a mistake is reported and left out.
pub(crate) fn check(
    cx: &mut ReadContext<'_>,
    raw: Vec<RawHook>,
    exchanges: &Exchanges,
    http: &Http,
    sources: &Sources,
) -> BTreeMap<String, Hook> {
    let mut hooks = BTreeMap::<String, Hook>::new();
    for raw in raw {
        let known = raw.name.name(cx, "hook name", |text| RouteName::new(text));
        let hook = hook(cx, &raw, exchanges);
        let (Some(_), Some(hook)) = (known, hook) else { continue };
        let has_secret = hook.provider.as_ref().is_some_and(|provider| !provider.secrets.is_empty());
        let is_guarded = has_secret || !hook.tokens.is_empty() || !hook.signatures.is_empty();
        // A guard that cannot be used was reported already.
        if !http.is_local() && !is_guarded && !raw.has_guard && !sources.insecure {
            let (missing, guard) = match raw.provider {
                Some(_) => ("no `signature`", "`signature = { secret = { env = \"HOOK_SECRET\" } }`"),
                None => ("no `token` and no `signature`", "`token = { env = \"HOOK_TOKEN\" }` or `signature`"),
            };
            let message =
                format!("{} has {missing}, so every client that can reach {} could publish", raw.title, http.listen);
            cx.error(Code::OpenListener, &raw.place, message).help(format!("write {guard}, or pass --insecure"));
        }
        if let Some((other, _)) = hooks.iter().find(|(_, other)| other.path == hook.path) {
            let message = format!("{} has the `path` {}, which the hook \"{other}\" has too", raw.title, hook.path);
            cx.error(Code::BadHook, &raw.path_place, message)
                .help("write another path for one of the two hooks, such as `path = \"/hooks/NAME\"`");
        }
        if let Some(why) = http.refuses(hook.exchange.as_str()) {
            let (why, help) = why.rsplit_once("; ").unwrap_or((&why, "name another exchange"));
            let message = format!("{} cannot publish: {why}", raw.title);
            cx.findings.warning(Code::BadHook, &raw.exchange_place, message).help(help);
        }
        hooks.insert(raw.name.value, hook);
    }
    hooks
}

fn hook(cx: &mut ReadContext<'_>, raw: &RawHook, exchanges: &Exchanges) -> Option<Hook> {
    let name = &raw.name.value;
    let path = match &raw.path {
        Some(text) => path(cx, text),
        None => Some(format!("{BELOW}{name}")),
    };
    let exchange = match &raw.exchange {
        Some(text) if text.value.is_empty() => Some(ExchangeName::default_exchange()),
        Some(text) => exchanges.resolve(cx, text),
        None => Some(exchanges.default.clone()),
    };
    let kinds = match (&raw.kind, &raw.provider) {
        (Some(text), _) => template(cx, "type", text, TemplateKey::Type).map(|template| vec![template]),
        (None, Some(profile)) => Some(templates(profile.kinds).chain([Template::of_text(name)]).collect()),
        (None, None) => Some(vec![Template::of_text(name)]),
    };
    let key = raw.key.as_ref().map(|text| template(cx, "key", text, TemplateKey::Key));
    let ids = match (&raw.id, &raw.provider) {
        (Some(text), _) => template(cx, "id", text, TemplateKey::Id).map(|template| vec![template]),
        (None, Some(profile)) => Some(templates(profile.ids).collect()),
        (None, None) => Some(Vec::new()),
    };
    let sources = raw.provider.map(|profile| templates(profile.sources).collect()).unwrap_or_default();
    let schema = raw.schema.as_ref().map(|text| schema::compile(cx, text));
    let tokens = raw.tokens.iter().filter_map(|raw| token::check(cx, raw)).collect();
    let provider = raw.provider.map(|profile| provider(cx, raw, profile));
    let signatures = if provider.is_some() { Vec::new() } else { signatures(cx, raw) };
    let status_default = if provider.is_some() { SENDER_STATUS } else { STATUS_DEFAULT };
    Some(Hook {
        name: name.clone(),
        path: path?,
        exchange: exchange?,
        kinds: kinds?,
        key: complete(key)?,
        ids: ids?,
        sources,
        id_is_written: raw.id.is_some(),
        codec: raw.codec,
        schema: complete(schema)?,
        tokens,
        signatures,
        provider,
        status: raw.status.unwrap_or(status_default),
    })
}

/// The templates of a known sender. A test checks that all of them can be parsed.
fn templates(texts: &'static [&'static str]) -> impl Iterator<Item = Template> {
    texts.iter().filter_map(|text| Template::parse(text).ok())
}

/// An absent value is fine. A value that cannot be used was reported, and gives `None`.
fn complete<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn path(cx: &mut ReadContext<'_>, text: &Text) -> Option<String> {
    let fits = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
    };
    let rest = text.value.strip_prefix(BELOW);
    if text.value.len() <= 255 && rest.is_some_and(|rest| rest.split('/').all(fits)) {
        return Some(text.value.clone());
    }
    let message = format!("`path` is {}, but must be a path below /hooks/", text.shown());
    cx.error(Code::BadHook, &text.place, message)
        .help("write \"/hooks/NAME\", and use letters, digits, '-', '.', '_' and '~' between the slashes");
    None
}

/// The keys with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TemplateKey {
    Type,
    Key,
    Id,
}

impl TemplateKey {
    /// Whether the key allows a value from this source.
    fn allows(self, source: &ValueSource) -> bool {
        match source {
            ValueSource::Data(_) | ValueSource::Header(_) | ValueSource::Beside(_) => true,
            ValueSource::Type => self == Self::Key,
            ValueSource::Digest | ValueSource::New => self == Self::Id,
        }
    }

    fn refuses(self, placeholder: &Placeholder) -> bool {
        let is_dotted = placeholder.is_dotted() && self != Self::Key;
        is_dotted || !placeholder.sources().all(|source| self.allows(source))
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Type => {
                "write {data.FIELD} for a field of the data or {header.NAME} for a header, as in \"orders.{data.kind}\""
            }
            Self::Key => {
                "write {type} for the type of the event, {data.FIELD} for a field of the data or {header.NAME} for a header, as in \"orders.{type}\", and end a placeholder with `:dotted` to keep dots"
            }
            Self::Id => {
                "write {data.FIELD} for a field of the data, {header.NAME} for a header, {digest} for a hash of the data or {new} for a new id, as in \"orders-{data.id}\""
            }
        }
    }
}

fn template(cx: &mut ReadContext<'_>, key: &str, text: &Text, of: TemplateKey) -> Option<Template> {
    let problem = match Template::parse(&text.value) {
        Ok(template) => {
            let refused = template.placeholders().find(|placeholder| of.refuses(placeholder));
            let Some(refused) = refused.map(|placeholder| placeholder.written().to_owned()) else {
                return text.name(cx, "text", |_| RoutingKey::new(template.fixed())).map(|_| template);
            };
            format!("has {{{refused}}}, but `{key}` does not allow this placeholder")
        }
        Err(problem) => problem,
    };
    let message = format!("`{key}` is {}: the text {problem}", text.shown());
    cx.error(Code::Template, &text.place, message).help(of.help());
    None
}

/// The signatures, one for each secret.
fn signatures(cx: &mut ReadContext<'_>, raw: &RawHook) -> Vec<Signature> {
    let mut signatures = Vec::new();
    for raw in &raw.signatures {
        for secret in &raw.secrets {
            let secret = token::check(cx, secret);
            let signature = raw.header.clone().zip(secret);
            signatures.extend(signature.map(|(header, secret)| Signature { header, secret }));
        }
    }
    signatures
}

fn provider(cx: &mut ReadContext<'_>, raw: &RawHook, profile: SenderProfile) -> HookProvider {
    let secrets = raw.signatures.iter().flat_map(|signature| &signature.secrets);
    let secrets = secrets.filter_map(|raw| sender_secret(cx, raw, profile.scheme)).collect();
    let handshake_token = raw.handshake.as_ref().and_then(|raw| token::check_present(cx, raw));
    HookProvider { profile, secrets, handshake_token }
}

/// A secret of a known sender. A secret of Standard Webhooks is Base64, and so is a signing token of GitLab.
fn sender_secret(cx: &mut ReadContext<'_>, raw: &RawSecret, scheme: SignatureScheme) -> Option<Secret> {
    let secret = token::check(cx, raw)?;
    let without_prefix = secret.expose().strip_prefix(STANDARD_SECRET_PREFIX);
    let base64 = match scheme {
        SignatureScheme::Standard => Some(without_prefix.unwrap_or(secret.expose())),
        SignatureScheme::PlainOrStandard { .. } => without_prefix,
        SignatureScheme::OfBody { .. }
        | SignatureScheme::Plain { .. }
        | SignatureScheme::InAddress { .. }
        | SignatureScheme::Stripe
        | SignatureScheme::Slack => None,
    };
    if base64.is_some_and(|text| STANDARD.decode(text).is_err()) {
        let message = "the secret is not Base64, but a secret of Standard Webhooks must be Base64";
        cx.error(Code::BadHook, &raw.place, message)
            .help("write the complete secret of the sender, such as whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        return None;
    }
    Some(secret)
}
