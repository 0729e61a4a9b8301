//! Texts with placeholders. The daemon replaces each placeholder with a value of an event.

use crate::model::http::placeholder::{Placeholder, ValueSource};

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<TemplatePart>);

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Placeholder(Placeholder),
}

impl Template {
    /// Reads a text with placeholders. Braces cannot be escaped.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after.split_once('}').ok_or("has a { without its }")?;
            parts.push(TemplatePart::Text(before.to_owned()));
            parts.push(TemplatePart::Placeholder(Placeholder::parse(inside)?));
            rest = after;
        }
        parts.push(TemplatePart::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, TemplatePart::Text(text) if text.contains('}'))) {
            return Err("has a } without its {".to_owned());
        }
        parts.retain(|part| *part != TemplatePart::Text(String::new()));
        Ok(Self(parts))
    }

    /// The template of a text without placeholders.
    pub(crate) fn of_text(text: &str) -> Self {
        Self(vec![TemplatePart::Text(text.to_owned())])
    }

    /// The placeholders, in their order.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|part| match part {
            TemplatePart::Text(_) => None,
            TemplatePart::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// Whether a placeholder reads the data as JSON.
    #[must_use]
    pub fn reads_data(&self) -> bool {
        self.placeholders().flat_map(Placeholder::sources).any(ValueSource::reads_data)
    }

    /// The text without the placeholders.
    pub(crate) fn fixed(&self) -> String {
        let fixed = self.0.iter().filter_map(|part| match part {
            TemplatePart::Text(text) => Some(text.as_str()),
            TemplatePart::Placeholder(_) => None,
        });
        fixed.collect()
    }

    /// Replaces each placeholder with the first value that `value` gives for one of its sources.
    ///
    /// # Errors
    /// The placeholder without a value.
    pub fn fill(&self, value: impl Fn(&Placeholder, &ValueSource) -> Option<String>) -> Result<String, &Placeholder> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(text) => filled.push_str(text),
                TemplatePart::Placeholder(placeholder) => {
                    let found = placeholder.sources().find_map(|source| value(placeholder, source));
                    filled.push_str(&found.ok_or(placeholder)?);
                }
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::http::placeholder::PathStep;

    #[test]
    fn templates() {
        let data = |steps: &[PathStep]| match steps {
            [PathStep::Field(call), PathStep::Field(id)] if call == "call" && id == "id" => Some("c-1".to_owned()),
            [PathStep::Place(1), PathStep::Only, PathStep::Field(_)] => Some("in-a-list".to_owned()),
            _ => None,
        };
        let value = |_: &Placeholder, source: &ValueSource| match source {
            ValueSource::Type => Some("t".to_owned()),
            ValueSource::Data(steps) => data(steps),
            ValueSource::Header(name) => (name == "x-event").then(|| "push".to_owned()),
            ValueSource::Beside(_) | ValueSource::Digest => None,
            ValueSource::New => Some("new-id".to_owned()),
        };
        let fill =
            |text: &str| Template::parse(text).expect(text).fill(value).map_err(|none| none.written().to_owned());
        assert_eq!(fill("a.{type}.{data.call.id}.b").as_deref(), Ok("a.t.c-1.b"));
        assert_eq!(fill("fixed").as_deref(), Ok("fixed"));
        assert_eq!(fill("").as_deref(), Ok(""));
        assert_eq!(fill("{data.none}"), Err("data.none".to_owned()));
        assert_eq!(fill("{data.none|header.None}"), Err("data.none|header.None".to_owned()));
        assert_eq!(fill("x-{data.none|header.X-Event|new}").as_deref(), Ok("x-push"));
        assert_eq!(fill("{data.none|new}").as_deref(), Ok("new-id"));
        assert_eq!(fill("{data[1][only].id:dotted}").as_deref(), Ok("in-a-list"));
        for (bad, wanted) in
            [("{type", "without its }"), ("type}", "without its {"), ("{{type}}", "unknown placeholder")]
        {
            let error = Template::parse(bad).expect_err(bad);
            assert!(error.contains(wanted), "{bad}: {error}");
        }
        assert_eq!(Template::parse("a.{type}.b").expect("good").fixed(), "a..b");
        assert_eq!(Template::of_text("a.{").fixed(), "a.{");
    }
}
