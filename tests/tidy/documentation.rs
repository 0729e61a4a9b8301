//! The pages of the documentation: shell blocks, links, and a section of the runbook for each line of the log.

use crate::source::{code, root, rust_files, sources};

/// Shell commands stand in blocks that `cargo xtask docs` runs. The sentence after any other block says why the block does not run.
#[test]
fn shell_lines_of_the_documentation_run() {
    const COMMANDS: [&str; 4] = ["trunkline ", "cargo ", "curl ", "$ "];
    let (mut bad, mut blocks) = (Vec::new(), 0);
    for page in xtask::pages::pages().expect("the pages") {
        let text = std::fs::read_to_string(&page).expect("a page");
        let mut fence = None;
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let at = format!("{}:{}", page.display(), number + 1);
            match (fence, line.strip_prefix("```")) {
                (None, Some(kind)) => fence = Some(kind),
                (Some("sh no-run"), Some(_)) => {
                    let reason = lines.by_ref().map(|(_, line)| line).find(|line| !line.is_empty());
                    if reason.is_none_or(|reason| reason.starts_with(['#', '`', '|'])) {
                        bad.push(format!("{at}: a block that does not run needs a sentence after it that says why"));
                    }
                    fence = None;
                }
                (Some(kind), Some(_)) => {
                    blocks += usize::from(kind == "sh");
                    fence = None;
                }
                (Some("sh" | "sh no-run"), None) => {}
                (Some(_) | None, None) => {
                    if COMMANDS.iter().any(|command| line.trim_start().starts_with(command)) {
                        bad.push(format!("{at}: a command outside of a block that runs: {line}"));
                    }
                }
            }
        }
    }
    assert!(blocks > 30, "hardly any block was found ({blocks}): the check itself is broken");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Every page of the book is in its summary once, and every link of a page leads somewhere.
#[test]
fn the_book_is_whole() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).expect("SUMMARY.md");
    let mut bad = Vec::new();
    let mut folders = vec![docs.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let name = path.strip_prefix(&docs).expect("below docs").display().to_string();
            if name != "SUMMARY.md" && summary.matches(&format!("({name})")).count() != 1 {
                bad.push(format!("{name} is not in SUMMARY.md once"));
            }
            let text = std::fs::read_to_string(&path).expect("a page");
            for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
                let is_file = !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:");
                if is_file && !folder.join(link).exists() {
                    bad.push(format!("{name} links to {link}, which is not there"));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The string literals of a macro call that begins at the start of `text`, up to its closing parenthesis.
fn literals(text: &str) -> Vec<String> {
    let (mut found, mut depth, mut characters) = (Vec::new(), 1, text.chars().peekable());
    while let Some(character) = characters.next().filter(|_| depth > 0) {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            '"' => {
                let mut literal = String::new();
                while let Some(character) = characters.next().filter(|character| *character != '"') {
                    match character {
                        '\\' if characters.next_if_eq(&'\n').is_some() => {
                            while characters.next_if(|character| character.is_whitespace()).is_some() {}
                        }
                        '\\' => literal.extend(characters.next()),
                        _ => literal.push(character),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
    }
    found
}

/// A message with `…` for each of its placeholders.
fn fixed(message: &str) -> String {
    let mut parts = message.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// An operator finds what to do about each line.
#[test]
fn every_warning_and_error_has_a_section_of_the_runbook() {
    // The text of these messages is a variable in the code.
    const VARIABLE: [&str; 5] =
        ["…", "…, and the messages on the channel are published again", "warn", "error", "trunkline::plugin"];
    let runbook = std::fs::read_to_string(root().join("docs/operations/runbook.md")).expect("the runbook");
    let (mut missing, mut seen) = (Vec::new(), 0);
    for file in sources().into_iter().flat_map(|source| rust_files(&source)) {
        if file.components().any(|part| part.as_os_str() == "simulation" || part.as_os_str() == "tests") {
            continue;
        }
        let text = code(&std::fs::read_to_string(&file).expect("a file")).join("\n");
        for call in
            ["warn!(", "error!("].iter().flat_map(|name| text.match_indices(name).map(|(at, _)| at + name.len()))
        {
            let Some(message) = literals(&text[call..]).pop().map(|message| fixed(&message)) else { continue };
            seen += 1;
            let is_there = runbook.contains(&format!("### `{message}")) || VARIABLE.contains(&message.as_str());
            if !is_there && !missing.contains(&message) {
                missing.push(message);
            }
        }
    }
    assert!(seen > 60, "hardly any line was found ({seen}): the check itself is broken");
    assert!(missing.is_empty(), "lines of the log without a section: {missing:#?}");
}
