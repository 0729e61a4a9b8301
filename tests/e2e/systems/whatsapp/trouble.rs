//! Failures around the agent, and the texts that the contact and the admin get.

use super::super::example::{stories, stories_beside};
use super::*;
use crate::bench::metric;

const FALLBACK: &str = "I'm having trouble processing your request. Please try again.";

stories!(every_contact_gets_an_answer, an_outage_pauses_the_agent, a_late_task_is_answered_too);
stories_beside!(every_contact_gets_an_answer);

/// An agent that follows the text.
fn moody(asked: &Asked, before: usize) -> Answer {
    match asked.body["message"]["text"].as_str() {
        Some("busy") if before < 2 => Answer::status(503).header("retry-after", "0"),
        Some("broken") => Answer::status(500),
        Some("slow") => echo(asked).after(Duration::from_secs(10)),
        Some("refused") => Answer::json(422, &json!({ "detail": "not about shoes" })),
        Some("odd") if before < 1 => Answer::json(200, &json!({ "text": "no field `response`" })),
        _ => echo(asked),
    }
}

/// WaSender, which fails for some contacts.
fn moody_gateway() -> Stub {
    Stub::start(move |asked, before| match asked.body["to"].as_str() {
        Some("+420777200006") if before < 1 => senders::limited(0),
        Some("+420777200007") => Answer::status(502),
        Some("+420777200008") => Answer::status(400),
        _ => senders::wasender(asked),
    })
}

async fn every_contact_gets_an_answer(on: On) {
    let further = [("AGENT_TIMEOUT_S", "6")];
    let world = World::start_with(on, Box::new(moody), down(), moody_gateway(), &further).await;
    let number = |contact: usize| format!("42077720000{contact}");
    let texts = ["fine", "busy", "broken", "slow", "refused", "odd", "limited", "unsent", "unwanted"];
    for (contact, text) in texts.into_iter().enumerate() {
        world.publish(RECEIVED, &message(&number(contact), text));
    }
    let alerts = world.admin.at_least(2, "two alerts", |_| true).await;
    let said = |text: &str| format!("You said: {text}");
    for (contact, expected) in [
        (0, said("fine")),
        (1, said("busy")),
        (2, FALLBACK.to_owned()),
        (3, FALLBACK.to_owned()),
        (4, FALLBACK.to_owned()),
        (5, said("odd")),
    ] {
        world.gateway.one(&expected, to(&number(contact))).await;
        assert_eq!(world.sent_to(&number(contact)), [expected], "once");
    }
    world.gateway.at_least(2, "its second try", to(&number(6))).await;
    let times = |text: &str| world.agent.those(|asked| asked.body["message"]["text"] == text).len();
    assert_eq!(["fine", "busy", "broken", "slow", "refused", "odd"].map(times), [1, 3, 4, 4, 1, 2]);
    let retries = world.agent.those(|asked| asked.body["message"]["text"] == "broken");
    let counts = retries.iter().map(|asked| asked.body["metadata"]["retryCount"].as_u64()).collect::<Vec<_>>();
    assert_eq!(counts, [Some(0), Some(1), Some(2), Some(3)]);
    let tries = |contact: usize| world.gateway.those(to(&number(contact))).len();
    assert_eq!([6, 7, 8].map(tries), [2, 4, 1]);
    check_alerts(&alerts);
    check_dead_letters(&world.example, world.daemon).await;
}

fn check_alerts(alerts: &[Asked]) {
    let schema = schema(NAME, "admin-alert");
    let mut reasons = Vec::new();
    for alert in alerts {
        fits(&schema, &alert.body);
        assert_eq!(alert.path, "/alerts");
        reasons.push((alert.body["text"].as_str(), alert.body["reason"].as_str(), alert.body["attempts"].as_u64()));
        assert!(alert.body["error"].as_str().is_some_and(|error| error.contains("the server answered")));
    }
    reasons.sort_unstable();
    let unsent = (Some("You said: unsent"), Some("exhausted"), Some(4));
    let unwanted = (Some("You said: unwanted"), Some("rejected"), Some(1));
    assert_eq!(reasons, [unsent, unwanted]);
}

