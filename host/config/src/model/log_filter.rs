//! The filter of log lines, from `LOG_LEVEL`.

/// The names of levels, each with its level. The names are the names of `tracing` and the names of Python's `logging`. The log has
/// no level above `error`. Python's `NOTSET` shows every line.
const LEVELS: [(&str, &str); 10] = [
    ("off", "off"),
    ("critical", "error"),
    ("fatal", "error"),
    ("error", "error"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
    ("notset", "trace"),
];

/// The level of each target that `LOG_LEVEL` does not name.
const DEFAULT: &str = "info";

/// A level for all log lines, and levels for the lines of single targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// A part of `LOG_LEVEL` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadLogFilter {
    /// The word is not the name of a level.
    Level(String),
    /// The word is not the name of a target.
    Target(String),
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl LogFilter {
    /// Reads levels and `TARGET=LEVEL`, separated by commas. A level may be in upper case or lower case. A target with `::` and
    /// without a level means all lines of the target. The default of the level for all lines is `info`. A level for one target
    /// therefore does not hide the errors of other targets.
    ///
    /// # Errors
    /// The first part that cannot be used.
    pub(crate) fn parse(text: &str) -> Result<Self, BadLogFilter> {
        let mut directives = vec![DEFAULT.to_owned()];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            directives.push(match part.split_once('=') {
                Some((name, word)) => format!("{}={}", target(name)?, level(word)?),
                None if part.contains("::") => format!("{}=trace", target(part)?),
                None => level(part)?.to_owned(),
            });
        }
        Ok(Self(directives.join(",")))
    }

    /// The filter as directives of `tracing`, separated by commas. If a target has several directives, the last directive counts.
    #[must_use]
    pub fn directives(&self) -> &str {
        &self.0
    }

    /// The names of levels.
    pub(crate) fn levels() -> impl Iterator<Item = &'static str> {
        LEVELS.into_iter().map(|(name, _)| name)
    }
}

fn level(word: &str) -> Result<&'static str, BadLogFilter> {
    let word = word.trim();
    let found = LEVELS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, level)| level).ok_or_else(|| BadLogFilter::Level(word.to_owned()))
}

fn target(name: &str) -> Result<&str, BadLogFilter> {
    let name = name.trim();
    let is_name = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':'));
    if is_name { Ok(name) } else { Err(BadLogFilter::Target(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_names_of_rust_and_of_python_in_any_case() {
        for (text, expected) in [
            ("", "info"),
            (" ", "info"),
            (",", "info"),
            ("INFO", "info,info"),
            ("WARNING", "info,warn"),
            ("Warn", "info,warn"),
            ("CRITICAL", "info,error"),
            ("fatal", "info,error"),
            ("Error\n", "info,error"),
            ("NOTSET", "info,trace"),
            ("DEBUG", "info,debug"),
            ("off", "info,off"),
            ("info,trunkline::trace=DEBUG", "info,info,trunkline::trace=debug"),
            ("WARNING, trunkline::plugin=Off", "info,warn,trunkline::plugin=off"),
            ("trunkline_broker::amqp", "info,trunkline_broker::amqp=trace"),
            ("lapin=debug", "info,lapin=debug"),
        ] {
            let filter = LogFilter::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"));
            assert_eq!(filter.directives(), expected, "{text}");
        }
        assert_eq!(LogFilter::default(), LogFilter::parse("").expect("nothing"));
    }

    #[test]
    fn unknown_words_are_named() {
        let level = |word: &str| BadLogFilter::Level(word.to_owned());
        let target = |name: &str| BadLogFilter::Target(name.to_owned());
        for (text, expected) in [
            ("verbose", level("verbose")),
            ("30", level("30")),
            ("info,loud", level("loud")),
            ("trunkline::trace=all", level("all")),
            ("trunkline::trace=", level("")),
            ("trunkline", level("trunkline")),
            ("=debug", target("")),
            ("a b=debug", target("a b")),
            ("[span]=debug", target("[span]")),
        ] {
            assert_eq!(LogFilter::parse(text), Err(expected), "{text}");
        }
    }
}
