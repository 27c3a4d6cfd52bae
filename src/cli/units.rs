//! Sizes, rates, counts and times as people write and read them.
//!
//! Read by the rule of coreutils: `M` and `MiB` are 2^20, `MB` is 10^6. Printed in powers of ten,
//! because that is how drives are sold and rates are quoted.

use std::time::Duration;

/// Why a size was not understood, as a clause that can follow "because".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeError(pub String);

/// Reads a size in bytes: digits, an optional fraction, an optional unit.
///
/// Units in either case: none or `B`; `K`, `M`, `G`, `T`, `P`, `E` alone or with `iB` for powers of
/// 1024; with `B` for powers of 1000. A fraction of a byte is dropped.
///
/// # Errors
/// The reason, when the text is not a size or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = split(text)?;
    scale(number, unit_factor(unit)?)
}

/// Reads a rate in bytes a second: a size with a unit, and optionally `/s`. 0 is no limit.
///
/// A bare number is refused: rsync takes it as KiB a second, and a limit that is a thousand times
/// off is worse than a question.
///
/// # Errors
/// The reason, when the text is not a rate.
pub fn parse_rate(text: &str) -> Result<Option<u64>, SizeError> {
    let trimmed = text.trim();
    let amount = trimmed
        .strip_suffix("/s")
        .or_else(|| trimmed.strip_suffix("/S"))
        .unwrap_or(trimmed);
    let (number, unit) = split(amount)?;
    let bytes = scale(number, unit_factor(unit)?)?;
    if bytes == 0 {
        return Ok(None);
    }
    if unit.is_empty() {
        return Err(SizeError(format!(
            "it has no unit, and programs differ about what that means: \
             say {number}K (KiB/s, as rsync reads it) or {number}B"
        )));
    }
    Ok(Some(bytes))
}

/// Splits into number and unit, both trimmed.
fn split(text: &str) -> Result<(&str, &str), SizeError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(SizeError("it does not begin with a number".to_owned()));
    }
    Ok((number, unit.trim()))
}

fn unit_factor(unit: &str) -> Result<u64, SizeError> {
    let lower = unit.to_ascii_lowercase();
    let (letter, base) = match lower.as_str() {
        "" | "b" => return Ok(1),
        word => match (word.get(..1), word.get(1..)) {
            (Some(letter), Some("" | "ib")) => (letter, 1024_u64),
            (Some(letter), Some("b")) => (letter, 1000),
            _ => return Err(unknown_unit(unit)),
        },
    };
    let power = match letter {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return Err(unknown_unit(unit)),
    };
    Ok(base.pow(power))
}

fn unknown_unit(unit: &str) -> SizeError {
    SizeError(format!("the unit '{unit}' is not known"))
}

/// Multiplies a decimal number exactly.
fn scale(number: &str, factor: u64) -> Result<u64, SizeError> {
    let not_a_number = || SizeError(format!("'{number}' is not a number"));
    let too_large = || SizeError("it does not fit 64 bits".to_owned());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(not_a_number());
    }
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| too_large())?,
    };
    // 18 digits keep fraction * factor below 2^128; more of them cannot change the byte count.
    let fraction = fraction.get(..18.min(fraction.len())).unwrap_or("");
    let part: u128 = match fraction {
        "" => 0,
        digits => {
            let places = u32::try_from(digits.len()).map_err(|_| not_a_number())?;
            let digits: u128 = digits.parse().map_err(|_| not_a_number())?;
            digits * u128::from(factor) / 10_u128.pow(places)
        }
    };
    u64::try_from(u128::from(whole) * u128::from(factor) + part).map_err(|_| too_large())
}

/// Returns bytes in powers of ten with three digits: `999 B`, `1.24 TB`. Seven columns at most.
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let bytes = u128::from(bytes);
    let mut factor = 1_u128;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        factor *= 1000;
        let rounded = |parts: u128| (bytes * parts + factor / 2) / factor;
        let (hundredths, tenths, ones) = (rounded(100), rounded(10), rounded(1));
        if hundredths < 1000 {
            return format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100);
        }
        if tenths < 1000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        if ones < 1000 {
            return format!("{ones} {unit}");
        }
    }
    // 2^64 is 18.4 EB, so this needs no larger unit.
    let tenths = (bytes * 10 + 500_000_000_000_000_000) / 1_000_000_000_000_000_000;
    format!("{}.{} EB", tenths / 10, tenths % 10)
}

/// Returns bytes a second: `212 MB/s`. Nine columns at most.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// Returns a count with its digits in groups of three: `14,203`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns `1 file` or `14,203 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", count(number))
}

