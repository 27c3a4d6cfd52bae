//! Text within a page: names that are data and stay so.

use crate::bench::Report;
use crate::cli::escape;

/// Returns text as it stands in HTML, in attributes too. What would move a cursor or turn text
/// around is escaped as for a terminal: HTML has no other way to write most of it, and a browser
/// turns text around as well.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in escape::escape(text.as_bytes()).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns the report for programs, as an element of its own. `<` is written as its escape, so that
/// no name can end the element.
pub(super) fn embedded(report: &Report) -> String {
    let json = escape::escape_json(serde_json::to_vec(report).unwrap_or_default());
    let json = String::from_utf8_lossy(&json).replace('<', "\\u003c");
    format!("<script type=\"application/json\" id=\"report\">{json}</script>\n")
}

#[cfg(test)]
mod tests {
    use super::super::html::render;
    use super::*;
    use crate::bench::report::{
        DriveFacts, Estimate, Knee, Latency, Measure, Pair, PairRate, Point, SmallFiles, Subject,
        Together, TogetherStep, Verdict, Zone,
    };

    const HOSTILE: &str =
        "\u{1b}]0;x\u{7}<script>alert(\"x\")</script>\n'\u{202e}\u{9b}2J<!--&amp;";

    #[test]
    fn names_are_data() {
        assert_eq!(escape("sda"), "sda");
        assert_eq!(
            escape("a<b> & \"c\" 'd'"),
            "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;"
        );
        assert_eq!(escape("\u{1b}\u{202e}"), "\\x1b\\xe2\\x80\\xae");
    }

    /// Everything that a page can show, by a name that is made to break it.
    fn report() -> Report {
        let name = || HOSTILE.to_owned();
        let read = || Measure {
            rate: 2e8,
            rate_min: 1e8,
            rate_max: 3e8,
            latency: Latency {
                p50: 1000,
                p99: 2000,
                p999: 30_000,
                ..Latency::default()
            },
            ..Measure::default()
        };
        let subject = || Subject {
            name: name(),
            path: name(),
            drives: vec![DriveFacts {
                name: name(),
                model: Some(name()),
                serial: Some(name()),
                ..DriveFacts::default()
            }],
            sweep: vec![Point {
                block: 1 << 20,
                depth: 2,
                rate: 1e8,
            }],
            knee: Some(Knee::default()),
            read: Some(read()),
            zones: vec![Zone {
                name: "outer".to_owned(),
                at: 0,
                read: read(),
            }],
            small: Some(SmallFiles::default()),
            write: Some(read()),
            warnings: vec![name()],
            error: Some(name()),
            ..Subject::default()
        };
        Report {
            version: name(),
            kernel: name(),
            started: name(),
            backend: name(),
            subjects: vec![subject(), subject()],
            together: Some(Together {
                steps: vec![TogetherStep {
                    count: 2,
                    rate: 2e8,
                    alone: 4e8,
                    ..TogetherStep::default()
                }],
                ..Together::default()
            }),
            pair: Some(Pair {
                target: name(),
                write: Some(read()),
                hashed: Some(PairRate::default()),
                warnings: vec![name()],
                ..Pair::default()
            }),
            verdicts: vec![Verdict {
                about: name(),
                bad: true,
                subjects: vec![name()],
                text: name(),
            }],
            estimate: Some(Estimate {
                limited_by: name(),
                basis: name(),
                ..Estimate::default()
            }),
            warnings: vec![name()],
            ..Report::default()
        }
    }

    /// Elements that have no end.
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];

    /// Goes through a page as a parser does: returns its elements, with their attributes, and fails
    /// where one is not ended, or ended in another.
    fn elements(page: &str) -> Vec<(String, Vec<(String, String)>)> {
        let (mut found, mut open) = (Vec::new(), Vec::new());
        let mut rest = page;
        while let Some((text, from)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a tag ends that began nowhere: {text}");
            let (tag, after) = from.split_once('>').unwrap();
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "before {after}");
                continue;
            }
            let is_closed = tag.ends_with('/');
            let tag = tag.trim_end_matches('/');
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let mut told = Vec::new();
            while let Some((name, value)) = attributes.split_once("=\"") {
                let (value, after) = value.split_once('"').unwrap();
                told.push((name.trim().to_owned(), value.to_owned()));
                attributes = after;
            }
            found.push((name.to_owned(), told));
            if name == "script" || name == "style" {
                // What is in these is no markup up to their end.
                let (_, after) = rest.split_once(&format!("</{name}>")).unwrap();
                rest = after;
            } else if !is_closed && !VOID.contains(&name) {
                open.push(name);
            }
        }
        assert_eq!(open, [""; 0], "all are ended");
        found
    }

    #[test]
    fn a_page_is_well_formed_and_asks_for_nothing() {
        let report = report();
        let page = render(&report);
        assert!(
            !page
                .chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{page}"
        );
        let elements = elements(&page);
        let known = [
            "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b",
            "div", "ul", "li", "table", "tr", "th", "td", "svg", "text", "rect", "line",
            "polyline", "circle", "script",
        ];
        for (name, attributes) in &elements {
            assert!(
                known.contains(&&name[..]),
                "{name}: no name becomes an element"
            );
            for (attribute, value) in attributes {
                let asks = ["src", "href", "style", "xlink:href", "action", "data"];
                assert!(!asks.contains(&&attribute[..]), "{attribute}={value}");
                assert!(!attribute.starts_with("on"), "{attribute}={value}");
            }
        }
        let count = |name: &str| elements.iter().filter(|(found, _)| found == name).count();
        assert_eq!((count("script"), count("svg"), count("table")), (1, 6, 2));
        let json = page.split("id=\"report\">").nth(1).unwrap();
        let json = json.split("</script>").next().unwrap();
        assert!(!json.contains('<') && json.contains("\\u202e"), "{json}");
        assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
    }
}
