use serde_json::json;
use trunkline_plugin::testing;

use super::*;

const JID: &str = "420777123456@s.whatsapp.net";

/// A webhook of Evolution API.
fn webhook(text: &str) -> Value {
    json!({
        "event": "messages.upsert", "instance": "shop",
        "data": {
            "key": { "remoteJid": JID, "fromMe": false, "id": "m-1" }, "pushName": "Jana",
            "message": { "conversation": text }, "messageTimestamp": 1_763_719_200,
        },
    })
}

fn received(body: &Value) -> Vec<Received> {
    let emitted = handle(testing::event("whatsapp.webhook", body)).expect("valid");
    emitted.iter().map(|emission| emission.read().expect("JSON")).collect()
}

fn rejected(body: &Value) -> String {
    match handle(testing::event("whatsapp.webhook", body)) {
        Err(Failure::Reject(text)) => text,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn a_message_becomes_an_event_with_every_field() {
    let emitted = handle(testing::event("whatsapp.webhook", &webhook(" Dobrý den "))).expect("valid");
    assert_eq!(emitted[0].subject.as_deref(), Some(JID));
    let event: Value = emitted[0].read().expect("JSON");
    let wanted = json!({
        "instance": "shop",
        "contact": { "remoteJid": JID, "phoneNumber": "+420777123456", "name": "Jana", "countryCode": "+420" },
        "message": { "text": "Dobrý den", "messageId": "m-1", "timestamp": "2025-11-21T10:00:00Z" },
    });
    assert_eq!(event, wanted);
}

#[test]
fn other_messages_give_nothing() {
    for (place, value) in [
        ("/event", json!("messages.update")),
        ("/event", json!("session.status")),
        ("/data/key/fromMe", json!(true)),
        ("/data/key/remoteJid", json!("1203630@g.us")),
        ("/data/key/remoteJid", json!("status@broadcast")),
        ("/data/key/remoteJid", json!("news@newsletter")),
        ("/data/key/remoteJid", json!("not-a-number@s.whatsapp.net")),
        ("/data/message", json!({ "imageMessage": { "url": "https://x" } })),
        ("/data/message", json!({ "conversation": "  " })),
    ] {
        let mut body = webhook("hello");
        *body.pointer_mut(place).expect("there") = value;
        assert!(received(&body).is_empty(), "{body}");
    }
}

#[test]
fn invalid_webhooks_are_rejected_by_name() {
    for (place, value, named) in [
        ("/instance", json!(null), "instance"),
        ("/data", json!("text"), "data"),
        ("/data/key/id", json!(7), "key.id"),
        ("/data/key/remoteJid", json!(null), "key.remoteJid"),
        ("/data/messageTimestamp", json!("soon"), "messageTimestamp"),
    ] {
        let mut body = webhook("hello");
        *body.pointer_mut(place).expect("there") = value;
        let text = rejected(&body);
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn forms_of_baileys() {
    let mut body = webhook("x");
    body["event"] = json!("MESSAGES_UPSERT");
    body["data"]["message"] = json!({ "extendedTextMessage": { "text": "quoted" } });
    body["data"]["messageTimestamp"] = json!("17");
    let of = |body: &Value| received(body).remove(0).message;
    let first = of(&body);
    assert_eq!((first.text.as_str(), first.timestamp.as_str()), ("quoted", "1970-01-01T00:00:17Z"));
    body["data"]["message"] = json!({ "documentMessage": { "caption": "My invoice" } });
    body["data"]["messageTimestamp"] = json!({ "low": 18, "high": 0, "unsigned": true });
    let second = of(&body);
    assert_eq!((second.text.as_str(), second.timestamp.as_str()), ("My invoice", "1970-01-01T00:00:18Z"));
    body["data"]["message"] = json!({ "ephemeralMessage": { "message": { "conversation": "gone soon" } } });
    for (wrapped, text) in [
        (
            json!({ "documentWithCaptionMessage": { "message": { "documentMessage": { "caption": "a file" } } } }),
            "a file",
        ),
        (json!({ "viewOnceMessageV2": { "message": { "imageMessage": { "caption": "once" } } } }), "once"),
        (
            json!({ "ephemeralMessage": { "message": {
                "documentWithCaptionMessage": { "message": { "documentMessage": { "caption": "both" } } },
            } } }),
            "both",
        ),
        (json!({ "ephemeralMessage": null, "conversation": "plain" }), "plain"),
    ] {
        let mut message = body.clone();
        message["data"]["message"] = wrapped;
        assert_eq!(of(&message).text, text);
    }
    body["data"]["key"] = json!({ "remoteJid": "99:3@lid", "id": "m-2", "senderPn": "14155550100@s.whatsapp.net" });
    let hidden = received(&body).remove(0);
    let contact = Contact {
        remote_jid: "99@lid".to_owned(),
        phone_number: Some("+14155550100".to_owned()),
        name: Some("Jana".to_owned()),
        country_code: Some("+1".to_owned()),
    };
    assert_eq!((hidden.contact, hidden.message.text.as_str()), (contact, "gone soon"));
    let message = &webhook("one")["data"];
    let (mut other, mut of_another) = (message.clone(), message.clone());
    other["key"]["id"] = json!("m-2");
    of_another["key"]["remoteJid"] = json!("14155550100@s.whatsapp.net");
    // The list contains one message twice, and the contacts use the same id.
    let list = json!({ "instance": "shop", "data": [message, message, other, of_another] });
    let emitted = handle(testing::event("whatsapp.webhook", &list)).expect("valid");
    let keys = emitted.iter().map(|emission| emission.dedupe_key.as_deref()).collect::<BTreeSet<_>>();
    assert_eq!((emitted.len(), keys.len()), (3, 3), "{keys:?}");
    assert_eq!(received(&json!({ "instance": "shop", "data": { "messages": [message] } })).len(), 1);
}

/// A body of WaSender with these messages.
fn of_wasender(event: &str, messages: Value) -> Value {
    json!({ "event": event, "timestamp": 1_633_456_789, "data": { "messages": messages } })
}

/// The examples of WaSender's pages on `messages.received` and `messages.upsert`.
#[test]
fn webhooks_of_wasender() {
    let message = json!({
        "key": {
            "id": "3EB0X123456789", "fromMe": false, "remoteJid": "555555555@lid", "addressingMode": "lid",
            "senderPn": "1234567890@s.whatsapp.net", "cleanedSenderPn": "1234567890", "senderLid": "555555555@lid",
        },
        "messageBody": "Hello, I have a question", "message": { "conversation": "Hello, I have a question" },
    });
    let one = of_wasender("messages.received", message.clone());
    assert!(rejected(&one).contains("config \"instance\""), "WaSender does not name the number");
    testing::set_config("instance", "main");
    let event = received(&one).remove(0);
    assert_eq!((event.instance.as_str(), event.contact.remote_jid.as_str()), ("main", "555555555@lid"));
    assert_eq!(event.contact.phone_number.as_deref(), Some("+1234567890"));
    assert_eq!(event.message.timestamp, "2021-10-05T17:59:49Z");
    assert_eq!(received(&of_wasender("messages.upsert", json!([message]))), [event]);
    let mut bare = message;
    bare["key"] = json!({ "id": "m", "remoteJid": "5@lid", "cleanedSenderPn": "5551234567" });
    bare["message"] = json!({ "imageMessage": { "mimetype": "image/jpeg" } });
    bare["messageBody"] = json!("The caption");
    let mut body = of_wasender("messages.received", bare);
    body["timestamp"] = json!(1_633_456_789_000_u64);
    let event = received(&body).remove(0);
    assert_eq!(event.contact.phone_number.as_deref(), Some("+5551234567"));
    assert_eq!((event.message.text.as_str(), &event.message.timestamp[..4]), ("The caption", "2021"));
    body["timestamp"] = Value::Null;
    assert_eq!(received(&body)[0].message.timestamp, "2026-11-21T10:00:00Z", "the time of the event");
}

/// A body of Meta's Cloud API with these messages.
fn of_meta(messages: Value) -> Value {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "0", "changes": [{
            "field": "messages",
            "value": {
                "messaging_product": "whatsapp",
                "metadata": { "display_phone_number": "16505551111", "phone_number_id": "123456123" },
                "contacts": [{ "profile": { "name": "Jana" }, "wa_id": "420777123456" }],
                "messages": messages,
            },
        }] }],
    })
}

