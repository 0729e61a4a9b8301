//! Names that are no longer in routes.toml. Their series leave `/metrics` with them, and come back with the name.
//!
//! The recorder cannot remove a series. Therefore the exposition leaves out the series of a name that is not in use.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

/// Values of the label `route` that are not names of routes.
const NOT_ROUTES: [&str; 2] = ["api", "hooks"];
/// The metric of conditions. Its label `subject` may be the name of a route.
const CONDITION: &str = "trunkline_condition{";

/// A kind of name that has series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesOwner {
    /// A route. The label is `route`.
    Route,
    /// A plugin. The label is `plugin`.
    Plugin,
    /// A hook. The label is `hook`.
    Hook,
    /// The path of a hook. The label is `path`.
    HookPath,
}

/// Names that are not in use, as they are written in the exposition.
type UnusedNames = BTreeMap<SeriesOwner, BTreeSet<String>>;

static UNUSED: Mutex<UnusedNames> = Mutex::new(BTreeMap::new());

impl SeriesOwner {
    /// The kind of the names in a label.
    fn of(label: &str) -> Option<Self> {
        match label {
            "route" => Some(Self::Route),
            "plugin" => Some(Self::Plugin),
            "hook" => Some(Self::Hook),
            "path" => Some(Self::HookPath),
            _ => None,
        }
    }

    /// The name is in use. Its series are exposed.
    pub fn enters(self, name: &str) {
        if let Some(unused) = UNUSED.lock().get_mut(&self) {
            unused.remove(&escaped(name));
        }
    }

    /// The name is not in use any more. Its series are not exposed until the name is in use again.
    pub fn leaves(self, name: &str) {
        if self != Self::Route || !NOT_ROUTES.contains(&name) {
            UNUSED.lock().entry(self).or_default().insert(escaped(name));
        }
    }

    /// Whether the name is not in use.
    pub(crate) fn is_unused(self, name: &str) -> bool {
        UNUSED.lock().get(&self).is_some_and(|unused| unused.contains(&escaped(name)))
    }
}

/// A text as the value of a label in the exposition.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// An exposition without the series of names that are not in use, and without metrics that have no series.
pub(crate) fn without_unused(text: String) -> String {
    let unused = UNUSED.lock();
    if unused.values().all(BTreeSet::is_empty) {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    // An empty line ends each metric.
    for metric in text.split_inclusive("\n\n") {
        let lines: Vec<&str> = metric.lines().filter(|line| !is_unused(&unused, line)).collect();
        if lines.iter().any(|line| !line.is_empty() && !line.starts_with('#')) {
            lines.iter().for_each(|line| {
                kept.push_str(line);
                kept.push('\n');
            });
        }
    }
    kept
}

/// Whether a line is a series of a name that is not in use.
fn is_unused(unused: &UnusedNames, line: &str) -> bool {
    if line.starts_with('#') {
        return false;
    }
    let has = |owner: SeriesOwner, name: &str| unused.get(&owner).is_some_and(|names| names.contains(name));
    // A queue may have the name of a removed route, so a raised condition stays.
    let is_over = line.starts_with(CONDITION) && line.ends_with(" 0");
    labels(line).into_iter().any(|(label, value)| match SeriesOwner::of(label) {
        Some(owner) => has(owner, value),
        None => is_over && label == "subject" && has(SeriesOwner::Route, value),
    })
}

/// The labels of a series, each with its value as it is written.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let Some((_, mut rest)) = line.split_once('{') else { return found };
    while let Some((label, value)) = rest.split_once("=\"") {
        let Some(end) = value_end(value) else { break };
        found.push((label, &value[..end]));
        rest = value[end + 1..].trim_start_matches(',');
    }
    found
}

/// The position of the quote that ends a value.
fn value_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_total Text.\n# TYPE a_total counter\na_total{route=\"series-gone\"} 1\na_total{route=\"series-there\"} 2\n\n\
        # HELP b Text.\n# TYPE b gauge\nb{plugin=\"p\",route=\"series-gone\"} 1\n\n\
        # TYPE trunkline_condition gauge\ntrunkline_condition{condition=\"route-down\",subject=\"series-gone\"} 0\n\
        trunkline_condition{condition=\"dead-letter-missing\",subject=\"series-gone\"} 1\n\n\
        # TYPE c gauge\nc{queue=\"say \\\"route=\\\"series-gone\\\"\"} 1\nc 4\n\n";

    #[test]
    fn the_series_of_an_unused_name_are_left_out() {
        assert_eq!(without_unused(TEXT.to_owned()), TEXT);
        SeriesOwner::Route.leaves("series-gone");
        let shown = without_unused(TEXT.to_owned());
        let removed = ["a_total{route=\"series-gone\"} 1\n", "# HELP b", "# TYPE b", "b{plugin", "route-down"];
        for part in removed {
            assert!(!shown.contains(part), "{part} in {shown}");
        }
        let kept = ["# HELP a_total", "series-there", "dead-letter-missing", "c{queue=", "\nc 4\n\n"];
        for part in kept {
            assert!(shown.contains(part), "{part} not in {shown}");
        }
        SeriesOwner::Route.enters("series-gone");
        assert_eq!(without_unused(TEXT.to_owned()), TEXT, "the name is in use again");
    }

    #[test]
    fn events_of_the_listener_have_no_route() {
        SeriesOwner::Route.leaves("api");
        let text = "# TYPE d_total counter\nd_total{route=\"api\"} 3\n\n".to_owned();
        assert_eq!(without_unused(text.clone()), text);
    }

    #[test]
    fn values_are_escaped_as_the_exposition_escapes_them() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
        assert_eq!(labels(r#"x{a="1\"2",b="3"} 4"#), [("a", r#"1\"2"#), ("b", "3")]);
        assert!(labels("x 4").is_empty());
    }
}
