//! Phone numbers in the international form (E.164).

/// The number with these digits, such as `+420777123456`, if it is a number.
#[must_use]
pub fn e164(digits: &str) -> Option<String> {
    let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| format!("+{digits}"))
}

/// The calling code of a number: one digit for 1 and 7, two digits for the listed ones, else three.
#[must_use]
pub fn country_code(phone_number: &str) -> Option<String> {
    const TWO: [&str; 44] = [
        "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49",
        "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82", "84",
        "86", "90", "91", "92", "93", "94", "95", "98",
    ];
    let digits = phone_number.strip_prefix('+')?;
    let length = match digits.get(..2)? {
        two if two.starts_with(['1', '7']) => 1,
        two if TWO.contains(&two) => 2,
        _ => 3,
    };
    digits.get(..length).map(|code| format!("+{code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (digits, number) in [
            ("420777123456", Some("+420777123456")),
            ("1234", None),
            ("1234567890123456", None),
            ("+420777123456", None),
            ("not-a-number", None),
        ] {
            assert_eq!(e164(digits).as_deref(), number, "{digits}");
        }
    }

    #[test]
    fn calling_codes() {
        for (number, code) in [
            ("+420777123456", Some("+420")),
            ("+14155550100", Some("+1")),
            ("+79161234567", Some("+7")),
            ("+4915112345678", Some("+49")),
            ("+989121234567", Some("+98")),
            ("+3725123456", Some("+372")),
            ("420", None),
        ] {
            assert_eq!(country_code(number).as_deref(), code, "{number}");
        }
    }
}
