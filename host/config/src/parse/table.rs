//! A table of the file, and the readers that take one value out of it.
//!
//! A table knows its section, and a value is read with a key of that section only.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::{At, ReadContext, Text};
use super::value::{TomlValue, Unit, dotted, integer, number, place, quantity, text, texts, word, wrong};
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::key::{self, Boolean, Forms, Inner, Key, Named, Number, Range, Size, Texts, TimeSpan, Word};
use crate::keys::section::{Listed, Section};
use crate::keys::table::homes;
use crate::keys::top::TOP;
use crate::quantity as units;

const DURATIONS: Unit<Duration> = Unit { bad: Code::BadDuration, read: units::duration, show: units::show_duration };
const SIZES: Unit<u64> = Unit { bad: Code::BadSize, read: units::size, show: units::show_size };

/// A table of the file. All its keys are keys of its section, or were reported.
#[derive(Debug, Clone)]
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    section: &'static Section,
    /// Its name, or all of an inline table without a name.
    pub(crate) place: ValuePlace,
    /// `[routes.x]`, for messages.
    pub(crate) title: String,
}

impl<'t> Table<'t> {
    /// The whole file, unchecked: an included file is merged into it first.
    pub(crate) fn top(entries: &'t DeTable<'t>) -> Self {
        Self { entries, section: &TOP, place: ValuePlace::File(0..0), title: "the file".to_owned() }
    }

    /// Opens a value that is a table, and reports its unknown keys. `None` for any other value, without a report.
    pub(crate) fn open(
        cx: &mut ReadContext<'_>,
        value: &'t TomlValue<'t>,
        section: &'static Section,
        title: impl Into<String>,
    ) -> Option<Self> {
        let entries = value.get_ref().as_table()?;
        let table = Self { entries, section, place: place(value), title: title.into() };
        table.check_keys(cx);
        Some(table)
    }

    /// Reports keys that the section does not have.
    pub(crate) fn check_keys(&self, cx: &mut ReadContext<'_>) {
        for (key, value) in self.entries.iter() {
            let (name, place) = (key.get_ref().as_ref(), place(key));
            if self.section.reserved.contains(&name) {
                let message = format!("the key `{name}` in {} is reserved for a later version", self.title);
                cx.error(Code::LaterKey, &place, message).help(format!("remove `{name}`"));
            } else if !self.section.has(name) {
                let message = format!("unknown key `{}` in {}", name.escape_debug(), self.title);
                let finding = cx.error(Code::UnknownKey, &place, message);
                finding.nearest(&name.replace('_', "-"), self.section.names());
                if let Some(help) = self.elsewhere(name, value).filter(|_| !finding.has_near()) {
                    finding.help(help);
                }
            }
        }
    }

    /// Where an unknown key belongs: a name with a dot in quotes, or a key of another section.
    fn elsewhere(&self, key: &str, value: &TomlValue<'_>) -> Option<String> {
        let header = self.title.strip_prefix('[').and_then(|title| title.strip_suffix(']'));
        if let (Some((table, name)), DeValue::Table(_)) =
            (header.and_then(|title| title.split_once('.')), value.get_ref())
        {
            return Some(format!("put a name with a dot in quotes: [{table}.\"{}.{key}\"]", name.trim_matches('"')));
        }
        let key = key.replace('_', "-");
        let homes = homes(&key);
        let (last, others) = homes.split_last()?;
        let homes = if others.is_empty() { (*last).to_owned() } else { format!("{} or {last}", others.join(", ")) };
        Some(format!("the key `{key}` belongs to {homes}"))
    }

    /// Reports a key that must be there and is not.
    pub(crate) fn require(&self, cx: &mut ReadContext<'_>, key: &dyn Listed, example: &str) {
        if !self.has(key) {
            let message = format!("{} has no `{}`", self.title, key.name());
            cx.error(Code::MissingKey, &self.place, message).help(format!("write `{example}`"));
        }
    }

    pub(crate) fn has(&self, key: &dyn Listed) -> bool {
        self.value(key).is_some()
    }

    /// Where the key stands; the table's own place when the key is absent.
    pub(crate) fn key_place(&self, key: &dyn Listed) -> ValuePlace {
        self.entries.get_key_value(key.name()).map_or_else(|| self.place.clone(), |(key, _)| place(key))
    }

    /// The value, unread.
    pub(crate) fn value(&self, key: &dyn Listed) -> Option<&'t TomlValue<'t>> {
        debug_assert!(self.section.has(key.name()), "`{}` is not a key of {}", key.name(), self.section.title);
        self.entries.get(key.name())
    }

    pub(crate) fn text(&self, cx: &mut ReadContext<'_>, key: &'static Key<key::TextValue>) -> Option<Text> {
        text(cx, key.name, self.value(key)?, "a string")
    }

    /// A string or a list of strings.
    pub(crate) fn texts(&self, cx: &mut ReadContext<'_>, key: &'static Key<Texts>) -> Option<Vec<Text>> {
        texts(cx, key.name, self.value(key)?)
    }

    pub(crate) fn boolean(&self, cx: &mut ReadContext<'_>, key: &'static Key<Boolean>) -> Option<bool> {
        let value = self.value(key)?;
        let read = value.get_ref().as_bool();
        if read.is_none() {
            wrong(cx, key.name, value, "true or false").help(format!("write `{0} = true` or `{0} = false`", key.name));
        }
        read
    }

    pub(crate) fn integer<N>(&self, cx: &mut ReadContext<'_>, key: &'static Key<Range<N>>) -> Option<At<N>>
    where
        N: TryFrom<i64> + Into<i64> + Copy + Sync + PartialOrd + std::fmt::Display,
    {
        integer(cx, key.name, self.value(key)?, (key.value.min, key.value.max))
    }

