//! `trunkline new`, as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use xtask::languages::LANGUAGES;

use super::compile;
use crate::bench::{Bench, binary};

fn new(bench: &Bench, arguments: &[&str]) -> Output {
    std::fs::create_dir_all(bench.path("work")).expect("a folder");
    let mut command = Command::new(binary());
    command.arg("new").args(arguments).current_dir(bench.path("work")).output().expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_build_and_answer_in_every_language() {
    let bench = Bench::embedded();
    let mut routes = String::from("[defaults]\nexchange = { name = \"$P-events\", type = \"topic\" }\n");
    routes += "limits = { timeout = \"20s\" }\n";
    for language in LANGUAGES {
        // The printed commands run in the new folder: tests and build.
        let component = xtask::languages::plugin(Path::new(binary()), language, "greeter", None);
        let component = component.unwrap_or_else(|error| panic!("{language}: {error:#}"));
        let file = component.display();
        routes += &format!("[plugins.{language}]\nfile = \"{file}\"\n[routes.$P-{language}]\n");
        routes += &format!("from = \"{language}.said\"\nplugin = \"{language}\"\n");
    }
    compile(&bench, &routes);
    let daemon = bench.start(&routes).await;
    for language in LANGUAGES {
        for (data, outcome) in [(r#"{"name":"Zoë \"Z\""}"#, "ack"), (r#"{"name":7}"#, "dead_letter")] {
            let body = format!(r#"{{"type":"{language}.said","data":{data}}}"#);
            let (_, accepted) = daemon.post("/api/v1/events", &body);
            let end = daemon.settled(accepted["id"].as_str().expect("an id")).await;
            assert_eq!(end["outcome"], outcome, "{language}: {end}");
            let emitted: Vec<Value> = serde_json::from_str(end["emitted"].as_str().expect("a list")).expect("JSON");
            assert_eq!(emitted.len(), usize::from(outcome == "ack"), "{language}: {end}");
            if outcome == "ack" {
                assert_eq!(emitted[0]["type"], "hello.answered", "{language}");
                assert_eq!(emitted[0]["data"], r#"{"text":"Hello, Zoë \"Z\"!"}"#, "{language}");
            }
        }
    }
}

#[test]
fn a_folder_is_made_once_and_its_name_is_looked_at() {
    let bench = Bench::embedded();
    let made = new(&bench, &["my-greeter", "--lang", "c"]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success() && said.contains("cd my-greeter\n    make test\n    make\n"), "{made:?}");
    let again = new(&bench, &["my-greeter", "--lang", "js"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("my-greeter exists already"), "{again:?}");
    for (arguments, word) in [
        (&["My_Greeter", "--lang", "c"][..], "lower-case"),
        (&["../up", "--lang", "c"], "lower-case"),
        (&["a", "--lang", "cobol"], "rust, js, python, c"),
        (&["a"], "--lang"),
        (&["a", "--lang", "c", "--sdk", "."], "--sdk"),
    ] {
        let refused = new(&bench, arguments);
        assert_eq!(refused.status.code(), Some(64), "{arguments:?}: {refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(word), "{arguments:?}: {refused:?}");
    }
    let left = std::fs::read_dir(bench.path("work")).expect("a folder").count();
    assert_eq!(left, 1, "nothing is left behind");
}

#[test]
fn rust_may_depend_on_an_sdk_of_ones_own() {
    let bench = Bench::embedded();
    let sdk = xtask::root().join("plugins/sdk");
    let sdk = sdk.to_str().expect("UTF-8");
    let made = new(&bench, &["greeter", "--lang", "rust", "--path", "deep/below", "--sdk", sdk]);
    assert!(made.status.success(), "{made:?}");
    let manifest = std::fs::read_to_string(bench.path("work/deep/below/Cargo.toml")).expect("a manifest");
    assert!(manifest.contains(&format!("path = \"{sdk}\"")), "{manifest}");
    assert!(!bench.path("work/deep/below/vendor").exists(), "no copy beside it");
}

#[test]
fn wrap_refuses_files_that_are_not_modules() {
    let bench = Bench::embedded();
    let wrap = |module: &Path| {
        Command::new(binary()).arg("wrap").arg(module).arg("--out").arg(bench.path("out.wasm")).output().expect("runs")
    };
    let text = bench.path("text");
    std::fs::write(&text, "text").expect("a file");
    assert_eq!(wrap(&text).status.code(), Some(65));
    assert_eq!(wrap(&bench.path("none")).status.code(), Some(66));
    let component = wrap(&trunkline_support::guests().join("echo.wasm"));
    assert!(String::from_utf8_lossy(&component.stderr).contains("already a component"), "{component:?}");
}
