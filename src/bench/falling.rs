//! How long reading takes on a drive that is slower further in. Pure arithmetic.

/// A rate, in bytes a second, that was measured at a byte.
pub(crate) type Place = (f64, f64);

/// Returns the seconds that reading the first `bytes` takes, at the rates measured in some places,
/// in order. Between two of them the rate goes in a straight line; before the first and after the
/// last it stays what it is there. 0 without a place.
///
/// On a straight line from `a` to `b` over a length `l`, that is the integral of one over the rate:
/// `l * ln(b / a) / (b - a)`.
pub(crate) fn seconds(bytes: f64, places: &[Place]) -> f64 {
    let (Some((first, outer)), Some((last, inner))) = (places.first(), places.last()) else {
        return 0.0;
    };
    let mut spent = bytes.min(*first) / rate(*outer);
    for (from, to) in places.iter().zip(places.iter().skip(1)) {
        let (begin, length) = (from.0, to.0 - from.0);
        let part = (bytes - begin).min(length);
        if part <= 0.0 || length <= 0.0 {
            continue;
        }
        let (a, end) = (rate(from.1), rate(to.1));
        let b = a + (end - a) * part / length;
        spent += if (b - a).abs() < a * 1e-6 {
            // As good as level, where the formula would divide nothing by nothing.
            part / a
        } else {
            part * (b / a).ln() / (b - a)
        };
    }
    spent + (bytes - last).max(0.0) / rate(*inner)
}

/// No place has no rate: a drive that gave nothing there gave too little to tell.
fn rate(measured: f64) -> f64 {
    measured.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(bytes: f64, places: &[Place], expected: f64) {
        let found = seconds(bytes, places);
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
    }

    #[test]
    fn a_level_curve_is_a_division() {
        takes(
            1000.0,
            &[(0.0, 100.0), (500.0, 100.0), (1000.0, 100.0)],
            10.0,
        );
        takes(1000.0, &[(62.0, 100.0)], 10.0);
        takes(0.0, &[(62.0, 100.0)], 0.0);
        takes(1000.0, &[], 0.0);
    }

    #[test]
    fn a_straight_line_is_integrated() {
        // From 200 to 100 over all of 1,000 bytes: 1000 * ln 2 / 100.
        let line = [(0.0, 200.0), (1000.0, 100.0)];
        takes(1000.0, &line, 6.9315);
        // Its outer half alone is faster: 500 * ln(200 / 150) / 50.
        takes(500.0, &line, 2.8768);
        // A place on the line changes nothing.
        takes(1000.0, &[line[0], (500.0, 150.0), line[1]], 6.9315);
    }

    #[test]
    fn it_is_level_before_the_first_place_and_after_the_last() {
        let places = [(100.0, 200.0), (900.0, 100.0)];
        // 0.5 s to the first, 800 * ln 2 / 100 to the last, 1 s after it.
        takes(100.0, &places, 0.5);
        takes(900.0, &places, 6.0452);
        takes(1000.0, &places, 7.0452);
        takes(50.0, &places, 0.25);
    }
}