fn meta_message(id: &str, kind: &str, content: Value) -> Value {
    json!({ "from": "420777123456", "id": id, "timestamp": "1763719200", "type": kind, kind: content })
}

#[test]
fn webhooks_of_meta() {
    let event = received(&of_meta(json!([meta_message("wamid.A", "text", json!({ "body": " Hello " }))]))).remove(0);
    assert_eq!(
        serde_json::to_value(&event).expect("JSON"),
        json!({
            "instance": "123456123",
            "contact": { "remoteJid": JID, "phoneNumber": "+420777123456", "name": "Jana", "countryCode": "+420" },
            "message": { "text": "Hello", "messageId": "wamid.A", "timestamp": "2025-11-21T10:00:00Z" },
        })
    );
    let texts = received(&of_meta(json!([
        meta_message("1", "image", json!({ "id": "media", "caption": "A photo" })),
        meta_message("2", "button", json!({ "text": "Yes", "payload": "y" })),
        meta_message("3", "interactive", json!({ "type": "list_reply", "list_reply": { "id": "a", "title": "Blue" } })),
        meta_message(
            "4",
            "interactive",
            json!({ "type": "button_reply", "button_reply": { "id": "b", "title": "No" } })
        ),
        meta_message("5", "audio", json!({ "id": "media" })),
        meta_message("6", "document", json!({ "id": "media" })),
    ])));
    let texts = texts.iter().map(|event| event.message.text.as_str()).collect::<Vec<_>>();
    assert_eq!(texts, ["A photo", "Yes", "Blue", "No"]);
    let mut group = meta_message("7", "text", json!({ "body": "hi all" }));
    group["group_id"] = json!("g");
    assert!(received(&of_meta(json!([group]))).is_empty());
    let mut other = of_meta(json!([meta_message("8", "text", json!({ "body": "x" }))]));
    other["entry"][0]["changes"][0]["field"] = json!("account_update");
    assert!(received(&other).is_empty());
    let mut status = of_meta(Value::Null);
    status["entry"][0]["changes"][0]["value"]["statuses"] = json!([{ "id": "wamid.A", "status": "read" }]);
    assert!(received(&status).is_empty(), "a report about an own message");
    assert!(rejected(&of_meta(json!([{ "type": "text" }]))).contains("`id`"));
}
