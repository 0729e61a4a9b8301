//! The supervisor: makes one session after the other, and keeps the broker's status.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::Event;
use tokio_util::sync::CancellationToken;

use super::active_session::ActiveSession;
use super::broker::AmqpClient;
use super::topology::report_policy;
use crate::BrokerStatus;
use crate::amqp::connection::{ConnectError, Endpoint, Session, SessionContext};
use crate::amqp::topology::{self, DeclarationPlace};
use crate::flapping::FlappingDetector;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};
use trunkline_telemetry::{self as telemetry, BrokerConnectionState, Condition, RepeatLimit};

/// Time between checks of the connections, in case an event is missed.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Limits of the log lines that the supervisor would write again for each session.
#[derive(Default)]
struct LineLimits {
    /// Every try to connect can fail. A session whose topology is declared ends the limit.
    losses: RepeatLimit,
    /// Every session declares the topology.
    refusals: RepeatLimit,
}

/// Makes sessions until the client stops or is dropped.
pub(crate) async fn supervise(amqp: Weak<AmqpClient>, endpoint: Arc<Endpoint>, stop: CancellationToken) {
    let mut retry = RetryLoop::new(Loop::BrokerSession, "");
    let mut lines = LineLimits::default();
    let mut flapping = FlappingDetector::new("sessions with the broker");
    let mut number = 0;
    let mut place = DeclarationPlace::Session;
    loop {
        let Some(strong) = amqp.upgrade() else {
            return;
        };
        let context = SessionContext {
            status: strong.status(),
            key: strong.header_key(),
            tolerated: strong.tolerated.clone(),
            unanswered: strong.unanswered.clone(),
        };
        let connecting = Session::connect(&endpoint, number + 1, context);
        let connected = tokio::select! {
            connected = connecting => connected,
            () = stop.cancelled() => return,
        };
        let lost = match connected {
            Ok(session) => {
                number += 1;
                retry.turn_to(Loop::BrokerSession);
                let session = Arc::new(session);
                match topology::declare(&session, &strong.topology.load_full(), place).await {
                    Ok(refused) => {
                        retry.succeeded();
                        place = DeclarationPlace::Session;
                        let lost = serve(&strong, session, refused, &stop, &mut lines).await;
                        if !stop.is_cancelled() {
                            flapping.ended(&lost);
                        }
                        lost
                    }
                    Err(error) => {
                        place = DeclarationPlace::Separate;
                        session.close().await;
                        format!("the topology cannot be declared: {error}")
                    }
                }
            }
            Err(ConnectError::LoginRefused(error)) => {
                retry.turn_to(Loop::BrokerLogin);
                error
            }
            Err(ConnectError::Failed(error)) => {
                retry.turn_to(Loop::BrokerSession);
                error
            }
        };
        if stop.is_cancelled() {
            return;
        }
        note_loss(&strong, &lost, &mut lines);
        drop(strong);
        tokio::select! {
            // The loop has no bound.
            _tried = retry.pause(&lost) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Notes in the log and in the status that there is no session.
fn note_loss(amqp: &AmqpClient, lost: &str, lines: &mut LineLimits) {
    if let Some(left_out) = lines.losses.allows(lost) {
        tracing::warn!(
            code = Condition::BrokerAway.as_str(),
            error = lost,
            left_out,
            "the daemon has no session with the broker, so no route consumes events; the daemon connects again"
        );
    } else {
        tracing::debug!(error = lost, "the daemon still has no session with the broker");
    }
    set(amqp, |status| {
        status.connected = false;
        status.blocked = false;
        status.error = Some(lost.to_owned());
    });
}

/// Publishes a session with a declared topology to the client, and waits for the end of the session. Returns the reason.
async fn serve(
    amqp: &AmqpClient,
    session: Arc<Session>,
    refused: Vec<String>,
    stop: &CancellationToken,
    lines: &mut LineLimits,
) -> String {
    lines.losses.clear();
    for (refusal, left_out) in refused.iter().filter_map(|refusal| Some((refusal, lines.refusals.allows(refusal)?))) {
        tracing::error!(
            code = Condition::TopologyRefused.as_str(),
            refusal,
            left_out,
            "the broker refuses a part of the topology; affected routes are down or miss events"
        );
    }
    let (product, version) = session.server().map(|server| (server.product.as_str(), server.version.as_str())).unzip();
    tracing::info!(session = session.number, product, version, "the daemon is connected to the broker");
    if session.number > 1 {
        telemetry::broker_reconnected();
    }
    set(amqp, |status| {
        *status = BrokerStatus {
            connected: true,
            session: session.number,
            refused,
            server: session.server().cloned(),
            ..BrokerStatus::default()
        };
    });
    let active = Arc::new(ActiveSession::new(session.clone(), amqp.topology.clone()));
    amqp.session.send_replace(Some(active.clone()));
    amqp.unbind(&session).await;
    if session.number == 1 {
        for (queue, policy) in topology::policies(&amqp.topology.load(), &session.vhost) {
            report_policy(queue, &policy);
        }
    }
    if amqp.relays.load(Ordering::Acquire) {
        active.begin_relay();
    }
    let reason = watch(amqp, &session, stop).await;
    amqp.session.send_replace(None);
    set(amqp, |status| status.connected = false);
    active.delayed_publishing.finish().await;
    session.close().await;
    reason
}

/// Waits for the end of a session, and keeps the status of alarms. Returns the reason of the end.
async fn watch(amqp: &AmqpClient, session: &Session, stop: &CancellationToken) -> String {
    let mut consume = pin!(session.consume.events_listener());
    let mut publish = pin!(session.publish.events_listener());
    let mut check = wait::every(CONNECTION_CHECK_INTERVAL);
    loop {
        let event = tokio::select! {
            event = consume.next() => event,
            event = publish.next() => event,
            () = stop.cancelled() => return "closed".to_owned(),
            _ = check.tick() => {
                if session.is_connected() {
                    continue;
                }
                return "the connection is closed".to_owned();
            }
        };
        match event {
            // lapin reports the end of a single channel here too. The owner of that channel handles it.
            Some(Event::Error(error)) if session.is_connected() => tracing::debug!(%error, "a channel was closed"),
            Some(Event::Error(error)) => return error.to_string(),
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(
                    reason,
                    "the broker is short of memory or disk space; publishes wait until the broker ends the alarm"
                );
                set(amqp, |status| status.blocked = true);
            }
            Some(Event::ConnectionUnblocked) => {
                // Before the status changes, so that a publish that waited for the alarm's end does not count as overdue.
                *session.unblocked.lock() = Some(Instant::now());
                set(amqp, |status| status.blocked = false);
            }
            Some(_) => {}
            None => return "the connection is closed".to_owned(),
        }
    }
}

fn set(amqp: &AmqpClient, change: impl FnOnce(&mut BrokerStatus)) {
    amqp.change_status(change);
    let status = amqp.status.borrow();
    telemetry::broker_status(match (status.connected, status.blocked) {
        (false, _) => BrokerConnectionState::Down,
        (true, false) => BrokerConnectionState::Up,
        (true, true) => BrokerConnectionState::Blocked,
    });
}
