//! The figures of a run: the rounds of the daemon and of its peer, their ratio with its spread, and the target of the ratio.

/// The limit that a figure has to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// A figure that is only shown.
    None,
}

/// The middle of several rounds, and the smallest and the largest round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One figure: the values of the rounds, and the values of the peer in the same rounds.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// The row of the benchmark.
    pub(crate) row: &'static str,
    /// The figure, with its unit.
    pub(crate) name: String,
    pub(crate) ours: Vec<f64>,
    /// The name of the peer and its values. Without a peer, the target is for the value itself.
    pub(crate) peer: Option<(String, Vec<f64>)>,
    pub(crate) target: Target,
}

impl Figure {
    /// The figure that the target is for: the ratio to the peer, or the value itself. The ratio is taken in each round.
    pub(crate) fn compared(&self) -> Spread {
        match &self.peer {
            Some((_, peer)) => {
                let ratios = self.ours.iter().zip(peer).map(|(ours, peer)| ours / peer.max(f64::MIN_POSITIVE));
                spread(&ratios.collect::<Vec<_>>())
            }
            None => spread(&self.ours),
        }
    }

    /// The name of the figure among all rows.
    pub(crate) fn key(&self) -> String {
        let peer = self.peer.as_ref().map(|(name, _)| format!(", {name}"));
        format!("{}, {}{}", self.row, self.name, peer.unwrap_or_default())
    }

    /// Whether the target is met; none for a figure without a target.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let median = self.compared().median;
        match self.target {
            Target::AtLeast(limit) => Some(median >= limit),
            Target::AtMost(limit) => Some(median <= limit),
            Target::None => None,
        }
    }
}

/// The median, the smallest and the largest of some values; zeros without values.
pub(crate) fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _even => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    let [min, max] = [sorted.first(), sorted.last()].map(|end| end.copied().unwrap_or_default());
    Spread { median, min, max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_between_the_middle_ones() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(spread(&[]).median, 0.0);
    }

    #[test]
    fn a_ratio_is_taken_in_each_round() {
        let figure = Figure {
            row: "rabbitmq",
            name: "msg/s".to_owned(),
            ours: vec![5.0, 20.0, 9.0],
            peer: Some(("lapin".to_owned(), vec![10.0, 20.0, 10.0])),
            target: Target::AtLeast(0.9),
        };
        assert_eq!(figure.compared(), Spread { median: 0.9, min: 0.5, max: 1.0 });
        assert_eq!(figure.is_met(), Some(true));
        assert_eq!(Figure { target: Target::AtMost(0.8), ..figure }.is_met(), Some(false));
    }
}
