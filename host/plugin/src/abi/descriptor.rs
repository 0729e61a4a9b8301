//! The descriptor of a plugin, with bounds: it is shown in HTTP answers and log lines.

/// Bytes of the name, of the version and of an event type.
const WORD_MAX_BYTES: usize = 255;
const DESCRIPTION_MAX_BYTES: usize = 1024;
const TYPES_MAX: usize = 256;

/// Answer of a plugin's `describe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginDescriptor {
    /// Name for people.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Event types that the plugin handles; empty for any type.
    pub takes: Vec<String>,
    /// Event types that the plugin may emit.
    pub emits: Vec<String>,
}

impl PluginDescriptor {
    /// Refuses a descriptor that is too long to be shown.
    ///
    /// # Errors
    /// Names the part that is too long.
    pub(crate) fn checked(self) -> Result<Self, String> {
        fit("name", &self.name, WORD_MAX_BYTES)?;
        fit("version", &self.version, WORD_MAX_BYTES)?;
        fit("description", &self.description, DESCRIPTION_MAX_BYTES)?;
        let types = self.takes.len() + self.emits.len();
        if types > TYPES_MAX {
            return Err(format!("the descriptor names {types} event types; the limit is {TYPES_MAX} event types"));
        }
        for kind in self.takes.iter().chain(&self.emits) {
            fit("event type", kind, WORD_MAX_BYTES)?;
        }
        Ok(self)
    }
}

fn fit(what: &str, text: &str, max: usize) -> Result<(), String> {
    let bytes = text.len();
    if bytes > max { Err(format!("the {what} has {bytes} bytes; the limit is {max} bytes")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_refused() {
        let good = PluginDescriptor {
            name: "n".repeat(255),
            version: "1.0.0".into(),
            description: "d".repeat(1024),
            takes: vec!["call.ended".into()],
            emits: Vec::new(),
        };
        assert_eq!(good.clone().checked(), Ok(good.clone()));
        let cases = [
            (PluginDescriptor { name: "n".repeat(256), ..good.clone() }, "name"),
            (PluginDescriptor { version: "1".repeat(256), ..good.clone() }, "version"),
            (PluginDescriptor { description: "d".repeat(1025), ..good.clone() }, "description"),
            (PluginDescriptor { takes: vec!["t".repeat(256)], ..good.clone() }, "event type has"),
            (PluginDescriptor { emits: vec!["t".into(); 256], ..good }, "257 event types"),
        ];
        for (bad, word) in cases {
            assert!(bad.checked().is_err_and(|text| text.contains(word)), "{word}");
        }
    }
}
