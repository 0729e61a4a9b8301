//! Targets that clients may not address: queues by their names, and the daemon's own exchanges. `[http] reserved`
//! allows them.

use serde_json::{Value, json};
use trunkline_support::Daemon;

use super::{publish, send};
use crate::bench::{Bench, drain, on_both_brokers};

const ROUTES: &str = r##"
[http]
reserved = $R
[defaults]
exchange = { name = "$P-events", type = "topic" }
[exchanges."trunkline.$P"]
[queues.$P-all]
bind = "#"
[queues.$P-kept]
bind = { exchange = "trunkline.$P", keys = "#" }
[hooks.straight]
exchange = ""
key = "$P-{data.queue}"
[hooks.own]
exchange = "trunkline.$P"
"##;
const JSON: (&str, &str) = ("content-type", "application/json");

fn routes(reserved: bool) -> String {
    ROUTES.replace("$R", if reserved { "true" } else { "false" })
}

fn is_refused((status, answer): &(u16, Value)) {
    assert_eq!((*status, &answer["code"]), (403, &json!("TL403")), "{answer}");
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("`reserved = true` in [http]")), "{answer}");
}

fn stream(daemon: &Daemon, exchange: &str) -> (u16, Value) {
    let (status, text) = daemon.get(&format!("/api/v1/events/stream?exchange={exchange}"));
    (status, serde_json::from_str(&text).expect("a problem"))
}

/// Exchanges and keys that bypass the topology of routes.toml.
fn addresses(bench: &Bench) -> [(String, String); 5] {
    let own = format!("trunkline.{}", bench.prefix);
    let to = |exchange: &str, key: &str| (exchange.to_owned(), key.to_owned());
    [
        to("", bench.queue("$P-all").as_str()),
        to("", "trunkline.delay.due"),
        to("", "no-such-queue"),
        to("trunkline.delay.05", "1"),
        to(&own, "any"),
    ]
}

async fn the_nameless_exchange_and_our_names_are_refused(bench: Bench) {
    let daemon = bench.start(&routes(false)).await;
    let event = |id: &str, (exchange, key): &(String, String)| json!({ "type": "t", "id": id, "exchange": exchange, "routing_key": key, "data": 1 });
    for address in &addresses(&bench) {
        is_refused(&publish(&daemon, &event("e", address)));
    }
    // In a batch each event is answered on its own.
    let mut events: Vec<Value> = addresses(&bench).iter().map(|address| event("e", address)).collect();
    events.push(json!({ "type": "t", "id": "good", "data": 1 }));
    let (status, answer) = daemon.post("/api/v1/events/batch", &json!({ "events": events }).to_string());
    let results = answer["results"].as_array().expect("results").iter();
    let statuses: Vec<_> = results.map(|result| result["status"].as_u64()).collect();
    assert_eq!((status, statuses), (207, [403, 403, 403, 403, 403, 202].map(Some).to_vec()), "{answer}");
    is_refused(&send(&daemon, "/hooks/straight", &[JSON], r#"{"queue":"all"}"#));
    is_refused(&send(&daemon, "/hooks/own", &[JSON], "{}"));
    for exchange in ["", "trunkline.delay.05", &format!("trunkline.{}", bench.prefix)] {
        is_refused(&stream(&daemon, exchange));
    }
    // Keys that begin with `trunkline` are allowed on other exchanges.
    let (status, answer) = publish(&daemon, &json!({ "type": "trunkline.delay.due", "id": "word", "data": 1 }));
    assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes(false)).await;
    let ids = |messages: Vec<trunkline_event::Message>| {
        messages.into_iter().map(|message| message.properties.message_id.expect("an id")).collect::<Vec<_>>()
    };
    assert_eq!(ids(drain(&broker, &bench.queue("$P-all"), 2).await), ["good", "word"]);
    assert_eq!(ids(drain(&broker, &bench.queue("$P-kept"), 0).await), [""; 0]);
    broker.close(trunkline_support::patience()).await;
}

async fn reserved_targets_can_be_allowed(bench: Bench) {
    let daemon = bench.start(&routes(true)).await;
    let queue = bench.queue("$P-all");
    let straight = json!({ "type": "t", "exchange": "", "routing_key": queue.as_str(), "data": 1 });
    let own = json!({ "type": "t", "exchange": format!("trunkline.{}", bench.prefix), "data": 1 });
    for event in [straight, own] {
        let (status, answer) = publish(&daemon, &event);
        assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    }
    for (path, body) in [("/hooks/straight", r#"{"queue":"all"}"#), ("/hooks/own", "{}")] {
        let (status, answer) = send(&daemon, path, &[JSON], body);
        assert_eq!((status, &answer["routed"]), (202, &json!(true)), "{answer}");
    }
    let (status, problem) = publish(&daemon, &json!({ "type": "t", "exchange": "", "routing_key": "none", "data": 1 }));
    assert_eq!(status, 422, "{problem}");
    assert_eq!(stream(&daemon, "").0, 400, "nothing can be bound to it");
    assert!(daemon.terminate().await.success());
    let broker = bench.open(&routes(true)).await;
    assert_eq!(drain(&broker, &queue, 2).await.len(), 2);
    assert_eq!(drain(&broker, &bench.queue("$P-kept"), 2).await.len(), 2);
    broker.close(trunkline_support::patience()).await;
}

on_both_brokers! {
    the_nameless_exchange_and_our_names_are_refused,
    reserved_targets_can_be_allowed,
}
