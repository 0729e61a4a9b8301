//! Refusals of a broker, deliveries that it takes back, and queues that other programs read.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::{FieldTable, ShortString};
use serde_json::json;

use super::messages::Salvo;
use super::{LOOK_FOR, PAUSE, RECOVER_WITHIN, Trace};
use crate::amqp::{self, Holds};
use crate::embedded;
use crate::schedule::{BrokerKind, Fault, Kind};
use crate::side::{BOTH, BOTH_DEAD, FORBIDDEN, FREE, FREE_QUEUE, FULL, LOOKED, LOOKED_DEAD, SIDE_QUEUE, SLOW};
use crate::world::{USER, World};

/// Log texts of the daemon when its login is refused or its virtual host is missing.
const REFUSED: [&str; 3] = ["ACCESS_REFUSED", "NOT_ALLOWED", "access to vhost"];
/// Log texts when the broker takes deliveries back: RabbitMQ's text about a channel, and the daemon's text about a consumer.
const TAKEN_BACK: [&str; 2] = ["delivery acknowledgement on channel", "an acknowledgement timed out"];
const STUCK: &str = "the broker did not accept a message";
/// Checks every second instead of every minute, with a timeout of three seconds instead of half an hour.
const IMPATIENT: &str =
    "application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 1000).";
const PATIENT: &str = "application:set_env(rabbit, consumer_timeout, 1800000), \
                       application:set_env(rabbit, channel_tick_interval, 60000).";
const SLOW_MS: u32 = 5_000;
/// The prefetch plus one events are slow, each in its turn, because a redelivered event is handled alone.
const HOLD_MS_A_SLOW_EVENT: u64 = 2_000;
/// One more than the default limit of RabbitMQ 4.
const LOOKS: usize = 21;
const LOOKED_AT: usize = 5;
const TO_BOTH: usize = 8;
/// Requests for the full queue: more than the queue and its route take at once.
const TO_FULL_MAX: usize = 40;

