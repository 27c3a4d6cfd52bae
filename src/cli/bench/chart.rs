//! Charts as SVG, drawn here so that a page needs nothing from anywhere.

use super::figures::latency;
use super::markup::escape;
use crate::cli::text::push;
use crate::cli::units::{rate, whole};

/// Width of every chart, in its own units.
const WIDTH: f64 = 760.0;
/// Room for names on the left and figures on the right.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 110.0;
/// Height of a bar with its gap.
const STEP: f64 = 24.0;
/// Height of a chart of lines.
const HEIGHT: f64 = 240.0;
/// Below and above the lines.
const MARGIN: f64 = 28.0;
/// Colours of lines, from the page's style.
const HUES: usize = 6;
/// Most names beside lines, and the height of one.
pub(super) const NAMES_MAX: usize = 12;
const LINE: f64 = 13.0;

/// One bar, with the range of its samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    /// Whether it stands out for the worse.
    pub(super) bad: bool,
}

/// Three marks in nanoseconds, from the least to the most.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) marks: [u64; 3],
}

/// One line, by whole numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(usize, f64)>,
    /// Whether it is only for comparison.
    pub(super) faint: bool,
}

/// Returns bars, one below the other; nothing when there is none.
pub(super) fn bars(bars: &[Bar]) -> String {
    let most = bars
        .iter()
        .map(|bar| bar.most.max(bar.value))
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let height = float(bars.len()) * STEP + 4.0;
    let mut svg = open(height, "rates, with the range of their samples");
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    for (index, bar) in bars.iter().enumerate() {
        let class = if bar.bad { "bar bad" } else { "bar" };
        let top = float(index) * STEP + 4.0;
        let middle = top + 8.0;
        let text = middle + 4.0;
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>\
                 <rect class=\"{class}\" x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"16\"/>",
                LEFT - 8.0,
                escape(&shortened(&bar.name)),
                x(bar.value) - LEFT,
            ),
        );
        if bar.most > bar.least {
            push(
                &mut svg,
                format_args!(
                    "<line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.0}\" \
                     y2=\"{middle:.0}\"/>",
                    x(bar.least),
                    x(bar.most),
                ),
            );
        }
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{text:.0}\">{}</text>",
                x(bar.most.max(bar.value)) + 6.0,
                rate(whole(bar.value)),
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns lines over a scale that doubles at each step; nothing when there is no point.
pub(super) fn lines(lines: &[Line], scale: &str) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let last = points().map(|(at, _)| *at).max().unwrap_or(0);
    if most <= 0.0 || last == 0 {
        return String::new();
    }
    let mut svg = open(HEIGHT, scale);
    let wide = float(last).log2().max(1.0);
    let x = |at: usize| LEFT + float(at.max(1)).log2() / wide * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - MARGIN - value / most * (HEIGHT - 2.0 * MARGIN);
    for share in [0.0, 0.5, 1.0] {
        let (at, figure) = (y(most * share), rate(whole(most * share)));
        push(
            &mut svg,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT:.0}\" x2=\"{:.0}\" y1=\"{at:.0}\" y2=\"{at:.0}\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{figure}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
            ),
        );
    }
    let mut ticks: Vec<usize> = points().map(|(at, _)| *at).collect();
    ticks.sort_unstable();
    ticks.dedup();
    for tick in ticks {
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{tick}</text>",
                x(tick),
                HEIGHT - 10.0,
            ),
        );
    }
    push(
        &mut svg,
        format_args!(
            "<text x=\"8\" y=\"{:.0}\">{}</text>",
            HEIGHT - 10.0,
            escape(scale)
        ),
    );
    let mut names = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let class = match (line.faint, index % HUES) {
            (true, _) => "two".to_owned(),
            (false, 0) => "one".to_owned(),
            (false, hue) => format!("one h{hue}"),
        };
        let place = |(at, value): &(usize, f64)| format!("{:.1},{:.1}", x(*at), y(*value));
        let places: Vec<String> = line.points.iter().map(place).collect();
        let class = if lines.len() > NAMES_MAX {
            format!("{class} many")
        } else {
            class
        };
        push(
            &mut svg,
            format_args!(
                "<polyline class=\"{class}\" points=\"{}\"/>",
                places.join(" ")
            ),
        );
        // A line of one point is none, and what was measured are the points.
        for (at, value) in line.points.iter().filter(|_| lines.len() <= NAMES_MAX) {
            push(
                &mut svg,
                format_args!(
                    "<circle class=\"pt\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
                    x(*at),
                    y(*value)
                ),
            );
        }
        if let Some((at, value)) = line.points.last() {
            names.push((x(*at) + 6.0, y(*value) + 4.0, &line.name));
        }
    }
    for (x, y, name) in apart(names) {
        let name = escape(&shortened(name));
        push(
            &mut svg,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>"),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Moves names down so that none lies on another; of many, only the first and the last are kept.
fn apart(mut names: Vec<(f64, f64, &String)>) -> Vec<(f64, f64, &String)> {
    names.sort_by(|a, b| a.1.total_cmp(&b.1));
    if names.len() > NAMES_MAX {
        let last = names.pop();
        names.truncate(1);
        names.extend(last);
    }
    let mut free = 0.0;
    for (_, y, _) in &mut names {
        *y = y.max(free);
        free = *y + LINE;
    }
    let mut room = HEIGHT - MARGIN + LINE / 2.0;
    for (_, y, _) in names.iter_mut().rev() {
        *y = y.min(room);
        room = *y - LINE;
    }
    names
}

/// Returns marks of each on a scale of powers of ten; nothing when there is none.
pub(super) fn spans(spans: &[Span]) -> String {
    let marks = || {
        spans
            .iter()
            .flat_map(|span| span.marks)
            .filter(|&ns| ns > 0)
    };
    let (Some(least), Some(most)) = (marks().min(), marks().max()) else {
        return String::new();
    };
    let (low, high) = (least.ilog10(), most.ilog10() + 1);
    let wide = f64::from(high - low);
    #[allow(clippy::cast_precision_loss, reason = "a place in a chart")]
    let x = |ns: u64| {
        let share = ((ns.max(1) as f64).log10() - f64::from(low)) / wide;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let bottom = float(spans.len()) * STEP + 4.0;
    let mut svg = open(bottom + 20.0, "latencies");
    for power in low..=high {
        let ns = 10_u64.saturating_pow(power);
        push(
            &mut svg,
            format_args!(
                "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{bottom:.0}\"/>\
                 <text x=\"{0:.1}\" y=\"{1:.0}\" text-anchor=\"middle\">{2}</text>",
                x(ns),
                bottom + 14.0,
                latency(ns),
            ),
        );
    }
    for (index, span) in spans.iter().enumerate() {
        let y = float(index) * STEP + 12.0;
        let [half, most, all] = span.marks.map(x);
        push(
            &mut svg,
            format_args!(
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
                 <line class=\"span\" x1=\"{half:.1}\" x2=\"{all:.1}\" y1=\"{y:.0}\" y2=\"{y:.0}\"/>",
                LEFT - 8.0,
                y + 4.0,
                escape(&shortened(&span.name)),
            ),
        );
        for (at, radius) in [(half, 5), (most, 4), (all, 3)] {
            push(
                &mut svg,
                format_args!("<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{y:.0}\" r=\"{radius}\"/>"),
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn open(height: f64, about: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(about)
    )
}

/// A name that fits beside a chart.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 20 {
        return name.to_owned();
    }
    let kept: String = name.chars().take(18).collect();
    format!("{kept}..")
}

#[allow(clippy::cast_precision_loss, reason = "a place in a chart")]
fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_takes_all_the_room() {
        let bar = |name: &str, value: f64| Bar {
            name: name.to_owned(),
            value,
            least: value,
            most: value,
            bad: value < 100e6,
        };
        let svg = bars(&[bar("a", 200e6), bar("b", 50e6)]);
        assert!(
            svg.contains("\"bar\" x=\"150\" y=\"4\" width=\"500.0\"")
                && svg.contains("\"bar bad\" x=\"150\" y=\"28\" width=\"125.0\""),
            "{svg}"
        );
        assert!(svg.contains("200 MB/s") && svg.contains("50.0 MB/s"));
        assert!(!svg.contains("whisker"), "no range, no whisker");
        assert_eq!(bars(&[]), "");
    }

    #[test]
    fn a_line_goes_from_the_left_to_the_right() {
        let line = Line {
            name: "a name that is far too long for it".to_owned(),
            points: vec![(1, 1e6), (2, 2e6), (4, 2e6)],
            faint: false,
        };
        let svg = lines(&[line], "drives");
        assert!(
            svg.contains("points=\"150.0,120.0 400.0,28.0 650.0,28.0\""),
            "{svg}"
        );
        assert!(svg.contains("a name that is far.."));
        assert_eq!(svg.matches("<circle").count(), 3);
        let point = Line {
            points: vec![(1, 1e6)],
            ..Line::default()
        };
        assert!(lines(&[point], "drives").contains("cx=\"150.0\" cy=\"28.0\""));
        assert_eq!(lines(&[Line::default()], "x"), "");
    }

    #[test]
    fn names_of_lines_do_not_lie_on_each_other() {
        let (a, b, c) = ("a".to_owned(), "b".to_owned(), "c".to_owned());
        let names = vec![(1.0, 50.0, &a), (1.0, 40.0, &b), (1.0, 41.0, &c)];
        let placed = [(1.0, 40.0, &b), (1.0, 53.0, &c), (1.0, 66.0, &a)];
        assert_eq!(apart(names), placed);
        let low = vec![(1.0, 210.0, &a), (1.0, 215.0, &b), (1.0, 216.0, &c)];
        let placed = [(1.0, 192.5, &a), (1.0, 205.5, &b), (1.0, 218.5, &c)];
        assert_eq!(apart(low), placed, "nothing lies on the scale below");
        let many: Vec<_> = (0..60_u8).map(|n| (1.0, f64::from(n), &a)).collect();
        assert_eq!(apart(many), [(1.0, 0.0, &a), (1.0, 59.0, &a)]);
    }

    #[test]
    fn latencies_stand_on_powers_of_ten() {
        let span = Span {
            name: "sda".to_owned(),
            marks: [100_000, 1_000_000, 10_000_000],
        };
        let svg = spans(&[span]);
        // From 100 us to 100 ms: three steps over 500.
        for x in ["150.0", "316.7", "483.3"] {
            assert!(svg.contains(&format!("cx=\"{x}\"")), "{x}: {svg}");
        }
        assert_eq!(spans(&[Span::default()]), "");
    }
}
