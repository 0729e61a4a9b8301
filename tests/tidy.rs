//! The rules of the house that a program can check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trunkline_event::Reason;
use trunkline_telemetry::wait::Loop;

/// The order of the modules of the crate `daemon`: each may import those that it names, so there are no circles. The order of
/// the crates is Cargo's.
const MAY_IMPORT: [(&str, &[&str]); 4] =
    [("reload", &[]), ("daemon", &["reload"]), ("scaffold", &[]), ("main", &["daemon", "scaffold"])];

/// Outside crates that only these crates may name, and modules of the crate `daemon`.
const OWNERS: [(&str, &[&str]); 29] = [
    ("hmac", &["http", "event"]),
    ("utoipa", &["http"]),
    ("jsonschema", &["config"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("toml", &["config"]),
    ("wasmtime", &["plugin"]),
    ("wasmtime_wasi", &["plugin"]),
    ("wasmtime_wasi_http", &["plugin"]),
    ("hyper", &["plugin", "http"]),
    ("hyper_util", &["http"]),
    ("tokio_rustls", &["plugin", "route"]),
    ("rustls_native_certs", &["plugin"]),
    ("minisign_verify", &["plugin"]),
    ("lapin", &["broker"]),
    ("async_rs", &["broker"]),
    ("futures_io", &["broker"]),
    ("redb", &["broker", "state"]),
    ("axum", &["http"]),
    ("object_store", &["route"]),
    ("flate2", &["route"]),
    ("utoipa_axum", &["http"]),
    ("utoipa_swagger_ui", &["http"]),
    ("notify", &["reload"]),
    ("wasi_preview1_component_adapter_provider", &["scaffold"]),
    ("wasmparser", &["scaffold", "plugin"]),
    ("wit_component", &["scaffold"]),
    ("wit_parser", &["scaffold"]),
    ("clap", &["main"]),
];

/// Well before this a file is split by subject.
const LINES_MAX: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The source folders of the daemon's crates.
fn sources() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("host")).expect("host").map(|entry| entry.expect("an entry").path());
    let mut sources: Vec<PathBuf> = crates.map(|path| path.join("src")).filter(|path| path.is_dir()).collect();
    sources.sort();
    sources
}

/// The crate of a file below `host`, or its module where it is in the crate `daemon`.
fn module(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("host")).expect("below host");
    let relative = relative.strip_prefix("daemon/src").unwrap_or(relative);
    let first = relative.components().next().expect("a part").as_os_str().to_string_lossy().into_owned();
    match first.trim_end_matches(".rs") {
        "cli" => "main".to_owned(),
        other => other.to_owned(),
    }
}

/// Code lines: no comments, no text of tests.
fn code(text: &str) -> Vec<&str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

fn words_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        found.push(&rest[..end]);
    }
    found
}

