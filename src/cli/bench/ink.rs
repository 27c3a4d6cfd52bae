//! Bars and lines of characters, beside the figures of a table.

use crate::bench::report::Latency;
use crate::cli::render::table;
use crate::cli::text::columns;
use crate::cli::units::whole;

/// Columns of the terminal that a table with bars is made for.
const WIDTH: usize = 80;
/// Between two columns of a table, and before the first.
const GAP: usize = 2;
/// Least and most columns of a bar.
const BAR_MIN: usize = 8;
const BAR_MAX: usize = 24;
/// Parts of a column that a block may fill, from the left.
const EIGHTHS: [&str; 8] = [
    "", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}",
];

/// What bars are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Block characters, an eighth of a column fine.
    Blocks,
    /// What every terminal has.
    Ascii,
}

/// A row of a table that may have a bar in it.
#[derive(Debug, Clone)]
pub(super) struct Barred {
    /// The cells, without the bar.
    pub(super) cells: Vec<String>,
    /// How long it is, and where it would end at best.
    pub(super) bar: Option<(f64, f64)>,
}

impl Ink {
    /// Returns what the locale of this process can show.
    pub(super) fn of_locale() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The same for any environment. Source of the order: locale(7).
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
        let mut set = set.filter_map(variable).filter(|value| !value.is_empty());
        let locale = set.next().unwrap_or_default().to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") {
            Self::Blocks
        } else {
            Self::Ascii
        }
    }

    /// Returns a bar of `share` of `width`; what there is shows, however little. What it falls short
    /// of `best`, another share, is shaded.
    fn bar(self, share: f64, best: f64, width: usize) -> String {
        let parts = match self {
            Self::Blocks => EIGHTHS.len(),
            Self::Ascii => 1,
        };
        let long = length(share, width * parts).max(usize::from(share > 0.0));
        let (full, part) = (long / parts, long % parts);
        let (block, shade) = match self {
            Self::Blocks => ("\u{2588}", "\u{2591}"),
            Self::Ascii => ("#", "."),
        };
        let mut bar = block.repeat(full);
        bar.push_str(EIGHTHS.get(part).copied().unwrap_or_default());
        let drawn = full + usize::from(part > 0);
        bar.push_str(&shade.repeat(length(best, width).saturating_sub(drawn)));
        bar
    }

    /// Returns a line from the shortest to the longest latency, thick from the median to the 99th
    /// percentile, on a logarithmic axis between these ends.
    pub(super) fn latencies(self, latency: &Latency, ends: (u64, u64), width: usize) -> String {
        let (thin, thick, median) = match self {
            Self::Blocks => ('\u{2500}', '\u{2501}', '\u{254b}'),
            Self::Ascii => ('-', '=', '+'),
        };
        let place = |nanos: u64| place(nanos, ends, width);
        let (from, to) = (place(latency.min), place(latency.max));
        let (half, most) = (place(latency.p50), place(latency.p99));
        (0..=to)
            .map(|at| match at {
                _ if at == half => median,
                _ if at < from => ' ',
                _ if half < at && at <= most => thick,
                _ => thin,
            })
            .collect()
    }

    /// Returns a table with bars as the column `at`, as long as 80 columns leave them; without any
    /// when there are not two to be held against each other.
    pub(super) fn table(self, rows: Vec<Barred>, at: usize, right: &[usize]) -> String {
        let bars = || rows.iter().filter_map(|row| row.bar);
        let most = bars().fold(0.0, |most: f64, (long, best)| most.max(long).max(best));
        let is_drawn = most > 0.0 && bars().count() > 1;
        let count = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let taken: usize = (0..count)
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.cells.get(column));
                match cells.map(|cell| columns(cell)).max().unwrap_or(0) {
                    0 => 0,
                    width => width + GAP,
                }
            })
            .sum();
        let width = WIDTH.saturating_sub(taken + GAP).clamp(BAR_MIN, BAR_MAX);
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|mut row| {
                let drawn = row.bar.filter(|_| is_drawn);
                let bar = drawn.map(|(long, best)| self.bar(long / most, best / most, width));
                let at = at.min(row.cells.len());
                row.cells.insert(at, bar.unwrap_or_default());
                row.cells
            })
            .collect();
        table(&rows, right)
    }
}

