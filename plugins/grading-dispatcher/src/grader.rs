//! The call of the grader: `POST` of the job as it came, to config `grader-writing` or `grader-speaking`, with the secret
//! `GRADER_API_KEY` as bearer token where there is one. The event's id goes along as `idempotency-key`: a job that comes
//! again after a crash need not be graded twice.

use std::time::{Duration, Instant};

use trunkline_plugin::http::{Error, Request};
use trunkline_plugin::json::Value;
use trunkline_plugin::{Failure, config};

use crate::job::Object;
use crate::{Kind, grade};

/// Seconds for each step of a request, unless config `timeout-s` says otherwise.
const TIMEOUT_S: f64 = 55.0;
/// What of the grader's words goes into a result, in characters.
const EXCERPT_MAX: usize = 200;

/// What became of a job.
pub(crate) enum Graded {
    /// The grade.
    Completed(Value),
    /// The grader will not take this job, and why.
    Refused(String),
    /// There is no grader here.
    Later,
}

/// Has a good job graded.
///
/// # Errors
/// A retry for what may pass; a rejection when the grader's address is not granted.
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
    // Some graders wrap it, as results are.
    let answer = answer.get("result").filter(|inner| inner.is_object()).unwrap_or(&answer);
    let score_max = config::number("score-max", grade::SCORE_MAX)?;
    let checked = grade::check(kind, answer, score_max, begun.elapsed(), words);
    checked.map(Graded::Completed).map_err(|problems| {
        // Graders are not the same every time.
        Failure::retry(format!("the grader's answer: {}", problems.join("; ")))
    })
}
