//! The retry queues that earlier builds declared on RabbitMQ. The daemon uses none of them. RabbitMQ moves their events to the
//! queues of the routes. When all of them are empty, one log line names them with the commands that delete them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::state::DaemonState;
use trunkline_broker::{FormerRetryQueue, FormerRetryQueues};
use trunkline_config::{Config, RetryStep};
use trunkline_event::QueueName;
use trunkline_http::RemovableQueueView;
use trunkline_telemetry::wait;

/// Commands in the log line. `GET /api/v1/events/queues` lists all.
const LOGGED_MAX: usize = 50;
/// Time between two looks while the queues have events, or while the broker is away.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The parts of a delay that the jitter of earlier builds added.
const JITTER_SHARES: [u32; 2] = [4, 8];

/// The queues in the HTTP API.
pub(super) fn views(found: Vec<FormerRetryQueue>) -> Vec<RemovableQueueView> {
    let view = |found: FormerRetryQueue| RemovableQueueView {
        name: found.queue.to_string(),
        ready: found.ready,
        command: found.command,
    };
    found.into_iter().map(view).collect()
}

/// Looks for the queues once, and writes the log line when all of them are empty.
pub(super) async fn report(state: Arc<DaemonState>) {
    let of = declared_by_earlier_builds(&state.generation().config);
    let mut status = state.status.clone();
    let mut is_known = false;
    loop {
        if status.wait_for(|status| status.connected).await.is_err() {
            return;
        }
        let looked = match is_known {
            true => state.removable.look(&state.broker).await,
            false => state.broker.former_retry_queues(&of).await,
        };
        if let Ok(found) = looked {
            if !is_known {
                is_known = true;
                state.removable.found(&found);
            }
            if found.iter().all(|queue| queue.ready == 0) {
                log(&found);
                return;
            }
        }
        wait::after(LOOK_INTERVAL).await;
    }
}

fn log(empty: &[FormerRetryQueue]) {
    if empty.is_empty() {
        return;
    }
    let commands: Vec<&str> = empty.iter().take(LOGGED_MAX).map(|queue| queue.command.as_str()).collect();
    tracing::info!(
        count = empty.len(),
        left_out = empty.len() - commands.len(),
        commands = commands.join("; "),
        "retry queues of earlier builds are empty and no longer used; when no daemon of an earlier build runs, the commands \
         delete the queues; `removable` in `GET /api/v1/events/queues` lists all of the queues"
    );
}

/// The retry queues that earlier builds declared for this configuration.
fn declared_by_earlier_builds(config: &Config) -> Vec<FormerRetryQueues> {
    let mut of: BTreeMap<&QueueName, Vec<Duration>> = BTreeMap::new();
    for route in config.routes.values() {
        let delays = of.entry(&route.queue).or_default();
        for RetryStep { delay, .. } in &route.retry.steps {
            let longer = JITTER_SHARES.iter().map(|share| *delay + *delay / *share);
            for held in std::iter::once(*delay).chain(longer) {
                if !delays.contains(&held) {
                    delays.push(held);
                }
            }
        }
    }
    of.into_iter().map(|(queue, delays)| FormerRetryQueues { queue: queue.clone(), delays }).collect()
}
