//! `[event-types.NAME]`.

use crate::keys::key::{Key, Range, TextValue};
use crate::keys::section::Section;

pub(crate) static KEY: Key<TextValue> =
    Key::text("key", "a routing key", "The routing key of events that a client publishes without a routing key.")
        .note("the event type itself");

pub(crate) static SCHEMA: Key<TextValue> = Key::text(
    "schema",
    "the path of a JSON Schema",
    "The schema that the data of events must fit. The daemon answers with the status 422 if the data does not fit.",
);

pub(crate) static PRIORITY: Key<Range<u8>> =
    Key::integer("priority", 0, 255, "The AMQP priority of events that a client publishes without a priority.");

pub(crate) static DESCRIPTION: Key<TextValue> =
    Key::text("description", "any text", "The description of the event type in `GET /api/v1/events/types`.");

pub(crate) static EVENT_TYPE: Section = Section {
    title: "[event-types.NAME]",
    about: "The settings of an event type in the HTTP API. Clients can also publish events of a type without a table.",
    example: "[event-types.\"call.ended\"]\nkey = \"comms.call.ended\"\nschema = \"schemas/call-ended.json\"\ndescription = \"a call that is over\"\n",
    path: &["event-types", "*"],
    keys: &[&[&KEY, &SCHEMA, &PRIORITY, &DESCRIPTION]],
    reserved: &[],
};
