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

/// A row of the page of tried programs names a test that exists. The name is a path of modules in `tests/e2e`.
#[test]
fn tried_programs_name_their_tests() {
    let page = std::fs::read_to_string(root().join("docs/reference/tried.md")).expect("the page");
    let files = rust_files(&root().join("tests/e2e"));
    let (mut missing, mut seen) = (Vec::new(), 0);
    for name in page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2)) {
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
            missing.push(name);
        }
    }
    assert!(seen > 10, "hardly any test was found ({seen}): the check itself is broken");
    assert!(missing.is_empty(), "docs/reference/tried.md names tests that do not exist: {missing:?}");
}
