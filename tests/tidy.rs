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
