//! The explanation of a crash in the dead letter and in the log: functions, file, line, and the panic's text.

use std::path::PathBuf;

use super::{dead_letter, header, publish};
use crate::bench::{Bench, on_both_brokers};

/// Copies a guest into the test's own folder, with or without a debug file.
fn place(bench: &Bench, name: &str, debug_of: Option<&str>) -> PathBuf {
    let guests = trunkline_support::guests();
    let file = bench.path(&format!("{name}.wasm"));
    std::fs::copy(guests.join("deep.wasm"), &file).expect("the guest");
    if let Some(other) = debug_of {
        let debug = bench.path(&format!("{name}.debug.wasm"));
        std::fs::copy(guests.join(format!("{other}.debug.wasm")), debug).expect("its debug file");
    }
    file
}

fn route(name: &str, file: &std::path::Path) -> String {
    format!("[routes.$P-{name}]\nfrom = \"{name}\"\nplugin = \"{name}\"\n[plugins.{name}]\nfile = {file:?}\n")
}

const HEAD: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
retry = { max = 0 }
limits = { timeout = "20s" }
"#;

/// Checks that a text contains all words in this order.
fn assert_in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for part in wanted {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing, or comes too early, in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

async fn a_trap_names_functions_lines_and_text(bench: Bench) {
    let with = place(&bench, "with", Some("deep"));
    let without = place(&bench, "without", None);
    let wrong = place(&bench, "wrong", Some("echo"));
    let routes = HEAD.to_owned() + &route("with", &with) + &route("without", &without) + &route("wrong", &wrong);
    let line = |text: &str| {
        let source = include_str!("../../guests/deep/src/lib.rs");
        let number = source.lines().position(|line| line.contains(text)).expect(text) + 1;
        format!("deep/src/lib.rs:{number})")
    };
    let (first, second) = (line("second_floor(way, depth + 1) + 1"), line("cellar(way, depth + 1) + 1"));
    let (panicked, handler) = (line("panic!("), line("first_floor(way, 1)"));
    let words = "the cellar is flooded at depth 3";
    let unreachable = "wasm `unreachable` instruction executed";
    let expected: [(&str, Vec<&str>); 3] = [
        (
            "with",
            vec![
                words,
                unreachable,
                "\n  at deep::cellar (",
                &panicked,
                "\n  at deep::second_floor (",
                &second,
                "\n  at deep::first_floor (",
                &first,
                "\n  at handle (",
                &handler,
            ],
        ),
        (
            "without",
            vec![words, unreachable, "\n  at deep::cellar\n", "at deep::second_floor\n", "at deep::first_floor\n"],
        ),
        (
            "wrong",
            vec![
                words,
                "\n  at deep::cellar\n",
                "at deep::first_floor\n",
                "(wrong.debug.wasm does not match wrong.wasm)",
            ],
        ),
    ];

    let daemon = bench.start(&routes).await;
    for (name, _) in &expected {
        let settled = daemon.settled(&publish(&daemon, name, "panic")).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&"dead_letter".into(), &"trap".into()), "{settled}");
    }
    let log = daemon.log();
    assert!(daemon.terminate().await.success());
    for (name, wanted) in &expected {
        let letter = dead_letter(&bench, &routes, name).await;
        let error = header(&letter, "trunkline-error");
        println!("{name}: {error}");
        assert_in_order(error, wanted);
        assert!(!error.contains("17h") && !error.contains("RUST_BACKTRACE"), "{error}");
        assert!(header(&letter, "trunkline-log").contains("going down"));
        let escaped = serde_json::to_string(error).expect("a text");
        assert!(log.contains(escaped.trim_matches('"')), "the log has the same text: {error}");
    }
    assert!(log.contains("wrong.debug.wasm does not match wrong.wasm; backtraces of the plugin show no source lines"));
}

async fn other_traps_name_the_place_too(bench: Bench) {
    let file = place(&bench, "deep", Some("deep"));
    let routes = HEAD.to_owned() + &route("deep", &file);
    let cases = [
        ("overflow", vec!["a number that is large enough", "at deep::cellar (", "at deep::second_floor ("]),
        ("index", vec!["index out of bounds: the len is 3", "at deep::cellar (", "at deep::first_floor ("]),
        ("unreachable", vec!["unreachable", "at deep::cellar (", "at deep::second_floor ("]),
        (
            "ladder",
            vec![
                "call stack exhausted; the limit of a plugin's call stack is 512 KiB",
                "at deep::endless_ladder (",
                " times",
            ],
        ),
        (
            "stack",
            vec![
                "call stack exhausted: the stack in the plugin's memory is full (",
                "out of bounds memory access",
                "at deep::endless_stairs (",
                " times",
            ],
        ),
    ];
    for (way, wanted) in cases {
        let daemon = bench.start(&routes).await;
        let settled = daemon.settled(&publish(&daemon, "deep", way)).await;
        assert_eq!(settled["reason"], "trap", "{settled}");
        assert!(daemon.terminate().await.success());
        let letter = dead_letter(&bench, &routes, "deep").await;
        let error = header(&letter, "trunkline-error");
        println!("{way}: {error}");
        assert_in_order(error, &wanted);
    }
}

on_both_brokers! {
    a_trap_names_functions_lines_and_text,
    other_traps_name_the_place_too,
}
