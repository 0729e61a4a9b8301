//! Line plots as SVG files, with text that is readable on light and on dark pages.

use super::table::number;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// The space around the plot for the texts: left, right, top, bottom.
const SPACE: [f64; 4] = [84.0, 24.0, 48.0, 56.0];
/// The lines that divide the vertical axis.
const STEPS: u32 = 4;
/// The colours of the lines, which contrast with white and with black.
const COLOURS: [&str; 4] = ["#2f7ed8", "#d9661f", "#3a9e4b", "#a05fc4"];

/// A plot: its texts and its lines. The horizontal axis is logarithmic, because the figures grow over orders of magnitude.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) horizontal: &'static str,
    pub(crate) vertical: &'static str,
    pub(crate) lines: Vec<PlotLine>,
}

/// One line of a plot: points from left to right, each with a positive place on the horizontal axis.
#[derive(Debug, Clone)]
pub(crate) struct PlotLine {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The ranges of the axes.
struct Axes {
    left: f64,
    right: f64,
    top: f64,
}

impl Axes {
    fn of(plot: &Plot) -> Self {
        let points = || plot.lines.iter().flat_map(|line| line.points.iter().copied());
        let left = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
        let right = points().map(|(x, _)| x).fold(0.0, f64::max);
        let top = points().map(|(_, y)| y).fold(0.0, f64::max);
        Self { left, right, top: round_up(top) }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value / self.left).ln() / (self.right / self.left).ln().max(f64::MIN_POSITIVE);
        SPACE[0] + part * (WIDTH - SPACE[0] - SPACE[1])
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - SPACE[3] - value / self.top * (HEIGHT - SPACE[2] - SPACE[3])
    }
}

/// The next number of the form 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(value)
}

/// The text of an SVG file.
pub(crate) fn svg(plot: &Plot) -> String {
    let axes = Axes::of(plot);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text {{ fill: #768390 }} .grid {{ stroke: #76839055 }} .axis {{ stroke: #768390 }}</style>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n",
        title = escaped(&plot.title),
        left = SPACE[0],
    );
    text += &grid(plot, &axes);
    for (index, line) in plot.lines.iter().enumerate() {
        text += &drawn(line, &axes, COLOURS[index % COLOURS.len()], index);
    }
    text + "</svg>\n"
}

/// The axes with their numbers and names.
fn grid(plot: &Plot, axes: &Axes) -> String {
    let (left, right) = (SPACE[0], WIDTH - SPACE[1]);
    let (top, bottom) = (SPACE[2], HEIGHT - SPACE[3]);
    let mut text = String::new();
    for step in 0..=STEPS {
        let value = axes.top * f64::from(step) / f64::from(STEPS);
        let y = axes.y(value);
        text += &format!(
            "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\n\
             <text x=\"{at}\" y=\"{base:.1}\" text-anchor=\"end\">{label}</text>\n",
            at = left - 8.0,
            base = y + 4.0,
            label = number(value),
        );
    }
    let mut places: Vec<f64> = plot.lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x)).collect();
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    for place in places {
        let x = axes.x(place);
        text += &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", bottom + 18.0, whole(place));
    }
    text += &format!(
        "<line class=\"axis\" x1=\"{left}\" y1=\"{top}\" x2=\"{left}\" y2=\"{bottom}\"/>\n\
         <line class=\"axis\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\n\
         <text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>\n\
         <text x=\"16\" y=\"{height}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {height})\">{}</text>\n",
        escaped(plot.horizontal),
        escaped(plot.vertical),
        middle = f64::midpoint(left, right),
        below = HEIGHT - 14.0,
        height = f64::midpoint(top, bottom),
    );
    text
}

/// A line with its points and its name.
fn drawn(line: &PlotLine, axes: &Axes, colour: &str, index: usize) -> String {
    let places: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (axes.x(*x), axes.y(*y))).collect();
    let path = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let mut text = format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n");
    for (x, y) in places {
        text += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n");
    }
    #[expect(clippy::cast_precision_loss, reason = "a plot has few lines")]
    let left = SPACE[0] + 140.0 * index as f64;
    text + &format!(
        "<rect x=\"{left}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n<text x=\"{}\" y=\"39\">{}</text>\n",
        left + 15.0,
        escaped(&line.name)
    )
}

/// A place on the horizontal axis, with the usual signs for thousands and millions of bytes and events.
fn whole(value: f64) -> String {
    match value {
        large if large >= 1_048_576.0 => format!("{:.0} Mi", large / 1_048_576.0),
        middle if middle >= 1024.0 => format!("{:.0} Ki", middle / 1024.0),
        _small => format!("{value:.0}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_are_inside_of_the_axes() {
        let line = |name: &str, points: &[(f64, f64)]| PlotLine { name: name.to_owned(), points: points.to_vec() };
        let plot = Plot {
            title: "a & b".to_owned(),
            horizontal: "bytes",
            vertical: "events a second",
            lines: vec![line("one", &[(100.0, 9_000.0), (1_048_576.0, 480.0)]), line("two", &[(1024.0, 4.0)])],
        };
        let text = svg(&plot);
        assert!(text.contains("points=\"84.0,73.6 616.0,291.7\""), "{text}");
        assert!(text.contains(">1 Mi</text>") && text.contains(">10 000</text>"), "{text}");
        assert!(text.contains("a &amp; b") && !text.contains("NaN") && !text.contains("script"), "{text}");
    }

    #[test]
    fn the_top_of_the_axis_is_a_round_number() {
        assert_eq!([0.3, 9.0, 11.0, 2100.0, 4.0].map(round_up), [0.5, 10.0, 20.0, 2500.0, 5.0]);
    }
}
