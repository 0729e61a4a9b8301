//! The public form of a problem, as text and as JSON.

use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// Whether the configuration can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but probably does something else than its author meant.
    Warning,
}

/// One problem. Its JSON form is `{code, severity, message, file, line, column, help}`.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnostic {
    /// Stable code such as `TL003`; `trunkline explain` prints more about it.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// The problem, as a fragment that begins in lower case.
    pub message: String,
    /// The file, or `environment` or `command line`.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Column in the line, in characters from 1.
    pub column: Option<usize>,
    /// The correct form, or what to do.
    pub help: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// A part of a file, without secrets.
#[derive(Debug, Clone)]
pub(super) struct Excerpt {
    pub(super) source: Arc<str>,
    pub(super) span: Range<usize>,
    pub(super) label: Option<String>,
    pub(super) also: Option<(Range<usize>, String)>,
}

/// Diagnostics as text, each followed by an empty line.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    diagnostics.iter().fold(String::new(), |mut text, diagnostic| {
        text.push_str(&renderer.render(&[diagnostic.group()]));
        text.push_str("\n\n");
        text
    })
}

impl Diagnostic {
    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&self.message).id(self.code));
        if let Some(excerpt) = &self.excerpt {
            let primary = AnnotationKind::Primary.span(excerpt.span.clone()).label(excerpt.label.as_deref());
            let also = excerpt.also.iter().map(|(span, label)| AnnotationKind::Context.span(span.clone()).label(label));
            let snippet = Snippet::source(&*excerpt.source).path(&self.file).annotation(primary).annotations(also);
            group = group.element(snippet);
        }
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}
