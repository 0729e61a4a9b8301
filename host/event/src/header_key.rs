//! The key with which the daemon signs its own headers.
//!
//! Headers named `trunkline-*` carry facts that the daemon relies on: the tenant, the attempt, the hops, the target of a
//! delayed message. Any producer could write such headers. Therefore every message of the daemon with such headers carries
//! `trunkline-mac`, an HMAC-SHA256 (RFC 2104, FIPS 180-4) over these headers, the message id and the body. A message that
//! arrives without a valid signature loses these headers before a route reads the message.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::headers::HeaderValue;
use super::message::Message;

/// The prefix of the daemon's own headers.
pub const OWN_PREFIX: &str = "trunkline-";
/// The header with the signature `1.KEY.MAC`: version, first bytes of the key's hash, and signature, in hexadecimal.
const MAC: &str = "trunkline-mac";
const VERSION: &str = "1";
/// Bytes of the key's hash that name the key.
const KEY_ID_BYTES: usize = 4;
/// Bytes of the signature that are sent: 128 bits, as RFC 2104 section 5 allows.
const MAC_BYTES: usize = 16;
/// Headers that are kept when the signature names another key. These headers only lower the number of attempts or hops that remain,
/// or end the event earlier. The attempts count for the route that is named. A marker has no body, and must not become an event without
/// data.
const HARMLESS: [&str; 5] =
    [ATTEMPT, "trunkline-hops", "trunkline-route", "trunkline-expires", "trunkline-waiting-mark"];
const ATTEMPT: &str = "trunkline-attempt";
/// Headers of dead letters and of redriven events. A message with one of them keeps `trunkline-redriven`, whatever its
/// signature is. That header only lets a dead-lettered event be tried again, and every producer gets the same by publishing
/// the event under a new id. Without that header, a dead letter that was signed with an earlier key would be taken for a
/// repeat and dropped.
const DEAD: [&str; 3] = [DEAD_AT, REASON, REDRIVEN];
const DEAD_AT: &str = "trunkline-dead-at";
const REASON: &str = "trunkline-reason";
const REDRIVEN: &str = "trunkline-redriven";
/// Shortest key in bytes: as many bits as the signature has.
pub const KEY_MIN_BYTES: usize = 16;

/// A key that signs and checks headers. `Debug` shows the key's id only.
#[derive(Clone)]
pub struct HeaderKey {
    /// The state with the key already added, so that a message costs two blocks less.
    mac: Hmac<Sha256>,
    id: String,
}

impl std::fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeaderKey({})", self.id)
    }
}

/// Trust in the daemon's own headers on a message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The message has no such headers.
    Nothing,
    /// A daemon with this key wrote the headers.
    Signed,
    /// A daemon with the key of this id may have written the headers. Route, attempt, hops, the end of the TTL, the token of a
    /// marker and the fact that the message was a dead letter are kept; all other such headers are removed. The attempts of a dead letter begin anew.
    OtherKey(String),
    /// Any producer may have written the headers. They are removed, except for the fact that the message was a dead letter.
    Forged,
}

