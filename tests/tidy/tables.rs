//! Tables of the code and of the documentation that must agree.

use std::path::PathBuf;

use trunkline_event::Reason;
use trunkline_telemetry::wait::Loop;

use crate::source::{root, rust_files, sources};

/// The condition of a loop that no code runs is never raised.
#[test]
fn every_loop_runs_somewhere() {
    let is_table = |file: &PathBuf| file.ends_with("wait/loops.rs");
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

/// The page of tried programs.
fn tried() -> String {
    std::fs::read_to_string(root().join("docs/reference/tried.md")).expect("the page")
}

/// The texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A row of the page of tried programs names a test that exists. The name is a path of modules in `tests/e2e`.
#[test]
fn tried_programs_name_their_tests() {
    let files = rust_files(&root().join("tests/e2e"));
    let (page, mut missing, mut seen) = (tried(), Vec::new(), 0);
    for name in page.lines().filter(|line| line.starts_with('|')).flat_map(quoted) {
        let Some((modules, test)) = name.rsplit_once("::") else { continue };
        if name.contains(' ') {
            continue;
        }
        seen += 1;
        let place = root().join("tests/e2e").join(modules.replace("::", "/"));
        let is_module = |file: &&PathBuf| file.with_extension("").starts_with(&place);
        let has_test = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).expect("a file");
            text.contains(&format!("fn {test}(")) || text.contains(&format!("mod {test};"))
        };
        if !files.iter().filter(is_module).any(has_test) {
            missing.push(name.to_owned());
        }
    }
    assert!(seen > 10, "hardly any test was found ({seen}): the check itself is broken");
    assert!(missing.is_empty(), "docs/reference/tried.md names tests that do not exist: {missing:?}");
}

/// Each row of a table with the column `tests` names a test, or the command that runs the tests.
#[test]
fn each_tried_program_has_a_test() {
    let (page, mut has_tests, mut before, mut bad, mut seen) = (tried(), false, "", Vec::new(), 0);
    for line in page.lines() {
        let is_row = line.starts_with('|');
        if is_row && !before.starts_with('|') {
            has_tests = line.ends_with("| tests |");
        } else if is_row && has_tests && !line.starts_with("|---") {
            seen += 1;
            let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
            if !quoted(last).any(|name| name.contains("::") || name.starts_with("cargo xtask ")) {
                bad.push(line.to_owned());
            }
        }
        before = line;
    }
    assert!(seen > 30, "hardly any row was found ({seen}): the check itself is broken");
    assert!(bad.is_empty(), "rows of docs/reference/tried.md without a test: {bad:#?}");
}

/// The page has the version of each package that the end-to-end tests install, and of the daemon's own client.
#[test]
fn the_versions_of_tried_programs_are_the_versions_of_the_tests() {
    let (page, mut missing, mut seen) = (tried(), Vec::new(), 0);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let lapin = manifest.split("lapin = { version = \"=").nth(1).and_then(|rest| rest.split('"').next());
    let mut versions = vec![("Cargo.toml".to_owned(), lapin.expect("the version of lapin").to_owned())];
    for file in rust_files(&root().join("tests/e2e")) {
        let text = std::fs::read_to_string(&file).expect("a file");
        let is_version = |word: &&str| !word.is_empty() && word.split('.').all(|part| part.parse::<u32>().is_ok());
        // `"NAME==VERSION"`, and the second argument of `modules_with("NAME", "VERSION")`.
        let pinned = text.split('"').filter_map(|literal| literal.split_once("==")).map(|(_, version)| version);
        let modules = text.split("modules_with(\"").skip(1).filter_map(|rest| rest.split('"').nth(2));
        for version in pinned.chain(modules).filter(is_version) {
            versions.push((file.display().to_string(), version.to_owned()));
        }
    }
    for (file, version) in versions {
        seen += 1;
        if !page.contains(&format!(" {version}")) {
            missing.push(format!("{file}: {version}"));
        }
    }
    assert!(seen > 8, "hardly any version was found ({seen}): the check itself is broken");
    assert!(missing.is_empty(), "docs/reference/tried.md does not have the versions {missing:#?}");
}
