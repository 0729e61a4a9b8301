use std::time::Duration;

use serde_json::json;
use trunkline_plugin::http::Response;
use trunkline_plugin::testing;

use super::*;

fn task() -> Value {
    json!({
        "messageId": "task-m-1", "timestamp": "2026-11-21T10:00:00Z", "taskType": "order",
        "contact": { "remoteJid": "1@s.whatsapp.net", "phoneNumber": "+1", "name": "J", "countryCode": "+1" },
        "message": { "text": "price?", "messageId": "m-1", "timestamp": "2026-11-21T10:00:00Z" },
        "context": { "conversationHistory": [], "userNotes": null, "sessionData": {} },
        "metadata": { "priority": "high", "retryCount": 0, "maxRetries": 3 }, "own": [1],
    })
}

fn agent(status: u16, headers: &[(&str, &str)], body: &Value) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    let body = body.to_string().into_bytes();
    testing::set_config("agent", "http://agents.example/any");
    testing::set_http(move |_| Ok(Response { status, headers: headers.clone(), body: body.clone() }));
}

fn reply(attempt: u32) -> Result<Value, Failure> {
    let event = Event { attempt, ..testing::event("agent.task", &task()) };
    handle(event).map(|emitted| emitted[0].read().expect("JSON"))
}

#[test]
fn the_agent_of_the_type_is_asked_and_its_answer_passed_on() {
    testing::set_config("agent", "http://agents.example/any");
    testing::set_config("agent-order", "http://agents.example/order");
    testing::set_config("AGENT_TOKEN", "s3cret");
    testing::set_http(|request| {
        assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "http://agents.example/order"));
        let header =
            |name: &str| request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!(header("idempotency-key").as_deref(), Some("event-1"));
        assert_eq!(header("authorization").as_deref(), Some("Bearer s3cret"));
        let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!((&asked["metadata"]["retryCount"], &asked["own"]), (&json!(2), &json!([1])));
        let answer = json!({
            "status": "partial", "response": { "text": "About 5", "attachments": [{ "url": "https://x", "fileName": "menu.pdf" }] },
            "agentMetadata": { "toolsUsed": ["prices"], "reasoningSteps": 4, "processingTime": 12.5, "tokensUsed": 99 },
        });
        Ok(Response { status: 200, body: answer.to_string().into_bytes(), ..Response::default() })
    });
    let mut reply = reply(3).expect("a reply");
    assert!(reply["timestamp"].take().as_str().is_some_and(|time| time.ends_with('Z')));
    let wanted = json!({
        "messageId": "reply-m-1", "originalMessageId": "m-1", "timestamp": null, "status": "partial",
        "contact": task()["contact"],
        "response": {
            "text": "About 5", "type": "text",
            "attachments": [{ "type": "document", "url": "https://x", "fileName": "menu.pdf" }],
        },
        "agentMetadata": { "toolsUsed": ["prices"], "reasoningSteps": 4, "processingTime": 12.5, "tokensUsed": 99 },
        "error": null,
    });
    assert_eq!(reply, wanted);
}

#[test]
fn passing_failures_are_tried_again() {
    for status in [408, 425, 429, 500, 503] {
        agent(status, &[("retry-after", "90")], &json!({}));
        let wanted = Failure::retry_after(format!("the server answered {status}"), Duration::from_secs(90));
        assert_eq!(reply(1), Err(wanted));
    }
    for (answer, named) in [
        (json!({}), "response"),
        (json!({ "response": { "text": " " } }), "response.text"),
        (json!({ "response": { "text": "x", "attachments": [{ "type": "dance", "url": "https://x" }] } }), "dance"),
        (json!({ "response": { "text": "x" }, "status": "done" }), "status"),
        (json!({ "response": { "text": "x" }, "agentMetadata": { "tokensUsed": "many" } }), "agentMetadata"),
    ] {
        agent(200, &[], &answer);
        match reply(1) {
            Err(Failure::Retry { reason, .. }) => assert!(reason.contains(named), "{reason}"),
            other => panic!("{answer}: {other:?}"),
        }
    }
    testing::set_http(|_| Err(Error::Timeout));
    assert_eq!(reply(1), Err(Failure::retry("no answer in time")));
}

#[test]
fn a_refusal_becomes_an_error_for_the_contact() {
    agent(422, &[], &json!({ "detail": "no such\n product" }));
    let data = reply(1).expect("a reply");
    assert_eq!((&data["status"], &data["response"]["text"]), (&json!("error"), &json!(ERROR_TEXT)));
    assert_eq!(data["error"]["code"], "agent-refused");
    assert!(
        data["error"]["message"].as_str().is_some_and(|text| text.starts_with("the agent answered 422: {\"detail\""))
    );
    testing::set_config("error-text", "Sorry.");
    testing::set_http(|_| Err(Error::TooLarge));
    let data = reply(1).expect("a reply");
    assert_eq!((&data["response"]["text"], &data["error"]["code"]), (&json!("Sorry."), &json!("answer-too-large")));
}

#[test]
fn invalid_tasks_are_rejected_and_a_missing_address_is_retried() {
    let mut data = task();
    data["taskType"] = json!("dance");
    match handle(testing::event("agent.task", &data)) {
        Err(Failure::Reject(text)) => assert!(text.contains("dance"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(reply(1), Err(Failure::Retry { reason, .. }) if reason.contains("agent-order")));
}
