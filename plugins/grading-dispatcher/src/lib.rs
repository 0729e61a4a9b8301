//! Checks writing and speaking jobs field by field, sends them to a grader over HTTP, and checks the grade field by
//! field. The routing key says which kind a job has.
//!
//! Every job gets one result event: `completed`, or `failed` with the wrong fields of the job or the grader's
//! objection. Passing failures are tried again: no answer, 408, 425, 429, 5xx, and an invalid grade.
//!
//! Without a grader (no config `grader-writing` or `grader-speaking`) a valid job is answered as `pending`, and another
//! system grades it. There is no `processing`: all emissions of an event are published after the call, so `processing`
//! would arrive together with the result.

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
    /// The grade of a completed job.
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

/// Emits one result event for every job, with the job's `callback_url` as an attribute. Another route calls that URL,
/// so that the result is published first and a failing callback delays nothing.
#[handler(
    description = "Checks grading jobs, calls a grader over HTTP, and emits the result",
    takes = ["writing", "speaking"],
    emits = ["grading.result"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let job: Object = event.json()?;
    let (kind, checked) = match event.routing_key.as_str() {
        "writing" => (Kind::Writing, job::writing(&job)),
        "speaking" => (Kind::Speaking, job::speaking(&job)),
        other => return Err(Failure::reject(format!("{other:?} is not a kind of job; known: writing and speaking"))),
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
