//! `[http]`.

use toml::de::DeValue;

use super::flow;
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::http::listener::{DEDUPE, HOSTS, LISTEN, MAX_BODY, RESERVED, TOKENS};
use crate::keys::top::HTTP_TABLE;
use crate::model::routes::flow::DedupeWindow;
use crate::parse::context::{ReadContext, Text};
use crate::parse::secret::RawSecret;
use crate::parse::table::Table;
use crate::parse::value::wrong;

#[derive(Debug, Default)]
pub(crate) struct RawHttp {
    pub(crate) listen: Option<Text>,
    pub(crate) hosts: Vec<Text>,
    pub(crate) tokens: Vec<RawSecret>,
    /// Whether the key `tokens` is there, readable or not.
    pub(crate) has_tokens: bool,
    pub(crate) max_body: Option<u64>,
    pub(crate) dedupe: Option<DedupeWindow>,
    pub(crate) reserved: Option<bool>,
}

impl RawHttp {
    pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Self {
        let Some(table) = top.table(cx, &HTTP_TABLE) else { return Self::default() };
        Self {
            listen: table.text(cx, &LISTEN),
            hosts: table.texts(cx, &HOSTS).unwrap_or_default(),
            tokens: tokens(cx, &table),
            has_tokens: table.has(&TOKENS),
            max_body: table.size(cx, &MAX_BODY).map(|at| at.value),
            dedupe: flow::dedupe(cx, &table, &DEDUPE),
            reserved: table.boolean(cx, &RESERVED),
        }
    }
}

fn tokens(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Vec<RawSecret> {
    let Some(value) = table.value(&TOKENS) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        cx.findings.hide(&ValuePlace::File(value.span()));
        wrong(cx, TOKENS.name, value, "a list").help("write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]`");
        return Vec::new();
    };
    if items.is_empty() {
        cx.error(
            Code::MissingKey,
            &ValuePlace::File(value.span()),
            "the list `tokens` is empty, so no client could publish",
        )
        .help("remove `tokens`, or write `tokens = [{ env = \"TRUNKLINE_TOKEN\" }]`");
    }
    items.iter().filter_map(|item| RawSecret::token(cx, TOKENS.name, item)).collect()
}