/// Returns the share of a length, to the nearest whole.
#[allow(clippy::cast_precision_loss, reason = "a length in characters")]
fn length(share: f64, of: usize) -> usize {
    let long = whole(share * of as f64 + 0.5);
    usize::try_from(long).unwrap_or(of).min(of)
}

/// Returns where a latency is in a line of `width` characters, counted from 0.
#[allow(clippy::cast_precision_loss, reason = "a place in a line")]
fn place(nanos: u64, ends: (u64, u64), width: usize) -> usize {
    let log = |nanos: u64| (nanos.max(1) as f64).ln();
    let span = log(ends.1) - log(ends.0);
    if span <= 0.0 {
        return 0;
    }
    length((log(nanos) - log(ends.0)) / span, width.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_fine_as_the_locale_allows() {
        let cases = [
            (0.0, "", ""),
            (0.001, "\u{258f}", "#"),
            (0.5, "\u{2588}\u{2588}", "##"),
            (0.65625, "\u{2588}\u{2588}\u{258b}", "###"),
            (1.0, "\u{2588}\u{2588}\u{2588}\u{2588}", "####"),
        ];
        for (share, blocks, ascii) in cases {
            assert_eq!(Ink::Blocks.bar(share, share, 4), blocks, "{share}");
            assert_eq!(Ink::Ascii.bar(share, share, 4), ascii, "{share}");
        }
        let short = "\u{2588}\u{258c}\u{2591}\u{2591}";
        assert_eq!(Ink::Blocks.bar(0.375, 1.0, 4), short);
        assert_eq!(Ink::Ascii.bar(0.25, 1.0, 4), "#...");
    }

    #[test]
    fn the_first_variable_that_is_set_says_what_the_locale_is() {
        let cases: [(&[(&str, &str)], Ink); 6] = [
            (&[], Ink::Ascii),
            (&[("LANG", "en_US.UTF-8")], Ink::Blocks),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")], Ink::Ascii),
            (&[("LANG", "C"), ("LC_CTYPE", "C.utf8")], Ink::Blocks),
            (&[("LANG", "C.utf8"), ("LC_ALL", "")], Ink::Blocks),
            (&[("LANG", "de_DE@euro")], Ink::Ascii),
        ];
        for (set, ink) in cases {
            let variable = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Ink::of(variable), ink, "{set:?}");
        }
    }

    #[test]
    fn a_line_of_latencies_has_its_median_and_its_tail() {
        let latency = Latency {
            min: 10_000,
            p50: 100_000,
            p99: 10_000_000,
            max: 100_000_000,
            ..Latency::default()
        };
        let ends = (1000, 1_000_000_000);
        // A character for each power of ten.
        assert_eq!(Ink::Ascii.latencies(&latency, ends, 7), " -+==-");
        let blocks = " \u{2500}\u{254b}\u{2501}\u{2501}\u{2500}";
        assert_eq!(Ink::Blocks.latencies(&latency, ends, 7), blocks);
        assert_eq!(Ink::Ascii.latencies(&latency, (5, 5), 7), "+");
    }

    #[test]
    fn a_table_with_bars_fits_eighty_columns() {
        let row = |name: &str, long: f64, last: &str| Barred {
            cells: vec![name.to_owned(), last.to_owned()],
            bar: Some((long, long)),
        };
        let name = "n".repeat(60);
        let rows = vec![row(&name, 1.0, "ab"), row("b", 0.5, "c")];
        let text = Ink::Blocks.table(rows.clone(), 1, &[]);
        let widths: Vec<usize> = text.lines().map(columns).collect();
        assert_eq!(widths, [80, 79]);
        assert!(text.contains(&format!("  {}  ab\n", "\u{2588}".repeat(12))));
        // One alone is as long as itself.
        let one = Ink::Ascii.table(rows.into_iter().take(1).collect(), 1, &[]);
        assert_eq!(one, format!("  {name}  ab\n"));
    }
}
