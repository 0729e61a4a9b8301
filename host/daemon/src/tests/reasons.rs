//! docs/reference/reasons.md against [`Reason`].

use std::fmt::Write;

use trunkline_event::Reason;

use super::page;

const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Rejected => "The plugin rejected the event.",
        Reason::Invalid => {
            "The codec could not decode the message, or the result of the plugin breaks a rule of the daemon."
        }
        Reason::Trap => "The plugin trapped or panicked on the last attempt.",
        Reason::Timeout => "The last attempt took longer than `timeout` of the plugin allows.",
        Reason::Memory => "The last attempt needed more memory than `memory` of the plugin allows.",
        Reason::Exhausted => "The plugin asked for more retries than `retry.max` allows.",
        Reason::Loop => "The event has more hops than `max-hops` allows.",
        Reason::Unroutable => {
            "No queue is bound for an emission, and the route does not accept an unroutable emission."
        }
        Reason::Refused => {
            "The broker refused an emission permanently, because a permission or the exchange is missing."
        }
        Reason::TooLarge => {
            "The body of the message, an emission or the output of the plugin is larger than a limit allows."
        }
        Reason::Expired => "The message outlived its own TTL before the event was handled.",
        Reason::Schema => "The data of the event does not fit the schema of the route.",
    }
}

#[test]
fn the_page_lists_every_reason() {
    let mut text = "# Reasons of dead letters\n\n\
        A dead letter has one of these words in the header `trunkline-reason`. The label `reason` of\n\
        `trunkline_dead_letters_total` and the field `reason` of the log line `event dead-lettered` have the same word as the\n\
        header. The header `trunkline-error` has the error text. A test compares this page with the program.\n\n\
        | reason | meaning |\n|---|---|\n"
        .to_owned();
    for reason in Reason::ALL {
        writeln!(text, "| `{reason}` | {} |", meaning(reason)).expect("a string");
    }
    page::compare("reasons.md", &text);
}
