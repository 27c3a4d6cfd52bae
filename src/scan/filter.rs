//! Which entries are left out.

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
