//! Answers a grading job that was dead-lettered with a `failed` result, so that its sender does not wait for ever. A
//! job is dead-lettered when the grader was away for too long or the job waited too long. The plugin reads copies of
//! the dead letters; the dead letters themselves stay in their queue.

use serde::Serialize;
use trunkline_plugin::json::Value;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// The URL travels as a header, and all headers together have 64 KiB.
const URL_MAX_BYTES: usize = 2048;

#[derive(Serialize)]
struct Answer<'a> {
    job_id: &'a str,
    user_id: Option<&'a str>,
    kind: &'static str,
    status: &'static str,
    result: Option<()>,
    error: Problem<'a>,
}

#[derive(Serialize)]
struct Problem<'a> {
    message: String,
    /// One of the dead letters' reasons.
    reason: &'a str,
    /// Always empty. The answer to an invalid job has its wrong fields here.
    fields: [(); 0],
}

/// One failed result, or none when the dead letter is not a job that can be answered.
#[handler(
    description = "Emits a failed result for a dead-lettered grading job",
    takes = ["writing", "speaking"],
    emits = ["grading.result"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let job: Value = event.json()?;
    let Some(job_id) = job["job_id"].as_str().filter(|id| !id.is_empty()) else { return Ok(Vec::new()) };
    // A message that the queue itself gave up, mostly for its age, has no `trunkline-` headers.
    let reason = event.attribute("trunkline-reason").unwrap_or("expired");
    let error = event.attribute("trunkline-error").unwrap_or("it waited too long in its queue");
    let answer = Answer {
        job_id,
        user_id: job["user_id"].as_str(),
        kind: if job.get("part_number").is_some() { "speaking" } else { "writing" },
        status: "failed",
        result: None,
        error: Problem { message: format!("the job was given up: {error}"), reason, fields: [] },
    };
    let mut emission = Emission::json("grading.result", &answer)?.subject(job_id);
    if let Some(url) = job["callback_url"].as_str().filter(|url| url.len() <= URL_MAX_BYTES) {
        emission = emission.attribute("callback-url", url);
    }
    Ok(vec![emission])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_plugin::testing;

    use super::*;

    #[test]
    fn whoever_asked_is_told() {
        let job =
            json!({ "job_id": "j-1", "user_id": "u-1", "part_number": 2, "callback_url": "https://lms.example/x" });
        let headers = [("trunkline-reason", "exhausted"), ("trunkline-error", "after 4 attempts: no answer in time")];
        let attributes = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let emitted = handle(Event { attributes, ..testing::event("speaking", &job) }).expect("a result");
        let wanted = json!({
            "job_id": "j-1", "user_id": "u-1", "kind": "speaking", "status": "failed", "result": null,
            "error": {
                "message": "the job was given up: after 4 attempts: no answer in time", "reason": "exhausted",
                "fields": [],
            },
        });
        assert_eq!(emitted[0].read::<Value>().expect("JSON"), wanted);
        assert_eq!(emitted[0].attributes, [("callback-url".to_owned(), "https://lms.example/x".to_owned())]);
        let late = handle(testing::event("writing", &json!({ "job_id": "j-2" }))).expect("a result");
        let late: Value = late[0].read().expect("JSON");
        assert_eq!((&late["kind"], &late["error"]["reason"]), (&json!("writing"), &json!("expired")));
    }

    #[test]
    fn invalid_jobs_give_no_result() {
        for data in [json!([1]), json!({}), json!({ "job_id": 7 })] {
            assert_eq!(handle(testing::event("writing", &data)), Ok(vec![]), "{data}");
        }
    }
}
