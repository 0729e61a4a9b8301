//! Selects the agent and the priority of a text by keywords. The first kind with a matching keyword decides:
//! appointment, order, search, else conversation. A text with an `urgent` keyword is urgent, and an appointment or an
//! order has high priority. The keywords are config `keywords-appointment`, `-order`, `-search` and `-urgent`,
//! separated by commas.

use trunkline_plugin::config;
use whatsapp_messages::{Priority, TaskType};

const APPOINTMENT: &str = "appointment, book, booking, schedule, reschedule";
const ORDER: &str = "order, buy, purchase, delivery, price";
const SEARCH: &str = "search, find, looking for, where is, where can";
const URGENT: &str = "urgent, asap, emergency, immediately";

pub(crate) fn judge(text: &str) -> (TaskType, Priority) {
    let text = words(text);
    let has = |kind: &str, fallback: &str| {
        let given = config::get(&format!("keywords-{kind}")).unwrap_or_else(|| fallback.to_owned());
        // Only whole words match, so "ordinary" is not an order.
        given.split(',').map(words).any(|keyword| keyword.len() > 2 && text.contains(&keyword))
    };
    let kind = if has("appointment", APPOINTMENT) {
        TaskType::Appointment
    } else if has("order", ORDER) {
        TaskType::Order
    } else if has("search", SEARCH) {
        TaskType::Search
    } else {
        TaskType::Conversation
    };
    let priority = match kind {
        _ if has("urgent", URGENT) => Priority::Urgent,
        TaskType::Appointment | TaskType::Order => Priority::High,
        TaskType::Search | TaskType::Conversation => Priority::Normal,
    };
    (kind, priority)
}

/// The words in lower case, each between two spaces.
fn words(text: &str) -> String {
    let mut spaced = String::from(" ");
    for word in text.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        spaced.push_str(word);
        spaced.push(' ');
    }
    spaced
}
