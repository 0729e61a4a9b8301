//! Live reload: a generation takes effect as a whole, or the running generation stays.

mod files;
mod routes;
mod series;
mod signals;
mod swaps;

use std::path::PathBuf;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use crate::bench::Bench;

/// A file with one route, which the tests do not remove.
const STAYS: &str = r#"
plugin-dir = "$D"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-stays]
from = "stays"
plugin = "echo"
"#;

/// A plugin folder of the test, with guests under any names.
struct Plugins {
    dir: PathBuf,
}

impl Plugins {
    fn new(bench: &Bench) -> Self {
        let dir = bench.path("plugins");
        std::fs::create_dir_all(&dir).expect("a folder");
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.wasm"))
    }

    /// Puts a whole guest there, as `mv` does. `mark` gives it another digest.
    fn put(&self, name: &str, guest: &str, mark: &str) {
        self.put_bytes(name, &marked(guest, mark));
    }

    fn put_bytes(&self, name: &str, bytes: &[u8]) {
        let temporary = self.dir.join(format!(".{name}.tmp"));
        std::fs::write(&temporary, bytes).expect("a file");
        std::fs::rename(&temporary, self.file(name)).expect("renamed");
    }
}

fn guest(name: &str) -> Vec<u8> {
    std::fs::read(trunkline_support::guests().join(format!("{name}.wasm"))).expect("a guest")
}

/// A guest with one more custom section: the same code with another digest.
fn marked(name: &str, mark: &str) -> Vec<u8> {
    let mut bytes = guest(name);
    if !mark.is_empty() {
        let mut section = vec![u8::try_from(mark.len()).expect("a short mark")];
        section.extend(mark.bytes());
        bytes.push(0);
        bytes.push(u8::try_from(section.len()).expect("a short section"));
        bytes.extend(section);
    }
    bytes
}

fn generation(daemon: &Daemon) -> Value {
    let (status, body) = daemon.get("/api/v1/generation");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

fn number(daemon: &Daemon) -> u64 {
    generation(daemon)["number"].as_u64().expect("a number")
}

async fn reached(daemon: &Daemon, wanted: u64) {
    eventually(&format!("generation {wanted}"), || {
        let is_there = number(daemon) >= wanted;
        async move { is_there.then_some(()) }
    })
    .await;
}

/// Waits for the next refusal, and gives its reasons as one text.
async fn refused(daemon: &Daemon, before: &Value) -> String {
    eventually("a refusal", || {
        let last = generation(daemon)["last_refusal"].clone();
        let found = (last != *before).then(|| last["errors"].to_string());
        async move { found }
    })
    .await
}

fn publish(daemon: &Daemon, kind: &str, id: &str) -> bool {
    let body = json!({ "type": kind, "id": id, "data": { "n": 1 } }).to_string();
    let (status, accepted) = daemon.post("/api/v1/events", &body);
    assert_eq!(status, 202, "{accepted}");
    accepted["routed"] == true
}

async fn handled(daemon: &Daemon, kind: &str, id: &str) -> Value {
    assert!(publish(daemon, kind, id), "{kind} has a queue");
    daemon.settled(id).await
}

/// Replaces routes.toml as an editor does.
fn rewrite(bench: &Bench, routes: &str) {
    let file = bench.path("routes.toml");
    let temporary = bench.path(".routes.toml.tmp");
    std::fs::write(&temporary, text(bench, routes)).expect("a file");
    std::fs::rename(&temporary, &file).expect("renamed");
}

fn text(bench: &Bench, routes: &str) -> String {
    routes.replace("$P", &bench.prefix).replace("$D", &bench.path("plugins").display().to_string())
}

/// Writes routes.toml with the test's own plugin folder, and starts.
async fn start(bench: &Bench, routes: &str) -> Daemon {
    bench.start(&text(bench, routes)).await
}
