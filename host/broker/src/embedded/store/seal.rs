//! Records with a checksum, so that a record that the disk changed is never taken for the written one. The checksum
//! covers the key, so a record under another key counts as damaged too.

/// First byte of a sealed record. Records of earlier versions are not sealed and begin with 1.
const SEALED: u8 = 2;
/// Length of the first byte and the checksum (CRC-32 of IEEE 802.3, little-endian).
const HEAD: usize = 5;

/// Seals a record for a key in a buffer that is used again. `record` appends the record itself.
pub(crate) fn seal(buffer: &mut Vec<u8>, key: (u64, u64), record: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let mut sealed = std::mem::take(buffer);
    sealed.clear();
    sealed.extend([SEALED, 0, 0, 0, 0]);
    sealed = record(sealed);
    let sum = checksum(key, &sealed[HEAD..]);
    sealed[1..HEAD].copy_from_slice(&sum.to_le_bytes());
    *buffer = sealed;
}

/// Checks a sealed record, and returns the record inside.
pub(crate) fn unseal(key: (u64, u64), bytes: &[u8]) -> Result<&[u8], String> {
    match bytes {
        [SEALED, a, b, c, d, record @ ..] => match checksum(key, record) == u32::from_le_bytes([*a, *b, *c, *d]) {
            true => Ok(record),
            false => Err(format!("record {key:?} is damaged: the checksum does not match")),
        },
        [SEALED, ..] => Err(format!("record {key:?} is damaged: the record is cut short")),
        _ => Ok(bytes),
    }
}

fn checksum((one, two): (u64, u64), record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&one.to_le_bytes());
    hasher.update(&two.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_seen() {
        let mut sealed = b"what was there before".to_vec();
        seal(&mut sealed, (1, 2), |mut buffer| {
            buffer.extend(b"\x01record");
            buffer
        });
        assert_eq!(unseal((1, 2), &sealed), Ok(&b"\x01record"[..]));
        assert!(unseal((1, 3), &sealed).is_err());
        for bit in 8..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal((1, 2), &changed).is_err(), "bit {bit}");
        }
        assert_eq!(unseal((1, 2), b"\x01of before"), Ok(&b"\x01of before"[..]));
    }
}
