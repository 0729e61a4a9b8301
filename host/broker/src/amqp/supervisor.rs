//! Makes sessions, one after the other, and tells the state.

use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::Event;
use tokio_util::sync::CancellationToken;

use super::Amqp;
use super::connect::{Endpoint, Unconnected};
use super::flapping::Flapping;
use super::session::Session;
use super::{delay, topology};
use crate::Status;
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, Retry};

/// How often a connection's state is looked at, should its event be missed.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn supervise(amqp: Weak<Amqp>, endpoint: Endpoint, stop: CancellationToken) {
    let mut retry = Retry::new(Loop::BrokerSession, "");
    let mut flapping = Flapping::default();
    let mut number = 0;
    loop {
        let Some(strong) = amqp.upgrade() else {
            return;
        };
        let status = strong.status();
        let connecting = Session::connect(&endpoint, number + 1, status, strong.header_key(), strong.adopted.clone());
        let connected = tokio::select! {
            connected = connecting => connected,
            () = stop.cancelled() => return,
        };
        let lost = match connected {
            Ok(session) => {
                number += 1;
                retry.succeeded();
                retry.turn_to(Loop::BrokerSession);
                let lost = serve(&strong, Arc::new(session), &stop).await;
                if !stop.is_cancelled() {
                    flapping.ended(&lost);
                }
                lost
            }
            Err(Unconnected::Refused(error)) => {
                retry.turn_to(Loop::BrokerLogin);
                error
            }
            Err(Unconnected::Failed(error)) => {
                retry.turn_to(Loop::BrokerSession);
                error
            }
        };
        if stop.is_cancelled() {
            return;
        }
        tracing::warn!(error = lost, "no broker; trying again");
        set(&strong, |status| {
            status.connected = false;
            status.blocked = false;
            status.error = Some(lost.clone());
        });
        drop(strong);
        tokio::select! {
            // The loop has no bound.
            _tried = retry.pause(&lost) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Declares, announces the session, and waits for its end; gives the reason.
async fn serve(amqp: &Amqp, session: Arc<Session>, stop: &CancellationToken) -> String {
    let refused = match topology::declare(&session, &amqp.topology.load_full()).await {
        Ok(refused) => refused,
        Err(error) => {
            session.close().await;
            return format!("while declaring the topology: {error}");
        }
    };
    for refusal in &refused {
        tracing::error!(refusal, "the broker refuses a part of the topology");
    }
    let (product, version) = session.server().map(|server| (server.product.as_str(), server.version.as_str())).unzip();
    tracing::info!(session = session.number, product, version, "connected to the broker");
    if session.number > 1 {
        telemetry::broker_reconnected();
    }
    set(amqp, |status| {
        *status = Status {
            connected: true,
            session: session.number,
            refused,
            server: session.server().cloned(),
            ..Status::default()
        };
    });
    amqp.session.send_replace(Some(session.clone()));
    amqp.unbind(&session).await;
    session.spawn(delay::resume(session.clone(), amqp.topology.load_full()));
    let reason = watch(amqp, &session, stop).await;
    amqp.session.send_replace(None);
    set(amqp, |status| status.connected = false);
    session.close().await;
    reason
}

async fn watch(amqp: &Amqp, session: &Session, stop: &CancellationToken) -> String {
    let mut consume = pin!(session.consume.events_listener());
    let mut publish = pin!(session.publish.events_listener());
    let mut look = wait::every(LOOK);
    loop {
        let event = tokio::select! {
            event = consume.next() => event,
            event = publish.next() => event,
            () = stop.cancelled() => return "closed".to_owned(),
            _ = look.tick() => {
                if session.is_connected() {
                    continue;
                }
                return "the connection is closed".to_owned();
            }
        };
        match event {
            // lapin tells the end of a single channel here too, which is that channel's matter.
            Some(Event::Error(error)) if session.is_connected() => tracing::debug!(%error, "a channel was closed"),
            Some(Event::Error(error)) => return error.to_string(),
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker is short of memory or disk: publishing waits until it has room");
                set(amqp, |status| status.blocked = true);
            }
            Some(Event::ConnectionUnblocked) => {
                // First, so that nobody takes what waited for the alarm's end for overdue.
                *session.unblocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                set(amqp, |status| status.blocked = false);
            }
            Some(_) => {}
            None => return "the connection is closed".to_owned(),
        }
    }
}

fn set(amqp: &Amqp, change: impl FnOnce(&mut Status)) {
    amqp.status.send_modify(change);
    let status = amqp.status.borrow();
    telemetry::broker_status(status.connected, status.blocked);
}
