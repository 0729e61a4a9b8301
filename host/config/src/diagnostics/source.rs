//! A file as excerpts may show it: with stars in place of secrets.

use std::ops::Range;
use std::sync::Arc;

use super::files::SourceFile;

/// A file as it may be shown.
pub(super) struct ShownFile<'f> {
    pub(super) name: String,
    start: usize,
    pub(super) text: Arc<str>,
    lines: Lines<'f>,
}

impl<'f> ShownFile<'f> {
    pub(super) fn new(file: &'f SourceFile, secrets: &[Range<usize>]) -> Self {
        let within = |span: &Range<usize>| span.start.saturating_sub(file.start)..span.end.saturating_sub(file.start);
        let secrets = secrets.iter().filter(|span| span.start >= file.start).map(within).collect::<Vec<_>>();
        Self {
            name: file.path.display().to_string(),
            start: file.start,
            text: mask(&file.text, &secrets).into(),
            lines: Lines::new(&file.text),
        }
    }

    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        self.lines.position(byte.saturating_sub(self.start))
    }

    pub(super) fn within(&self, span: &Range<usize>) -> Range<usize> {
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
}
