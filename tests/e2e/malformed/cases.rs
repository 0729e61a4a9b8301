//! Messages that RabbitMQ accepts and delivers, and that a strict client cannot read.

use trunkline_support::frames::{
    APP_ID, CLUSTER_ID, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, FrameProperty, HEADERS, MESSAGE_ID, REPLY_TO,
    TYPE, entry, long, nested, properties, short,
};

/// A random UUID as raw bytes.
const UUID: [u8; 16] = 0x6fa4_59ea_ee8a_3ca4_894e_db77_e160_355e_u128.to_be_bytes();

pub struct Case {
    /// Also its body.
    pub name: &'static str,
    pub key: Vec<u8>,
    /// Flags and properties.
    pub properties: Vec<u8>,
    /// Text of the dead letter's error.
    pub told: &'static str,
    /// The header that the dead letter keeps, by the end of its name.
    pub kept: Option<(&'static str, Vec<u8>)>,
}

fn case(name: &'static str, given: &[FrameProperty], told: &'static str) -> Case {
    Case { name, key: b"bad.one".to_vec(), properties: properties(given), told, kept: None }
}

fn raw(name: &'static str, bit: u32, told: &'static str) -> Case {
    Case { kept: Some((name, UUID.to_vec())), ..case(name, &[(bit, short(&UUID))], told) }
}

fn table(name: &'static str, inside: &[u8], told: &'static str) -> Case {
    let good = entry(b"region", b"eu");
    case(name, &[(HEADERS, long(&[&good[..], inside].concat())), (MESSAGE_ID, short(name.as_bytes()))], told)
}

/// All cases.
pub fn all() -> Vec<Case> {
    let headers = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|number| entry(format!("h{number}").as_bytes(), b"")).collect()
    };
    let bad_name = [&short(b"caf\xe9")[..], b"t", &[1]].concat();
    let bad_within = [&short(b"outer")[..], b"F", &long(&entry(b"\xff\xfe", b"x"))].concat();
    let voids = [&short(b"voids")[..], b"A", &long(&vec![b'V'; 100_000])].concat();
    let everything = [&bad_name[..], &bad_within, &nested(b'A', 3000)].concat();
    let mut cases = vec![
        raw("message-id", MESSAGE_ID, "message-id is not UTF-8 (16 bytes: 6fa459ea"),
        raw("correlation-id", CORRELATION_ID, "correlation-id is not UTF-8"),
        raw("reply-to", REPLY_TO, "reply-to is not UTF-8"),
        raw("type", TYPE, "type is not UTF-8"),
        raw("content-type", CONTENT_TYPE, "content-type is not UTF-8"),
        raw("content-encoding", CONTENT_ENCODING, "content-encoding is not UTF-8"),
        raw("app-id", APP_ID, "app-id is not UTF-8"),
        raw("cluster-id", CLUSTER_ID, "cluster-id is not UTF-8"),
        table("a header's name", &bad_name, r"the name of the header `caf\xe9` is not UTF-8"),
        table("a name within", &bad_within, "a name within the header `outer` is not UTF-8"),
        table("3 000 arrays", &nested(b'A', 3000), "`deep` is nested more than 32 levels deep"),
        table("12 000 arrays", &nested(b'A', 12_000), "`deep` is nested more than 32 levels deep"),
        table("3 000 tables", &nested(b'F', 3000), "`deep` is nested more than 32 levels deep"),
        table("33 arrays", &nested(b'A', 33), "`deep` is nested more than 32 levels deep"),
        table("10 000 headers", &headers(10_000), "have more than 4096 values"),
        table("100 000 voids", &voids, "have more than 4096 values"),
        Case {
            key: [b"bad.", &UUID[..8]].concat(),
            kept: Some(("routing-key", [b"bad.", &UUID[..8]].concat())),
            ..case("routing-key", &[], "the routing-key is not UTF-8")
        },
    ];
    for case in cases.iter_mut().filter(|case| ["a header's name", "3 000 arrays"].contains(&case.name)) {
        let bytes = if case.name == "3 000 arrays" { nested(b'A', 3000) } else { bad_name.clone() };
        case.kept = Some(("headers", bytes));
    }
    let texts = [MESSAGE_ID, CORRELATION_ID, REPLY_TO, TYPE, CONTENT_TYPE, CONTENT_ENCODING, APP_ID, CLUSTER_ID];
    let mut worst: Vec<FrameProperty> = texts.iter().map(|bit| (*bit, short(&[0xff; 255]))).collect();
    worst.push((HEADERS, long(&everything)));
    cases.push(Case {
        key: vec![b'b', b'a', b'd', b'.', 0xff],
        ..case("all at once", &worst, "the routing-key is not")
    });
    cases
}
