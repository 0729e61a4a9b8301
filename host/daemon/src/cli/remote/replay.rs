//! `trunkline replay`: publishes archived events again, over the API of a running daemon.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use trunkline_config::{self as config, Handler, Rate};
use trunkline_event::{PatternSet, RouteName, RoutingKey};
use trunkline_route::archive::{self, ArchivedEvent};
use trunkline_telemetry::wait::{self, Loop, RetryLoop};
use uuid::Uuid;

use super::api::{Api, ApiResponse, Format};
use crate::cli::exit;
use crate::cli::paths::Paths;

/// Events in one request.
const BATCH: usize = 100;
/// The namespace of the ids of `--new-ids`: the UUID version 5 of "trunkline:replay" in the URL namespace of RFC 9562.
const IDS: Uuid = Uuid::from_u128(0x3f0a_6a55_7d1c_5b8e_9f57_2d0c_64b1_a7e4);
/// Time for the daemon to respond.
const WITHIN: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(in crate::cli) struct Replay {
    /// The name of a route with the key `archive`.
    route: String,
    #[command(flatten)]
    paths: Paths,
    /// Publish only events that were archived at this time (RFC 3339) or later.
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Publish only events that were archived before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Publish only events whose routing key matches this topic pattern. Repeat the flag for further patterns.
    #[arg(long, value_name = "PATTERN", value_parser = key)]
    key: Vec<RoutingKey>,
    /// Publish only events of this type. Repeat the flag for further types.
    #[arg(long, value_name = "TYPE")]
    r#type: Vec<String>,
    /// Publish only events of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Give each event a new id that is derived from NAME and the old id. Dedupe windows then treat the event as new.
    #[arg(long, value_name = "NAME")]
    new_ids: Option<String>,
    /// The largest number of events in a unit of time, such as 100/s.
    #[arg(long)]
    rate: Option<Rate>,
    /// Count the events that a replay would publish, but publish no event.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: Api,
}

/// The counts of a replay.
#[derive(Debug, Default, Serialize)]
struct ReplayCounts {
    /// Events of the archive.
    read: u64,
    /// Events that the filters left out.
    skipped: u64,
    /// Events that are repeats, because an archive may hold an event twice.
    repeated: u64,
    /// Events that the daemon accepted, or that it would get.
    published: u64,
    /// Events that the daemon refused, and events whose data is not JSON.
    refused: u64,
    /// Files whose end cannot be read.
    torn: u64,
}

/// The reason why a replay ended early.
enum ReplayFailure {
    /// The archive cannot be read.
    Archive(String),
    /// The daemon cannot be reached, or does not take the events.
    Daemon(String),
}

/// An event in the form of `POST /api/v1/events`.
#[derive(Serialize)]
struct ReplayedEvent<'e> {
    id: String,
    r#type: &'e str,
    source: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'e str>,
    exchange: &'e str,
    routing_key: &'e str,
    #[serde(rename = "organizationId", skip_serializing_if = "Option::is_none")]
    tenant: Option<&'e str>,
    #[serde(rename = "userId", skip_serializing_if = "Option::is_none")]
    user: Option<&'e str>,
    attributes: &'e std::collections::BTreeMap<String, String>,
    data: Box<RawValue>,
}

fn key(text: &str) -> Result<RoutingKey, String> {
    RoutingKey::pattern(text).map_err(|error| format!("the topic pattern {error}"))
}

