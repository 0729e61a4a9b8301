//! Answers dead letters of the WhatsApp agent. A task for an agent that failed, was refused or waited too long becomes
//! a short reply to the contact (config `fallback-text`). A reply that could not be sent becomes an alert for an admin.
//! The fields of the data tell a task from a reply. Replies go to the queue `wb_queue`, alerts to `admin_alerts`.

use serde::{Deserialize, Serialize};
use trunkline_plugin::json::{Value, from_value};
use trunkline_plugin::{Emission, Event, Failure, config, handler};
use whatsapp_messages::{AgentMetadata, Contact, Problem, Reply, Response, Status, time};

const FALLBACK_TEXT: &str = "I'm having trouble processing your request. Please try again.";

/// The fields of a task that an answer needs. Other fields may be the reason of the failure.
#[derive(Deserialize)]
struct Task {
    contact: Contact,
    message: Message,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    alert: &'static str,
    /// One of the dead letters' reasons.
    reason: &'a str,
    error: &'a str,
    attempts: u32,
    message_id: &'a Value,
    original_message_id: &'a Value,
    contact: &'a Value,
    text: &'a Value,
    timestamp: &'a Value,
}

/// Emits a reply or an alert.
#[handler(
    description = "Answers contacts whose task failed, and alerts an admin to replies that were not sent",
    takes = ["agent.task", "agent.reply"],
    emits = ["agent.reply", "admin.alert"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let letter: Value = event.json()?;
    // A message that the queue itself gave up, mostly for its age, has no `trunkline-` headers.
    let reason = event.attribute("trunkline-reason").unwrap_or("expired");
    let error = event.attribute("trunkline-error").unwrap_or("it waited too long in its queue");
    if letter.get("taskType").is_some() {
        return Ok(vec![answer(&event, letter, reason, error)?]);
    }
    if letter.get("response").is_some() {
        let alert = Alert {
            alert: "a reply was not sent",
            reason,
            error,
            attempts: event.attribute("trunkline-attempt").and_then(|attempts| attempts.parse().ok()).unwrap_or(1),
            message_id: &letter["messageId"],
            original_message_id: &letter["originalMessageId"],
            contact: &letter["contact"],
            text: &letter["response"]["text"],
            timestamp: &letter["timestamp"],
        };
        return Ok(vec![Emission::json("admin.alert", &alert)?.routing_key("admin_alerts")]);
    }
    Err(Failure::reject("neither a task for an agent nor a reply"))
}

fn answer(event: &Event, letter: Value, reason: &str, error: &str) -> Result<Emission, Failure> {
    let task: Task = from_value(letter)
        .map_err(|error| Failure::reject(format!("{}: the task has no contact to answer: {error}", event.kind)))?;
    let text = config::get("fallback-text").unwrap_or_else(|| FALLBACK_TEXT.to_owned());
    let reply = Reply {
        message_id: format!("fallback-{}", task.message.message_id),
        original_message_id: task.message.message_id,
        timestamp: time::now(),
        status: Status::Error,
        contact: task.contact,
        response: Response::words(text),
        agent_metadata: AgentMetadata::default(),
        error: Some(Problem { code: reason.to_owned(), message: error.to_owned() }),
    };
    let subject = reply.contact.remote_jid.clone();
    Ok(Emission::json("agent.reply", &reply)?.routing_key("wb_queue").subject(subject))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_plugin::testing;

    use super::*;

    fn letter(data: &Value, headers: &[(&str, &str)]) -> Event {
        let attributes = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Event { attributes, ..testing::event("any", data) }
    }

    const GIVEN_UP: [(&str, &str); 3] = [
        ("trunkline-reason", "exhausted"),
        ("trunkline-error", "after 4 attempts: the server answered 503"),
        ("trunkline-attempt", "4"),
    ];

    fn contact() -> Value {
        json!({ "remoteJid": "1@s.whatsapp.net", "phoneNumber": "+1", "name": "J", "countryCode": "+1" })
    }

    #[test]
    fn a_task_is_answered_whatever_was_wrong_with_it() {
        let task = json!({ "taskType": "dance", "contact": contact(), "message": { "messageId": "m-1" } });
        let emitted = handle(letter(&task, &GIVEN_UP)).expect("a reply");
        assert_eq!(emitted[0].routing_key.as_deref(), Some("wb_queue"));
        let reply: Reply = emitted[0].read().expect("JSON");
        assert_eq!((reply.message_id.as_str(), reply.status), ("fallback-m-1", Status::Error));
        assert_eq!(reply.response.text, "I'm having trouble processing your request. Please try again.");
        assert_eq!(reply.error.expect("an error").code, "exhausted");
        let expired: Reply = handle(letter(&task, &[])).expect("a reply")[0].read().expect("JSON");
        assert_eq!(expired.error.expect("an error").code, "expired");
    }

    #[test]
    fn a_reply_alerts_an_admin() {
        let reply = json!({ "messageId": "r-1", "contact": contact(), "response": { "text": "Hello" } });
        let emitted = handle(letter(&reply, &GIVEN_UP)).expect("an alert");
        assert_eq!(emitted[0].routing_key.as_deref(), Some("admin_alerts"));
        let alert: Value = emitted[0].read().expect("JSON");
        assert_eq!((&alert["reason"], &alert["attempts"]), (&json!("exhausted"), &json!(4)));
        assert_eq!((&alert["messageId"], &alert["text"]), (&json!("r-1"), &json!("Hello")));
        assert_eq!(alert["error"], "after 4 attempts: the server answered 503");
    }

    #[test]
    fn anything_else_stays_for_people() {
        for data in [json!({}), json!([1]), json!({ "taskType": "order" }), json!({ "taskType": "x", "contact": {} })] {
            assert!(matches!(handle(letter(&data, &GIVEN_UP)), Err(Failure::Reject(_))), "{data}");
        }
    }
}
