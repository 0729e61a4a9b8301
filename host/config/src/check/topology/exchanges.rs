//! Exchanges, with the default exchange of the file.

use std::collections::BTreeMap;

use crate::diagnostics::codes::Code;
use crate::keys::topology::exchange::{CODECS, DEFAULT_NAME, KIND};
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::{Exchange, ExchangeKind};
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::environment::Overlay;
use crate::parse::raw::exchange::{RawDefaultExchange, RawExchange};
use trunkline_event::ExchangeName;

/// An exchange, before its defaults are known.
struct DescribedExchange {
    kind: Option<At<ExchangeKind>>,
    owned: bool,
    codec: Option<At<Codec>>,
    alternate: Option<Text>,
}

impl From<RawExchange> for DescribedExchange {
    fn from(raw: RawExchange) -> Self {
        Self { kind: raw.kind, owned: raw.owned, codec: raw.codec, alternate: raw.alternate }
    }
}

/// Every exchange that a binding or a route may name.
#[derive(Debug)]
pub(crate) struct Exchanges {
    /// Exchanges by name, with the default exchange.
    pub(crate) by_name: BTreeMap<ExchangeName, Exchange>,
    /// Name of the default exchange.
    pub(crate) default: ExchangeName,
}

impl Exchanges {
    /// Checks all exchanges. `codec` is the one of `[defaults]`, for exchanges that name none.
    pub(crate) fn check(
        cx: &mut ReadContext<'_>,
        raw: Vec<RawExchange>,
        default: RawDefaultExchange,
        overlay: &Overlay,
        codec: Option<Codec>,
    ) -> Self {
        let mut described = BTreeMap::new();
        for raw in raw {
            let name = raw.name.name(cx, "exchange name", |text| ExchangeName::new(text));
            if let Some(name) = name.filter(|name| may_be_described(cx, name, &raw)) {
                described.insert(name, DescribedExchange::from(raw));
            }
        }
        let default_name = add_default(cx, &mut described, default, overlay);
        let alternates = described.iter().filter_map(|(name, one)| Some((name.clone(), one.alternate.clone()?)));
        let alternates = alternates.collect::<Vec<_>>();
        let by_name = described.into_iter().map(|(name, raw)| {
            let kind = raw.kind.map_or(KIND.fallback(), |kind| kind.value);
            let codec = raw.codec.map(|codec| codec.value).or(codec).unwrap_or_default();
            (name, Exchange { kind, owned: raw.owned, codec, alternate: None })
        });
        let mut exchanges = Self { by_name: by_name.collect(), default: default_name };
        for (name, alternate) in alternates {
            let resolved = exchanges.resolve(cx, &alternate);
            if let (Some(resolved), Some(exchange)) = (resolved, exchanges.by_name.get_mut(&name)) {
                exchange.alternate = Some(resolved);
            }
        }
        exchanges
    }

    /// The exchange that a text names. An unknown name is reported with the nearest known one, and so is the nameless
    /// exchange ("").
    pub(crate) fn resolve(&self, cx: &mut ReadContext<'_>, text: &Text) -> Option<ExchangeName> {
        let name = text.name(cx, "exchange name", |text| ExchangeName::new(text))?;
        if self.by_name.contains_key(&name) {
            return Some(name);
        }
        self.report_unknown(cx, text);
        None
    }

    fn report_unknown(&self, cx: &mut ReadContext<'_>, text: &Text) {
        if text.value.is_empty() {
            let message = "the value is the nameless exchange (\"\"), but must be the name of an exchange";
            cx.error(Code::BadBinding, &text.place, message)
                .help("write a name such as \"events\": the nameless exchange reaches every queue by the queue's name");
            return;
        }
        let known = self.by_name.keys().map(ExchangeName::as_str);
        let message = format!("there is no exchange {}", text.shown());
        let finding = cx.error(Code::UnknownExchange, &text.place, message).nearest(&text.value, known);
        if text.literal {
            finding.label(format!("[exchanges.\"{}\"] is missing", text.value.escape_debug()));
        }
    }
}

