//! A table of the file, and the readers that take one value out of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{At, Context, Text, Value, dotted, place, quantity, text, texts, word, wrong};
use crate::codes::Code;
use crate::diagnostics::Place;
use crate::values;

/// Keys that are looked for in the wrong table, and where they belong.
const HOMES: &[(&[&str], &str)] = &[
    (
        &["bind", "ttl", "max-length", "overflow", "delivery-limit", "dead-letter", "prefetch", "max-priority"],
        "[queues.NAME]",
    ),
    (
        &[
            "from",
            "queue",
            "plugin",
            "archive",
            "schema",
            "emit",
            "retry",
            "concurrency",
            "max-hops",
            "dedupe",
            "order-by",
            "rate",
            "tenant",
            "circuit",
        ],
        "[routes.NAME]",
    ),
    (&["memory", "timeout", "emissions", "output", "log", "http-body"], "`limits` in [plugins.NAME] or [defaults]"),
    (&["file", "digest", "config", "limits", "secrets", "allow"], "[plugins.NAME]"),
    (&["http", "kv", "private-networks"], "`allow` in [plugins.NAME]"),
    (&["max-body"], "[http], [routes.NAME] or [defaults]"),
    (&["url", "topology", "management-url", "header-key"], "[broker]"),
    (&["token", "signature", "status"], "[hooks.NAME]"),
    (&["listen", "hosts", "tokens", "reserved"], "[http]"),
    (&["alternate", "owned"], "[exchanges.NAME]"),
];

/// A table of the file.
#[derive(Debug, Clone)]
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// Its name, or all of an inline table that has none.
    pub(crate) place: Place,
    /// `[routes.x]`, for messages.
    pub(crate) title: String,
}

impl<'t> Table<'t> {
    /// The whole file.
    pub(crate) fn top(entries: &'t DeTable<'t>) -> Self {
        Self { entries, place: Place::File(0..0), title: "the file".to_owned() }
    }

    /// A value that is an inline table, or none.
    pub(crate) fn inline(value: &'t Value<'t>, title: impl Into<String>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(entries) => Some(Self { entries, place: place(value), title: title.into() }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => None,
        }
    }

    /// Reports keys that are not in `known`; those in `later` are part of the format but not carried out.
    pub(crate) fn check_keys(&self, cx: &mut Context<'_>, known: &[&str], later: &[&str]) {
        for (key, value) in self.entries.iter() {
            let (name, place) = (key.get_ref().as_ref(), place(key));
            if later.contains(&name) {
                let message = format!("`{name}` in {} is not carried out by this version", self.title);
                cx.error(Code::LaterKey, &place, message).help("remove it");
            } else if !known.contains(&name) {
                let message = format!("unknown key `{}` in {}", name.escape_debug(), self.title);
                let finding = cx.error(Code::UnknownKey, &place, message);
                finding.nearest(&name.replace('_', "-"), known.iter().copied());
                if let Some(help) = self.elsewhere(name, value).filter(|_| !finding.has_near()) {
                    finding.help(help);
                }
            }
        }
    }

