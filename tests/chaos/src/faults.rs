//! Carries out one fault: breaks, holds, heals, and measures the time until the next settled event. Each fault must
//! have a visible effect. A fault without an effect fails the run.

mod broker;
mod limits;
mod messages;
mod process;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::proxy::Mode;
use crate::schedule::{BrokerKind, Fault, Kind};
use crate::world::{Recovery, World};

/// The limit for a recovery, from the moment when the fault is healed. The daemon waits at most 5 s between connection
/// attempts, and 10 s for one attempt.
pub const RECOVER_WITHIN: Duration = Duration::from_secs(10);
/// A recovery that takes longer counts as missing.
const LOOK_FOR: Duration = Duration::from_secs(60);
/// The daemon's heartbeat is 10 s, and it waits 30 s for a confirm.
const NOTICE_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The result of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// The fault.
    pub fault: Fault,
    /// The time of its beginning, from the start of the run.
    pub at_ms: u64,
    /// Rows of FAULTS.md.
    pub rows: &'static [&'static str],
    /// The fault had an effect.
    pub acted: bool,
    /// A description of the effect.
    pub evidence: String,
    /// The time from the healing to the next settled event.
    pub recovery_ms: Option<u64>,
    /// Events that were repeated or had to wait for a retry meanwhile.
    pub repeats: u64,
    /// Refused messages, requests and connections.
    pub refusals: u64,
    /// New sessions and new processes.
    pub reconnects: u64,
    /// The times of the fault's beginning and end, by the ledger's clock.
    pub window_ms: (u32, u32),
    /// The fault had an effect, and the daemon recovered in time.
    pub pass: bool,
}

/// The effect of a fault, and the moment from which recovery counts with the number of settled events at that moment.
struct Trace {
    acted: bool,
    evidence: String,
    free: Instant,
    base: u64,
    refused: u64,
}

impl World {
    /// Carries out a fault.
    ///
    /// # Errors
    /// When the harness itself has to end.
    pub async fn carry_out(&mut self, fault: Fault, at: Duration) -> Result<Done> {
        self.daemon.ensure_alive().await?;
        self.note_pid();
        let before = self.followed();
        let from_ms = self.source.ledger().now_ms();
        let trace = match fault.kind {
            Kind::Cut
            | Kind::Refuse
            | Kind::Hole
            | Kind::HoleFromBroker
            | Kind::HoleToBroker
            | Kind::Latency
            | Kind::Throttle
            | Kind::Slice => self.disturb(fault).await,
            Kind::BrokerKill | Kind::BrokerStop => self.restart_broker(fault).await,
            Kind::CloseConnections => self.close_connections().await,
            Kind::MemoryAlarm => self.alarm(fault).await,
            Kind::DeleteTarget => self.delete_target(fault).await,
            Kind::DaemonKill | Kind::DaemonTerm => self.restart_daemon(fault).await,
            Kind::DaemonPause => self.pause_daemon(fault).await,
            Kind::SyncError | Kind::SyncKill | Kind::WriteError | Kind::WriteKill => self.break_store(fault).await,
            Kind::Malformed => self.malformed().await,
            Kind::Cc => self.carbon_copies().await,
            Kind::Oversized => self.oversized().await,
            Kind::Permission => self.take_permission(fault).await,
            Kind::BrokerFreeze => self.freeze_broker(fault).await,
            Kind::ConsumerTimeout => self.outlast_consumer_timeout(fault).await,
            Kind::FullBesideFree => self.fill_one_of_two().await,
            Kind::DeadLetterLooks => self.look_at_dead_letters().await,
        };
        let trace = trace.with_context(|| format!("fault {} ({})", fault.number, fault.kind.name()))?;
        let recovery = self.recovery(trace.free, trace.base, LOOK_FOR).await;
        let (in_time, recovery_ms) = match recovery {
            Recovery::Took(took) => (took <= recover_within(fault), u64::try_from(took.as_millis()).ok()),
            Recovery::NothingToDo => (true, None),
            Recovery::Never => (false, None),
        };
        let evidence = if recovery == Recovery::Never {
            format!("{}; nothing was settled for {LOOK_FOR:?}", trace.evidence)
        } else {
            trace.evidence
        };
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let after = self.followed();
        Ok(Done {
            fault,
            at_ms,
            rows: fault.kind.rows(),
            acted: trace.acted,
            evidence,
            recovery_ms,
            repeats: after.0 - before.0,
            refusals: trace.refused,
            reconnects: after.1 - before.1,
            window_ms: (from_ms, self.source.ledger().now_ms()),
            pass: trace.acted && in_time,
        })
    }

