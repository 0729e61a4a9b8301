//! Header tables of AMQP 0-9-1, in no client library's types.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A header table: names with values, in order, each name once.
///
/// Clones share the table by reference count. The first change of a shared table copies it.
#[derive(Clone, Default)]
pub struct Headers(Option<Arc<Vec<Entry>>>);

/// A header. The names that the daemon writes are constants, which need no memory of their own.
type Entry = (Cow<'static, str>, HeaderValue);

/// A field value of AMQP 0-9-1 as RabbitMQ defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HeaderValue {
    /// `V`, no value.
    Null,
    /// `t`, a truth value.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// `f` or `d`, a floating-point number.
    Float(f64),
    /// `S`, a text in UTF-8.
    Text(String),
    /// `x`, or `S` that is not UTF-8.
    Bytes(Vec<u8>),
    /// `T`, seconds since the Unix epoch. Some producers write milliseconds; see
    /// [`timestamp_since_epoch`](crate::timestamp_since_epoch).
    Timestamp(u64),
    /// `A`, a list.
    List(Vec<HeaderValue>),
    /// `F`, a table.
    Table(Headers),
    /// `D`, a decimal number. The number is `unscaled` divided by ten to the power of `scale`.
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The number without its decimal point.
        unscaled: i32,
    },
}

impl HeaderValue {
    /// The text of a text value, or of bytes that are UTF-8 (some clients send byte arrays).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Timestamp(_)
            | Self::List(_)
            | Self::Table(_)
            | Self::Decimal { .. } => None,
        }
    }

    /// The number of an integer value, or of a text that is a number.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Timestamp(seconds) => i64::try_from(*seconds).ok(),
            Self::Text(_) | Self::Bytes(_) => self.as_str()?.parse().ok(),
            Self::Null | Self::Bool(_) | Self::Float(_) | Self::List(_) | Self::Table(_) | Self::Decimal { .. } => None,
        }
    }

    fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) | Self::Timestamp(_) => 8,
            Self::Text(text) => 4 + text.len(),
            Self::Bytes(bytes) => 4 + bytes.len(),
            Self::List(values) => 4 + values.iter().map(Self::encoded_len).sum::<usize>(),
            Self::Table(table) => table.encoded_len(),
            Self::Decimal { .. } => 5,
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u32> for HeaderValue {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}

impl Headers {
    /// An empty table with room for this number of headers.
    #[must_use]
    pub fn with_capacity(headers: usize) -> Self {
        Self(Some(Arc::new(Vec::with_capacity(headers))))
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_ref().map_or(&[], |entries| entries.as_slice())
    }

    fn entries_mut(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.entries().iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The text of that name, if its value is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(HeaderValue::as_str)
    }

    /// The number of that name, if its value is a number.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(HeaderValue::as_int)
    }

    /// Sets a value, in the place of the old value if there is one.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) {
        let (name, value) = (name.into(), value.into());
        let entries = self.entries_mut();
        match entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => entries.push((name, value)),
        }
    }

    /// Removes a value, and gives it.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        let at = self.entries().iter().position(|(known, _)| known == name)?;
        Some(self.entries_mut().remove(at).1)
    }

    /// Removes the values whose names are not wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        if !self.is_empty() {
            self.entries_mut().retain(|(name, _)| wanted(name));
        }
    }

    /// Removes the headers in which a broker notes the way of a message. On a publish RabbitMQ 3.x would count on from
    /// them, and 4.x ignores them.
    pub fn remove_brokers(&mut self) {
        let is_brokers = |name: &str| {
            ["x-death", "x-delivery-count", "x-acquired-count"].contains(&name)
                || name.starts_with("x-first-death-")
                || name.starts_with("x-last-death-")
        };
        if self.iter().any(|(name, _)| is_brokers(name)) {
            self.retain(|name| !is_brokers(name));
        }
    }

    /// All names with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.entries().iter().map(|(name, value)| (&**name, value))
    }

    /// Whether the table has no header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Size of the table on the wire, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        4 + self.entries().iter().map(|(name, value)| 1 + name.len() + value.encoded_len()).sum::<usize>()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Headers").field(&self.entries()).finish()
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::deserialize(deserializer)?;
        Ok(Self((!entries.is_empty()).then(|| Arc::new(entries))))
    }
}

impl FromIterator<(String, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, HeaderValue)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_one_value_a_name() {
        let mut headers = Headers::default();
        headers.set("a", "1");
        headers.set("b", 2_u32);
        headers.set("a", "3");
        assert_eq!(headers.text("a"), Some("3"));
        assert_eq!(headers.int("a"), Some(3), "some clients send numbers as text");
        assert_eq!(headers.int("b"), Some(2));
        assert_eq!(headers.iter().count(), 2);
    }

    #[test]
    fn a_clone_shares_the_table_until_one_of_them_changes() {
        let mut headers = Headers::default();
        headers.set("a", "1");
        let mut copy = headers.clone();
        let (one, other) = (headers.0.as_ref().expect("a table"), copy.0.as_ref().expect("a table"));
        assert!(Arc::ptr_eq(one, other));
        copy.set("a", "2");
        assert_eq!((headers.text("a"), copy.text("a")), (Some("1"), Some("2")));
        copy.remove("a");
        assert_eq!(copy, Headers::default(), "an emptied table is an empty table");
    }
}
