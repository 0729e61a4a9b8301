//! The end of a run: drain, probe, stop, look for leftovers, and judge the requirements beside the invariants.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::checker::Invariant;
use crate::daemon::describe;
use crate::faults::{Done, RECOVER_WITHIN};
use crate::http::Client;
use crate::monitor::metrics;
use crate::plan::Route;
use crate::report::by_kind;
use crate::schedule::BrokerKind;
use crate::world::World;
use crate::{amqp, embedded, side};

/// A drain without progress for this long is over.
const PLATEAU: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until every confirmed event is settled, or until there is no progress.
pub async fn drain(world: &World) {
    let mut client = Client::new(world.address);
    let (mut best, mut since) = (0, Instant::now());
    while since.elapsed() < PLATEAU {
        let seen = metrics(&mut client).await.ok();
        if let Some(seen) = &seen {
            world.watch.note(seen);
            if world.is_done() {
                return;
            }
        }
        let moved = seen.map_or(0, |seen| seen.settled + seen.retried) + world.source.ledger().settled();
        if moved > best {
            (best, since) = (moved, Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
    println!("nothing moved for {PLATEAU:?}; what is missing now is lost");
}

/// Publishes one new event on each route, and gives the time until it is settled.
pub async fn probe(world: &World) -> Result<Vec<Option<u64>>> {
    let mut probes = Vec::new();
    let mut link = None;
    let mut client = Client::new(world.address);
    for route in [Route::Echo, Route::Direct] {
        let event = world.source.plan().healthy_from(route, world.source.after_all());
        let base = world.settled().await.unwrap_or_default();
        let sent = Instant::now();
        let mut took = None;
        let mut is_published = false;
        while took.is_none() && sent.elapsed() < RECOVER_WITHIN * 2 {
            if !is_published {
                is_published = match world.broker {
                    BrokerKind::Amqp => amqp::publish(&mut link, &world.source, &world.url, &[event])
                        .await
                        .is_ok_and(|confirmed| !confirmed.is_empty()),
                    BrokerKind::Embedded => embedded::publish(&mut client, &world.source, event).await,
                };
            }
            let is_back = match world.broker {
                BrokerKind::Amqp => world.source.ledger().is_settled(event.number),
                BrokerKind::Embedded => world.settled().await.is_some_and(|settled| settled > base),
            };
            if is_published && is_back {
                took = u64::try_from(sent.elapsed().as_millis()).ok();
            } else {
                tokio::time::sleep(PAUSE / 10).await;
            }
        }
        probes.push(took);
    }
    Ok(probes)
}

/// Sends the last SIGTERM, and describes the daemon's end.
pub async fn stop(world: &mut World) -> Result<String> {
    world.daemon.ensure_alive().await?;
    world.daemon.signal("TERM").await?;
    Ok(describe(world.daemon.ended().await?))
}

/// Takes the remaining messages, and reports those that should not be there.
pub async fn left(world: &World) -> Result<Vec<String>> {
    if world.broker == BrokerKind::Embedded {
        embedded::drain(&world.source, &world.config()?).await?;
        let broker = embedded::open(&world.config()?).await?;
        let left = embedded::left(&broker);
        embedded::close(broker).await;
        return Ok(left);
    }
    let load = Route::ALL.map(Route::name).into_iter().chain(embedded::SINKS.map(|(queue, _)| queue));
    let queues = load.chain(side::INPUTS).chain(side::QUEUES).chain([side::LOOKED_DEAD]);
    let mut left = Vec::new();
    for queue in queues {
        let since = Instant::now();
        let mut depth = amqp::depth(&world.url, queue).await?;
        // The sinks still run.
        while depth.is_some_and(|depth| depth > 0) && since.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
            depth = amqp::depth(&world.url, queue).await?;
        }
        if let Some(depth) = depth.filter(|depth| *depth > 0) {
            left.push(format!("{queue}: {depth}"));
        }
    }
    Ok(left)
}

/// The requirements beside the invariants: each fault had an effect, and the daemon recovered and never ended unasked.
#[must_use]
pub fn demands(world: &World, schedule: &[Done], ended: &str) -> Vec<Invariant> {
    let of = |id, what, pass, detail: String| Invariant { id, what, pass, detail };
    let numbers = |fits: fn(&Done) -> bool| {
        let all = schedule.iter().filter(|done| fits(done));
        all.map(|done| format!("{} {}", done.fault.number, done.fault.kind.name())).collect::<Vec<_>>()
    };
    let (idle, failed) = (numbers(|done| !done.acted), numbers(|done| done.acted && !done.pass));
    let silent: Vec<String> = by_kind(schedule).iter().filter(|of| of.is_silent()).map(|of| of.kind.name()).collect();
    let disturbed = world.daemon.starts - 1 + world.watch.reconnects();
    let ends = &world.daemon.unexpected_ends;
    let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join("; ") };
    vec![
        of("acted", "faults without an effect", idle.is_empty(), or_none(&idle)),
        of("B,H", "faults from which the daemon did not recover in time", failed.is_empty(), or_none(&failed)),
        of(
            "counts",
            "kinds of faults without a repeat, a refusal or a new session",
            silent.is_empty(),
            or_none(&silent),
        ),
        of(
            "chaos",
            "restarts and new sessions, at least one",
            disturbed > 0 || !schedule.iter().any(|done| done.fault.kind.ends_sessions()),
            disturbed.to_string(),
        ),
        of("alive", "ends of the daemon that the harness did not cause", ends.is_empty(), or_none(ends)),
        of("H2", "the last SIGTERM", ended == "exit code 0", ended.to_owned()),
    ]
}
