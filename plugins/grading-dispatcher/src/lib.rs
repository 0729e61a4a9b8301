//! Writing and speaking jobs: checked field by field, sent to a grader over HTTP, and what comes back checked field by
//! field. The routing key tells which kind of job it is.
//!
//! Every job gets one result event: `completed`, or `failed` with what is wrong with the job or what the grader said against
//! it. What may pass (no answer, 408, 425, 429, 5xx, a grade that is none) is tried again. Without a grader (no config
//! `grader-writing` or `grader-speaking`) a good job is answered as `pending`: somebody else grades it. There is no
//! `processing`: all emissions of an event are published when the call has ended, so it would come with the result.

mod grade;
mod grader;
mod job;

use serde::Serialize;
use trunkline_plugin::json::Value;
use trunkline_plugin::{Emission, Event, Failure, handler};

use grader::Graded;
use job::{Checked, Object};

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Writing,
    Speaking,
}

#[derive(Serialize)]
struct Answer<'a> {
    job_id: Option<&'a str>,
    user_id: Option<&'a str>,
    kind: Kind,
    status: &'static str,
    /// The grade, once there is one.
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_count: Option<usize>,
    error: Option<Problem>,
}

#[derive(Serialize)]
struct Problem {
    message: String,
    fields: Vec<job::FieldProblem>,
}

/// One result event for every job, with the job's `callback_url` as an attribute: whoever notifies it is another route,
/// so that the result is published first, and a callback that fails holds up nothing.
#[handler(
    description = "Checks grading jobs, has them graded over HTTP, and answers with the result",
    takes = ["writing", "speaking"],
    emits = ["grading.result"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let job: Object = event.json()?;
    let (kind, checked) = match event.routing_key.as_str() {
        "writing" => (Kind::Writing, job::writing(&job)),
        "speaking" => (Kind::Speaking, job::speaking(&job)),
        other => return Err(Failure::reject(format!("{other:?} is no kind of job; known are writing and speaking"))),
    };
    let graded = match checked.problems.is_empty() {
        true => grader::ask(&event.id, kind, &job, checked.word_count)?,
        false => Graded::Later,
    };
    let mut emission = Emission::json("grading.result", &answer(kind, &job, checked, graded))?;
    if let Some(url) = job.get("callback_url").and_then(Value::as_str).filter(|url| job::is_url(url)) {
        emission = emission.attribute("callback-url", url);
    }
    Ok(vec![emission])
}

fn answer<'a>(kind: Kind, job: &'a Object, checked: Checked, graded: Graded) -> Answer<'a> {
    let text = |name: &str| job.get(name).and_then(|value| value.as_str());
    let is_good = checked.problems.is_empty();
    let names = checked.problems.iter().map(|problem| problem.field).collect::<Vec<_>>();
    let message = format!("invalid fields: {}", names.join(", "));
    let mut answer = Answer {
        job_id: text("job_id"),
        user_id: text("user_id"),
        kind,
        status: "failed",
        result: None,
        word_count: None,
        error: (!is_good).then_some(Problem { message, fields: checked.problems }),
    };
    match graded {
        Graded::Completed(result) => (answer.status, answer.result) = ("completed", Some(result)),
        Graded::Refused(message) => answer.error = Some(Problem { message, fields: Vec::new() }),
        Graded::Later if is_good => (answer.status, answer.word_count) = ("pending", checked.word_count),
        Graded::Later => {}
    }
    answer
}

#[cfg(test)]
mod tests;