/// Reads the archive, publishes the events, and prints the counts.
pub(in crate::cli) fn run(arguments: &Replay) -> anyhow::Result<u8> {
    let config = match config::load(&arguments.paths.sources()) {
        Ok(loaded) => loaded.config,
        Err(rejected) => {
            eprint!("{}", rejected.render(false));
            return Ok(exit::CONFIG);
        }
    };
    let route = RouteName::new(&arguments.route)
        .map_err(|error| anyhow::anyhow!("the route name {:?} {error}", arguments.route))?;
    let Some(Handler::Archive(settings)) = config.routes.get(&route).map(|route| &route.handler) else {
        eprintln!(
            "error: the route {route} does not exist or has no `archive` in {}",
            arguments.paths.config.display()
        );
        return Ok(exit::USAGE);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut done = ReplayCounts::default();
    let ended = replay(arguments, &runtime, &route, settings, &config.http, &mut done);
    if arguments.api.format == Format::Json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        let would = if arguments.dry_run { "would be " } else { "" };
        let ReplayCounts { read, skipped, repeated, published, refused, torn } = &done;
        println!(
            "{read} events read, {skipped} left out, {repeated} repeated, {published} {would}published, {refused} refused"
        );
        if *torn > 0 {
            println!("{torn} files end in the middle of a batch, whose events were not acknowledged");
        }
    }
    Ok(match ended {
        Ok(()) if done.refused == 0 => exit::OK,
        Ok(()) => exit::FAILED,
        Err(ReplayFailure::Archive(error)) => {
            eprintln!("error: {error}");
            exit::NO_INPUT
        }
        Err(ReplayFailure::Daemon(error)) => {
            eprintln!(
                "error: {error}; run the command again, because the daemon drops repeats of published events within its dedupe window"
            );
            exit::UNAVAILABLE
        }
    })
}

fn replay(
    arguments: &Replay,
    runtime: &tokio::runtime::Runtime,
    route: &RouteName,
    settings: &config::Archive,
    http: &config::Http,
    done: &mut ReplayCounts,
) -> Result<(), ReplayFailure> {
    let failed = |error: archive::ArchiveReadError| ReplayFailure::Archive(error.to_string());
    let mut files = runtime.block_on(archive::open(route, settings)).map_err(failed)?;
    let mut seen = HashSet::new();
    let keys = arguments.key.iter().map(|key| (key.as_str(), ())).collect::<PatternSet<_>>();
    let began = Instant::now();
    // Replayed events are archived again. The new events are not part of this replay.
    let now = jiff::Timestamp::now();
    let until = arguments.until.map_or(now, |until| until.min(now));
    while let Some(file) = runtime.block_on(files.next()).map_err(failed)? {
        if let Some(reason) = &file.torn {
            done.torn += 1;
            eprintln!("warning: {}: {reason}", file.place);
        }
        done.read += file.events.len() as u64;
        let mut wanted = Vec::new();
        for archived in &file.events {
            if !is_wanted(arguments, archived, &keys, until) {
                done.skipped += 1;
            } else if seen.insert(hash(archived)) {
                wanted.push(archived);
            } else {
                done.repeated += 1;
            }
        }
        for part in wanted.chunks(BATCH) {
            publish(arguments, http, part, began, done)?;
        }
    }
    Ok(())
}

/// Hash of an archived event. The id alone would not do, because different producers may use one id.
fn hash(archived: &ArchivedEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&archived.id, &archived.exchange, &archived.routing_key, archived.json()).hash(&mut hasher);
    hasher.finish()
}

fn is_wanted(arguments: &Replay, archived: &ArchivedEvent, keys: &PatternSet<()>, until: jiff::Timestamp) -> bool {
    let at = archived.archived_at.parse::<jiff::Timestamp>().ok();
    let is_late = arguments.since.is_none_or(|since| at.is_some_and(|at| at >= since));
    let is_early = at.is_some_and(|at| at < until);
    let is_type = arguments.r#type.is_empty() || arguments.r#type.contains(&archived.r#type);
    let is_tenant = arguments.tenant.is_none() || arguments.tenant == archived.tenant;
    let is_key = arguments.key.is_empty() || keys.matches(&archived.routing_key);
    is_late && is_early && is_type && is_tenant && is_key
}