    /// Where an unknown key belongs: a name with a dot in quotes, or a key of another table.
    fn elsewhere(&self, key: &str, value: &Value<'_>) -> Option<String> {
        let header = self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']'));
        if let (Some((table, name)), DeValue::Table(_)) =
            (header.and_then(|title| title.split_once('.')), value.get_ref())
        {
            return Some(format!("a name with a dot is quoted: [{table}.\"{}.{key}\"]", name.trim_matches('"')));
        }
        let key = key.replace('_', "-");
        let (_, home) = HOMES.iter().find(|(keys, _)| keys.contains(&key.as_str()))?;
        Some(format!("`{key}` is a key of {home}"))
    }

    /// Reports a key that must be there and is not.
    pub(crate) fn require(&self, cx: &mut Context<'_>, key: &str, example: &str) {
        if !self.has(key) {
            let message = format!("{} has no `{key}`", self.title);
            cx.error(Code::MissingKey, &self.place, message).help(format!("write `{example}`"));
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the key stands; the table's own place when it is absent.
    pub(crate) fn key_place(&self, key: &str) -> Place {
        self.entries.get_key_value(key).map_or_else(|| self.place.clone(), |(key, _)| place(key))
    }

    /// The value, unread.
    pub(crate) fn value(&self, key: &str) -> Option<&'t Value<'t>> {
        self.entries.get(key)
    }

    /// All values with their keys, in the order of the file.
    pub(crate) fn values(&self) -> Vec<(At<&'t str>, &'t Value<'t>)> {
        let with_place = |(key, value): (&'t Spanned<_>, _)| {
            let name: &'t std::borrow::Cow<'t, str> = key.get_ref();
            (At::new(name.as_ref(), place(key)), value)
        };
        let mut values = self.entries.iter().map(with_place).collect::<Vec<(At<&str>, &Value<'t>)>>();
        values.sort_by_key(|(key, _)| match &key.place {
            Place::File(span) => span.start,
            Place::Variable(_) | Place::Flag(_) => 0,
        });
        values
    }

    pub(crate) fn text(&self, cx: &mut Context<'_>, key: &str) -> Option<Text> {
        text(cx, key, self.value(key)?, "a string")
    }

    /// A string or a list of strings.
    pub(crate) fn texts(&self, cx: &mut Context<'_>, key: &str) -> Option<Vec<Text>> {
        texts(cx, key, self.value(key)?)
    }

    pub(crate) fn boolean(&self, cx: &mut Context<'_>, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            wrong(cx, key, value, "true or false").help("write it without quotes");
        }
        read
    }

    pub(crate) fn integer<N>(&self, cx: &mut Context<'_>, key: &str, bounds: RangeInclusive<N>) -> Option<At<N>>
    where
        N: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display,
    {
        let value = self.value(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            wrong(cx, key, value, "an integer").help(format!(
                "write a number from {} to {}",
                bounds.start(),
                bounds.end()
            ));
            return None;
        };
        let read =
            i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| N::try_from(number).ok());
        match read.filter(|number| bounds.contains(number)) {
            Some(number) => Some(At::new(number, place(value))),
            None => {
                let message = format!("`{key}` is {number}, but goes from {} to {}", bounds.start(), bounds.end());
                cx.error(Code::OutOfBounds, &place(value), message);
                None
            }
        }
    }

    /// An integer or a number with a point.
    pub(crate) fn number(&self, cx: &mut Context<'_>, key: &str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(key)?;
        let written = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                wrong(cx, key, value, "a number");
                return None;
            }
        };
        let read = written.parse::<f64>().ok().filter(|number| bounds.contains(number));
        if read.is_none() {
            let message = format!("`{key}` is {written}, but goes from {} to {}", bounds.start(), bounds.end());
            cx.error(Code::OutOfBounds, &place(value), message);
        }
        read
    }

    pub(crate) fn duration(
        &self,
        cx: &mut Context<'_>,
        key: &str,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<At<Duration>> {
        let value = self.value(key)?;
        if let DeValue::Integer(number) = value.get_ref() {
            let help = format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds");
            wrong(cx, key, value, "a duration in quotes").help(help);
            return None;
        }
        let text = text(cx, key, value, "a duration in quotes")?;
        let read = values::duration(&text.value);
        quantity(cx, key, &text, read, bounds, (Code::BadDuration, |value| values::show_duration(*value)))
    }

    /// Bytes.
    pub(crate) fn size(&self, cx: &mut Context<'_>, key: &str, bounds: &RangeInclusive<u64>) -> Option<At<u64>> {
        let value = self.value(key)?;
        if let DeValue::Integer(number) = value.get_ref() {
            wrong(cx, key, value, "a size in quotes").help(format!("write \"{number}B\" for bytes"));
            return None;
        }
        let text = text(cx, key, value, "a size in quotes")?;
        let read = values::size(&text.value);
        quantity(cx, key, &text, read, bounds, (Code::BadSize, |value| values::show_size(*value)))
    }

    /// One of a fixed list of words.
    pub(crate) fn word<T: Copy>(&self, cx: &mut Context<'_>, key: &str, words: &[(&str, T)]) -> Option<At<T>> {
        let text = self.text(cx, key)?;
        word(cx, &format!("`{key}`"), &text, words).map(|value| At::new(value, text.place))
    }

    /// A table under that key.
    pub(crate) fn table(&self, cx: &mut Context<'_>, key: &str) -> Option<Table<'t>> {
        let value = self.value(key)?;
        let title = if self.title.starts_with('[') { format!("`{key}`") } else { format!("[{key}]") };
        let Some(table) = Self::inline(value, title) else {
            wrong(cx, key, value, "a table");
            return None;
        };
        Some(Self { place: self.key_place(key), ..table })
    }

    /// `[KEY.NAME]` for every NAME, in the order of the file.
    pub(crate) fn tables(&self, cx: &mut Context<'_>, key: &str) -> Vec<(Text, Table<'t>)> {
        let Some(table) = self.table(cx, key) else { return Vec::new() };
        let named = table.values().into_iter().filter_map(|(name, value)| {
            let title = format!("[{key}.{}]", dotted(name.value));
            let Some(inner) = Self::inline(value, title.clone()) else {
                wrong(cx, name.value, value, "a table").help(format!("write {title} on a line of its own"));
                return None;
            };
            let text = Text { value: name.value.to_owned(), place: name.place.clone(), literal: true };
            Some((text, Self { place: name.place, ..inner }))
        });
        named.collect()
    }
}
