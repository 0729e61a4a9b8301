//! Keys of a route that determine when and in which order events run: `dedupe`, `order-by`, `rate`, `tenant`, `circuit`.

use std::time::Duration;

use crate::keys::key::{Forms, Inner, Key, Range, TextValue, TimeSpan};
use crate::keys::section::Section;

const EVENT_FIELD: &str =
    "one of `tenant`, `user`, `subject`, `type`, `source`, `routing-key`, `attributes.NAME` and `data.FIELD`";

const EVENT_RATE: &str =
    "a rate of 1 to 1000000 events per second, minute or hour, such as `\"100/s\"`, `\"600/m\"` or `\"10/h\"`";

pub(crate) static DEDUPE: Key<Forms> = Key::forms(
    "dedupe",
    "a duration, or a table `{ window, max }`",
    Some(&DEDUPE_WINDOW),
    "The time for which the daemon remembers the ids of settled events. The daemon drops a repeat within this time.",
)
.note("no dedupe window");

pub(crate) static ORDER_BY: Key<TextValue> = Key::text(
    "order-by",
    EVENT_FIELD,
    "The field whose value is the ordering key. Events with the same ordering key run one at a time, in the order of the queue.",
)
.note("no order");

pub(crate) static RATE: Key<TextValue> =
    Key::text("rate", EVENT_RATE, "The largest rate at which events of the route start.").note("no limit");

pub(crate) static TENANT: Key<Forms> = Key::forms(
    "tenant",
    "a string with the name of an event field that `order-by` also accepts, or a table `{ by, rate }`",
    Some(&TENANT_RULE),
    "The field that names the tenant of an event. A table also sets the largest rate at which events of one tenant start.",
)
.note("the tenant that the codec reads");

pub(crate) static CIRCUIT: Key<Inner> = Key::table(
    "circuit",
    &CIRCUIT_BREAKER,
    "The circuit breaker, which stops the route for a pause after many passing failures.",
)
.note("no circuit breaker");

const WINDOW_MIN: Duration = Duration::from_millis(1);
const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) static WINDOW: Key<TimeSpan> = Key::duration(
    "window",
    WINDOW_MIN,
    WINDOW_MAX,
    "The time for which the daemon remembers the id of a settled or accepted event.",
)
.required();

/// Every remembered id is a record on disk.
pub(crate) static IDS: Key<Range<u32>> = Key::integer(
    "max",
    1,
    100_000_000,
    "The largest number of ids that the daemon remembers. The daemon forgets the oldest id first.",
)
.or(1_000_000);

pub(crate) static DEDUPE_WINDOW: Section = Section {
    title: "`dedupe` of [routes.NAME]",
    about: "The dedupe window. `dedupe = \"10m\"` is short for `dedupe = { window = \"10m\" }`. `dedupe` of [http] also has the keys `window` and `max`.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\ndedupe = { window = \"10m\", max = 100000 }\n",
    path: &["routes", "*", "dedupe"],
    keys: &[&[&WINDOW, &IDS]],
    reserved: &[],
};

pub(crate) static TENANT_BY: Key<TextValue> =
    Key::text("by", EVENT_FIELD, "The field that names the tenant of an event.").or("tenant");

pub(crate) static TENANT_RATE: Key<TextValue> = Key::text(
    "rate",
    EVENT_RATE,
    "The largest rate at which events of one tenant start. A route with `order-by` cannot have this key.",
)
.note("no limit");

pub(crate) static TENANT_RULE: Section = Section {
    title: "`tenant` of [routes.NAME]",
    about: "The field that names the tenant of an event, and the largest rate for each tenant. `tenant = \"data.instance\"` is short for `tenant = { by = \"data.instance\" }`.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\ntenant = { by = \"data.instance\", rate = \"20/s\" }\n",
    path: &["routes", "*", "tenant"],
    keys: &[&[&TENANT_BY, &TENANT_RATE]],
    reserved: &[],
};

const CIRCUIT_MIN: Duration = Duration::from_millis(1);
const CIRCUIT_MAX: Duration = Duration::from_secs(24 * 3600);

pub(crate) static CIRCUIT_FAILURES: Key<Range<u32>> = Key::integer(
    "failures",
    1,
    1_000_000,
    "The number of passing failures within `window` after which the route stops.",
)
.or(10);

pub(crate) static CIRCUIT_WINDOW: Key<TimeSpan> = Key::duration(
    "window",
    CIRCUIT_MIN,
    CIRCUIT_MAX,
    "The period in which the circuit breaker counts passing failures.",
)
.or(Duration::from_secs(60));

pub(crate) static CIRCUIT_PAUSE: Key<TimeSpan> = Key::duration(
    "pause",
    CIRCUIT_MIN,
    CIRCUIT_MAX,
    "The time for which the stopped route consumes nothing. After this time, the route runs one event as a probe.",
)
.or(Duration::from_secs(30));

pub(crate) static CIRCUIT_BREAKER: Section = Section {
    title: "`circuit` of [routes.NAME]",
    about: "The circuit breaker of a route.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\ncircuit = { failures = 5, window = \"1m\", pause = \"30s\" }\n",
    path: &["routes", "*", "circuit"],
    keys: &[&[&CIRCUIT_FAILURES, &CIRCUIT_WINDOW, &CIRCUIT_PAUSE]],
    reserved: &[],
};
