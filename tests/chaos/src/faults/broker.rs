//! Faults of the RabbitMQ node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use xtask::rabbitmq::Node;

use super::{PAUSE, RECOVER_WITHIN, Trace};
use crate::http::Client;
use crate::monitor::metrics;
use crate::schedule::{Fault, Kind};
use crate::world::World;
use crate::{amqp, embedded};

impl World {
    fn node(&self) -> Result<Arc<Node>> {
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

    pub(super) async fn close_connections(&mut self) -> Result<Trace> {
        let (node, reconnects) = (self.node()?, self.reconnects());
        tokio::task::spawn_blocking(move || node.ctl(&["close_all_connections", "chaos"])).await??;
        let (free, base) = (Instant::now(), self.base().await);
        let acted = self.reconnected(reconnects).await;
        Ok(Trace { acted, evidence: format!("{} new sessions", self.reconnects() - reconnects), free, base })
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
        Ok(Trace { acted: count > 0, evidence: format!("{count} events went to retry queues"), free, base })
    }
}
