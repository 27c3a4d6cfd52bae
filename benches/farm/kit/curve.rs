//! A picture of rates against drives, both axes logarithmic, drawn as SVG.

/// A named line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// As the legend names it.
    pub(crate) name: String,
    /// Drives, and megabytes a second.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;

/// Colours that stay apart for eyes that see few, the limit first in grey.
const COLOURS: [&str; 7] = [
    "#888888", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let span = (self.high / self.low).ln().max(f64::EPSILON);
        self.from + (value / self.low).ln() / span * (self.to - self.from)
    }
}

/// Draws the lines.
pub(crate) fn svg(lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
    let least = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::MAX, f64::min);
    let x = Axis {
        low: least(|point| point.0),
        high: most(|point| point.0).max(2.0),
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let y = Axis {
        low: least(|point| point.1) * 0.8,
        high: most(|point| point.1) * 1.2,
        from: HEIGHT - BOTTOM,
        to: TOP,
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let mut ticks: Vec<f64> = all().map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    for tick in ticks {
        let at = x.at(tick);
        out += &format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#eeeeee\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>\n",
            y.from,
            y.from + 18.0
        );
    }
    for tick in [
        10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0,
    ] {
        if tick < y.low || tick > y.high {
            continue;
        }
        let at = y.at(tick);
        out += &format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#eeeeee\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>\n",
            x.to,
            LEFT - 8.0,
            at + 4.0
        );
    }
    out += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">drives</text>\
         <text x=\"{LEFT}\" y=\"18\" text-anchor=\"middle\">MB/s in all</text>\n",
        f64::midpoint(x.from, x.to),
        HEIGHT - 10.0
    );
    for (at, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1)))
            .collect();
        let dash = if at == 0 {
            " stroke-dasharray=\"6 4\""
        } else {
            ""
        };
        #[allow(clippy::cast_precision_loss, reason = "a handful of lines")]
        let row = TOP + 16.0 + 22.0 * at as f64;
        out += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"{dash}/>\n\
             <line x1=\"{:.1}\" y1=\"{row}\" x2=\"{:.1}\" y2=\"{row}\" stroke=\"{colour}\" \
             stroke-width=\"2.5\"{dash}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            points.join(" "),
            WIDTH - RIGHT + 14.0,
            WIDTH - RIGHT + 40.0,
            WIDTH - RIGHT + 46.0,
            row + 4.0,
            line.name.replace('&', "&amp;").replace('<', "&lt;")
        );
    }
    out + "</svg>\n"
}
