//! Which entries are left out.
//!
//! The rules are those of `rsync --include` and `--exclude`:
//!
//! - Rules are tried in order and the first that matches decides. What no rule matches is copied.
//! - An excluded directory is not entered, so nothing below it is ever asked about.
//! - A leading `/` ties a pattern to the top of the source: `/a` is `a` there and nowhere else.
//! - A trailing `/` makes it match directories only.
//! - A pattern without any other `/` is compared with the last component of a path, at any depth;
//!   one with `/` inside is compared with as many trailing components as it has itself.
//! - `*` takes any bytes but `/`; `**` takes `/` as well; `?` takes one byte but `/`.
//! - `[...]` takes one byte of a set: ranges, `[!...]` and `[^...]`, classes such as `[:digit:]`.
//! - A pattern with `**` is tried at the start of every component, and, if it starts with `**`,
//!   on the whole path with a `/` before it, so that `**/a` is also `a` at the top.
//! - A trailing `/***` matches the directory itself and everything in it.
//! - A backslash makes a wildcard plain, but only in a pattern that has wildcards.
//!
//! Different from rsync: patterns that can match nothing are refused instead of ignored, and a
//! pattern is only a pattern (`+ `, `- ` and `!` at its start mean themselves).

use super::entry::as_path;
use super::pattern::{Outcome, Token, compile, is_wild, matches};
use crate::error::{Error, ErrorKind, Side};

/// One rule as given on the command line; the bytes are the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// What matches is copied.
    Include(Vec<u8>),
    /// What matches is left out; a directory with all that is in it.
    Exclude(Vec<u8>),
}

/// Ordered include and exclude rules; the first match wins. The default allows everything.
#[derive(Debug, Default)]
pub struct Filter {
    rules: Vec<Compiled>,
    /// What they were made from.
    given: Vec<Rule>,
}

impl Filter {
    /// Returns a filter of these rules, in this order.
    ///
    /// # Errors
    /// `Usage` for a pattern that is malformed or can match nothing; the path of the error is the
    /// pattern.
    pub fn new(rules: Vec<Rule>) -> Result<Self, Error> {
        let compiled = rules.iter().map(|rule| {
            let (include, pattern) = match rule {
                Rule::Include(pattern) => (true, pattern),
                Rule::Exclude(pattern) => (false, pattern),
            };
            Compiled::new(include, pattern)
                .map_err(|why| Error::new(ErrorKind::Usage, Side::Source, as_path(pattern), why))
        });
        Ok(Self {
            rules: compiled.collect::<Result<_, _>>()?,
            given: rules,
        })
    }

    /// Returns the rules it was made from, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.given
    }

    /// Returns whether there are no rules at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns whether `path`, relative to the source root, is let through.
    ///
    /// Looks at this path alone: the caller does not ask about what is below an excluded
    /// directory. The root (the empty path) is always let through.
    pub fn allows(&self, path: &[u8], is_dir: bool) -> bool {
        if path.is_empty() {
            return true;
        }
        self.rules
            .iter()
            .find(|rule| rule.matches(path, is_dir))
            .is_none_or(|rule| rule.include)
    }
}

/// Where in a path a pattern may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the top of the source.
    Top,
    /// At the top, with a `/` put before the path.
    TopSlash,
    /// So many components from the end.
    FromEnd(usize),
    /// At any component.
    Anywhere,
}

#[derive(Debug)]
struct Compiled {
    include: bool,
    tokens: Vec<Token>,
    start: Start,
    dir_only: bool,
    /// Ends in `***`: a directory is compared with a `/` put behind it.
    tail: bool,
}

impl Compiled {
    fn new(include: bool, given: &[u8]) -> Result<Self, &'static str> {
        let (pattern, dir_only) = match given {
            [] => return Err("an empty pattern matches nothing"),
            [b'/'] => return Err("the root of a source cannot be left out"),
            [pattern @ .., b'/'] => (pattern, true),
            pattern => (pattern, false),
        };
        if pattern.contains(&0) {
            return Err("no name has a NUL in it");
        }
        let (body, anchored) = match pattern {
            [b'/', body @ ..] => (body, true),
            body => (body, false),
        };
        for component in body.split(|byte| *byte == b'/') {
            match component {
                b"" => return Err("two slashes in a row match nothing"),
                b"." | b".." => return Err("'.' and '..' match nothing; '/' means the root"),
                _ => {}
            }
        }
        let deep = is_wild(body) && body.windows(2).any(|pair| pair == b"**");
        let components = body.split(|byte| *byte == b'/').count();
        let start = if anchored {
            Start::Top
        } else if !deep {
            Start::FromEnd(components)
        } else if body.starts_with(b"**") {
            Start::TopSlash
        } else {
            Start::Anywhere
        };
        Ok(Self {
            include,
            tokens: compile(body)?,
            start,
            dir_only,
            tail: body.ends_with(b"***"),
        })
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.dir_only && !is_dir {
            return false;
        }
        if !(self.tail && is_dir || self.start == Start::TopSlash) {
            return self.matches_text(path);
        }
        let mut text = Vec::with_capacity(path.len() + 2);
        if self.start == Start::TopSlash {
            text.push(b'/');
        }
        text.extend_from_slice(path);
        if self.tail && is_dir {
            text.push(b'/');
        }
        self.matches_text(&text)
    }

    fn matches_text(&self, text: &[u8]) -> bool {
        match self.start {
            Start::Top | Start::TopSlash => matches(&self.tokens, text) == Outcome::Match,
            Start::FromEnd(count) => last_components(text, count)
                .is_some_and(|text| matches(&self.tokens, text) == Outcome::Match),
            Start::Anywhere => self.matches_anywhere(text),
        }
    }

    fn matches_anywhere(&self, text: &[u8]) -> bool {
        let mut rest = text;
        loop {
            match matches(&self.tokens, rest) {
                Outcome::Match => return true,
                Outcome::Never => return false,
                Outcome::Differs => {}
            }
            let Some(slash) = rest.iter().position(|byte| *byte == b'/') else {
                return false;
            };
            rest = rest.get(slash + 1..).unwrap_or_default();
        }
    }
}