impl HeaderKey {
    /// Makes a key from bytes of any length. Keys shorter than [`KEY_MIN_BYTES`] are for tests.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
        Self { mac, id: hex::encode(&Sha256::digest(key)[..KEY_ID_BYTES]) }
    }

    /// The name of the key: eight hexadecimal digits of its hash.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A key for another purpose. The derived key does not show this key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Signs a message that has headers of the daemon. A later change of the message makes the signature invalid.
    pub fn sign(&self, message: &mut Message) {
        message.properties.headers.remove(MAC);
        if message.properties.headers.iter().any(|(name, _)| name.starts_with(OWN_PREFIX)) {
            let mac = hex::encode(&self.digest(message)[..MAC_BYTES]);
            message.properties.headers.set(MAC, format!("{VERSION}.{}.{mac}", self.id));
        }
    }

    /// Removes the signature of a message that arrived, and the headers that the signature does not cover.
    pub fn admit(&self, message: &mut Message) -> Trust {
        if !message.properties.headers.iter().any(|(name, _)| name.starts_with(OWN_PREFIX)) {
            return Trust::Nothing;
        }
        let signature = message.properties.headers.remove(MAC);
        let trust = self.judge(message, signature.as_ref().and_then(HeaderValue::as_str));
        let headers = &mut message.properties.headers;
        let was_dead = DEAD.iter().any(|name| headers.get(name).is_some());
        // A later attempt of a redriven event still has the reason, and counts its attempts.
        let is_letter =
            headers.get(DEAD_AT).is_some() || headers.get(REASON).is_some() && headers.get(REDRIVEN).is_none();
        match trust {
            Trust::Nothing | Trust::Signed => return trust,
            Trust::OtherKey(_) => headers.retain(|name| !is_own(name) || HARMLESS.contains(&name)),
            Trust::Forged => headers.retain(|name| !is_own(name)),
        }
        if was_dead {
            headers.set(REDRIVEN, 1_u32);
        }
        if is_letter {
            headers.remove(ATTEMPT);
        }
        trust
    }

    fn judge(&self, message: &Message, signature: Option<&str>) -> Trust {
        let Some((VERSION, rest)) = signature.and_then(|signature| signature.split_once('.')) else {
            return Trust::Forged;
        };
        match rest.split_once('.') {
            Some((id, mac)) if id == self.id => match hex::decode(mac) {
                Ok(mac) if self.is_valid(message, &mac) => Trust::Signed,
                Ok(_) | Err(_) => Trust::Forged,
            },
            Some((id, mac)) => match (hex::decode(id), hex::decode(mac)) {
                (Ok(id), Ok(mac)) if id.len() == KEY_ID_BYTES && mac.len() == MAC_BYTES => {
                    Trust::OtherKey(hex::encode(id))
                }
                (_, _) => Trust::Forged,
            },
            None => Trust::Forged,
        }
    }

    fn is_valid(&self, message: &Message, mac: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        mac.len() == MAC_BYTES && bool::from(self.digest(message)[..MAC_BYTES].ct_eq(mac))
    }

    /// The signature over id, own headers and body, each part with its length, names in order.
    fn digest(&self, message: &Message) -> [u8; 32] {
        let mut mac = self.mac.clone();
        let mut own: Vec<(&str, &HeaderValue)> =
            message.properties.headers.iter().filter(|(name, _)| is_own(name) && *name != MAC).collect();
        own.sort_unstable_by_key(|(name, _)| *name);
        add(&mut mac, message.properties.message_id.as_deref().unwrap_or_default().as_bytes());
        mac.update(&(own.len() as u64).to_be_bytes());
        for (name, value) in own {
            add(&mut mac, name.as_bytes());
            add_value(&mut mac, value);
        }
        add(&mut mac, &message.body);
        mac.finalize().into_bytes().into()
    }
}

fn is_own(name: &str) -> bool {
    name.starts_with(OWN_PREFIX)
}

fn add(mac: &mut Hmac<Sha256>, part: &[u8]) {
    mac.update(&(part.len() as u64).to_be_bytes());
    mac.update(part);
}