/// The dead letters stay in their queue, and replies with an error name them.
async fn check_dead_letters(example: &Example, daemon: Daemon) {
    assert!(daemon.terminate().await.success());
    for (queue, count) in [("ag_dead", 2), ("wb_dead", 2)] {
        let letters = example.drained(queue, count).await;
        assert_eq!(letters.len(), count, "{queue}");
        let has_reason =
            |letter: &trunkline_event::Message| letter.properties.headers.text("trunkline-reason").is_some();
        assert!(letters.iter().all(has_reason), "{queue}");
        let name = if queue == "ag_dead" { "agent-task" } else { "agent-reply" };
        for letter in letters {
            fits(&schema(NAME, name), &serde_json::from_slice(&letter.body).expect("JSON"));
        }
    }
}

async fn an_outage_pauses_the_agent(on: On) {
    let is_down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = is_down.clone();
    let agent = move |asked: &Asked, _: usize| match switch.load(std::sync::atomic::Ordering::Relaxed) {
        true => Answer::status(503),
        false => echo(asked),
    };
    let further = [("AGENT_RETRY", "15s"), ("AGENT_PAUSE", "15s")];
    let world = World::start_with(on, Box::new(agent), down(), gateway(), &further).await;
    let circuit = "trunkline_circuit_state{route=\"agent-dispatch\"}";
    for contact in 0..12 {
        world.publish(RECEIVED, &message(&format!("4207773000{contact:02}"), "hello"));
    }
    metric(&world.daemon, circuit, |state| state == 1.0).await;
    assert_eq!(world.agent.asked().len(), 10, "two are not even asked for");
    is_down.store(false, std::sync::atomic::Ordering::Relaxed);
    world.gateway.at_least(12, "all answers", |_| true).await;
    metric(&world.daemon, circuit, |state| state == 0.0).await;
    let texts = world.gateway.asked().iter().map(|asked| asked.body["text"].clone()).collect::<Vec<_>>();
    assert!(texts.iter().all(|text| text == "You said: hello"), "{texts:?}");
}

async fn a_late_task_is_answered_too(on: On) {
    let (let_go, agent) = held_at_first();
    let further = [("AG_QUEUE_TTL", "10s")];
    let world = World::start_with(on, agent, down(), gateway(), &further).await;
    world.publish(RECEIVED, &message("420777400000", "first"));
    world.agent.one("the first task", |_| true).await;
    world.publish(RECEIVED, &message("420777400001", "too late"));
    let sent = world.gateway.one("the fallback", to("420777400001")).await;
    assert_eq!(sent.body["text"], FALLBACK);
    let_go.send(()).expect("it waits");
    world.gateway.one("the answer", to("420777400000")).await;
    assert_eq!(world.sent_to("420777400000"), ["You said: first"]);
    assert!(world.agent.those(|asked| asked.body["message"]["text"] == "too late").is_empty());
}

/// The services declare no routing key for dead letters. The printed policies set the key.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_printed_policies_a_late_task_of_the_services_is_answered() {
    let (let_go, agent) = held_at_first();
    let mut world = World::start_with(On::Beside, agent, down(), gateway(), &[]).await;
    world.example.paste_policies();
    world.publish(RECEIVED, &message("420777400000", "first"));
    let mut late = world.agent.one("the first task", |_| true).await.body;
    late["contact"]["remoteJid"] = "420777400001@s.whatsapp.net".into();
    late["contact"]["phoneNumber"] = "+420777400001".into();
    (late["message"]["messageId"], late["message"]["text"]) = ("late".into(), "too late".into());
    fits(&schema(NAME, "agent-task"), &late);
    let services = world.services.as_mut().expect("services");
    services.ask(&json!({ "key": "ag_queue", "body": late, "id": "late", "expiration": 500 })).await;
    let sent = world.gateway.one("the fallback", to("420777400001")).await;
    assert_eq!(sent.body["text"], FALLBACK);
    let_go.send(()).expect("it waits");
    world.gateway.one("the answer", to("420777400000")).await;
    assert!(world.agent.those(|asked| asked.body["message"]["text"] == "too late").is_empty());
}