    /// An integer or a number with a decimal point.
    pub(crate) fn number(&self, cx: &mut ReadContext<'_>, key: &'static Key<Number>) -> Option<f64> {
        number(cx, key.name, self.value(key)?, (key.value.0.min, key.value.0.max))
    }

    pub(crate) fn duration(&self, cx: &mut ReadContext<'_>, key: &'static Key<TimeSpan>) -> Option<At<Duration>> {
        duration(cx, key.name, self.value(key)?, key)
    }

    /// Bytes.
    pub(crate) fn size(&self, cx: &mut ReadContext<'_>, key: &'static Key<Size>) -> Option<At<u64>> {
        self.size_from(cx, key, key.value.0.min)
    }

    /// Bytes, with another lower bound than the key's.
    pub(crate) fn size_from(&self, cx: &mut ReadContext<'_>, key: &'static Key<Size>, min: u64) -> Option<At<u64>> {
        let value = self.value(key)?;
        if let DeValue::Integer(number) = value.get_ref() {
            wrong(cx, key.name, value, "a size in quotes").help(format!("write \"{number}B\" for bytes"));
            return None;
        }
        let text = text(cx, key.name, value, "a size in quotes")?;
        quantity(cx, key.name, &text, (min, key.value.0.max), &SIZES)
    }

    /// One of a fixed list of words.
    pub(crate) fn word<T: Copy + Sync>(&self, cx: &mut ReadContext<'_>, key: &'static Key<Word<T>>) -> Option<At<T>> {
        let text = text(cx, key.name, self.value(key)?, "a string")?;
        word(cx, &format!("`{}`", key.name), &text, key.value.words).map(|value| At::new(value, text.place))
    }

    /// The table under that key.
    pub(crate) fn table(&self, cx: &mut ReadContext<'_>, key: &'static Key<Inner>) -> Option<Table<'t>> {
        let value = self.value(key)?;
        let title = if self.title.starts_with('[') { format!("`{}`", key.name) } else { format!("[{}]", key.name) };
        let Some(table) = Self::open(cx, value, key.value.0, title) else {
            wrong(cx, key.name, value, "a table").help(format!("write `{} = {{ KEY = VALUE }}`", key.name));
            return None;
        };
        Some(Self { place: self.key_place(key), ..table })
    }

    /// The table form of a value with several forms. `None` for the other forms, without a report.
    pub(crate) fn form(&self, cx: &mut ReadContext<'_>, key: &'static Key<Forms>) -> Option<Table<'t>> {
        Self::open(cx, self.value(key)?, key.value.section?, format!("`{}`", key.name))
    }

    /// The names and values of a table with free names, in the order of the file.
    pub(crate) fn entries(
        &self,
        cx: &mut ReadContext<'_>,
        key: &'static Key<Forms>,
    ) -> Option<Vec<(At<&'t str>, &'t TomlValue<'t>)>> {
        let value = self.value(key)?;
        match value.get_ref().as_table() {
            Some(entries) => Some(in_order(entries)),
            None => {
                wrong(cx, key.name, value, "a table").help(format!("write `{} = {{ NAME = VALUE }}`", key.name));
                None
            }
        }
    }

    /// `[KEY.NAME]` for every NAME, in the order of the file.
    pub(crate) fn named(&self, cx: &mut ReadContext<'_>, key: &'static Key<Named>) -> Vec<(Text, Table<'t>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(entries) = value.get_ref().as_table() else {
            wrong(cx, key.name, value, "a table").help(format!("write [{}.NAME] on a line of its own", key.name));
            return Vec::new();
        };
        let named = in_order(entries).into_iter().filter_map(|(name, value)| {
            let title = format!("[{}.{}]", key.name, dotted(name.value));
            let Some(inner) = Self::open(cx, value, key.value.0, title.clone()) else {
                wrong(cx, name.value, value, "a table").help(format!("write {title} on a line of its own"));
                return None;
            };
            let text = Text { value: name.value.to_owned(), place: name.place.clone(), literal: true };
            Some((text, Self { place: name.place, ..inner }))
        });
        named.collect()
    }
}

/// Reads a duration with the bounds of a key, which may stand under another name.
pub(crate) fn duration(
    cx: &mut ReadContext<'_>,
    name: &str,
    value: &TomlValue<'_>,
    key: &'static Key<TimeSpan>,
) -> Option<At<Duration>> {
    if let DeValue::Integer(number) = value.get_ref() {
        let help = format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds");
        wrong(cx, name, value, "a duration in quotes").help(help);
        return None;
    }
    let text = text(cx, name, value, "a duration in quotes")?;
    quantity(cx, name, &text, (key.value.0.min, key.value.0.max), &DURATIONS)
}

/// All values with their keys, in the order of the file.
fn in_order<'t>(entries: &'t DeTable<'t>) -> Vec<(At<&'t str>, &'t TomlValue<'t>)> {
    let with_place = |(key, value): (&'t Spanned<_>, _)| {
        let name: &'t std::borrow::Cow<'t, str> = key.get_ref();
        (At::new(name.as_ref(), place(key)), value)
    };
    let mut values = entries.iter().map(with_place).collect::<Vec<(At<&str>, &TomlValue<'t>)>>();
    values.sort_by_key(|(key, _)| match &key.place {
        ValuePlace::File(span) => span.start,
        ValuePlace::Variable(_) | ValuePlace::Flag(_) => 0,
    });
    values
}
