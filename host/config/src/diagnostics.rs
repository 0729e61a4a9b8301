//! What is wrong with a configuration, told the way rustc tells it.
//!
//! Owns the public [`Diagnostic`], its text and JSON forms, and the collector [`Findings`] that every reader reports
//! to. Promises that secrets written into the file do not show in an excerpt. Knows no key of routes.toml.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::codes::Code;
use super::files::{File, Files};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing runs with it.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

/// One mistake. Serialised, it is the JSON form: `{code, severity, message, file, line, column, help}`.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnostic {
    /// Stable: `TL003`. `trunkline explain` says more.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// The file, or `environment` or `command line`.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Column in the line, in characters from 1.
    pub column: Option<usize>,
    /// What to write instead.
    pub help: Option<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone)]
struct Excerpt {
    source: Arc<str>,
    span: Range<usize>,
    label: Option<String>,
    also: Option<(Range<usize>, String)>,
}

/// All of them as text, each followed by an empty line.
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

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

const DID_YOU_MEAN: &str = "did you mean";

/// One mistake, before it knows the file it is in.
#[derive(Debug)]
pub(super) struct Finding {
    code: Code,
    severity: Severity,
    message: String,
    place: Option<Place>,
    label: Option<String>,
    also: Option<(Range<usize>, String)>,
    help: Option<String>,
}

impl Finding {
    /// What to write instead.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// A few words beside the caret.
    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Takes the help back, where the message says it all.
    pub(super) fn no_help(&mut self) {
        self.help = None;
    }

    /// Whether [`Finding::nearest`] found a near word.
    pub(super) fn has_near(&self) -> bool {
        self.help.as_ref().is_some_and(|help| help.starts_with(DID_YOU_MEAN))
    }

    /// A second place of the file that belongs to it.
    pub(super) fn also(&mut self, place: &Place, label: impl Into<String>) -> &mut Self {
        if let Place::File(span) = place {
            self.also = Some((span.clone(), label.into()));
        }
        self
    }

    /// "did you mean", if one of the known words is near.
    pub(super) fn nearest<'w>(&mut self, word: &str, known: impl IntoIterator<Item = &'w str>) -> &mut Self {
        let known = known.into_iter().collect::<Vec<_>>();
        let distance = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        // A third of the letters may be wrong, but not all of them.
        let near =
            known.iter().map(|candidate| (distance(candidate), *candidate)).min_by_key(|(distance, _)| *distance);
        match near {
            Some((distance, candidate)) if distance <= (word.len() / 3).max(1) && distance < candidate.len() => {
                self.help(format!("{DID_YOU_MEAN} `{candidate}`?"))
            }
            Some(_) => self.help(format!("known: {}", known.join(", "))),
            None => self,
        }
    }
}

/// Collects mistakes, so that all of them are told at once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    secrets: Vec<Range<usize>>,
    broken: Vec<Range<usize>>,
}

impl Findings {
    /// Something that nothing runs with.
    pub(super) fn error(&mut self, code: Code, place: &Place, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Error, Some(place.clone()), message.into())
    }

    /// Something that is probably not meant.
    pub(super) fn warning(&mut self, code: Code, place: &Place, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Warning, Some(place.clone()), message.into())
    }

    /// An error that has no line.
    pub(super) fn error_anywhere(&mut self, code: Code, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Error, None, message.into())
    }

    /// A syntax error; what is found later on its lines is probably its echo.
    pub(super) fn syntax(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.broken.push(span.clone());
        self.add(Code::Syntax, Severity::Error, Some(Place::File(span)), message.into())
    }

    /// Whether an error was reported, so that a warning may be only its echo.
    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// These bytes of the file are never shown.
    pub(super) fn hide(&mut self, place: &Place) {
        if let Place::File(span) = place {
            self.secrets.push(span.clone());
        }
    }

    fn add(&mut self, code: Code, severity: Severity, place: Option<Place>, message: String) -> &mut Finding {
        self.found.push(Finding { code, severity, message, place, label: None, also: None, help: None });
        self.found.last_mut().expect("one was just pushed")
    }

    /// The diagnostics in the order of the files; those without a line first.
    pub(super) fn finish(mut self, files: &Files) -> Vec<Diagnostic> {
        let sources = files.iter().map(|file| Source::new(file, &self.secrets)).collect::<Vec<_>>();
        let line = |byte: usize| {
            let number = files.number(byte);
            (number, sources.get(number).map_or(0, |source| source.position(byte).0))
        };
        let broken = self.broken.iter().map(|span| line(span.start)).collect::<Vec<_>>();
        // A broken line takes its key with it: what then seems to be missing or unknown is not worth telling.
        self.found.retain(|finding| match &finding.place {
            _ if broken.is_empty() || finding.code == Code::Syntax => true,
            Some(Place::File(span)) => !finding.code.is_absence() && !broken.contains(&line(span.start)),
            Some(Place::Variable(_) | Place::Flag(_)) | None => !finding.code.is_absence(),
        });
        self.found.sort_by_key(|finding| match &finding.place {
            Some(Place::File(span)) => Some(span.start),
            Some(Place::Variable(_) | Place::Flag(_)) | None => None,
        });
        // What `[defaults]` says wrongly is found again at each route.
        let mut told = Vec::new();
        self.found.retain(|finding| {
            let once = (finding.code, finding.place.clone(), finding.message.clone());
            let is_new = !told.contains(&once);
            told.push(once);
            is_new
        });
        self.found.into_iter().map(|finding| finding.into_diagnostic(files, &sources)).collect()
    }
}

