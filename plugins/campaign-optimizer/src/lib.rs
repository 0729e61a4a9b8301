//! A campaign below its target becomes suggestions, derived from the campaign's own figures.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// The wanted success rate; config `target`.
const TARGET: f64 = 0.7;
/// Fewer calls allow no conclusion.
const SAMPLE_MIN: u64 = 30;
/// A larger share of failed calls points at the phone numbers rather than at the script.
const FAILED_SHARE_MAX: f64 = 0.2;
/// A larger share of calls without a result points at the calling hours.
const UNDECIDED_SHARE_MAX: f64 = 0.2;
/// The allowed difference between the stated rate and the counted one.
const RATE_TOLERANCE: f64 = 0.01;

#[derive(Deserialize)]
struct CampaignCompleted<'a> {
    campaign_id: &'a str,
    total_calls: u64,
    successful_calls: u64,
    failed_calls: u64,
    /// 0 to 1.
    success_rate: f64,
}

#[derive(Serialize)]
struct Suggested<'a> {
    campaign_id: &'a str,
    success_rate: f64,
    target: f64,
    /// Missing successes.
    shortfall: u64,
    suggestions: Vec<Suggestion>,
    organization_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Suggestion {
    code: &'static str,
    text: String,
}

/// One event with all suggestions, or none when the campaign reached its target.
#[handler(
    description = "Suggests improvements for a campaign below its target",
    takes = ["campaign.completed"],
    emits = ["campaign.optimization.suggested"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let campaign: CampaignCompleted<'_> = event.json()?;
    check(&campaign)?;
    let target = config::number("target", TARGET)?;
    if campaign.total_calls == 0 || campaign.success_rate >= target {
        return Ok(Vec::new());
    }
    let suggested = Suggested {
        campaign_id: campaign.campaign_id,
        success_rate: campaign.success_rate,
        target,
        shortfall: shortfall(&campaign, target),
        suggestions: suggestions(&campaign, target),
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("campaign.optimization.suggested", &suggested)?.subject(campaign.campaign_id)])
}

fn check(campaign: &CampaignCompleted<'_>) -> Result<(), Failure> {
    let reject = |text: String| Err(Failure::reject(format!("campaign.completed: {text}")));
    let CampaignCompleted { total_calls, successful_calls, failed_calls, success_rate, .. } = *campaign;
    if !(0.0..=1.0).contains(&success_rate) {
        return reject("`success_rate` is not between 0 and 1".to_owned());
    }
    if successful_calls.saturating_add(failed_calls) > total_calls {
        return reject(format!("{successful_calls} successful and {failed_calls} failed calls of {total_calls}"));
    }
    let counted = share(successful_calls, total_calls);
    if total_calls > 0 && (counted - success_rate).abs() > RATE_TOLERANCE {
        return reject(format!("`success_rate` is {success_rate}, but the counts give {counted:.3}"));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of calls are far below 2^52, and a target is between 0 and 1"
)]
fn shortfall(campaign: &CampaignCompleted<'_>, target: f64) -> u64 {
    let wanted = (campaign.total_calls as f64 * target).ceil() as u64;
    wanted.saturating_sub(campaign.successful_calls)
}

fn suggestions(campaign: &CampaignCompleted<'_>, target: f64) -> Vec<Suggestion> {
    let CampaignCompleted { total_calls, successful_calls, failed_calls, .. } = *campaign;
    let undecided = total_calls - successful_calls - failed_calls;
    let percent = |part: u64| (share(part, total_calls) * 100.0).round();
    let mut found = Vec::new();
    let mut suggest = |code: &'static str, text: String| found.push(Suggestion { code, text });
    if total_calls < SAMPLE_MIN {
        let text = format!("{total_calls} calls say little; run at least {SAMPLE_MIN} before changing the script.");
        suggest("small-sample", text);
    }
    if share(failed_calls, total_calls) > FAILED_SHARE_MAX {
        let text = format!(
            "{failed_calls} of {total_calls} calls ({}%) failed: check the list's numbers.",
            percent(failed_calls)
        );
        suggest("clean-list", text);
    }
    if share(undecided, total_calls) > UNDECIDED_SHARE_MAX {
        let text =
            format!("{undecided} of {total_calls} calls ({}%) had no result: try other hours.", percent(undecided));
        suggest("call-times", text);
    }
    let missing = shortfall(campaign, target);
    let reached = successful_calls + failed_calls;
    if share(successful_calls, reached.max(1)) < target {
        let text = format!(
            "{successful_calls} of {reached} decided calls succeeded, {missing} fewer than wanted: rework the script."
        );
        suggest("script", text);
    } else {
        let text =
            format!("Decided calls reach the target; {missing} more successes are in the calls without a result.");
        suggest("follow-up", text);
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn campaign(total: u64, successful: u64, failed: u64) -> Event {
        let data = json!({
            "campaign_id": "k-1", "total_calls": total, "successful_calls": successful, "failed_calls": failed,
            "success_rate": share(successful, total),
        });
        testing::event("campaign.completed", &data)
    }

    #[test]
    fn suggestions_follow_from_the_figures() {
        let cases: [(u64, u64, u64, u64, &[&str]); 6] = [
            (100, 70, 30, 0, &[]),
            (0, 0, 0, 0, &[]),
            (100, 69, 10, 1, &["call-times", "follow-up"]),
            (100, 40, 50, 30, &["clean-list", "script"]),
            (100, 40, 10, 30, &["call-times", "follow-up"]),
            (10, 3, 3, 4, &["small-sample", "clean-list", "call-times", "script"]),
        ];
        for (total, successful, failed, shortfall, expected) in cases {
            let emitted = handle(campaign(total, successful, failed)).expect("valid");
            let suggested: Option<Value> = emitted.first().map(|emission| emission.read().expect("JSON"));
            let codes: Vec<String> = suggested
                .iter()
                .flat_map(|data| data["suggestions"].as_array().expect("a list"))
                .map(|suggestion| suggestion["code"].as_str().expect("a code").to_owned())
                .collect();
            assert_eq!(codes, expected, "{total} {successful} {failed}");
            if let Some(data) = suggested {
                assert_eq!(data["shortfall"], shortfall, "{total} {successful} {failed}");
            }
        }
    }

    #[test]
    fn figures_that_contradict_each_other_are_rejected() {
        for (data, expected) in [
            (
                json!({ "campaign_id": "k", "total_calls": 10, "successful_calls": 8, "failed_calls": 3, "success_rate": 0.8 }),
                "8 successful",
            ),
            (
                json!({ "campaign_id": "k", "total_calls": 10, "successful_calls": 5, "failed_calls": 3, "success_rate": 0.8 }),
                "0.500",
            ),
            (
                json!({ "campaign_id": "k", "total_calls": 10, "successful_calls": 5, "failed_calls": 3, "success_rate": 1.5 }),
                "between",
            ),
            (
                json!({ "campaign_id": "k", "total_calls": -1, "successful_calls": 5, "failed_calls": 3, "success_rate": 0.5 }),
                "-1",
            ),
        ] {
            match handle(testing::event("campaign.completed", &data)) {
                Err(Failure::Reject(text)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{data}: {other:?}"),
            }
        }
    }
}
