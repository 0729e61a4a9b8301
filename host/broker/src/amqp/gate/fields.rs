//! Fields of AMQP 0-9-1 methods and properties, read without copying from bytes whose lengths may be wrong.

/// Bytes that are not read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that are left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// This number of bytes, or none when fewer are left. The other readers do the same.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    #[inline]
    pub(super) fn octet(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(super) fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn long(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A `shortstr`, of any bytes.
    #[inline]
    pub(super) fn short_string(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let length = ahead.octet()?;
        let text = ahead.take(usize::from(length))?;
        *self = ahead;
        Some(text)
    }

    /// A `longstr`, or the inside of a table or an array.
    #[inline]
    pub(super) fn long_string(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let length = ahead.long()?;
        let text = ahead.take(usize::try_from(length).ok()?)?;
        *self = ahead;
        Some(text)
    }
}

/// Whether lapin takes the bytes as a `shortstr`. The check for ASCII comes first, because nearly all texts are ASCII.
#[inline]
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// Bytes as a text of at most `most` bytes. Bytes that are not UTF-8 and control characters are written as `\xff`. A longer
/// text is cut.
pub(super) fn escaped(bytes: &[u8], most: usize) -> String {
    let mut text = String::new();
    let mut push = |piece: &str| {
        let fits = text.len() + piece.len() <= most;
        if fits {
            text.push_str(piece);
        }
        fits
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let fits = if character.is_ascii_control() {
                push(&format!("\\x{:02x}", u32::from(character)))
            } else {
                push(character.encode_utf8(&mut [0; 4]))
            };
            if !fits {
                return text;
            }
        }
        for byte in chunk.invalid() {
            if !push(&format!("\\x{byte:02x}")) {
                return text;
            }
        }
    }
    text
}

/// The first 16 bytes in hexadecimal, with an ellipsis when there are more.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 16;
    let mut text = hex::encode(&bytes[..bytes.len().min(SHOWN_MAX)]);
    if bytes.len() > SHOWN_MAX {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_read() {
        let mut fields = FieldReader::new(&[3, b'a', b'b']);
        assert_eq!(fields.short_string(), None, "three bytes are promised and two are there");
        assert_eq!(fields.rest(), [3, b'a', b'b'], "and nothing is taken");
        assert_eq!((fields.octet(), fields.take(2)), (Some(3), Some(&b"ab"[..])));
        assert_eq!((fields.octet(), fields.short(), fields.long(), fields.take(1)), (None, None, None, None));
        let mut long = FieldReader::new(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!((long.long_string(), long.rest().len()), (None, 5));
        let mut fits = FieldReader::new(&[0, 0, 0, 1, 7, 9]);
        assert_eq!((fits.long_string(), fits.octet(), fits.is_empty()), (Some(&[7][..]), Some(9), true));
    }

    #[test]
    fn bytes_are_shown_without_control_characters() {
        assert_eq!(escaped(b"'k\xc3\xa4y'\n\xff\xc3", 255), r"'käy'\x0a\xff\xc3");
        assert_eq!(escaped(&[0xff; 100], 255).len(), 252, "no half escape");
        assert_eq!(hexadecimal(&[0, 0xab]), "00ab");
        assert_eq!(hexadecimal(&[1; 17]).chars().count(), 33);
    }
}
