use bytes::Bytes;
use trunkline_config::Sources;

use super::*;

fn hook(keys: &str) -> Hook {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, format!("[hooks.h]\n{keys}\n")).expect("a file");
    let environment = [("HOME".to_owned(), "/tmp".to_owned())].into();
    let loaded = trunkline_config::load(&Sources { file, environment, ..Sources::default() });
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    loaded.config.hooks["h"].clone()
}

fn request(headers: &[(&str, &str)], body: &str) -> HookRequest {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    HookRequest {
        id: None,
        content_type: Some("application/json".to_owned()),
        cloudevent: Vec::new(),
        headers: headers.iter().map(owned).collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Type, key and id.
fn filled(keys: &str, headers: &[(&str, &str)], body: &str) -> (String, Option<String>, Option<String>) {
    let event = incoming(&hook(keys), request(headers, body)).unwrap_or_else(|problem| panic!("{keys}: {problem:?}"));
    (event.kind, event.routing_key.or(event.default_key), event.id)
}

#[test]
fn dotted_names_are_types_and_single_words_of_keys() {
    let body = r#"{"event": "messages.upsert", "list": [{"id": 7}, {"id": 8}], "one": [{"id": "x"}]}"#;
    let text = |text: &str| Some(text.to_owned());
    let kind = "type = \"wa.{data.event}\"";
    for (keys, expected) in [
        ("", text("wa.messages-upsert")),
        ("key = \"in.{type}\"", text("in.wa.messages-upsert")),
        ("key = \"in.{type:dotted}\"", text("in.wa.messages.upsert")),
        ("key = \"in.{data.event:dotted}.x\"", text("in.messages.upsert.x")),
        ("key = \"in.{data.list[1].id}\"", text("in.8")),
        ("key = \"in.{data.one[only].id}\"", text("in.x")),
    ] {
        let (filled_kind, key, id) = filled(&format!("{kind}\n{keys}"), &[], body);
        assert_eq!((filled_kind.as_str(), key, id), ("wa.messages.upsert", expected, None), "{keys}");
    }
    for bad in ["key = \"{data.event}\"", "key = \"{data.list[only].id}\"", "key = \"{data.list[2].id}\""] {
        assert!(incoming(&hook(bad), request(&[], body)).is_err(), "{bad}");
    }
    for bad in ["a..b", ".a", "a.", "a b", "a.#", "*", "", "a\\u0000", "ä"] {
        let body = format!("{{\"event\": \"{bad}\"}}");
        for keys in [kind, "key = \"{data.event:dotted}\""] {
            assert!(incoming(&hook(keys), request(&[], &body)).is_err(), "{keys} {bad}");
        }
    }
}

#[test]
fn headers_and_fallbacks() {
    let headers = [("x-github-event", "issues"), ("x-github-delivery", "d-1"), ("x-topic", "orders/create")];
    let keys = "type = \"{header.X-GitHub-Event}.{data.action}\"\nid = \"{data.id|header.X-GitHub-Delivery}\"";
    let (kind, key, id) = filled(keys, &headers, r#"{"action": "opened"}"#);
    assert_eq!((kind.as_str(), key.as_deref(), id.as_deref()), ("issues.opened", Some("issues.opened"), Some("d-1")));
    assert_eq!(filled("type = \"{header.X-Topic}\"", &headers, "{}").0, "orders.create");
    let id = |id: &str, body: &str| filled(&format!("id = \"{id}\""), &headers, body).2;
    assert_eq!(id("{data.id|header.X-GitHub-Delivery|new}", r#"{"id": 17}"#).as_deref(), Some("17"));
    assert_eq!(id("{data.id|new}", "{}"), None, "a new id is made later");
    let new = id("wa-{data.id|new}", "[]").expect("an id");
    assert!(new.len() == 39 && new.starts_with("wa-"), "{new}");
    assert_eq!(id("{digest}", "[1]"), id("{digest}", "[1]"));
    assert_ne!(id("{digest}", "[1]"), id("{digest}", "[ 1]"));
    for (number, expected) in [
        ("18446744073709551615", "18446744073709551615"),
        ("-7", "-7"),
        ("1.5", "1.5"),
        // The reader of JSON rounds both numbers to the same number.
        ("18446744073709551616", "d-1"),
        ("18446744073709551617", "d-1"),
    ] {
        let body = format!(r#"{{"id": {number}}}"#);
        assert_eq!(id("{data.id|header.X-GitHub-Delivery}", &body).as_deref(), Some(expected), "{number}");
    }
    let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(256));
    assert_eq!(id("{data.id|header.X-GitHub-Delivery}", &long).as_deref(), Some("d-1"));
}

/// Provider, headers and body of a request, and the expected type and id.
type SenderCase<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);

/// The bodies are from the senders' documentation.
#[test]
fn known_senders_give_type_and_id() {
    let meta = r#"{"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages",
        "value": {"messages": [{"id": "wamid.1"}]}}]}]}"#;
    let status = r#"{"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages",
        "value": {"statuses": [{"id": "wamid.1", "status": "read"}]}}]}]}"#;
    let member = r#"{"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages",
        "value": {"statuses": [{"id": "wamid.1", "status": "read", "recipient_participant_id": "16505551234"}]}}]}]}"#;
    let v2 = "v2.core.account[configuration.customer].updated";
    let stripe_v2 = format!(r#"{{"id": "evt_2", "object": "v2.core.event", "type": "{v2}"}}"#);
    let wasender = r#"{"event": "messages.upsert", "data": {"messages": [{"key": {"id": "3EB0"}}]}}"#;
    let received = r#"{"event": "messages.received", "data": {"messages": {"key": {"id": "3EB0"}}}}"#;
    let github = [("x-github-event", "issues"), ("x-github-delivery", "72d3162e")];
    let gitlab = [("idempotency-key", "f5e5f430")];
    let shopify = [("x-shopify-topic", "orders/create"), ("x-shopify-event-id", "98880550")];
    let merge = r#"{"object_kind": "merge_request", "object_attributes": {"action": "open"}}"#;
    let cases: [SenderCase<'_>; 17] = [
        ("meta", &[], meta, "whatsapp_business_account.messages", "wamid.1"),
        ("meta", &[], status, "whatsapp_business_account.messages", "wamid.1.read"),
        ("meta", &[], member, "whatsapp_business_account.messages", "wamid.1.read.16505551234"),
        ("wasender", &[], wasender, "messages.upsert", "messages.upsert.3EB0"),
        ("wasender", &[], received, "messages.received", "messages.received.3EB0"),
        ("github", &github, r#"{"action": "opened"}"#, "issues.opened", "72d3162e"),
        ("github", &github, "{}", "issues", "72d3162e"),
        ("gitlab", &gitlab, merge, "merge_request.open", "f5e5f430"),
        ("gitlab", &gitlab, r#"{"object_kind": "push"}"#, "push", "f5e5f430"),
        ("stripe", &[], r#"{"id": "evt_1", "type": "invoice.paid"}"#, "invoice.paid", "evt_1"),
        ("stripe", &[], &stripe_v2, v2, "evt_2"),
        ("slack", &[], r#"{"event_id": "Ev1", "event": {"type": "app_mention"}}"#, "app_mention", "Ev1"),
        ("slack", &[], r#"{"command": "/deploy", "trigger_id": "3.4"}"#, "command.deploy", "3.4"),
        ("shopify", &shopify, "{}", "orders.create", "98880550.orders/create"),
        ("standard", &[("webhook-id", "msg_1")], r#"{"type": "user.created"}"#, "user.created", "msg_1"),
        ("telegram", &[], r#"{"update_id": 10000, "message": {}}"#, "message", "10000"),
        (
            "event-grid",
            &[],
            r#"{"id": "e", "eventType": "Microsoft.Storage.BlobCreated"}"#,
            "Microsoft.Storage.BlobCreated",
            "e",
        ),
    ];
    for (provider, headers, body, kind, id) in cases {
        let (filled_kind, key, filled_id) = filled(&format!("provider = \"{provider}\""), headers, body);
        assert_eq!((filled_kind.as_str(), key, filled_id.as_deref()), (kind, None, Some(id)), "{provider} {body}");
        // A request with an unknown structure becomes an event too.
        let (kind, _, id) = filled(&format!("provider = \"{provider}\""), &[], "[]");
        assert!(kind == "h" && id.is_some_and(|id| id.len() == 64), "{provider}");
    }
    let two = r#"{"object": "page", "entry": [{"changes": [{"field": "feed"}]}, {}]}"#;
    let (kind, _, id) = filled("provider = \"meta\"", &[], two);
    assert!(kind == "page.feed" && id.is_some_and(|id| id.len() == 64), "the id of a list is the digest of the data");
}

/// An id of Event Grid belongs to a topic. The ids of other known senders are unique.
#[test]
fn sources_of_known_senders() {
    let source = |keys: &str, body: &str| incoming(&hook(keys), request(&[], body)).expect("an event").source;
    let event = r#"{"id": "1807", "topic": "/subscriptions/s/topics/t", "eventType": "Order.Placed"}"#;
    assert_eq!(source("provider = \"event-grid\"", event), "/subscriptions/s/topics/t");
    assert_eq!(source("provider = \"stripe\"", event), "/hooks/h");
    let long = format!(r#"{{"topic": "{}"}}"#, "x".repeat(256));
    for body in ["{}", r#"{"topic": ""}"#, r#"{"topic": null}"#, &long, "[]"] {
        assert_eq!(source("provider = \"event-grid\"", body), "/hooks/h", "{body}");
    }
}

#[test]
fn event_grid_may_send_cloudevents() {
    let body = r#"{"specversion": "1.0", "id": "c-1", "source": "/s", "type": "sky.blue", "data": {"id": "inner"}}"#;
    for (keys, id) in [("", "c-1"), ("id = \"own-{data.id}\"", "own-inner")] {
        let request = HookRequest {
            content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
            ..request(&[], body)
        };
        let event = incoming(&hook(&format!("provider = \"event-grid\"\n{keys}")), request).expect("an event");
        assert_eq!((event.kind.as_str(), event.id.as_deref(), event.source.as_str()), ("sky.blue", Some(id), "/s"));
    }
}

/// No `ce-` header is lost: the daemon reads all headers, or refuses the request.
#[test]
fn a_cloudevent_may_have_a_bounded_number_of_headers() {
    let with_headers = |count: usize| {
        let required = [("specversion", "1.0"), ("id", "c-1"), ("source", "/s"), ("type", "sky.blue")];
        let required = required.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let extensions = (required.len()..count).map(|number| (format!("x{number}"), number.to_string()));
        HookRequest { cloudevent: required.into_iter().chain(extensions).collect(), ..request(&[], "{}") }
    };
    let clouds = hook("codec = \"cloudevents\"");
    let event = incoming(&clouds, with_headers(CLOUDEVENT_HEADERS_MAX)).expect("an event");
    assert_eq!(event.attributes.len(), CLOUDEVENT_HEADERS_MAX - 4);
    let problem = incoming(&clouds, with_headers(CLOUDEVENT_HEADERS_MAX + 1)).expect_err("too many headers");
    assert_eq!(problem.status(), 422);
    assert!(problem.detail().contains("65 `ce-` headers"), "{}", problem.detail());
    let plain = incoming(&hook(""), with_headers(CLOUDEVENT_HEADERS_MAX + 1)).expect("an event");
    assert!(plain.attributes.is_empty(), "the headers have no meaning with another codec");
}
