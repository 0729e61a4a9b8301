//! Typed readers over the parsed file. Each takes one value out of a table, remembers where it stood, and reports what
//! is wrong with it; `None` means absent or already reported, so that a caller may go on and find more.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes::Code;
use super::diagnostics::{Finding, Findings, Place, quoted};
use super::{values, variables};
use crate::event::NameError;

/// What every reader needs: where to report, and what `${NAME}` means.
pub(super) struct Context<'e> {
    pub(super) findings: Findings,
    pub(super) environment: &'e BTreeMap<String, String>,
}

impl Context<'_> {
    /// Reports an error at a place.
    pub(super) fn error(&mut self, code: Code, place: &Place, message: impl Into<String>) -> &mut Finding {
        self.findings.error(code, place, message)
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

impl<T> At<T> {
    pub(super) fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), place: self.place }
    }
}

/// A string after `${NAME}` was replaced.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) place: Place,
    /// Written as it is. What came out of a variable may be a secret and is not shown.
    pub(super) literal: bool,
}

impl Text {
    /// For a message.
    pub(super) fn shown(&self) -> String {
        if self.literal { quoted(&self.value) } else { "the value".to_owned() }
    }

    /// Checks it as one of the names of `event`.
    pub(super) fn name<N>(&self, cx: &mut Context<'_>, new: impl Fn(&str) -> Result<N, NameError>) -> Option<N> {
        match new(&self.value) {
            Ok(name) => Some(name),
            Err(error) => {
                cx.error(Code::BadName, &self.place, format!("{} {error}", self.shown()));
                None
            }
        }
    }
}

/// A table of the file.
#[derive(Debug, Clone)]
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    /// Its name, or all of an inline table that has none.
    pub(super) place: Place,
    /// `[routes.x]`, for messages.
    pub(super) title: String,
}

type Value<'t> = Spanned<DeValue<'t>>;

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place::File(spanned.span())
}

/// The value with the article of its type: "an integer".
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reports that a value has the wrong type.
pub(super) fn wrong<'c>(cx: &'c mut Context<'_>, key: &str, value: &Value<'_>, wanted: &str) -> &'c mut Finding {
    let message = format!("`{key}` is {wanted}, not {}", kind(value.get_ref()));
    cx.error(Code::WrongType, &place(value), message)
}

/// Reads a string value.
pub(super) fn text(cx: &mut Context<'_>, key: &str, value: &Value<'_>, wanted: &str) -> Option<Text> {
    let DeValue::String(written) = value.get_ref() else {
        let finding = wrong(cx, key, value, wanted);
        if let DeValue::Integer(number) = value.get_ref() {
            finding.help(format!("put it in quotes: \"{number}\""));
        }
        return None;
    };
    match variables::expand(written, cx.environment) {
        Ok(expanded) => Some(Text { value: expanded.text, place: place(value), literal: !expanded.replaced }),
        Err(problems) => {
            for problem in problems {
                cx.error(Code::Variable, &place(value), problem);
            }
            None
        }
    }
}

/// Reads a string or a list of strings.
pub(super) fn texts(cx: &mut Context<'_>, key: &str, value: &Value<'_>) -> Option<Vec<Text>> {
    const WANTED: &str = "a string or a list of strings";
    let DeValue::Array(items) = value.get_ref() else {
        return text(cx, key, value, WANTED).map(|text| vec![text]);
    };
    if items.is_empty() {
        cx.error(Code::MissingKey, &place(value), format!("`{key}` is an empty list"));
        return None;
    }
    let read = items.iter().map(|item| text(cx, key, item, WANTED)).collect::<Vec<_>>();
    read.into_iter().collect()
}

impl<'t> Table<'t> {
    /// The whole file.
    pub(super) fn top(entries: &'t DeTable<'t>) -> Self {
        Self { entries, place: Place::File(0..0), title: "the file".to_owned() }
    }

