//! Phrases that hide the subject of a sentence, and private words. `CONTRIBUTING.md` has the rules of the project's English.

use crate::source::{files, root, rust_files};

/// Words that stand in no text for readers, each with the reason. A phrase is found in lower case between other words.
const PHRASES: [(&str, &str); 19] = [
    ("nobody", "name the subject: no queue, no task, no client"),
    ("somebody", "name the subject: an operator, a client, another daemon"),
    ("anybody", "name the subject"),
    ("whoever", "name the subject: the client that, the operator who"),
    ("is told", "say who says what: `the core gets`, `the client receives`"),
    ("are told", "say who says what"),
    ("was told", "say who said what"),
    ("were told", "say who said what"),
    ("be told", "say who says what"),
    ("of ours", "name the owner: of the daemon, of the plugin"),
    ("as there", "name the place"),
    ("goes on behind", "say what follows what"),
    ("is no name for", "write `is not a valid name` and the rule"),
    ("believes", "say what is checked and what is not"),
    ("accepted, and gone", "write that the event was accepted and discarded"),
    ("tape", "the word of the glossary is `recording`"),
    ("reel", "the word of the glossary is `recording`"),
    ("lanes", "the words of the glossary are `ordering key` and `parked`"),
    ("fates", "the word of the glossary is `outcome`"),
];

/// Beginnings of a doc comment or of a sentence that have no subject.
const OPENINGS: [(&str, &str); 2] = [
    ("What ", "a doc comment or a sentence does not open with `What`: name the thing"),
    ("Who ", "a sentence does not open with `Who`: name the subject"),
];

/// The texts of a Rust file that readers see, each with its line: comments, and strings outside of tests.
fn texts(source: &str) -> Vec<(usize, String)> {
    let (mut found, mut line, mut characters) = (Vec::<(usize, String)>::new(), 1, source.chars().peekable());
    let mut comment_ended = 0;
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            '/' if characters.peek() == Some(&'/') => {
                let mut text = String::new();
                while let Some(next) = characters.next_if(|next| *next != '\n') {
                    text.push(next);
                }
                let text = text.trim_start_matches(['/', '!']).trim();
                // A sentence may go over several lines.
                match found.last_mut().filter(|_| comment_ended + 1 == line) {
                    Some((_, before)) => *before = format!("{before} {text}"),
                    None => found.push((line, text.to_owned())),
                }
                comment_ended = line;
            }
            '"' => {
                let (begun, mut text) = (line, String::new());
                while let Some(next) = characters.next().filter(|next| *next != '"') {
                    line += usize::from(next == '\n');
                    if next == '\\' {
                        line += usize::from(characters.next() == Some('\n'));
                    } else {
                        text.push(next);
                    }
                }
                found.push((begun, text));
            }
            // A character literal such as '"' is no string.
            '\'' if characters.peek() == Some(&'"') => {
                characters.next();
            }
            _ => {}
        }
    }
    found
}

/// Whether a phrase stands in a text between other words.
fn has(text: &str, phrase: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
    text.match_indices(phrase).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The rules that a text breaks.
fn faults(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let phrases = PHRASES.iter().filter(|(phrase, _)| has(&lower, phrase));
    let opens = |opening: &str| {
        let is_question = text
            .split_once(opening)
            .is_some_and(|(_, rest)| rest.split(['.', '!']).next().is_some_and(|sentence| sentence.contains('?')));
        (text.starts_with(opening) || text.contains(&format!(". {opening}"))) && !is_question
    };
    let openings = OPENINGS.iter().filter(|(opening, _)| opens(opening));
    phrases.chain(openings).map(|(found, rule)| format!("`{}`: {rule}", found.trim())).collect()
}

#[test]
fn texts_for_readers_have_subjects() {
    let (mut bad, mut seen) = (Vec::new(), 0);
    let folders = ["host", "plugins", "tests", "xtask", "benches", "fuzz"].map(|folder| root().join(folder));
    for file in folders.iter().flat_map(|folder| rust_files(folder)) {
        // The list of phrases itself.
        if file.ends_with("tidy/phrases.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a file");
        for (line, text) in texts(&source) {
            seen += 1;
            bad.extend(faults(&text).iter().map(|fault| format!("{}:{line}: {fault}", file.display())));
        }
    }
    let folders = ["docs", "examples", "plugins", "tests"].map(|folder| root().join(folder));
    let pages = folders.iter().flat_map(|folder| ["md", "toml"].map(|extension| files(folder, extension))).flatten();
    // The results quote lines of older programs word by word.
    let pages = pages.filter(|page| !page.ends_with("RESULTS.md"));
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Cargo.toml", "routes.toml"];
    for file in pages.chain(top.map(|name| root().join(name))) {
        for (number, line) in std::fs::read_to_string(&file).expect("a page").lines().enumerate() {
            seen += 1;
            bad.extend(faults(line).iter().map(|fault| format!("{}:{}: {fault}", file.display(), number + 1)));
        }
    }
    assert!(seen > 10_000, "hardly any text was found ({seen}): the check itself is broken");
    assert!(bad.is_empty(), "{} places:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn phrases_are_found_where_they_stand() {
    let source =
        "/// What a task found out.\nfn f() { log(\"nobody is bound\"); }\n// a tapestry is fine, somebody's is not\n";
    let found: Vec<usize> =
        texts(source).iter().filter(|(_, text)| !faults(text).is_empty()).map(|(line, _)| *line).collect();
    assert_eq!(found, [1, 2, 3]);
    assert!(faults("What happens to an event? It is kept.").is_empty());
}
