//! Names from drives, made safe and exact for a terminal or a log that people read.
//!
//! A name is any bytes. Some would move the cursor, change the title or hide the rest of the line;
//! those are shown as `\xNN`, byte by byte. Programs read JSON, where names are exact.

/// Returns the bytes as printable text on one line.
///
/// Shown as `\xNN` for each byte: C0 controls, DEL, C1 controls (U+0080 to U+009F), line and
/// paragraph separators, marks that reorder text (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066
/// to U+2069), and bytes that are not UTF-8. A backslash is doubled only if something else was
/// escaped, so that ordinary names stay as they are.
pub fn escape(bytes: &[u8]) -> String {
    let clean = bytes
        .utf8_chunks()
        .all(|chunk| chunk.invalid().is_empty() && !chunk.valid().contains(is_unsafe));
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) {
                push_hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else if c == '\\' && !clean {
                text.push_str("\\\\");
            } else {
                text.push(c);
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

/// Returns a path as printable text; see [`escape`].
pub fn escape_path(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape(path.as_os_str().as_bytes())
}

/// Returns the text with all but its line ends made printable; for text that has lines by design.
pub fn escape_lines(text: &str) -> String {
    let mut lines = text.split('\n').map(|line| escape(line.as_bytes()));
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |mut all, line| {
        all.push('\n');
        all.push_str(&line);
        all
    })
}

/// Returns a JSON text with the same meaning in which nothing is left that a terminal would obey: what
/// [`escape`] escapes is written as `\uNNNN`. Such characters are in strings only.
pub fn escape_json(text: Vec<u8>) -> Vec<u8> {
    if text.iter().all(|byte| *byte < 0x7f) {
        return text;
    }
    let Ok(text) = String::from_utf8(text) else {
        return Vec::new(); // JSON is UTF-8
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            let code = u32::from(c);
            safe.push_str("\\u");
            for shift in [12, 8, 4, 0] {
                safe.push(digit(u8::try_from(code >> shift & 0xf).unwrap_or_default()));
            }
        } else {
            safe.push(c);
        }
    }
    safe.into_bytes()
}

/// Returns the exact bytes behind a lossy path and its hex digits, for showing them escaped.
pub fn exact(path: &str, path_hex: Option<&str>) -> Vec<u8> {
    path_hex
        .and_then(decode_hex)
        .unwrap_or_else(|| path.as_bytes().to_vec())
}

/// Returns bytes as UTF-8 for JSON and, only if that lost something, as hex digits.
pub fn lossy(bytes: &[u8]) -> (String, Option<String>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.to_owned(), None);
    }
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.push(digit(byte >> 4));
        hex.push(digit(byte & 15));
    }
    (String::from_utf8_lossy(bytes).into_owned(), Some(hex))
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str("\\x");
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('?')
}

fn decode_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_stay() {
        for name in [
            "",
            "DCIM/0042.mov",
            " lead and trail ",
            "a\\b",
            "\u{e9}t\u{e9}/\u{65e5}\u{672c}",
        ] {
            assert_eq!(escape(name.as_bytes()), name);
        }
    }

    #[test]
    fn dangerous_names_are_spelt_out() {
        let cases: &[(&[u8], &str)] = &[
            (b"new\nline", r"new\x0aline"),
            (b"tab\there\r", r"tab\x09here\x0d"),
            (b"\x1b[2Jgone", r"\x1b[2Jgone"),
            (b"\x1b]0;title\x07", r"\x1b]0;title\x07"),
            (b"del\x7f", r"del\x7f"),
            ("csi\u{9b}31m".as_bytes(), r"csi\xc2\x9b31m"),
            (b"bad\xff\xfe", r"bad\xff\xfe"),
            (b"cut\xe2\x82", r"cut\xe2\x82"),
            ("exe.\u{202e}gpj".as_bytes(), r"exe.\xe2\x80\xaegpj"),
            ("\u{2066}x\u{2069}".as_bytes(), r"\xe2\x81\xa6x\xe2\x81\xa9"),
            ("\u{200e}\u{200f}".as_bytes(), r"\xe2\x80\x8e\xe2\x80\x8f"),
            ("\u{61c}".as_bytes(), r"\xd8\x9c"),
            (b"back\\slash\n", r"back\\slash\x0a"),
        ];
        for (name, text) in cases {
            assert_eq!(escape(name), *text);
        }
        assert_eq!(escape_lines("one\n\x1btwo\n"), "one\n\\x1btwo\n");
    }

    #[test]
    fn hex_stands_for_what_json_cannot_say() {
        assert_eq!(lossy(b"plain\n"), ("plain\n".to_owned(), None));
        let (text, hex) = lossy(b"a\xff\x0a");
        assert_eq!(text, "a\u{fffd}\n");
        assert_eq!(hex.as_deref(), Some("61ff0a"));
        assert_eq!(exact(&text, hex.as_deref()), b"a\xff\x0a");
        assert_eq!(exact("same", None), b"same");
        assert_eq!(exact("same", Some("6")), b"same");
        assert_eq!(exact("same", Some("zz")), b"same");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_control_ever_survives(bytes in any::<Vec<u8>>()) {
            for c in escape(&bytes).chars() {
                prop_assert!(u32::from(c) >= 0x20, "C0");
                prop_assert!(!(0x7f..=0x9f).contains(&u32::from(c)), "DEL or C1");
                prop_assert!(!"\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
                    \u{2066}\u{2067}\u{2068}\u{2069}".contains(c), "bidi");
            }
        }

        #[test]
        fn no_control_survives_in_text(text in any::<String>()) {
            prop_assert!(!escape(text.as_bytes()).chars().any(char::is_control));
        }

        #[test]
        fn different_unsafe_names_stay_different(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            let (a, b) = ([&[0][..], &a].concat(), [&[0][..], &b].concat());
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }

    #[test]
    fn json_keeps_its_meaning_and_leaves_a_terminal_alone() {
        let text = "a\u{9b}2J\u{7f}\u{202e}\u{e9}\\ \u{1b}\n";
        let json = serde_json::to_vec(text).unwrap();
        let safe = escape_json(json);
        assert_eq!(
            String::from_utf8(safe.clone()).unwrap(),
            "\"a\\u009b2J\\u007f\\u202e\u{e9}\\\\ \\u001b\\n\""
        );
        assert_eq!(serde_json::from_slice::<String>(&safe).unwrap(), text);
        assert_eq!(escape_json(b"{\"a\":1}\n".to_vec()), b"{\"a\":1}\n");
    }
}
