//! Compressed bodies, as senders with a `content-encoding` make them.

use std::io::Read;

use flate2::Compression;
use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// The coding `gzip` (RFC 1952).
#[must_use]
pub fn gzip(data: &[u8]) -> Vec<u8> {
    read_all(GzEncoder::new(data, Compression::best()))
}

/// The coding `deflate` in its standard form, which is zlib (RFC 1950).
#[must_use]
pub fn zlib(data: &[u8]) -> Vec<u8> {
    read_all(ZlibEncoder::new(data, Compression::best()))
}

/// The coding `deflate` in the bare form of RFC 1951, which some senders use.
#[must_use]
pub fn bare_deflate(data: &[u8]) -> Vec<u8> {
    read_all(DeflateEncoder::new(data, Compression::best()))
}

fn read_all(mut encoder: impl Read) -> Vec<u8> {
    let mut compressed = Vec::new();
    encoder.read_to_end(&mut compressed).expect("memory is always readable");
    compressed
}
