//! The collector of problems that every reader and check reports to.
//!
//! Secrets of the file do not show in an excerpt.

use std::ops::Range;
use std::sync::Arc;

use super::codes::Code;
use super::diagnostic::{Diagnostic, Excerpt, Severity};
use super::files::SourceFiles;
use super::place::ValuePlace;
use super::source::ShownFile;

const DID_YOU_MEAN: &str = "did you mean";

/// One problem, before its file is known.
#[derive(Debug)]
pub(crate) struct Finding {
    code: Code,
    severity: Severity,
    message: String,
    place: Option<ValuePlace>,
    label: Option<String>,
    also: Option<(Range<usize>, String)>,
    help: Option<String>,
}

impl Finding {
    /// Says the correct form.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a few words beside the caret.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Says a correct form, unless a more exact one is there already.
    pub(crate) fn or_help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help.get_or_insert_with(|| help.into());
        self
    }

    /// Whether [`Finding::nearest`] found a near word.
    pub(crate) fn has_near(&self) -> bool {
        self.help.as_ref().is_some_and(|help| help.starts_with(DID_YOU_MEAN))
    }

    /// Adds a second place of the file.
    pub(crate) fn also(&mut self, place: &ValuePlace, label: impl Into<String>) -> &mut Self {
        if let ValuePlace::File(span) = place {
            self.also = Some((span.clone(), label.into()));
        }
        self
    }

    /// Asks "did you mean" when a known word is near, and lists the known words otherwise.
    pub(crate) fn nearest<'w>(&mut self, word: &str, known: impl IntoIterator<Item = &'w str>) -> &mut Self {
        let known = known.into_iter().collect::<Vec<_>>();
        let distance = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        // A third of the letters may be wrong, but not all of them.
        let near =
            known.iter().map(|candidate| (distance(candidate), *candidate)).min_by_key(|(distance, _)| *distance);
        match near {
            Some((distance, candidate)) if distance <= (word.len() / 3).max(1) && distance < candidate.len() => {
                self.help(format!("{DID_YOU_MEAN} `{candidate}`?"))
            }
            Some(_) => self.help(format!("write one of the known names: {}", known.join(", "))),
            None => self,
        }
    }
}

/// Collects problems, so that all of them are reported together.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
    secrets: Vec<Range<usize>>,
    broken: Vec<Range<usize>>,
}

impl Findings {
    /// Reports an error.
    pub(crate) fn error(&mut self, code: Code, place: &ValuePlace, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Error, Some(place.clone()), message.into())
    }

    /// Reports a warning.
    pub(crate) fn warning(&mut self, code: Code, place: &ValuePlace, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Warning, Some(place.clone()), message.into())
    }

    /// Reports an error without a place.
    pub(crate) fn error_anywhere(&mut self, code: Code, message: impl Into<String>) -> &mut Finding {
        self.add(code, Severity::Error, None, message.into())
    }

    /// Reports a syntax error. Other errors on its lines are probably consequences of it.
    pub(crate) fn syntax(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.broken.push(span.clone());
        self.add(Code::Syntax, Severity::Error, Some(ValuePlace::File(span)), message.into())
    }

    /// Whether an error was reported, so that a warning may be a consequence of it.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Hides these bytes of the file in excerpts.
    pub(crate) fn hide(&mut self, place: &ValuePlace) {
        if let ValuePlace::File(span) = place {
            self.secrets.push(span.clone());
        }
    }

    fn add(&mut self, code: Code, severity: Severity, place: Option<ValuePlace>, message: String) -> &mut Finding {
        self.found.push(Finding { code, severity, message, place, label: None, also: None, help: None });
        self.found.last_mut().expect("one was just pushed")
    }

    /// The diagnostics in the order of the files; those without a line first.
    pub(crate) fn finish(mut self, files: &SourceFiles) -> Vec<Diagnostic> {
        let sources = files.iter().map(|file| ShownFile::new(file, &self.secrets)).collect::<Vec<_>>();
        let line = |byte: usize| {
            let number = files.number(byte);
            (number, sources.get(number).map_or(0, |source| source.position(byte).0))
        };
        let broken = self.broken.iter().map(|span| line(span.start)).collect::<Vec<_>>();
        // A broken line hides its key, so errors about missing and unknown keys may be wrong.
        self.found.retain(|finding| match &finding.place {
            _ if broken.is_empty() || finding.code == Code::Syntax => true,
            Some(ValuePlace::File(span)) => !finding.code.is_absence() && !broken.contains(&line(span.start)),
            Some(ValuePlace::Variable(_) | ValuePlace::Flag(_)) | None => !finding.code.is_absence(),
        });
        self.found.sort_by_key(|finding| match &finding.place {
            Some(ValuePlace::File(span)) => Some(span.start),
            Some(ValuePlace::Variable(_) | ValuePlace::Flag(_)) | None => None,
        });
        // An error in `[defaults]` is found again at each route.
        let mut reported = Vec::new();
        self.found.retain(|finding| {
            let once = (finding.code, finding.place.clone(), finding.message.clone());
            let is_new = !reported.contains(&once);
            reported.push(once);
            is_new
        });
        self.found.into_iter().map(|finding| finding.into_diagnostic(files, &sources)).collect()
    }
}

impl Finding {
    fn into_diagnostic(self, files: &SourceFiles, sources: &[ShownFile<'_>]) -> Diagnostic {
        let mut file = sources.first().map(|source| source.name.clone()).unwrap_or_default();
        let (mut position, mut excerpt, mut message, mut help) = (None, None, self.message, self.help);
        match self.place {
            Some(ValuePlace::File(span)) => {
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
            Some(ValuePlace::Variable(name)) => {
                "environment".clone_into(&mut file);
                message = format!("environment variable {name}: {message}");
            }
            Some(ValuePlace::Flag(name)) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let mut findings = Findings::default();
        let help = |word: &str, findings: &mut Findings| {
            findings.error_anywhere(Code::UnknownKey, "").nearest(word, ["prefetch", "plugin"]).help.clone()
        };
        assert_eq!(help("prefech", &mut findings).as_deref(), Some("did you mean `prefetch`?"));
        assert_eq!(help("zzz", &mut findings).as_deref(), Some("write one of the known names: prefetch, plugin"));
    }
}
