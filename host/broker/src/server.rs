//! Product and version of a broker.

/// The product and the version that a broker names when a connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerServer {
    /// `RabbitMQ`, or another product that speaks AMQP 0-9-1.
    pub product: String,
    /// The version of the product.
    pub version: ServerVersion,
}

/// A version such as `3.10.8`, `4.0.5` or `4.1.0-rc.1`. Versions are compared by three numbers; a missing number counts as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    text: String,
    number: (u32, u32, u32),
}

impl ServerVersion {
    /// Reads the three numbers at the beginning of a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| {
            let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().unwrap_or(0)
        });
        let mut next = || parts.next().unwrap_or(0);
        Self { text: text.to_owned(), number: (next(), next(), next()) }
    }

    /// The version as the broker writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Major, minor, patch.
    #[must_use]
    pub const fn number(&self) -> (u32, u32, u32) {
        self.number
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (text, number) in [
            ("3.10.8", (3, 10, 8)),
            ("4.0.5", (4, 0, 5)),
            ("4.1.0-rc.1", (4, 1, 0)),
            ("3.13.7+12.gabc", (3, 13, 7)),
            ("4", (4, 0, 0)),
            ("", (0, 0, 0)),
            ("unknown", (0, 0, 0)),
            ("99999999999.1", (0, 1, 0)),
        ] {
            assert_eq!(ServerVersion::new(text).number(), number, "{text}");
        }
        let ascending = ["3.9.29", "3.10.8", "3.13.0", "4.0.5", "4.3.6", "10.0.0"].map(ServerVersion::new);
        assert!(ascending.is_sorted_by_key(ServerVersion::number));
    }
}
