//! Types of events, and batches of them.

use serde_json::{Value, json};
use trunkline_event::Message;
use trunkline_support::{Daemon, eventually};

use super::{event, get, publish, send};
use crate::bench::{Bench, drain, on_both_brokers};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-all]
bind = "#"
[event-types."call.ended"]
key = "comms.call.ended"
priority = 7
schema = "schemas/call.json"
description = "A call is over"
[event-types.notification]
"##;

const CALL: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
    "required": ["call_id", "outcome"], "properties": {"call_id": {"$ref": "parts.json#/$defs/id"},
    "outcome": {"enum": ["completed", "failed"]}}}"#;
const PARTS: &str = r#"{"$defs": {"id": {"type": "string", "minLength": 3}}}"#;

fn write_schemas(bench: &Bench, call: &str) {
    std::fs::create_dir_all(bench.path("schemas")).expect("a folder");
    for (name, text) in [("parts.json", PARTS), ("call.json", call)] {
        let temporary = bench.path("schemas").join(format!(".{name}"));
        std::fs::write(&temporary, text).expect("a file");
        std::fs::rename(&temporary, bench.path("schemas").join(name)).expect("renamed");
    }
}

async fn taken(bench: &Bench, daemon: Daemon, at_least: usize) -> Vec<Message> {
    assert!(daemon.terminate().await.success());
    let broker = bench.open(ROUTES).await;
    let taken = drain(&broker, &bench.queue("$P-all"), at_least).await;
    broker.close(trunkline_support::patience()).await;
    taken
}

async fn a_type_has_its_key_its_priority_and_its_schema(bench: Bench) {
    write_schemas(&bench, CALL);
    let daemon = bench.start(ROUTES).await;
    let types = get(&daemon, "/api/v1/events/types");
    assert_eq!(types["types"][0]["type"], "call.ended", "{types}");
    assert_eq!(types["types"][0]["schema"]["required"], json!(["call_id", "outcome"]), "{types}");
    assert_eq!(
        types["types"][1],
        json!({ "type": "notification", "key": "notification", "priority": null, "description": null, "schema": null })
    );

    let (status, accepted) = publish(&daemon, &event("call.ended", &json!({ "call_id": "c-1", "outcome": "failed" })));
    assert_eq!(
        (status, &accepted["routing_key"], &accepted["repeated"]),
        (202, &json!("comms.call.ended"), &json!(false)),
        "{accepted}"
    );
    let mut own = event("call.ended", &json!({ "call_id": "c-2", "outcome": "completed" }));
    (own["priority"], own["routing_key"]) = (json!(2), json!("own.key"));
    assert_eq!(publish(&daemon, &own).0, 202);

    let (status, problem) = publish(&daemon, &event("call.ended", &json!({ "call_id": "c", "outcome": "secret" })));
    assert_eq!((status, &problem["code"]), (422, &json!("TL422")), "{problem}");
    let errors = problem["errors"].as_array().expect("errors");
    let mut pointers: Vec<&str> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/call_id", "/outcome"], "{problem}");
    assert!(!problem.to_string().contains("secret"), "what it holds is not told: {problem}");
    let mut routed_by_header = event("other", &json!(1));
    routed_by_header["attributes"] = json!({ "CC": "another.key" });
    let (status, problem) = publish(&daemon, &routed_by_header);
    assert!(status == 422 && problem["detail"].as_str().is_some_and(|detail| detail.contains("CC")), "{problem}");
    let missing = publish(&daemon, &event("call.ended", &json!({}))).1;
    assert_eq!(missing["errors"].as_array().expect("errors").len(), 2, "{missing}");

    let taken = taken(&bench, daemon, 2).await;
    let told: Vec<(Option<u8>, &str)> =
        taken.iter().map(|message| (message.properties.priority, message.routing_key.as_str())).collect();
    assert_eq!(told, [(Some(7), "comms.call.ended"), (Some(2), "own.key")]);
}

