//! What a plugin says of itself, within bounds: it stands in answers, logs and labels.

/// Of the name, the version and an event type.
const WORD_MAX_BYTES: usize = 255;
const DESCRIPTION_MAX_BYTES: usize = 1024;
const TYPES_MAX: usize = 256;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Name for people.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Event types it handles; empty for any.
    pub takes: Vec<String>,
    /// Event types it may emit.
    pub emits: Vec<String>,
}

impl Descriptor {
    /// Refuses what is too long to be shown, and says what it is.
    pub(super) fn checked(self) -> Result<Self, String> {
        fit("name", &self.name, WORD_MAX_BYTES)?;
        fit("version", &self.version, WORD_MAX_BYTES)?;
        fit("description", &self.description, DESCRIPTION_MAX_BYTES)?;
        let types = self.takes.len() + self.emits.len();
        if types > TYPES_MAX {
            return Err(format!("it names {types} event types; {TYPES_MAX} are the most"));
        }
        for kind in self.takes.iter().chain(&self.emits) {
            fit("event type", kind, WORD_MAX_BYTES)?;
        }
        Ok(self)
    }
}

fn fit(what: &str, text: &str, max: usize) -> Result<(), String> {
    let bytes = text.len();
    if bytes > max { Err(format!("its {what} has {bytes} bytes; {max} are the most")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_refused() {
        let good = Descriptor {
            name: "n".repeat(255),
            version: "1.0.0".into(),
            description: "d".repeat(1024),
            takes: vec!["call.ended".into()],
            emits: Vec::new(),
        };
        assert_eq!(good.clone().checked(), Ok(good.clone()));
        let cases = [
            (Descriptor { name: "n".repeat(256), ..good.clone() }, "name"),
            (Descriptor { version: "1".repeat(256), ..good.clone() }, "version"),
            (Descriptor { description: "d".repeat(1025), ..good.clone() }, "description"),
            (Descriptor { takes: vec!["t".repeat(256)], ..good.clone() }, "event type has"),
            (Descriptor { emits: vec!["t".into(); 256], ..good }, "257 event types"),
        ];
        for (bad, word) in cases {
            assert!(bad.checked().is_err_and(|text| text.contains(word)), "{word}");
        }
    }
}
