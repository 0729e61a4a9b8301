//! `allow.emit`: a plugin publishes only where it is granted, whatever the broker accepts.

use std::process::Command;

use serde_json::json;

use super::publish;
use crate::bench::{Bench, binary, drain};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = "#"
[routes.$P-address]
from = "address"
plugin = "addresser"
emit = { key = "planning.{type}" }
[plugins.addresser.allow]
emit = ["planning.#", { exchange = "$P-events", keys = ["crm.*.created"] }]
"##;

async fn holds(bench: Bench) {
    let daemon = bench.start(ROUTES).await;
    let good = publish(&daemon, "address", None, &json!(["", "planning.a.b", "crm.task.created"]));
    let settled = daemon.settled(&good).await;
    assert_eq!(settled["outcome"], "ack", "{settled}");
    for key in ["crm.created", "crm.a.b.created", "billing.charge", "planningx", "address"] {
        let id = publish(&daemon, "address", None, &json!(["planning.first", key]));
        let settled = daemon.settled(&id).await;
        assert_eq!((&settled["outcome"], &settled["reason"]), (&json!("dead_letter"), &json!("invalid")), "{key}");
    }
    let grant = format!("`allow.emit = [{{ exchange = \\\"{}-events\\\"", bench.prefix);
    daemon.logged("may not emit").await;
    daemon.logged(&grant).await;
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let taken = drain(&broker, &bench.queue("$P-all"), 3 + 6).await;
    let mut keys = taken.iter().map(|message| message.routing_key.to_string()).collect::<Vec<_>>();
    keys.retain(|key| key != "address");
    keys.sort();
    assert_eq!(keys, ["crm.task.created", "planning.a.b", "planning.addressed"], "all or nothing of an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn emissions_stay_within_the_grants_embedded() {
    holds(Bench::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emissions_stay_within_the_grants_amqp() {
    holds(Bench::amqp()).await;
}

#[test]
fn check_reports_forbidden_emissions() {
    let check = |text: &str| {
        let bench = Bench::embedded();
        let file = bench.write_routes(text);
        let output =
            Command::new(binary()).args(["check", "--config"]).arg(file).arg("--state").arg(bench.state()).output();
        let output = output.expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(ROUTES).0, Some(0));
    let (code, text) = check(&ROUTES.replace("planning.{type}", "billing.all"));
    assert!(code == Some(0) && text.contains("TL044") && text.contains("billing.all"), "a warning: {text}");
    let elsewhere = "emit = { exchange = \"$P-other\" }\n[exchanges.$P-other]\ntype = \"topic\"\n";
    let (code, text) = check(&ROUTES.replace("emit = { key = \"planning.{type}\" }\n", elsewhere));
    assert!(
        code == Some(78) && text.contains("TL044") && text.contains("may not emit to the exchange"),
        "{code:?} {text}"
    );
}
