//! Hooks: an HTTP POST becomes an event.

use serde_json::{Value, json};
use trunkline_event::Message;
use trunkline_support::{Daemon, eventually};

use super::send;
use crate::bench::{Bench, drain, on_both_brokers};

const ROUTES: &str = r##"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[exchanges.$P-ocelot]
type = "topic"
codec = "ocelot"
[queues.$P-all]
bind = "#"
codec = "raw"
[queues.$P-ocelot]
bind = { exchange = "$P-ocelot", keys = "#" }
[event-types."seen.by-type"]
key = "known.key"
priority = 4

[hooks.plain]
[hooks.typed]
type = "seen.by-type"
[hooks.whatsapp]
path = "/hooks/wa/in"
type = "whatsapp.{data.event}"
key = "in.{type}"
id = "wa-{data.key.id}"
schema = "wa.json"
token = { env = "HOOK_TOKEN" }
status = 200
[hooks.signed]
signature = { header = "X-Hub-Signature-256", secret = { env = "HOOK_SECRET" } }
status = 204
[hooks.clouds]
codec = "cloudevents"
exchange = "$P-ocelot"
[hooks.evolution]
type = "wa.{data.event}"
key = "wa.{data.instance|type}.{data.event:dotted}"
id = "{data.list[0].entry[only].id|header.X-Delivery|new}"
"##;

const SCHEMA: &str = r#"{"type": "object", "required": ["event"], "properties": {"event": {"type": "string"}}}"#;
const TOKEN: &str = "a-token-for-the-hook";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn start(bench: &Bench) -> Daemon {
    std::fs::write(bench.path("wa.json"), SCHEMA).expect("a file");
    bench.start_with(ROUTES, &[("HOOK_TOKEN", TOKEN), ("HOOK_SECRET", "It's a Secret to Everybody")]).await
}

fn of<'m>(messages: &'m [Message], key: &str) -> Vec<&'m Message> {
    messages.iter().filter(|message| message.routing_key.as_str() == key).collect()
}

async fn accepted_hooks_are_published(bench: Bench) {
    let daemon = start(&bench).await;
    let (status, accepted) = send(&daemon, "/hooks/plain", &[("content-type", "text/plain")], "hello");
    assert_eq!(
        (status, &accepted["routing_key"], &accepted["routed"]),
        (202, &json!("plain"), &json!(true)),
        "{accepted}"
    );
    assert_eq!(send(&daemon, "/hooks/typed", &[JSON], "{}").1["routing_key"], "known.key");
    let wa = json!({ "event": "message", "key": { "id": 17 } }).to_string();
    let with_token = [JSON, ("x-hook-token", TOKEN)];
    for repeated in [false, true] {
        let (status, accepted) = send(&daemon, "/hooks/wa/in", &with_token, &wa);
        let expected = json!({ "id": "wa-17", "routing_key": "in.whatsapp.message", "repeated": repeated, "routed": true,
            "exchange": format!("{}-events", bench.prefix) });
        assert_eq!((status, accepted), (200, expected));
    }
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let (status, nothing) = send(&daemon, "/hooks/signed", &[("x-hub-signature-256", signature)], "Hello, World!");
    assert_eq!((status, nothing), (204, Value::String(String::new())));
    let names = extensions(40);
    let clouds = [JSON, ("ce-specversion", "1.0"), ("ce-id", "c-1"), ("ce-source", "/s"), ("ce-type", "sky.blue")];
    let clouds: Vec<_> = clouds.into_iter().chain(names.iter().map(|name| (name.as_str(), "there"))).collect();
    assert_eq!(send(&daemon, "/hooks/clouds", &clouds, "{\"a\": 1}").1["id"], "c-1");
    assert!(daemon.terminate().await.success());

    let broker = bench.open_with(ROUTES, &[("HOOK_TOKEN", TOKEN), ("HOOK_SECRET", "It's a Secret to Everybody")]).await;
    let all = drain(&broker, &bench.queue("$P-all"), 4).await;
    assert_eq!(all.len(), 4, "{all:?}");
    let plain = of(&all, "plain")[0];
    assert_eq!((&plain.body[..], plain.properties.content_type.as_deref()), (&b"hello"[..], Some("text/plain")));
    assert_eq!(plain.properties.kind.as_deref(), Some("plain"));
    assert_eq!(of(&all, "known.key")[0].properties.priority, Some(4));
    assert_eq!(
        (&of(&all, "signed")[0].body[..], of(&all, "in.whatsapp.message")[0].properties.kind.as_deref()),
        (&b"Hello, World!"[..], Some("whatsapp.message"))
    );
    let cloud = drain(&broker, &bench.queue("$P-ocelot"), 1).await;
    let envelope: Value = serde_json::from_slice(&cloud[0].body).expect("JSON");
    assert_eq!(
        (&envelope["type"], &envelope["source"], &envelope["data"]),
        (&json!("sky.blue"), &json!("/s"), &json!({ "a": 1 }))
    );
    assert_eq!((&envelope["metadata"]["x0"], &envelope["metadata"]["x39"]), (&json!("there"), &json!("there")));
    broker.close(trunkline_support::patience()).await;
}