    /// A value that is an inline table, or none.
    pub(super) fn inline(value: &'t Value<'t>, title: impl Into<String>) -> Option<Self> {
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
    pub(super) fn check_keys(&self, cx: &mut Context<'_>, known: &[&str], later: &[&str]) {
        for (key, _) in self.entries.iter() {
            let (name, place) = (key.get_ref().as_ref(), place(key));
            if later.contains(&name) {
                let message = format!("`{name}` in {} is not carried out by this version", self.title);
                cx.error(Code::LaterKey, &place, message).help("remove it");
            } else if !known.contains(&name) {
                let message = format!("unknown key `{}` in {}", name.escape_debug(), self.title);
                cx.error(Code::UnknownKey, &place, message).nearest(&name.replace('_', "-"), known.iter().copied());
            }
        }
    }

    /// Reports a key that must be there and is not.
    pub(super) fn require(&self, cx: &mut Context<'_>, key: &str, example: &str) {
        if !self.has(key) {
            let message = format!("{} has no `{key}`", self.title);
            cx.error(Code::MissingKey, &self.place, message).help(format!("write `{example}`"));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the key stands; the table's own place when it is absent.
    pub(super) fn key_place(&self, key: &str) -> Place {
        self.entries.get_key_value(key).map_or_else(|| self.place.clone(), |(key, _)| place(key))
    }

    /// The value, unread.
    pub(super) fn value(&self, key: &str) -> Option<&'t Value<'t>> {
        self.entries.get(key)
    }

    /// All values with their keys, in the order of the file.
    pub(super) fn values(&self) -> Vec<(At<&'t str>, &'t Value<'t>)> {
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

    pub(super) fn text(&self, cx: &mut Context<'_>, key: &str) -> Option<Text> {
        text(cx, key, self.value(key)?, "a string")
    }

    /// A string or a list of strings.
    pub(super) fn texts(&self, cx: &mut Context<'_>, key: &str) -> Option<Vec<Text>> {
        texts(cx, key, self.value(key)?)
    }

    pub(super) fn boolean(&self, cx: &mut Context<'_>, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            wrong(cx, key, value, "true or false").help("write it without quotes");
        }
        read
    }

    pub(super) fn integer<N>(&self, cx: &mut Context<'_>, key: &str, bounds: RangeInclusive<N>) -> Option<At<N>>
    where
        N: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display,
    {
        let value = self.value(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            wrong(cx, key, value, "an integer").help(format!("write a number from {} to {}", bounds.start(), bounds.end()));
            return None;
        };
        let read = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| N::try_from(number).ok());
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
    pub(super) fn number(&self, cx: &mut Context<'_>, key: &str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(key)?;
        let written = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
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

    pub(super) fn duration(
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
    pub(super) fn size(&self, cx: &mut Context<'_>, key: &str, bounds: &RangeInclusive<u64>) -> Option<At<u64>> {
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
    pub(super) fn word<T: Copy>(&self, cx: &mut Context<'_>, key: &str, words: &[(&str, T)]) -> Option<At<T>> {
        let text = self.text(cx, key)?;
        word(cx, &format!("`{key}`"), &text, words).map(|value| At::new(value, text.place))
    }

    /// A table under that key.
    pub(super) fn table(&self, cx: &mut Context<'_>, key: &str) -> Option<Table<'t>> {
        let value = self.value(key)?;
        let title = if self.title.starts_with('[') { format!("`{key}`") } else { format!("[{key}]") };
        let Some(table) = Self::inline(value, title) else {
            wrong(cx, key, value, "a table");
            return None;
        };
        Some(Self { place: self.key_place(key), ..table })
    }

    /// `[KEY.NAME]` for every NAME, in the order of the file.
    pub(super) fn tables(&self, cx: &mut Context<'_>, key: &str) -> Vec<(Text, Table<'t>)> {
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

/// Finds the word of a text.
pub(super) fn word<T: Copy>(cx: &mut Context<'_>, what: &str, text: &Text, words: &[(&str, T)]) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let message = format!("{what} cannot be {}: it is one of {}", text.shown(), known.join(", "));
        let code = match text.place {
            Place::File(_) => Code::UnknownWord,
            Place::Variable(_) => Code::BadVariable,
            Place::Flag(_) => Code::BadFlag,
        };
        cx.error(code, &text.place, message).nearest(&text.value, known);
    }
    found
}

fn quantity<T: PartialOrd>(
    cx: &mut Context<'_>,
    key: &str,
    text: &Text,
    read: Result<T, String>,
    bounds: &RangeInclusive<T>,
    (bad, show): (Code, impl Fn(&T) -> String),
) -> Option<At<T>> {
    match read {
        Ok(value) if bounds.contains(&value) => Some(At::new(value, text.place.clone())),
        Ok(value) => {
            let (start, end) = (show(bounds.start()), show(bounds.end()));
            let message = format!("`{key}` is {}, but goes from {start} to {end}", show(&value));
            cx.error(Code::OutOfBounds, &text.place, message);
            None
        }
        Err(problem) => {
            let (problem, help) = problem.split_once("; ").unwrap_or((&problem, ""));
            let finding = cx.error(bad, &text.place, format!("`{key}`: {} {problem}", text.shown()));
            if !help.is_empty() {
                finding.help(help);
            }
            None
        }
    }
}

/// A name as it stands in a table header: quoted when TOML wants it.
fn dotted(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

/// The bytes of a place in the file.
pub(super) fn span(place: &Place) -> Option<Range<usize>> {
    match place {
        Place::File(span) => Some(span.clone()),
        Place::Variable(_) | Place::Flag(_) => None,
    }
}
