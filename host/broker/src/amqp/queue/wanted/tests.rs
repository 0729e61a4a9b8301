use std::time::Duration;

use super::super::difference::ExistingValue;
use super::*;
use trunkline_config::DeadLetter;
use trunkline_event::{ExchangeName, RoutingKey};

fn queue(purpose: QueuePurpose) -> Queue {
    Queue::unlimited(purpose, QueueKind::Quorum)
}

fn consumed() -> Queue {
    let key = RoutingKey::new("q.dlq").expect("a key");
    let dead_letter = Some(DeadLetter { exchange: ExchangeName::default_exchange(), key });
    Queue { delivery_limit: Some(20), dead_letter, ..queue(QueuePurpose::Consumed) }
}

fn rabbitmq(version: &str) -> Option<BrokerServer> {
    let version = crate::ServerVersion::new(version);
    (!version.as_str().is_empty()).then(|| BrokerServer { product: "RabbitMQ".to_owned(), version })
}

fn shown(wanted: &WantedArguments) -> String {
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
            let wanted = WantedArguments::of(&kept, rabbitmq(text).as_ref());
            assert_eq!(wanted.arguments.get(DELIVERY_LIMIT).and_then(HeaderValue::as_int), limit, "{text}");
        }
    }
    let classic = Queue { kind: Some(QueueKind::Classic), ..queue(QueuePurpose::Kept) };
    assert_eq!(shown(&WantedArguments::of(&classic, rabbitmq("4.0.5").as_ref())), "x-queue-type=classic");
    let consumed = WantedArguments::of(&consumed(), rabbitmq("4.0.5").as_ref());
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
            Queue { kind: Some(QueueKind::Classic), ttl: Some(Duration::from_secs(5)), ..consumed() },
            format!("{base} x-message-ttl=5000 x-queue-type=classic"),
        ),
    ] {
        assert_eq!(shown(&WantedArguments::of(&settings, rabbitmq("3.10.8").as_ref())), expected);
    }
}

#[test]
fn rabbitmqs_words_are_read() {
    let wanted: Arguments = WantedArguments::of(&consumed(), None).arguments;
    let value = |text: &str| ExistingValue::Value(text.into());
    for (said, argument, existing) in [
        ("received the value 'at-least-once' of type 'longstr' but current is none", STRATEGY, ExistingValue::Unset),
        ("received 'other' but current is 'st.q.dlq'", DEAD_LETTER_KEY, value("st.q.dlq")),
        (
            "received none but current is the value '20' of type 'long'",
            "x-max-length",
            ExistingValue::Value(HeaderValue::Int(20)),
        ),
        (
            "received none but current is the value '20' of type 'signedint'",
            "x-a",
            ExistingValue::Value(HeaderValue::Int(20)),
        ),
        (
            "received the value '20' of type 'long' but current is '3'",
            DELIVERY_LIMIT,
            ExistingValue::Value(HeaderValue::Int(3)),
        ),
        ("received none but current is the value '' of type 'longstr'", DEAD_LETTER_EXCHANGE, value("")),
        ("received none but current is the value '7' of type 'longstr'", "x-b", value("7")),
        (
            "received none but current is the value 'true' of type 'bool'",
            "x-c",
            ExistingValue::Value(HeaderValue::Bool(true)),
        ),
        ("received 'quorum' but current is 'classic'", TYPE, value("classic")),
        ("received 'true' but current is 'false'", "durable", value("false")),
        ("received the value 'at-least-once' of type 'lo", STRATEGY, ExistingValue::Unknown),
        ("received none but current is the val", "x-d", ExistingValue::Unknown),
        ("received none but current is 'hal", "x-e", ExistingValue::Unknown),
    ] {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'a 'b' but current is none' in vhost '/': {said}"
        );
        let read = Difference::read(&text, &wanted).expect(said);
        assert_eq!((read.argument.as_str(), &read.existing), (argument, &existing), "{said}");
        assert_eq!(read.wanted, wanted.get(argument).cloned(), "{said}");
        let mut arguments = wanted.clone();
        read.apply(&mut arguments);
        match existing {
            ExistingValue::Value(value) => assert_eq!(arguments.get(argument), Some(&value)),
            ExistingValue::Unset | ExistingValue::Unknown => assert_eq!(arguments.get(argument), None),
        }
    }
    for text in [
        "",
        "NOT_FOUND - no queue 'q' in vhost '/'",
        "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q'",
    ] {
        assert_eq!(Difference::read(text, &wanted), None, "{text}");
    }
}

/// Arguments of a queue that no route consumes, and of a queue that other programs declare too.
#[test]
fn only_named_arguments_are_declared_where_other_programs_declare_too() {
    let base = Queue { delivery_limit: Some(20), kind: None, ..consumed() };
    let plain = Queue { ownership: QueueOwnership::Plain, purpose: QueuePurpose::Kept, ..base.clone() };
    let shared = Queue { ownership: QueueOwnership::Shared, ..base };
    let arguments = [("x-dead-letter-exchange".to_owned(), HeaderValue::from("dlx"))].into();
    for (settings, expected) in [
        (Queue { dead_letter: None, ..plain.clone() }, ""),
        (plain.clone(), "x-dead-letter-exchange= x-dead-letter-routing-key=q.dlq"),
        (
            Queue { kind: Some(QueueKind::Quorum), limit_is_written: true, dead_letter: None, ..plain },
            "x-delivery-limit=20 x-queue-type=quorum",
        ),
        (shared.clone(), ""),
        (
            Queue { ttl: Some(Duration::from_secs(300)), arguments, ..shared.clone() },
            "x-dead-letter-exchange=dlx x-message-ttl=300000",
        ),
        (
            Queue { overflow_is_written: true, max_priority: Some(3), max_length: Some(9), ..shared.clone() },
            "x-max-length=9 x-max-priority=3 x-overflow=drop-head",
        ),
        (Queue { kind: Some(QueueKind::Quorum), ..shared }, "x-queue-type=quorum"),
    ] {
        let wanted = WantedArguments::of(&settings, rabbitmq("4.3.6").as_ref());
        assert_eq!(shown(&wanted), expected, "{settings:?}");
    }
}

