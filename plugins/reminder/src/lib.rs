//! A due task becomes one notification, unless the task is closed by then. The tasks that were completed or cancelled
//! lately, and the reminders that were sent, are kept for each organisation.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// `SHARDS` times `CLOSED_MAX`: about the last 16 000 closed tasks are kept.
const SHARDS: u64 = 64;
const CLOSED_MAX: usize = 256;
/// The channel of the notification; config `channel`.
const CHANNEL: &str = "in-app";

#[derive(Deserialize)]
struct Task {
    task_id: String,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    due_at: Option<String>,
}

#[derive(Serialize)]
struct Reminder<'a> {
    task_id: &'a str,
    call_id: Option<&'a str>,
    due_at: Option<&'a str>,
    channel: String,
    message: String,
    organization_id: Option<&'a str>,
    user_id: Option<&'a str>,
}

/// One notification for a due task that is not closed.
#[handler(
    description = "Emits a reminder for each task that is due and not done",
    takes = ["planning.task.due", "planning.task.completed", "planning.task.cancelled"],
    emits = ["notification.reminder.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let task: Task = event.json()?;
    let closed: Document<VecDeque<String>> = Document::sharded("closed", &task.task_id, SHARDS);
    match event.kind.as_str() {
        "planning.task.completed" | "planning.task.cancelled" => {
            closed.apply(&event.id, |closed| {
                close(closed, &task.task_id);
                Ok(())
            })?;
            Ok(Vec::new())
        }
        "planning.task.due" => {
            let applied = closed.apply(&event.id, |closed| Ok(!closed.contains(&task.task_id)))?;
            if applied.answer() == Some(true) { Ok(vec![remind(&event, &task)?]) } else { Ok(Vec::new()) }
        }
        other => Err(Failure::reject(format!("{other:?} is not an event of a task"))),
    }
}

fn close(closed: &mut VecDeque<String>, task_id: &str) {
    if !closed.iter().any(|known| known == task_id) {
        closed.push_back(task_id.to_owned());
        closed.drain(..closed.len().saturating_sub(CLOSED_MAX));
    }
}

fn remind(event: &Event, task: &Task) -> Result<Emission, Failure> {
    let title = task.title.as_deref().filter(|title| !title.is_empty()).unwrap_or("A task");
    let reminder = Reminder {
        task_id: &task.task_id,
        call_id: task.call_id.as_deref(),
        due_at: task.due_at.as_deref(),
        channel: config::get("channel").unwrap_or_else(|| CHANNEL.to_owned()),
        message: format!("Due now: {title}"),
        organization_id: event.tenant.as_deref(),
        user_id: event.user.as_deref(),
    };
    Ok(Emission::json("notification.reminder.created", &reminder)?.subject(task.task_id.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn send(id: &str, kind: &str, task_id: &str) -> Vec<Emission> {
        let data = json!({ "task_id": task_id, "call_id": "c-1", "title": "Call back: c-1", "due_at": "2026-11-21T12:00:00Z" });
        handle(Event { id: id.to_owned(), ..testing::event(kind, &data) }).expect("valid")
    }

    #[test]
    fn a_due_task_is_reminded_of() {
        let first = send("1", "planning.task.due", "t-1");
        let data: Value = first[0].read().expect("JSON");
        assert_eq!((&data["message"], &data["channel"]), (&json!("Due now: Call back: c-1"), &json!("in-app")));
        assert_eq!((&data["organization_id"], &data["user_id"]), (&json!("org-1"), &json!("user-1")));
        assert_eq!(send("1", "planning.task.due", "t-1"), first, "a repetition says the same");
    }

    #[test]
    fn not_when_it_is_done() {
        for kind in ["planning.task.completed", "planning.task.cancelled"] {
            assert_eq!(send(kind, kind, kind), vec![]);
            assert_eq!(send(&format!("{kind} due"), "planning.task.due", kind), vec![]);
        }
        assert_eq!(send("2", "planning.task.due", "another").len(), 1);
        assert_eq!(send("3", "planning.task.completed", "another"), vec![]);
        assert_eq!(send("2", "planning.task.due", "another").len(), 1, "it was reminded of before it was done");
    }

    #[test]
    fn old_closed_tasks_are_forgotten() {
        let mut closed = VecDeque::new();
        for number in 0..=CLOSED_MAX {
            close(&mut closed, &number.to_string());
            close(&mut closed, &number.to_string());
        }
        assert_eq!((closed.len(), closed[0].as_str()), (CLOSED_MAX, "1"));
        let bad = testing::event("planning.task.renamed", &json!({ "task_id": "t" }));
        assert!(matches!(handle(bad), Err(Failure::Reject(_))));
    }
}