/// Adds a value in the form in which it comes back from the wire: all integer types are one, and bytes are a text.
fn add_value(mac: &mut Hmac<Sha256>, value: &HeaderValue) {
    match value {
        HeaderValue::Null => mac.update(b"n"),
        HeaderValue::Bool(flag) => mac.update(if *flag { b"t1" } else { b"t0" }),
        HeaderValue::Int(number) => {
            mac.update(b"i");
            mac.update(&number.to_be_bytes());
        }
        HeaderValue::Float(number) => {
            mac.update(b"f");
            mac.update(&number.to_bits().to_be_bytes());
        }
        HeaderValue::Text(text) => {
            mac.update(b"s");
            add(mac, text.as_bytes());
        }
        HeaderValue::Bytes(bytes) => {
            mac.update(b"s");
            add(mac, bytes);
        }
        HeaderValue::Timestamp(seconds) => {
            mac.update(b"T");
            mac.update(&seconds.to_be_bytes());
        }
        HeaderValue::List(values) => {
            mac.update(b"l");
            mac.update(&(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| add_value(mac, value));
        }
        HeaderValue::Table(table) => {
            mac.update(b"m");
            mac.update(&(table.iter().count() as u64).to_be_bytes());
            for (name, value) in table.iter() {
                add(mac, name.as_bytes());
                add_value(mac, value);
            }
        }
        HeaderValue::Decimal { scale, unscaled } => {
            mac.update(b"D");
            mac.update(&[*scale]);
            mac.update(&unscaled.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExchangeName, Properties, RoutingKey};

    fn message() -> Message {
        let mut properties = Properties { message_id: Some("m".to_owned()), ..Properties::default() };
        properties.headers.set("region", "eu");
        properties.headers.set("trunkline-tenant", "org-1");
        properties.headers.set("trunkline-attempt", 3_u32);
        properties.headers.set("trunkline-kept-CC", HeaderValue::List(vec!["a".into()]));
        Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("a.b").expect("valid"),
            properties,
            body: bytes::Bytes::from_static(b"{}"),
        }
    }

    fn own(message: &Message) -> Vec<&str> {
        message.properties.headers.iter().map(|(name, _)| name).filter(|name| is_own(name)).collect()
    }

    #[test]
    fn signed_headers_are_trusted_and_the_signature_is_removed() {
        let key = HeaderKey::new(b"0123456789abcdef");
        let mut signed = message();
        key.sign(&mut signed);
        // A queue, a retry and a dead letter change these.
        signed.exchange = ExchangeName::default_exchange();
        signed.routing_key = RoutingKey::new("q").expect("valid");
        signed.properties.headers.set("x-death", "broker's");
        assert_eq!(key.admit(&mut signed), Trust::Signed);
        assert_eq!(own(&signed), own(&message()));
        let mut plain = message();
        plain.properties.headers.retain(|name| !is_own(name));
        key.sign(&mut plain);
        assert_eq!(key.admit(&mut plain), Trust::Nothing, "a message without own headers needs no signature");
    }

    #[test]
    fn a_derived_key_depends_on_key_and_purpose() {
        let derived = |key: &[u8], purpose: &str| HeaderKey::new(key).derive(purpose);
        let key = derived(b"0123456789abcdef", "tickets");
        assert_eq!(key, derived(b"0123456789abcdef", "tickets"), "every daemon derives the same key");
        assert_ne!(key, derived(b"0123456789abcdeg", "tickets"));
        assert_ne!(key, derived(b"0123456789abcdef", "ticket"));
    }

    #[test]
    fn every_change_makes_a_signature_invalid() {
        type Tampering = fn(&mut Message);
        let key = HeaderKey::new(b"0123456789abcdef");
        let changes: [(&str, Tampering); 9] = [
            ("a body", |message| message.body = bytes::Bytes::from_static(b"[]")),
            ("an id", |message| message.properties.message_id = Some("n".to_owned())),
            ("another tenant", |message| message.properties.headers.set("trunkline-tenant", "org-2")),
            ("a header more", |message| message.properties.headers.set("trunkline-hops", 0_u32)),
            ("a header less", |message| drop(message.properties.headers.remove("trunkline-attempt"))),
            ("no signature", |message| drop(message.properties.headers.remove(MAC))),
            ("a number as text", |message| message.properties.headers.set("trunkline-attempt", "3")),
            ("half a signature", |message| {
                let text = message.properties.headers.text(MAC).expect("signed").to_owned();
                message.properties.headers.set(MAC, &text[..text.len() - 2]);
            }),
            ("no version", |message| message.properties.headers.set(MAC, "2.00000000.00")),
        ];
        for (what, change) in changes {
            let mut signed = message();
            key.sign(&mut signed);
            change(&mut signed);
            assert_eq!(key.admit(&mut signed), Trust::Forged, "{what}");
            assert_eq!(own(&signed), Vec::<&str>::new(), "{what}");
            assert_eq!(signed.properties.headers.text("region"), Some("eu"), "{what}: other headers stay");
        }
    }

    #[test]
    fn another_key_keeps_what_ends_an_event_earlier() {
        let mut signed = message();
        for (name, value) in [("trunkline-route", "r"), ("trunkline-plugin", "p")] {
            signed.properties.headers.set(name, value);
        }
        let another = HeaderKey::new(b"another key");
        another.sign(&mut signed);
        assert_eq!(HeaderKey::new(b"0123456789abcdef").admit(&mut signed), Trust::OtherKey(another.id().to_owned()));
        assert_eq!(own(&signed), ["trunkline-attempt", "trunkline-route"]);
    }

    /// A marker of a daemon whose key is lost would otherwise be handled as an event without data.
    #[test]
    fn a_marker_of_another_key_stays_a_marker() {
        let mut marker = message();
        marker.properties.headers.retain(|name| !is_own(name));
        marker.properties.headers.set("trunkline-waiting-mark", "token");
        marker.body = bytes::Bytes::new();
        let mut forged = marker.copy();
        HeaderKey::new(b"the key of before").sign(&mut marker);
        let key = HeaderKey::new(b"0123456789abcdef");
        assert!(matches!(key.admit(&mut marker), Trust::OtherKey(_)));
        assert_eq!(own(&marker), ["trunkline-waiting-mark"]);
        assert_eq!(key.admit(&mut forged), Trust::Forged);
        assert_eq!(own(&forged), Vec::<&str>::new());
    }

    #[test]
    fn a_dead_letter_stays_a_dead_letter_whatever_its_signature() {
        let key = HeaderKey::new(b"0123456789abcdef");
        let mut letter = message();
        for (name, value) in [("trunkline-dead-at", "2026-11-28T00:00:00Z"), ("trunkline-reason", "trap")] {
            letter.properties.headers.set(name, value);
        }
        let mut signed = letter.copy();
        key.sign(&mut signed);
        assert_eq!(key.admit(&mut signed), Trust::Signed);
        assert_eq!(own(&signed), own(&letter), "with everything that it says");
        let mut rotated = letter.copy();
        HeaderKey::new(b"the key of before").sign(&mut rotated);
        assert!(matches!(key.admit(&mut rotated), Trust::OtherKey(_)));
        assert_eq!(own(&rotated), ["trunkline-redriven"], "the attempts begin anew");
        let mut retried = letter.copy();
        retried.properties.headers.remove(DEAD_AT);
        retried.properties.headers.set(REDRIVEN, 1_u32);
        HeaderKey::new(b"the key of before").sign(&mut retried);
        assert!(matches!(key.admit(&mut retried), Trust::OtherKey(_)));
        assert_eq!(own(&retried), ["trunkline-attempt", "trunkline-redriven"], "a later attempt is counted");
        let mut unsigned = letter.copy();
        assert_eq!(key.admit(&mut unsigned), Trust::Forged);
        assert_eq!(own(&unsigned), ["trunkline-redriven"], "neither tenant nor attempts are trusted");
        assert_eq!(unsigned.properties.headers.int("trunkline-redriven"), Some(1));
    }

    #[test]
    fn the_key_is_not_shown() {
        let shown = format!("{:?}", HeaderKey::new(b"hunter2hunter2hunter2"));
        assert!(!shown.contains("hunter2") && shown.len() == "HeaderKey()".len() + 2 * KEY_ID_BYTES, "{shown}");
    }
}
