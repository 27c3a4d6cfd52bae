//! Wildcards over bytes, matched without recursion.
//!
//! Two places to come back to are enough: the last `*` and the last `**`. A later wildcard of the
//! same kind can take whatever an earlier one would have taken instead, so earlier ones are never
//! tried again. Time is at most pattern x path for a pattern with one kind, and pattern x path x
//! longest component with both; there is no exponential case.

/// One step of a compiled pattern. Nothing but [`Token::Byte`] and [`Token::Deep`] takes a `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Exactly this byte.
    Byte(u8),
    /// `?`: any one byte.
    Any,
    /// `[...]`: one byte of a set.
    Set(Box<Set>),
    /// `*`: any bytes, none included.
    Star,
    /// `**`: any bytes, `/` and none included.
    Deep,
}

/// A set of bytes: bit `b` is set when byte `b` is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set([u64; 4]);

impl Set {
    fn has(&self, byte: u8) -> bool {
        let word = self.0.get(usize::from(byte >> 6)).copied().unwrap_or(0);
        word >> (byte & 63) & 1 == 1
    }

    fn put(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    fn put_where(&mut self, test: impl Fn(&u8) -> bool) {
        (0..=u8::MAX).filter(test).for_each(|byte| self.put(byte));
    }

    fn invert(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }

    fn remove(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word &= !(1 << (byte & 63));
        }
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => byte != b'/',
            Self::Set(set) => set.has(byte),
            Self::Star | Self::Deep => false,
        }
    }
}

/// Returns whether a pattern has wildcards; without any, a backslash in it means itself.
pub(super) fn is_wild(pattern: &[u8]) -> bool {
    pattern
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Returns a pattern as tokens.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn compile(pattern: &[u8]) -> Result<Vec<Token>, &'static str> {
    if !is_wild(pattern) {
        return Ok(pattern.iter().copied().map(Token::Byte).collect());
    }
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => {
                let (&byte, tail) = rest
                    .split_first()
                    .ok_or("a backslash at the end escapes nothing")?;
                tokens.push(Token::Byte(byte));
                rest = tail;
            }
            b'?' => tokens.push(Token::Any),
            b'*' => {
                let more = rest.iter().take_while(|byte| **byte == b'*').count();
                tokens.push(if more > 0 { Token::Deep } else { Token::Star });
                rest = rest.get(more..).unwrap_or_default();
            }
            b'[' => {
                let (set, tail) = compile_set(rest)?;
                tokens.push(Token::Set(Box::new(set)));
                rest = tail;
            }
            byte => tokens.push(Token::Byte(byte)),
        }
    }
    Ok(tokens)
}

const OPEN_SET: &str = "a '[' is not closed";

/// Returns the set that `rest` (what follows a `[`) opens with, and what follows its `]`.
fn compile_set(rest: &[u8]) -> Result<(Set, &[u8]), &'static str> {
    let mut set = Set::default();
    let (inverted, mut rest) = match rest {
        [b'!' | b'^', tail @ ..] => (true, tail),
        _ => (false, rest),
    };
    // The byte a following '-' would start a range at.
    let mut previous: Option<u8> = None;
    let mut first = true;
    loop {
        match rest {
            [] | [b'\\'] => return Err(OPEN_SET),
            // Directly after the opening, a ']' is a member.
            [b']', tail @ ..] if !first => {
                rest = tail;
                break;
            }
            [b'-', end, tail @ ..] if previous.is_some() && *end != b']' => {
                let (end, tail) = match (*end, tail) {
                    (b'\\', [escaped, tail @ ..]) => (*escaped, tail),
                    (b'\\', []) => return Err(OPEN_SET),
                    (end, tail) => (end, tail),
                };
                set.put_where(|byte| Some(*byte) >= previous && *byte <= end);
                previous = None;
                rest = tail;
            }
            [b'[', b':', tail @ ..] => {
                let end = tail.iter().position(|byte| *byte == b']').ok_or(OPEN_SET)?;
                if let Some((name, b":")) = tail
                    .get(..end)
                    .and_then(|class| class.split_at_checked(end.wrapping_sub(1)))
                {
                    put_class(&mut set, name)?;
                    previous = None;
                    rest = tail.get(end + 1..).unwrap_or_default();
                } else {
                    // Not a class after all: a '[' among the members.
                    set.put(b'[');
                    previous = Some(b'[');
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                set.put(*byte);
                previous = Some(*byte);
                rest = tail;
            }
        }
        first = false;
    }
    if inverted {
        set.invert();
    }
    set.remove(b'/');
    Ok((set, rest))
}