/// Returns the last `count` components of a path that has at least so many.
fn last_components(path: &[u8], count: usize) -> Option<&[u8]> {
    let slashes = path.iter().enumerate().rev().filter(|(_, b)| **b == b'/');
    let mut left = count;
    for (at, _) in slashes {
        left -= 1;
        if left == 0 {
            return path.get(at + 1..);
        }
    }
    (left == 1).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(pattern: &str) -> Filter {
        Filter::new(vec![Rule::Exclude(pattern.as_bytes().to_vec())]).unwrap()
    }

    #[test]
    fn the_default_allows_everything() {
        assert!(Filter::default().is_empty());
        assert!(Filter::default().allows(b"a/b", false));
    }

    #[test]
    fn the_first_match_wins() {
        let filter = Filter::new(vec![
            Rule::Include(b"keep.tmp".to_vec()),
            Rule::Exclude(b"*.tmp".to_vec()),
            Rule::Include(b"*".to_vec()),
            Rule::Exclude(b"other".to_vec()),
        ])
        .unwrap();
        assert!(filter.allows(b"a/keep.tmp", false));
        assert!(!filter.allows(b"a/lose.tmp", false));
        assert!(filter.allows(b"a/other", false));
        let given: Vec<Rule> = filter.rules().to_vec();
        assert_eq!(given.len(), 4);
        assert_eq!(given[1], Rule::Exclude(b"*.tmp".to_vec()));
    }

    #[test]
    fn patterns_match_where_they_say() {
        let table = [
            // pattern, path, is a directory, is left out
            ("a", "a", false, true),
            ("a", "x/y/a", false, true),
            ("a", "xa", false, false),
            ("/a", "a", false, true),
            ("/a", "x/a", false, false),
            ("a/", "x/a", true, true),
            ("a/", "x/a", false, false),
            ("a/b", "a/b", false, true),
            ("a/b", "x/a/b", false, true),
            ("a/b", "xa/b", false, false),
            ("a/b", "a/b/c", false, false),
            ("/a/b", "x/a/b", false, false),
            ("*.o", "x/y.o", false, true),
            ("*.o", "x.o/y", false, false),
            ("/*.o", "x/y.o", false, false),
            ("a/*", "x/a/b", false, true),
            ("a/*", "a/b/c", false, false),
            ("a/**", "a/b/c", false, true),
            ("a/**", "a", true, false),
            ("a/***", "a", true, true),
            ("a/***", "a", false, false),
            ("a/***", "x/a/b/c", false, true),
            ("/a/***", "x/a/b", false, false),
            ("**/a", "a", false, true),
            ("**/a", "x/y/a", false, true),
            ("a**b", "x/a/y/b", false, true),
            ("/a**b", "x/a/b", false, false),
            ("a*c**f", "ax/ac/f", false, true),
            ("?", "x/ab", false, false),
            ("[!a]b", "x/cb", false, true),
            ("a\\*b", "a*b", false, true),
            ("a\\*b", "aXb", false, false),
            ("a\\b", "a\\b", false, true),
        ];
        for (pattern, path, is_dir, left_out) in table {
            let allowed = excludes(pattern).allows(path.as_bytes(), is_dir);
            assert_eq!(allowed, !left_out, "{pattern} on {path}");
        }
    }

    #[test]
    fn names_are_bytes() {
        let filter = Filter::new(vec![Rule::Exclude(b"\xff?\n".to_vec())]).unwrap();
        assert!(!filter.allows(b"d/\xff\xfe\n", false));
        assert!(filter.allows(b"d/\xffab\n", false));
    }

    #[test]
    fn the_root_is_never_left_out() {
        assert!(excludes("**").allows(b"", true));
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for pattern in ["", "/", "a//b", "//a", "./a", "a/../b", "a/./", "[a", "a\0"] {
            let rule = Rule::Exclude(pattern.as_bytes().to_vec());
            let error = Filter::new(vec![rule]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{pattern:?}");
        }
    }

    #[test]
    fn a_deep_pattern_on_a_deep_path_ends() {
        // 4,000 components: trying everything behind `**` at every one of them would be 4,000
        // times the work.
        let path = vec![&b"ab"[..]; 4000].join(&b'/');
        assert!(excludes("a*/**/a*c").allows(&path, false));
        assert!(excludes("a*b/**a*b**a*c").allows(&path, false));
    }
}
