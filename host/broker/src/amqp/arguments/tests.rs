use std::time::Duration;

use super::*;
use trunkline_config::{Codec, DeadLetter};
use trunkline_event::{ExchangeName, RoutingKey};

fn queue(purpose: QueuePurpose) -> Queue {
    Queue {
        purpose,
        kind: QueueKind::Quorum,
        ttl: None,
        max_length: None,
        overflow: Overflow::DropHead,
        delivery_limit: None,
        limit_is_written: false,
        dead_letter: None,
        prefetch: 1,
        codec: Codec::Raw,
        max_priority: None,
        single_consumer: false,
    }
}

fn consumed() -> Queue {
    let key = RoutingKey::new("q.dlq").expect("a key");
    let dead_letter = Some(DeadLetter { exchange: ExchangeName::default_exchange(), key });
    Queue { delivery_limit: Some(20), dead_letter, ..queue(QueuePurpose::Consumed) }
}

fn rabbitmq(version: &str) -> Option<Server> {
    let version = crate::ServerVersion::new(version);
    (!version.as_str().is_empty()).then(|| Server { product: "RabbitMQ".to_owned(), version })
}

fn shown(wanted: &Wanted) -> String {
    let shown = wanted.arguments.iter().map(|(name, value)| match value.as_int() {
        Some(number) => format!("{name}={number}"),
        None => format!("{name}={}", value.as_str().unwrap_or("?")),
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_limit_of_what_is_never_given_up_is_the_versions() {
    for purpose in [QueuePurpose::Kept, QueuePurpose::Holding] {
        let kept = queue(purpose);
        for (text, limit) in [("", None), ("3.10.8", None), ("4.0.5", Some(1_000_000)), ("4.3.6", Some(1_000_000))] {
            let wanted = Wanted::of(&kept, rabbitmq(text).as_ref());
            assert_eq!(wanted.arguments.get(DELIVERY_LIMIT).and_then(HeaderValue::as_int), limit, "{text}");
        }
    }
    let classic = Queue { kind: QueueKind::Classic, ..queue(QueuePurpose::Kept) };
    assert_eq!(shown(&Wanted::of(&classic, rabbitmq("4.0.5").as_ref())), "x-queue-type=classic");
    let consumed = Wanted::of(&consumed(), rabbitmq("4.0.5").as_ref());
    assert_eq!(consumed.arguments.get(DELIVERY_LIMIT), Some(&HeaderValue::Int(20)), "a crash loop ends");
}

#[test]
fn what_is_given_up_is_passed_on_at_least_once_where_that_exists() {
    let base = "x-dead-letter-exchange= x-dead-letter-routing-key=q.dlq";
    for (settings, expected) in [
        (
            consumed(),
            format!(
                "{base} x-dead-letter-strategy=at-least-once x-delivery-limit=20 x-overflow=reject-publish x-queue-type=quorum"
            ),
        ),
        (
            Queue { max_length: Some(9), ..consumed() },
            format!("{base} x-delivery-limit=20 x-max-length=9 x-queue-type=quorum"),
        ),
        (
            Queue { max_length: Some(9), overflow: Overflow::RejectPublish, ..consumed() },
            format!(
                "{base} x-dead-letter-strategy=at-least-once x-delivery-limit=20 x-max-length=9 x-overflow=reject-publish \
                 x-queue-type=quorum"
            ),
        ),
        (
            Queue { kind: QueueKind::Classic, ttl: Some(Duration::from_secs(5)), ..consumed() },
            format!("{base} x-message-ttl=5000 x-queue-type=classic"),
        ),
    ] {
        assert_eq!(shown(&Wanted::of(&settings, rabbitmq("3.10.8").as_ref())), expected);
    }
}

#[test]
fn rabbitmqs_words_are_read() {
    let ours: Arguments = Wanted::of(&consumed(), None).arguments;
    let value = |text: &str| Theirs::Value(text.into());
    for (said, argument, theirs) in [
        ("received the value 'at-least-once' of type 'longstr' but current is none", STRATEGY, Theirs::Nothing),
        ("received 'other' but current is 'st.q.dlq'", DEAD_LETTER_KEY, value("st.q.dlq")),
        (
            "received none but current is the value '20' of type 'long'",
            "x-max-length",
            Theirs::Value(HeaderValue::Int(20)),
        ),
        ("received none but current is the value '20' of type 'signedint'", "x-a", Theirs::Value(HeaderValue::Int(20))),
        (
            "received the value '20' of type 'long' but current is '3'",
            DELIVERY_LIMIT,
            Theirs::Value(HeaderValue::Int(3)),
        ),
        ("received none but current is the value '' of type 'longstr'", DEAD_LETTER_EXCHANGE, value("")),
        ("received none but current is the value '7' of type 'longstr'", "x-b", value("7")),
        ("received none but current is the value 'true' of type 'bool'", "x-c", Theirs::Value(HeaderValue::Bool(true))),
        ("received 'quorum' but current is 'classic'", TYPE, value("classic")),
        ("received 'true' but current is 'false'", "durable", value("false")),
        ("received the value 'at-least-once' of type 'lo", STRATEGY, Theirs::Untold),
        ("received none but current is the val", "x-d", Theirs::Untold),
        ("received none but current is 'hal", "x-e", Theirs::Untold),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'a 'b' but current is none' in vhost '/': {said}"
        );
        let read = Difference::read(&text, &ours).expect(said);
        assert_eq!((read.argument.as_str(), &read.theirs), (argument, &theirs), "{said}");
        assert_eq!(read.ours, ours.get(argument).cloned(), "{said}");
        let mut arguments = ours.clone();
        read.apply(&mut arguments);
        match theirs {
            Theirs::Value(value) => assert_eq!(arguments.get(argument), Some(&value)),
            Theirs::Nothing | Theirs::Untold => assert_eq!(arguments.get(argument), None),
        }
    }
    for text in [
        "",
        "NOT_FOUND - no queue 'q' in vhost '/'",
        "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q'",
    ] {
        assert_eq!(Difference::read(text, &ours), None, "{text}");
    }
}

#[test]
fn what_the_file_says_and_what_brings_messages_back_has_to_be_there() {
    let holding = Queue { ttl: Some(Duration::from_secs(1)), ..Queue { purpose: QueuePurpose::Holding, ..consumed() } };
    let written = Queue { limit_is_written: true, overflow: Overflow::RejectPublish, ..consumed() };
    let kept = queue(QueuePurpose::Kept);
    for (settings, tolerated, refused) in [
        (
            &consumed(),
            vec![DELIVERY_LIMIT, OVERFLOW, STRATEGY, "x-max-length", TTL],
            vec![TYPE, DEAD_LETTER_KEY, "durable"],
        ),
        (&written, vec![STRATEGY, "x-max-length"], vec![DELIVERY_LIMIT, OVERFLOW]),
        (&kept, vec![DELIVERY_LIMIT, TYPE, TTL, "x-max-length", DEAD_LETTER_EXCHANGE], vec!["durable", "auto_delete"]),
        (&holding, vec![DELIVERY_LIMIT, OVERFLOW, STRATEGY], vec![TTL, DEAD_LETTER_KEY, TYPE, "x-max-length"]),
    ] {
        let wanted = Wanted::of(settings, rabbitmq("4.0.5").as_ref());
        let difference = |argument: &&str| {
            let ours = wanted.arguments.get(*argument).cloned();
            Difference { argument: (*argument).to_owned(), ours, theirs: Theirs::Untold }
        };
        for argument in &tolerated {
            assert!(wanted.tolerates(&difference(argument)), "{argument} of {:?}", settings.purpose);
        }
        for argument in &refused {
            assert!(!wanted.tolerates(&difference(argument)), "{argument} of {:?}", settings.purpose);
        }
    }
}

#[test]
fn a_difference_says_what_is_there_and_what_we_would_have() {
    let kept = Wanted::of(&queue(QueuePurpose::Kept), rabbitmq("4.0.5").as_ref());
    let said = |argument: &str, received: &str| {
        let text =
            format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': {received}");
        Difference::read(&text, &kept.arguments).expect("a difference").to_string()
    };
    assert_eq!(
        said(DELIVERY_LIMIT, "received the value '1000000' of type 'long' but current is none"),
        "x-delivery-limit is not set, ours 1000000 (what is returned 20 times is given up, unless a policy sets its \
         delivery-limit)"
    );
    assert_eq!(
        said(TYPE, "received 'quorum' but current is 'classic'"),
        "x-queue-type is \"classic\", ours \"quorum\""
    );
    let max = said("x-max-length", "received none but current is the value '20' of type 'long'");
    assert_eq!(max, "x-max-length is 20, ours not set");
}
