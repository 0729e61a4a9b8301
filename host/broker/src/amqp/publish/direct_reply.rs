//! Addresses of RabbitMQ's direct reply-to, which look like names of queues.
//!
//! An address names a process of RabbitMQ and no queue. Up to version 4.1, RabbitMQ returns each mandatory message to an address, even
//! if the requester gets the message. A message to an address is therefore not mandatory. RabbitMQ 3.10 closes the connection of a
//! publisher whose message has a malformed address. A sender could end every session with such a `reply-to`, so a malformed address
//! never reaches RabbitMQ.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Permanent;
use trunkline_event::Message;

/// The beginning of every address. Without the last dot, this beginning is the text that a caller writes into a request. RabbitMQ replaces
/// that text with an address.
const ADDRESS_PREFIX: &str = "amq.rabbitmq.reply-to.";
/// The beginning of the name that stands for a node of RabbitMQ in an address. Digits follow.
const NODE_PREFIX: &[u8] = b"reply@";

/// Tags of Erlang's external term format.
const VERSION: u8 = 131;
const NEW_PID: u8 = 88;
const OLD_PID: u8 = 103;
const SMALL_ATOM_UTF8: u8 = 119;
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM: u8 = 115;
const ATOM: u8 = 100;
/// Bytes of the numbers behind the node: the process, a serial number and the start of the node.
const NEW_PID_NUMBERS: usize = 12;
const OLD_PID_NUMBERS: usize = 9;

/// Whether a message goes to an address.
pub(super) fn is_direct_reply(message: &Message) -> bool {
    address(message).is_some()
}

/// Checks the address of a message.
///
/// # Errors
/// The address is not one that RabbitMQ makes.
pub(super) fn check(message: &Message) -> Result<(), Permanent> {
    match address(message) {
        Some(address) if !is_well_formed(address) => Err(Permanent::Address(message.routing_key.to_string())),
        Some(_) | None => Ok(()),
    }
}

/// The address of a message, without its beginning.
fn address(message: &Message) -> Option<&str> {
    message.routing_key.as_str().strip_prefix(ADDRESS_PREFIX).filter(|_| message.exchange.is_default())
}

/// Whether a text is a process and a key, both in Base64.
fn is_well_formed(address: &str) -> bool {
    let Some((process, key)) = address.split_once('.') else { return false };
    STANDARD.decode(key).is_ok_and(|key| !key.is_empty())
        && STANDARD.decode(process).is_ok_and(|term| is_process(&term))
}

/// Whether a term is a process of a node that stands in an address.
fn is_process(term: &[u8]) -> bool {
    let (numbers, node) = match term {
        [VERSION, NEW_PID, node @ ..] => (NEW_PID_NUMBERS, node),
        [VERSION, OLD_PID, node @ ..] => (OLD_PID_NUMBERS, node),
        _ => return false,
    };
    let (length, rest) = match node {
        [SMALL_ATOM_UTF8 | SMALL_ATOM, length, rest @ ..] => (usize::from(*length), rest),
        [ATOM_UTF8 | ATOM, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return false,
    };
    let Some((name, rest)) = rest.split_at_checked(length) else { return false };
    let digits = name.strip_prefix(NODE_PREFIX).unwrap_or_default();
    rest.len() == numbers && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    fn message(exchange: &str, key: &str) -> Message {
        Message {
            exchange: ExchangeName::new(exchange).expect("valid"),
            routing_key: RoutingKey::new(key).expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn only_addresses_that_rabbitmq_makes_reach_rabbitmq() {
        let good = "amq.rabbitmq.reply-to.g1h2AA9yZXBseUAxMjE4OTkyMDEAAAliAAAQxGUp3Wg=.V/BE0fSg1i3Cp0bpYeJqWw==";
        assert!(is_direct_reply(&message("", good)));
        assert_eq!(check(&message("", good)), Ok(()));
        let (process, key) = good.rsplit_once('.').expect("two parts");
        let other_node = STANDARD.encode([&[VERSION, NEW_PID, SMALL_ATOM_UTF8, 8][..], b"rabbit@a", &[0; 12]].concat());
        for bad in [
            "amq.rabbitmq.reply-to.",
            "amq.rabbitmq.reply-to.x.y",
            process,
            &format!("{process}."),
            &format!("{process}.!"),
            &good[..good.len() - 1],
            &format!("{good}.{key}"),
            &format!("amq.rabbitmq.reply-to.{}.{key}", STANDARD.encode([VERSION, NEW_PID])),
            &format!("amq.rabbitmq.reply-to.{}.{key}", STANDARD.encode(b"text")),
            &format!("amq.rabbitmq.reply-to.{other_node}.{key}"),
        ] {
            assert_eq!(check(&message("", bad)), Err(Permanent::Address(bad.to_owned())), "{bad}");
        }
        for (exchange, key) in
            [("", "amq.rabbitmq.reply-to"), ("", "amq.gen-Zx"), ("events", "amq.rabbitmq.reply-to.x")]
        {
            assert!(!is_direct_reply(&message(exchange, key)), "{exchange:?} {key}");
            assert_eq!(check(&message(exchange, key)), Ok(()), "{exchange:?} {key}");
        }
    }
}
