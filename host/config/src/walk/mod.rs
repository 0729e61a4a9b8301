//! Typed readers over the parsed file. Each takes one value out of a table, remembers where it stood, and reports what
//! is wrong with it; `None` means absent or already reported, so that a caller may go on and find more.

mod table;

pub(super) use table::Table;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::codes::Code;
use super::diagnostics::{Finding, Findings, Place, quoted};
use super::variables;
use trunkline_event::NameError;

/// What every reader needs: where to report, and what `${NAME}` means.
pub(super) struct Context<'e> {
    pub(super) findings: Findings,
    pub(super) environment: &'e BTreeMap<String, String>,
    /// Further files whose content matters, such as those of secrets.
    pub(super) further: Vec<PathBuf>,
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
    let message = format!("`{key}` takes {wanted}, not {}", kind(value.get_ref()));
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

/// Finds the word of a text.
pub(super) fn word<T: Copy>(cx: &mut Context<'_>, what: &str, text: &Text, words: &[(&str, T)]) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let message = format!("{what} cannot be {}: it is one of {}", text.shown(), known.join(", "));
        let finding = cx.error(code_at(&text.place, Code::UnknownWord), &text.place, message);
        if !finding.nearest(&text.value, known).has_near() {
            finding.no_help();
        }
    }
    found
}

/// The code for a bad value: its own one in the file, a common one in the environment and for flags.
pub(super) fn code_at(place: &Place, in_file: Code) -> Code {
    match place {
        Place::File(_) => in_file,
        Place::Variable(_) => Code::BadVariable,
        Place::Flag(_) => Code::BadFlag,
    }
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
