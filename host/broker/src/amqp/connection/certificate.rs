//! The end of a certificate's validity. Only this one field of a certificate is read, for a metric. rustls has checked the certificate
//! before.

/// Tags of DER (X.690).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The optional version of a certificate.
const VERSION: u8 = 0xa0;

/// The end of the validity of a certificate in DER (RFC 5280 section 4.1), in seconds since the Unix epoch. `None` for bytes that are
/// not a certificate.
pub(crate) fn expiry(certificate: &[u8]) -> Option<u64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, algorithm and issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, rest) = element(validity, UTC_TIME).or_else(|| element(validity, GENERALIZED_TIME))?;
    let time = match element(rest, UTC_TIME) {
        // Years from 50 on are those of the 20th century.
        Some((text, _)) => [if *text.first()? >= b'5' { &b"19"[..] } else { b"20" }, text].concat(),
        None => element(rest, GENERALIZED_TIME)?.0.to_vec(),
    };
    seconds(std::str::from_utf8(&time).ok()?)
}

/// The content of the first element, which must have this tag, and the bytes after the element.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // The length has so many bytes. A certificate is far shorter than 2^32 bytes.
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (digits.iter().fold(0_usize, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The seconds of a time in the form `YYYYMMDDHHMMSSZ`.
fn seconds(text: &str) -> Option<u64> {
    let is_time = |digits: &&str| digits.len() == 14 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let digits = text.strip_suffix('Z').filter(is_time)?;
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    // A year begins in March, so that the leap day is its last day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_to_march = year * 365 + year / 4 - year / 100 + year / 400;
    let days = days_to_march + (month * 153 + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of DER, with a length of as many bytes as necessary.
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        let length = match content.len() {
            short @ 0..=0x7f => vec![u8::try_from(short).expect("short")],
            0x80..0x100 => vec![0x81, length[1]],
            _ => vec![0x82, length[0], length[1]],
        };
        [&[tag][..], &length, content].concat()
    }

    fn certificate(version: &[u8], not_after: &[u8], rest: &[u8]) -> Vec<u8> {
        let validity = [&tlv(UTC_TIME, b"200101000000Z")[..], not_after].concat();
        let parts = [version, &tlv(INTEGER, &[1]), &tlv(SEQUENCE, b"alg"), &tlv(SEQUENCE, b"issuer")].concat();
        let body = [&parts[..], &tlv(SEQUENCE, &validity), rest].concat();
        tlv(SEQUENCE, &[&tlv(SEQUENCE, &body)[..], b"signature"].concat())
    }

    #[test]
    fn the_end_of_the_validity_is_read() {
        let version = tlv(VERSION, &tlv(INTEGER, &[2]));
        for (tag, text, expected) in [
            (UTC_TIME, &b"261129204121Z"[..], 1_795_984_881),
            (UTC_TIME, b"700101000000Z", 0),
            (UTC_TIME, b"240229235959Z", 1_709_251_199),
            (GENERALIZED_TIME, b"20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, b"21000301000000Z", 4_107_542_400),
        ] {
            for (version, rest) in [(&version[..], vec![0; 300]), (&[], Vec::new())] {
                let found = expiry(&certificate(version, &tlv(tag, text), &rest));
                assert_eq!(found, Some(expected), "{}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn other_bytes_have_no_expiry() {
        let good = certificate(&[], &tlv(UTC_TIME, b"261129204121Z"), &[]);
        for length in 0..good.len() {
            assert_eq!(expiry(&good[..length]), None, "the first {length} bytes");
        }
        for text in [&b"2611292041Z"[..], b"26112920412xZ", b"261329204121Z", b"261129204121+0100"] {
            assert_eq!(expiry(&certificate(&[], &tlv(UTC_TIME, text), &[])), None);
        }
        assert_eq!(expiry(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
