//! One key of routes.toml: name, value, default, description.
//!
//! The parser reads a value with the [`Key`] itself. The table and the parser therefore have the same name, range and default.

use std::time::Duration;

use crate::keys::section::{Listed, Section};
use crate::keys::shape::{KeyEntry, Shape};
use crate::quantity::{show_duration, show_size};

/// A key whose values are described by `V`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<V> {
    /// The name of the key in the file, in kebab-case.
    pub(crate) name: &'static str,
    /// The values that the key accepts.
    pub(crate) value: V,
    /// The default in words, if the default is not a single value.
    note: Option<&'static str>,
    required: bool,
    /// Description of the key, in one or more sentences.
    about: &'static str,
}

/// The values of a key, with their shape and their default.
pub(crate) trait KeyValue: Copy + Sync {
    fn shape(&self) -> Shape;
    /// The default as text of the file.
    fn default(&self) -> Option<String>;
}

impl<V: KeyValue> Listed for Key<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn entry(&self, section: &Section) -> KeyEntry {
        KeyEntry {
            section: section.title,
            path: section.path,
            name: self.name,
            shape: self.value.shape(),
            default: self.value.default(),
            note: self.note,
            required: self.required,
            about: self.about,
        }
    }
}

impl<V: Copy> Key<V> {
    const fn new(name: &'static str, value: V, about: &'static str) -> Self {
        Self { name, value, note: None, required: false, about }
    }

    /// Makes the key required.
    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Describes the default in words.
    pub(crate) const fn note(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }
}

/// A string. `form` is a noun phrase that describes the string, such as "the name of a queue".
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextValue {
    form: &'static str,
    pub(crate) default: Option<&'static str>,
}

impl Key<TextValue> {
    pub(crate) const fn text(name: &'static str, form: &'static str, about: &'static str) -> Self {
        Self::new(name, TextValue { form, default: None }, about)
    }

    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { value: TextValue { default: Some(default), ..self.value }, ..self }
    }
}

impl KeyValue for TextValue {
    fn shape(&self) -> Shape {
        Shape::Text(self.form)
    }

    fn default(&self) -> Option<String> {
        self.default.map(|text| format!("\"{text}\""))
    }
}

/// A string or a list of strings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts {
    form: &'static str,
}

impl Key<Texts> {
    pub(crate) const fn texts(name: &'static str, form: &'static str, about: &'static str) -> Self {
        Self::new(name, Texts { form }, about)
    }
}

impl KeyValue for Texts {
    fn shape(&self) -> Shape {
        Shape::Texts(self.form)
    }

    fn default(&self) -> Option<String> {
        None
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boolean {
    default: Option<bool>,
}

impl Key<Boolean> {
    pub(crate) const fn boolean(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Boolean { default: None }, about)
    }

    pub(crate) const fn or(self, default: bool) -> Self {
        Self { value: Boolean { default: Some(default) }, ..self }
    }

    /// The value of an absent key.
    pub(crate) fn fallback(&self) -> bool {
        self.value.default.unwrap_or_default()
    }
}

impl KeyValue for Boolean {
    fn shape(&self) -> Shape {
        Shape::Boolean
    }

    fn default(&self) -> Option<String> {
        self.default.map(|value| value.to_string())
    }
}

/// A number within bounds, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<N> {
    pub(crate) min: N,
    pub(crate) max: N,
    pub(crate) default: Option<N>,
}

impl<N: Copy> Key<Range<N>> {
    pub(crate) const fn integer(name: &'static str, min: N, max: N, about: &'static str) -> Self {
        Self::new(name, Range { min, max, default: None }, about)
    }

    pub(crate) const fn or(self, default: N) -> Self {
        Self { value: Range { default: Some(default), ..self.value }, ..self }
    }

    /// The value of an absent key: the default, or the smallest value if the table has no default.
    pub(crate) fn fallback(&self) -> N {
        self.value.default.unwrap_or(self.value.min)
    }
}

impl<N: Copy + Sync + Into<i64> + std::fmt::Display> KeyValue for Range<N> {
    fn shape(&self) -> Shape {
        Shape::Integer { min: self.min.into(), max: self.max.into() }
    }

    fn default(&self) -> Option<String> {
        self.default.map(|value| value.to_string())
    }
}

/// A [`Range`] with its own type for each unit, so that a key cannot be read with the wrong reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantity<N, const UNIT: char>(pub(crate) Range<N>);

/// An integer or a number with a decimal point.
pub(crate) type Number = Quantity<f64, 'n'>;
/// A duration in quotes, such as `"5s"`.
pub(crate) type TimeSpan = Quantity<Duration, 't'>;
/// A size in quotes, such as `"64KiB"`. The value is in bytes.
pub(crate) type Size = Quantity<u64, 'b'>;