fn publish(
    arguments: &Replay,
    http: &config::Http,
    archived_events: &[&ArchivedEvent],
    began: Instant,
    done: &mut ReplayCounts,
) -> Result<(), ReplayFailure> {
    let mut events = Vec::new();
    for archived in archived_events {
        let data = archived.json().and_then(|json| RawValue::from_string(json.into_owned()).ok());
        let Some(data) = data else {
            refused(done, &archived.id, "the data of the event is not JSON, but the API accepts only JSON");
            continue;
        };
        let id = match &arguments.new_ids {
            Some(name) => Uuid::new_v5(&IDS, format!("{name}:{}", archived.id).as_bytes()).to_string(),
            None => archived.id.clone(),
        };
        events.push(ReplayedEvent {
            id,
            r#type: &archived.r#type,
            source: &archived.source,
            subject: archived.subject.as_deref(),
            time: archived.time.as_deref(),
            exchange: &archived.exchange,
            routing_key: &archived.routing_key,
            tenant: archived.tenant.as_deref(),
            user: archived.user.as_deref(),
            attributes: &archived.attributes,
            data,
        });
    }
    if events.is_empty() {
        return Ok(());
    }
    if arguments.dry_run {
        for event in &events {
            match http.refuses(event.exchange) {
                None => done.published += 1,
                Some(why) => refused(done, &event.id, &why),
            }
        }
        return Ok(());
    }
    if let Some(rate) = arguments.rate {
        let published = u32::try_from(done.published).unwrap_or(u32::MAX);
        let due = (rate.per / rate.events.max(1)).saturating_mul(published);
        wait::block(due.saturating_sub(began.elapsed()));
    }
    send(arguments, events, done)
}

fn refused(done: &mut ReplayCounts, id: &str, why: &str) {
    done.refused += 1;
    eprintln!("refused: {id}: {why}");
}

/// Sends events. Events that the daemon cannot take now are sent again: the broker is away, or a queue or the disk is full.
/// Gives up when the daemon took no event for a long time.
fn send(arguments: &Replay, mut events: Vec<ReplayedEvent<'_>>, done: &mut ReplayCounts) -> Result<(), ReplayFailure> {
    let mut retry = RetryLoop::new(Loop::Replay, "");
    loop {
        let body = serde_json::json!({ "events": events });
        let (why, retry_after) = match arguments.api.post("events/batch", Some(&body), WITHIN) {
            Err(error) => (format!("no daemon responds at {}: {error}", arguments.api.url), None),
            Ok(ApiResponse { status: 202 | 207, body, retry_after }) => {
                let results = body["results"].as_array().cloned().unwrap_or_default();
                if results.len() != events.len() {
                    return Err(ReplayFailure::Daemon(format!(
                        "the response of the daemon has results for only {} events",
                        results.len()
                    )));
                }
                let before = events.len();
                let Some(why) = settle(&mut events, &results, done) else { return Ok(()) };
                if events.len() < before {
                    retry.succeeded();
                }
                (why, retry_after)
            }
            Ok(ApiResponse { status: 429 | 503 | 507, body, retry_after }) => {
                (body["detail"].as_str().unwrap_or("the daemon cannot accept events now").to_owned(), retry_after)
            }
            Ok(ApiResponse { status, body, .. }) => {
                return Err(ReplayFailure::Daemon(format!(
                    "the daemon responds with the status {status}: {}",
                    body["detail"]
                )));
            }
        };
        let pause = retry.failed(&why).map_err(|exhausted| ReplayFailure::Daemon(format!("{exhausted}: {why}")))?;
        let pause = pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        eprintln!(
            "waiting: the daemon did not accept {} events: {why}; the next try is in {:.1} s",
            events.len(),
            pause.as_secs_f32()
        );
        wait::block(pause);
    }
}

/// Counts the settled events and keeps the events that have to be sent again. Returns the reason for the first of these.
fn settle(events: &mut Vec<ReplayedEvent<'_>>, results: &[Value], done: &mut ReplayCounts) -> Option<String> {
    let (mut results, mut first) = (results.iter(), None);
    events.retain(|event| {
        let Some(result) = results.next() else { return true };
        let detail = || result["problem"]["detail"].as_str().unwrap_or("the daemon gave no reason").to_owned();
        match result["status"].as_u64() {
            Some(202) => done.published += 1,
            Some(429 | 503 | 507) => {
                first.get_or_insert_with(detail);
                return true;
            }
            Some(_) | None => refused(done, &event.id, &detail()),
        }
        false
    });
    first
}
