//! The table of the figures, as text for a terminal.

use super::figures::{Figure, Target, spread};

/// The lines of the table. The columns are as wide as their longest cell.
pub(crate) fn text(figures: &[Figure]) -> String {
    let head = ["row", "figure", "trunkline", "peer", "compared (min to max)", "target", ""].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(figures.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The cells of a figure: row, figure, value, peer, ratio, target, result.
pub(crate) fn cells(figure: &Figure) -> [String; 7] {
    let peer = figure.peer.as_ref().map(|(name, values)| format!("{} {name}", number(spread(values).median)));
    let compared = figure.compared();
    let median = number(compared.median);
    // One measurement without a peer has no rounds.
    let range = if figure.peer.is_none() && figure.ours.len() == 1 {
        median
    } else {
        format!("{median} ({} to {})", number(compared.min), number(compared.max))
    };
    let result = figure.is_met().map(|is_met| if is_met { "met" } else { "missed" });
    [
        figure.row.to_owned(),
        figure.name.clone(),
        number(spread(&figure.ours).median),
        peer.unwrap_or_default(),
        range,
        target(figure.target),
        result.unwrap_or_default().to_owned(),
    ]
}

fn target(target: Target) -> String {
    match target {
        Target::AtLeast(limit) => format!("at least {}", number(limit)),
        Target::AtMost(limit) => format!("at most {}", number(limit)),
        Target::None => String::new(),
    }
}

/// A number with about three digits, and with a space between thousands.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    grouped.push(' ');
                }
                grouped.push(digit);
            }
            grouped
        }
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _small => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits() {
        let shown = [0.0, 0.456, 4.0, 45.67, 456.7, 4567.8, 1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.46", "4.00", "45.7", "457", "4 568", "1 234 567"]);
    }

    #[test]
    fn a_missed_target_is_seen_in_the_table() {
        let figure = |target| Figure {
            row: "rabbitmq",
            name: "messages a second".to_owned(),
            ours: vec![5000.0],
            peer: Some(("lapin".to_owned(), vec![10_000.0])),
            target,
        };
        let shown = text(&[figure(Target::AtLeast(0.9)), figure(Target::AtLeast(0.4)), figure(Target::None)]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].ends_with("10 000 lapin  0.50 (0.50 to 0.50)    at least 0.90  missed"), "{}", lines[1]);
        assert!(lines[2].ends_with("at least 0.40  met"), "{}", lines[2]);
        assert!(lines[3].ends_with("0.50 (0.50 to 0.50)"), "{}", lines[3]);
    }
}
