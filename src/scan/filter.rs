//! Which entries are left out.

/// Ordered include and exclude rules; the first match wins.
#[derive(Debug, Default)]
pub struct Filter;
