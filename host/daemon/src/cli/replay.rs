//! `trunkline replay`: publishes again what an archive route has kept, over the API of a running daemon.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use trunkline_config::{self as config, Handler, Rate};
use trunkline_event::{PatternSet, RouteName, RoutingKey};
use trunkline_route::archive::{self, Entry};
use trunkline_telemetry::wait::{self, Loop, Retry};
use uuid::Uuid;

use super::api::{Answered, Api, Format};
use super::{Paths, exit};

/// Events of one request.
const BATCH: usize = 100;
/// Namespace of the ids that `--new-ids` makes: uuid v5 of "trunkline:replay" in the URL namespace of RFC 9562.
const IDS: Uuid = Uuid::from_u128(0x3f0a_6a55_7d1c_5b8e_9f57_2d0c_64b1_a7e4);
/// What a daemon gets to confirm them.
const WITHIN: Duration = Duration::from_secs(60);
/// A daemon may ask to be left alone for so long.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Replay {
    /// The archive route.
    route: String,
    #[command(flatten)]
    paths: Paths,
    /// Only what was archived at this time (RFC 3339) or later.
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Only what was archived before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Only what was published with a key that matches this topic pattern; may be given more than once.
    #[arg(long, value_name = "PATTERN", value_parser = key)]
    key: Vec<RoutingKey>,
    /// Only events of this type; may be given more than once.
    #[arg(long, value_name = "TYPE")]
    r#type: Vec<String>,
    /// Only events of this organisation.
    #[arg(long)]
    tenant: Option<String>,
    /// Gives each event a new id, always the same one for NAME: dedupe windows then take it for another event.
    #[arg(long, value_name = "NAME")]
    new_ids: Option<String>,
    /// At most so many events in a time, such as 100/s.
    #[arg(long)]
    rate: Option<Rate>,
    /// Publishes nothing, and counts what would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: Api,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Entries of the archive.
    read: u64,
    /// Entries that the filters left out.
    skipped: u64,
    /// Entries whose id was there before: an archive may hold an event twice.
    repeated: u64,
    /// Events that the daemon took, or would get.
    published: u64,
    /// Events that it refused, and data that is not JSON.
    refused: u64,
    /// Files with an end that cannot be read.
    torn: u64,
}

enum Failure {
    Archive(String),
    Daemon(String),
}

/// As `POST /api/v1/events` takes it.
#[derive(Serialize)]
struct Event<'e> {
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
    RoutingKey::pattern(text).map_err(|error| error.to_string())
}