/// Returns a time in its two largest parts: `0.42s`, `45s`, `1m 30s`, `3h 07m`, `2d 04h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if seconds < 10 {
        return format!("{seconds}.{:02}s", time.subsec_millis() / 10);
    }
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// Returns the time left, seven columns at most; whole seconds, because it is a guess.
pub fn time_left(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{}s", time.as_secs()),
        10..8_640_000 => duration(time),
        _ => "> 99d".to_owned(),
    }
}

/// Returns a number of seconds from a report; zero when it is no time.
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// Returns the whole part of a number from a report; zero when it is negative or not a number.
pub fn whole(value: f64) -> u64 {
    seconds(value).as_secs()
}

/// Parses a time such as `30s` or `2m`; `None` for 0.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse_time(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == "0" {
        return Ok(None);
    }
    let parsed = humantime::parse_duration(text).map_err(|why| why.to_string())?;
    Ok((!parsed.is_zero()).then_some(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_coreutils() {
        let cases: &[(&str, u64)] = &[
            ("0", 0),
            ("1", 1),
            ("512", 512),
            ("512B", 512),
            ("1k", 1024),
            ("1K", 1024),
            ("1KiB", 1024),
            ("1kB", 1000),
            ("1KB", 1000),
            ("1M", 1_048_576),
            ("1m", 1_048_576),
            ("1MiB", 1_048_576),
            ("1mib", 1_048_576),
            ("1MB", 1_000_000),
            ("1mb", 1_000_000),
            ("2G", 2_147_483_648),
            ("2GiB", 2_147_483_648),
            ("2GB", 2_000_000_000),
            ("1T", 1_099_511_627_776),
            ("1TiB", 1_099_511_627_776),
            ("1TB", 1_000_000_000_000),
            ("1P", 1_125_899_906_842_624),
            ("1PiB", 1_125_899_906_842_624),
            ("1PB", 1_000_000_000_000_000),
            ("1E", 1_152_921_504_606_846_976),
            ("1EiB", 1_152_921_504_606_846_976),
            ("1EB", 1_000_000_000_000_000_000),
            ("1.5K", 1536),
            (".5M", 524_288),
            ("1.M", 1_048_576),
            ("0.1MiB", 104_857),
            ("0.3B", 0),
            ("  64 MiB ", 67_108_864),
            ("1.0000000000000000000000001k", 1024),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(*bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            " ",
            "M",
            "-1",
            "+1",
            "1X",
            "1Mi",
            "1MM",
            "1iB",
            "1.2.3",
            ".",
            "1,5M",
            "0x10",
            "1 M B",
            "18446744073709551616",
            "17E",
            "99999999999999999999",
            "1\u{e9}",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_need_a_unit() {
        assert_eq!(parse_rate("100M"), Ok(Some(104_857_600)));
        assert_eq!(parse_rate("100MB/s"), Ok(Some(100_000_000)));
        assert_eq!(parse_rate("1.5 GiB/s"), Ok(Some(1_610_612_736)));
        assert_eq!(parse_rate("100B"), Ok(Some(100)));
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("0K"), Ok(None));
        assert!(parse_rate("/s").is_err());
        assert!(parse_rate("fast").is_err());
        let SizeError(why) = parse_rate("100").unwrap_err();
        assert!(
            why.contains("100K (KiB/s, as rsync reads it) or 100B"),
            "{why}"
        );
    }

    #[test]
    fn sizes_print_three_digits() {
        let cases: &[(u64, &str)] = &[
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_234, "1.23 kB"),
            (9_994, "9.99 kB"),
            (9_995, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_237_000_000_000, "1.24 TB"),
            (80_000_000_000_000, "80.0 TB"),
            (4_800_000_000_000_000, "4.80 PB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(*bytes), *text);
            assert!(text.len() <= 7);
        }
        assert_eq!(rate(212_000_000), "212 MB/s");
    }

    #[test]
    fn counts_and_times_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(14_203), "14,203");
        assert_eq!(count(31_204_118), "31,204,118");
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
        let cases = [
            (0, "0.00s"),
            (420, "0.42s"),
            (9_999, "9.99s"),
            (45_000, "45s"),
            (90_000, "1m 30s"),
            (3_599_999, "59m 59s"),
            (11_220_000, "3h 07m"),
            (187_200_000, "2d 04h"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(time_left(Duration::from_millis(4_900)), "4s");
        assert_eq!(time_left(Duration::from_secs(8_639_999)), "99d 23h");
        assert_eq!(time_left(Duration::from_secs(8_640_000)), "> 99d");
        assert_eq!(whole(212.9), 212);
        assert_eq!(whole(f64::NAN), 0);
        assert_eq!(whole(-1.0), 0);
    }
}