async fn a_schema_follows_its_file(bench: Bench) {
    write_schemas(&bench, CALL);
    let daemon = bench.start(ROUTES).await;
    let call = event("call.ended", &json!({ "call_id": "c-1", "outcome": "voicemail" }));
    assert_eq!(publish(&daemon, &call).0, 422);
    write_schemas(&bench, &CALL.replace("\"failed\"", "\"failed\", \"voicemail\""));
    let fits = || async { (publish(&daemon, &call).0 == 202).then_some(()) };
    eventually("the new schema", fits).await;
    // An invalid schema changes nothing.
    write_schemas(&bench, "{\"type\": \"objekt\"}");
    let refusal = eventually("a refusal", || {
        let refused = get(&daemon, "/api/v1/generation")["last_refusal"].clone();
        async move { (!refused.is_null()).then_some(refused) }
    })
    .await;
    assert!(refusal.to_string().contains("TL047") && refusal.to_string().contains("call.json"), "{refusal}");
    assert_eq!(publish(&daemon, &call).0, 202);
    assert_eq!(publish(&daemon, &event("call.ended", &json!({}))).0, 422);
    // A schema in another file counts as well.
    write_schemas(&bench, CALL);
    std::fs::write(bench.path("schemas/parts.json"), "{\"$defs\": {\"id\": {\"type\": \"integer\"}}}").expect("a file");
    let number = event("call.ended", &json!({ "call_id": 1, "outcome": "failed" }));
    eventually("the new part", || async { (publish(&daemon, &number).0 == 202).then_some(()) }).await;
    assert!(daemon.terminate().await.success());
}

async fn a_batch_answers_for_each_event(bench: Bench) {
    write_schemas(&bench, CALL);
    let daemon = bench.start(ROUTES).await;
    let mixed = json!({ "events": [
        { "type": "call.ended", "id": "b-0", "data": { "call_id": "c-0", "outcome": "failed" } },
        { "type": "call.ended", "id": "b-1", "data": { "call_id": "c-1" } },
        { "data": 1 },
        { "type": "other", "id": "b-3", "data": 3 },
        { "type": "other", "id": "b-3", "data": 3 },
        { "type": "other", "data": 1, "exchange": "nowhere" },
        7,
    ] });
    let (status, answer) = daemon.post("/api/v1/events/batch", &mixed.to_string());
    assert_eq!((status, &answer["accepted"], &answer["refused"]), (207, &json!(3), &json!(4)), "{answer}");
    let results = answer["results"].as_array().expect("results");
    let statuses: Vec<u64> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [202, 422, 400, 202, 202, 422, 400], "{answer}");
    assert_eq!((&results[0]["event"]["id"], &results[3]["event"]["id"]), (&json!("b-0"), &json!("b-3")));
    assert_ne!(results[3]["event"]["repeated"], results[4]["event"]["repeated"], "one id, published once: {answer}");
    assert_eq!(results[1]["problem"]["errors"][0]["message"], "\"outcome\" is a required property", "{answer}");

    let thousand: Vec<Value> = (0..1000).map(|n| json!({ "type": "many", "data": n })).collect();
    let body = json!({ "events": thousand }).to_string();
    let key = [("content-type", "application/json"), ("idempotency-key", "\"batch-1\"")];
    let (status, answer) = send(&daemon, "/api/v1/events/batch", &key, &body);
    assert_eq!((status, &answer["accepted"]), (202, &json!(1000)), "{}", &answer.to_string()[..300]);
    assert_eq!(
        (&answer["results"][999]["event"]["id"], &answer["results"][0]["event"]["repeated"]),
        (&json!("batch-1.999"), &json!(false))
    );
    let (status, again) = send(&daemon, "/api/v1/events/batch", &key, &body);
    assert_eq!((status, &again["results"][999]["event"]["repeated"]), (202, &json!(true)));

    for (body, text) in [
        (json!({ "events": [] }), "1 to 1000"),
        (json!({ "events": vec![json!({}); 1001] }), "1 to 1000"),
        (json!({ "event": [] }), "event"),
        (json!([[]]), "JSON object"),
    ] {
        let (status, problem) = daemon.post("/api/v1/events/batch", &body.to_string());
        assert!(status == 400 && problem["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{problem}");
    }
    let huge = json!({ "events": [{ "type": "t", "data": "x".repeat(2 << 20) }] });
    assert_eq!(daemon.post("/api/v1/events/batch", &huge.to_string()).0, 413);

    let mut ids: Vec<String> =
        taken(&bench, daemon, 1002).await.into_iter().filter_map(|message| message.properties.message_id).collect();
    ids.sort();
    let mut expected: Vec<String> = (0..1000).map(|n| format!("batch-1.{n}")).collect();
    expected.extend(["b-0".to_owned(), "b-3".to_owned()]);
    expected.sort();
    assert_eq!(ids, expected);
}

on_both_brokers! {
    a_type_has_its_key_its_priority_and_its_schema,
    a_schema_follows_its_file,
    a_batch_answers_for_each_event,
}
