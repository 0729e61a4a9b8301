//! Plugin files that appear, change, break and disappear.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::eventually;

use super::{Plugins, generation, guest, handled, marked, number, reached, refused, start};
use crate::bench::{Bench, binary, on_both_brokers};

const ROUTES: &str = r#"
plugin-dir = "$D"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-one]
from = "one"
plugin = "one"
[routes.$P-two]
from = "two"
plugin = "two"
"#;

async fn a_replaced_plugin_runs_and_no_consumer_is_touched(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("one", "echo", "");
    plugins.put("two", "echo", "");
    let daemon = start(&bench, ROUTES).await;
    assert_eq!(handled(&daemon, "one", "a").await["outcome"], "ack");
    let before = generation(&daemon);
    plugins.put("one", "rejecter", "");
    reached(&daemon, 2).await;
    let after = generation(&daemon);
    assert_ne!(before["plugins"]["one"]["digest"], after["plugins"]["one"]["digest"]);
    assert_eq!(before["plugins"]["two"], after["plugins"]["two"]);
    assert_eq!(handled(&daemon, "one", "b").await["reason"], "rejected", "the new one runs");
    assert_eq!(handled(&daemon, "two", "c").await["outcome"], "ack");
    assert_eq!(daemon.log().matches("route consumes").count(), 2, "each route subscribed once");
    assert_eq!(daemon.metric("trunkline_config_reloads_total{result=\"swapped\"}"), 2.0);
    assert!(daemon.terminate().await.success());
}

async fn a_broken_file_is_reported_within_a_second_and_changes_nothing(bench: Bench) {
    let plugins = Plugins::new(&bench);
    plugins.put("one", "echo", "");
    plugins.put("two", "echo", "");
    let daemon = start(&bench, ROUTES).await;
    assert_eq!(handled(&daemon, "one", "first").await["outcome"], "ack");
    let good = generation(&daemon);
    let mut slowest = Duration::ZERO;
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("cut short", guest("echo")[..2000].to_vec(), "not a component"),
        ("no wasm", b"hello".to_vec(), "not a component"),
        ("another world", guest("wrong-world"), "but a plugin must export"),
        ("wants more", guest("needs-kv"), "not granted"),
    ];
    for (name, bytes, why) in cases {
        let before = generation(&daemon)["last_refusal"].clone();
        let dropped = Instant::now();
        plugins.put_bytes("one", &bytes);
        let reasons = refused(&daemon, &before).await;
        slowest = slowest.max(dropped.elapsed());
        assert!(reasons.contains(why) && reasons.contains("one"), "{name}: {reasons}");
        assert_eq!(number(&daemon), 1, "{name}: the running plugin goes on");
        assert_eq!(generation(&daemon)["plugins"], good["plugins"], "{name}");
        assert_eq!(handled(&daemon, "one", name).await["outcome"], "ack", "{name}");
        assert_eq!(daemon.get("/health").0, 200, "{name}");
        let checked = std::process::Command::new(binary())
            .args(["check", "--broker", &bench.broker, "--state"])
            .arg(bench.path("other-state"))
            .arg("--config")
            .arg(bench.path("routes.toml"))
            .output()
            .expect("check runs");
        assert!(!checked.status.success(), "{name}: check says no as well");
        assert!(String::from_utf8_lossy(&checked.stderr).contains(why), "{name}: {checked:?}");
    }
    println!("{}: a broken file is reported after {slowest:?} at most", bench.broker);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(daemon.metric("trunkline_config_last_reload_successful"), 0.0);
    daemon.logged("the daemon refused a reload").await;
    plugins.put("one", "echo", "mended");
    reached(&daemon, 2).await;
    assert_eq!(daemon.metric("trunkline_config_last_reload_successful"), 1.0);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_still_written_is_not_read() {
    let bench = Bench::embedded();
    let plugins = Plugins::new(&bench);
    plugins.put("one", "echo", "");
    plugins.put("two", "echo", "");
    let daemon = start(&bench, ROUTES).await;
    let whole = marked("echo", "slowly");
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(plugins.file("one")).expect("open");
    for part in whole.chunks(whole.len() / 12 + 1) {
        file.write_all(part).expect("written");
        // The writer pauses for longer than the watcher waits for more changes.
        trunkline_telemetry::wait::after(Duration::from_millis(200)).await;
        assert_eq!(number(&daemon), 1, "half a file was taken");
    }
    assert_eq!(generation(&daemon)["last_refusal"], Value::Null, "half a file was looked at");
    drop(file);
    reached(&daemon, 2).await;
    assert_eq!(generation(&daemon)["last_refusal"], Value::Null);
    assert_eq!(handled(&daemon, "one", "x").await["outcome"], "ack");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_pointed_elsewhere_is_followed() {
    // The way Kubernetes mounts a ConfigMap: FILE -> ..data/FILE, ..data -> ..TIME, and ..data is replaced by a rename.
    let bench = Bench::embedded();
    let plugins = Plugins::new(&bench);
    let version = |name: &str, guest: &str| {
        let dir = plugins.dir.join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        for plugin in ["one", "two"] {
            std::fs::write(dir.join(format!("{plugin}.wasm")), super::guest(guest)).expect("a file");
        }
    };
    let point = |name: &str| {
        let link = plugins.dir.join("..tmp");
        std::os::unix::fs::symlink(name, &link).expect("a link");
        std::fs::rename(link, plugins.dir.join("..data")).expect("renamed");
    };
    version("..2026_1", "echo");
    point("..2026_1");
    for plugin in ["one", "two"] {
        std::os::unix::fs::symlink(format!("..data/{plugin}.wasm"), plugins.file(plugin)).expect("a link");
    }
    let daemon = start(&bench, ROUTES).await;
    assert_eq!(handled(&daemon, "one", "a").await["outcome"], "ack");
    for (round, guest, reason) in [(2, "rejecter", "rejected"), (3, "trapper", "trap")] {
        version(&format!("..2026_{round}"), guest);
        point(&format!("..2026_{round}"));
        std::fs::remove_dir_all(plugins.dir.join(format!("..2026_{}", round - 1))).expect("removed");
        reached(&daemon, round).await;
        let id = format!("r{round}");
        assert!(super::publish(&daemon, "one", &id));
        eventually(reason, || {
            let found = daemon.log().contains(reason);
            async move { found.then_some(()) }
        })
        .await;
    }
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_plugin_runs_on_from_memory() {
    let bench = Bench::embedded();
    let plugins = Plugins::new(&bench);
    plugins.put("one", "echo", "");
    plugins.put("two", "echo", "");
    let daemon = start(&bench, ROUTES).await;
    std::fs::remove_file(plugins.file("one")).expect("removed");
    reached(&daemon, 2).await;
    assert_eq!(generation(&daemon)["plugins"]["one"]["state"], "orphaned");
    assert_eq!(handled(&daemon, "one", "a").await["outcome"], "ack");
    daemon.logged("continues to run from memory").await;
    plugins.put("one", "echo", "back");
    reached(&daemon, 3).await;
    assert_eq!(generation(&daemon)["plugins"]["one"]["state"], "ready");
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    a_replaced_plugin_runs_and_no_consumer_is_touched,
    a_broken_file_is_reported_within_a_second_and_changes_nothing,
}
