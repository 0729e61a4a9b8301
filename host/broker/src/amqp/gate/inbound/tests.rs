use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::types::AMQPValue;

use super::*;

const LOSS_HEADER: &str = "trunkline-unreadable-test";

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    framed(kind, channel, payload)
}

/// `connection.start` of a broker that says which it is.
fn start() -> Vec<u8> {
    let table = b"\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x054.0.5";
    let size = u32::try_from(table.len()).expect("short").to_be_bytes();
    frame(METHOD, 0, &[&[0, 10, 0, 10, 0, 9][..], &size, table, &[0; 8]].concat())
}

fn deliver(channel: u16, key: &[u8]) -> Vec<u8> {
    let key = [&[u8::try_from(key.len()).expect("short")], key].concat();
    frame(METHOD, channel, &[b"\0\x3c\0\x3c\x01t".as_slice(), &[0; 9], b"\x06events", &key].concat())
}

fn content(channel: u16, flags: u16, properties: &[u8]) -> Vec<u8> {
    let head = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    frame(CONTENT, channel, &[&head[..], &flags.to_be_bytes(), properties].concat())
}

fn gate() -> Inbound {
    let mut gate = Inbound::new(LossHeader::new(LOSS_HEADER));
    gate.agree(8192);
    gate
}

/// Gives bytes in pieces, and takes all that comes out.
fn through(gate: &mut Inbound, input: &[u8], piece: usize) -> Result<Vec<u8>, ProtocolViolation> {
    let mut output = Vec::new();
    let mut out = [0; 1000];
    for mut piece in input.chunks(piece) {
        while !piece.is_empty() {
            let space = gate.space();
            let count = space.len().min(piece.len());
            space[..count].copy_from_slice(&piece[..count]);
            gate.filled(count);
            piece = &piece[count..];
            loop {
                match gate.take(&mut out)? {
                    0 => break,
                    bytes => output.extend(&out[..bytes]),
                }
            }
        }
    }
    Ok(output)
}

/// The text of the loss header of the first content header.
fn text_of_marker(mut output: &[u8]) -> Option<String> {
    while let Ok((rest, frame)) = parse_frame(output) {
        if let AMQPFrame::Header(_, header) = frame {
            let headers = header.properties.headers().clone()?;
            let Some(AMQPValue::FieldTable(lost)) = headers.inner().get(LOSS_HEADER) else { return None };
            let Some(AMQPValue::LongString(text)) = lost.inner().get("text") else { panic!("{lost:?}") };
            return Some(text.to_string());
        }
        output = rest;
    }
    panic!("no content header");
}

#[test]
fn what_is_right_passes_as_it_is_and_tells_the_broker() {
    let body = frame(BODY, 1, &[b'x'; 8000]);
    let heartbeat = frame(8, 0, &[]);
    let opened = frame(METHOD, 3, &[0, 20, 0, 11, 0, 0, 0, 0]);
    let all = [start(), opened, deliver(1, b"a.b"), content(1, 0x8000, b"\x04text"), body, heartbeat, deliver(2, b"")]
        .concat();
    for piece in [1, 2, 3, 7, 8, 100, 4096, usize::MAX] {
        let mut gate = gate();
        assert_eq!(through(&mut gate, &all, piece).as_deref(), Ok(&all[..]), "in pieces of {piece}");
        let server = BrokerServer { product: "RabbitMQ".to_owned(), version: crate::ServerVersion::new("4.0.5") };
        assert_eq!(gate.events, [ReaderEvent::Server(server), ReaderEvent::Opened(3)]);
    }
}

#[test]
fn a_delivery_under_a_bad_key_marks_its_own_content_and_no_other() {
    let mut gate = gate();
    let bad = [start(), deliver(1, b"\xff"), content(2, 0, b""), content(1, 0, b"")].concat();
    let output = through(&mut gate, &bad, 5).expect("it is rewritten");
    let (rest, _start) = parse_frame(&output[..]).expect("a frame");
    let (rest, method) = parse_frame(rest).expect("a frame");
    assert!(format!("{method:?}").contains(r"\\xff"), "{method:?}");
    assert_eq!(text_of_marker(rest), None, "another channel's");
    let (rest, _other) = parse_frame(rest).expect("a frame");
    assert_eq!(text_of_marker(rest).as_deref(), Some("the routing-key is not UTF-8 (1 bytes: ff)"));
    let good = [deliver(1, b"a"), content(1, 0, b"")].concat();
    assert_eq!(through(&mut gate, &good, usize::MAX).as_deref(), Ok(&good[..]), "and not the next one");
}

