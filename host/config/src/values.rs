//! Durations and sizes as people write them.

use std::time::Duration;

/// `"500ms"`, `"5s"`, `"1h30m"`: numbers, each with a unit, largest first or not; no sign, no bare number.
///
/// # Errors
/// What is wrong, and what a duration looks like.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = r#"write a number and a unit, such as "500ms", "5s", "2m", "24h""#;
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
        .map_err(|()| format!("is no duration; {EXAMPLES}"))?;
    Duration::try_from(signed).map_err(|_| "is negative".to_owned())
}

/// jiff leaves days to calendars; here a day has 24 hours: `"7d"`, `"1d12h"`.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let (days, rest) = text.split_once('d')?;
    let days = jiff::SignedDuration::try_from_hours(days.trim().parse::<i64>().ok()?.checked_mul(24)?)?;
    match rest.trim() {
        "" => Some(days),
        rest => days.checked_add(rest.parse().ok()?),
    }
}

/// A duration in the largest unit that is exact.
pub(super) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match () {
        () if ms == 0 || !ms.is_multiple_of(1000) => format!("{ms}ms"),
        () if ms > 86_400_000 && ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        () if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        () if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        () => format!("{}s", ms / 1000),
    }
}

/// `"64MiB"` in bytes.
///
/// # Errors
/// What is wrong, and what a size looks like.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("has no unit; write \"{text}B\" for bytes or \"{text}KiB\""));
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(r#"is no size; write a number and a unit, such as "64KiB" or "1MiB""#.to_owned()),
    }
}

/// A size in the largest power of 1024 that is exact.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// `"100/s"`: how many, and in which time.
///
/// # Errors
/// What is wrong, and what a rate looks like.
pub(super) fn rate(text: &str) -> Result<(u32, Duration), String> {
    const EXAMPLES: &str = r#"write a number and a time, such as "100/s", "600/m" or "10/h""#;
    let (events, per) = text.trim().split_once('/').ok_or_else(|| format!("is no rate; {EXAMPLES}"))?;
    let per = match per.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("has no time after the stroke; {EXAMPLES}")),
    };
    match events.trim().parse::<u32>() {
        Ok(events) if (1..=1_000_000).contains(&events) => Ok((events, Duration::from_secs(per))),
        Ok(_) => Err("goes from 1 to 1000000 events in the time".to_owned()),
        Err(_) => Err(format!("is no rate; {EXAMPLES}")),
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
            ("100", "is no rate"),
            ("0/s", "goes from 1"),
            ("x/s", "is no rate"),
            ("5/fortnight", "has no time after the stroke"),
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
            ("five", "is no duration"),
            ("-5s", "is negative"),
            ("5 parsecs", "is no duration"),
            ("99999999999999999999d", "is no duration"),
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
            [("", "is no size"), ("64", "write \"64B\""), ("big", "is no size"), ("-1KiB", "is no size")]
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
