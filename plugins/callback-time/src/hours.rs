//! Business hours: from one time of the day to another, on some days of the week, in a fixed offset from UTC.

use trunkline_plugin::time::{Offset, Timestamp, parse_clock};
use trunkline_plugin::{Failure, config};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// The weekday of day 0: 1970-01-01 was a Thursday, and Monday is 0.
const FIRST_DAY: i64 = 3;

/// Business hours, at least one minute a week.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    pub(crate) offset: Offset,
    /// Minutes of the day; `opens` is before `closes`.
    opens: i64,
    closes: i64,
    /// Monday first.
    days: [bool; 7],
}

impl Hours {
    /// Reads `utc-offset` (Z), `opens` (09:00), `closes` (17:00) and `days` (mon-fri).
    pub(crate) fn from_config() -> Result<Self, Failure> {
        let clock = "not a time of the day such as 09:00";
        let hours = Self {
            offset: config::parsed("utc-offset", Offset::default(), "not an offset such as +01:00", Offset::parse)?,
            opens: config::parsed("opens", 9 * 60, clock, parse_clock)?,
            closes: config::parsed("closes", 17 * 60, clock, parse_clock)?,
            days: config::parsed(
                "days",
                [true, true, true, true, true, false, false],
                "not days such as mon-fri",
                days,
            )?,
        };
        if hours.opens >= hours.closes {
            return Err(Failure::retry("config \"opens\" is not before \"closes\""));
        }
        Ok(hours)
    }

    /// The same instant when it is within business hours, else the next opening.
    pub(crate) fn first_at_or_after(&self, time: Timestamp) -> Timestamp {
        let (today, minute) = (time.day(self.offset), time.minute_of_day(self.offset));
        if self.is_open_on(today) && (self.opens..self.closes).contains(&minute) {
            return time;
        }
        let from = if minute < self.opens { today } else { today + 1 };
        // At least one of seven days is open.
        let day = (from..from + 7).find(|day| self.is_open_on(*day)).unwrap_or(from);
        Timestamp::of_day(day, self.opens, self.offset)
    }

    fn is_open_on(&self, day: i64) -> bool {
        usize::try_from((day + FIRST_DAY).rem_euclid(7)).is_ok_and(|day| self.days[day])
    }
}

/// `mon-fri`, `mon,wed,fri`, `sat-tue`.
fn days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut open = [false; 7];
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        open[day] = true;
        while day != last {
            day = (day + 1) % 7;
            open[day] = true;
        }
    }
    Some(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_of_days() {
        let open = |text: &str| days(text).map(|open| open.map(u8::from));
        assert_eq!(open("mon-fri"), Some([1, 1, 1, 1, 1, 0, 0]));
        assert_eq!(open("mon, wed,sun"), Some([1, 0, 1, 0, 0, 0, 1]));
        assert_eq!(open("sat-tue"), Some([1, 1, 0, 0, 0, 1, 1]));
        for text in ["", "monday", "mon-", "mon-fri-sat"] {
            assert_eq!(open(text), None, "{text}");
        }
    }
}
