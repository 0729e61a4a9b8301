//! Faults of the RabbitMQ node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use xtask::rabbitmq::RabbitmqNode;

use super::{NOTICE_WITHIN, PAUSE, RECOVER_WITHIN, Trace};
use crate::daemon::{is_stopped, signal};
use crate::http::Client;
use crate::monitor::metrics;
use crate::schedule::{Fault, Kind};
use crate::world::World;
use crate::{amqp, embedded};

impl World {
    fn node(&self) -> Result<Arc<RabbitmqNode>> {
        self.node.clone().context("there is no RabbitMQ node")
    }

    pub(super) async fn restart_broker(&mut self, fault: Fault) -> Result<Trace> {
        let (node, reconnects) = (self.node()?, self.reconnects());
        let is_kill = fault.kind == Kind::BrokerKill;
        let before = node.pid();
        let restarting = node.clone();
        let down = Instant::now();
        let stopping = node.clone();
        tokio::task::spawn_blocking(move || if is_kill { stopping.kill() } else { stopping.stop() }).await??;
        // A killed process of many threads is a zombie until its last thread has closed the listener. A client that
        // connects before that would take the dead node for the new one.
        while amqp::is_listening(&self.url).await && down.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::task::spawn_blocking(move || restarting.restart()).await??;
        let (free, base) = (Instant::now(), self.base().await);
        let is_new_session = self.reconnected(reconnects).await;
        let after = node.pid();
        let acted = before.is_some() && before != after && is_new_session;
        let away = free - down;
        Ok(Trace {
            acted,
            evidence: format!("node {before:?} became {after:?}, away {away:.1?}"),
            free,
            base,
            refused: 0,
        })
    }

    pub(super) async fn close_connections(&mut self) -> Result<Trace> {
        let (node, reconnects) = (self.node()?, self.reconnects());
        tokio::task::spawn_blocking(move || node.ctl(&["close_all_connections", "chaos"])).await??;
        let (free, base) = (Instant::now(), self.base().await);
        let acted = self.reconnected(reconnects).await;
        Ok(Trace {
            acted,
            evidence: format!("{} new sessions", self.reconnects() - reconnects),
            free,
            base,
            refused: 0,
        })
    }

    pub(super) async fn alarm(&mut self, fault: Fault) -> Result<Trace> {
        let node = self.node()?;
        let watermark = |absolute: &'static str| {
            let node = node.clone();
            tokio::task::spawn_blocking(move || node.ctl(&["set_vm_memory_high_watermark", "absolute", absolute]))
        };
        let blocked = || self.watch.blocked.load(Ordering::Relaxed);
        let before = blocked();
        watermark("1MB").await??;
        let began = Instant::now();
        // The broker notifies a connection at its next publish.
        while blocked() == before && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(fault.hold()).await;
        let base = self.base().await;
        watermark("4GB").await??;
        let free = Instant::now();
        let acted = blocked() > before;
        let refused = blocked() - before;
        Ok(Trace { acted, evidence: format!("blocked at {refused} looks"), free, base, refused })
    }

    pub(super) async fn delete_target(&mut self, fault: Fault) -> Result<Trace> {
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
        Ok(Trace {
            acted: count > 0,
            evidence: format!("{count} events had to wait for a retry"),
            free,
            base,
            refused: count,
        })
    }

    /// Stops the node without a notice to its clients. Shorter than the heartbeat it is a pause, longer it ends the
    /// session.
    pub(super) async fn freeze_broker(&mut self, fault: Fault) -> Result<Trace> {
        let pid = self.node()?.pid().context("the node has no process")?;
        let reconnects = self.reconnects();
        signal(pid, "STOP").await?;
        // Answers from before the stop are still on their way.
        tokio::time::sleep(fault.hold() / 4).await;
        let base = self.base().await;
        tokio::time::sleep(fault.hold() * 3 / 4).await;
        let (stood, is_stopped) = (self.base().await, is_stopped(pid));
        let must_be_noticed = fault.hold() > NOTICE_WITHIN;
        signal(pid, "CONT").await?;
        let free = Instant::now();
        let is_new_session = must_be_noticed && self.reconnected(reconnects).await;
        let acted = is_stopped && stood == base && (is_new_session || !must_be_noticed);
        let evidence = format!(
            "frozen for {:?}, {} settled meanwhile, {} new sessions",
            fault.hold(),
            stood.abs_diff(base),
            self.reconnects() - reconnects
        );
        Ok(Trace { acted, evidence, free, base: stood, refused: 0 })
    }
}