impl World {
    pub(super) async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let node = self.node.clone().context("there is no RabbitMQ node")?;
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let asking = move || node.ctl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(asking).await?
    }

    /// Waits for lines of the daemon's log after `from` that contain one of the words; gives their number.
    async fn logged(&self, from: u64, words: &[&str], within: Duration) -> Result<usize> {
        let began = Instant::now();
        loop {
            let count =
                self.log_after(from)?.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
            if count > 0 || began.elapsed() > within {
                return Ok(count);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn take_permission(&mut self, fault: Fault) -> Result<Trace> {
        if fault.amount == 1 { self.take_all_permissions(fault).await } else { self.take_some_permissions().await }
    }

    /// Forbids keys that begin with one word. All other keys stay allowed.
    async fn take_some_permissions(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::Permission);
        self.ctl(&["set_topic_permissions", USER, crate::plan::EXCHANGE, "^(?!forbidden)", ".*"]).await?;
        // A channel remembers the keys that it was allowed, so these keys are new.
        let key = |n: usize| format!("{FORBIDDEN}.{}.{n}", fastrand::u64(..));
        let mut statuses = Vec::new();
        for n in 0..3 {
            let event = json!({ "type": BOTH, "data": [key(n)] });
            statuses.push(salvo.post(self, &[(BOTH_DEAD, "refused")], |_| event).await);
            let (kind, ends) = (key(n), &[(SIDE_QUEUE, "")]);
            statuses.push(salvo.post(self, ends, |_| json!({ "type": kind, "data": 1 })).await);
        }
        let began = Instant::now();
        while self.source.hostile().done(&salvo.taken) < 3 && began.elapsed() < RECOVER_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        self.ctl(&["clear_topic_permissions", USER]).await?;
        let kind = key(9);
        let back = salvo.post(self, &[(SIDE_QUEUE, "")], |_| json!({ "type": kind, "data": 1 })).await;
        let acted = statuses.contains(&403) && back == 202;
        salvo.ended(self, acted, &format!("{statuses:?}, then {back}, ")).await
    }

    /// Takes all permissions of the user, and ends its sessions.
    async fn take_all_permissions(&mut self, fault: Fault) -> Result<Trace> {
        let (reconnects, log) = (self.reconnects(), self.log_length()?);
        self.ctl(&["clear_permissions", USER]).await?;
        self.cut()?;
        let refused = self.logged(log, &REFUSED, RECOVER_WITHIN * 2).await?;
        tokio::time::sleep(fault.hold()).await;
        let base = self.base().await;
        self.ctl(&["set_permissions", USER, ".*", ".*", ".*"]).await?;
        let free = Instant::now();
        let is_new_session = self.reconnected(reconnects).await;
        let evidence = format!("{refused} lines of a refused login, back after {:.1?}", free.elapsed());
        Ok(Trace { acted: refused > 0 && is_new_session, evidence, free, base, refused: refused as u64 })
    }

    fn cut(&self) -> Result<()> {
        self.proxy.as_ref().context("there is no proxy")?.cut();
        Ok(())
    }

    /// Runs a plugin for longer than the broker waits. A channel keeps the timeout that was set when the channel was
    /// opened, so new sessions are made before and after.
    pub(super) async fn outlast_consumer_timeout(&mut self, fault: Fault) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::ConsumerTimeout);
        let reconnects = self.reconnects();
        self.ctl(&["eval", IMPATIENT]).await?;
        self.cut()?;
        let is_impatient = self.reconnected(reconnects).await;
        let log = self.log_length()?;
        for _ in 0..=fault.hold_ms / HOLD_MS_A_SLOW_EVENT {
            let (mut sent, began) = (0, Instant::now());
            // The new session needs a moment until it can publish.
            while sent != 202 && began.elapsed() < RECOVER_WITHIN {
                sent = salvo.post(self, &[(SIDE_QUEUE, "")], |_| json!({ "type": SLOW, "data": SLOW_MS })).await;
            }
        }
        let taken_back = self.logged(log, &TAKEN_BACK, LOOK_FOR).await?;
        self.ctl(&["eval", PATIENT]).await?;
        let reconnects = self.reconnects();
        self.cut()?;
        let is_patient = self.reconnected(reconnects).await;
        let acted = is_impatient && is_patient && taken_back > 0;
        let mut trace = salvo.ended(self, acted, &format!("{taken_back} channels taken back, ")).await?;
        trace.refused += taken_back as u64;
        Ok(trace)
    }

    /// The free queue gets each emission once, however often the emission to the full queue is tried.
    pub(super) async fn fill_one_of_two(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::FullBesideFree);
        let log = self.log_length()?;
        let ends = &[(FREE_QUEUE, ""), (SIDE_QUEUE, "")];
        for _ in 0..TO_BOTH {
            salvo.post(self, ends, |_| json!({ "type": BOTH, "data": [FREE, FULL] })).await;
        }
        let before = salvo.refused;
        for _ in 0..TO_FULL_MAX {
            salvo.post(self, &[(SIDE_QUEUE, "")], |id| json!({ "type": FULL, "data": id })).await;
            if salvo.refused > before + 2 {
                break;
            }
        }
        let stuck = self.logged(log, &[STUCK], Duration::ZERO).await?;
        let acted = salvo.refused > before || stuck > 0;
        salvo.ended(self, acted, &format!("{stuck} lines of a stuck route, ")).await
    }

    /// Fetches and returns the messages of a dead-letter queue, as the management page does, more often than a delivery
    /// limit allows.
    pub(super) async fn look_at_dead_letters(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::DeadLetterLooks);
        let dead = self.watch.aside_dead();
        for _ in 0..LOOKED_AT {
            let event = |id: &str| json!({ "type": LOOKED, "data": id, "attributes": { "poison": "1" } });
            salvo.post(self, &[(LOOKED_DEAD, "rejected")], event).await;
        }
        let wanted = dead + salvo.taken.len() as u64;
        let began = Instant::now();
        while self.watch.aside_dead() < wanted && began.elapsed() < LOOK_FOR {
            tokio::time::sleep(PAUSE).await;
        }
        let again = match self.broker {
            BrokerKind::Amqp => self.look_at_queue().await?,
            BrokerKind::Embedded => {
                self.daemon.signal("TERM").await?;
                self.daemon.ended().await?;
                let config = self.config()?;
                let again = embedded::look(&config, LOOKED_DEAD, LOOKS).await?;
                embedded::drain(&self.source, &config).await?;
                self.daemon.start()?;
                self.daemon.wait(false).await?;
                self.note_pid();
                again
            }
        };
        let acted = salvo.taken.len() == LOOKED_AT && again >= LOOKED_AT * (LOOKS - 1);
        salvo.ended(self, acted, &format!("{LOOKS} looks, {again} delivered again, ")).await
    }

    /// Fetches by `basic.get` and by a consumer in turns, and then takes the messages.
    async fn look_at_queue(&self) -> Result<usize> {
        let mut again = 0;
        for look in 0..LOOKS {
            let link = self.operator(false).await?;
            if look % 2 == 0 {
                let mut last = None;
                while let Some(got) = link.channel.basic_get(LOOKED_DEAD.into(), BasicGetOptions::default()).await? {
                    again += usize::from(got.redelivered);
                    last = Some(got.delivery_tag);
                }
                if let Some(tag) = last {
                    link.channel.basic_nack(tag, BasicNackOptions { multiple: true, requeue: true }).await?;
                }
            } else {
                again += self.consume_looked(&link, false).await?;
            }
            link.close().await;
        }
        let link = self.operator(false).await?;
        let (began, mut taken) = (Instant::now(), 0);
        while taken < LOOKED_AT && began.elapsed() < RECOVER_WITHIN {
            taken += self.consume_looked(&link, true).await?;
        }
        link.close().await;
        Ok(again)
    }

    /// Consumes until no more messages come at once.
    async fn consume_looked(&self, link: &amqp::Link, is_taken: bool) -> Result<usize> {
        let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            link.channel.basic_consume(LOOKED_DEAD.into(), ShortString::default(), options, table).await?;
        let (mut again, mut seen) = (0, 0);
        while seen < LOOKED_AT {
            match tokio::time::timeout(PAUSE * 25, consumer.next()).await {
                Ok(Some(delivery)) => {
                    let delivery = delivery?;
                    (again, seen) = (again + usize::from(delivery.redelivered), seen + 1);
                    if is_taken {
                        amqp::record(&self.source, &delivery, LOOKED_DEAD, Holds::Side);
                        delivery.ack(BasicAckOptions::default()).await?;
                    }
                }
                Ok(None) => bail!("{LOOKED_DEAD} is missing"),
                Err(_idle) => break,
            }
        }
        Ok(again)
    }
}
