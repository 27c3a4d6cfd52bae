//! Text in columns of a terminal, and the words that are coloured.

use anstyle::{AnsiColor, Style};

/// Appends formatted text.
pub fn push(text: &mut String, args: std::fmt::Arguments<'_>) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    text.write_fmt(args).unwrap_or_default();
}

/// Returns at most how many columns the text takes.
///
/// Exact for ASCII, Latin, Greek and Cyrillic letters, lines and blocks; every other character counts
/// as two, the most any of them takes, so that a line is never wider than promised. Controls are expected to be
/// escaped already.
pub fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    match c {
        ' '..='~' | '\u{a0}'..='\u{52f}' | '\u{2500}'..='\u{259f}' => 1,
        _ => 2,
    }
}

/// Returns the text cut at its end to at most `width` columns; `..` shows the cut.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mark = if width > 4 { ".." } else { "" };
    let mut kept = take(text.chars(), width - mark.len());
    kept.push_str(mark);
    kept
}

/// Returns the text cut at its beginning to at most `width` columns; `..` shows the cut.
pub fn cut_front(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mark = if width > 4 { ".." } else { "" };
    let reversed = take(text.chars().rev(), width - mark.len());
    mark.chars().chain(reversed.chars().rev()).collect()
}

fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += char_columns(*c);
            used <= width
        })
        .collect()
}

/// Returns the text with spaces after it up to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(columns(text));
    format!("{text}{:spaces$}", "")
}

/// Returns the text with spaces before it up to `width` columns.
pub fn pad_front(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(columns(text));
    format!("{:spaces$}{text}", "")
}

/// What a piece of text says, for its colour. The words always say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// All is well.
    Good,
    /// Something was left out, on purpose.
    Notice,
    /// Something failed.
    Bad,
    /// A heading or a sum.
    Strong,
    /// Of little interest.
    Faint,
}

/// Adds colour, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    /// Returns the text in the colour of its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.0 => return text.to_owned(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Notice => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Strong => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_never_too_few() {
        assert_eq!(columns("/mnt/d1"), 7);
        assert_eq!(columns("\u{e9}t\u{e9}"), 3);
        assert_eq!(columns("\u{65e5}\u{672c}"), 4);
        assert_eq!(columns("\u{1f4be}"), 2);
        assert_eq!(columns("\u{2500}\u{2588}\u{2591}"), 3);
    }

    #[test]
    fn cuts_show() {
        assert_eq!(cut("abcdefgh", 8), "abcdefgh");
        assert_eq!(cut("abcdefgh", 7), "abcde..");
        assert_eq!(cut("abcdefgh", 3), "abc");
        assert_eq!(cut("abcdefgh", 0), "");
        assert_eq!(cut_front("abcdefgh", 7), "..defgh");
        assert_eq!(cut_front("abcdefgh", 3), "fgh");
        assert_eq!(
            cut("\u{65e5}\u{672c}\u{65e5}\u{672c}", 7),
            "\u{65e5}\u{672c}.."
        );
        assert_eq!(pad("ab", 4), "ab  ");
        assert_eq!(pad_front("\u{65e5}", 4), "  \u{65e5}");
    }

    #[test]
    fn colour_is_an_addition() {
        assert_eq!(Paint(false).paint(Tone::Bad, "failed"), "failed");
        assert_eq!(
            Paint(true).paint(Tone::Bad, "failed"),
            "\u{1b}[1m\u{1b}[31mfailed\u{1b}[0m"
        );
        assert_eq!(Paint(true).paint(Tone::Plain, "text"), "text");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cuts_fit(text in any::<String>(), width in 0_usize..40) {
            prop_assert!(columns(&cut(&text, width)) <= width);
            prop_assert!(columns(&cut_front(&text, width)) <= width);
        }
    }
}