/// A queue is refused when its use would lose messages or their order.
#[test]
fn only_a_queue_that_would_lose_messages_is_refused() {
    let holding = Queue { ttl: Some(Duration::from_secs(1)), ..Queue { purpose: QueuePurpose::Holding, ..consumed() } };
    let refusing = Queue { limit_is_written: true, overflow: Overflow::RejectPublish, ..consumed() };
    let kept = queue(QueuePurpose::Kept);
    let plain = Queue { ownership: QueueOwnership::Plain, ..queue(QueuePurpose::Kept) };
    let shared = Queue { ownership: QueueOwnership::Shared, ..consumed() };
    let harmless =
        [DELIVERY_LIMIT, STRATEGY, TYPE, TTL, MAX_LENGTH, MAX_PRIORITY, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY];
    let removed = ["durable", "auto_delete", "exclusive"];
    let and = |names: &[&'static str], more: &[&'static str]| [names, more].concat();
    for (settings, tolerated, refused) in [
        (&consumed(), and(&harmless, &[OVERFLOW]), and(&removed, &[SINGLE_CONSUMER, EXPIRES])),
        (&shared, and(&harmless, &[OVERFLOW]), and(&removed, &[SINGLE_CONSUMER, EXPIRES])),
        (&refusing, and(&harmless, &[]), and(&removed, &[SINGLE_CONSUMER, EXPIRES, OVERFLOW])),
        (&kept, and(&harmless, &[OVERFLOW, SINGLE_CONSUMER]), and(&removed, &[EXPIRES])),
        (&plain, and(&harmless, &[OVERFLOW, SINGLE_CONSUMER, EXPIRES]), and(&removed, &[])),
        (&holding, vec![DELIVERY_LIMIT, OVERFLOW, STRATEGY], and(&removed, &[TTL, DEAD_LETTER_KEY, TYPE, MAX_LENGTH])),
    ] {
        let wanted = WantedArguments::of(settings, rabbitmq("4.0.5").as_ref());
        let difference = |argument: &&str| {
            let wanted = wanted.arguments.get(*argument).cloned();
            Difference { argument: (*argument).to_owned(), wanted, existing: ExistingValue::Unknown }
        };
        for argument in &tolerated {
            assert!(wanted.tolerates(&difference(argument)), "{argument} of {:?}", settings.purpose);
        }
        for argument in &refused {
            assert!(!wanted.tolerates(&difference(argument)), "{argument} of {:?}", settings.purpose);
        }
    }
    let stream =
        Difference { argument: TYPE.to_owned(), wanted: None, existing: ExistingValue::Value("stream".into()) };
    for (settings, is_tolerated) in [(&consumed(), false), (&kept, false), (&plain, true)] {
        assert_eq!(WantedArguments::of(settings, None).tolerates(&stream), is_tolerated, "{:?}", settings.ownership);
    }
}

#[test]
fn a_single_active_consumer_that_is_switched_off_is_none() {
    let value = |flag: bool| ExistingValue::Value(HeaderValue::Bool(flag));
    for (wanted, existing, is_tolerated) in [
        (None, value(false), true),
        (None, value(true), false),
        (Some(false), ExistingValue::Unset, true),
        (Some(true), ExistingValue::Unset, false),
        (Some(true), value(false), false),
        (None, ExistingValue::Unknown, false),
    ] {
        let wanted = wanted.map(HeaderValue::Bool);
        let difference = Difference { argument: SINGLE_CONSUMER.to_owned(), wanted, existing };
        let tolerates = WantedArguments::of(&consumed(), None).tolerates(&difference);
        assert_eq!(tolerates, is_tolerated, "{difference:?}");
    }
}

#[test]
fn a_difference_says_what_is_there_and_what_we_would_have() {
    let kept = WantedArguments::of(&queue(QueuePurpose::Kept), rabbitmq("4.0.5").as_ref());
    let said = |argument: &str, received: &str| {
        let text =
            format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': {received}");
        Difference::read(&text, &kept.arguments).expect("a difference").to_string()
    };
    assert_eq!(
        said(DELIVERY_LIMIT, "received the value '1000000' of type 'long' but current is none"),
        "x-delivery-limit is not set, but must be 1000000 (RabbitMQ removes a message from the queue after 20 returns, unless a \
         policy sets delivery-limit)"
    );
    assert_eq!(
        said(TYPE, "received 'quorum' but current is 'classic'"),
        "x-queue-type is \"classic\", but must be \"quorum\""
    );
    let max = said("x-max-length", "received none but current is the value '20' of type 'long'");
    assert_eq!(max, "x-max-length is 20, but must not be set");
}
