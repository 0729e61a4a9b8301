//! Carries out one fault: breaks, holds, heals, and measures until the next settled event. Each must leave a trace in
//! what is seen from outside; a fault that left none did not act, and the run fails for it.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xtask::rabbitmq::Node;

use crate::amqp;
use crate::daemon::describe;
use crate::embedded;
use crate::http::Client;
use crate::monitor::metrics;
use crate::proxy::Mode;
use crate::schedule::{BrokerKind, Fault, Kind};
use crate::strace;
use crate::world::{Recovery, World};

/// After the way is free; the daemon's own bounds on reconnecting are 5 s between tries and 10 s a try.
pub const RECOVER_WITHIN: Duration = Duration::from_secs(10);
/// How long we look before we call it never.
const LOOK_FOR: Duration = Duration::from_secs(60);
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
    /// It acted, and the daemon recovered in time.
    pub pass: bool,
}

/// The trace of a fault, and the moment from which recovery counts with what was settled then.
struct Trace {
    acted: bool,
    evidence: String,
    free: Instant,
    base: u64,
}

impl World {
    /// Carries out a fault.
    ///
    /// # Errors
    /// When the harness itself cannot go on.
    pub async fn carry_out(&mut self, fault: Fault, at: Duration) -> Result<Done> {
        self.daemon.ensure_alive().await?;
        self.note_pid();
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
            Kind::SyncError | Kind::SyncKill => self.break_sync(fault).await,
        };
        let trace = trace.with_context(|| format!("fault {} ({})", fault.number, fault.kind.name()))?;
        let recovery = self.recovery(trace.free, trace.base, LOOK_FOR).await;
        let (in_time, recovery_ms) = match recovery {
            Recovery::Took(took) => (took <= RECOVER_WITHIN, u64::try_from(took.as_millis()).ok()),
            Recovery::NothingToDo => (true, None),
            Recovery::Never => (false, None),
        };
        let evidence = if recovery == Recovery::Never {
            format!("{}; nothing was settled for {LOOK_FOR:?}", trace.evidence)
        } else {
            trace.evidence
        };
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let pass = trace.acted && in_time;
        Ok(Done { fault, at_ms, rows: fault.kind.rows(), acted: trace.acted, evidence, recovery_ms, pass })
    }

    fn node(&self) -> Result<Arc<Node>> {
        self.node.clone().context("there is no RabbitMQ node")
    }

    fn reconnects(&self) -> u64 {
        self.watch.reconnects.load(Ordering::Relaxed)
    }

    /// Waits until the daemon has made another session, which it tells itself.
    async fn reconnected(&self, before: u64) -> bool {
        let began = Instant::now();
        while self.reconnects() == before && began.elapsed() < LOOK_FOR {
            tokio::time::sleep(PAUSE).await;
        }
        self.reconnects() > before
    }

    async fn base(&self) -> u64 {
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
        // A hole may be noticed only when it is lifted, and what was held counts when it is written.
        let is_new_session = is_cut && self.reconnected(reconnects).await;
        tokio::time::sleep(PAUSE).await;
        let seen = proxy.seen();
        let (cut, refused) = (seen.cut - before.cut, seen.refused - before.refused);
        let disturbed = seen.disturbed - before.disturbed;
        let acted =
            if is_cut { cut > 0 && is_new_session && (fault.kind == Kind::Cut || refused > 0) } else { disturbed > 0 };
        let sessions = self.reconnects() - reconnects;
        let evidence =
            format!("{cut} connections cut, {refused} refused, {disturbed} chunks disturbed, {sessions} new sessions");
        Ok(Trace { acted, evidence, free, base })
    }

    async fn restart_broker(&mut self, fault: Fault) -> Result<Trace> {
        let (node, reconnects) = (self.node()?, self.reconnects());
        let is_kill = fault.kind == Kind::BrokerKill;
        let before = node.pid();
        let restarting = node.clone();
        let down = Instant::now();
        let stopping = node.clone();
        tokio::task::spawn_blocking(move || if is_kill { stopping.kill() } else { stopping.stop() }).await??;
        // A killed process of many threads is a zombie before the last of them has let go of the listener, and whoever
        // connects then takes the dead node for the new one.
        while amqp::is_listening(&self.url).await && down.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::task::spawn_blocking(move || restarting.restart()).await??;
        let (free, base) = (Instant::now(), self.base().await);
        let is_new_session = self.reconnected(reconnects).await;
        let after = node.pid();
        let acted = before.is_some() && before != after && is_new_session;
        let away = free - down;
        Ok(Trace { acted, evidence: format!("node {before:?} became {after:?}, away {away:.1?}"), free, base })
    }

    async fn close_connections(&mut self) -> Result<Trace> {
        let (node, reconnects) = (self.node()?, self.reconnects());
        tokio::task::spawn_blocking(move || node.ctl(&["close_all_connections", "chaos"])).await??;
        let (free, base) = (Instant::now(), self.base().await);
        let acted = self.reconnected(reconnects).await;
        Ok(Trace { acted, evidence: format!("{} new sessions", self.reconnects() - reconnects), free, base })
    }

    async fn alarm(&mut self, fault: Fault) -> Result<Trace> {
        let node = self.node()?;
        let watermark = |absolute: &'static str| {
            let node = node.clone();
            tokio::task::spawn_blocking(move || node.ctl(&["set_vm_memory_high_watermark", "absolute", absolute]))
        };
        let blocked = || self.watch.blocked.load(Ordering::Relaxed);
        let before = blocked();
        watermark("1MB").await??;
        let began = Instant::now();
        // The broker tells a connection at its next publish.
        while blocked() == before && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(fault.hold()).await;
        let base = self.base().await;
        watermark("4GB").await??;
        let free = Instant::now();
        let acted = blocked() > before;
        Ok(Trace { acted, evidence: format!("blocked at {} looks", blocked() - before), free, base })
    }

    async fn delete_target(&mut self, fault: Fault) -> Result<Trace> {
        let mut client = Client::new(self.address);
        let before = metrics(&mut client).await?.retried;
        amqp::delete_target(&self.url).await?;
        let began = Instant::now();
        let mut retried = before;
        while (retried == before || began.elapsed() < fault.hold()) && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
            retried = metrics(&mut client).await?.retried;
        }
        let base = self.base().await;
        let broker = embedded::open(&self.config()?).await?;
        embedded::close(broker).await;
        let free = Instant::now();
        let count = retried.saturating_sub(before);
        Ok(Trace { acted: count > 0, evidence: format!("{count} events went to retry queues"), free, base })
    }

    async fn restart_daemon(&mut self, fault: Fault) -> Result<Trace> {
        let is_kill = fault.kind == Kind::DaemonKill;
        self.daemon.signal(if is_kill { "KILL" } else { "TERM" }).await?;
        let asked = Instant::now();
        let status = self.daemon.ended().await?;
        let mut evidence = format!("{} after {:.1?}", describe(status), asked.elapsed());
        let acted = if is_kill { status.signal() == Some(9) } else { status.code() == Some(0) };
        if !is_kill && self.broker == BrokerKind::Embedded {
            let taken = embedded::drain(&self.source, &self.config()?).await?;
            evidence = format!("{evidence}, {taken} outputs taken");
        }
        self.start_again(acted, evidence).await
    }

    async fn start_again(&mut self, acted: bool, evidence: String) -> Result<Trace> {
        let free = Instant::now();
        self.daemon.start()?;
        self.daemon.wait(false).await?;
        self.note_pid();
        Ok(Trace { acted, evidence, free, base: 0 })
    }

    async fn pause_daemon(&mut self, fault: Fault) -> Result<Trace> {
        let base = self.base().await;
        self.daemon.signal("STOP").await?;
        tokio::time::sleep(fault.hold()).await;
        let pid = self.daemon.pid().context("the daemon is gone")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let acted = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        self.daemon.signal("CONT").await?;
        let free = Instant::now();
        Ok(Trace { acted, evidence: format!("stopped for {:?}", fault.hold()), free, base })
    }

    /// The store fails, or the daemon dies, within a sync. After an error it must refuse everything until it is
    /// started again.
    async fn break_sync(&mut self, fault: Fault) -> Result<Trace> {
        let pid = self.daemon.pid().context("the daemon is gone")?;
        let is_kill = fault.kind == Kind::SyncKill;
        let mut tracer = strace::attach(pid, is_kill, fault.amount)?;
        let mut evidence = format!("in sync number {}", fault.amount);
        let acted = if is_kill {
            let status = self.daemon.ended().await?;
            evidence = format!("{} {evidence}", describe(status));
            status.signal() == Some(9)
        } else {
            let refused = self.refuses().await;
            tracer.detach().await;
            self.daemon.signal("TERM").await?;
            let status = self.daemon.ended().await?;
            evidence = format!("{} {evidence}, {}", if refused { "refused" } else { "went on" }, describe(status));
            refused
        };
        tracer.detach().await;
        self.start_again(acted, evidence).await
    }

    /// Whether the daemon comes to say that its store failed.
    async fn refuses(&self) -> bool {
        let mut client = Client::new(self.address);
        let began = Instant::now();
        while began.elapsed() < RECOVER_WITHIN {
            if matches!(client.get("/readyz").await, Ok((503, _))) {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }
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
