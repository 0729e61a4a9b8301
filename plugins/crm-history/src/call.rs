//! A call as the CRM shows it, joined from several events, and a contact with its last calls.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Event, Failure};

use crate::Open;

/// Length of a transcript's excerpt, in characters. The CRM shows the subject of a call; the transcript itself is kept
/// elsewhere.
const EXCERPT_MAX: usize = 280;

/// All known fields of a call. Each field comes from one kind of event.
#[derive(Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
#[serde(default)]
pub(crate) struct Call {
    pub(crate) call_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript_excerpt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

/// A contact with its last calls, oldest first.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Contact {
    /// The number of all calls, including those that are no longer kept.
    pub(crate) calls_total: u64,
    pub(crate) calls: VecDeque<Call>,
}

#[derive(Deserialize)]
struct Started {
    call_id: String,
    from_number: String,
    to_number: String,
    campaign_id: Option<String>,
}

#[derive(Deserialize)]
struct Ended {
    call_id: String,
    duration: f64,
    outcome: String,
}

#[derive(Deserialize)]
struct Transcribed {
    call_id: String,
    transcript: String,
    language: String,
}

#[derive(Deserialize)]
struct Analyzed {
    call_id: String,
    sentiment: String,
    score: f64,
}

/// Reads the fields that an event has. In a campaign the contact is the called number, in any other call the calling
/// one.
pub(crate) fn read(event: &Event) -> Result<Open, Failure> {
    let mut contact = None;
    let call = match event.kind.as_str() {
        "call.started" => {
            let Started { call_id, from_number, to_number, campaign_id } = event.json()?;
            let (direction, number) =
                if campaign_id.is_some() { ("outbound", to_number) } else { ("inbound", from_number) };
            contact = Some(checked(event, number)?);
            let direction = Some(direction.to_owned());
            Call { call_id, direction, campaign_id, started_at: event.time.clone(), ..Call::default() }
        }
        "call.ended" => {
            let Ended { call_id, duration, outcome } = event.json()?;
            let (duration, outcome) = (Some(duration), Some(outcome));
            Call { call_id, ended_at: event.time.clone(), duration, outcome, ..Call::default() }
        }
        "call.transcribed" => {
            let Transcribed { call_id, transcript, language } = event.json()?;
            let transcript_excerpt = Some(excerpt(&transcript));
            Call { call_id, language: Some(language), transcript_excerpt, ..Call::default() }
        }
        "sentiment.analyzed" => {
            let Analyzed { call_id, sentiment, score } = event.json()?;
            Call { call_id, sentiment: Some(sentiment), score: Some(score), ..Call::default() }
        }
        other => return Err(Failure::reject(format!("{other:?} is not an event of a call"))),
    };
    Ok(Open { contact, call })
}

/// Checks the number, because it becomes a key.
fn checked(event: &Event, number: String) -> Result<String, Failure> {
    let digits = number.strip_prefix('+').unwrap_or_default();
    let is_number = (2..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(number) } else { Err(Failure::reject(format!("{}: {number:?} is not E.164", event.kind))) }
}

fn excerpt(transcript: &str) -> String {
    match transcript.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &transcript[..end]),
        None => transcript.to_owned(),
    }
}

impl Call {
    /// Takes the fields that another event set.
    pub(crate) fn merge(&mut self, new: &Self) {
        fn take<T: Clone>(known: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                known.clone_from(new);
            }
        }
        self.call_id.clone_from(&new.call_id);
        take(&mut self.direction, &new.direction);
        take(&mut self.campaign_id, &new.campaign_id);
        take(&mut self.started_at, &new.started_at);
        take(&mut self.ended_at, &new.ended_at);
        take(&mut self.duration, &new.duration);
        take(&mut self.outcome, &new.outcome);
        take(&mut self.language, &new.language);
        take(&mut self.transcript_excerpt, &new.transcript_excerpt);
        take(&mut self.sentiment, &new.sentiment);
        take(&mut self.score, &new.score);
    }
}

impl Contact {
    /// Adds the call or fills in its fields, and gives the joined call. Two events of one call may reach the contact in
    /// another order than they reached the call, so fields are joined here again.
    pub(crate) fn put(&mut self, call: &Call, history: usize) -> Call {
        if let Some(known) = self.calls.iter_mut().find(|known| known.call_id == call.call_id) {
            known.merge(call);
            return known.clone();
        }
        self.calls_total += 1;
        self.calls.push_back(call.clone());
        self.calls.drain(..self.calls.len().saturating_sub(history));
        call.clone()
    }
}
