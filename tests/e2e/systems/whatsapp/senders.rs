//! The three senders of the example. The stubs follow the senders' published pages, and refuse every request that differs
//! from these pages. The services themselves are not tried.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::super::example::stories;
use super::*;
use crate::api::senders::sign;

stories!(
    wasender_carries_a_conversation,
    evolution_carries_a_conversation,
    meta_carries_a_conversation,
    the_rate_of_the_plan_holds,
);

/// The fields of a body, in the order of their names.
fn fields(body: &Value) -> Vec<&str> {
    body.as_object().map(|body| body.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Whether a text is a number with `+`.
fn is_e164(text: &Value) -> bool {
    let digits = text.as_str().and_then(|text| text.strip_prefix('+')).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a request has the key of the sender as a bearer token.
fn has_bearer(asked: &Asked) -> bool {
    asked.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(KEY)
}

/// wasenderapi.com/api-docs/messages: send-text-message, send-image-message, send-document-message.
pub fn wasender(asked: &Asked) -> Answer {
    let refused = |status: u16, message: &str| Answer::json(status, &json!({ "success": false, "message": message }));
    if !has_bearer(asked) {
        return refused(401, "Invalid API key");
    }
    let known = ["text", "to", "imageUrl", "videoUrl", "documentUrl", "fileName"];
    let has_content = ["text", "imageUrl", "videoUrl", "documentUrl"].iter().any(|field| asked.body[field].is_string());
    let is_known = fields(&asked.body).iter().all(|field| known.contains(field));
    if asked.path != "/api/send-message" || !is_e164(&asked.body["to"]) || !has_content || !is_known {
        return refused(422, "The given data was invalid.");
    }
    let data = json!({ "msgId": 100_000, "jid": asked.body["to"], "status": "in_progress" });
    Answer::json(200, &json!({ "success": true, "data": data }))
}

/// wasenderapi.com/api-docs/rate-limits: the refusal of a request above the rate of the plan.
pub fn limited(retry_after: u64) -> Answer {
    let message = "You are on a free trial. You can only send 1 message every 1 minute.";
    Answer::json(429, &json!({ "message": message, "retry_after": retry_after }))
}

/// doc.evolution-api.com/v2/api-reference/message-controller: send-text and send-media.
pub fn evolution(asked: &Asked) -> Answer {
    let refused = |status: u16| Answer::json(status, &json!({ "status": status, "error": "refused" }));
    if asked.header("apikey") != Some(KEY) {
        return refused(401);
    }
    let (kind, instance) =
        asked.path.strip_prefix("/message/").and_then(|path| path.split_once('/')).unwrap_or_default();
    let has_content = match kind {
        "sendText" => asked.body["text"].is_string(),
        "sendMedia" => asked.body["mediatype"].is_string() && asked.body["media"].is_string(),
        _ => false,
    };
    let number = asked.body["number"].as_str().unwrap_or_default();
    if !has_content || instance.is_empty() || !is_e164(&json!(format!("+{number}"))) {
        return refused(400);
    }
    let key = json!({ "remoteJid": format!("{number}@s.whatsapp.net"), "fromMe": true, "id": "BAE594145F4C59B4" });
    Answer::json(201, &json!({ "key": key, "messageTimestamp": "1717689097", "status": "PENDING" }))
}

/// developers.facebook.com/docs/whatsapp/cloud-api/reference/messages.
fn meta(asked: &Asked) -> Answer {
    let error = |status: u16, code: u64| {
        let error = json!({ "message": format!("(#{code}) No"), "type": "OAuthException", "code": code });
        Answer::json(status, &json!({ "error": error }))
    };
    if !has_bearer(asked) {
        return error(401, 190);
    }
    let kind = asked.body["type"].as_str().unwrap_or_default();
    let has_content = match kind {
        "text" => asked.body["text"]["body"].is_string(),
        "image" | "document" => asked.body[kind]["link"].is_string(),
        _ => false,
    };
    let is_whatsapp = asked.body["messaging_product"] == "whatsapp" && asked.path == "/v23.0/106540352242922/messages";
    if !has_content || !is_whatsapp || !is_e164(&asked.body["to"]) {
        return error(400, 100);
    }
    let contact = json!({ "input": asked.body["to"], "wa_id": "420777123456" });
    let message = json!({ "id": "wamid.HBgMNDIwNzc3MTIzNDU2BB" });
    Answer::json(200, &json!({ "messaging_product": "whatsapp", "contacts": [contact], "messages": [message] }))
}

/// An agent that answers orders with two files, and other messages with a text.
fn shop() -> Answers {
    let [text, files] = ["07-agent-answer", "10-agent-answer-files"].map(|name| {
        let answer = sample(NAME, &format!("samples/{name}.json"));
        fits(&schema(NAME, "agent-answer"), &answer);
        answer
    });
    Box::new(move |asked, _| Answer::json(200, if asked.path == "/order" { &files } else { &text }))
}

/// The requests of a stub at their times.
type Times = Arc<Mutex<Vec<Instant>>>;

/// The time between the first and the last request.
fn span(times: &Times) -> Duration {
    let times = times.lock().expect("no panic");
    let ends = times.first().zip(times.last());
    ends.map(|(first, last)| last.duration_since(*first)).expect("requests")
}

async fn wasender_carries_a_conversation(on: On) {
    let times = Times::default();
    let noted = times.clone();
    let gateway = Stub::start(move |asked, before| {
        if asked.body["documentUrl"].is_null() {
            return wasender(asked);
        }
        noted.lock().expect("no panic").push(Instant::now());
        if before == 0 { limited(3) } else { wasender(asked) }
    });
    let world = World::start_with(on, shop(), down(), gateway, &[("SEND_RETRY", "1s")]).await;
    let [first, mut second] =
        ["01-webhook", "02-webhook-order"].map(|name| sample(NAME, &format!("samples/{name}.json")));
    // The senders write null into fields that they do not know.
    for place in ["pushName", "key/senderPn", "key/cleanedSenderPn"] {
        let field = second.pointer_mut(&format!("/data/messages/0/{place}"));
        *field.expect("a field of the sample") = Value::Null;
    }
    let forged = world.hook_with(("x-webhook-signature", "another-secret-of-webhooks"), &first);
    assert_eq!((forged.0, &forged.1["code"]), (401, &json!("TL401")));
    // `messages` is one message in the first webhook, and a list in the second.
    assert_eq!(world.hook(&first).0, 200);
    let answer = world.gateway.one("the answer", to("420777123456")).await;
    assert_eq!(answer.body, json!({ "to": "+420777123456", "text": "We are open from 10 to 6." }));
    world.at_rest(5).await;
    let session = json!({ "event": "session.status", "timestamp": 1_795_255_230, "data": { "status": "connected" } });
    assert_eq!(world.hook(&session).0, 200);
    assert_eq!(world.hook(&second).0, 200);
    let sent = world.gateway.at_least(4, "the files", to("420777123456")).await;
    let image = json!({
        "to": "+420777123456", "text": "Here are the red shoes.", "imageUrl": "https://cdn.example.com/red-shoes.jpg",
    });
    let document = json!({
        "to": "+420777123456", "documentUrl": "https://cdn.example.com/sizes.pdf", "fileName": "sizes.pdf",
    });
    assert_eq!(sent[1..].iter().map(|asked| &asked.body).collect::<Vec<_>>(), [&image, &document, &document]);
    assert!(span(&times) >= Duration::from_secs(3), "the wait of `retry_after`: {:?}", span(&times));
    // The session's webhook, the second webhook, its message and its task, and twice a reply and a notice.
    world.at_rest(5 + 1 + 3 + 4).await;
    world.publish(RECEIVED, &message("420777123456", "thank you"));
    let task = world.agent.one("the task", |asked| asked.body["message"]["text"] == "thank you").await;
    let wanted = [
        "user: Hello, are you open on Sunday?",
        "assistant: We are open from 10 to 6.",
        "user: Great. What is the price of the red shoes?",
        "assistant: Here are the red shoes.",
        "assistant: sizes.pdf",
    ];
    assert_eq!(history(&task), wanted);
    assert_eq!(world.daemon.sum("trunkline_dead_letters_total"), 0.0);
    assert!(world.daemon.terminate().await.success());
}

async fn evolution_carries_a_conversation(on: On) {
    let gateway = Stub::start(|asked, _| evolution(asked));
    let world = World::start_with(on, shop(), down(), gateway, &[("SENDER_API", "evolution")]).await;
    let mut webhook = sample(NAME, "samples/08-webhook-evolution.json");
    webhook["data"]["pushName"] = Value::Null;
    fits(&schema(NAME, "evolution-webhook"), &webhook);
    let bearer = format!("Bearer {SECRET}");
    let hook = |webhook: &Value| world.hook_with(("authorization", &bearer), webhook);
    assert_eq!(world.hook_with(("authorization", "Bearer another-secret-of-webhooks"), &webhook).0, 401);
    assert_eq!(hook(&webhook).0, 202);
    let (status, repeated) = hook(&webhook);
    assert_eq!((status, &repeated["repeated"]), (200, &json!(true)), "{repeated}");
    let answer = world.gateway.one("the answer", |_| true).await;
    let quoted = json!({ "key": { "id": "3EB0A1" } });
    assert_eq!(answer.path, "/message/sendText/shop");
    let wanted = json!({ "number": "420777123456", "text": "We are open from 10 to 6.", "quoted": quoted });
    assert_eq!(answer.body, wanted);
    webhook["data"]["key"]["id"] = "3EB0A2".into();
    webhook["data"]["message"]["conversation"] = "What is the price of the red shoes?".into();
    assert_eq!(hook(&webhook).0, 202);
    let sent = world.gateway.at_least(3, "the files", |_| true).await;
    let quoted = json!({ "key": { "id": "3EB0A2" } });
    let image = json!({
        "number": "420777123456", "mediatype": "image", "media": "https://cdn.example.com/red-shoes.jpg",
        "caption": "Here are the red shoes.", "quoted": quoted,
    });
    let document = json!({
        "number": "420777123456", "mediatype": "document", "media": "https://cdn.example.com/sizes.pdf",
        "fileName": "sizes.pdf", "mimetype": "application/pdf", "quoted": quoted,
    });
    let sent = sent[1..].iter().map(|asked| (asked.path.as_str(), &asked.body)).collect::<Vec<_>>();
    assert_eq!(sent, [("/message/sendMedia/shop", &image), ("/message/sendMedia/shop", &document)]);
    assert!(world.daemon.terminate().await.success());
}

async fn meta_carries_a_conversation(on: On) {
    let gateway = Stub::start(|asked, before| match before {
        // The limit for one contact, which Meta reports with status 400.
        0 if asked.body["type"] == "document" => Answer::json(400, &json!({ "error": { "code": 131_056 } })),
        _ => meta(asked),
    });
    let world = World::start_with(on, shop(), down(), gateway, &[("SENDER_API", "meta")]).await;
    let greeting = "/hooks/whatsapp?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=";
    assert_eq!(world.daemon.get(&format!("{greeting}a-token")), (200, "1158201444".to_owned()));
    assert_eq!(world.daemon.get(&format!("{greeting}another")).0, 403);
    let mut webhook = sample(NAME, "samples/09-webhook-meta.json");
    fits(&schema(NAME, "meta-webhook"), &webhook);
    let hook = |webhook: &Value| {
        let signature = format!("sha256={}", hex::encode(sign(SECRET.as_bytes(), &webhook.to_string())));
        world.hook_with(("x-hub-signature-256", &signature), webhook)
    };
    let forged = format!("sha256={}", "0".repeat(64));
    assert_eq!(world.hook_with(("x-hub-signature-256", &forged), &webhook).0, 401);
    assert_eq!(hook(&webhook).0, 200);
    let answer = world.gateway.one("the answer", |_| true).await;
    let common = |kind: &str, answers: &str, content: Value| {
        json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+420777123456", "type": kind,
            "context": { "message_id": answers }, kind: content,
        })
    };
    let text = json!({ "preview_url": false, "body": "We are open from 10 to 6." });
    assert_eq!(answer.body, common("text", "wamid.HBgMNDIwNzc3MTIzNDU2A1", text));
    let mut report = webhook.clone();
    let value = &mut report["entry"][0]["changes"][0]["value"];
    value["messages"] = json!([]);
    value["statuses"] = json!([{ "id": "wamid.HBgMNDIwNzc3MTIzNDU2BB", "status": "delivered" }]);
    assert_eq!(hook(&report).0, 200);
    let order = &mut webhook["entry"][0]["changes"][0]["value"]["messages"][0];
    order["id"] = "wamid.HBgMNDIwNzc3MTIzNDU2A2".into();
    order["text"]["body"] = "What is the price of the red shoes?".into();
    assert_eq!(hook(&webhook).0, 200);
    let sent = world.gateway.at_least(4, "the files", |_| true).await;
    let image = json!({ "link": "https://cdn.example.com/red-shoes.jpg", "caption": "Here are the red shoes." });
    let image = common("image", "wamid.HBgMNDIwNzc3MTIzNDU2A2", image);
    let document = json!({ "link": "https://cdn.example.com/sizes.pdf", "filename": "sizes.pdf" });
    let document = common("document", "wamid.HBgMNDIwNzc3MTIzNDU2A2", document);
    assert_eq!(sent[1..].iter().map(|asked| &asked.body).collect::<Vec<_>>(), [&image, &document, &document]);
    // Two webhooks of messages, each with its message and its task, three replies, three notices, and the report.
    world.at_rest(2 * 3 + 3 + 3 + 1).await;
    assert_eq!(world.agent.asked().len(), 2, "a report is not a message");
    assert!(world.daemon.terminate().await.success());
}

async fn the_rate_of_the_plan_holds(on: On) {
    const CONTACTS: usize = 4;
    let times = Times::default();
    let noted = times.clone();
    let gateway = Stub::start(move |asked, _| {
        noted.lock().expect("no panic").push(Instant::now());
        wasender(asked)
    });
    let world = World::start_with(on, shop(), down(), gateway, &[("SENDER_RATE", "1/s")]).await;
    for contact in 0..CONTACTS {
        world.publish(RECEIVED, &message(&format!("42077790000{contact}"), "hello"));
    }
    world.gateway.at_least(CONTACTS, "all answers", |_| true).await;
    world.at_rest(4 * CONTACTS).await;
    assert_eq!(world.gateway.asked().len(), CONTACTS);
    // Without the rate the requests follow each other within milliseconds. A slow machine may delay the first request.
    assert!(span(&times) >= Duration::from_secs(2), "{:?}", span(&times));
}
