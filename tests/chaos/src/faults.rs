//! Carries out one fault: breaks, holds, heals, and measures until the next settled event. Each must leave a trace in
//! what is seen from outside; a fault that left none did not act, and the run fails for it.

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

/// After the way is free; the daemon's own bounds on reconnecting are 5 s between tries and 10 s a try.
pub const RECOVER_WITHIN: Duration = Duration::from_secs(10);
/// How long we look before we call it never.
const LOOK_FOR: Duration = Duration::from_secs(60);
/// The daemon's heartbeat is 10 s, and its patience with a confirm 30 s.
const NOTICE_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// What was to be done.
    pub fault: Fault,
    /// When it began, from the start of the run.
    pub at_ms: u64,
    /// Rows of FAULTS.md.
    pub rows: &'static [&'static str],
    /// Whether it had an effect.
    pub acted: bool,
    /// Which.
    pub evidence: String,
    /// From the moment the way was free to the next settled event.
    pub recovery_ms: Option<u64>,
    /// Events that came or were sent once more meanwhile, or went to a retry queue.
    pub repeats: u64,
    /// Messages, requests, connections that were refused.
    pub refusals: u64,
    /// Sessions and processes that were made again.
    pub reconnects: u64,
    /// When it struck and when it was over, by the ledger's clock.
    pub window_ms: (u32, u32),
    /// It acted, and the daemon recovered in time.
    pub pass: bool,
}

/// The trace of a fault, and the moment from which recovery counts with what was settled then.
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
    /// When the harness itself cannot go on.
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

    /// Repetitions so far, and sessions and processes beyond the first.
    fn followed(&self) -> (u64, u64) {
        let repeats = self.source.ledger().repeats + self.source.hostile().repeats;
        (repeats + self.watch.retried(), self.reconnects() + self.daemon.starts)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.watch.reconnects()
    }

    /// Waits until the daemon has made another session, which it tells itself.
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
        // The daemon takes its time to say goodbye to what is gone, before it tries anew.
        let began = Instant::now();
        while fault.kind == Kind::Refuse && proxy.seen().refused == before.refused && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        let base = self.base().await;
        proxy.heal();
        let free = Instant::now();
        // A silence of three heartbeats must have been noticed as well; a shorter one need not be.
        let must_be_noticed = is_cut || (fault.is_hole() && fault.hold() > NOTICE_WITHIN);
        let is_new_session = must_be_noticed && self.reconnected(reconnects).await;
        // What was held counts when it is written.
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

/// How long recovery may take.
fn recover_within(fault: Fault) -> Duration {
    // A login that was refused is tried again after ten seconds, so that nobody locks the account.
    let login = if fault.kind == Kind::Permission && fault.amount == 1 { RECOVER_WITHIN } else { Duration::ZERO };
    RECOVER_WITHIN + login
}

/// What the proxy does for a fault.
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
