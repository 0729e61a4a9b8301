//! The length of files, the names of the parts that are for the simulator, and the file that compares versions of RabbitMQ.

use std::path::Path;

use crate::source::{code, root, rust_files, sources};

/// Well before this a file is split by subject.
const LINES_MAX: usize = 400;

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

/// Only the simulator may confirm messages that were not published.
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

/// Behaviour that differs by version stands in one file, so that a new version of RabbitMQ is added in one place.
#[test]
fn only_one_file_compares_versions_of_the_broker() {
    let is_there = |file: &Path| {
        let text = std::fs::read_to_string(file).expect("a file");
        code(&text).iter().any(|line| line.contains("version.number()"))
    };
    let files = sources().into_iter().flat_map(|source| rust_files(&source));
    let found: Vec<_> = files.filter(|file| is_there(file)).collect();
    assert_eq!(found, [root().join("host/broker/src/amqp/features.rs")]);
}
