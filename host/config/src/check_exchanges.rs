//! `[exchanges.NAME]` and the default exchange.

use std::collections::BTreeMap;

use super::checked::{Codec, Exchange, ExchangeKind};
use super::codes::Code;
use super::environment::Overlay;
use super::walk::{At, Context, Table, Text};
use trunkline_event::ExchangeName;

pub(super) const KINDS: &[(&str, ExchangeKind)] = &[
    ("topic", ExchangeKind::Topic),
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("headers", ExchangeKind::Headers),
];

pub(super) const CODECS: &[(&str, Codec)] =
    &[("raw", Codec::Raw), ("cloudevents", Codec::Cloudevents), ("ocelot", Codec::Ocelot)];

/// Name of the default exchange when nothing else is said.
const DEFAULT_EXCHANGE: &str = "events";

/// `exchange` in `[defaults]`: a name, or `{name, type, codec}`.
#[derive(Debug, Default)]
pub(super) struct DefaultExchange {
    name: Option<Text>,
    kind: Option<At<ExchangeKind>>,
    codec: Option<At<Codec>>,
}

impl DefaultExchange {
    pub(super) fn read(cx: &mut Context<'_>, defaults: &Table<'_>) -> Self {
        let Some(value) = defaults.value("exchange") else { return Self::default() };
        let Some(table) = Table::inline(value, "`exchange` in [defaults]") else {
            let name = super::walk::text(cx, "exchange", value, "a name or a table {name, type, codec}");
            return Self { name, ..Self::default() };
        };
        table.check_keys(cx, &["name", "type", "codec"], &[]);
        Self {
            name: table.text(cx, "name"),
            kind: table.word(cx, "type", KINDS),
            codec: table.word(cx, "codec", CODECS),
        }
    }
}

/// Every exchange that a binding or a route may name.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// By name, the default exchange of the file among them.
    pub(super) by_name: BTreeMap<ExchangeName, Exchange>,
    /// Which of them is the default.
    pub(super) default: ExchangeName,
}

/// One table, before the codec and the type that it leaves open are filled in.
struct Raw {
    kind: Option<At<ExchangeKind>>,
    owned: bool,
    codec: Option<At<Codec>>,
    alternate: Option<Text>,
}

impl Exchanges {
    /// Reads all tables. `codec` is the one of `[defaults]`, for exchanges that name none.
    pub(super) fn read(
        cx: &mut Context<'_>,
        top: &Table<'_>,
        default: DefaultExchange,
        overlay: &Overlay,
        codec: Option<Codec>,
    ) -> Self {
        let mut raw = BTreeMap::new();
        for (name, table) in top.tables(cx, "exchanges") {
            let entry = read_one(cx, &table);
            if let Some(name) = name
                .name(cx, |text| ExchangeName::new(text))
                .filter(|known| may_be_described(cx, known, &name, entry.owned))
            {
                raw.insert(name, entry);
            }
        }
        let default_name = add_default(cx, &mut raw, default, overlay);
        let alternates = raw.iter().filter_map(|(name, raw)| Some((name.clone(), raw.alternate.clone()?)));
        let alternates = alternates.collect::<Vec<_>>();
        let by_name = raw.into_iter().map(|(name, raw)| {
            let kind = raw.kind.map_or(ExchangeKind::Topic, |kind| kind.value);
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

    /// The exchange that a text names, or an error with the nearest one. AMQP's default exchange ("") is not among
    /// them.
    pub(super) fn resolve(&self, cx: &mut Context<'_>, text: &Text) -> Option<ExchangeName> {
        let name = text.name(cx, |text| ExchangeName::new(text))?;
        if self.by_name.contains_key(&name) {
            return Some(name);
        }
        self.report_unknown(cx, text);
        None
    }

    fn report_unknown(&self, cx: &mut Context<'_>, text: &Text) {
        if text.value.is_empty() {
            let message = "AMQP's own default exchange (\"\") cannot stand here";
            cx.error(Code::BadBinding, &text.place, message)
                .help("name another one; every queue is reachable over \"\" by its name without a binding");
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

fn read_one(cx: &mut Context<'_>, table: &Table<'_>) -> Raw {
    table.check_keys(cx, &["type", "owned", "codec", "alternate"], &[]);
    Raw {
        kind: table.word(cx, "type", KINDS),
        owned: table.boolean(cx, "owned").unwrap_or(true),
        codec: table.word(cx, "codec", CODECS),
        alternate: table.text(cx, "alternate"),
    }
}

fn may_be_described(cx: &mut Context<'_>, name: &ExchangeName, text: &Text, owned: bool) -> bool {
    if name.is_default() {
        cx.error(Code::BadName, &text.place, "AMQP's own default exchange (\"\") is always there and needs no table");
        return false;
    }
    if owned && name.as_str().starts_with("amq.") {
        let message = format!("exchange {} belongs to the broker", text.shown());
        cx.error(Code::BadName, &text.place, message).help("write `owned = false`");
        return false;
    }
    true
}

/// Puts the default exchange among the others: environment over file over "events" (topic), each key by itself, so that
/// another name from the environment keeps the file's type and codec unless [exchanges] describes it.
fn add_default(
    cx: &mut Context<'_>,
    raw: &mut BTreeMap<ExchangeName, Raw>,
    default: DefaultExchange,
    overlay: &Overlay,
) -> ExchangeName {
    let fallback = || ExchangeName::new(DEFAULT_EXCHANGE).expect("a plain word is a name");
    let DefaultExchange { name: in_file, kind, codec } = default;
    let text = overlay.exchange.clone().or(in_file);
    let name = match &text {
        None => fallback(),
        Some(text) => match text.name(cx, |text| ExchangeName::new(text)) {
            Some(name) if name.is_default() => {
                let message = "AMQP's own default exchange (\"\") cannot be bound to";
                cx.error(Code::BadBinding, &text.place, message).help("name a topic exchange, such as \"events\"");
                fallback()
            }
            Some(name) => name,
            None => fallback(),
        },
    };
    match raw.get_mut(&name) {
        Some(described) => {
            // Only the file can contradict itself; a name from the environment is no mistake of the file's.
            if overlay.exchange.is_none() {
                agree(cx, "type", described.kind.as_ref(), kind.as_ref());
                agree(cx, "codec", described.codec.as_ref(), codec.as_ref());
            }
            described.kind = overlay.exchange_kind.clone().or(described.kind.take()).or(kind);
            described.codec = described.codec.take().or(codec);
        }
        None => {
            if let Some(text) = text.filter(|text| text.value.starts_with("amq.")) {
                let message = format!("exchange {} belongs to the broker", text.shown());
                cx.error(Code::BadName, &text.place, message).help("describe it in [exchanges] with `owned = false`");
            }
            let kind = overlay.exchange_kind.clone().or(kind);
            raw.insert(name.clone(), Raw { kind, owned: true, codec, alternate: None });
        }
    }
    name
}

fn agree<T: PartialEq>(cx: &mut Context<'_>, key: &str, described: Option<&At<T>>, default: Option<&At<T>>) {
    if let (Some(described), Some(default)) = (described, default)
        && described.value != default.value
    {
        let message = format!("the default exchange has another `{key}` in [exchanges]");
        cx.error(Code::TwoTypes, &default.place, message)
            .also(&described.place, "and this here")
            .help(format!("remove `{key}` from `exchange` in [defaults]"));
    }
}

/// The queue's or exchange's codec by its word, for messages.
pub(super) fn codec_word(codec: Codec) -> &'static str {
    CODECS.iter().find(|(_, known)| *known == codec).map_or("raw", |(word, _)| word)
}
