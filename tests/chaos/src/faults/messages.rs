//! Messages that any producer may send: malformed ones, ones with headers that the broker obeys, and ones that are too
//! large.

use std::time::Instant;

use anyhow::{Context, Result};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::{Value, json};
use trunkline_support::frames::{self, FrameProducer, HEADERS, MESSAGE_ID, TYPE, entry, long, nested, short};

use super::{LOOK_FOR, PAUSE, Trace};
use crate::amqp::Link;
use crate::hostile::End;
use crate::http::Client;
use crate::monitor::metrics;
use crate::plan::EXCHANGE;
use crate::schedule::{BrokerKind, Kind};
use crate::side::{self, BIG, BIG_DEAD, HOSTILE, HOSTILE_DEAD, HTTP_MAX_BYTES, MESSAGE_MAX_BYTES, SIDE, SIDE_QUEUE};
use crate::world::World;

/// A random UUID as raw bytes, which are not UTF-8.
const UUID: [u8; 16] = 0x6fa4_59ea_ee8a_3ca4_894e_db77_e160_355e_u128.to_be_bytes();
const TOO_LARGE: &[End] = &[(HOSTILE_DEAD, "too-large")];
/// Deeper than the stack of a recursive parser, and still within the route's `max-body`.
const DEEP: usize = 10_000;

/// The hostile messages of one fault, and the answers to them.
pub(super) struct Salvo {
    kind: Kind,
    began: Instant,
    dead: u64,
    /// Accepted messages.
    pub(super) taken: Vec<usize>,
    /// Requests that were refused as expected.
    pub(super) refused: u64,
    /// Unexpected answers.
    pub(super) odd: Vec<String>,
}

impl Salvo {
    pub(super) fn new(world: &World, kind: Kind) -> Self {
        let dead = world.watch.aside_dead();
        Self { kind, began: Instant::now(), dead, taken: Vec::new(), refused: 0, odd: Vec::new() }
    }

    pub(super) fn mint(&self, world: &World, ends: &[End]) -> (usize, String) {
        let now = world.source.ledger().now_ms();
        let mut hostile = world.source.hostile();
        let number = hostile.mint(self.kind, ends, now);
        (number, hostile.id(number))
    }

    pub(super) fn taken(&mut self, world: &World, number: usize) {
        world.source.hostile().confirm(number);
        self.taken.push(number);
    }

    /// Publishes an event over HTTP, and gives the status.
    pub(super) async fn post(&mut self, world: &World, ends: &[End], event: impl FnOnce(&str) -> Value) -> u16 {
        let (number, id) = self.mint(world, ends);
        let mut event = event(&id);
        event["id"] = id.into();
        self.post_bytes(world, number, event.to_string().as_bytes()).await
    }

    async fn post_bytes(&mut self, world: &World, number: usize, body: &[u8]) -> u16 {
        let answer = Client::new(world.address).post_bytes("/api/v1/events", body).await;
        match &answer {
            Ok((202, _)) => self.taken(world, number),
            Ok((400..=499 | 503 | 507, _)) => self.refused += 1,
            Ok((status, text)) => self.odd.push(format!("{status}: {text}")),
            Err(error) => self.odd.push(format!("{error:#}")),
        }
        answer.map_or(0, |(status, _)| status)
    }

    /// Waits until all accepted messages have their expected results, as far as can be seen; gives the trace.
    pub(super) async fn ended(self, world: &World, acted: bool, evidence: &str) -> Result<Trace> {
        let (began, count) = (Instant::now(), self.taken.len());
        let mut client = Client::new(world.address);
        let done = loop {
            let done = world.source.hostile().done(&self.taken);
            let is_over = match world.broker {
                BrokerKind::Amqp => done == count,
                BrokerKind::Embedded => metrics(&mut client).await.is_ok_and(|seen| {
                    world.watch.note(&seen);
                    seen.waiting_aside() == 0
                }),
            };
            if is_over || began.elapsed() > LOOK_FOR {
                break if is_over { count } else { done };
            }
            tokio::time::sleep(PAUSE).await;
        };
        let Self { refused, odd, .. } = &self;
        let dead = world.watch.aside_dead() - self.dead;
        let took = self.began.elapsed();
        let odd = if odd.is_empty() { String::new() } else { format!(", ODD: {}", odd.join("; ")) };
        let evidence = format!("{evidence}{done} of {count} ended in {took:.1?}, {dead} dead, {refused} refused{odd}");
        let acted = acted && done == count && self.odd.is_empty();
        let base = world.settled().await.unwrap_or_default();
        Ok(Trace { acted, evidence, free: Instant::now(), base, refused: refused + dead })
    }
}

