//! The key under which the daemon signs its own headers.
//!
//! Headers named `trunkline-*` carry what the daemon believes: whose event it is, how often it was tried, through how many
//! hops it came, where a delayed message goes. Any producer could write them. So every message of ours with such headers
//! carries `trunkline-mac`, an HMAC-SHA256 (RFC 2104, FIPS 180-4) over all of them, the message id and the body, and what
//! arrives without a valid one loses them before anybody reads them.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{HeaderValue, Message};

/// The prefix of the daemon's own headers.
pub const OWN_PREFIX: &str = "trunkline-";
/// The header with the signature: `1.KEY.MAC`, version, first bytes of the key's hash, and signature, in hexadecimal.
const MAC: &str = "trunkline-mac";
const VERSION: &str = "1";
/// Bytes of the key's hash that name it.
const KEY_ID_BYTES: usize = 4;
/// Bytes of the signature that are sent: 128 bits, as RFC 2104 section 5 allows.
const MAC_BYTES: usize = 16;
/// What a daemon with another key may still tell: both only shorten what its event gets.
const HARMLESS: [&str; 2] = ["trunkline-attempt", "trunkline-hops"];
/// Headers of dead letters and of what was put back, and the one that stays of them whoever wrote them. It only lets an
/// event that died be tried again, which anybody can have who publishes the event under a new id; and without it a letter
/// that was signed with an earlier key, or by a version that did not sign, would be taken for a repeat and dropped.
const DEAD: [&str; 3] = ["trunkline-dead-at", "trunkline-reason", REDRIVEN];
const REDRIVEN: &str = "trunkline-redriven";
/// The shortest key: as many bits as the signature has.
pub const KEY_MIN_BYTES: usize = 16;

/// Signs and checks. Shows nothing of the key in `Debug`.
#[derive(Clone)]
pub struct HeaderKey {
    /// The key is in it already, so that a message costs two blocks less.
    mac: Hmac<Sha256>,
    id: String,
}

impl std::fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeaderKey({})", self.id)
    }
}

/// What is to be thought of the daemon's headers on a message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The message has none.
    Nothing,
    /// They are as a daemon with this key wrote them.
    Signed,
    /// A daemon with the key of this id may have written them: attempt and hops are kept, and that it was a dead letter;
    /// all others are gone.
    OtherKey(String),
    /// Anybody may have written them: they are gone, but for the word that the message was a dead letter.
    Forged,
}

impl HeaderKey {
    /// A key of any length; shorter ones than [`KEY_MIN_BYTES`] are for tests.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of every length");
        Self { mac, id: hex(&Sha256::digest(key)[..KEY_ID_BYTES]) }
    }

    /// Names the key: eight hexadecimal digits of its hash.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a message that has headers of ours. To be called last: what changes afterwards makes the signature invalid.
    pub fn sign(&self, message: &mut Message) {
        message.properties.headers.remove(MAC);
        if message.properties.headers.iter().any(|(name, _)| name.starts_with(OWN_PREFIX)) {
            let mac = hex(&self.digest(message)[..MAC_BYTES]);
            message.properties.headers.set(MAC, format!("{VERSION}.{}.{mac}", self.id));
        }
    }

    /// Takes away what cannot be trusted of a message that arrived, and the signature itself.
    pub fn admit(&self, message: &mut Message) -> Trust {
        if !message.properties.headers.iter().any(|(name, _)| name.starts_with(OWN_PREFIX)) {
            return Trust::Nothing;
        }
        let signature = message.properties.headers.remove(MAC);
        let trust = self.judge(message, signature.as_ref().and_then(HeaderValue::as_str));
        let headers = &mut message.properties.headers;
        let was_dead = DEAD.iter().any(|name| headers.get(name).is_some());
        match trust {
            Trust::Nothing | Trust::Signed => return trust,
            Trust::OtherKey(_) => headers.retain(|name| !is_own(name) || HARMLESS.contains(&name)),
            Trust::Forged => headers.retain(|name| !is_own(name)),
        }
        if was_dead {
            headers.set(REDRIVEN, 1_u32);
        }
        trust
    }

    fn judge(&self, message: &Message, signature: Option<&str>) -> Trust {
        let Some((VERSION, rest)) = signature.and_then(|signature| signature.split_once('.')) else {
            return Trust::Forged;
        };
        match rest.split_once('.') {
            Some((id, mac)) if id == self.id => match unhex(mac) {
                Some(mac) if self.is_valid(message, &mac) => Trust::Signed,
                Some(_) | None => Trust::Forged,
            },
            Some((id, mac)) => match (unhex(id), unhex(mac)) {
                (Some(id), Some(mac)) if id.len() == KEY_ID_BYTES && mac.len() == MAC_BYTES => {
                    Trust::OtherKey(hex(&id))
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

    /// Over everything that is believed, each part with its length, names in order.
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

/// As it comes back from the wire: every integer type is one, and a text stays a text.
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
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(value(*pair.first()?)? << 4 | value(*pair.get(1)?)?)).collect()
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
    fn what_is_signed_is_believed_and_the_signature_is_not_seen() {
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
        assert_eq!(key.admit(&mut plain), Trust::Nothing, "a message without headers of ours needs no signature");
    }

    #[test]
    fn every_change_makes_them_worthless() {
        type Change = fn(&mut Message);
        let key = HeaderKey::new(b"0123456789abcdef");
        let changes: [(&str, Change); 9] = [
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
    fn a_daemon_with_another_key_only_shortens() {
        let mut signed = message();
        let another = HeaderKey::new(b"another key");
        another.sign(&mut signed);
        assert_eq!(HeaderKey::new(b"0123456789abcdef").admit(&mut signed), Trust::OtherKey(another.id().to_owned()));
        assert_eq!(own(&signed), ["trunkline-attempt"]);
    }

    #[test]
    fn a_dead_letter_stays_one_whoever_signed_it() {
        let key = HeaderKey::new(b"0123456789abcdef");
        let mut letter = message();
        for (name, value) in [("trunkline-dead-at", "2026-11-28T00:00:00Z"), ("trunkline-reason", "trap")] {
            letter.properties.headers.set(name, value);
        }
        let mut signed = letter.clone();
        key.sign(&mut signed);
        assert_eq!(key.admit(&mut signed), Trust::Signed);
        assert_eq!(own(&signed), own(&letter), "with everything that it says");
        let mut rotated = letter.clone();
        HeaderKey::new(b"the key of before").sign(&mut rotated);
        assert!(matches!(key.admit(&mut rotated), Trust::OtherKey(_)));
        assert_eq!(own(&rotated), ["trunkline-attempt", "trunkline-redriven"]);
        let mut unsigned = letter.clone();
        assert_eq!(key.admit(&mut unsigned), Trust::Forged);
        assert_eq!(own(&unsigned), ["trunkline-redriven"], "neither tenant nor attempts are believed");
        assert_eq!(unsigned.properties.headers.int("trunkline-redriven"), Some(1));
    }

    #[test]
    fn the_key_is_not_shown() {
        let shown = format!("{:?}", HeaderKey::new(b"hunter2hunter2hunter2"));
        assert!(!shown.contains("hunter2") && shown.len() == "HeaderKey()".len() + 2 * KEY_ID_BYTES, "{shown}");
    }
}
