//! `[broker]`.

use std::time::Duration;

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::broker::{CA, CERT, HEADER_KEY, KEY, MANAGEMENT_URL, POLL, PREFETCH, TLS_TABLE, TOPOLOGY, URL};
use crate::keys::key::{self, Key};
use crate::keys::top::BROKER_TABLE;
use crate::model::broker::topology::TopologyMode;
use crate::parse::context::{At, ReadContext, Text};
use crate::parse::secret::RawSecret;
use crate::parse::table::Table;
use crate::parse::value::span;

#[derive(Debug, Default)]
pub(crate) struct RawBroker {
    pub(crate) url: Option<Text>,
    /// Whether the key `url` is there, readable or not.
    pub(crate) has_url: bool,
    pub(crate) management_url: Option<Text>,
    pub(crate) prefetch: Option<u16>,
    pub(crate) topology: Option<TopologyMode>,
    pub(crate) tls: Option<At<RawTls>>,
    pub(crate) header_key: Option<RawSecret>,
    pub(crate) poll: Option<At<Duration>>,
}

/// `tls`
#[derive(Debug)]
pub(crate) struct RawTls {
    pub(crate) ca: Option<Text>,
    pub(crate) cert: Option<Text>,
    pub(crate) key: Option<Text>,
}

impl RawBroker {
    pub(super) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Self {
        let Some(table) = top.table(cx, &BROKER_TABLE) else { return Self::default() };
        Self {
            url: url(cx, &table, &URL),
            has_url: table.has(&URL),
            management_url: url(cx, &table, &MANAGEMENT_URL),
            prefetch: table.integer(cx, &PREFETCH).map(|at| at.value),
            topology: table.word(cx, &TOPOLOGY).map(|at| at.value),
            tls: RawTls::read(cx, &table),
            header_key: table.value(&HEADER_KEY).and_then(|value| RawSecret::token(cx, HEADER_KEY.name, value)),
            poll: table.duration(cx, &POLL),
        }
    }
}

impl RawTls {
    fn read(cx: &mut ReadContext<'_>, broker: &Table<'_>) -> Option<At<Self>> {
        let table = broker.table(cx, &TLS_TABLE)?;
        let pairs = [(&CERT, &KEY, "key = \"client.key\""), (&KEY, &CERT, "cert = \"client.pem\"")];
        for (one, other, example) in pairs {
            if table.has(one) && !table.has(other) {
                let message = format!("`tls` has `{}` without `{}`", one.name, other.name);
                cx.error(Code::MissingKey, &table.key_place(one), message).help(format!("write `{example}`"));
            }
        }
        let raw = Self { ca: table.text(cx, &CA), cert: table.text(cx, &CERT), key: table.text(cx, &KEY) };
        Some(At::new(raw, table.place))
    }
}

/// A URL of the file. A password in it is hidden from excerpts and warned about.
fn url(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &'static Key<key::TextValue>) -> Option<Text> {
    let text = table.text(cx, key)?;
    let bytes = span(&text.place)?;
    let written = cx.source.get(bytes.clone()).unwrap_or_default();
    if let Some(inside) = password(written).filter(|inside| !written[inside.clone()].contains("${")) {
        let (start, end) = (bytes.start + inside.start, bytes.start + inside.end);
        cx.findings.hide(&ValuePlace::File(start..end));
        cx.findings
            .warning(Code::LiteralSecret, &text.place, format!("`{}` contains a password in clear text", key.name))
            .help("write ${RABBITMQ_PASSWORD} instead of the password, and set RABBITMQ_PASSWORD");
    }
    // Only URLs of the environment and of flags are secret as a whole; this one is shown by its excerpt.
    Some(text)
}

/// Where the password is in `scheme://user:password@host`, when there is one.
fn password(url: &str) -> Option<std::ops::Range<usize>> {
    let begin = url.find("://")? + 3;
    let authority = &url[begin..];
    let at = authority.rfind('@')?;
    let colon = authority[..at].find(':')?;
    (colon + 1 < at).then_some(begin + colon + 1..begin + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found() {
        for (url, expected) in [
            ("\"amqp://u:secret@h\"", Some("secret")),
            ("amqp://u@h:5672", None),
            ("amqp://u:@h", None),
            ("amqp://h", None),
            ("amqp://u:a@b@h", Some("a@b")),
        ] {
            assert_eq!(password(url).map(|inside| &url[inside]), expected, "{url}");
        }
    }
}