#[test]
fn modules_import_downwards_only() {
    let may: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    let mut bad = Vec::new();
    let mut seen = 0;
    for file in rust_files(&root().join("host/daemon/src")) {
        let module = module(&file);
        if module == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a file");
        for line in code(&text) {
            let prefix = if module == "main" { "trunkline::" } else { "crate::" };
            for imported in words_after(line, prefix) {
                let is_module = may.contains_key(imported);
                seen += usize::from(is_module);
                if is_module && imported != module && !may[module.as_str()].contains(&imported) {
                    bad.push(format!("{}: {module} imports {imported}", file.display()));
                }
            }
        }
    }
    assert!(seen > 10, "hardly any import was found ({seen}): the check itself is broken");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn outside_crates_have_one_owner() {
    let mut bad = Vec::new();
    for file in sources().iter().flat_map(|source| rust_files(source)) {
        let (module, text) = (module(&file), std::fs::read_to_string(&file).expect("a file"));
        for (outside, owners) in OWNERS {
            let names_it = code(&text).iter().any(|line| !words_after(line, &format!("{outside}::")).is_empty());
            if names_it && !owners.contains(&module.as_str()) {
                bad.push(format!("{}: only {} may name {outside}", file.display(), owners.join(" and ")));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn files_are_read_at_a_sitting_and_say_what_they_own() {
    let mut bad = Vec::new();
    let folders = ["plugins", "tests", "xtask/src", "benches"].map(|folder| root().join(folder));
    for folder in sources().into_iter().chain(folders) {
        for file in rust_files(&folder) {
            let text = std::fs::read_to_string(&file).expect("a file");
            let lines = text.lines().count();
            if lines > LINES_MAX {
                bad.push(format!("{}: {lines} lines; split it by subject", file.display()));
            }
            if !text.starts_with("//!") && !file.ends_with("tests.rs") {
                bad.push(format!("{}: does not open with what it owns", file.display()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// What confirms messages that nobody published is for the model of a broker.
#[test]
fn only_the_simulator_models_a_broker() {
    let is_model = |file: &Path| file.components().any(|part| part.as_os_str() == "simulation");
    let mut seen = 0;
    for file in sources().into_iter().flat_map(|source| rust_files(&source)) {
        let names_it =
            code(&std::fs::read_to_string(&file).expect("a file")).iter().any(|line| line.contains("amqp::parts"));
        assert!(!names_it || is_model(&file), "{} names the parts for the simulator", file.display());
        seen += usize::from(names_it);
    }
    assert!(seen > 2, "the simulator names them no more: the check itself is broken");
}

/// A shell line of a page is run by `cargo xtask docs`, or the page says after its block why not.
#[test]
fn shell_lines_of_the_documentation_run() {
    const COMMANDS: [&str; 4] = ["trunkline ", "cargo ", "curl ", "$ "];
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs/tutorial", "docs/how-to"] {
        let found =
            std::fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
        pages.extend(found.filter(|page| page.extension().is_some_and(|extension| extension == "md")));
    }
    let (mut bad, mut blocks) = (Vec::new(), 0);
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        let mut fence = None;
        let mut lines = text.lines().enumerate().peekable();
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

/// Whoever is woken by a line finds what to do.
#[test]
fn every_warning_and_error_has_a_section_of_the_runbook() {
    // Messages that are a variable, and have a section of their own.
    const VARIABLE: [&str; 5] = ["…", "…, and what was on it is published again", "warn", "error", "trunkline::plugin"];
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

/// A loop that only its table names leaves its condition to nobody.
#[test]
fn every_loop_runs_somewhere() {
    let is_table = |file: &PathBuf| file.ends_with("wait.rs");
    let files = sources().into_iter().flat_map(|source| rust_files(&source)).filter(|file| !is_table(file));
    let code = files.map(|file| std::fs::read_to_string(file).expect("a file")).collect::<String>();
    let unused: Vec<_> = Loop::ALL.iter().filter(|of| !code.contains(&format!("Loop::{of:?}"))).collect();
    assert!(unused.is_empty(), "in the table of `wait` and nowhere else: {unused:?}");
}

#[test]
fn the_readme_lists_every_reason() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let table = readme.split("| reason |").nth(1).expect("a table of reasons");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let listed: Vec<&str> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(listed, Reason::ALL.map(Reason::as_str), "the table and the enum differ");
}

#[test]
fn sample_routes_name_the_plugins_that_we_ship() {
    let mut files = vec![root().join("routes.toml")];
    for example in std::fs::read_dir(root().join("examples")).expect("examples") {
        files.push(example.expect("an entry").path().join("routes.toml"));
    }
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>();
    for plugin in xtask::wasm::PLUGINS {
        assert!(texts.contains(&format!("\"{plugin}\"")), "neither routes.toml nor an example uses {plugin}");
        assert!(trunkline_support::plugins().join(format!("{plugin}.wasm")).exists(), "{plugin} is not built");
    }
}