impl World {
    pub(super) async fn malformed(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::Malformed);
        if self.broker == BrokerKind::Amqp {
            self.malformed_frames(&mut salvo).await?;
        }
        for data in [&b"\"\xff\xfe\""[..], b"\"cut", b"", b"\0", b"1,\"attributes\":{\"deep\":{\"er\":{}}}"] {
            self.malformed_request(&mut salvo, HOSTILE, data).await;
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inside = if open == "[" { "" } else { "1" };
            let data = [open.repeat(DEEP).as_str(), inside, &close.repeat(DEEP)].concat();
            self.malformed_request(&mut salvo, HOSTILE, data.as_bytes()).await;
        }
        self.malformed_request(&mut salvo, &"h".repeat(300), b"1").await;
        let acted = salvo.refused > 0;
        salvo.ended(self, acted, "").await
    }

    /// Sends a request with unchanged data. An accepted request is an event like any other.
    async fn malformed_request(&self, salvo: &mut Salvo, kind: &str, data: &[u8]) {
        let (number, id) = salvo.mint(self, &[(SIDE_QUEUE, "")]);
        let head = format!("{{\"type\":\"{kind}\",\"id\":\"{id}\",\"data\":");
        salvo.post_bytes(self, number, &[head.as_bytes(), data, b"}"].concat()).await;
    }

    async fn malformed_frames(&self, salvo: &mut Salvo) -> Result<()> {
        let mut producer = FrameProducer::connect(&self.url).await?;
        let good = entry(b"region", b"eu");
        let bad_name = [&good[..], &short(b"caf\xe9"), b"t", &[1]].concat();
        let (lists, tables) = ([&good[..], &nested(b'A', 3_000)].concat(), nested(b'F', 3_000));
        let (key, raw_key) = (HOSTILE.as_bytes(), [HOSTILE.as_bytes(), b".", &UUID[..8]].concat());
        let cases: [(&[u8], Vec<frames::FrameProperty>); 6] = [
            (key, vec![(MESSAGE_ID, short(&UUID))]),
            (key, vec![(TYPE, short(b"\xff\xfe"))]),
            (key, vec![(HEADERS, long(&bad_name))]),
            (key, vec![(HEADERS, long(&lists))]),
            (key, vec![(HEADERS, long(&tables))]),
            (&raw_key, Vec::new()),
        ];
        for (key, given) in cases {
            let (number, id) = salvo.mint(self, &[(HOSTILE_DEAD, "invalid")]);
            let properties = frames::properties(&given);
            producer.publish(EXCHANGE.as_bytes(), key, &properties, id.as_bytes()).await?;
            salvo.taken(self, number);
        }
        Ok(())
    }

    pub(super) async fn carbon_copies(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::Cc);
        if self.broker == BrokerKind::Amqp {
            let link = self.operator(true).await?;
            for (attribute, reason) in [("poison", "rejected"), ("trap", "trap")].repeat(2) {
                // The broker copies the message to the bound key, and to no queue by its name.
                let (number, id) = salvo.mint(self, &[(HOSTILE_DEAD, reason), (SIDE_QUEUE, "")]);
                let names = [side::TRAP_QUEUE, SIDE].map(|name| AMQPValue::LongString(name.into()));
                let mut headers = FieldTable::default();
                headers.insert("CC".into(), AMQPValue::FieldArray(FieldArray::from(names.to_vec())));
                headers.insert(attribute.into(), AMQPValue::LongString("1".into()));
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(id.as_str().into())
                    .with_headers(headers);
                let options = BasicPublishOptions::default();
                let sending =
                    link.channel.basic_publish(EXCHANGE.into(), HOSTILE.into(), options, id.as_bytes(), properties);
                let _confirmed = sending.await?.await?;
                salvo.taken(self, number);
            }
            link.close().await;
        }
        for name in ["CC", "BCC", "cc", "x-death"] {
            let attributes = json!({ name: side::TRAP_QUEUE, "poison": "1" });
            let event = |id: &str| json!({ "type": HOSTILE, "data": id, "attributes": attributes });
            salvo.post(self, &[(HOSTILE_DEAD, "rejected")], event).await;
        }
        // The API may refuse such names.
        let acted = !salvo.taken.is_empty() || salvo.refused > 0;
        salvo.ended(self, acted, "").await
    }

    pub(super) async fn oversized(&mut self) -> Result<Trace> {
        let mut salvo = Salvo::new(self, Kind::Oversized);
        let padded = |bytes: usize| json!({ "type": HOSTILE, "data": "x".repeat(bytes) });
        let mut statuses = Vec::new();
        for _ in 0..3 {
            // One is larger than a request may be, one than the node accepts, one than the route accepts, and one than
            // a plugin may emit.
            statuses.push(salvo.post(self, TOO_LARGE, |_| padded(HTTP_MAX_BYTES + 1)).await);
            statuses.push(salvo.post(self, TOO_LARGE, |_| padded(MESSAGE_MAX_BYTES + 1)).await);
            statuses.push(salvo.post(self, TOO_LARGE, |_| padded(side::BODY_MAX_BYTES + 1)).await);
            statuses.push(salvo.post(self, &[(BIG_DEAD, "too-large")], |_| json!({ "type": BIG, "data": 1 })).await);
        }
        let acted = statuses.contains(&413) && salvo.taken.len() >= 6;
        salvo.ended(self, acted, &format!("{:?}, ", &statuses[..4])).await
    }

    /// A connection of the harness to the node itself.
    pub(super) async fn operator(&self, is_confirming: bool) -> Result<Link> {
        let link = Link::open(&self.url, "chaos operator").await?;
        if is_confirming {
            let selecting = link.channel.confirm_select(lapin::options::ConfirmSelectOptions::default());
            selecting.await.context("confirms")?;
        }
        Ok(link)
    }
}
