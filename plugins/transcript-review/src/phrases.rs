//! Phrases and texts as lists of words. Case, punctuation and line breaks make no difference. A phrase does not match
//! inside a longer word, unless its own word ends in `*`.

use std::ops::Range;

use crate::Excerpt;

/// Characters of context before and after a match.
const AROUND: usize = 40;

/// Consecutive words.
pub(crate) struct Phrase {
    pub(crate) text: String,
    words: Vec<Wanted>,
}

/// A word in lower case. `is_prefix` matches longer words too.
struct Wanted {
    word: String,
    is_prefix: bool,
}

/// Phrases of one subject.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) phrases: Vec<Phrase>,
}

/// A transcript and its words.
pub(crate) struct Text<'a> {
    text: &'a str,
    /// The byte range of each word, and the word in lower case.
    words: Vec<(Range<usize>, String)>,
}

impl Phrase {
    pub(crate) fn new(text: String) -> Self {
        let wanted = |range: Range<usize>| Wanted {
            word: text[range.clone()].to_lowercase(),
            is_prefix: text[range.end..].starts_with('*'),
        };
        let words = words(&text).map(wanted).collect();
        Self { text, words }
    }
}

impl Topic {
    /// Reads topics such as `price: too expensive, discount; empathy: I understand`.
    pub(crate) fn read_all(text: &str) -> Option<Vec<Self>> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts.map(Self::read).collect()
    }

    fn read(text: &str) -> Option<Self> {
        let (name, phrases) = text.split_once(':')?;
        let phrases = phrases.split(',').map(str::trim).filter(|phrase| !phrase.is_empty());
        let phrases: Vec<Phrase> = phrases.map(|phrase| Phrase::new(phrase.to_owned())).collect();
        let is_topic = !name.trim().is_empty() && !phrases.is_empty();
        is_topic.then(|| Self { name: name.trim().to_owned(), phrases })
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let words = words(text).map(|range| (range.clone(), text[range].to_lowercase())).collect();
        Self { text, words }
    }

    /// The byte ranges of all matches, without overlaps.
    pub(crate) fn find(&self, phrase: &Phrase) -> Vec<Range<usize>> {
        let (mut found, mut rest, length) = (Vec::new(), self.words.as_slice(), phrase.words.len());
        // A phrase of punctuation only has no words and no matches.
        while length > 0 && rest.len() >= length {
            let fits = |(wanted, (_, word)): (&Wanted, &(Range<usize>, String))| {
                if wanted.is_prefix { word.starts_with(&wanted.word) } else { *word == wanted.word }
            };
            let (here, after) = rest.split_at(length);
            if phrase.words.iter().zip(here).all(fits) {
                found.push(here[0].0.start..here[length - 1].0.end);
                rest = after;
            } else {
                rest = &rest[1..];
            }
        }
        found
    }

    /// The match with some of the text around it.
    pub(crate) fn excerpt(&self, place: Range<usize>) -> Excerpt {
        let before =
            self.text[..place.start].char_indices().rev().take(AROUND).last().map_or(place.start, |(at, _)| at);
        let after = self.text[place.end..].chars().take(AROUND).map(char::len_utf8).sum::<usize>();
        let end = place.end + after;
        let mut text = self.text[before..end].trim().to_owned();
        if before > 0 {
            text.insert(0, '…');
        }
        if end < self.text.len() {
            text.push('…');
        }
        Excerpt { offset: self.text[..place.start].chars().count(), text }
    }
}

/// Runs of letters, digits and apostrophes.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '\'' | '’');
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_part)?;
        let end = text[start..].find(|character| !is_part(character)).map_or(text.len(), |length| start + length);
        at = end;
        Some(start..end)
    })
}
