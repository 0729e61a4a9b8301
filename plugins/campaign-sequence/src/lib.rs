//! Asks for the next campaign of a sequence when a campaign is completed. An organisation defines its sequence with
//! `campaign.sequence.defined`, and the plugin keeps it. Config `sequence` holds for all other organisations.

use serde::{Deserialize, Serialize};
use trunkline_plugin::document::Document;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

const CAMPAIGNS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Completed {
    campaign_id: String,
}

#[derive(Deserialize)]
struct Defined {
    /// Campaigns in their order. An empty list returns to config `sequence`.
    campaigns: Vec<String>,
}

/// The successor of a campaign.
#[derive(Serialize, Deserialize)]
enum Following {
    /// The next campaign, its position from 1, and the length of the sequence.
    Next(String, usize, usize),
    /// The campaign was the last one; the length of the sequence.
    End(usize),
}

#[derive(Serialize)]
struct Requested<'a> {
    campaign_id: &'a str,
    after: &'a str,
    position: usize,
    of: usize,
    organization_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Ended<'a> {
    last_campaign_id: &'a str,
    of: usize,
    organization_id: Option<&'a str>,
}

/// Emits the next campaign or the end of the sequence. Emits nothing for a campaign that is in no sequence.
#[handler(
    description = "Asks for the next campaign of a sequence",
    takes = ["campaign.completed", "campaign.sequence.defined"],
    emits = ["campaign.start.requested", "campaign.sequence.completed"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let sequence: Document<Vec<String>> = Document::new("sequence");
    match event.kind.as_str() {
        "campaign.sequence.defined" => {
            let Defined { campaigns } = event.json()?;
            check(&campaigns)?;
            sequence.apply(&event.id, |known| {
                known.clone_from(&campaigns);
                Ok(None::<Following>)
            })?;
            Ok(Vec::new())
        }
        "campaign.completed" => {
            let Completed { campaign_id } = event.json()?;
            let default = config::list("sequence");
            let applied = sequence.apply(&event.id, |known| {
                Ok(following(if known.is_empty() { &default } else { known }, &campaign_id))
            })?;
            let following = applied.answer().flatten();
            following.map(|following| emission(&event, &campaign_id, &following)).into_iter().collect()
        }
        other => Err(Failure::reject(format!("{other:?} is not an event of a campaign"))),
    }
}

fn check(campaigns: &[String]) -> Result<(), Failure> {
    let reject = |why: String| Err(Failure::reject(format!("campaign.sequence.defined: {why}")));
    if campaigns.len() > CAMPAIGNS_MAX {
        return reject(format!("{} campaigns; at most {CAMPAIGNS_MAX} are allowed", campaigns.len()));
    }
    for (index, campaign) in campaigns.iter().enumerate() {
        if campaign.is_empty() || campaigns[..index].contains(campaign) {
            return reject(format!("campaign {campaign:?} is empty or listed twice"));
        }
    }
    Ok(())
}

fn following(sequence: &[String], campaign_id: &str) -> Option<Following> {
    let at = sequence.iter().position(|campaign| campaign == campaign_id)?;
    Some(match sequence.get(at + 1) {
        Some(next) => Following::Next(next.clone(), at + 2, sequence.len()),
        None => Following::End(sequence.len()),
    })
}

fn emission(event: &Event, completed: &str, following: &Following) -> Result<Emission, Failure> {
    let organization_id = event.tenant.as_deref();
    match following {
        Following::Next(campaign_id, position, of) => {
            let (position, of) = (*position, *of);
            let requested = Requested { campaign_id, after: completed, position, of, organization_id };
            Ok(Emission::json("campaign.start.requested", &requested)?.subject(campaign_id.as_str()))
        }
        Following::End(of) => {
            let ended = Ended { last_campaign_id: completed, of: *of, organization_id };
            Ok(Emission::json("campaign.sequence.completed", &ended)?.subject(completed))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn event(id: &str, kind: &str, data: &Value) -> Event {
        Event { id: id.to_owned(), ..testing::event(kind, data) }
    }

    fn completed(id: &str, campaign_id: &str) -> Option<(String, Value)> {
        let emitted = handle(event(id, "campaign.completed", &json!({ "campaign_id": campaign_id }))).expect("valid");
        emitted.first().map(|emission| (emission.kind.clone(), emission.read().expect("JSON")))
    }

    fn define(id: &str, campaigns: &Value) -> Result<Vec<Emission>, Failure> {
        handle(event(id, "campaign.sequence.defined", &json!({ "campaigns": campaigns })))
    }

    #[test]
    fn the_next_one_and_the_end() {
        assert_eq!(completed("0", "a"), None, "no sequence");
        testing::set_config("sequence", "a, b");
        let (kind, data) = completed("1", "a").expect("a next one");
        let expected = json!({ "campaign_id": "b", "after": "a", "position": 2, "of": 2, "organization_id": "org-1" });
        assert_eq!((kind.as_str(), data), ("campaign.start.requested", expected));
        let (kind, data) = completed("2", "b").expect("an end");
        let expected = json!({ "last_campaign_id": "b", "of": 2, "organization_id": "org-1" });
        assert_eq!((kind.as_str(), data), ("campaign.sequence.completed", expected));
        assert_eq!(completed("3", "x"), None);
    }

    #[test]
    fn an_organisation_has_its_own_and_a_repetition_the_old_one() {
        testing::set_config("sequence", "a, b");
        let before = completed("1", "a");
        assert_eq!(define("2", &json!(["a", "c"])), Ok(vec![]));
        assert_eq!(completed("3", "a").expect("a next one").1["campaign_id"], "c");
        assert_eq!(completed("1", "a"), before);
        assert_eq!(define("4", &json!([])), Ok(vec![]));
        assert_eq!(define("2", &json!(["a", "c"])), Ok(vec![]), "an old one, again");
        assert_eq!(completed("5", "a").expect("a next one").1["campaign_id"], "b");
    }

    #[test]
    fn what_does_not_fit_is_rejected() {
        for campaigns in [json!(["a", "a"]), json!([""]), json!("a"), json!(vec!["a"; CAMPAIGNS_MAX + 1])] {
            assert!(matches!(define("1", &campaigns), Err(Failure::Reject(_))), "{campaigns}");
        }
        assert!(matches!(handle(event("1", "campaign.lost", &json!({}))), Err(Failure::Reject(_))));
    }
}
