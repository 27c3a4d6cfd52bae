//! Many drives at once, on a page: the curve, and a table of its steps.

use super::chart::{Line, lines};
use super::figures::spread;
use super::html::table;
use crate::bench::report::{Report, TogetherStep};
use crate::bench::words::{list, percent};
use crate::cli::units::{rate, whole};

/// Returns that part of the page; nothing when no step was measured.
pub(super) fn render(report: &Report) -> String {
    let steps = report
        .together
        .as_ref()
        .map_or(&[][..], |together| &together.steps);
    if steps.is_empty() {
        return String::new();
    }
    let mut page = "<h2>Reading, together</h2>\n".to_owned();
    let line = |name: &str, faint: bool, pick: &dyn Fn(&TogetherStep) -> f64| Line {
        name: name.to_owned(),
        points: steps.iter().map(|step| (step.count, pick(step))).collect(),
        faint,
    };
    let told = [
        line("at once", false, &|step| step.rate),
        line("sum one by one", true, &|step| step.alone),
    ];
    page.push_str(&lines(&told, "drives at once"));
    let rows = steps.iter().map(|step| {
        vec![
            list(&step.subjects),
            step.count.to_string(),
            rate(whole(step.rate)),
            spread(step.rate_min, step.rate_max),
            percent(step.efficiency()),
            percent(step.busy),
        ]
    });
    let titles = [
        "which",
        "drives",
        "rate",
        "slowest..fastest",
        "of the sum alone",
        "processors busy",
    ];
    table(&mut page, &titles, 1, rows);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Together;

    #[test]
    fn steps_are_told_with_who_they_are() {
        let step = |count: usize, rate: f64, alone: f64| TogetherStep {
            count,
            subjects: ["sda", "s<b", "sdc"]
                .iter()
                .take(count)
                .map(|n| (*n).to_owned())
                .collect(),
            rate,
            rate_min: rate,
            rate_max: rate,
            alone,
            busy: 0.0461,
            ..TogetherStep::default()
        };
        let report = Report {
            together: Some(Together {
                steps: vec![step(1, 2e8, 2e8), step(3, 5.998e8, 6e8)],
                ..Together::default()
            }),
            ..Report::default()
        };
        let page = render(&report);
        let last = "<tr><td>sda, s&lt;b and sdc</td><td class=\"n\">3</td>\
                    <td class=\"n\">600 MB/s</td><td class=\"n\">600 MB..600 MB/s</td>\
                    <td class=\"n\">100%</td><td class=\"n\">5%</td></tr>";
        assert!(page.contains(last), "{page}");
        assert_eq!(page.matches("<svg").count(), 1);
        assert_eq!(render(&Report::default()), "");
    }
}
