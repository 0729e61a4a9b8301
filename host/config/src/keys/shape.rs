//! The table of keys as plain data, for documentation and for a schema of the file.

use std::time::Duration;

use crate::quantity::{show_duration, show_size};

/// One key of routes.toml.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyEntry {
    /// Title of the key's section, such as `[queues.NAME]`.
    pub section: &'static str,
    /// Path of the section's table from the top of the file. `*` stands for any name.
    pub path: &'static [&'static str],
    /// Name of the key, in kebab-case.
    pub name: &'static str,
    /// The values that the key accepts.
    pub shape: Shape,
    /// The default as text of the file; `None` without a default.
    pub default: Option<String>,
    /// The default in words, if the default depends on another setting.
    pub note: Option<&'static str>,
    /// Whether the key is required.
    pub required: bool,
    /// Description of the key.
    pub about: &'static str,
}

/// The values that a key accepts. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A string, with a noun phrase that describes the string.
    Text(&'static str),
    /// A string or a list of strings, with a noun phrase that describes each string.
    Texts(&'static str),
    /// `true` or `false`.
    Boolean,
    /// An integer.
    Integer {
        /// Lower bound.
        min: i64,
        /// Upper bound.
        max: i64,
    },
    /// An integer or a number with a decimal point.
    Number {
        /// Lower bound.
        min: f64,
        /// Upper bound.
        max: f64,
    },
    /// A string such as `"5s"`.
    Duration {
        /// Lower bound.
        min: Duration,
        /// Upper bound.
        max: Duration,
    },
    /// A string such as `"64KiB"`.
    Size {
        /// Lower bound in bytes.
        min: u64,
        /// Upper bound in bytes.
        max: u64,
    },
    /// One of these words.
    Word(Vec<&'static str>),
    /// A table, with the title of its section.
    Table(&'static str),
    /// A table for each name, with the title of its section.
    Tables(&'static str),
    /// Several kinds of values, in words.
    Forms(&'static str),
}

impl std::fmt::Display for Shape {
    /// Writes the shape in words, such as `an integer from 1 to 65535`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(form) => write!(f, "a string, {form}"),
            Self::Texts(form) => write!(f, "a string or a list of strings, each {form}"),
            Self::Boolean => f.write_str("`true` or `false`"),
            Self::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Number { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Duration { min, max } => {
                write!(f, "a duration from `\"{}\"` to `\"{}\"`", show_duration(*min), show_duration(*max))
            }
            Self::Size { min, max } => write!(f, "a size from `\"{}\"` to `\"{}\"`", show_size(*min), show_size(*max)),
            Self::Word(words) => {
                let words = words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>();
                write!(f, "one of {}", words.join(", "))
            }
            Self::Table(section) => write!(f, "a table with the keys of the section {section}"),
            Self::Tables(section) => write!(f, "a table {section} for each NAME"),
            Self::Forms(forms) => f.write_str(forms),
        }
    }
}
