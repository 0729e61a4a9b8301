use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};
use trunkline_plugin::http::{Request, Response};
use trunkline_plugin::testing;
use trunkline_plugin::time::Timestamp;

use super::*;

fn reply(id: &str) -> Value {
    json!({
        "messageId": id, "originalMessageId": "m-1", "timestamp": "2026-11-21T10:00:00Z", "status": "success",
        "contact": { "remoteJid": "420777123456@s.whatsapp.net", "phoneNumber": "+420777123456", "name": null, "countryCode": null },
        "response": { "text": "Hello" },
    })
}

fn handled(reply: &Value) -> Result<Vec<Emission>, Failure> {
    handle(testing::event("agent.reply", reply))
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A sender that answers with these responses in turn, and keeps the requests.
fn sender(api: &str, answers: Vec<(u16, Value)>) -> Rc<RefCell<Vec<(String, Value)>>> {
    testing::set_config("api", api);
    testing::set_config("origin", "http://sender.example");
    testing::set_config("SENDER_API_KEY", "k3y");
    let requests = Rc::new(RefCell::new(Vec::new()));
    let kept = requests.clone();
    let is_evolution = api == "evolution";
    testing::set_http(move |request| {
        let secret = if is_evolution { header(request, "apikey") } else { header(request, "authorization") };
        assert_eq!(secret, Some(if is_evolution { "k3y" } else { "Bearer k3y" }));
        assert_eq!((request.method.as_str(), header(request, "idempotency-key")), ("POST", Some("event-1")));
        let path = request.url.strip_prefix("http://sender.example").expect("the origin").to_owned();
        let (status, body) = answers[kept.borrow().len().min(answers.len() - 1)].clone();
        kept.borrow_mut().push((path, serde_json::from_slice(&request.body).expect("JSON")));
        Ok(Response { status, body: body.to_string().into_bytes(), ..Response::default() })
    });
    requests
}

/// The reply with these files.
fn with_files(text: &str, files: Value) -> Value {
    let mut reply = reply("r-1");
    reply["response"] = json!({ "text": text, "attachments": files });
    reply
}

/// Handles a reply and the rests that it emits. Gives the texts of the notices.
fn handled_to_the_end(reply: &Value) -> Vec<String> {
    let (mut next, mut texts) = (Some(reply.clone()), Vec::new());
    while let Some(reply) = next.take() {
        for emission in handled(&reply).expect("sent") {
            match emission.kind.as_str() {
                "agent.reply" => next = Some(emission.read().expect("JSON")),
                kind => {
                    assert_eq!(kind, "whatsapp.message.sent");
                    texts.push(emission.read::<Sent>().expect("JSON").text);
                }
            }
        }
    }
    texts
}

fn files() -> Value {
    json!([
        { "type": "image", "url": "https://cdn.example/menu.png", "caption": "The menu" },
        { "url": "https://cdn.example/bill.pdf", "fileName": "bill.pdf", "mimeType": "application/pdf" },
    ])
}

#[test]
fn a_reply_is_sent_once_and_said_to_be_sent_as_often_as_it_comes() {
    let requests = sender("wasender", vec![(200, json!({ "success": true, "data": { "msgId": 100_000 } }))]);
    let first = handled(&reply("r-1")).expect("sent");
    let sent: Sent = first[0].read().expect("JSON");
    assert_eq!((sent.instance.as_str(), sent.text.as_str()), ("org-1", "Hello"));
    assert_eq!(sent.provider_message_id.as_deref(), Some("100000"));
    assert_eq!(handled(&reply("r-1")), Ok(first));
    assert_eq!(
        *requests.borrow(),
        [("/api/send-message".to_owned(), json!({ "to": "+420777123456", "text": "Hello" }))]
    );
    for number in 2..=60 {
        handled(&reply(&format!("r-{number}"))).expect("sent");
    }
    assert_eq!(requests.borrow().len(), 60);
    let kept: Kept = kv::get_json("contact:420777123456@s.whatsapp.net").expect("read").expect("kept");
    assert_eq!((kept.sent.len(), kept.sent[0].id.as_str()), (SENT_MAX, "r-11"));
}

#[test]
fn each_file_is_a_message_of_wasender() {
    let requests = sender("wasender", vec![(200, json!({ "success": true, "data": { "msgId": "7" } }))]);
    assert_eq!(handled_to_the_end(&with_files("Here you are", files())), ["Here you are\n\nThe menu", "bill.pdf"]);
    let wanted = [
        json!({ "to": "+420777123456", "text": "Here you are\n\nThe menu", "imageUrl": "https://cdn.example/menu.png" }),
        json!({ "to": "+420777123456", "documentUrl": "https://cdn.example/bill.pdf", "fileName": "bill.pdf" }),
    ];
    assert_eq!(*requests.borrow(), wanted.map(|body| ("/api/send-message".to_owned(), body)));
    // The same reply again sends nothing.
    assert_eq!(handled_to_the_end(&with_files("Here you are", files())).len(), 2);
    assert_eq!(requests.borrow().len(), 2);
}

#[test]
fn each_file_is_a_message_of_evolution() {
    let requests = sender("evolution", vec![(201, json!({ "key": { "id": "BAE5" } }))]);
    let long = "x".repeat(1025);
    assert_eq!(handled_to_the_end(&with_files(&long, files())), [long.as_str(), "The menu", "bill.pdf"]);
    let common = |mut body: Value| {
        body["number"] = json!("420777123456");
        body["quoted"] = json!({ "key": { "id": "m-1" } });
        body
    };
    let image = json!({ "mediatype": "image", "media": "https://cdn.example/menu.png", "caption": "The menu" });
    let document = json!({
        "mediatype": "document", "media": "https://cdn.example/bill.pdf", "fileName": "bill.pdf",
        "mimetype": "application/pdf",
    });
    let wanted = [
        ("/message/sendText/org-1".to_owned(), common(json!({ "text": long }))),
        ("/message/sendMedia/org-1".to_owned(), common(image)),
        ("/message/sendMedia/org-1".to_owned(), common(document)),
    ];
    assert_eq!(*requests.borrow(), wanted);
}

#[test]
fn each_file_is_a_message_of_meta() {
    let requests = sender("meta", vec![(200, json!({ "messages": [{ "id": "wamid.B" }] }))]);
    let first = handled(&reply("r-0")).expect("sent");
    assert_eq!(first[0].read::<Sent>().expect("JSON").provider_message_id.as_deref(), Some("wamid.B"));
    assert_eq!(handled_to_the_end(&with_files("Here you are", files())).len(), 2);
    let common = |kind: &str, content: Value| {
        let body = json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+420777123456", "type": kind,
            "context": { "message_id": "m-1" }, kind: content,
        });
        ("/v23.0/org-1/messages".to_owned(), body)
    };
    let caption = "Here you are\n\nThe menu";
    let wanted = [
        common("text", json!({ "preview_url": false, "body": "Hello" })),
        common("image", json!({ "link": "https://cdn.example/menu.png", "caption": caption })),
        common("document", json!({ "link": "https://cdn.example/bill.pdf", "filename": "bill.pdf" })),
    ];
    assert_eq!(*requests.borrow(), wanted);
}