fn put_class(set: &mut Set, name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"alnum" => set.put_where(u8::is_ascii_alphanumeric),
        b"alpha" => set.put_where(u8::is_ascii_alphabetic),
        b"blank" => set.put_where(|byte| matches!(byte, b' ' | b'\t')),
        b"cntrl" => set.put_where(u8::is_ascii_control),
        b"digit" => set.put_where(u8::is_ascii_digit),
        b"graph" => set.put_where(u8::is_ascii_graphic),
        b"lower" => set.put_where(u8::is_ascii_lowercase),
        b"print" => set.put_where(|byte| matches!(byte, b' '..=b'~')),
        b"punct" => set.put_where(u8::is_ascii_punctuation),
        // C's isspace has the vertical tab, which is_ascii_whitespace leaves out.
        b"space" => set.put_where(|byte| matches!(byte, b' ' | b'\t'..=b'\r')),
        b"upper" => set.put_where(u8::is_ascii_uppercase),
        b"xdigit" => set.put_where(u8::is_ascii_hexdigit),
        _ => return Err("unknown character class"),
    }
    Ok(())
}

/// How a match ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole text is taken by the whole pattern.
    Match,
    /// It is not, from this place.
    Differs,
    /// It is not, and no later start in the same text can change that: a `**` was reached and
    /// tried everything behind it.
    Never,
}

/// Matches the whole of `text`.
pub(super) fn matches(tokens: &[Token], text: &[u8]) -> Outcome {
    let (mut token_at, mut text_at) = (0, 0);
    // Where to go on: the token after the wildcard, and the first byte it has not yet taken.
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token_at) {
            Some(Token::Deep) => {
                token_at += 1;
                deep = Some((token_at, text_at));
                star = None;
                continue;
            }
            Some(Token::Star) => {
                token_at += 1;
                star = Some((token_at, text_at));
                continue;
            }
            Some(token) if text.get(text_at).is_some_and(|byte| token.takes(*byte)) => {
                token_at += 1;
                text_at += 1;
                continue;
            }
            None if text_at == text.len() => return Outcome::Match,
            Some(_) | None => {}
        }
        if let Some((token, at)) = star
            && text.get(at).is_some_and(|byte| *byte != b'/')
        {
            star = Some((token, at + 1));
            (token_at, text_at) = (token, at + 1);
        } else if let Some((token, at)) = deep
            && at < text.len()
        {
            deep = Some((token, at + 1));
            star = None;
            (token_at, text_at) = (token, at + 1);
        } else if deep.is_some() {
            return Outcome::Never;
        } else {
            return Outcome::Differs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        matches(&compile(pattern.as_bytes()).unwrap(), text.as_bytes()) == Outcome::Match
    }

    #[test]
    fn wildcards_mean_what_they_say() {
        let table = [
            ("", "", true),
            ("a", "a", true),
            ("a", "b", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("a*c", "abbc", true),
            ("a*c", "ab/c", false),
            ("a**c", "ab/c", true),
            ("a*b*c", "axbxbxc", true),
            ("*/b", "a/b", true),
            ("*/b", "a/a/b", false),
            ("**/b", "a/a/b", true),
            ("**x*/y", "ax/xb/y", true),
            ("**x*y", "x/xzy", true),
            ("**x*y", "x/zy", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]", "b", true),
            ("[!a-c]", "b", false),
            ("[^a-c]", "d", true),
            ("[!a]", "/", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[[:digit:]_]", "_", true),
            ("[[:digit:]_]", "7", true),
            ("[[:digit:]_]", "x", false),
            ("[[:x]", "[", true),
            ("[[:x]", ":", true),
            ("[\\]]", "]", true),
            ("a\\b", "a\\b", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ];
        for (pattern, text, answer) in table {
            assert_eq!(is_match(pattern, text), answer, "{pattern} on {text}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in ["[", "[a", "[]", "[a-", "[\\", "*\\", "[[:what:]]"] {
            assert!(compile(pattern.as_bytes()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn many_stars_end() {
        // Naive backtracking would not live to see the end of either.
        let text = "a".repeat(4000);
        assert!(!is_match(&format!("{}b", "*a".repeat(60)), &text));
        assert!(!is_match(&format!("{}b", "**a*".repeat(60)), &text));
    }
}
