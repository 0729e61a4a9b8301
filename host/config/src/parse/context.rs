//! The context of every reader, and values with their positions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostics::codes::Code;
use crate::diagnostics::findings::{Finding, Findings};
use crate::diagnostics::place::ValuePlace;
use crate::diagnostics::quoted::quoted;
use crate::sources::Sources;
use trunkline_event::{NameError, PATTERN_WORDS_MAX};

/// Where to report problems, and what values refer to.
pub(crate) struct ReadContext<'e> {
    pub(crate) findings: Findings,
    /// The environment, by name; `${NAME}` stands for its values.
    pub(crate) environment: &'e BTreeMap<String, String>,
    /// Text of the first file.
    pub(crate) source: &'e str,
    /// The directory that relative paths begin at. Absolute, if the current directory is known.
    pub(crate) directory: PathBuf,
    /// Files beside routes.toml whose content matters, such as schemas and secrets. Absolute.
    pub(crate) watched: Vec<PathBuf>,
}

impl<'e> ReadContext<'e> {
    pub(crate) fn new(sources: &'e Sources, source: &'e str) -> Self {
        Self {
            findings: Findings::default(),
            environment: &sources.environment,
            source,
            directory: sources.directory(),
            watched: Vec::new(),
        }
    }

    /// Reports an error at a place.
    pub(crate) fn error(&mut self, code: Code, place: &ValuePlace, message: impl Into<String>) -> &mut Finding {
        self.findings.error(code, place, message)
    }

    /// Reports the problem of a parser. The problem continues the subject, and may end with "; " and the correct form.
    pub(crate) fn problem(&mut self, code: Code, place: &ValuePlace, subject: &str, problem: &str) -> &mut Finding {
        let (problem, help) =
            problem.rsplit_once("; ").map_or((problem, None), |(problem, help)| (problem, Some(help)));
        let finding = self.findings.error(code, place, format!("{subject} {problem}"));
        if let Some(help) = help {
            finding.help(help);
        }
        finding
    }

    /// A path of the file, from the directory of routes.toml.
    pub(crate) fn path(&self, text: impl AsRef<Path>) -> PathBuf {
        self.directory.join(text)
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: ValuePlace,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, place: ValuePlace) -> Self {
        Self { value, place }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), place: self.place }
    }
}

/// A string after `${NAME}` was replaced.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) place: ValuePlace,
    /// Whether the file has exactly this text. The value of a variable may be a secret and is not shown.
    pub(crate) literal: bool,
}

impl Text {
    /// For a message.
    pub(crate) fn shown(&self) -> String {
        if self.literal { quoted(&self.value) } else { "the value".to_owned() }
    }

    /// Checks the text as one of the names of `event`. `kind` is "plugin name", "routing key" and the like.
    pub(crate) fn name<N>(
        &self,
        cx: &mut ReadContext<'_>,
        kind: &str,
        new: impl Fn(&str) -> Result<N, NameError>,
    ) -> Option<N> {
        let error = match new(&self.value) {
            Ok(name) => return Some(name),
            Err(error) => error,
        };
        let shown = self.shown();
        let named = if self.literal { format!("the {kind} {shown}") } else { format!("the {kind}") };
        let (message, help) = match error {
            NameError::Shape => (
                format!("{shown} is not a valid {kind}"),
                "use letters, digits, '.', '_' and '-', and begin with a letter or digit, as in \"callback-task.v2\""
                    .to_owned(),
            ),
            NameError::Empty => {
                (format!("the {kind} is empty"), "write a name of 1 to 255 bytes, such as \"orders\"".to_owned())
            }
            NameError::TooLong(bytes) => (
                format!("{named} has {bytes} bytes, but the limit is 255 bytes"),
                "write a shorter text, such as \"orders\"".to_owned(),
            ),
            NameError::TooManyWords(words) => (
                format!("{named} has {words} words, but the limit is {PATTERN_WORDS_MAX} words"),
                "write `#` for any number of words, as in \"orders.#\"".to_owned(),
            ),
            NameError::Control(at) => {
                (format!("{named} has a control character at byte {at}"), "remove the control character".to_owned())
            }
        };
        cx.error(Code::BadName, &self.place, message).help(help);
        None
    }
}
