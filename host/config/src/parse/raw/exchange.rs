//! `[exchanges.NAME]`, and `exchange` of `[defaults]`.

use crate::keys::defaults::EXCHANGE;
use crate::keys::top::EXCHANGES;
use crate::keys::topology::exchange::{
    ALTERNATE, CODEC, DEFAULT_CODEC, DEFAULT_EXCHANGE, DEFAULT_KIND, DEFAULT_NAME, KIND, OWNED,
};
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::ExchangeKind;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::table::Table;
use crate::parse::value::text;

#[derive(Debug)]
pub(crate) struct RawExchange {
    pub(crate) name: Text,
    pub(crate) kind: Option<At<ExchangeKind>>,
    pub(crate) owned: bool,
    pub(crate) codec: Option<At<Codec>>,
    pub(crate) alternate: Option<Text>,
}

pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawExchange> {
    let mut exchanges = Vec::new();
    for (name, table) in top.named(cx, &EXCHANGES) {
        exchanges.push(RawExchange {
            name,
            kind: table.word(cx, &KIND),
            owned: table.boolean(cx, &OWNED).unwrap_or(OWNED.fallback()),
            codec: table.word(cx, &CODEC),
            alternate: table.text(cx, &ALTERNATE),
        });
    }
    exchanges
}

/// `exchange` in `[defaults]`: a name, or `{ name, type, codec }`.
#[derive(Debug, Default, Clone)]
pub(crate) struct RawDefaultExchange {
    pub(crate) name: Option<Text>,
    pub(crate) kind: Option<At<ExchangeKind>>,
    pub(crate) codec: Option<At<Codec>>,
}

impl RawDefaultExchange {
    pub(super) fn read(cx: &mut ReadContext<'_>, defaults: &Table<'_>) -> Self {
        let Some(value) = defaults.value(&EXCHANGE) else { return Self::default() };
        let Some(table) = Table::open(cx, value, &DEFAULT_EXCHANGE, "`exchange` in [defaults]") else {
            let name = text(cx, EXCHANGE.name, value, "a name or a table {name, type, codec}");
            return Self { name, ..Self::default() };
        };
        Self {
            name: table.text(cx, &DEFAULT_NAME),
            kind: table.word(cx, &DEFAULT_KIND),
            codec: table.word(cx, &DEFAULT_CODEC),
        }
    }
}
