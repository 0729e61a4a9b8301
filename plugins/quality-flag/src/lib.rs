//! Flags a call whose sentiment is far below zero, so that its recording is reviewed.

use serde::Serialize;
use trunkline_plugin::{Emission, Event, Failure, handler};

#[derive(Serialize)]
struct Flagged<'a> {
    call_id: &'a str,
    reason: &'static str,
    score: f64,
    threshold: f64,
    keywords: &'a [String],
    /// The distance below the threshold as a share of the range, 0 to 1, for sorting the flagged calls.
    severity: f64,
    organization_id: Option<&'a str>,
}

/// One flag, or none when the call is not below the threshold.
#[handler(
    description = "Flags very negative calls for a review",
    takes = ["sentiment.analyzed"],
    emits = ["quality.call.flagged"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let Some((call, threshold)) = sentiment::very_negative(&event)? else { return Ok(Vec::new()) };
    let score = call.score;
    let severity = ((threshold - score) / (threshold + 1.0) * 100.0).round() / 100.0;
    let flagged = Flagged {
        call_id: &call.call_id,
        reason: "negative-sentiment",
        score,
        threshold,
        keywords: &call.keywords,
        severity,
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("quality.call.flagged", &flagged)?.subject(call.call_id.as_str())])
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
}
