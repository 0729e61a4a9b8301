//! The byte order mark of UTF-8. Editors and libraries on Windows write the mark before a text. The mark is not part of JSON or
//! TOML. RFC 8259 section 8.1 allows a reader to ignore the mark.

/// The text without a byte order mark at the beginning.
#[must_use]
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_at_the_beginning_is_left_out() {
        for (text, expected) in [
            (&b"\xef\xbb\xbf{}"[..], &b"{}"[..]),
            (b"\xef\xbb\xbf", b""),
            (b"\xef\xbb\xbf\xef\xbb\xbf1", b"\xef\xbb\xbf1"),
            (b" \xef\xbb\xbf1", b" \xef\xbb\xbf1"),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"", b""),
        ] {
            assert_eq!(without_byte_order_mark(text), expected, "{text:?}");
        }
    }
}