/// The names of `ce-` headers with extensions.
fn extensions(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("ce-x{number}")).collect()
}

/// Path, headers, body; status and a part of the answer.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);

async fn unauthorised_and_invalid_requests_are_refused(bench: Bench) {
    let daemon = start(&bench).await;
    let token = ("x-hook-token", TOKEN);
    let bearer = format!("Bearer {TOKEN}");
    let good = json!({ "event": "message", "key": { "id": "a" } }).to_string();
    let two_words = json!({ "event": "a b", "key": { "id": "a" } }).to_string();
    let no_id = json!({ "event": "a" }).to_string();
    let names = extensions(65);
    let many = names.iter().map(|name| (name.as_str(), "there")).collect();
    let cases: [Case<'_>; 13] = [
        ("/hooks/clouds", many, "{}", 422, "65 `ce-` headers; a CloudEvent may have at most 64"),
        ("/hooks/wa/in", vec![JSON], &good, 401, "X-Hook-Token"),
        ("/hooks/wa/in", vec![JSON, ("authorization", "Bearer another-token-1234")], &good, 401, "X-Hook-Token"),
        ("/hooks/wa/in", vec![JSON, ("authorization", &bearer)], &good, 200, ""),
        ("/hooks/wa/in", vec![JSON, token], "{}", 422, "\"event\" is a required property"),
        ("/hooks/wa/in", vec![JSON, token], "{", 422, "JSON"),
        ("/hooks/wa/in", vec![JSON, token], &two_words, 422, "data.event"),
        ("/hooks/wa/in", vec![JSON, token], &no_id, 422, "data.key.id"),
        ("/hooks/signed", vec![], "Hello, World!", 401, "signature"),
        ("/hooks/signed", vec![("x-hub-signature-256", "sha256=00")], "Hello, World!", 401, "signature"),
        ("/hooks/plain", vec![("sec-fetch-site", "cross-site")], "a=b", 403, "web page"),
        ("/hooks/clouds", vec![JSON, ("ce-id", "c-2")], "{}", 422, "`source` is missing"),
        ("/hooks/none", vec![JSON], "{}", 404, "no hook"),
    ];
    for (path, headers, body, expected, text) in cases {
        let (status, answer) = send(&daemon, path, &headers, body);
        assert!(
            status == expected && answer.to_string().contains(&text.replace('"', "\\\"")),
            "{path} {body}: {status} {answer}"
        );
        assert!(status < 300 || answer["code"] == format!("TL{status}"), "{answer}");
    }
    assert_eq!(daemon.get("/hooks/plain").0, 405);
    assert_eq!(send(&daemon, "/hooks/plain", &[], &"x".repeat(2 << 20)).0, 413);
    assert!(daemon.terminate().await.success());
}

/// The request has a type with dots, list positions, headers, alternatives, and a path below the path of the hook.
async fn templates_fit_the_requests_of_senders(bench: Bench) {
    let daemon = start(&bench).await;
    let upsert = json!({ "event": "messages.upsert", "instance": "shop", "list": [{ "entry": [{ "id": "m-1" }] }, 1] });
    let (status, accepted) = send(&daemon, "/hooks/evolution/messages-upsert", &[JSON], &upsert.to_string());
    assert_eq!((status, &accepted["routing_key"]), (202, &json!("wa.shop.messages.upsert")), "{accepted}");
    assert_eq!(accepted["id"], "m-1");
    let plain = json!({ "event": "status" }).to_string();
    let (_, accepted) = send(&daemon, "/hooks/evolution", &[JSON, ("x-delivery", "d-1")], &plain);
    assert_eq!((&accepted["id"], &accepted["routing_key"]), (&json!("d-1"), &json!("wa.wa.status.status")));
    let [one, other] = [(), ()].map(|()| send(&daemon, "/hooks/evolution", &[JSON], &plain).1);
    assert!(one["id"] != other["id"] && one["repeated"] == false && other["repeated"] == false, "{one} {other}");
    // The hook with the longest matching path counts. A hook accepts only its own path and paths below its own path.
    assert_eq!(send(&daemon, "/hooks/wa/in/x", &[JSON], "{}").0, 401);
    assert_eq!(send(&daemon, "/hooks/evolution-2", &[JSON], "{}").0, 404);
    assert!(daemon.terminate().await.success());
    let broker = bench.open_with(ROUTES, &[("HOOK_TOKEN", TOKEN), ("HOOK_SECRET", "It's a Secret to Everybody")]).await;
    let all = drain(&broker, &bench.queue("$P-all"), 4).await;
    let kind = of(&all, "wa.shop.messages.upsert")[0].properties.kind.as_deref();
    assert_eq!((kind, all.len()), (Some("wa.messages.upsert"), 4), "{all:?}");
    broker.close(trunkline_support::patience()).await;
}

