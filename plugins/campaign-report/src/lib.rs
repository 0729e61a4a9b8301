//! A completed campaign becomes a report with its figures and a comparison with earlier campaigns. The figures of the
//! last campaigns are kept for each organisation.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::{Emission, Event, Failure, handler};

/// Number of campaigns in the comparison.
const CAMPAIGNS_MAX: usize = 24;

#[derive(Serialize, Deserialize, Clone)]
struct Campaign {
    campaign_id: String,
    total_calls: u64,
    successful_calls: u64,
    failed_calls: u64,
    /// 0 to 1.
    success_rate: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    campaign_id: &'a str,
    /// When the campaign was completed, RFC 3339.
    completed_at: Option<&'a str>,
    total_calls: u64,
    successful_calls: u64,
    failed_calls: u64,
    /// Calls that neither succeeded nor failed.
    undecided_calls: u64,
    success_rate: f64,
    failure_rate: f64,
    /// Absent for the first campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Before>,
    summary: String,
    organization_id: Option<&'a str>,
}

/// The comparison with earlier campaigns.
#[derive(Serialize)]
struct Before {
    campaigns: usize,
    /// The success rate over all calls of the earlier campaigns.
    success_rate: f64,
    /// The rate of this campaign minus the earlier rate.
    change: f64,
    /// 1 when no earlier campaign had a higher rate.
    rank: usize,
}

/// One report for each campaign.
#[handler(
    description = "Reports a campaign and compares the campaign with earlier campaigns",
    takes = ["campaign.completed"],
    emits = ["campaign.report.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let campaign: Campaign = event.json()?;
    check(&campaign)?;
    let campaigns: Document<VecDeque<Campaign>> = Document::new("campaigns").remember(256, 64);
    let applied = campaigns.apply(&event.id, |known| {
        // A campaign that is completed again is not compared with itself.
        known.retain(|known| known.campaign_id != campaign.campaign_id);
        let before = known.clone();
        known.push_back(campaign.clone());
        known.drain(..known.len().saturating_sub(CAMPAIGNS_MAX));
        Ok(compared(&campaign, &before))
    })?;
    let Some((campaigns, success_rate, rank)) = applied.answer() else { return Ok(Vec::new()) };
    let change = rounded(campaign.success_rate - success_rate);
    let before = (campaigns > 0).then_some(Before { campaigns, success_rate, change, rank });
    let Campaign { total_calls, successful_calls, failed_calls, success_rate, .. } = campaign;
    let report = Report {
        campaign_id: &campaign.campaign_id,
        completed_at: event.time.as_deref(),
        total_calls,
        successful_calls,
        failed_calls,
        undecided_calls: total_calls - successful_calls - failed_calls,
        success_rate,
        failure_rate: share(failed_calls, total_calls),
        summary: summary(&campaign, before.as_ref()),
        before,
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("campaign.report.created", &report)?.subject(campaign.campaign_id.as_str())])
}

fn check(campaign: &Campaign) -> Result<(), Failure> {
    let Campaign { total_calls, successful_calls, failed_calls, success_rate, .. } = campaign;
    if successful_calls.saturating_add(*failed_calls) > *total_calls {
        let why = format!("{successful_calls} successful and {failed_calls} failed calls of {total_calls}");
        return Err(Failure::reject(format!("campaign.completed: {why}")));
    }
    if !(0.0..=1.0).contains(success_rate) {
        return Err(Failure::reject("campaign.completed: `success_rate` is not between 0 and 1"));
    }
    Ok(())
}

/// The number of earlier campaigns, their common rate, and the rank of this campaign.
fn compared(campaign: &Campaign, before: &VecDeque<Campaign>) -> (usize, f64, usize) {
    let sum = |count: fn(&Campaign) -> u64| before.iter().map(count).fold(0, u64::saturating_add);
    let rate = share(sum(|campaign| campaign.successful_calls), sum(|campaign| campaign.total_calls));
    let better = before.iter().filter(|other| other.success_rate > campaign.success_rate).count();
    (before.len(), rate, better + 1)
}

fn summary(campaign: &Campaign, before: Option<&Before>) -> String {
    let Campaign { campaign_id, total_calls, successful_calls, success_rate, .. } = campaign;
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    let figures =
        format!("{campaign_id}: {successful_calls} of {total_calls} calls succeeded ({}%)", percent(*success_rate));
    match before {
        None => format!("{figures}. The first campaign."),
        Some(before) => {
            let direction = if before.change < 0.0 { "below" } else { "above" };
            let points = percent(before.change.abs());
            let Before { campaigns, rank, .. } = before;
            format!("{figures}, {points} points {direction} the {campaigns} before. Rank {rank} of {}.", campaigns + 1)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls are far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { rounded(part as f64 / whole as f64) }
}

fn rounded(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn completed(id: &str, campaign_id: &str, successful: u64, failed: u64) -> Event {
        let data = json!({
            "campaign_id": campaign_id, "total_calls": 100, "successful_calls": successful, "failed_calls": failed,
            "success_rate": share(successful, 100),
        });
        Event { id: id.to_owned(), ..testing::event("campaign.completed", &data) }
    }

    fn report(event: Event) -> Value {
        handle(event).expect("valid")[0].read().expect("JSON")
    }

    #[test]
    fn a_report_looks_back() {
        let first = report(completed("1", "a", 40, 30));
        assert_eq!((&first["undecided_calls"], &first["failure_rate"]), (&json!(30), &json!(0.3)));
        assert_eq!(first["summary"], "a: 40 of 100 calls succeeded (40%). The first campaign.");
        assert_eq!((first.get("before"), &first["organization_id"]), (None, &json!("org-1")));
        report(completed("2", "b", 60, 0));
        let third = report(completed("3", "c", 45, 0));
        assert_eq!(third["before"], json!({ "campaigns": 2, "success_rate": 0.5, "change": -0.05, "rank": 2 }));
        assert_eq!(third["summary"], "c: 45 of 100 calls succeeded (45%), 5 points below the 2 before. Rank 2 of 3.");
    }

    #[test]
    fn repetitions_say_the_same_and_a_campaign_counts_once() {
        let first = report(completed("1", "a", 40, 30));
        report(completed("2", "b", 60, 0));
        assert_eq!(report(completed("1", "a", 40, 30)), first);
        let again = report(completed("3", "a", 50, 0));
        assert_eq!(again["before"], json!({ "campaigns": 1, "success_rate": 0.6, "change": -0.1, "rank": 2 }));
        for number in 0..30 {
            report(completed(&format!("n{number}"), &number.to_string(), 10, 0));
        }
        assert_eq!(report(completed("last", "z", 10, 0))["before"]["campaigns"], CAMPAIGNS_MAX);
    }

    #[test]
    fn figures_that_contradict_each_other_are_rejected() {
        assert!(matches!(handle(completed("1", "a", 60, 50)), Err(Failure::Reject(_))));
        let mut event = completed("1", "a", 6, 5);
        event.data = String::from_utf8(event.data).expect("a text").replace("0.06", "1.06").into_bytes();
        assert!(matches!(handle(event), Err(Failure::Reject(_))));
    }
}