impl<N: Copy, const UNIT: char> Key<Quantity<N, UNIT>> {
    const fn range(name: &'static str, min: N, max: N, about: &'static str) -> Self {
        Self::new(name, Quantity(Range { min, max, default: None }), about)
    }

    pub(crate) const fn or(self, default: N) -> Self {
        Self { value: Quantity(Range { default: Some(default), ..self.value.0 }), ..self }
    }

    /// The value of an absent key: the default, or the smallest value if the table has no default.
    pub(crate) fn fallback(&self) -> N {
        self.value.0.default.unwrap_or(self.value.0.min)
    }
}

impl Key<Number> {
    pub(crate) const fn number(name: &'static str, min: f64, max: f64, about: &'static str) -> Self {
        Self::range(name, min, max, about)
    }
}

impl Key<TimeSpan> {
    pub(crate) const fn duration(name: &'static str, min: Duration, max: Duration, about: &'static str) -> Self {
        Self::range(name, min, max, about)
    }
}

impl Key<Size> {
    pub(crate) const fn size(name: &'static str, min: u64, max: u64, about: &'static str) -> Self {
        Self::range(name, min, max, about)
    }
}

impl KeyValue for Number {
    fn shape(&self) -> Shape {
        Shape::Number { min: self.0.min, max: self.0.max }
    }

    fn default(&self) -> Option<String> {
        self.0.default.map(|value| value.to_string())
    }
}

impl KeyValue for TimeSpan {
    fn shape(&self) -> Shape {
        Shape::Duration { min: self.0.min, max: self.0.max }
    }

    fn default(&self) -> Option<String> {
        self.0.default.map(|value| format!("\"{}\"", show_duration(value)))
    }
}

impl KeyValue for Size {
    fn shape(&self) -> Shape {
        Shape::Size { min: self.0.min, max: self.0.max }
    }

    fn default(&self) -> Option<String> {
        self.0.default.map(|value| format!("\"{}\"", show_size(value)))
    }
}

/// One word of a list. Each word stands for a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word<T: 'static> {
    pub(crate) words: &'static [(&'static str, T)],
    default: Option<&'static str>,
}

impl<T: Copy> Key<Word<T>> {
    pub(crate) const fn word(name: &'static str, words: &'static [(&'static str, T)], about: &'static str) -> Self {
        Self::new(name, Word { words, default: None }, about)
    }

    /// `default` is one of the words.
    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { value: Word { default: Some(default), ..self.value }, ..self }
    }

    /// The value of an absent key: the value of the default word, or of the first word if the table has no default.
    pub(crate) fn fallback(&self) -> T {
        let default = self.value.words.iter().find(|(word, _)| Some(*word) == self.value.default);
        default.unwrap_or(&self.value.words[0]).1
    }
}

impl<T: Copy + Sync> KeyValue for Word<T> {
    fn shape(&self) -> Shape {
        Shape::Word(self.words.iter().map(|(word, _)| *word).collect())
    }

    fn default(&self) -> Option<String> {
        self.default.map(|word| format!("\"{word}\""))
    }
}

/// A table with its own keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inner(pub(crate) &'static Section);

impl Key<Inner> {
    pub(crate) const fn table(name: &'static str, section: &'static Section, about: &'static str) -> Self {
        Self::new(name, Inner(section), about)
    }
}

impl KeyValue for Inner {
    fn shape(&self) -> Shape {
        Shape::Table(self.0.title)
    }

    fn default(&self) -> Option<String> {
        None
    }
}

/// A table of tables: `[KEY.NAME]` for every NAME.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named(pub(crate) &'static Section);

impl Key<Named> {
    pub(crate) const fn named(name: &'static str, section: &'static Section, about: &'static str) -> Self {
        Self::new(name, Named(section), about)
    }
}

impl KeyValue for Named {
    fn shape(&self) -> Shape {
        Shape::Tables(self.0.title)
    }

    fn default(&self) -> Option<String> {
        None
    }
}

/// A value of one of several kinds. One kind may be a table with its own keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms {
    forms: &'static str,
    pub(crate) section: Option<&'static Section>,
}

impl Key<Forms> {
    pub(crate) const fn forms(
        name: &'static str,
        forms: &'static str,
        section: Option<&'static Section>,
        about: &'static str,
    ) -> Self {
        Self::new(name, Forms { forms, section }, about)
    }
}

impl KeyValue for Forms {
    fn shape(&self) -> Shape {
        Shape::Forms(self.forms)
    }

    fn default(&self) -> Option<String> {
        None
    }
}
