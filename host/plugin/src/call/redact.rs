//! Secrets are removed from every text that leaves a call: log lines, output, error texts. Emissions are not searched, and
//! secrets that a plugin splits or encodes are not found.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use trunkline_config::Secret;

/// Shortest secret that is removed. Shorter ones occur in ordinary words.
pub(crate) const SECRET_MIN_BYTES: usize = 8;
/// Shortest end of a secret that is removed from the begin of a text that was cut.
const END_MIN_BYTES: usize = 4;
const REPLACEMENT: &str = "***";

/// The texts to remove, the longest first; `None` for most plugins. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<[String]>>);

impl Redactor {
    pub(crate) fn new<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Self {
        let mut texts = BTreeSet::new();
        for secret in secrets {
            let whole = secret.expose();
            // A key file may be printed line by line. A message may quote, and `{:?}` and JSON escape different
            // characters.
            for part in whole.lines().chain([whole]) {
                texts.insert(part.to_owned());
                texts.insert(part.escape_debug().to_string());
                let quoted = serde_json::to_string(part).unwrap_or_default();
                texts.insert(quoted.trim_matches('"').to_owned());
            }
        }
        let mut texts = texts.into_iter().filter(|text| text.len() >= SECRET_MIN_BYTES).collect::<Vec<_>>();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self((!texts.is_empty()).then(|| texts.into()))
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(secrets) = &self.0 else { return Cow::Borrowed(text) };
        let mut cleaned = Cow::Borrowed(text);
        for secret in secrets.iter() {
            if cleaned.contains(secret.as_str()) {
                cleaned = Cow::Owned(cleaned.replace(secret.as_str(), REPLACEMENT));
            }
        }
        cleaned
    }

    /// The text without secrets, owned.
    #[must_use]
    pub fn cleaned(&self, text: String) -> String {
        match self.clean(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(cleaned) => cleaned,
        }
    }

    /// The end of a stream without secrets. The stream may begin within a secret.
    pub(crate) fn clean_end<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(secrets) = &self.0 else { return Cow::Borrowed(text) };
        let ends = secrets.iter().filter_map(|secret| {
            let cuts = secret.char_indices().skip(1).map(|(at, _)| &secret[at..]);
            cuts.take_while(|end| end.len() >= END_MIN_BYTES).find(|end| text.starts_with(end)).map(str::len)
        });
        match ends.max() {
            Some(length) => Cow::Owned(format!("{REPLACEMENT}{}", self.clean(&text[length..]))),
            None => self.clean(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets = secrets.iter().map(|secret| Secret::new(secret)).collect::<Vec<_>>();
        Redactor::new(secrets.iter())
    }

    #[test]
    fn secrets_go_in_every_form_they_are_printed_in() {
        let redactor = redactor(&["hunter2-is-secret", "with \"quotes\" and \\", "first-line\nsecond-line", "short"]);
        for (text, expected) in [
            ("a hunter2-is-secret b hunter2-is-secret", "a *** b ***"),
            ("x with \"quotes\" and \\ y", "x *** y"),
            (r#"x with \"quotes\" and \\ y"#, "x *** y"),
            ("only the second-line", "only the ***"),
            ("first-line\nsecond-line", "***"),
            (r"first-line\nsecond-line", "***"),
            ("short stays, as documented", "short stays, as documented"),
        ] {
            assert_eq!(redactor.clean(text), expected);
        }
        assert_eq!(redactor.clean_end("is-secret and more"), "*** and more");
        assert_eq!(redactor.clean_end("ret and more"), "ret and more");
        assert!(matches!(Redactor::default().clean("x"), Cow::Borrowed("x")));
    }
}
