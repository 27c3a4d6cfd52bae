//! Figures in sentences.

/// Returns a rate with three digits, in powers of ten: `212 MB/s`, `1.20 GB/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    let units = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
    let mut value = bytes_per_second.max(0.0);
    let mut unit = 0;
    // What would be written with four digits belongs to the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit = units.get(unit).copied().unwrap_or_default();
    let digits = match value {
        _ if unit == "B/s" => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Returns how many times one is of the other: `4.0`, `12`.
pub(crate) fn times(factor: f64) -> String {
    if factor < 9.95 {
        format!("{factor:.1}")
    } else {
        format!("{factor:.0}")
    }
}

/// Returns a share in percent, to the nearest.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// Returns a latency: `85 us`, `4.2 ms`, `1.3 s`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn latency(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Returns a length of time to two digits or three: `45 s`, `90 min`, `9 h`, `12 days`.
pub(crate) fn time(seconds: f64) -> String {
    let (minutes, hours) = (seconds / 60.0, seconds / 3600.0);
    if seconds < 99.5 {
        format!("{seconds:.0} s")
    } else if minutes < 99.5 {
        format!("{minutes:.0} min")
    } else if hours < 99.5 {
        format!("{hours:.0} h")
    } else {
        format!("{:.0} days", hours / 24.0)
    }
}

/// Returns a number in a sentence: in letters up to twelve.
pub(crate) fn number(number: usize) -> String {
    let words = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    let word = words.get(number).copied();
    word.map_or_else(|| number.to_string(), str::to_owned)
}

/// Returns names in a sentence: `a, b and c`; of more than six, the first five and how many more.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] if names.len() <= 6 => format!("{} and {last}", most.join(", ")),
        _ => {
            let first = names.get(..5).unwrap_or(names);
            format!(
                "{} and {} more",
                first.join(", "),
                names.len() - first.len()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let cases = [
            (0.0, "0 B/s"),
            (999.4, "999 B/s"),
            (999_500.0, "1.00 MB/s"),
            (212_000_000.0, "212 MB/s"),
            (25_640_000.0, "25.6 MB/s"),
            (1_204_000_000.0, "1.20 GB/s"),
            (7e12, "7.00 TB/s"),
        ];
        for (value, text) in cases {
            assert_eq!(rate(value), text);
        }
        assert_eq!(times(4.04), "4.0");
        assert_eq!(times(12.4), "12");
        assert_eq!(percent(0.876), "88%");
        assert_eq!(
            (percent(0.9996), percent(0.004)),
            ("100%".to_owned(), "0%".to_owned())
        );
        assert_eq!(time(45.4), "45 s");
        assert_eq!(time(5400.0), "90 min");
        assert_eq!(time(33_333.0), "9 h");
        assert_eq!(time(1_036_800.0), "12 days");
        assert_eq!((number(2), number(13)), ("two".to_owned(), "13".to_owned()));
        assert_eq!(latency(85_000), "85 us");
        assert_eq!(latency(4_200_000), "4.2 ms");
        assert_eq!(latency(1_300_000_000), "1.3 s");
    }

    #[test]
    fn long_lists_are_cut() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("d{n}")).collect() };
        assert_eq!(list(&names(1)), "d0");
        assert_eq!(list(&names(3)), "d0, d1 and d2");
        assert_eq!(list(&names(8)), "d0, d1, d2, d3, d4 and 3 more");
    }
}
