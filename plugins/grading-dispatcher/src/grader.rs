//! The request to the grader: `POST` of the job to config `grader-writing` or `grader-speaking`. The secret
//! `GRADER_API_KEY`, when set, is the bearer token. The header `idempotency-key` has the event's id, so that a
//! redelivered job need not be graded twice.

use std::time::{Duration, Instant};

use trunkline_plugin::http::{Error, Request};
use trunkline_plugin::json::Value;
use trunkline_plugin::{Failure, config};

use crate::job::Object;
use crate::{Kind, grade};

/// Seconds for each step of a request, unless config `timeout-s` says otherwise.
const TIMEOUT_S: f64 = 55.0;
/// Length of the grader's text in a result, in characters.
const EXCERPT_MAX: usize = 200;

/// The result of a request.
pub(crate) enum Graded {
    /// The grade.
    Completed(Value),
    /// The grader refuses this job, with its reason.
    Refused(String),
    /// No grader is configured.
    Later,
}

/// Sends a valid job to the grader.
///
/// # Errors
/// A retry for passing failures, and a rejection when the grader's address is not granted.
pub(crate) fn ask(id: &str, kind: Kind, job: &Object, words: Option<usize>) -> Result<Graded, Failure> {
    let key = match kind {
        Kind::Writing => "grader-writing",
        Kind::Speaking => "grader-speaking",
    };
    let Some(url) = config::get(key).filter(|url| !url.is_empty()) else { return Ok(Graded::Later) };
    let timeout = config::number("timeout-s", TIMEOUT_S)?.clamp(0.001, 600.0);
    let mut request = Request::post(&url)
        .json(job)?
        .header("accept", "application/json")
        .header("idempotency-key", id)
        .timeout(Duration::from_secs_f64(timeout));
    if let Some(secret) = config::get("GRADER_API_KEY") {
        request = request.header("authorization", &format!("Bearer {secret}"));
    }
    let begun = Instant::now();
    let response = match request.send() {
        Ok(response) => response,
        Err(Error::TooLarge) => return Ok(Graded::Refused("the grader's answer is too large".to_owned())),
        Err(error) => return Err(error.into()),
    };
    if !(200..=299).contains(&response.status) && !response.is_passing() {
        let text = String::from_utf8_lossy(&response.body);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let excerpt = text.chars().take(EXCERPT_MAX).collect::<String>();
        let colon = if excerpt.is_empty() { "" } else { ": " };
        return Ok(Graded::Refused(format!("the grader answered {}{colon}{excerpt}", response.status)));
    }
    let answer: Value = response.ok()?.json()?;
    // Some graders wrap the grade in a field `result`.
    let answer = answer.get("result").filter(|inner| inner.is_object()).unwrap_or(&answer);
    let score_max = config::number("score-max", grade::SCORE_MAX)?;
    let checked = grade::check(kind, answer, score_max, begun.elapsed(), words);
    checked.map(Graded::Completed).map_err(|problems| {
        // Another attempt may get a valid grade.
        Failure::retry(format!("the grader's answer: {}", problems.join("; ")))
    })
}
