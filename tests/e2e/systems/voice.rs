//! voice-by-kraliki: two organisations with the same calls, numbers and campaigns play the story of
//! `examples/voice-by-kraliki/story`. Then all events are repeated after a restart. On RabbitMQ producer and consumer
//! are foreign clients. The story is also played beside an application that declares its queue first.

mod claims;
mod stage;

use serde_json::{Value, json};

use super::clients::Library;
use super::example::On;
use crate::bench::Bench;
use claims::Claims;
use stage::{Stage, story};

/// The organisation with the whole story. The second one leaves these steps out.
const FIRST: &str = "org-acme";
const SECOND: &str = "org-globex";
const ONLY_FIRST: [&str; 3] = ["story-01", "story-04", "story-11"];

fn plays(organization: &str, event: &Value) -> bool {
    organization == FIRST || !ONLY_FIRST.iter().any(|id| event["id"] == *id)
}

/// A call of the next day, whose figures show the count so far.
fn one_more_call() -> Vec<Value> {
    let event = |id: &str, kind: &str, data: Value| {
        json!({
            "id": id, "type": kind, "source": "communications", "timestamp": "2026-11-24T10:00:00Z", "organizationId": "",
            "userId": null, "data": data, "metadata": { "version": "1.0.0", "module": "cc-lite" },
        })
    };
    let (from, to) = ("+420601111111", "+420220000000");
    vec![
        event("more-1", "call.started", json!({ "call_id": "c-104", "from_number": from, "to_number": to })),
        event("more-2", "call.ended", json!({ "call_id": "c-104", "duration": 60, "outcome": "failed" })),
    ]
}

async fn the_whole_story(mut stage: Stage) {
    for event in story() {
        for organization in [FIRST, SECOND] {
            if plays(organization, &event) {
                stage.publish(organization, &event).await;
            }
        }
    }
    stage.settled().await;
    let before = Claims::new(stage.seen().await);
    first_organization(&before);
    second_organization(&before);
    the_reminder_came_at_its_time(&before);

    // All events again, over any way, to a daemon that has only the state on the disk.
    stage.restart_with(&|organization, event| plays(organization, event)).await;
    let after = Claims::new(stage.seen().await);
    before.are_the_same_as(&after);
    if stage.drops_repetitions() {
        assert_eq!(before.messages(), after.messages(), "a dropped event is not repeated");
    } else {
        assert!(after.messages() > before.messages(), "repeated with the same ids");
    }

    for organization in [FIRST, SECOND] {
        for event in one_more_call() {
            stage.publish(organization, &event).await;
        }
    }
    stage.settled().await;
    let last = Claims::new(stage.seen().await);
    for organization in [FIRST, SECOND] {
        let metrics = last.find(organization, "analytics.calls.updated", |data| data["call_id"] == "c-104");
        let total = json!({
            "started": 4, "ended": 4, "duration_sum": 577.5, "duration_average": 144.375, "duration_max": 312.5,
            "outcomes": { "callback_requested": 1, "completed": 1, "failed": 1, "voicemail": 1 }, "completed_share": 0.25,
        });
        assert_eq!(metrics["total"], total, "each call of {organization} counts once");
        assert_eq!((&metrics["date"], &metrics["day"]["ended"]), (&json!("2026-11-24"), &json!(1)));
        let contact = last.find(organization, "crm.contact.updated", |data| data["call"]["outcome"] == "failed");
        assert_eq!((&contact["calls_total"], &contact["contact"]), (&json!(3), &json!("+420601111111")));
    }
    bad_events_are_dead_letters(&mut stage).await;
    stage.end().await;
}

fn first_organization(claims: &Claims) {
    claims.counts(
        FIRST,
        &[
            ("analytics.calls.updated", 3),
            ("campaign.optimization.suggested", 1),
            ("campaign.report.created", 2),
            ("campaign.sequence.completed", 1),
            ("campaign.start.requested", 1),
            ("coaching.moment.detected", 1),
            ("compliance.keyword.detected", 1),
            ("crm.contact.updated", 10),
            ("notification.reminder.created", 1),
            ("planning.task.created", 1),
            ("planning.task.due", 1),
            ("planning.task.updated", 1),
            ("quality.call.flagged", 3),
            ("supervisor.alert.created", 3),
            ("supervisor.escalation.created", 1),
        ],
    );
    let keywords = claims.one(FIRST, "compliance.keyword.detected");
    let found: Vec<&Value> =
        keywords["found"].as_array().expect("a list").iter().map(|found| &found["keyword"]).collect();
    assert_eq!(found, ["guaranteed return*", "off the record"]);
    let moments = claims.one(FIRST, "coaching.moment.detected");
    let topics: Vec<&Value> = moments["moments"].as_array().expect("a list").iter().map(|at| &at["topic"]).collect();
    assert_eq!(topics, ["price", "empathy"]);
    let escalation = claims.one(FIRST, "supervisor.escalation.created");
    let calls: Vec<&Value> =
        escalation["calls"].as_array().expect("a list").iter().map(|call| &call["call_id"]).collect();
    assert_eq!(
        (calls, &escalation["worst_score"]),
        (vec![&json!("c-101"), &json!("c-102"), &json!("c-103")], &json!(-0.86))
    );
    let next = claims.one(FIRST, "campaign.start.requested");
    assert_eq!((&next["campaign_id"], &next["after"], &next["of"]), (&json!("k-21"), &json!("k-11"), &json!(3)));
    let history = contact_history(claims, FIRST);
    assert_eq!(history["recent_calls"][0]["language"], "en-GB");
}

