//! `canary` and `shadow` of a route.

use crate::keys::key::{Boolean, Key, Number, TextValue};
use crate::keys::section::Section;

pub(crate) static CANARY_PLUGIN: Key<TextValue> = Key::text(
    "plugin",
    "the name of a plugin",
    "The plugin on trial. This plugin must differ from `plugin` of the route.",
)
.required();

pub(crate) static CANARY_PERCENT: Key<Number> =
    Key::number("percent", 0.01, 100.0, "The share of events that the canary handles, in percent.").required();

pub(crate) static CANARY_BY: Key<TextValue> = Key::text(
    "by",
    "the name of an event field that `order-by` also accepts",
    "The field by which the daemon selects the canary or the stable plugin. Events with the same value of this field go to the same plugin. For an event without a value, the daemon uses the event's id.",
)
.note("`order-by` of the route, else the event's id");

pub(crate) static CANARY_AUTO: Key<Boolean> = Key::boolean(
    "auto",
    "With `true`, the daemon itself promotes the canary or rolls the canary back. With `false`, an operator decides.",
)
.or(true);

pub(crate) static CANARY: Section = Section {
    title: "`canary` of [routes.NAME]",
    about: "A canary is a second plugin that handles a share of the events. The daemon publishes the emissions of the canary.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\ncanary = { plugin = \"callback-task-next\", percent = 5, by = \"tenant\" }\n",
    path: &["routes", "*", "canary"],
    keys: &[&[&CANARY_PLUGIN, &CANARY_PERCENT, &CANARY_BY, &CANARY_AUTO]],
    reserved: &[],
};

pub(crate) static SHADOW_PLUGIN: Key<TextValue> = Key::text(
    "plugin",
    "the name of a plugin",
    "The plugin that runs as the shadow. This plugin must differ from `plugin` of the route.",
)
.required();

pub(crate) static SHADOW_SAMPLE: Key<Number> =
    Key::number("sample", 0.01, 100.0, "The share of events that the daemon copies to the shadow, in percent.")
        .or(100.0);

pub(crate) static SHADOW: Section = Section {
    title: "`shadow` of [routes.NAME]",
    about: "A shadow is a second plugin that gets copies of events. The daemon compares the outcomes of the shadow with the outcomes of the stable plugin. The daemon never publishes the emissions of the shadow.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\nshadow = { plugin = \"callback-task-next\", sample = 25 }\n",
    path: &["routes", "*", "shadow"],
    keys: &[&[&SHADOW_PLUGIN, &SHADOW_SAMPLE]],
    reserved: &[],
};
