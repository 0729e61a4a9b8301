//! Durations, sizes and rates as text.

use std::time::Duration;

/// Reads `"500ms"`, `"5s"` or `"1h30m"`: numbers with units in any order, without a sign.
///
/// # Errors
/// The problem, and the form of a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = r#"write numbers with units, such as "500ms", "5s", "2m" or "24h""#;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("is empty; {EXAMPLES}"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("has no unit; write \"{text}s\" for seconds or \"{text}ms\" for milliseconds"));
    }
    let signed = text
        .parse::<jiff::SignedDuration>()
        .or_else(|_| days(text).ok_or(()))
        .map_err(|()| format!("is not a duration; {EXAMPLES}"))?;
    Duration::try_from(signed).map_err(|_| format!("is negative; {EXAMPLES}"))
}

/// Reads `"7d"` or `"1d12h"`. A day has 24 hours; jiff has no days outside of calendars.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let (days, rest) = text.split_once('d')?;
    let days = jiff::SignedDuration::try_from_hours(days.trim().parse::<i64>().ok()?.checked_mul(24)?)?;
    match rest.trim() {
        "" => Some(days),
        rest => days.checked_add(rest.parse().ok()?),
    }
}

/// Writes a duration in the largest unit that is exact.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match () {
        () if ms == 0 || !ms.is_multiple_of(1000) => format!("{ms}ms"),
        () if ms > 86_400_000 && ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        () if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        () if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        () => format!("{}s", ms / 1000),
    }
}

/// Reads `"64MiB"`, in bytes.
///
/// # Errors
/// The problem, and the form of a size.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("has no unit; write \"{text}B\" for bytes or \"{text}KiB\" for units of 1024 bytes"));
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(r#"is not a size; write a number with a unit, such as "64KiB" or "1MiB""#.to_owned()),
    }
}

/// Writes a size in the largest power of 1024 that is exact.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// Reads `"100/s"`: a number and a time.
///
/// # Errors
/// The problem, and the form of a rate.
pub(crate) fn rate(text: &str) -> Result<(u32, Duration), String> {
    const EXAMPLES: &str = r#"write the number of events and a unit of time, such as "100/s", "600/m" or "10/h""#;
    let (events, per) = text.trim().split_once('/').ok_or_else(|| format!("is not a rate; {EXAMPLES}"))?;
    let per = match per.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("has no unit of time after the slash; {EXAMPLES}")),
    };
    match events.trim().parse::<u32>() {
        Ok(events) if (1..=1_000_000).contains(&events) => Ok((events, Duration::from_secs(per))),
        Ok(_) => Err("has a number outside of the range from 1 to 1000000; write a rate such as \"100/s\"".to_owned()),
        Err(_) => Err(format!("is not a rate; {EXAMPLES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate("100/s"), Ok((100, Duration::from_secs(1))));
        assert_eq!(rate(" 10 / h"), Ok((10, Duration::from_secs(3600))));
        for (text, wanted) in [
            ("100", "is not a rate"),
            ("0/s", "a number outside of the range"),
            ("x/s", "is not a rate"),
            ("5/fortnight", "has no unit of time after the slash"),
        ] {
            let error = rate(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            (" 5 s ", 5_000),
            ("2m", 120_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1d12h", 129_600_000),
            ("1.5s", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, wanted) in [
            ("", "is empty"),
            ("5", "write \"5s\" for seconds"),
            ("five", "is not a duration"),
            ("-5s", "is negative"),
            ("5 parsecs", "is not a duration"),
            ("99999999999999999999d", "is not a duration"),
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("64KiB", 65_536), ("1MiB", 1 << 20), ("1 MB", 1_000_000), ("10B", 10), ("1.5KiB", 1536)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, wanted) in
            [("", "is not a size"), ("64", "write \"64B\""), ("big", "is not a size"), ("-1KiB", "is not a size")]
        {
            let error = size(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["500ms", "5s", "2m", "24h", "90s", "7d"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
        for text in ["10B", "64KiB", "1MiB", "4GiB", "1025B"] {
            assert_eq!(show_size(size(text).expect(text)), text);
        }
    }
}