/// The second organisation: the same calls and numbers, without a sequence, a transcript and the third bad call.
fn second_organization(claims: &Claims) {
    claims.counts(
        SECOND,
        &[
            ("analytics.calls.updated", 3),
            ("campaign.optimization.suggested", 1),
            ("campaign.report.created", 2),
            ("campaign.sequence.completed", 1),
            ("campaign.start.requested", 1),
            ("crm.contact.updated", 8),
            ("notification.reminder.created", 1),
            ("planning.task.created", 1),
            ("planning.task.due", 1),
            ("planning.task.updated", 1),
            ("quality.call.flagged", 2),
            ("supervisor.alert.created", 2),
        ],
    );
    let next = claims.one(SECOND, "campaign.start.requested");
    assert_eq!((&next["campaign_id"], &next["after"], &next["of"]), (&json!("k-12"), &json!("k-11"), &json!(2)));
    let history = contact_history(claims, SECOND);
    assert_eq!(history["recent_calls"][0].get("language"), None, "the transcript was the other organisation's");
}

/// The common part of both, each in a history of its own.
fn contact_history(claims: &Claims, organization: &str) -> Value {
    let history = claims.find(organization, "crm.contact.updated", |data| {
        data["call"]["call_id"] == "c-102" && data["call"]["score"] == -0.6
    });
    assert_eq!((&history["contact"], &history["calls_total"]), (&json!("+420601111111"), &json!(2)));
    let call = json!({
        "call_id": "c-102", "direction": "outbound", "campaign_id": "k-11", "started_at": "2026-11-23T09:10:00Z",
        "ended_at": "2026-11-23T09:15:00Z", "duration": 312.5, "outcome": "completed", "sentiment": "negative", "score": -0.6,
    });
    assert_eq!(history["recent_calls"][1], call);
    let first = &history["recent_calls"][0];
    assert_eq!((&first["direction"], &first["score"]), (&json!("inbound"), &json!(-0.86)));
    let metrics = claims.find(organization, "analytics.calls.updated", |data| data["call_id"] == "c-103");
    assert_eq!((&metrics["total"]["started"], &metrics["total"]["duration_sum"]), (&json!(3), &json!(517.5)));
    let report = claims.find(organization, "campaign.report.created", |data| data["campaign_id"] == "k-12");
    assert_eq!(report["before"], json!({ "campaigns": 1, "success_rate": 0.4, "change": 0.41, "rank": 1 }));
    let flagged = claims.find(organization, "quality.call.flagged", |data| data["call_id"] == "c-101");
    assert_eq!(flagged["severity"], 0.72);
    history
}

fn the_reminder_came_at_its_time(claims: &Claims) {
    for organization in [FIRST, SECOND] {
        let task = claims.envelope(organization, "planning.task.created");
        let updated = claims.one(organization, "planning.task.updated");
        let reminder = claims.envelope(organization, "notification.reminder.created");
        assert_eq!(reminder["data"]["task_id"], task["id"]);
        assert_eq!((&reminder["userId"], &reminder["data"]["call_id"]), (&json!("user-7"), &json!("c-101")));
        assert_eq!(reminder["data"]["due_at"], updated["call_back_at"]);
        let time =
            |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a time");
        let due = time(&updated["call_back_at"]);
        let waited = due.duration_since(time(&task["timestamp"])).as_millis();
        // The plugin counts in whole milliseconds and drops smaller parts of the task's time.
        assert!((stage::AFTER_MS - 1..=stage::AFTER_MS + 1000).contains(&waited), "{waited} ms after the task");
        let late = time(&reminder["timestamp"]).duration_since(due).as_millis();
        assert!((-50..5000).contains(&late), "the reminder came {late} ms after its time");
    }
}

/// Invalid data is dead-lettered by routes with a schema, and rejected by the plugin of every other route.
async fn bad_events_are_dead_letters(stage: &mut Stage) {
    let mut event = one_more_call().remove(1);
    event["id"] = json!("bad");
    event["data"] = json!({ "duration": 1, "outcome": "completed" });
    let mut cases = vec![(event, if Stage::has_schemas() { "schema" } else { "rejected" })];
    if Stage::has_schemas() {
        let mut newer = one_more_call().remove(1);
        newer["id"] = json!("newer");
        newer["metadata"]["version"] = json!("2.0.0");
        cases.push((newer, "schema"));
    }
    for (event, reason) in cases {
        stage.publish(FIRST, &event).await;
        stage.settled().await;
        let id = format!("{FIRST}-{}", event["id"].as_str().expect("an id"));
        for route in ["callback-tasks", "crm-ended", "metrics-ended"] {
            let settled = stage.end_of(route, &id);
            assert_eq!(
                (&settled["outcome"], &settled["reason"]),
                (&json!("dead_letter"), &json!(reason)),
                "{route} {id}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_embedded() {
    the_whole_story(Stage::embedded(Bench::embedded(), true).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_without_dedupe_embedded() {
    the_whole_story(Stage::embedded(Bench::embedded(), false).await).await;
}

// The names in routes.toml are fixed, so each test has a broker of its own.

#[tokio::test(flavor = "multi_thread")]
async fn the_story_amqp() {
    let clients = (Library::Amqplib, Library::AioPika);
    the_whole_story(Stage::amqp(Bench::on(On::RabbitMq.broker()), true, clients).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_without_dedupe_amqp() {
    let clients = (Library::AioPika, Library::Amqplib);
    the_whole_story(Stage::amqp(Bench::on(On::RabbitMq.broker()), false, clients).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_beside_the_application() {
    let clients = (Library::Amqplib, Library::AioPika);
    the_whole_story(Stage::beside(Bench::on(On::Beside.broker()), clients).await).await;
}

#[test]
fn the_samples_fit_their_schemas_and_bad_ones_do_not() {
    claims::samples_fit_their_schemas();
    claims::bad_data_does_not_fit();
}
