//! State of plugins: durable before the outcome counts, apart by tenant, counted exactly, bounded.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trunkline_support::{Daemon, eventually};

use super::{answer, publish, refusal};
use crate::bench::{Bench, message};
use crate::faults::Mount;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
retry = { max = $R, delay = "200ms" }
limits = { timeout = "10s" }
[routes.$P-keep]
from = "keep"
plugin = "keeper"
[plugins.keeper]
allow = { kv = $K }
"#;

fn routes(kv: &str, retries: u32) -> String {
    ROUTES.replace("$K", kv).replace("$R", &retries.to_string())
}

const FAILED: &str = "trunkline_condition{condition=\"state-failed\",subject=\"\"}";

async fn keep(daemon: &Daemon, tenant: Option<&str>, steps: Value) -> Value {
    answer(daemon, "keep", tenant, &steps).await
}

/// The ids of acknowledged events, from the log.
fn acknowledged(daemon: &Daemon) -> BTreeSet<String> {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let settled = lines.filter(|line| line["message"] == "settled" && line["outcome"] == "ack");
    settled.filter_map(|line| line["event"].as_str().map(str::to_owned)).collect()
}

async fn survives_a_kill(bench: Bench) {
    const EVENTS: usize = 400;
    // The work takes some seconds, so that the kill comes in the middle.
    let routes = routes("true", 5).replace("plugin = \"keeper\"\n", "plugin = \"keeper\"\nrate = \"50/s\"\n");
    let append = json!([{ "op": "append", "key": "seen" }, { "op": "increment", "key": "n", "by": 1 }]).to_string();
    let published = (0..EVENTS).map(|number| format!("e-{number}")).collect::<BTreeSet<_>>();
    let exchange = format!("{}-events", bench.prefix);
    // The events wait before the daemon starts, so that the kill comes in the middle of the work.
    let broker = bench.open(&routes).await;
    let batch = published.iter().map(|id| message(&exchange, "keep", id, append.clone())).collect::<Vec<_>>();
    drop(broker.publish(batch).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = bench.start(&routes).await;
    eventually("some are acknowledged", || {
        let enough = acknowledged(&daemon).len() >= 20;
        async move { enough.then_some(()) }
    })
    .await;
    daemon.signal("KILL");
    let pid = daemon.pid();
    eventually("the process has ended", || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = state.is_empty() || state.contains(") Z ");
        async move { gone.then_some(()) }
    })
    .await;
    let acked = acknowledged(&daemon);
    assert!(acked.len() < EVENTS, "the kill came too late to show anything");
    assert!(daemon.ended().await.code().is_none(), "killed");

    let daemon = bench.start(&routes).await;
    let lines = |told: &Value| told[0].as_str().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let get = json!([{ "op": "get", "key": "seen" }, { "op": "get", "key": "n" }]);
    let first = lines(&keep(&daemon, None, get.clone()).await).into_iter().collect::<BTreeSet<_>>();
    assert!(acked.is_subset(&first), "lost: {:?}", acked.difference(&first));
    let told = eventually("all ids are stored", || {
        let (daemon, get, published) = (&daemon, get.clone(), &published);
        async move {
            let told = keep(daemon, None, get).await;
            let seen = lines(&told).into_iter().collect::<BTreeSet<_>>();
            published.is_subset(&seen).then_some(told)
        }
    })
    .await;
    let seen = lines(&told);
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len(), "compare-and-set lost or doubled nothing");
    let count = told[1].as_str().and_then(|text| text.parse::<usize>().ok()).expect("a number");
    assert!(count >= EVENTS, "{count} of at least {EVENTS}");
    println!("{} acknowledged before the kill, {count} increments for {EVENTS} events", acked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_a_call_survives_a_kill_embedded() {
    survives_a_kill(Bench::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_a_call_survives_a_kill_amqp() {
    survives_a_kill(Bench::amqp()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_never_sees_anothers() {
    let text = routes("true", 0)
        + "[routes.$P-other]\nfrom = \"other\"\nplugin = \"keeper2\"\n[plugins.keeper2]\nfile = \"$G\"\nallow = { kv = true }\n";
    let guest = trunkline_support::guests().join("keeper.wasm");
    let daemon = Bench::embedded().start(&text.replace("$G", guest.to_str().expect("a path"))).await;
    let tenants = [None, Some("org-a"), Some("org-b"), Some("=org-a"), Some("none")];
    for tenant in tenants {
        let canary = format!("canary-of-{tenant:?}");
        let before = keep(&daemon, tenant, json!([{ "op": "get", "key": "k" }, { "op": "keys" }])).await;
        assert_eq!(before, json!([null, []]), "{tenant:?} finds nothing");
        let own = format!("own-{tenant:?}");
        keep(
            &daemon,
            tenant,
            json!([{ "op": "set", "key": "k", "value": canary }, { "op": "set", "key": own, "value": "" }]),
        )
        .await;
    }
    for tenant in tenants {
        let told = keep(&daemon, tenant, json!([{ "op": "get", "key": "k" }, { "op": "keys" }])).await;
        assert_eq!(told, json!([format!("canary-of-{tenant:?}"), ["k", format!("own-{tenant:?}")]]));
    }
    let other = answer(&daemon, "other", Some("org-a"), &json!([{ "op": "keys" }])).await;
    assert_eq!(other, json!([[]]), "another plugin, though from the same file");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_at_a_time_lose_nothing() {
    const EACH: usize = 20;
    let daemon = Bench::embedded().start(&routes("true", 20)).await;
    let work = json!([{ "op": "increment", "key": "n", "by": 1 }, { "op": "append", "key": "seen" }]);
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..EACH).for_each(|_| drop(publish(&daemon, "keep", Some("t"), &work))));
        }
    });
    let wanted = 16 * EACH;
    eventually("all are handled", || {
        let done = acknowledged(&daemon).len() == wanted;
        async move { done.then_some(()) }
    })
    .await;
    println!("{wanted} events with an increment and a compare-and-set each: {:?}", started.elapsed());
    let get = json!([{ "op": "get", "key": "n" }, { "op": "get", "key": "seen" }]);
    let told = keep(&daemon, Some("t"), get).await;
    assert_eq!(told[0], wanted.to_string(), "no increment is lost");
    assert_eq!(told[1].as_str().expect("a list").lines().count(), wanted, "no compare-and-set is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_sizes_hold_and_a_trap_takes_nothing_back() {
    let daemon = Bench::embedded().start(&routes("{ quota = \"4KiB\", keys = 3 }", 0)).await;
    let dead = async |steps: Value, reason: &str| {
        let id = publish(&daemon, "keep", Some("t"), &steps);
        let settled = daemon.settled(&id).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&json!("dead_letter"), &json!(reason)), "{settled}");
    };
    dead(json!([{ "op": "set", "key": "kept", "value": "before the trap" }, { "op": "trap" }]), "trap").await;
    let get = json!([{ "op": "get", "key": "kept" }]);
    assert_eq!(keep(&daemon, Some("t"), get.clone()).await, json!(["before the trap"]));
    dead(json!([{ "op": "fill", "key": "big", "bytes": 5000 }]), "exhausted").await;
    dead(json!([{ "op": "fill", "key": "", "bytes": 1 }]), "exhausted").await;
    let three = json!([{ "op": "set", "key": "a", "value": "" }, { "op": "set", "key": "b", "value": "" }]);
    keep(&daemon, Some("t"), three).await;
    dead(json!([{ "op": "set", "key": "c", "value": "" }]), "exhausted").await;
    keep(&daemon, Some("u"), json!([{ "op": "fill", "key": "big", "bytes": 4000 }])).await;
    keep(&daemon, Some("t"), json!([{ "op": "delete", "key": "a" }, { "op": "set", "key": "c", "value": "" }])).await;
    assert_eq!(keep(&daemon, Some("t"), get).await, json!(["before the trap"]));
    daemon.logged("the quota of 4096 bytes is exceeded").await;
    daemon.logged("the quota of 3 keys is exceeded").await;
    let limited = "trunkline_plugin_host_calls_total{plugin=\"keeper\",interface=\"kv\",outcome=\"limited\"}";
    assert_eq!(daemon.metric(limited), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_retry_and_ends_with_the_fullness() {
    let bench = Bench::amqp();
    std::fs::create_dir_all(bench.state()).expect("a directory");
    let _mount = Mount::small(&bench.state(), 24);
    let routes = routes("true", 20).replace("delay = \"200ms\"", "delay = \"1s\", multiplier = 1.0");
    let daemon = bench.start(&routes).await;
    keep(&daemon, None, json!([{ "op": "set", "key": "before", "value": "1" }])).await;
    let filler = bench.state().join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let fill = |number: usize| json!({ "op": "fill", "key": format!("k{number}"), "bytes": 1_000_000 });
    let id = publish(&daemon, "keep", None, &Value::Array((0..6).map(fill).collect()));
    let failures = "trunkline_state_failures_total";
    crate::bench::metric(&daemon, failures, |count| count >= 1.0).await;
    crate::bench::metric(&daemon, FAILED, |raised| raised == 1.0).await;
    let (status, health) = daemon.get("/health");
    assert!(status == 503 && health.contains("state-failed") && health.contains("state.redb"), "{status} {health}");
    assert_eq!(daemon.get("/livez").0, 200, "it lives");
    std::fs::remove_file(&filler).expect("removed");
    drop(file);
    let settled = daemon.settled(&id).await;
    assert_eq!(settled["outcome"], "ack", "{settled}");
    crate::bench::metric(&daemon, FAILED, |raised| raised == 0.0).await;
    assert_eq!(daemon.get("/health").0, 200, "and is well");
    let get = json!([{ "op": "get", "key": "before" }, { "op": "keys" }]);
    let told = keep(&daemon, None, get).await;
    assert_eq!((&told[0], told[1].as_array().map(Vec::len)), (&json!("1"), Some(7)), "{told}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_holds_only_its_plugin_down() {
    let bench = Bench::amqp();
    std::fs::create_dir_all(bench.state().join("state.redb")).expect("a directory in its place");
    let text = routes("true", 0) + "[routes.$P-echo]\nfrom = \"echo\"\nplugin = \"echo\"\n";
    let daemon = bench.start(&text).await;
    let error = refusal(&daemon, &format!("{}-keep", bench.prefix));
    assert!(error.contains("`allow.kv` cannot be granted: the state store") && error.contains("state.redb"), "{error}");
    let id = publish(&daemon, "echo", None, &json!("x"));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
}