fn may_be_described(cx: &mut ReadContext<'_>, name: &ExchangeName, raw: &RawExchange) -> bool {
    let text = &raw.name;
    if name.is_default() {
        cx.error(Code::BadName, &text.place, "the nameless exchange (\"\") cannot have a table")
            .help("remove [exchanges.\"\"]: the nameless exchange always exists");
        return false;
    }
    if raw.owned && name.as_str().starts_with("amq.") {
        let message = format!("{} begins with \"amq.\", so only the broker can declare the exchange", text.shown());
        cx.error(Code::BadName, &text.place, message).help(format!("write `owned = false` in [exchanges.\"{name}\"]"));
        return false;
    }
    true
}

/// Adds the default exchange. For each key the environment has precedence over the file, and the file over the default, so
/// another name from the environment keeps the file's type and codec unless [exchanges] describes it.
fn add_default(
    cx: &mut ReadContext<'_>,
    exchanges: &mut BTreeMap<ExchangeName, DescribedExchange>,
    default: RawDefaultExchange,
    overlay: &Overlay,
) -> ExchangeName {
    let fallback =
        || ExchangeName::new(DEFAULT_NAME.value.default.unwrap_or_default()).expect("a plain word is a name");
    let RawDefaultExchange { name: in_file, kind, codec } = default;
    let text = overlay.exchange.clone().or(in_file);
    let name = match &text {
        None => fallback(),
        Some(text) => match text.name(cx, "exchange name", |text| ExchangeName::new(text)) {
            Some(name) if name.is_default() => {
                let message = "the nameless exchange (\"\") cannot be the default exchange";
                cx.error(Code::BadBinding, &text.place, message)
                    .help("write the name of a topic exchange, such as \"events\"");
                fallback()
            }
            Some(name) => name,
            None => fallback(),
        },
    };
    match exchanges.get_mut(&name) {
        Some(described) => {
            // Only two parts of the file can contradict each other; a name from the environment is no error of the file.
            if overlay.exchange.is_none() {
                agree(cx, "type", described.kind.as_ref(), kind.as_ref(), ExchangeKind::as_str);
                agree(cx, "codec", described.codec.as_ref(), codec.as_ref(), codec_word);
            }
            described.kind = overlay.exchange_kind.clone().or(described.kind.take()).or(kind);
            described.codec = described.codec.take().or(codec);
        }
        None => {
            if let Some(text) = text.filter(|text| text.value.starts_with("amq.")) {
                let message =
                    format!("{} begins with \"amq.\", so only the broker can declare the exchange", text.shown());
                cx.error(Code::BadName, &text.place, message)
                    .help(format!("add a table [exchanges.\"{name}\"] with `owned = false`"));
            }
            let kind = overlay.exchange_kind.clone().or(kind);
            exchanges.insert(name.clone(), DescribedExchange { kind, owned: true, codec, alternate: None });
        }
    }
    name
}

fn agree<T: PartialEq + Copy>(
    cx: &mut ReadContext<'_>,
    key: &str,
    described: Option<&At<T>>,
    default: Option<&At<T>>,
    word: fn(T) -> &'static str,
) {
    if let (Some(described), Some(default)) = (described, default)
        && described.value != default.value
    {
        let message = format!(
            "the default exchange has `{key} = \"{}\"` in [defaults], but `{key} = \"{}\"` in [exchanges]",
            word(default.value),
            word(described.value)
        );
        cx.error(Code::TwoTypes, &default.place, message).also(&described.place, "the other value").help(format!(
            "remove `{key}` from `exchange` in [defaults], or write `{key} = \"{}\"` in both tables",
            word(described.value)
        ));
    }
}

/// The word of a codec, for messages.
pub(crate) fn codec_word(codec: Codec) -> &'static str {
    CODECS.iter().find(|(_, known)| *known == codec).map_or("raw", |(word, _)| word)
}