    /// The number of repeats so far, and of sessions and processes after the first.
    fn followed(&self) -> (u64, u64) {
        let repeats = self.source.ledger().repeats + self.source.hostile().repeats;
        (repeats + self.watch.retried(), self.reconnects() + self.daemon.starts)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.watch.reconnects()
    }

    /// Waits until the daemon's metrics show another session.
    pub(super) async fn reconnected(&self, before: u64) -> bool {
        let began = Instant::now();
        while self.reconnects() == before && began.elapsed() < LOOK_FOR {
            tokio::time::sleep(PAUSE).await;
        }
        self.reconnects() > before
    }

    pub(super) async fn base(&self) -> u64 {
        self.settled().await.unwrap_or_default()
    }

    async fn disturb(&mut self, fault: Fault) -> Result<Trace> {
        let proxy = self.proxy.as_ref().context("there is no proxy")?;
        let (before, reconnects) = (proxy.seen(), self.reconnects());
        proxy.set(mode(fault));
        let is_cut = matches!(fault.kind, Kind::Cut | Kind::Refuse);
        if is_cut {
            proxy.cut();
        }
        if fault.kind != Kind::Cut {
            tokio::time::sleep(fault.hold()).await;
        }
        // The daemon takes some time to close the lost session before it connects again.
        let began = Instant::now();
        while fault.kind == Kind::Refuse && proxy.seen().refused == before.refused && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        let base = self.base().await;
        proxy.heal();
        let free = Instant::now();
        // A silence of three heartbeats must be noticed, and a shorter one need not be.
        let must_be_noticed = is_cut || (fault.is_hole() && fault.hold() > NOTICE_WITHIN);
        let is_new_session = must_be_noticed && self.reconnected(reconnects).await;
        // Held bytes are counted when they are written.
        let began = Instant::now();
        while !is_cut && proxy.seen().disturbed == before.disturbed && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        let seen = proxy.seen();
        let (cut, refused) = (seen.cut - before.cut, seen.refused - before.refused);
        let disturbed = seen.disturbed - before.disturbed;
        let touched = if is_cut { cut > 0 && (fault.kind == Kind::Cut || refused > 0) } else { disturbed > 0 };
        let acted = touched && (is_new_session || !must_be_noticed);
        let sessions = self.reconnects() - reconnects;
        let evidence =
            format!("{cut} connections cut, {refused} refused, {disturbed} chunks disturbed, {sessions} new sessions");
        Ok(Trace { acted, evidence, free, base, refused })
    }
}

/// The limit for the recovery of a fault.
fn recover_within(fault: Fault) -> Duration {
    // A refused login is tried again after ten seconds, so that the broker does not lock the account.
    let login = if fault.kind == Kind::Permission && fault.amount == 1 { RECOVER_WITHIN } else { Duration::ZERO };
    RECOVER_WITHIN + login
}

/// The proxy's mode for a fault.
fn mode(fault: Fault) -> Mode {
    let (is_to, is_from) = (fault.kind == Kind::HoleToBroker, fault.kind == Kind::HoleFromBroker);
    let is_hole = fault.kind == Kind::Hole;
    Mode {
        refuse: fault.kind == Kind::Refuse,
        hole_up: is_hole || is_to,
        hole_down: is_hole || is_from,
        delay: Duration::from_millis(if fault.kind == Kind::Latency { fault.amount } else { 0 }),
        bytes_per_second: Some(fault.amount).filter(|_| fault.kind == Kind::Throttle),
        slice: usize::try_from(fault.amount).ok().filter(|_| fault.kind == Kind::Slice),
    }
}

/// # Errors
/// When a kind does not fit the broker.
pub fn fits(broker: BrokerKind, kinds: &[Kind]) -> Result<()> {
    let known = Kind::of(broker, true);
    match kinds.iter().find(|kind| !known.contains(kind)) {
        None => Ok(()),
        Some(kind) => bail!("{} is no fault for this broker", kind.name()),
    }
}
