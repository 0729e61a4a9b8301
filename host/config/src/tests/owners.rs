//! `owned` of `[queues.NAME]`, and the defaults of queues without the key.

use super::*;

const RABBIT: [(&str, &str); 1] = [("RABBITMQ_HOST", "localhost")];

/// Only the file's own words are arguments of a queue that no route consumes.
#[test]
fn a_queue_that_no_route_consumes_has_the_named_arguments_only() {
    let source = "
        [defaults]
        max-length = 100
        [queues.plain]
        bind = \"k\"
        overflow = \"reject-publish\"
        [queues.limited]
        delivery-limit = 5
        [queues.ranked]
        max-priority = 3
        [queues.mine]
        owned = true
        [queues.kept]
        dead-letter = \"letters\"
        [queues.letters]
        ttl = \"168h\"
    ";
    let config = config_with(source, &RABBIT);
    let plain = queue(&config, "plain");
    assert_eq!((plain.ownership, plain.purpose), (QueueOwnership::Plain, QueuePurpose::Kept));
    assert_eq!((plain.kind, plain.delivery_limit, &plain.dead_letter), (None, None, &None));
    assert_eq!((plain.max_length, plain.overflow_is_written), (Some(100), true), "[defaults] is a part of the file");
    assert!(!plain.passes_on_at_least_once());
    let limited = queue(&config, "limited");
    assert_eq!((limited.kind, limited.delivery_limit), (Some(QueueKind::Quorum), Some(5)), "only these have a limit");
    assert_eq!((queue(&config, "ranked").kind, queue(&config, "ranked").max_priority), (None, Some(3)));
    let mine = queue(&config, "mine");
    assert_eq!((mine.ownership, mine.kind), (QueueOwnership::Daemon, Some(QueueKind::Quorum)));
    assert_eq!((mine.delivery_limit, mine.dead_letter.clone()), (Some(20), Some(to_queue("mine.dlq"))));
    let kept = queue(&config, "kept");
    assert_eq!((kept.ownership, kept.dead_letter.clone()), (QueueOwnership::Plain, Some(to_queue("letters"))));
    let letters = queue(&config, "letters");
    assert_eq!((letters.ownership, letters.kind), (QueueOwnership::Daemon, Some(QueueKind::Quorum)));
    assert_eq!(
        (letters.ttl, letters.max_length),
        (Some(Duration::from_secs(168 * 3600)), None),
        "it keeps its letters"
    );
    assert_eq!(queue_names(&config), ["kept", "letters", "limited", "mine", "mine.dlq", "plain", "ranked"]);
}

#[test]
fn a_shared_queue_has_no_argument_of_the_defaults() {
    let source = "
        [defaults]
        ttl = \"1m\"
        max-length = 100
        prefetch = 7
        dead-letter = \"errors\"
        [queues.work]
        owned = \"shared\"
        max-length = 5
        arguments = { x-dead-letter-exchange = \"dlx\", x-single-active-consumer = true, x-max-length-bytes = 9 }
        bind = \"k\"
        [queues.result]
        owned = \"${OWNED:-shared}\"
        [routes.work]
        queue = \"work\"
        plugin = \"p\"
        order-by = \"data.id\"
    ";
    let config = config_with(source, &RABBIT);
    let work = queue(&config, "work");
    assert_eq!((work.ownership, work.purpose), (QueueOwnership::Shared, QueuePurpose::Consumed));
    assert_eq!((work.kind, work.ttl, work.max_length, work.prefetch), (None, None, Some(5), 7));
    assert!(!work.limit_is_written && !work.overflow_is_written);
    assert_eq!(work.arguments.len(), 3);
    assert_eq!(work.arguments["x-max-length-bytes"], HeaderValue::Int(9));
    // The route still has a target for its own dead letters, and the dead-letter queue is the daemon's.
    assert_eq!(route(&config, "work").dead_letter, to_queue("errors"));
    assert_eq!(queue(&config, "errors").ownership, QueueOwnership::Daemon);
    let result = queue(&config, "result");
    assert_eq!((result.ownership, result.ttl, &result.dead_letter), (QueueOwnership::Shared, None, &None));
    let others = config_with(&source.replace("${OWNED:-shared}", "false"), &RABBIT);
    assert_eq!(queue(&others, "result").ownership, QueueOwnership::Others, "a word of the environment is a string");
}

#[test]
fn a_queue_of_other_programs_keeps_the_daemons_dead_letter_queue() {
    let source = "
        [queues.theirs]
        owned = false
        prefetch = 3
        dead-letter = { exchange = \"dlx\", queue = \"theirs_dead\" }
        [exchanges.dlx]
        type = \"direct\"
        [routes.theirs]
        queue = \"theirs\"
        plugin = \"p\"
    ";
    let config = config_with(source, &RABBIT);
    let theirs = queue(&config, "theirs");
    assert_eq!((theirs.ownership, theirs.kind, theirs.prefetch), (QueueOwnership::Others, None, 3));
    assert_eq!(config.topology.bindings, [key("dlx", "theirs_dead", "theirs_dead")]);
    assert_eq!(queue(&config, "theirs_dead").ownership, QueueOwnership::Daemon);
    // Other programs cannot reach the embedded broker.
    let embedded = loaded(source, |_| {});
    let told = embedded.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>();
    assert_eq!(told, [Code::QueueOwner.as_str()]);
    assert_eq!(queue(&embedded.config, "theirs").delivery_limit, Some(20), "the embedded broker ends a crash loop");
}
