//! The reasons of a refused reload.

use serde::Serialize;

use trunkline_config::{Diagnostic, Rejected, Severity};
use trunkline_event::PluginName;

/// One reason. Its JSON form is `{code, message, file, line, column, help, plugin}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalReason {
    /// The code for `trunkline explain`, if there is one.
    pub code: Option<&'static str>,
    /// The error.
    pub message: String,
    /// The file of a configuration error.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The column in the line, from 1.
    pub column: Option<usize>,
    /// The suggested fix.
    pub help: Option<String>,
    /// The plugin that cannot run.
    pub plugin: Option<String>,
}

impl RefusalReason {
    /// A reason with a message only.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), file: None, line: None, column: None, help: None, plugin: None }
    }

    /// The error of a plugin that cannot run.
    #[must_use]
    pub fn of_plugin(plugin: &PluginName, message: &str) -> Self {
        Self { plugin: Some(plugin.to_string()), ..Self::new(message) }
    }

    fn of_config(diagnostic: Diagnostic) -> Self {
        Self {
            code: Some(diagnostic.code),
            file: Some(diagnostic.file),
            line: diagnostic.line,
            column: diagnostic.column,
            help: diagnostic.help,
            ..Self::new(diagnostic.message)
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(plugin) = &self.plugin {
            write!(f, "plugin {plugin}: ")?;
        }
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, "{file}:{line}: ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// A reload that was refused, with every reason. The running generation stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReload {
    /// At least one reason.
    pub reasons: Vec<RefusalReason>,
}

impl RefusedReload {
    /// A refusal with one message.
    #[must_use]
    pub fn because(message: impl Into<String>) -> Self {
        Self { reasons: vec![RefusalReason::new(message)] }
    }

    /// A refusal with the errors of a configuration.
    #[must_use]
    pub fn by_config(rejected: Rejected) -> Self {
        let errors = rejected.diagnostics.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        Self { reasons: errors.map(RefusalReason::of_config).collect() }
    }
}

impl std::fmt::Display for RefusedReload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = self.reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&texts.join("; "))
    }
}