/// Handles replies to a sender with these responses.
fn failures(api: &str, answers: Vec<(u16, Value)>) -> Vec<Failure> {
    let count = answers.len();
    let requests = sender(api, answers);
    let failures = (0..count).map(|_| handled(&reply("r-1")).expect_err("a failure")).collect();
    assert_eq!(requests.borrow().len(), count, "nothing was noted");
    failures
}

#[test]
fn passing_failures_are_tried_again() {
    let trial = "You are on a free trial. You can only send 1 message every 1 minute.";
    assert_eq!(
        failures(
            "wasender",
            vec![
                (429, json!({ "message": trial, "retry_after": 60 })),
                (503, Value::Null),
                (401, json!({ "success": false, "message": "Invalid API key" })),
                (200, json!({ "success": false, "message": "The session is not connected" })),
            ]
        ),
        [
            Failure::retry_after(format!("the server answered 429: {trial}"), Duration::from_secs(60)),
            Failure::retry("the server answered 503"),
            Failure::reject("the server answered 401: Invalid API key"),
            Failure::reject("the server answered 200: The session is not connected"),
        ]
    );
    let error = |code: u64| json!({ "error": { "message": format!("(#{code}) No"), "code": code } });
    let transient = json!({ "error": { "message": "Later", "code": 1, "is_transient": true } });
    assert_eq!(
        failures("meta", vec![(400, error(130_429)), (429, error(4)), (400, transient), (400, error(131_030))]),
        [
            Failure::retry("the server answered 400: (#130429) No"),
            Failure::retry("the server answered 429: (#4) No"),
            Failure::retry("the server answered 400: Later"),
            Failure::reject("the server answered 400: (#131030) No"),
        ]
    );
    let refused = json!({ "response": { "message": "The number is not on WhatsApp" } });
    assert_eq!(
        failures("evolution", vec![(400, refused)]),
        [Failure::reject("the server answered 400: The number is not on WhatsApp")]
    );
}

#[test]
fn a_wait_may_be_in_a_header() {
    testing::set_config("origin", "http://sender.example");
    let next = Rc::new(Cell::new(0));
    let turn = next.clone();
    testing::set_http(move |_| {
        turn.set(turn.get() + 1);
        let reset = Timestamp::now().millis() / 1000 + 600;
        let headers = match turn.get() {
            1 => vec![("retry-after".to_owned(), "7".to_owned()), ("x-ratelimit-reset".to_owned(), reset.to_string())],
            _ => vec![("x-ratelimit-reset".to_owned(), reset.to_string())],
        };
        Ok(Response { status: 429, headers, ..Response::default() })
    });
    let wait = || match handled(&reply("r-1")) {
        Err(Failure::Retry { after: Some(after), .. }) => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(), 7);
    let second = wait();
    assert!((500..=600).contains(&second), "{second}");
    assert_eq!(next.get(), 2);
}

#[test]
fn an_instance_does_not_change_the_address() {
    testing::set_config("api", "evolution");
    testing::set_config("origin", "http://sender.example/");
    for tenant in [Some("../admin"), Some("a?b"), Some(""), None] {
        let event = Event { tenant: tenant.map(str::to_owned), ..testing::event("agent.reply", &reply("r-1")) };
        assert!(matches!(handle(event), Err(Failure::Reject(_))), "{tenant:?}");
    }
    assert_eq!(settings::segment("shop"), Ok("shop"));
    assert_eq!(settings::address("/message").as_deref(), Ok("http://sender.example/message"));
}

#[test]
fn invalid_replies_are_rejected() {
    for response in [json!({}), json!({ "text": " " }), json!({ "text": "x", "attachments": [{ "type": "image" }] })] {
        let mut data = reply("r-1");
        data["response"] = response;
        assert!(matches!(handled(&data), Err(Failure::Reject(_))), "{data}");
    }
    testing::set_config("api", "telex");
    assert!(matches!(handled(&reply("r-1")), Err(Failure::Retry { reason, .. }) if reason.contains("telex")));
}
