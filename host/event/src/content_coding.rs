//! Content codings. A content coding is the compression of a body that `content-encoding` names. RFC 9110 section 8.4 defines the
//! names.
//!
//! The crate flate2 decodes both codings. flate2 is pure Rust, belongs to the Rust project's organisation on GitHub, and is already
//! a dependency of the archive. Brotli and zstd would each need a further dependency.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

/// The codings that the daemon decodes, as a value of the HTTP header `Accept-Encoding`.
pub const CONTENT_CODINGS: &str = "gzip, deflate";

/// Largest number of codings of one body. Each coding costs time, and senders usually apply only one coding.
const CODINGS_MAX: usize = 4;
/// Longest name of a coding in an error text, in characters.
const NAME_SHOWN_MAX: usize = 40;
/// Smallest space for the next part of a decoded body.
const PART_BYTES: usize = 8 << 10;
/// The name that kombu gives to zlib and gzip.
const KOMBU_GZIP: &str = "application/x-gzip";
/// The first bytes of a member of gzip (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Names that are not a coding. Some AMQP clients write the transfer encoding of a mail into `content-encoding`. Celery writes
/// `binary`. Some HTTP clients write `none`.
const NO_CODINGS: [&str; 5] = ["identity", "binary", "8bit", "7bit", "none"];
/// Beginnings of the names of character sets. Celery, Spring and other AMQP clients write a character set into `content-encoding`.
const CHARACTER_SETS: [&str; 19] = [
    "utf",
    "unicode",
    "ascii",
    "us-ascii",
    "ansi",
    "iso-",
    "iso8859",
    "iso_",
    "latin",
    "windows-",
    "cp",
    "ibm",
    "euc-",
    "koi8",
    "gb",
    "big5",
    "shift_jis",
    "shift-jis",
    "sjis",
];

