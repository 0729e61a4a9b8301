use std::cell::Cell;
use std::rc::Rc;

use trunkline_plugin::testing;

use super::*;

fn reply(id: &str) -> Value {
    json!({
        "messageId": id, "originalMessageId": "m-1", "timestamp": "2026-11-21T10:00:00Z", "status": "success",
        "contact": { "remoteJid": "420777123456@s.whatsapp.net", "phoneNumber": "+420777123456", "name": null, "countryCode": null },
        "response": { "text": "Hello" },
    })
}

/// Answers with these statuses in turn, and counts.
fn gateway(statuses: &'static [u16]) -> Rc<Cell<usize>> {
    testing::set_config("url", "http://gateway.example/message/sendText/{instance}");
    testing::set_config("SENDER_API_KEY", "k3y");
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    testing::set_http(move |request| {
        let status = statuses[counted.get().min(statuses.len() - 1)];
        counted.set(counted.get() + 1);
        assert_eq!(request.url, "http://gateway.example/message/sendText/org-1");
        let has = |name: &str, value: &str| request.headers.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("apikey", "k3y") && has("idempotency-key", "event-1"), "{:?}", request.headers);
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!((&body["number"], &body["text"]), (&json!("420777123456"), &json!("Hello")));
        assert_eq!(body["quoted"]["key"]["id"], "m-1");
        let headers = vec![("retry-after".to_owned(), "60".to_owned())];
        Ok(Response { status, headers, body: br#"{"key":{"id":"BAE5"}}"#.to_vec() })
    });
    calls
}

#[test]
fn a_reply_is_sent_once_and_said_to_be_sent_as_often_as_it_comes() {
    let calls = gateway(&[201]);
    let first = handle(testing::event("agent.reply", &reply("r-1"))).expect("sent");
    let sent: Sent = first[0].read().expect("JSON");
    assert_eq!((sent.instance.as_str(), sent.text.as_str()), ("org-1", "Hello"));
    assert_eq!(sent.provider_message_id.as_deref(), Some("BAE5"));
    assert_eq!(handle(testing::event("agent.reply", &reply("r-1"))), Ok(first));
    assert_eq!(calls.get(), 1);
    for number in 2..=60 {
        handle(testing::event("agent.reply", &reply(&format!("r-{number}")))).expect("sent");
    }
    assert_eq!(calls.get(), 60);
    let kept: Kept = kv::get_json("contact:420777123456@s.whatsapp.net").expect("read").expect("kept");
    assert_eq!((kept.sent.len(), kept.sent[0].id.as_str()), (SENT_MAX, "r-11"));
}

#[test]
fn a_busy_gateway_is_asked_again_when_it_says() {
    let calls = gateway(&[429, 503, 401, 200]);
    let again =
        |status: u16| Err(Failure::retry_after(format!("the server answered {status}"), Duration::from_secs(60)));
    let send = || handle(testing::event("agent.reply", &reply("r-1")));
    assert_eq!((send(), send()), (again(429), again(503)));
    assert_eq!(send(), Err(Failure::reject("the server answered 401")));
    assert!(send().is_ok(), "nothing was noted before");
    assert_eq!(calls.get(), 4);
}

#[test]
fn an_instance_does_not_change_the_address() {
    testing::set_config("url", "http://gateway.example/{instance}");
    for tenant in [Some("../admin"), Some("a?b"), Some(""), None] {
        let event = Event { tenant: tenant.map(str::to_owned), ..testing::event("agent.reply", &reply("r-1")) };
        assert!(matches!(handle(event), Err(Failure::Reject(_))), "{tenant:?}");
    }
    testing::set_config("instance", "shop");
    assert_eq!(address("shop").as_deref(), Ok("http://gateway.example/shop"));
}

#[test]
fn what_is_no_reply_is_rejected() {
    let mut data = reply("r-1");
    data["response"] = json!({});
    assert!(
        matches!(handle(testing::event("agent.reply", &data)), Err(Failure::Reject(text)) if text.contains("text"))
    );
}
