use serde_json::{Value, json};
use trunkline_plugin::testing;
use whatsapp_messages::{Priority, TaskType, time};

use super::*;

const JID: &str = "420777123456@s.whatsapp.net";

fn message(id: &str, seconds: u64, text: &str) -> Value {
    json!({
        "instance": "shop",
        "contact": { "remoteJid": JID, "phoneNumber": "+420777123456", "name": "Jana", "countryCode": "+420" },
        "message": { "text": text, "messageId": id, "timestamp": time::rfc3339(seconds) },
    })
}

fn event(key: &str, id: &str, data: &Value) -> Event {
    Event { id: id.to_owned(), ..testing::event(key, data) }
}

fn tasks(id: &str, data: &Value) -> Vec<Value> {
    let emitted = handle(event("whatsapp.message.received", id, data)).expect("valid");
    emitted.iter().map(|emission| emission.read().expect("JSON")).collect()
}

fn sent(id: &str, seconds: u64, text: &str) -> Value {
    json!({
        "instance": "shop", "messageId": id, "originalMessageId": "m", "providerMessageId": null, "text": text,
        "contact": { "remoteJid": JID, "phoneNumber": null, "name": null, "countryCode": null },
        "timestamp": time::rfc3339(seconds),
    })
}

#[test]
fn a_message_becomes_a_task_with_every_field() {
    let emitted = handle(event("whatsapp.message.received", "e-1", &message("m-1", 1_763_719_200, "Dobrý den")));
    let emitted = emitted.expect("a task");
    assert_eq!((emitted[0].priority, emitted[0].dedupe_key.as_deref()), (Some(1), Some("m-1")));
    let task: Value = emitted[0].read().expect("JSON");
    let wanted = json!({
        "messageId": "task-m-1", "timestamp": "2026-11-21T10:00:00Z", "taskType": "conversation",
        "contact": { "remoteJid": JID, "phoneNumber": "+420777123456", "name": "Jana", "countryCode": "+420" },
        "message": { "text": "Dobrý den", "messageId": "m-1", "timestamp": "2025-11-21T10:00:00Z" },
        "context": {
            "conversationHistory": [], "userNotes": null,
            "sessionData": { "instance": "shop", "firstSeen": "2025-11-21T10:00:00Z", "messages": 1 },
        },
        "metadata": { "priority": "normal", "retryCount": 0, "maxRetries": 3 },
    });
    assert_eq!(task, wanted);
}

