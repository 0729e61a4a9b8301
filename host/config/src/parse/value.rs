//! Readers of single values. `None` means absent or already reported, so that a caller may go on and find more.

use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::context::{At, ReadContext, Text};
use super::variables;
use crate::diagnostics::codes::Code;
use crate::diagnostics::findings::Finding;
use crate::diagnostics::place::ValuePlace;
use crate::diagnostics::quoted::quoted;

pub(crate) type TomlValue<'t> = Spanned<DeValue<'t>>;

pub(crate) fn place<T>(spanned: &Spanned<T>) -> ValuePlace {
    ValuePlace::File(spanned.span())
}

/// The type of a value with its article: "an integer".
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reports that a value has the wrong type.
pub(crate) fn wrong<'c>(
    cx: &'c mut ReadContext<'_>,
    key: &str,
    value: &TomlValue<'_>,
    wanted: &str,
) -> &'c mut Finding {
    let message = format!("`{key}` must be {wanted}, but is {}", kind(value.get_ref()));
    cx.error(Code::WrongType, &place(value), message)
}

/// Reads a string.
pub(crate) fn text(cx: &mut ReadContext<'_>, key: &str, value: &TomlValue<'_>, wanted: &str) -> Option<Text> {
    let DeValue::String(written) = value.get_ref() else {
        let finding = wrong(cx, key, value, wanted);
        let written = match value.get_ref() {
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Datetime(time) => Some(time.to_string()),
            DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        finding.help(match written {
            Some(written) => format!("put the value in quotes: \"{written}\""),
            None => format!("write one value in quotes, such as `{key} = \"VALUE\"`"),
        });
        return None;
    };
    match variables::expand(written, cx.environment) {
        Ok(expanded) => Some(Text { value: expanded.text, place: place(value), literal: !expanded.replaced }),
        Err(problems) => {
            for problem in problems {
                cx.error(Code::Variable, &place(value), problem.message).help(problem.help);
            }
            None
        }
    }
}

/// Reads a string or a list of strings.
pub(crate) fn texts(cx: &mut ReadContext<'_>, key: &str, value: &TomlValue<'_>) -> Option<Vec<Text>> {
    const WANTED: &str = "a string or a list of strings";
    let DeValue::Array(items) = value.get_ref() else {
        return text(cx, key, value, WANTED).map(|text| vec![text]);
    };
    if items.is_empty() {
        cx.error(Code::MissingKey, &place(value), format!("the list `{key}` is empty"))
            .help(format!("write `{key} = [\"VALUE\"]`, or remove `{key}`"));
        return None;
    }
    let read = items.iter().map(|item| text(cx, key, item, WANTED)).collect::<Vec<_>>();
    read.into_iter().collect()
}

/// Reads an integer within bounds.
pub(crate) fn integer<N>(cx: &mut ReadContext<'_>, key: &str, value: &TomlValue<'_>, bounds: (N, N)) -> Option<At<N>>
where
    N: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display,
{
    let (min, max) = bounds;
    let Some(number) = value.get_ref().as_integer() else {
        wrong(cx, key, value, "an integer").help(range(key, min, max));
        return None;
    };
    let read = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|number| N::try_from(number).ok());
    match read.filter(|number| (min..=max).contains(number)) {
        Some(number) => Some(At::new(number, place(value))),
        None => {
            out_of_bounds(cx, key, &place(value), number, (min, max)).help(range(key, min, max));
            None
        }
    }
}

/// Reads an integer or a number with a decimal point, within bounds.
pub(crate) fn number(
    cx: &mut ReadContext<'_>,
    key: &str,
    value: &TomlValue<'_>,
    (min, max): (f64, f64),
) -> Option<f64> {
    let written = match value.get_ref() {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            wrong(cx, key, value, "a number").help(range(key, min, max));
            return None;
        }
    };
    let read = written.parse::<f64>().ok().filter(|number| (min..=max).contains(number));
    if read.is_none() {
        out_of_bounds(cx, key, &place(value), &written, (min, max)).help(range(key, min, max));
    }
    read
}

/// How a quantity is read and shown, and the code for one that cannot be read.
pub(crate) struct Unit<T> {
    pub(crate) bad: Code,
    pub(crate) read: fn(&str) -> Result<T, String>,
    pub(crate) show: fn(T) -> String,
}

/// Reads a quantity with a unit, within bounds.
pub(crate) fn quantity<T: PartialOrd + Copy>(
    cx: &mut ReadContext<'_>,
    key: &str,
    text: &Text,
    (min, max): (T, T),
    unit: &Unit<T>,
) -> Option<At<T>> {
    match (unit.read)(&text.value) {
        Ok(value) if (min..=max).contains(&value) => Some(At::new(value, text.place.clone())),
        Ok(value) => {
            let (value, min, max) = ((unit.show)(value), (unit.show)(min), (unit.show)(max));
            let help = range(key, quoted(&min), quoted(&max));
            out_of_bounds(cx, key, &text.place, value, (min, max)).help(help);
            None
        }
        Err(problem) => {
            cx.problem(unit.bad, &text.place, &format!("`{key}`: {}", text.shown()), &problem);
            None
        }
    }
}

/// Reports a value outside of the bounds.
fn out_of_bounds<'c>(
    cx: &'c mut ReadContext<'_>,
    key: &str,
    place: &ValuePlace,
    value: impl Display,
    (min, max): (impl Display, impl Display),
) -> &'c mut Finding {
    cx.error(Code::OutOfBounds, place, format!("`{key}` is {value}, but must be from {min} to {max}"))
}

/// The help for a value outside of the bounds. The bounds are written as in the file.
fn range(key: &str, min: impl Display, max: impl Display) -> String {
    format!("write a value from `{key} = {min}` to `{key} = {max}`")
}

/// The value that a word stands for. `subject` begins the message.
pub(crate) fn word<T: Copy>(cx: &mut ReadContext<'_>, subject: &str, text: &Text, words: &[(&str, T)]) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
    if found.is_none() {
        let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        // A boolean is also a word when a variable of the environment stands for it.
        let shown = known.iter().map(|word| match *word {
            "true" | "false" => (*word).to_owned(),
            word => quoted(word),
        });
        let shown = shown.collect::<Vec<_>>();
        let message = format!("{subject} is {}, but must be one of {}", text.shown(), shown.join(", "));
        let finding = cx.error(code_at(&text.place, Code::UnknownWord), &text.place, message);
        if !finding.nearest(&text.value, known).has_near() {
            finding.help(format!("write {}", shown.join(" or ")));
        }
    }
    found
}

/// The code for a bad value: its own one in the file, a common one in the environment and for flags.
pub(crate) fn code_at(place: &ValuePlace, in_file: Code) -> Code {
    match place {
        ValuePlace::File(_) => in_file,
        ValuePlace::Variable(_) => Code::BadVariable,
        ValuePlace::Flag(_) => Code::BadFlag,
    }
}

/// A name as it stands in a table header: quoted when TOML wants it.
pub(crate) fn dotted(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

/// The bytes of a place in the file.
pub(crate) fn span(place: &ValuePlace) -> Option<Range<usize>> {
    match place {
        ValuePlace::File(span) => Some(span.clone()),
        ValuePlace::Variable(_) | ValuePlace::Flag(_) => None,
    }
}