/// Reads, publishes, prints, and gives the exit code.
pub(crate) fn run(arguments: &Replay) -> anyhow::Result<u8> {
    let config = match config::load(&arguments.paths.sources()) {
        Ok(loaded) => loaded.config,
        Err(rejected) => {
            eprint!("{}", rejected.render(false));
            return Ok(exit::CONFIG);
        }
    };
    let route = RouteName::new(&arguments.route)?;
    let Some(Handler::Archive(settings)) = config.routes.get(&route).map(|route| &route.handler) else {
        eprintln!("error: {route} is no route with an `archive` in {}", arguments.paths.config.display());
        return Ok(exit::USAGE);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut done = Done::default();
    let ended = replay(arguments, &runtime, &route, settings, &config.http, &mut done);
    if arguments.api.format == Format::Json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        let would = if arguments.dry_run { "would be " } else { "" };
        let Done { read, skipped, repeated, published, refused, torn } = &done;
        println!(
            "{read} read, {skipped} left out, {repeated} repeated, {published} {would}published, {refused} refused"
        );
        if *torn > 0 {
            println!("{torn} files end in the middle of a batch that was never acknowledged");
        }
    }
    Ok(match ended {
        Ok(()) if done.refused == 0 => exit::OK,
        Ok(()) => exit::FAILED,
        Err(Failure::Archive(error)) => {
            eprintln!("error: {error}");
            exit::NO_INPUT
        }
        Err(Failure::Daemon(error)) => {
            eprintln!(
                "error: {error}; start again: what was published is not published twice within the daemon's window"
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
    done: &mut Done,
) -> Result<(), Failure> {
    let failed = |error: archive::ReadError| Failure::Archive(error.to_string());
    let mut batches = runtime.block_on(archive::open(route, settings)).map_err(failed)?;
    let mut seen = HashSet::new();
    let keys = arguments.key.iter().map(|key| (key.as_str(), ())).collect::<PatternSet<_>>();
    let began = Instant::now();
    // What is published again is archived again, and is not for this replay.
    let now = jiff::Timestamp::now();
    let until = arguments.until.map_or(now, |until| until.min(now));
    while let Some(batch) = runtime.block_on(batches.next()).map_err(failed)? {
        if let Some(reason) = &batch.torn {
            done.torn += 1;
            eprintln!("warning: {}: {reason}", batch.place);
        }
        done.read += batch.entries.len() as u64;
        let mut wanted = Vec::new();
        for entry in &batch.entries {
            if !is_wanted(arguments, entry, &keys, until) {
                done.skipped += 1;
            } else if seen.insert(hash(entry)) {
                wanted.push(entry);
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

/// Ids are unique within what a producer gives them for.
fn hash(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&entry.id, &entry.exchange, &entry.routing_key, entry.json()).hash(&mut hasher);
    hasher.finish()
}

fn is_wanted(arguments: &Replay, entry: &Entry, keys: &PatternSet<()>, until: jiff::Timestamp) -> bool {
    let at = entry.archived_at.parse::<jiff::Timestamp>().ok();
    let is_late = arguments.since.is_none_or(|since| at.is_some_and(|at| at >= since));
    let is_early = at.is_some_and(|at| at < until);
    let is_type = arguments.r#type.is_empty() || arguments.r#type.contains(&entry.r#type);
    let is_tenant = arguments.tenant.is_none() || arguments.tenant == entry.tenant;
    let is_key = arguments.key.is_empty() || keys.matches(&entry.routing_key);
    is_late && is_early && is_type && is_tenant && is_key
}

fn publish(
    arguments: &Replay,
    http: &config::Http,
    entries: &[&Entry],
    began: Instant,
    done: &mut Done,
) -> Result<(), Failure> {
    let mut events = Vec::new();
    for entry in entries {
        let data = entry.json().and_then(|json| RawValue::from_string(json.into_owned()).ok());
        let Some(data) = data else {
            refused(done, &entry.id, "its data is not JSON, which the API does not take");
            continue;
        };
        let id = match &arguments.new_ids {
            Some(name) => Uuid::new_v5(&IDS, format!("{name}:{}", entry.id).as_bytes()).to_string(),
            None => entry.id.clone(),
        };
        events.push(Event {
            id,
            r#type: &entry.r#type,
            source: &entry.source,
            subject: entry.subject.as_deref(),
            time: entry.time.as_deref(),
            exchange: &entry.exchange,
            routing_key: &entry.routing_key,
            tenant: entry.tenant.as_deref(),
            user: entry.user.as_deref(),
            attributes: &entry.attributes,
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

fn refused(done: &mut Done, id: &str, why: &str) {
    done.refused += 1;
    eprintln!("refused: {id}: {why}");
}

/// Sends events, and those again that the daemon cannot take now: its broker is away, a queue or its disk is full. Gives up
/// when it has taken none of them for long.
fn send(arguments: &Replay, mut events: Vec<Event<'_>>, done: &mut Done) -> Result<(), Failure> {
    let mut retry = Retry::new(Loop::Replay, "");
    loop {
        let body = serde_json::json!({ "events": events });
        let (why, retry_after) = match arguments.api.send("events/batch", Some(&body), WITHIN) {
            Err(error) => (format!("no daemon answers at {}: {error}", arguments.api.url), None),
            Ok(Answered { status: 202 | 207, body, retry_after }) => {
                let results = body["results"].as_array().cloned().unwrap_or_default();
                if results.len() != events.len() {
                    return Err(Failure::Daemon(format!("the daemon answers for {} events", results.len())));
                }
                let before = events.len();
                let Some(why) = settle(&mut events, &results, done) else { return Ok(()) };
                if events.len() < before {
                    retry.succeeded();
                }
                (why, retry_after)
            }
            Ok(Answered { status: 429 | 503 | 507, body, retry_after }) => {
                (body["detail"].as_str().unwrap_or("the daemon cannot take it now").to_owned(), retry_after)
            }
            Ok(Answered { status, body, .. }) => {
                return Err(Failure::Daemon(format!("the daemon answers {status}: {}", body["detail"])));
            }
        };
        let pause = retry.failed(&why).map_err(|exhausted| Failure::Daemon(format!("{exhausted}: {why}")))?;
        let pause = pause.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
        eprintln!("waiting: {} events are not taken yet: {why}; again in {:.1} s", events.len(), pause.as_secs_f32());
        wait::block(pause);
    }
}

/// Counts what is settled, and leaves the events that are to be sent again; gives why the first of them was not taken.
fn settle(events: &mut Vec<Event<'_>>, results: &[Value], done: &mut Done) -> Option<String> {
    let (mut results, mut first) = (results.iter(), None);
    events.retain(|event| {
        let Some(result) = results.next() else { return true };
        let detail = || result["problem"]["detail"].as_str().unwrap_or("no reason given").to_owned();
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
