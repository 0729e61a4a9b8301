//! docs/reference/headers.md against the constants of the crates.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::page;

/// A header of the daemon.
struct OwnHeader {
    name: &'static str,
    /// The messages that have the header.
    on: &'static str,
    meaning: &'static str,
}

const fn header(name: &'static str, on: &'static str, meaning: &'static str) -> OwnHeader {
    OwnHeader { name, on, meaning }
}

const HEADERS: [OwnHeader; 35] = [
    header(
        "trunkline-mac",
        "every message with headers of the daemon, on RabbitMQ",
        "The signature over the daemon's headers, the id of the message and the body of the message. The daemon makes the signature with the header key.",
    ),
    header("trunkline-route", "emissions, copies", "The name of the route that published the message."),
    header("trunkline-plugin", "emissions, copies", "The name of the plugin that ran for the event."),
    header("trunkline-plugin-digest", "emissions, copies", "The SHA-256 of the plugin's file."),
    header(
        "trunkline-attempt",
        "copies",
        "The number of the attempt, counted from 1. A retry copy has the number of the next attempt.",
    ),
    header("trunkline-cause", "emissions", "The id of the event that caused the emission."),
    header(
        "trunkline-index",
        "emissions",
        "The position of the emission among the emissions of the same event, counted from 0.",
    ),
    header("trunkline-hops", "emissions, copies", "The number of hops since the first event of the chain."),
    header("trunkline-tenant", "emissions, copies", "The tenant of the event."),
    header("trunkline-user", "emissions, copies", "The user of the event."),
    header(
        "trunkline-subject",
        "emissions, copies",
        "The subject of the event, if the codec has no field for the subject.",
    ),
    header(
        "trunkline-own-id",
        "copies",
        "False if the daemon generated the id of the event, because the message had no id.",
    ),
    header("trunkline-first-seen", "copies", "The time of the first attempt, in RFC 3339."),
    header(
        "trunkline-expires",
        "copies",
        "The time at which the TTL of the message ends, in milliseconds since the Unix epoch. Past this time, the daemon dead-letters the event with the reason `expired`.",
    ),
    header("trunkline-source-exchange", "copies", "The exchange to which the event was first published."),
    header("trunkline-source-key", "copies", "The routing key with which the event was first published."),
    header(
        "trunkline-left-out",
        "copies",
        "The number of headers that the daemon left out, because the headers did not fit into the copy.",
    ),
    header(
        "trunkline-kept-",
        "copies",
        "The prefix for headers and properties that RabbitMQ would obey. The daemon puts the prefix before the name of such a header or property.",
    ),
    header("trunkline-reason", "dead letters", "The [reason](reasons.md) of the dead letter."),
    header("trunkline-error", "copies", "The error text of the last attempt."),
    header("trunkline-log", "dead letters", "The last lines of the plugin's log for the event."),
    header(
        "trunkline-dead-at",
        "dead letters",
        "The time at which the daemon dead-lettered the event, in RFC 3339. A message with this header is a dead letter.",
    ),
    header(
        "trunkline-body-bytes",
        "dead letters",
        "The size of the complete body in bytes. The header is present if the daemon shortened the body, because the broker did not accept the complete body.",
    ),
    header("trunkline-redriven", "redriven events", "The number of redrives of the event."),
    header(
        "trunkline-due",
        "copies of routes with `order-by`",
        "The earliest time of the next attempt, in milliseconds since the Unix epoch.",
    ),
    header(
        "trunkline-turn",
        "copies of routes with `tenant.rate`",
        "The time from which the rate of the tenant allows the event to start, in milliseconds since the Unix epoch.",
    ),
    header("trunkline-waiting-key", "entries of the waiting list", "The ordering key of the event."),
    header(
        "trunkline-waiting-place",
        "entries of the waiting list",
        "The position of the event among the events with the same ordering key. An event with a lower position runs earlier.",
    ),
    header(
        "trunkline-waiting-round",
        "entries of the waiting list",
        "The time in milliseconds after which the broker returns the waiting copy of the event to the route.",
    ),
    header(
        "trunkline-waiting-mark",
        "markers of the waiting list",
        "The token of the marker. A daemon publishes a marker to find the end of the entries that were already in the waiting list.",
    ),
    header("trunkline-delay-exchange", "delayed messages on RabbitMQ", "The exchange of the message."),
    header("trunkline-delay-key", "delayed messages on RabbitMQ", "The routing key of the message."),
    header(
        "trunkline-delay-accept",
        "delayed messages on RabbitMQ",
        "True if the daemon accepts the message even if no queue is bound for the message.",
    ),
    header(
        "trunkline-delay-priority",
        "delayed messages on RabbitMQ",
        "The priority of the message. The message has no priority in the delay queues.",
    ),
    header(
        "trunkline-delay-tries",
        "delayed messages on RabbitMQ",
        "The number of failed attempts of the daemon to publish the due message.",
    ),
];

/// The names in constants of the form `const NAME: &str = "trunkline-…";` below `folder`, without those of tests.
fn constants(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            constants(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("a file");
            let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let names = production.split(": &str = \"trunkline-").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(|name| format!("trunkline-{name}")));
        }
    }
}

#[test]
fn the_page_lists_every_header() {
    let listed: BTreeSet<String> = HEADERS.iter().map(|header| header.name.to_owned()).collect();
    let mut known = BTreeSet::new();
    for part in ["event", "route", "broker"] {
        constants(&page::root().join("host").join(part).join("src"), &mut known);
    }
    // The prefix of all headers.
    known.remove("trunkline-");
    assert_eq!(listed, known, "the page and the constants differ");
    let mut text = "# Headers\n\n\
        The daemon adds the headers of this page to messages. On RabbitMQ, the daemon drops these headers if the message has\n\
        no valid signature in `trunkline-mac`. [Decision 0016](../internals/decisions/0016-signed-headers.md) explains why the\n\
        daemon signs the headers. A test compares this page with the program.\n\n\
        A *copy* is a delivery's message that the daemon publishes again. The daemon publishes a copy for a retry, as a dead\n\
        letter, or to wait. The [glossary](../glossary.md) explains the words of this page.\n\n\
        | header | messages | meaning |\n|---|---|---|\n"
        .to_owned();
    for OwnHeader { name, on, meaning } in HEADERS {
        writeln!(text, "| `{name}` | {on} | {meaning} |").expect("a string");
    }
    page::compare("headers.md", &text);
}
