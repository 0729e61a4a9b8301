//! The checked form of hooks.

use super::checked::{Codec, Token};
use crate::schema::Schema;
use trunkline_event::ExchangeName;

/// `[hooks.NAME]`: an HTTP POST that becomes a published event.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Path of the request, below `/hooks/`; no other hook has it.
    pub path: String,
    /// A key of `topology.exchanges`, or the default one.
    pub exchange: ExchangeName,
    /// The event's type, where the request's envelope gives none.
    pub kind: Template,
    /// Routing key; that of the event type, else the type, when absent.
    pub key: Option<Template>,
    /// The event's id, in place of the one that the request gives; without either it is a new one each time.
    pub id: Option<Template>,
    /// How requests look.
    pub codec: Codec,
    /// What the data has to be.
    pub schema: Option<Schema>,
    /// Who may send, by a secret that is sent along.
    pub token: Option<Token>,
    /// Who may send, by a signature of the body.
    pub signature: Option<Signature>,
    /// Status of the answer to a published event: 200, 201, 202 or 204.
    pub status: u16,
}

/// HMAC-SHA256 of the body in a header, in hexadecimal, with or without `sha256=` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The header, in lower case.
    pub header: String,
    /// The key of the HMAC.
    pub secret: Token,
}

/// A text with places in it that an event fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Type,
    Data(Vec<String>),
}

impl Template {
    /// Reads `{type}` and `{data.FIELD.FIELD}`; there is no way to write a brace.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after.split_once('}').ok_or("has a { without its }")?;
            let path = inside.strip_prefix("data.").map(|path| path.split('.').map(str::to_owned).collect::<Vec<_>>());
            parts.push(Part::Text(before.to_owned()));
            parts.push(match path {
                Some(path) if path.iter().all(|name| !name.is_empty()) => Part::Data(path),
                Some(_) => return Err(format!("has {{{inside}}}, with an empty name in it")),
                None if inside == "type" => Part::Type,
                None => return Err(format!("has {{{inside}}}, which is no placeholder")),
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err("has a } without its {".to_owned());
        }
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    /// Whether the type of the event is asked for.
    #[must_use]
    pub(super) fn has_type(&self) -> bool {
        self.0.contains(&Part::Type)
    }

    /// Whether a field of the data is asked for.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Data(_)))
    }

    /// What stands around the places.
    pub(super) fn fixed(&self) -> String {
        let fixed = self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Type | Part::Data(_) => None,
        });
        fixed.collect()
    }

    /// Fills the places: with the type, and with what `field` gives for the names on the way to a field of the data.
    ///
    /// # Errors
    /// Those names, when there is no such field.
    pub fn fill(&self, kind: &str, field: impl Fn(&[String]) -> Option<String>) -> Result<String, &[String]> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Type => filled.push_str(kind),
                Part::Data(path) => filled.push_str(&field(path).ok_or(path.as_slice())?),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let field = |path: &[String]| (path == ["call", "id"]).then(|| "c-1".to_owned());
        let fill = |text: &str| Template::parse(text).expect(text).fill("t", field).map_err(|path| path.join("."));
        assert_eq!(fill("a.{type}.{data.call.id}.b").as_deref(), Ok("a.t.c-1.b"));
        assert_eq!(fill("fixed").as_deref(), Ok("fixed"));
        assert_eq!(fill("").as_deref(), Ok(""));
        assert_eq!(fill("{data.none}"), Err("none".to_owned()));
        for (bad, wanted) in [
            ("{type", "without its }"),
            ("type}", "without its {"),
            ("{kind}", "no placeholder"),
            ("{data.}", "empty name"),
            ("{data.a..b}", "empty name"),
            ("{{type}}", "no placeholder"),
        ] {
            let error = Template::parse(bad).expect_err(bad);
            assert!(error.contains(wanted), "{bad}: {error}");
        }
    }
}
