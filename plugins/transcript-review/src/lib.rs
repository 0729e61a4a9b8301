//! Searches transcripts for two lists of phrases: restricted phrases, and coaching moments sorted by topic. The lists
//! are config:
//!
//! - `restricted`: phrases separated by commas, `guaranteed return*, off the record`
//! - `coaching`: topics separated by semicolons, `price: too expensive, discount; empathy: I understand`

mod phrases;

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

use phrases::{Phrase, Text, Topic};

/// Below this confidence a transcript gives no coaching moments, and its restricted phrases need a listener. Config
/// `confidence`.
const CONFIDENCE: f64 = 0.6;
/// Excerpts of one phrase.
const EXCERPTS_MAX: usize = 3;
const MOMENTS_MAX: usize = 50;

#[derive(Deserialize)]
struct Transcribed {
    call_id: String,
    transcript: String,
    language: String,
    /// 0 to 1.
    confidence: f64,
}

#[derive(Serialize)]
struct Detected<'a> {
    call_id: &'a str,
    language: &'a str,
    confidence: f64,
    /// The confidence is too low to rely on the transcript.
    needs_listening: bool,
    found: Vec<Found<'a>>,
    organization_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Found<'a> {
    keyword: &'a str,
    count: usize,
    excerpts: Vec<Excerpt>,
}

#[derive(Serialize)]
struct Excerpt {
    /// In characters, from the beginning of the transcript.
    offset: usize,
    text: String,
}

#[derive(Serialize)]
struct Moments<'a> {
    call_id: &'a str,
    language: &'a str,
    moments: Vec<Moment<'a>>,
    organization_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Moment<'a> {
    topic: &'a str,
    phrase: &'a str,
    #[serde(flatten)]
    excerpt: Excerpt,
}

/// One event with all restricted phrases, and one with all coaching moments; neither without a match.
#[handler(
    description = "Finds restricted words and coaching moments in transcripts",
    takes = ["call.transcribed"],
    emits = ["compliance.keyword.detected", "coaching.moment.detected"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let call: Transcribed = event.json()?;
    if !(0.0..=1.0).contains(&call.confidence) {
        return Err(Failure::reject("call.transcribed: `confidence` is not between 0 and 1"));
    }
    let is_uncertain = call.confidence < config::number("confidence", CONFIDENCE)?;
    let restricted: Vec<Phrase> = config::list("restricted").into_iter().map(Phrase::new).collect();
    let topics = config::parsed("coaching", Vec::new(), "no `topic: phrase, phrase; topic: ...`", Topic::read_all)?;
    let text = Text::new(&call.transcript);
    let (call_id, language, organization_id) = (&*call.call_id, &*call.language, event.tenant.as_deref());

    let mut emitted = Vec::new();
    let found: Vec<Found<'_>> = restricted.iter().filter_map(|phrase| found(&text, phrase)).collect();
    if !found.is_empty() {
        let confidence = call.confidence;
        let detected =
            Detected { call_id, language, confidence, needs_listening: is_uncertain, found, organization_id };
        let emission = Emission::json("compliance.keyword.detected", &detected)?;
        emitted.push(emission.subject(call_id).dedupe_key("restricted"));
    }
    let moments = if is_uncertain { Vec::new() } else { moments(&text, &topics) };
    if !moments.is_empty() {
        let moments = Moments { call_id, language, moments, organization_id };
        let emission = Emission::json("coaching.moment.detected", &moments)?;
        emitted.push(emission.subject(call_id).dedupe_key("coaching"));
    }
    Ok(emitted)
}

fn found<'a>(text: &Text<'_>, phrase: &'a Phrase) -> Option<Found<'a>> {
    let places = text.find(phrase);
    let excerpts = places.iter().take(EXCERPTS_MAX).map(|place| text.excerpt(place.clone())).collect();
    (!places.is_empty()).then(|| Found { keyword: &phrase.text, count: places.len(), excerpts })
}

/// The moments in the order of the call.
fn moments<'a>(text: &Text<'_>, topics: &'a [Topic]) -> Vec<Moment<'a>> {
    let mut places = Vec::new();
    for topic in topics {
        for phrase in &topic.phrases {
            places.extend(text.find(phrase).into_iter().map(|place| (place, topic, phrase)));
        }
    }
    places.sort_by_key(|(place, ..)| place.start);
    let moment = |(place, topic, phrase): (_, &'a Topic, &'a Phrase)| Moment {
        topic: &topic.name,
        phrase: &phrase.text,
        excerpt: text.excerpt(place),
    };
    places.into_iter().take(MOMENTS_MAX).map(moment).collect()
}

#[cfg(test)]
mod tests;
