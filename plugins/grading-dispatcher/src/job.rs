//! The rules for the fields of a job.

use serde::Serialize;
use trunkline_plugin::json::{Map, Value};

/// The data of a job, unchanged.
pub(crate) type Object = Map<String, Value>;

/// The result of a check.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) problems: Vec<FieldProblem>,
    pub(crate) word_count: Option<usize>,
}

/// One wrong field.
#[derive(Serialize)]
pub(crate) struct FieldProblem {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

/// Checks a writing job, the schema `WritingJob`.
pub(crate) fn writing(job: &Object) -> Checked {
    let mut checked = common(job);
    checked.one_of(job, "task_type", &["task1", "task2"]);
    if let Some(text) = checked.text(job, "student_answer") {
        checked.word_count = Some(text.split_whitespace().count());
    }
    checked
}

/// Checks a speaking job, the schema `SpeakingJob`.
pub(crate) fn speaking(job: &Object) -> Checked {
    let mut checked = common(job);
    match job.get("part_number").map(Value::as_u64) {
        Some(Some(1..=3)) => {}
        Some(_) => checked.problem("part_number", "is not 1, 2 or 3"),
        None => checked.problem("part_number", "is missing"),
    }
    checked.url(job, "audio_url", true);
    checked
}

fn common(job: &Object) -> Checked {
    let mut checked = Checked::default();
    for field in ["job_id", "user_id", "attempt_id", "question_id", "prompt"] {
        checked.text(job, field);
    }
    checked.one_of(job, "target_level", &["A2", "B1", "B2", "C1"]);
    checked.url(job, "callback_url", false);
    checked
}

impl Checked {
    fn problem(&mut self, field: &'static str, problem: impl Into<String>) {
        self.problems.push(FieldProblem { field, problem: problem.into() });
    }

    fn text<'a>(&mut self, job: &'a Object, field: &'static str) -> Option<&'a str> {
        match job.get(field) {
            Some(Value::String(text)) if !text.trim().is_empty() => return Some(text),
            Some(Value::String(_)) => self.problem(field, "is empty"),
            Some(_) => self.problem(field, "is not a string"),
            None => self.problem(field, "is missing"),
        }
        None
    }

    fn one_of(&mut self, job: &Object, field: &'static str, known: &[&str]) {
        if let Some(text) = self.text(job, field)
            && !known.contains(&text)
        {
            self.problem(field, format!("is not one of {}", known.join(", ")));
        }
    }

    fn url(&mut self, job: &Object, field: &'static str, is_needed: bool) {
        if !is_needed && job.get(field).is_none_or(Value::is_null) {
            return;
        }
        if let Some(text) = self.text(job, field)
            && !is_url(text)
        {
            self.problem(field, "is not an http or https URL of at most 2048 bytes");
        }
    }
}

/// The URL travels as a header, and all headers together have 64 KiB.
const URL_MAX_BYTES: usize = 2048;

/// Tells whether a text is an absolute HTTP or HTTPS address.
pub(crate) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text.len() <= URL_MAX_BYTES
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace))
}
