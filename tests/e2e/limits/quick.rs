//! Large plugins: quick code handles events until the optimised code is ready.

use std::path::PathBuf;

use serde_json::Value;
use trunkline_support::{Daemon, eventually, handmade};

use super::compile::compiler_of;
use super::publish;
use crate::bench::Bench;

/// Functions of the component. Its optimised code takes some seconds.
const FUNCTIONS: usize = 40_000;
/// Bytes that make the component a large one.
const PADDING_BYTES: usize = 3 << 20;

const SMALL: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-small]
from = "small"
plugin = "echo"
"#;

const LARGE: &str = r#"
[routes.$P-large]
from = "large"
plugin = "large"
[plugins.large]
file = "large.wasm"
"#;

/// A small and a large plugin.
fn both() -> String {
    [SMALL, LARGE].concat()
}

/// A bench with a large plugin, and with a code cache of its own.
fn bench() -> Bench {
    let bench = Bench::embedded();
    std::fs::create_dir_all(bench.state().join("compiled")).expect("a directory");
    std::fs::write(bench.path("large.wasm"), handmade::padded(handmade::many_functions(FUNCTIONS), PADDING_BYTES))
        .expect("a file");
    bench
}

fn generation(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.get("/api/v1/generation").1).expect("JSON")
}

/// Files of quick code in the code cache.
fn quick_files(bench: &Bench) -> Vec<PathBuf> {
    let files = std::fs::read_dir(bench.state().join("compiled")).expect("the cache");
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    files.filter(|file| file.to_string_lossy().ends_with(".quick.cwasm")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_plugin_serves_before_its_optimised_code_is_ready() {
    let bench = bench();
    let daemon = bench.start(&both()).await;
    assert_eq!(daemon.settled(&publish(&daemon, "large", "first")).await["outcome"], "ack");
    let plugins = &generation(&daemon)["plugins"];
    assert_eq!((&plugins["large"]["code"], &plugins["echo"]["code"]), (&"quick".into(), &"optimised".into()));
    assert_eq!(quick_files(&bench).len(), 1, "a restart begins with the quick code");
    // The end of the daemon loses no code that is ready.
    assert!(daemon.terminate().await.success());

    let daemon = bench.start(&both()).await;
    let loads = "trunkline_plugin_loads_total{plugin=\"large\",result=\"ok\",cache=\"hit\"}";
    assert!((daemon.metric(loads) - 1.0).abs() < f64::EPSILON, "the cache had the quick code");
    let before = generation(&daemon)["number"].clone();
    let log = daemon.logged("the optimised code of a plugin is ready").await;
    assert!(log.contains("the compilation of optimised code begins; the plugin uses quick code"), "{log}");
    let after = generation(&daemon);
    assert_eq!((&after["plugins"]["large"]["code"], &after["number"]), (&"optimised".into(), &before));
    assert_eq!(daemon.settled(&publish(&daemon, "large", "second")).await["outcome"], "ack");
    assert!(quick_files(&bench).is_empty(), "the optimised code replaces the quick code");
    assert!(daemon.terminate().await.success());

    let daemon = bench.start(&both()).await;
    assert_eq!(generation(&daemon)["plugins"]["large"]["code"], "optimised", "a restart uses the optimised code");
    assert_eq!(daemon.settled(&publish(&daemon, "large", "third")).await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_plugin_ends_its_compiler() {
    let bench = bench();
    let daemon = bench.start(&both()).await;
    let pid = daemon.pid();
    eventually("the compiler of the optimised code", || async move { compiler_of(pid) }).await;
    bench.write_routes(SMALL);
    eventually("the end of the compiler", || async move { compiler_of(pid).is_none().then_some(()) }).await;
    let log = daemon.log();
    assert!(
        !log.contains("the optimised code of a plugin is ready"),
        "the compiler was too quick for this test: {log}"
    );
    assert_eq!(daemon.settled(&publish(&daemon, "small", "x")).await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
}
