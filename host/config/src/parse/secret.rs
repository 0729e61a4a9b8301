//! The one place that decides how a secret is given, and that reads it.
//!
//! A secret is given as `{ env = "NAME" }` or `{ file = "PATH" }`. Bearer tokens and keys may also be a string, which is
//! meant for `"${NAME}"`; a literal one is hidden from excerpts and warned about. The value is a [`Secret`] from here on,
//! and neither `Debug` nor a message shows it.

use std::path::PathBuf;

use super::context::{ReadContext, Text};
use super::table::Table;
use super::value::{TomlValue, place, span, text};
use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::secret::{ENV, FILE, SECRET};
use crate::model::secret::Secret;

/// A secret is a password or a key file, and is held in memory.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// A secret as the file gives it.
#[derive(Debug, Clone)]
pub(crate) struct RawSecret {
    source: SecretSource,
    pub(crate) place: ValuePlace,
}

#[derive(Debug, Clone)]
enum SecretSource {
    Variable(Text),
    File(Text),
    Text(Text),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("the environment variable {0} is not set")]
    Unset(String),
    #[error("the environment variable {0} is empty")]
    EmptyVariable(String),
    #[error("the file {} cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the file {} is empty", path.display())]
    EmptyFile { path: PathBuf },
    #[error("the file {} has {length} bytes, but the limit of a secret is {SECRET_MAX_BYTES} bytes", path.display())]
    TooLong { path: PathBuf, length: u64 },
}

impl SecretError {
    /// The message beside an excerpt, which shows the path as it was written.
    pub(crate) fn beside_excerpt(&self) -> String {
        match self {
            Self::Unset(_) | Self::EmptyVariable(_) => self.to_string(),
            Self::Unreadable { reason, .. } => format!("the file of the secret cannot be read: {reason}"),
            Self::EmptyFile { .. } => "the file of the secret is empty".to_owned(),
            Self::TooLong { length, .. } => {
                format!("the file of the secret has {length} bytes, but the limit is {SECRET_MAX_BYTES} bytes")
            }
        }
    }

    /// The instruction for the user.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Unset(name) | Self::EmptyVariable(name) => format!("set {name} in the environment of the daemon"),
            Self::Unreadable { .. } => {
                "write a path such as \"secrets/token\": a relative path is resolved from the directory of routes.toml"
                    .to_owned()
            }
            Self::EmptyFile { .. } | Self::TooLong { .. } => "write only the secret into the file".to_owned(),
        }
    }
}

impl RawSecret {
    /// Reads `{ env }` or `{ file }` from a table of the section [`SECRET`]. `code` is for a table that has both.
    pub(crate) fn reference(cx: &mut ReadContext<'_>, table: &Table<'_>, code: Code, example: &str) -> Option<Self> {
        let source = match (table.text(cx, &ENV), table.text(cx, &FILE)) {
            (Some(name), None) => SecretSource::Variable(name),
            (None, Some(file)) => SecretSource::File(file),
            (Some(_), Some(_)) => {
                cx.error(code, &table.place, format!("{} has both `env` and `file`", table.title))
                    .help("remove `env` or `file`");
                return None;
            }
            (None, None) if table.has(&ENV) || table.has(&FILE) => return None,
            (None, None) => {
                cx.error(Code::MissingKey, &table.place, format!("{} has neither `env` nor `file`", table.title))
                    .help(format!("write {{ env = \"{example}\" }}"));
                return None;
            }
        };
        Some(Self { source, place: table.place.clone() })
    }

    /// Reads a bearer token or a key: a reference, or a string.
    pub(crate) fn token(cx: &mut ReadContext<'_>, key: &str, item: &TomlValue<'_>) -> Option<Self> {
        const FORMS: &str = "{ env = \"NAME\" }, { file = \"PATH\" } or \"${NAME}\"";
        let place = place(item);
        if let Some(table) = Table::open(cx, item, &SECRET, "a token") {
            return Self::reference(cx, &table, Code::NoToken, "TRUNKLINE_TOKEN")
                .map(|secret| Self { place, ..secret });
        }
        if let Some(inside) = span(&place).filter(|_| item.get_ref().as_str().is_some_and(|raw| !raw.contains("${"))) {
            cx.findings.hide(&ValuePlace::File(inside.start + 1..inside.end.saturating_sub(1)));
        }
        let text = text(cx, key, item, FORMS)?;
        if text.literal {
            cx.findings
                .warning(Code::LiteralSecret, &place, format!("`{key}` contains a secret in clear text"))
                .help("write { env = \"NAME\" } instead of the secret, and set NAME in the environment of the daemon");
        }
        Some(Self { source: SecretSource::Text(text), place })
    }

    /// The place of the name or the path.
    pub(crate) fn source_place(&self) -> &ValuePlace {
        match &self.source {
            SecretSource::Variable(text) | SecretSource::File(text) | SecretSource::Text(text) => &text.place,
        }
    }

    /// The value, without white space at both ends. A file is watched from now on, also while it cannot be read.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn resolve(&self, cx: &mut ReadContext<'_>) -> Result<Secret, SecretError> {
        match &self.source {
            SecretSource::Text(text) => Ok(Secret::new(without_space(&text.value))),
            SecretSource::Variable(name) => {
                let value = cx.environment.get(&name.value).map(|value| without_space(value));
                let name = name.value.escape_debug().to_string();
                match value {
                    None => Err(SecretError::Unset(name)),
                    Some("") => Err(SecretError::EmptyVariable(name)),
                    Some(value) => Ok(Secret::new(value)),
                }
            }
            SecretSource::File(file) => {
                let path = cx.path(&file.value);
                cx.watched.push(path.clone());
                read(path)
            }
        }
    }
}

/// The text without white space at both ends. Editors on Windows write a byte order mark before the text, and `kubectl create
/// secret --from-file` copies the mark into the variables of a pod.
fn without_space(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

fn read(path: PathBuf) -> Result<Secret, SecretError> {
    let failed = |error: std::io::Error| SecretError::Unreadable { path: path.clone(), reason: error.to_string() };
    let length = std::fs::metadata(&path).map_err(failed)?.len();
    if length > SECRET_MAX_BYTES {
        return Err(SecretError::TooLong { path, length });
    }
    let content = std::fs::read_to_string(&path).map_err(failed)?;
    match without_space(&content) {
        "" => Err(SecretError::EmptyFile { path }),
        value => Ok(Secret::new(value)),
    }
}
