//! `sentiment.analyzed` far below zero flags the call, so that somebody listens to the recording.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// Below this, unless config `threshold` says otherwise.
const THRESHOLD: f64 = -0.5;

#[derive(Deserialize)]
struct SentimentAnalyzed {
    call_id: String,
    /// -1 to 1.
    score: f64,
    #[serde(default)]
    keywords: Vec<String>,
}

#[derive(Serialize)]
struct Flagged<'a> {
    call_id: &'a str,
    reason: &'static str,
    score: f64,
    threshold: f64,
    keywords: &'a [String],
    /// How far below the threshold, of what there is: 0 to 1, for sorting what to listen to first.
    severity: f64,
    organization_id: Option<&'a str>,
}

/// One flag, or none when the call was not that bad.
#[handler(
    description = "Flags very negative calls for a review",
    takes = ["sentiment.analyzed"],
    emits = ["quality.call.flagged"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let SentimentAnalyzed { call_id, score, keywords } = event.json()?;
    if !(-1.0..=1.0).contains(&score) {
        return Err(Failure::reject("sentiment.analyzed: `score` is not between -1 and 1"));
    }
    let threshold = config::number("threshold", THRESHOLD)?;
    if score >= threshold {
        return Ok(Vec::new());
    }
    let severity = ((threshold - score) / (threshold + 1.0) * 100.0).round() / 100.0;
    let flagged = Flagged {
        call_id: &call_id,
        reason: "negative-sentiment",
        score,
        threshold,
        keywords: &keywords,
        severity,
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("quality.call.flagged", &flagged)?.subject(call_id.as_str())])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn flag(score: f64) -> Option<Value> {
        let data = json!({ "call_id": "c-1", "sentiment": "negative", "score": score, "keywords": ["refund"] });
        let emitted = handle(testing::event("sentiment.analyzed", &data)).expect("valid");
        emitted.first().map(|emission| emission.read().expect("JSON"))
    }

    #[test]
    fn only_below_the_threshold() {
        for (score, severity) in [(1.0, None), (-0.5, None), (-0.75, Some(0.5)), (-1.0, Some(1.0))] {
            let flagged = flag(score);
            assert_eq!(flagged.as_ref().and_then(|flag| flag["severity"].as_f64()), severity, "{score}");
            if let Some(flagged) = flagged {
                assert_eq!((&flagged["keywords"], &flagged["organization_id"]), (&json!(["refund"]), &json!("org-1")));
            }
        }
        testing::set_config("threshold", "-0.9");
        assert_eq!(flag(-0.8), None);
    }

    #[test]
    fn what_does_not_fit_is_rejected() {
        for data in [json!({ "call_id": "c", "score": -2 }), json!({ "score": -0.9 }), json!([])] {
            assert!(matches!(handle(testing::event("sentiment.analyzed", &data)), Err(Failure::Reject(_))), "{data}");
        }
    }
}
