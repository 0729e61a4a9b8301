//! `limits` of a plugin.

use std::time::Duration;

use crate::keys::key::{Key, Range, Size, TimeSpan};
use crate::keys::section::{Listed, Section};
use crate::model::plugins::plugin::Limits;

const DEFAULT: Limits = Limits::DEFAULT;

/// A component needs at least one page of 64 KiB. Addresses of 32 bits reach 4 GiB.
pub(crate) static MEMORY: Key<Size> = Key::size(
    "memory",
    64 * 1024,
    4 * 1024 * 1024 * 1024,
    "The largest total size of the linear memories of an instance. A call that needs more memory ends with the outcome `memory`.",
)
.or(DEFAULT.memory_max_bytes);

pub(crate) static TIMEOUT: Key<TimeSpan> = Key::duration(
    "timeout",
    Duration::from_millis(1),
    Duration::from_secs(600),
    "The longest wall-clock time of a call, including the HTTP requests of the call. A longer call ends with the outcome `timeout`.",
)
.or(DEFAULT.timeout);

pub(crate) static EMISSIONS: Key<Range<u32>> =
    Key::integer("emissions", 0, 100_000, "The largest number of emissions of one event.").or(DEFAULT.emissions_max);

pub(crate) static OUTPUT: Key<Size> = Key::size(
    "output",
    1,
    1024 * 1024 * 1024,
    "The largest total size of the data and the strings of all emissions of one event.",
)
.or(DEFAULT.output_max_bytes);

pub(crate) static LOG: Key<Size> = Key::size(
    "log",
    0,
    16 * 1024 * 1024,
    "The largest size of the log text of one event. The daemon drops further text.",
)
.or(DEFAULT.log_max_bytes);

pub(crate) static HTTP_BODY: Key<Size> = Key::size(
    "http-body",
    0,
    128 * 1024 * 1024,
    "The largest size of the body of an HTTP request by the plugin. The limit also applies to the body of the response.",
)
.or(DEFAULT.http_body_max_bytes);

/// The limits. `[defaults]` accepts these keys without `limits` too.
pub(crate) static LIMIT_KEYS: &[&dyn Listed] = &[&MEMORY, &TIMEOUT, &EMISSIONS, &OUTPUT, &LOG, &HTTP_BODY];

pub(crate) static LIMITS: Section = Section {
    title: "`limits` of [plugins.NAME]",
    about: "The limits of one call of a plugin.",
    example: "[plugins.sentiment]\nlimits = { memory = \"128MiB\", timeout = \"5s\" }\n\n[routes.sentiment]\nfrom = \"comms.call.transcribed\"\nplugin = \"sentiment\"\n",
    path: &["plugins", "*", "limits"],
    keys: &[LIMIT_KEYS],
    reserved: &[],
};
