//! A call whose sentiment is far below zero becomes an alert for the supervisor.

use sentiment::Sentiment;
use serde::Serialize;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// Scores below this give an alert of the severity `critical`.
const CRITICAL: f64 = -0.8;

#[derive(Serialize)]
struct Alert<'a> {
    call_id: &'a str,
    severity: &'static str,
    score: f64,
    threshold: f64,
    sentiment: Sentiment,
    keywords: &'a [String],
    message: String,
    organization_id: Option<&'a str>,
}

/// One alert, or none when the call is not below the threshold.
#[handler(
    description = "Alerts a supervisor to very negative calls",
    takes = ["sentiment.analyzed"],
    emits = ["supervisor.alert.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let Some((call, threshold)) = sentiment::very_negative(&event)? else { return Ok(Vec::new()) };
    let (call_id, score) = (&*call.call_id, call.score);
    let alert = Alert {
        call_id,
        severity: if score < CRITICAL { "critical" } else { "high" },
        score,
        threshold,
        sentiment: call.sentiment,
        keywords: &call.keywords,
        message: format!("Call {call_id} went badly: sentiment {score} is below {threshold}."),
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("supervisor.alert.created", &alert)?.subject(call_id)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn analyzed(score: f64) -> Event {
        let data = json!({ "call_id": "c-1", "sentiment": "negative", "score": score, "keywords": ["refund"] });
        testing::event("sentiment.analyzed", &data)
    }

    #[test]
    fn the_threshold_itself_is_no_alert() {
        for (score, severity) in [
            (1.0, None),
            (0.0, None),
            (-0.5, None),
            (-0.51, Some("high")),
            (-0.8, Some("high")),
            (-0.9, Some("critical")),
        ] {
            let emitted = handle(analyzed(score)).expect("valid");
            let alert: Option<Value> = emitted.first().map(|emission| emission.read().expect("JSON"));
            assert_eq!(alert.as_ref().and_then(|alert| alert["severity"].as_str()), severity, "{score}");
            if let Some(alert) = alert {
                assert_eq!((&alert["call_id"], &alert["keywords"]), (&json!("c-1"), &json!(["refund"])));
            }
        }
    }
}
