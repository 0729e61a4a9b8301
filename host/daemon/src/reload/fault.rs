//! Why something was not taken over.

use serde::Serialize;

use trunkline_config::{Diagnostic, Rejected, Severity};
use trunkline_event::PluginName;

/// One reason. Serialised, it is the JSON form: `{code, message, file, line, column, help, plugin}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// A code that `trunkline explain` knows, where there is one.
    pub code: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// The file, for a mistake of the configuration.
    pub file: Option<String>,
    /// Its line, from 1.
    pub line: Option<usize>,
    /// The column in the line, from 1.
    pub column: Option<usize>,
    /// What to write instead.
    pub help: Option<String>,
    /// The plugin that cannot run.
    pub plugin: Option<String>,
}

impl Fault {
    /// A reason in words only.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), file: None, line: None, column: None, help: None, plugin: None }
    }

    /// Why a plugin cannot run.
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

impl std::fmt::Display for Fault {
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

/// All that keeps a generation from being taken over. What ran before runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl Refused {
    /// One reason in words.
    #[must_use]
    pub fn because(message: impl Into<String>) -> Self {
        Self { faults: vec![Fault::new(message)] }
    }

    /// The errors of a configuration.
    #[must_use]
    pub fn by_config(rejected: Rejected) -> Self {
        let errors = rejected.diagnostics.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        Self { faults: errors.map(Fault::of_config).collect() }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = self.faults.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&texts.join("; "))
    }
}