impl Finding {
    fn into_diagnostic(self, files: &Files, sources: &[Source<'_>]) -> Diagnostic {
        let mut file = sources.first().map(|source| source.name.clone()).unwrap_or_default();
        let (mut position, mut excerpt, mut message, mut help) = (None, None, self.message, self.help);
        match self.place {
            Some(Place::File(span)) => {
                let number = files.number(span.start);
                if let Some(source) = sources.get(number) {
                    source.name.clone_into(&mut file);
                    position = Some(source.position(span.start));
                    let also = self.also.filter(|(other, label)| {
                        let elsewhere = files.number(other.start);
                        if let Some(source) = sources.get(elsewhere).filter(|_| elsewhere != number) {
                            // An excerpt shows one file.
                            let (line, _) = source.position(other.start);
                            let there = format!("{label}: {}:{line}", source.name);
                            help = Some(help.take().map_or_else(|| there.clone(), |help| format!("{help}; {there}")));
                        }
                        elsewhere == number
                    });
                    let also = also.map(|(other, label)| (source.within(&other), label));
                    let text = Arc::clone(&source.text);
                    excerpt = Some(Excerpt { source: text, span: source.within(&span), label: self.label, also });
                }
            }
            Some(Place::Variable(name)) => {
                "environment".clone_into(&mut file);
                message = format!("environment variable {name}: {message}");
            }
            Some(Place::Flag(name)) => {
                "command line".clone_into(&mut file);
                message = format!("{name}: {message}");
            }
            None => {}
        }
        Diagnostic {
            code: self.code.as_str(),
            severity: self.severity,
            message,
            file,
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            help,
            excerpt,
        }
    }
}

/// A file as it may be shown.
struct Source<'f> {
    name: String,
    start: usize,
    text: Arc<str>,
    lines: Lines<'f>,
}

impl<'f> Source<'f> {
    fn new(file: &'f File, secrets: &[Range<usize>]) -> Self {
        let within = |span: &Range<usize>| span.start.saturating_sub(file.start)..span.end.saturating_sub(file.start);
        let secrets = secrets.iter().filter(|span| span.start >= file.start).map(within).collect::<Vec<_>>();
        Self {
            name: file.path.display().to_string(),
            start: file.start,
            text: mask(&file.text, &secrets).into(),
            lines: Lines::new(&file.text),
        }
    }

    fn position(&self, byte: usize) -> (usize, usize) {
        self.lines.position(byte.saturating_sub(self.start))
    }

    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let clip = |byte: usize| byte.saturating_sub(self.start).min(self.text.len());
        clip(span.start)..clip(span.end)
    }
}

/// Finds line and column of a byte.
struct Lines<'s> {
    source: &'s str,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    fn new(source: &'s str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { source, starts }
    }

    fn position(&self, byte: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.source.get(start..byte.min(self.source.len())).unwrap_or_default();
        (line.max(1), before.chars().count() + 1)
    }
}

/// The text with stars instead of secrets, of the same length in bytes so that spans still fit.
fn mask(source: &str, secrets: &[Range<usize>]) -> String {
    source.char_indices().fold(String::with_capacity(source.len()), |mut text, (at, letter)| {
        match secrets.iter().any(|span| span.contains(&at)) && letter != '\n' && letter != '\r' {
            true => (0..letter.len_utf8()).for_each(|_| text.push('*')),
            false => text.push(letter),
        }
        text
    })
}

/// `"a"`, with control characters escaped, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = String::from("\"");
    for letter in text.chars().take(SHOWN_MAX) {
        match letter {
            '"' | '\\' => shown.push(letter),
            _ => _ = write!(shown, "{}", letter.escape_debug()),
        }
    }
    shown.push_str(if text.chars().count() > SHOWN_MAX { "…\"" } else { "\"" });
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_without_moving_what_follows() {
        let source = "a = \"sécret\"\nb = 1\n";
        let masked = mask(source, std::slice::from_ref(&(5..12)));
        assert_eq!(masked, "a = \"*******\"\nb = 1\n");
        assert_eq!(masked.len(), source.len());
    }

    #[test]
    fn positions_count_characters_from_one() {
        let lines = Lines::new("ab\nüü = 1\n");
        for (byte, expected) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (7, (2, 3)), (99, (3, 1))] {
            assert_eq!(lines.position(byte).0, expected.0, "{byte}");
            if byte < 12 {
                assert_eq!(lines.position(byte), expected, "{byte}");
            }
        }
    }

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let mut findings = Findings::default();
        let help = |word: &str, findings: &mut Findings| {
            findings.error_anywhere(Code::UnknownKey, "").nearest(word, ["prefetch", "plugin"]).help.clone()
        };
        assert_eq!(help("prefech", &mut findings).as_deref(), Some("did you mean `prefetch`?"));
        assert_eq!(help("zzz", &mut findings).as_deref(), Some("known: prefetch, plugin"));
    }
}
