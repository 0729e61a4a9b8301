//! Writing and speaking jobs, checked field by field. A good one is answered as `pending`, a bad one as `failed` with
//! every field that is wrong. The routing key tells which kind of job it is.

mod job;

use serde::Serialize;
use trunkline_plugin::{Emission, Event, Failure, handler};

use job::{Checked, Object};

#[derive(Serialize)]
struct Answer<'a> {
    job_id: Option<&'a str>,
    user_id: Option<&'a str>,
    kind: &'static str,
    status: &'static str,
    /// Filled in once the job is graded.
    result: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_count: Option<usize>,
    error: Option<Problem>,
}

#[derive(Serialize)]
struct Problem {
    message: String,
    fields: Vec<job::FieldProblem>,
}

/// One result event for every job.
#[handler(
    description = "Checks grading jobs and answers with their state",
    takes = ["writing", "speaking"],
    emits = ["grading.result"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let job: Object = event.json()?;
    let (kind, checked) = match event.routing_key.as_str() {
        "writing" => ("writing", job::writing(&job)),
        "speaking" => ("speaking", job::speaking(&job)),
        other => return Err(Failure::reject(format!("{other:?} is no kind of job; known are writing and speaking"))),
    };
    let answer = answer(kind, &job, checked);
    Ok(vec![Emission::json("grading.result", &answer)?])
}

fn answer<'a>(kind: &'static str, job: &'a Object, checked: Checked) -> Answer<'a> {
    let text = |name: &str| job.get(name).and_then(|value| value.as_str());
    let is_good = checked.problems.is_empty();
    let names = checked.problems.iter().map(|problem| problem.field).collect::<Vec<_>>();
    let message = format!("invalid fields: {}", names.join(", "));
    Answer {
        job_id: text("job_id"),
        user_id: text("user_id"),
        kind,
        status: if is_good { "pending" } else { "failed" },
        result: None,
        word_count: checked.word_count.filter(|_| is_good),
        error: (!is_good).then_some(Problem { message, fields: checked.problems }),
    }
}

#[cfg(test)]
mod tests;