#[test]
fn invalid_events_are_rejected_by_name() {
    for (place, value, named) in [
        ("/instance", json!(null), "null"),
        ("/contact", json!({}), "remoteJid"),
        ("/message", json!({ "text": "hello" }), "messageId"),
    ] {
        let mut body = message("m-1", 1, "hello");
        *body.pointer_mut(place).expect("there") = value;
        match handle(event("whatsapp.message.received", "e-1", &body)) {
            Err(Failure::Reject(text)) => assert!(text.contains(named), "{text}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(matches!(handle(event("whatsapp.other", "e-1", &json!({}))), Err(Failure::Reject(_))));
    assert_eq!(trunkline_plugin::kv::keys(), Ok(vec![]), "nothing is kept");
}

#[test]
fn the_conversation_goes_along_and_stays_bounded() {
    testing::set_config("history", "3");
    tasks("e-1", &message("m-1", 10, "first"));
    handle(event("whatsapp.message.sent", "e-2", &sent("reply-m-1", 20, "answer"))).expect("kept");
    let history = |task: &Value| {
        let lines = task["context"]["conversationHistory"].as_array().expect("a list").clone();
        lines.iter().map(|line| format!("{}: {}", line["role"], line["text"]).replace('"', "")).collect::<Vec<_>>()
    };
    let second = &tasks("e-3", &message("m-2", 30, "second"))[0];
    assert_eq!(history(second), ["user: first", "assistant: answer"]);
    tasks("e-4", &message("m-3", 40, "third"));
    let fourth = &tasks("e-5", &message("m-4", 50, &"x".repeat(5000)))[0];
    assert_eq!(history(fourth), ["assistant: answer", "user: second", "user: third"]);
    assert_eq!(fourth["message"]["text"].as_str().map(str::len), Some(5000), "only what is kept is shortened");
    let last = &tasks("e-6", &message("m-5", 45, "last"))[0];
    assert_eq!(history(last)[..2], ["user: second", "user: third"], "in the order of arrival");
    assert_eq!(history(last)[2].len(), "user: ".len() + 1000);
    assert_eq!(tasks("e-6", &message("m-5", 45, "last"))[0]["context"], last["context"], "a repetition is the same");
}

#[test]
fn repetitions_change_nothing() {
    let first = tasks("e-1", &message("m-1", 10, "hello"));
    tasks("e-2", &message("m-2", 20, "more"));
    let kept = trunkline_plugin::kv::get(&format!("contact:{JID}")).expect("read");
    assert_eq!(tasks("e-1", &message("m-1", 10, "hello"))[0]["context"]["conversationHistory"], json!([]));
    assert_eq!(tasks("e-1", &message("m-1", 10, "hello"))[0]["message"], first[0]["message"], "the same event");
    assert_eq!(tasks("e-9", &message("m-1", 10, "hello")), Vec::<Value>::new(), "another event of the same message");
    assert_eq!(trunkline_plugin::kv::get(&format!("contact:{JID}")).expect("read"), kept);
    let sent_once = || handle(event("whatsapp.message.sent", "e-3", &sent("reply-m-1", 30, "answer")));
    sent_once().expect("kept");
    let kept = trunkline_plugin::kv::get(&format!("contact:{JID}")).expect("read");
    sent_once().expect("kept");
    assert_eq!(trunkline_plugin::kv::get(&format!("contact:{JID}")).expect("read"), kept);
}

#[test]
fn a_colleague_takes_over_and_gives_back() {
    let command = |id: &str, data: Value| handle(event("whatsapp.contact.ai", id, &data));
    command(
        "c-1",
        json!({ "instance": "shop", "contact": { "remoteJid": JID }, "enabled": false, "userNotes": "VIP" }),
    )
    .expect("ok");
    assert_eq!(tasks("e-1", &message("m-1", 10, "hello")), Vec::<Value>::new());
    command("c-2", json!({ "instance": "shop", "contact": { "remoteJid": JID }, "enabled": true })).expect("ok");
    command("c-1", json!({ "instance": "shop", "contact": { "remoteJid": JID }, "enabled": false }))
        .expect("an old one, repeated");
    let task = &tasks("e-2", &message("m-2", 20, "again"))[0];
    assert_eq!(task["context"]["userNotes"], "VIP");
    assert_eq!(task["context"]["conversationHistory"][0]["text"], "hello", "it was kept meanwhile");
    command("c-3", json!({ "contact": { "remoteJid": JID }, "enabled": true, "userNotes": null })).expect("ok");
    assert_eq!(tasks("e-3", &message("m-3", 30, "x"))[0]["context"]["userNotes"], Value::Null);
    assert!(matches!(command("c-4", json!({ "contact": { "remoteJid": JID } })), Err(Failure::Reject(_))));
    testing::set_config("ai-enabled", "false");
    let mut other = message("m-4", 40, "who are you");
    other["contact"]["remoteJid"] = json!("4915112345678@s.whatsapp.net");
    assert_eq!(tasks("e-4", &other), Vec::<Value>::new(), "off for new contacts");
}

#[test]
fn keywords_decide_the_type_of_a_text() {
    for (text, kind, priority) in [
        ("Hello there", TaskType::Conversation, Priority::Normal),
        ("That is quite ordinary", TaskType::Conversation, Priority::Normal),
        ("Can I book a table?", TaskType::Appointment, Priority::High),
        ("What's the PRICE?", TaskType::Order, Priority::High),
        ("I am looking  for shoes", TaskType::Search, Priority::Normal),
        ("book my order", TaskType::Appointment, Priority::High),
        ("Urgent! Where is my parcel", TaskType::Search, Priority::Urgent),
    ] {
        assert_eq!(rules::judge(text), (kind, priority), "{text}");
    }
    testing::set_config("keywords-order", "objednat, chci koupit");
    assert_eq!(rules::judge("Chci koupit boty").0, TaskType::Order);
    assert_eq!(rules::judge("order").0, TaskType::Conversation);
}
