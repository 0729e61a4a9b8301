//! Names that are valid by construction: at most 255 bytes (AMQP 0-9-1 `shortstr`), without control characters.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Words of a pattern at most. A pattern of 255 bytes can have more words, and each word costs time with every message.
pub const PATTERN_WORDS_MAX: usize = 64;

/// Why a text is not a valid name. Each text of an error continues a sentence that begins with the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// AMQP 0-9-1 short strings have one length byte.
    #[error("has {0} bytes; the limit is 255 bytes")]
    TooLong(usize),
    /// Names of routes, plugins and queues are never empty.
    #[error("is empty")]
    Empty,
    /// A pattern has more than [`PATTERN_WORDS_MAX`] words.
    #[error("has {0} words; the limit of a pattern is {max} words", max = PATTERN_WORDS_MAX)]
    TooManyWords(usize),
    /// Control characters would break logs and labels.
    #[error("has a control character at byte {0}; remove the control character")]
    Control(usize),
    /// Route, plugin and queue names become file names, labels and other names.
    #[error("is not a valid name; use letters, digits, '.', '_' and '-', and begin with a letter or digit")]
    Shape,
}

fn check_text(text: &str) -> Result<(), NameError> {
    if text.len() > 255 {
        return Err(NameError::TooLong(text.len()));
    }
    match text.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        Some(at) => Err(NameError::Control(at)),
        None => Ok(()),
    }
}

fn check_shape(text: &str) -> Result<(), NameError> {
    check_text(text)?;
    let first = text.bytes().next().ok_or(NameError::Empty)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if first.is_ascii_alphanumeric() && text.bytes().all(fits) { Ok(()) } else { Err(NameError::Shape) }
}

fn check_non_empty(text: &str) -> Result<(), NameError> {
    if text.is_empty() { Err(NameError::Empty) } else { check_text(text) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $check:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// The rule that the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                $check(text.as_ref())?;
                Ok(Self(Arc::from(text.as_ref())))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared with this name.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.to_string()
            }
        }
    )*};
}

names! {
    /// Name of a route: letters, digits, `.`, `_`, `-`.
    RouteName, check_shape;
    /// Name of a plugin: letters, digits, `.`, `_`, `-`.
    PluginName, check_shape;
    /// Name of a queue, never empty.
    QueueName, check_non_empty;
    /// Name of an exchange; empty for the nameless exchange.
    ExchangeName, check_text;
    /// A routing key or, in a binding, a topic pattern.
    RoutingKey, check_text;
}

impl ExchangeName {
    /// The nameless exchange, which passes a message to the queue whose name is the routing key.
    #[must_use]
    pub fn default_exchange() -> Self {
        Self(Arc::from(""))
    }

    /// Whether this is the nameless exchange.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl RouteName {
    /// Stands for a route where events arrive over HTTP. No route can have this name.
    #[must_use]
    pub fn of_api() -> Self {
        Self(Arc::from("/api"))
    }

    /// Stands for a route where the events of the hook at this path arrive. No route can have this name, because a path begins
    /// with a slash.
    #[must_use]
    pub fn of_hook(path: &str) -> Self {
        Self(Arc::from(path))
    }
}

impl QueueName {
    /// The routing key that reaches this queue over the nameless exchange.
    #[must_use]
    pub fn as_key(&self) -> RoutingKey {
        RoutingKey(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_amqp() {
        assert!(RoutingKey::new("k".repeat(255)).is_ok());
        assert_eq!(RoutingKey::new("k".repeat(256)), Err(NameError::TooLong(256)));
        assert_eq!(RoutingKey::new("a\nb"), Err(NameError::Control(1)));
        assert_eq!(QueueName::new(""), Err(NameError::Empty));
        assert!(ExchangeName::new("").expect("the default exchange").is_default());
    }

    #[test]
    fn route_names_are_safe_as_labels_and_file_names() {
        assert!(RouteName::new("callback-tasks.v2").is_ok());
        for name in [RouteName::of_api(), RouteName::of_hook("/hooks/a")] {
            assert!(RouteName::new(name.as_str()).is_err(), "no route can have the name {name}");
        }
        for bad in ["../up", "-x", "a b", "a/b", "ä"] {
            assert_eq!(RouteName::new(bad), Err(NameError::Shape), "{bad}");
        }
    }
}
