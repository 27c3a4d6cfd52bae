//! Where the file systems of a job's sources were mounted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bytes, Recipe};
use crate::scan::as_path;

/// Where the file system of a source was mounted, by one of the paths that it was given by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Point {
    /// The number of the source in the journal.
    pub(in crate::engine) source: u32,
    /// The absolute path that it was given by.
    pub(in crate::engine) path: PathBuf,
    /// The mount point.
    pub(in crate::engine) at: PathBuf,
}

impl Point {
    /// Returns where a source is mounted that was typed like this.
    pub(in crate::engine) fn of(source: u32, label: &[u8], at: PathBuf) -> Self {
        let path = as_path(label);
        Self {
            source,
            path: std::path::absolute(&path).unwrap_or(path),
            at,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenPoint {
    source: u32,
    path: Bytes,
    point: Bytes,
}

impl WrittenPoint {
    pub(super) fn of(point: &Point) -> Self {
        Self {
            source: point.source,
            path: Bytes::of_path(&point.path),
            point: Bytes::of_path(&point.at),
        }
    }

    pub(super) fn point(self) -> Result<Point, String> {
        Ok(Point {
            source: self.source,
            path: self.path.path()?,
            at: self.point.path()?,
        })
    }
}

impl Recipe {
    /// Says where the file systems of the sources are mounted.
    #[must_use]
    pub(in crate::engine) fn mounted_at(self, points: Vec<Point>) -> Self {
        Self { points, ..self }
    }

    /// Returns where the file systems of the job's sources were mounted.
    pub(in crate::engine) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Takes over what another recipe of this job says of its first sources, so many.
    #[must_use]
    pub(in crate::engine) fn with_points_of(mut self, before: &Self, sources: u32) -> Self {
        let is_new = |old: &&Point| {
            let mut new = self.points.iter();
            // A source that was never recorded gave its number to another.
            old.source < sources
                && !new.any(|new| (new.source, &new.path) == (old.source, &old.path))
        };
        let old: Vec<Point> = before.points.iter().filter(is_new).cloned().collect();
        self.points.extend(old);
        self.points
            .sort_by(|a, b| (a.source, &a.path).cmp(&(b.source, &b.path)));
        self
    }
}