#[test]
fn a_content_header_larger_than_agreed_is_cut_and_what_follows_is_read() {
    for bytes in [8192, 100_000, 3 << 20] {
        let size = u32::try_from(bytes).expect("short");
        let table = [b"\x03bigS".as_slice(), &size.to_be_bytes(), &vec![b'x'; bytes]].concat();
        let headers = [&u32::try_from(table.len()).expect("short").to_be_bytes()[..], &table].concat();
        let next = [frame(BODY, 1, b"body"), deliver(1, b"a"), content(1, 0, b"")].concat();
        let all = [start(), deliver(1, b"a"), content(1, 0x2000, &headers), next.clone()].concat();
        for piece in [999, usize::MAX] {
            let mut gate = gate();
            let output = through(&mut gate, &all, piece).expect("it is rewritten");
            assert!(output.ends_with(&next) && output.len() < 9000, "{} bytes", output.len());
            assert!(
                text_of_marker(&output)
                    .is_some_and(|text| text.contains("a frame of this connection has room for only 8184"))
            );
            assert!(gate.memory() <= 2 * BUFFER, "{} bytes", gate.memory());
        }
    }
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let method = |payload: &[u8]| [start(), frame(METHOD, 1, payload)].concat();
    let mut bad_end = [start(), frame(BODY, 1, b"body")].concat();
    *bad_end.last_mut().expect("a byte") = 0;
    let mut bad_method_end = [start(), deliver(1, b"a")].concat();
    *bad_method_end.last_mut().expect("a byte") = 1;
    let lying = [&start()[..], &[CONTENT, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat();
    for (bytes, violation) in [
        (b"HTTP/1.1 400".to_vec(), "the peer is an HTTP server"),
        (vec![0x15, 3, 3, 0, 2], "the peer speaks TLS"),
        (b"SSH-2.0-x\r\n".to_vec(), r"the peer sent `SSH-2.0-x\x0d\x0a`"),
        (b"AMQP1234".to_vec(), "the peer sent `AMQP1234`"),
        ([start(), frame(5, 1, b"")].concat(), "unknown kind 5"),
        (
            [start(), frame(BODY, 1, &[0; 8185])].concat(),
            "a frame of 8193 bytes; the limit of this connection is 8192 bytes",
        ),
        (method(&[0; 8185]), "a frame of 8193 bytes"),
        (lying, "a frame of 4294967303 bytes"),
        (method(&[0, 60, 0, 60, 200]), "a method that cannot be read"),
        (method(&[0, 60, 0, 41]), "a method that cannot be read"),
        ([start(), frame(CONTENT, 1, &[0, 60])].concat(), "a content header that is too short"),
        (bad_end, "ends with 0x00"),
        (bad_method_end, "ends with 0x01"),
    ] {
        let mut gate = gate();
        let problem = through(&mut gate, &bytes, usize::MAX).err().map(|violation| violation.to_string());
        assert!(problem.as_ref().is_some_and(|problem| problem.contains(violation)), "{violation}: {problem:?}");
        let again = gate.take(&mut [0; 10]).err().map(|violation| violation.to_string());
        assert_eq!(again, problem, "nothing passes any more");
    }
    let mut older = Inbound::new(LossHeader::new(LOSS_HEADER));
    assert_eq!(through(&mut older, b"AMQP\0\x01\0\0", 1).as_deref(), Ok(&b"AMQP\0\x01\0\0"[..]), "lapin refuses it");
}

#[test]
fn without_an_agreement_frames_have_a_bound_too() {
    let mut gate = Inbound::new(LossHeader::new(LOSS_HEADER));
    gate.agree(0);
    let large = [start(), frame(BODY, 1, &vec![0; FRAME_MAX_DEFAULT])].concat();
    assert!(through(&mut gate, &large, usize::MAX).is_err());
}
