//! Reads, checks and assembles a configuration.

use std::io;
use std::path::PathBuf;

use crate::check::config;
use crate::diagnostics::codes::Code;
use crate::diagnostics::diagnostic::{Diagnostic, Severity, render};
use crate::diagnostics::files::{SourceFile, SourceFiles, without_mark};
use crate::diagnostics::findings::Findings;
use crate::model::config::Config;
use crate::parse::context::ReadContext;
use crate::parse::raw::config::RawConfig;
use crate::parse::table::Table;
use crate::parse::{environment, include};
use crate::sources::Sources;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The warnings.
    pub warnings: Vec<Diagnostic>,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Rejected {
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The files of the configuration, as in [`Config::files`].
    pub files: Vec<PathBuf>,
    missing: bool,
}

impl Rejected {
    /// Whether the file does not exist or may not be read.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.missing
    }

    /// All diagnostics as text, and a line that counts them.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let count = |severity| self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        let shown = |count, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let mut text = render(&self.diagnostics, color);
        text.push_str(&shown(count(Severity::Error), "error"));
        match count(Severity::Warning) {
            0 => {}
            warnings => text.push_str(&format!(", {}", shown(warnings, "warning"))),
        }
        if let Some(first) = self.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error) {
            text.push_str(&format!("; `trunkline explain {}` explains the first error", first.code));
        }
        text.push('\n');
        text
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Rejected {}

/// Reads and checks a configuration.
///
/// # Errors
/// All errors of the configuration.
pub fn load(sources: &Sources) -> Result<Loaded, Rejected> {
    match std::fs::read_to_string(&sources.file) {
        Ok(source) => check(&source, sources),
        Err(error) => {
            let mut findings = Findings::default();
            let file = sources.file.display();
            let missing = error.kind() != io::ErrorKind::InvalidData;
            let code = if missing { Code::NoFile } else { Code::Syntax };
            let finding = findings.error_anywhere(code, format!("the routes file {file} cannot be read: {error}"));
            finding.help(if missing {
                "name an existing file, such as --config routes.toml"
            } else {
                "save the file as UTF-8"
            });
            let files = SourceFiles::new(&sources.file, "");
            Err(Rejected { diagnostics: findings.finish(&files), files: vec![sources.file.clone()], missing })
        }
    }
}

/// Checks the text of the file, and of those that it includes.
pub(crate) fn check(source: &str, sources: &Sources) -> Result<Loaded, Rejected> {
    let source = without_mark(source);
    let mut files = SourceFiles::new(&sources.file, source);
    let mut cx = ReadContext::new(sources, source);
    let mut top = parse(&mut cx, source).into_inner();
    let found = include::read(&mut cx, &Table::top(&top), &mut files);
    let padded = files.iter().skip(1).map(SourceFile::padded).collect::<Vec<_>>();
    for text in &padded {
        let included = parse(&mut cx, text).into_inner();
        include::merge(&mut cx, &mut top, included);
    }
    let first = std::path::absolute(&sources.file).unwrap_or_else(|_| sources.file.clone());
    let overlay = environment::read(&mut cx, sources);
    let raw = RawConfig::read(&mut cx, &Table::top(&top));
    let config = config::check(&mut cx, raw, &overlay, sources);
    let watched = std::mem::take(&mut cx.watched);
    let all: Vec<PathBuf> = std::iter::once(first).chain(found.files).chain(found.directories).chain(watched).collect();
    let diagnostics = cx.findings.finish(&files);
    match config.filter(|_| diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning)) {
        Some(config) => {
            Ok(Loaded { config: Config { files: all, digest: files.digest(), ..config }, warnings: diagnostics })
        }
        None => Err(Rejected { diagnostics, files: all, missing: false }),
    }
}

fn parse<'t>(cx: &mut ReadContext<'_>, text: &'t str) -> toml::Spanned<toml::de::DeTable<'t>> {
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    for error in errors {
        let (message, help) = match error.message() {
            "duplicate key" => {
                ("the file has this key or table twice".to_owned(), "remove or rename one of the two keys or tables")
            }
            other => (
                format!("the file is not valid TOML: {other}"),
                "write a key and its value on one line, such as `plugin = \"callback-task\"`",
            ),
        };
        cx.findings.syntax(error.span().unwrap_or(0..0), message).help(help);
    }
    table
}
