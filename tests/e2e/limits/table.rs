//! Each hostile guest, the reason of its dead letter, and the limit that the text names.

use std::time::Instant;

use serde_json::Value;
use trunkline_support::handmade;

use super::{header, publish};
use crate::bench::{Bench, drain, on_both_brokers};

/// A hostile plugin.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) plugin: Plugin,
    /// The data of the event.
    pub(super) data: &'static str,
    /// Keys of its `limits`.
    pub(super) limits: &'static str,
    pub(super) reason: &'static str,
    /// Text of the dead letter's error.
    pub(super) error: &'static str,
}

pub(super) enum Plugin {
    /// A guest of tests/guests.
    Guest(&'static str),
    /// A handmade component.
    Handmade(fn() -> Vec<u8>),
}

const fn guest(
    name: &'static str,
    guest: &'static str,
    data: &'static str,
    limits: &'static str,
    reason: &'static str,
    error: &'static str,
) -> Row {
    Row { name, plugin: Plugin::Guest(guest), data, limits, reason, error }
}

const fn handmade(
    name: &'static str,
    made: fn() -> Vec<u8>,
    limits: &'static str,
    reason: &'static str,
    error: &'static str,
) -> Row {
    Row { name, plugin: Plugin::Handmade(made), data: "", limits, reason, error }
}

const MIB: u64 = 1 << 20;
const TIMED: &str = "timeout = \"250ms\"";
const OVER_TIME: &str = "limits.timeout (250 ms)";
const OVER_MEMORY: &str = "limits.memory (67108864 bytes)";
const OVER_TABLE: &str = "more than 10000 table elements";
const OVER_ANSWER: &str = "the answer is larger than limits.output (8388608 bytes) and limits.emissions (1000)";
const OVER_CALL: &str = "one host call copies more data than limits.output (8388608 bytes)";

pub(super) fn rows() -> Vec<Row> {
    [of_time(), of_memory(), of_answers(), of_the_wire()].into_iter().flatten().collect()
}

/// Guests that never end.
fn of_time() -> Vec<Row> {
    vec![
        guest("endless-loop", "spin", "", TIMED, "timeout", OVER_TIME),
        handmade(
            "tight-loop",
            || handmade::plugin("", "(loop $again (br $again)) unreachable"),
            TIMED,
            "timeout",
            OVER_TIME,
        ),
        handmade(
            "memory-fill",
            || {
                let fill = "(memory.fill (i32.const 0) (i32.const 7) (i32.const 62914560)) (br $again)";
                handmade::plugin("", &format!("(drop (memory.grow (i32.const 958))) (loop $again {fill}) unreachable"))
            },
            TIMED,
            "timeout",
            OVER_TIME,
        ),
        guest("calls-clock", "caller", "clock", TIMED, "timeout", OVER_TIME),
        guest("calls-random", "caller", "random", TIMED, "timeout", OVER_TIME),
        guest("calls-random-bytes", "caller", "random-bytes", TIMED, "timeout", OVER_TIME),
        guest("calls-config", "caller", "config", TIMED, "timeout", OVER_TIME),
        guest("calls-nap", "caller", "nap", TIMED, "timeout", OVER_TIME),
        guest("log-flood", "caller", "log", TIMED, "timeout", OVER_TIME),
        guest("log-flood-long", "caller", "long-log", TIMED, "timeout", OVER_TIME),
        guest("log-flood-huge", "caller", "huge-log", "", "too-large", OVER_CALL),
        guest("print-flood", "caller", "print", TIMED, "timeout", OVER_TIME),
    ]
}

/// Guests that take all memory.
fn of_memory() -> Vec<Row> {
    vec![
        guest("memory-bomb", "hog", "", "", "memory", OVER_MEMORY),
        handmade(
            "several-memories",
            || handmade::with_instances(handmade::plugin("", "i32.const 0"), 3, "(memory 400)"),
            "",
            "memory",
            OVER_MEMORY,
        ),
        handmade(
            "table-bomb",
            || {
                let grow = "(table.grow $t (ref.null func) (i32.const 1000))";
                let until = format!("(loop $more (br_if $more (i32.ne {grow} (i32.const -1)))) unreachable");
                handmade::plugin("(table $t 1 funcref)", &until)
            },
            "",
            "memory",
            OVER_TABLE,
        ),
        handmade(
            "several-tables",
            || handmade::with_instances(handmade::plugin("", "i32.const 0"), 3, "(table 4000 funcref)"),
            "",
            "memory",
            OVER_TABLE,
        ),
        handmade(
            "recursion",
            || {
                let endless =
                    "(func $down (param i32) (result i32) (i32.add (call $down (local.get 0)) (i32.const 1)))";
                handmade::plugin(endless, "(call $down (i32.const 0))")
            },
            "",
            "trap",
            "call stack exhausted; the limit of a plugin's call stack is 512 KiB",
        ),
    ]
}

/// Guests whose answers are too large.
fn of_answers() -> Vec<Row> {
    vec![
        guest("answer-large", "bigmouth", "", "", "too-large", OVER_ANSWER),
        handmade(
            "answer-list-1-gib",
            || handmade::emissions(1, 1, 1 << 30, 1100 * MIB),
            "memory = \"2GiB\"",
            "too-large",
            OVER_ANSWER,
        ),
        handmade(
            "answer-string-1-gib",
            || handmade::emissions(1, 1 << 30, 1, 1100 * MIB),
            "memory = \"2GiB\"",
            "too-large",
            OVER_ANSWER,
        ),
        handmade(
            "answer-one-buffer-often",
            || handmade::emissions(1000, 1, 32 << 20, 40 * MIB),
            "",
            "too-large",
            OVER_ANSWER,
        ),
        handmade("answer-out-of-memory", || handmade::emissions(1, 1, 1 << 30, MIB), "", "trap", "out of bounds"),
        guest("emissions-10-thousand", "flood", "", "", "too-large", "limits.emissions"),
        handmade(
            "emissions-a-million",
            || handmade::emissions(1_000_000, 1, 0, 100 * MIB),
            "memory = \"128MiB\"",
            "too-large",
            OVER_ANSWER,
        ),
        guest("emit-then-trap", "deep", "panic", "", "trap", "the cellar is flooded"),
    ]
}

/// Guests whose answers do not fit AMQP.
fn of_the_wire() -> Vec<Row> {
    vec![
        guest("long-type", "overlong", "type", "", "invalid", "emission 1: "),
        guest("no-type", "overlong", "no-type", "", "invalid", "the type is empty"),
        guest("long-content-type", "overlong", "content-type", "", "invalid", "emission 1: "),
        guest("long-routing-key", "overlong", "routing-key", "", "invalid", "the routing key"),
        guest("long-attribute-name", "overlong", "attribute-name", "", "invalid", "is not a valid attribute name"),
        guest("reserved-name", "overlong", "reserved-name", "", "invalid", "is not a valid attribute name"),
        guest("huge-attribute-name", "overlong", "huge-name", "", "invalid", "is not a valid attribute name"),
        guest("long-headers", "overlong", "attributes", "", "invalid", "headers"),
        guest("long-subject", "overlong", "subject", "", "invalid", "headers"),
        guest("many-headers", "overlong", "many-attributes", "", "invalid", "headers"),
        guest("same-dedupe-key", "overlong", "dedupe-key", "", "invalid", "have the dedupe key"),
        guest("far-future", "overlong", "deliver-after", "", "invalid", "30 days"),
        guest("long-reason", "overlong", "reason", "", "rejected", "rrr"),
    ]
}

/// Writes the plugins of all rows, and routes for them beside the given ones.
pub(super) fn routes(bench: &Bench, rows: &[Row], beside: &str) -> String {
    // No other limit is reached before the intended one, however slow the machine is.
    let mut text = format!(
        "[defaults]\nexchange = {{ name = \"$P-events\", type = \"topic\" }}\nretry = {{ max = 0 }}\n\
         limits = {{ timeout = \"20s\" }}\n{beside}\n"
    );
    for row in rows {
        let file = match row.plugin {
            Plugin::Guest(guest) => trunkline_support::guests().join(format!("{guest}.wasm")),
            Plugin::Handmade(make) => {
                let file = bench.path(&format!("{}.wasm", row.name));
                std::fs::write(&file, make()).expect("a file");
                file
            }
        };
        let (name, limits) = (row.name, row.limits);
        text += &format!(
            "[routes.$P-{name}]\nfrom = \"{name}\"\nplugin = \"{name}\"\n\
             [plugins.{name}]\nfile = {file:?}\nlimits = {{ {limits} }}\n",
        );
    }
    text
}

const GOOD: &str = "[routes.$P-good]\nfrom = \"good\"\nplugin = \"echo\"\n";

/// A second event follows the first. No data of the first may stay, and no resource of the daemon may be used up.
async fn each_guest_is_ended_by_its_limit(bench: Bench) {
    let rows = rows();
    let routes = routes(&bench, &rows, GOOD);
    let daemon = bench.start(&routes).await;
    for _ in 0..2 {
        let mut overlong = Vec::new();
        for row in &rows {
            let begun = Instant::now();
            let id = publish(&daemon, row.name, row.data);
            let settled = daemon.settled(&id).await;
            let took = begun.elapsed();
            let ended = (settled["outcome"].as_str(), settled["reason"].as_str());
            assert_eq!(ended, (Some("dead_letter"), Some(row.reason)), "{}: {settled}", row.name);
            assert_eq!(settled["emitted"], "[]", "{}: all or nothing", row.name);
            overlong.push((took, row.name));
        }
        overlong.sort();
        println!("{}: slowest {:?}", bench.broker, &overlong[overlong.len() - 3..]);
    }
    let settled = daemon.settled(&publish(&daemon, "good", "still here")).await;
    assert_eq!(settled["outcome"], "ack", "the others go on");
    // A call that is ended from outside reports no dropped lines, so the guest floods the log again.
    let dropped = || daemon.log().matches("more log lines than limits.log allows").count();
    for row in rows.iter().filter(|row| row.name == "log-flood").cycle().take(20) {
        if dropped() < 4 {
            let _told = daemon.settled(&publish(&daemon, row.name, row.data)).await;
        }
    }
    let dropped = dropped();
    assert!(dropped >= 4, "the floods are cut and reported: {dropped}");
    let flood = daemon.log().matches("a line of no use").count();
    assert!(flood < 10_000, "{flood} lines of a flood are in the log");
    assert!(daemon.terminate().await.success());

    let broker = bench.open(&routes).await;
    for row in &rows {
        let letters = drain(&broker, &bench.queue(&format!("$P-{}.dlq", row.name)), 2).await;
        for letter in letters {
            let error = header(&letter, "trunkline-error");
            assert_eq!(header(&letter, "trunkline-reason"), row.reason, "{}: {error}", row.name);
            assert!(error.contains(row.error), "{}: {error}", row.name);
            assert!(error.len() < 8 << 10, "{}: an error of {} bytes", row.name, error.len());
            let Some(id) = &letter.properties.message_id else { panic!("{}: no id", row.name) };
            assert!(!id.is_empty() && String::from_utf8_lossy(&letter.body).contains(row.data), "{}", row.name);
        }
    }
    broker.close(trunkline_support::patience()).await;
}

async fn a_deadline_is_kept(bench: Bench) {
    let row = Row { limits: "timeout = \"500ms\"", ..guest("loop", "spin", "", "", "timeout", "") };
    let daemon = bench.start(&routes(&bench, &[row], "")).await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let id = publish(&daemon, "loop", "");
        let settled = daemon.settled(&id).await;
        assert_eq!(settled["reason"], "timeout");
        took.push(begun.elapsed());
    }
    let series = "trunkline_plugin_invocation_duration_seconds";
    let (sum, count) = (daemon.sum(&format!("{series}_sum")), daemon.sum(&format!("{series}_count")));
    let mean = sum / count;
    println!("{}: calls ended after {mean:.3} s of 0.5 s, seen from outside {took:?}", bench.broker);
    assert!((0.5..=0.6).contains(&mean), "{mean} s for a limit of 0.5 s");
    assert!(daemon.terminate().await.success());
}

/// Data that a plugin keeps in statics or in memory ends with the event.
async fn nothing_leaks_between_events_or_tenants(bench: Bench) {
    let snoop = guest("snoop", "snoop", "", "timeout = \"20s\"", "", "");
    let daemon = bench.start(&routes(&bench, &[snoop], "")).await;
    let mut events = Vec::new();
    for number in 0..60 {
        let body = serde_json::json!({
            "type": "snoop", "data": format!("secret {number}"), "organizationId": format!("org-{}", number % 2),
        });
        let (status, accepted) = daemon.post("/api/v1/events", &body.to_string());
        assert_eq!(status, 202, "{accepted}");
        events.push(accepted["id"].as_str().expect("an id").to_owned());
    }
    for id in events {
        let settled = daemon.settled(&id).await;
        let emitted: Vec<Value> = serde_json::from_str(settled["emitted"].as_str().expect("a list")).expect("JSON");
        assert_eq!(emitted.len(), 1, "{settled}");
        assert_eq!(emitted[0]["data"], "0", "bytes of another event: {settled}");
    }
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    each_guest_is_ended_by_its_limit,
    a_deadline_is_kept,
    nothing_leaks_between_events_or_tenants,
}