/// A sender counts its attempts in the body. The same id in the same hook identifies the same event.
async fn a_senders_retry_is_a_repeat(bench: Bench) {
    let daemon = start(&bench).await;
    let attempt = |attempt: u32| json!({ "event": "message", "key": { "id": "r-1" }, "attempt": attempt }).to_string();
    let with_token = [JSON, ("x-hook-token", TOKEN)];
    for (number, repeated) in [(1, false), (2, true), (3, true)] {
        let (status, accepted) = send(&daemon, "/hooks/wa/in", &with_token, &attempt(number));
        assert_eq!((status, &accepted["repeated"]), (200, &json!(repeated)), "{accepted}");
    }
    let key = [JSON, ("idempotency-key", "wa-r-1")];
    for (body, expected) in [("{\"a\": 1}", 202), ("{\"a\": 2}", 200), ("{\"a\": 1}", 200)] {
        let (status, accepted) = send(&daemon, "/hooks/plain", &key, body);
        assert_eq!((status, &accepted["id"]), (expected, &json!("wa-r-1")), "{accepted}");
        assert_eq!(accepted["repeated"], expected == 200);
    }
    // The id of a CloudEvent belongs to the source of the event.
    let structured = [("content-type", "application/cloudevents+json")];
    for (source, repeated) in [("/one", false), ("/other", false), ("/other", true)] {
        let cloud = json!({ "specversion": "1.0", "id": "c-1", "source": source, "type": "t", "data": { "n": 1 } });
        let (_, accepted) = send(&daemon, "/hooks/clouds", &structured, &cloud.to_string());
        assert_eq!((&accepted["id"], &accepted["repeated"]), (&json!("c-1"), &json!(repeated)), "{source}: {accepted}");
    }
    // The API refuses a second event with the same id and different content.
    for (data, expected) in [(1, 202), (2, 422)] {
        let event = json!({ "type": "t", "id": "wa-r-1", "data": data });
        assert_eq!(daemon.post("/api/v1/events", &event.to_string()).0, expected);
    }
    assert_eq!(daemon.metric("trunkline_hook_requests_total{hook=\"plain\",result=\"repeated\"}"), 2.0);
    assert!(daemon.terminate().await.success());
}

async fn hooks_follow_a_reload(bench: Bench) {
    let daemon = start(&bench).await;
    assert_eq!(send(&daemon, "/hooks/later", &[JSON], "{}").0, 404);
    bench.write_routes(&ROUTES.replace("[hooks.plain]", "[hooks.later]\nstatus = 201"));
    let arrives = || async { (send(&daemon, "/hooks/later", &[JSON], "{}").0 == 201).then_some(()) };
    eventually("the new hook", arrives).await;
    assert_eq!(send(&daemon, "/hooks/plain", &[JSON], "{}").0, 404, "the old one is gone");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_has_every_answer_that_a_hook_may_give() {
    let bench = Bench::embedded();
    let statuses = ["200", "201", "202", "204"];
    let hooks = statuses.map(|status| format!("[hooks.h{status}]\nstatus = {status}\n")).concat();
    let daemon = bench.start(&hooks).await;
    let document: Value = serde_json::from_str(&daemon.get("/openapi.json").1).expect("JSON");
    let described = document["paths"]["/hooks/{path}"]["post"]["responses"].as_object().expect("answers");
    let good: Vec<&str> = described.keys().map(String::as_str).filter(|status| status.starts_with('2')).collect();
    assert_eq!(good, statuses);
    for status in statuses {
        let (answered, body) = send(&daemon, &format!("/hooks/h{status}"), &[JSON], "{}");
        assert_eq!(answered.to_string(), status);
        assert_eq!(described[status]["content"].is_object(), body["id"].is_string(), "{status}: {body}");
    }
    let other = Bench::embedded().try_start("[hooks.h]\nstatus = 203\n").await.err().expect("refused");
    assert!(other.stderr.contains("TL048") && other.stderr.contains("`status` is 203"), "{}", other.stderr);
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    accepted_hooks_are_published,
    unauthorised_and_invalid_requests_are_refused,
    templates_fit_the_requests_of_senders,
    a_senders_retry_is_a_repeat,
    hooks_follow_a_reload,
}
