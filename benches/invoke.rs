//! The cost of a fresh instance and a call: `callback-task` with an event of 200 bytes and of 64 KiB. Run by `cargo xtask
//! bench invoke`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_config::Plugin;
use trunkline_event::{CallOutcome, Event, PluginName};
use trunkline_plugin_host::{Compiler, Engine, HostAnswers, load};

const WARM_UP: usize = 2_000;
const CALLS: usize = 50_000;
/// Bytes of the data of a small event and of a large event.
const SMALL_BYTES: usize = 200;
const LARGE_BYTES: usize = 64 << 10;
const ROUNDS: usize = 5;

fn main() {
    let plugins =
        std::env::var_os("TRUNKLINE_BENCH_PLUGINS").map(PathBuf::from).expect("run `cargo xtask bench invoke`");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&plugins.join("callback-task.wasm")));
}

async fn measure(file: &std::path::Path) {
    let state = tempfile::tempdir().expect("a directory");
    let engine = Engine::new(&state.path().join("compiled"), Compiler::in_process()).expect("the engine starts");
    let name = PluginName::new("callback-task").expect("a name");
    let plugin = Plugin::of(file.to_owned());
    let mut loaded = load(&engine, &BTreeMap::from([(name.clone(), plugin)])).await;
    let ready = loaded.remove(&name).expect("loaded").expect("a plugin");
    println!("loaded in {:?}", ready.load_time);
    let cases = [
        ("a task", "callback_requested", SMALL_BYTES),
        ("no task", "completed", SMALL_BYTES),
        ("a task of 64 KiB", "callback_requested", LARGE_BYTES),
        ("no task of 64 KiB", "completed", LARGE_BYTES),
    ];
    for (case, outcome, bytes) in cases {
        let event = Arc::new(event(outcome, bytes));
        for _ in 0..WARM_UP {
            check(&ready.invoke(&event, HostAnswers::Live).await.outcome);
        }
        let mut medians = Vec::new();
        for _ in 0..ROUNDS {
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let started = Instant::now();
                let invocation = ready.invoke(&event, HostAnswers::Live).await;
                times.push(started.elapsed());
                check(&invocation.outcome);
            }
            times.sort_unstable();
            medians.push((times[CALLS / 2], times[CALLS * 99 / 100]));
        }
        medians.sort_unstable();
        let (median, p99) = medians[ROUNDS / 2];
        println!(
            "{case}: median {} p99 {} ({} bytes, {CALLS} calls, middle of {ROUNDS} rounds)",
            micros(median),
            micros(p99),
            event.data.len()
        );
    }
}

fn check(outcome: &CallOutcome) {
    assert!(matches!(outcome, CallOutcome::Emitted(_)), "{outcome:?}");
}

fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}

fn event(outcome: &str, bytes: usize) -> Event {
    let mut data = format!(
        r#"{{"call_id":"5a1d2a8c-0f6e-4b0e-9a55-6f6f1f0c9a01","duration":184,"outcome":"{outcome}","transcript":""#
    );
    while data.len() < bytes - 2 {
        data.push('x');
    }
    data.push_str("\"}");
    Event {
        id: "0190a5d2-0f6e-7b0e-9a55-6f6f1f0c9a01".into(),
        own_id: true,
        source: "communications".into(),
        kind: "call.ended".into(),
        subject: None,
        time: Some("2026-11-21T10:00:00Z".into()),
        content_type: "application/json".into(),
        data: data.into(),
        routing_key: "comms.call.ended".into(),
        exchange: "ocelot.events".into(),
        tenant: Some("org-1".into()),
        user: Some("user-7".into()),
        attempt: 1,
        attributes: vec![("version".into(), "1.0.0".into())],
        correlation_id: Some("0190a5d2-0f6e-7b0e-9a55-6f6f1f0c9a01".into()),
        reply_to: None,
        content_encoding: None,
        redelivered: false,
        hops: 0,
        traceparent: None,
    }
}