/// Why a body cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentCodingError {
    /// The name is not a coding of [`CONTENT_CODINGS`], and not the name of a character set.
    #[error("the content-encoding {0:?} is not supported: use gzip or deflate, or send the body without compression")]
    Unknown(String),
    /// The list has too many codings.
    #[error("the content-encoding lists {0} codings; the limit is {max} codings", max = CODINGS_MAX)]
    TooMany(usize),
    /// The body is not in the named coding.
    #[error("the body is not valid {coding}, but its content-encoding is {coding}: {problem}")]
    Broken {
        /// The coding.
        coding: &'static str,
        /// The broken rule.
        problem: String,
    },
    /// The decoded body is larger than this limit, in bytes.
    #[error("the body has more than {0} bytes after the content-encoding is decoded")]
    TooLarge(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentCoding {
    Gzip,
    Deflate,
}

/// Decodes a body by the value of `content-encoding`. The result is `None` if the value names no compression, such as `identity` or
/// `utf-8`, or if the body is empty. No step of the decoding makes more than about `max_bytes` bytes.
///
/// # Errors
/// The coding is not supported, the body is not in the named coding, or a step makes more than `max_bytes` bytes.
pub fn decode_content(encoding: &str, body: &[u8], max_bytes: usize) -> Result<Option<Vec<u8>>, ContentCodingError> {
    let codings = codings(encoding)?;
    if body.is_empty() {
        return Ok(None);
    }
    // The sender applied the codings in the order of the list.
    let mut decoded: Option<Vec<u8>> = None;
    for coding in codings.into_iter().rev() {
        let encoded = decoded.as_deref().unwrap_or(body);
        decoded = Some(match coding {
            ContentCoding::Gzip => gunzip(encoded, max_bytes)?,
            ContentCoding::Deflate => inflate(encoded, max_bytes)?,
        });
    }
    Ok(decoded)
}

/// Decodes a body by the value of the header `compression`, which kombu writes. kombu is the AMQP library of Celery. kombu calls zlib
/// `application/x-gzip`. The result is `None` for any other value, and for a body that begins neither as zlib nor as gzip: the
/// header then has another meaning.
///
/// # Errors
/// The body is broken, or the decoded body has more than `max_bytes` bytes.
pub fn decode_compression(
    compression: &str,
    body: &[u8],
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, ContentCodingError> {
    if !compression.eq_ignore_ascii_case(KOMBU_GZIP) {
        return Ok(None);
    }
    if body.starts_with(&GZIP_MAGIC) {
        return gunzip(body, max_bytes).map(Some);
    }
    if begins_as_zlib(body) { inflate(body, max_bytes).map(Some) } else { Ok(None) }
}

/// The codings of a list, in their order. Spring AMQP before version 2.2.12 separates the codings with a colon: `gzip:UTF-8`.
fn codings(encoding: &str) -> Result<Vec<ContentCoding>, ContentCodingError> {
    let mut codings = Vec::new();
    for name in encoding.split([',', ':']).map(str::trim).filter(|name| !name.is_empty()) {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "gzip" | "x-gzip" => codings.push(ContentCoding::Gzip),
            "deflate" => codings.push(ContentCoding::Deflate),
            other if NO_CODINGS.contains(&other) => {}
            other if CHARACTER_SETS.iter().any(|beginning| other.starts_with(beginning)) => {}
            other => return Err(ContentCodingError::Unknown(other.chars().take(NAME_SHOWN_MAX).collect())),
        }
    }
    if codings.len() > CODINGS_MAX { Err(ContentCodingError::TooMany(codings.len())) } else { Ok(codings) }
}

/// Decodes one or more members of gzip (RFC 1952).
fn gunzip(encoded: &[u8], max_bytes: usize) -> Result<Vec<u8>, ContentCodingError> {
    let beyond = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut decoded = Vec::new();
    let read = MultiGzDecoder::new(encoded).take(beyond).read_to_end(&mut decoded);
    read.map_err(|error| ContentCodingError::Broken { coding: "gzip", problem: error.to_string() })?;
    if decoded.len() > max_bytes { Err(ContentCodingError::TooLarge(max_bytes)) } else { Ok(decoded) }
}

/// Decodes the coding `deflate`. `deflate` means zlib (RFC 1950). Some senders use the bare format of RFC 1951 instead.
fn inflate(encoded: &[u8], max_bytes: usize) -> Result<Vec<u8>, ContentCodingError> {
    let broken = |problem: String| ContentCodingError::Broken { coding: "deflate", problem };
    let mut stream = Decompress::new(begins_as_zlib(encoded));
    let (mut decoded, mut rest) = (Vec::new(), encoded);
    loop {
        decoded.reserve(PART_BYTES);
        let (taken, made) = (stream.total_in(), stream.total_out());
        let status = stream.decompress_vec(rest, &mut decoded, FlushDecompress::None);
        let status = status.map_err(|error| broken(error.to_string()))?;
        if decoded.len() > max_bytes {
            return Err(ContentCodingError::TooLarge(max_bytes));
        }
        let newly_taken = usize::try_from(stream.total_in() - taken).unwrap_or(usize::MAX);
        rest = rest.get(newly_taken..).unwrap_or_default();
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(decoded),
            Status::StreamEnd => {
                return Err(broken(format!("{} bytes follow the end of the compressed data", rest.len())));
            }
            Status::Ok | Status::BufError if (stream.total_in(), stream.total_out()) == (taken, made) => {
                return Err(broken("the body ends too early".to_owned()));
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Whether the first two bytes are a header of zlib. The header consists of the method and a checksum of both bytes.
fn begins_as_zlib(encoded: &[u8]) -> bool {
    match encoded {
        [method, flags, ..] => method & 0x8f == 0x08 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use trunkline_support::compressed::{bare_deflate, gzip, zlib};

    use super::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn each_coding_is_undone_in_the_reverse_order() {
        let data = br#"{"order": 7}"#.repeat(1000);
        let table: [(&str, Vec<u8>); 11] = [
            ("gzip", gzip(&data)),
            (" GZIP ", gzip(&data)),
            ("x-gzip", gzip(&data)),
            ("gzip", [gzip(&data[..100]), gzip(&data[100..])].concat()),
            ("deflate", zlib(&data)),
            ("deflate", bare_deflate(&data)),
            ("gzip, deflate", zlib(&gzip(&data))),
            ("deflate,gzip", gzip(&bare_deflate(&data))),
            ("identity, gzip", gzip(&data)),
            ("gzip, utf-8", gzip(&data)),
            ("gzip:UTF-8", gzip(&data)),
        ];
        for (encoding, body) in table {
            assert_eq!(decode_content(encoding, &body, MAX), Ok(Some(data.clone())), "{encoding}");
        }
        assert_eq!(decode_content("gzip", &gzip(b""), MAX), Ok(Some(Vec::new())));
        assert_eq!(decode_content("deflate", &zlib(b""), MAX), Ok(Some(Vec::new())));
    }

    #[test]
    fn the_compression_of_kombu_is_undone() {
        let data = b"[[1, 2], {}, {}]".repeat(20);
        for body in [zlib(&data), gzip(&data)] {
            assert_eq!(decode_compression(KOMBU_GZIP, &body, MAX), Ok(Some(data.clone())));
            let beyond = Err(ContentCodingError::TooLarge(data.len() - 1));
            assert_eq!(decode_compression(KOMBU_GZIP, &body, data.len() - 1), beyond);
            let cut = decode_compression(KOMBU_GZIP, &body[..body.len() - 5], MAX);
            assert!(matches!(cut, Err(ContentCodingError::Broken { .. })), "{cut:?}");
            assert_eq!(decode_compression("gzip", &body, MAX), Ok(None), "another value has another meaning");
        }
        for body in [&data[..], b"", b"x"] {
            assert_eq!(decode_compression(KOMBU_GZIP, body, MAX), Ok(None), "the body is not compressed");
        }
    }

    #[test]
    fn names_without_compression_leave_the_body() {
        for encoding in [
            "",
            " , ",
            "identity",
            "utf-8",
            "UTF-8",
            "utf8",
            "utf_8",
            "us-ascii",
            "ISO-8859-1",
            "latin-1",
            "cp1252",
            "IBM437",
            "windows-1251",
            "KOI8-R",
            "GBK",
            "gb18030",
            "Big5",
            "Shift_JIS",
            "euc-jp",
            "none",
            "binary",
            "8bit",
        ] {
            assert_eq!(decode_content(encoding, b"{}", MAX), Ok(None), "{encoding}");
        }
        assert_eq!(decode_content("gzip", b"", MAX), Ok(None), "an empty body has no coding");
    }

    #[test]
    fn other_names_and_long_lists_are_refused() {
        for encoding in ["br", "zstd", "compress", "gzip, br", "base64", "\u{1f600}"] {
            let error = decode_content(encoding, b"{}", MAX).expect_err("unknown");
            assert!(matches!(error, ContentCodingError::Unknown(_)), "{encoding}: {error}");
        }
        let long = "é".repeat(200);
        assert_eq!(
            decode_content(&long, b"{}", MAX),
            Err(ContentCodingError::Unknown("é".repeat(NAME_SHOWN_MAX))),
            "the error text is short"
        );
        assert_eq!(decode_content("gzip,gzip,gzip,gzip,gzip", b"{}", MAX), Err(ContentCodingError::TooMany(5)));
    }

    #[test]
    fn broken_bodies_are_refused() {
        let data = b"some data, some data, some data".repeat(20);
        let (gzip, zlib) = (gzip(&data), zlib(&data));
        let mut wrong_sum = gzip.clone();
        let checksum = wrong_sum.len() - 8;
        wrong_sum[checksum] ^= 1;
        let mut wrong_zlib = zlib.clone();
        let checksum = wrong_zlib.len() - 1;
        wrong_zlib[checksum] ^= 1;
        let table: [(&str, Vec<u8>); 9] = [
            ("gzip", b"{}".to_vec()),
            ("gzip", data.clone()),
            ("gzip", gzip[..gzip.len() - 9].to_vec()),
            ("gzip", [&gzip[..], b"more"].concat()),
            ("gzip", wrong_sum),
            ("deflate", b"{\"a\":1}".to_vec()),
            ("deflate", zlib[..zlib.len() - 6].to_vec()),
            ("deflate", [&zlib[..], b"more"].concat()),
            ("deflate", wrong_zlib),
        ];
        for (encoding, body) in table {
            let error = decode_content(encoding, &body, MAX).expect_err("broken");
            assert!(matches!(error, ContentCodingError::Broken { .. }), "{encoding} {body:?}: {error}");
        }
    }

    #[test]
    fn the_bound_is_exact_and_a_bomb_ends_early() {
        let data = vec![0; MAX];
        for (encoding, body) in [("gzip", gzip(&data)), ("deflate", zlib(&data)), ("deflate", bare_deflate(&data))] {
            assert!(body.len() < MAX / 500, "{} bytes", body.len());
            assert_eq!(decode_content(encoding, &body, MAX), Ok(Some(data.clone())), "{encoding}");
            let beyond = Err(ContentCodingError::TooLarge(MAX - 1));
            assert_eq!(decode_content(encoding, &body, MAX - 1), beyond, "{encoding}");
        }
        // The first step alone is larger than the bound.
        let twice = gzip(&gzip(&vec![0; MAX << 6]));
        assert_eq!(decode_content("gzip, gzip", &twice, 1 << 10), Err(ContentCodingError::TooLarge(1 << 10)));
        assert_eq!(decode_content("gzip, gzip", &twice, MAX), Err(ContentCodingError::TooLarge(MAX)));
    }
}
