//! The day after an RFC 3339 time, by its own date. A few lines instead of a date library: a plugin's size is start-up
//! time for every event.

/// `YYYY-MM-DD` of the next day.
pub(crate) fn day_after(time: Option<&str>) -> Option<String> {
    let (year, month, day) = date(time?)?;
    let next = if day < days_in(year, month) {
        (year, month, day + 1)
    } else if month < 12 {
        (year, month + 1, 1)
    } else {
        (year + 1, 1, 1)
    };
    Some(format!("{:04}-{:02}-{:02}", next.0, next.1, next.2))
}

fn date(time: &str) -> Option<(u32, u32, u32)> {
    let (date, rest) = time.split_at_checked(10)?;
    if !rest.starts_with(['T', 't', ' ']) {
        return None;
    }
    let mut parts = date.split('-');
    let mut part = |digits: usize| {
        // `parse` alone would take a sign.
        let is_number = |part: &&str| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        parts.next().filter(is_number)?.parse::<u32>().ok()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    is_date.then_some((year, month, day))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}
