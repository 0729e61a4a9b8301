//! Faults of the daemon's process, and of the system calls under its store.

use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{PAUSE, RECOVER_WITHIN, Trace};
use crate::daemon::{describe, is_stopped};
use crate::http::Client;
use crate::schedule::{BrokerKind, Fault, Kind};
use crate::world::World;
use crate::{embedded, strace};

impl World {
    pub(super) async fn restart_daemon(&mut self, fault: Fault) -> Result<Trace> {
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
        Ok(Trace { acted, evidence, free, base: 0, refused: 0 })
    }

    pub(super) async fn pause_daemon(&mut self, fault: Fault) -> Result<Trace> {
        let base = self.base().await;
        self.daemon.signal("STOP").await?;
        tokio::time::sleep(fault.hold()).await;
        let pid = self.daemon.pid().context("the daemon has ended")?;
        let acted = is_stopped(pid);
        self.daemon.signal("CONT").await?;
        let free = Instant::now();
        Ok(Trace { acted, evidence: format!("stopped for {:?}", fault.hold()), free, base, refused: 0 })
    }

    /// Makes the store fail, or the daemon die, within a system call. After an error the daemon must refuse everything
    /// until it is started again.
    pub(super) async fn break_store(&mut self, fault: Fault) -> Result<Trace> {
        let pid = self.daemon.pid().context("the daemon has ended")?;
        let is_kill = matches!(fault.kind, Kind::SyncKill | Kind::WriteKill);
        let is_sync = matches!(fault.kind, Kind::SyncKill | Kind::SyncError);
        let call = if is_sync { "fdatasync" } else { "pwrite64" };
        let mut tracer = strace::attach(pid, call, is_kill, fault.amount)?;
        let mut evidence = format!("in {call} number {}", fault.amount);
        let acted = if is_kill {
            match self.daemon.ended_within(RECOVER_WITHIN).await? {
                Some(status) => {
                    evidence = format!("{} {evidence}", describe(status));
                    status.signal() == Some(9)
                }
                None => {
                    // There was nothing left to write.
                    self.daemon.signal("KILL").await?;
                    self.daemon.ended().await?;
                    false
                }
            }
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

    /// Tells whether the daemon comes to report that its store failed.
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
