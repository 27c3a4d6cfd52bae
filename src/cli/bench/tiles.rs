//! The few figures that a page begins with.

use super::markup::escape;
use crate::bench::report::Report;
use crate::cli::text::push;
use crate::cli::units::{duration, rate, seconds, size, whole};

/// One figure, with what it is below it.
struct Tile {
    figure: String,
    about: String,
}

/// Returns them as HTML.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::from("<div class=\"tiles\">\n");
    for tile in tiles(report) {
        push(
            &mut page,
            format_args!(
                "<div class=\"tile\"><b>{}</b>{}</div>\n",
                escape(&tile.figure),
                escape(&tile.about)
            ),
        );
    }
    page.push_str("</div>\n");
    page
}

fn tiles(report: &Report) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut tile = |figure: String, about: &str| {
        tiles.push(Tile {
            figure,
            about: about.to_owned(),
        });
    };
    let together = report.together.as_ref().and_then(|all| all.steps.last());
    if let Some(step) = together {
        let all = report.subjects.iter().filter(|s| s.read.is_some()).count();
        let about = if step.count < all {
            format!("{} of {all} drives at once", step.count)
        } else {
            format!("all {all} drives at once")
        };
        tile(rate(whole(step.rate)), &about);
    }
    let alone = report.subjects.iter().filter_map(|subject| {
        let read = subject.read.as_ref()?;
        Some((read.rate, &subject.name))
    });
    if let Some((slowest, name)) = alone.clone().min_by(|a, b| a.0.total_cmp(&b.0)) {
        let about = format!("the slowest, {name}");
        let about = if alone.count() > 1 { &about } else { name };
        tile(rate(whole(slowest)), about);
    }
    let hashed = report.pair.as_ref().and_then(|pair| pair.hashed.as_ref());
    if let Some(hashed) = hashed {
        tile(rate(whole(hashed.rate)), "into the target, hashed");
    }
    if let Some(estimate) = &report.estimate {
        let time = |value: f64| duration(seconds(value));
        let about = format!(
            "for a copy of the {} on them ({} to {})",
            size(estimate.bytes),
            time(estimate.seconds_min),
            time(estimate.seconds_max)
        );
        tile(time(estimate.seconds), &about);
    }
    let bad = report.verdicts.iter().filter(|verdict| verdict.bad).count();
    if !report.verdicts.is_empty() {
        let about = if bad == 1 {
            "thing stands out"
        } else {
            "things stand out"
        };
        tile(bad.to_string(), about);
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Estimate, Measure, Subject};

    #[test]
    fn what_is_not_known_has_no_tile() {
        assert_eq!(
            render(&Report::default()),
            "<div class=\"tiles\">\n</div>\n"
        );
        let subject = |name: &str, mb: f64| Subject {
            name: name.to_owned(),
            read: Some(Measure {
                rate: mb * 1e6,
                ..Measure::default()
            }),
            ..Subject::default()
        };
        let report = Report {
            subjects: vec![subject("sda", 200.0), subject("s<b", 50.0)],
            estimate: Some(Estimate {
                bytes: 2_000_000_000,
                seconds: 60.0,
                seconds_min: 50.0,
                seconds_max: 70.0,
                ..Estimate::default()
            }),
            ..Report::default()
        };
        assert_eq!(
            render(&report),
            "<div class=\"tiles\">\n\
             <div class=\"tile\"><b>50.0 MB/s</b>the slowest, s&lt;b</div>\n\
             <div class=\"tile\"><b>1m 00s</b>for a copy of the 2.00 GB on them (50s to 1m 10s)</div>\n\
             </div>\n"
        );
    }
}
