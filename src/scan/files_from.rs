//! Lists of paths to copy.

use super::entry::as_path;
use crate::error::{Error, ErrorKind, Side};

/// Paths named by `--files-from`.
///
/// A listed directory means itself and everything below it (rsync needs `-r` for that). The
/// directories on the way to a listed path are made too, but nothing else in them is copied.
#[derive(Debug, Default)]
pub struct FilesFrom {
    /// Relative, normalised, sorted bytewise, without duplicates; empty means the whole source.
    /// Sorted bytewise, everything below one directory is one run: it shares a prefix.
    paths: Vec<Box<[u8]>>,
}

/// What a list says about one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Not listed, and nothing below it is.
    No,
    /// A directory only on the way to something listed.
    Descend,
    /// Listed, or below a listed directory.
    Yes,
}

impl FilesFrom {
    /// Returns the paths of a list: one a line, or ended by NUL with `nul_separated`.
    ///
    /// As rsync does: lines end at LF or CR, empty ones are ignored, and so are those that start
    /// with `#` or `;` (with NUL no byte is special). A path is relative to the source also when
    /// it starts with `/`; repeated slashes and `.` components mean nothing.
    ///
    /// # Errors
    /// `Usage` for a path with `..` in it, and for a NUL in a list of lines.
    pub fn parse(bytes: &[u8], nul_separated: bool) -> Result<Self, Error> {
        let mut paths = Vec::new();
        let is_end = |byte: &u8| match byte {
            0 => nul_separated,
            b'\n' | b'\r' => !nul_separated,
            _ => false,
        };
        for line in bytes.split(is_end) {
            let is_comment = !nul_separated && matches!(line, [b'#' | b';', ..]);
            if line.is_empty() || is_comment {
                continue;
            }
            if line.contains(&0) {
                let why = "a NUL in a list of lines; are its paths ended by NUL?";
                return Err(refused(line, why));
            }
            paths.push(normalised(line)?);
        }
        Ok(Self::of(paths))
    }

    /// Returns a list of these paths, each as [`parse`](Self::parse) takes a line; what
    /// [`paths`](Self::paths) gives makes the same list again.
    ///
    /// # Errors
    /// `Usage` for a path with `..` or a NUL in it.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let checked = paths.into_iter().map(|path| {
            if path.contains(&0) {
                return Err(refused(path, "no name has a NUL in it"));
            }
            normalised(path)
        });
        Ok(Self::of(checked.collect::<Result<_, _>>()?))
    }

    fn of(mut paths: Vec<Box<[u8]>>) -> Self {
        paths.sort_unstable();
        paths.dedup();
        Self { paths }
    }

    /// Returns the paths, relative, normalised and sorted bytewise; the empty one is the whole source.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.paths.iter().map(AsRef::as_ref)
    }

    /// Returns whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns how many different paths are listed.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Returns what the list says about `path`, relative to the source root.
    ///
    /// The root itself is at least [`Want::Descend`]. Costs one binary search per component.
    pub fn wants(&self, path: &[u8], is_dir: bool) -> Want {
        if self.find(b"").is_some() || self.find(path).is_some() {
            return Want::Yes;
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (at, _) in slashes {
            if path.get(..at).is_some_and(|dir| self.find(dir).is_some()) {
                return Want::Yes;
            }
        }
        if is_dir && (path.is_empty() || !self.below(path).is_empty()) {
            Want::Descend
        } else {
            Want::No
        }
    }

    /// Returns the place of `path` in the list.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.paths
            .binary_search_by(|own| own.as_ref().cmp(path))
            .ok()
    }

    /// Returns the places of everything listed below directory `path`, not itself.
    pub(super) fn below(&self, path: &[u8]) -> std::ops::Range<usize> {
        if path.is_empty() {
            return 0..self.paths.len();
        }
        let start = self
            .paths
            .partition_point(|own| own.iter().lt(path.iter().chain(b"/")));
        let tail = self.paths.get(start..).unwrap_or_default();
        let is_below = |own: &[u8]| own.starts_with(path) && own.get(path.len()) == Some(&b'/');
        start..start + tail.partition_point(|own| is_below(own))
    }

    /// Returns the path at a place.
    pub(super) fn path(&self, at: usize) -> &[u8] {
        self.paths.get(at).map_or(b"", AsRef::as_ref)
    }
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::new(ErrorKind::Usage, Side::Source, as_path(path), why)
}

/// Returns a path without slashes and dots that mean nothing.
fn normalised(line: &[u8]) -> Result<Box<[u8]>, Error> {
    let mut path = Vec::with_capacity(line.len());
    for component in line.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                let why = "'..' in a list of files would leave the source";
                return Err(refused(line, why));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    Ok(path.into_boxed_slice())
}

/// Which listed paths one walk has accounted for.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    list: &'a FilesFrom,
    accounted: Vec<bool>,
}

impl<'a> Seen<'a> {
    /// Returns a sheet with nothing accounted for but the root.
    pub(super) fn new(list: &'a FilesFrom) -> Self {
        let mut seen = Self {
            list,
            accounted: vec![false; list.len()],
        };
        seen.met(b"");
        seen
    }

    /// Notes that `path` is there.
    pub(super) fn met(&mut self, path: &[u8]) {
        if let Some(at) = self.list.find(path)
            && let Some(accounted) = self.accounted.get_mut(at)
        {
            *accounted = true;
        }
    }

    /// Notes that nothing below `path` will be met, for a reason that is reported or wanted.
    pub(super) fn gave_up(&mut self, path: &[u8]) {
        let below = self.list.below(path);
        if let Some(accounted) = self.accounted.get_mut(below) {
            accounted.fill(true);
        }
    }

    /// Returns the listed paths that were never met.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'a [u8]> {
        let list = self.list;
        let places = self.accounted.iter().enumerate();
        places
            .filter(|(_, accounted)| !**accounted)
            .map(move |(at, _)| list.path(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> FilesFrom {
        FilesFrom::parse(text.as_bytes(), false).unwrap()
    }

    #[test]
    fn lines_are_cleaned_as_rsync_does() {
        let list = list("# no\n; no\n\n./a//b\r\n/c\nd/./e/\n a \n");
        let paths: Vec<_> = list.paths.iter().map(|path| path.to_vec()).collect();
        assert_eq!(paths, [&b" a "[..], b"a/b", b"c", b"d/e"]);
    }

    #[test]
    fn nul_separated_paths_may_hold_anything() {
        let list = FilesFrom::parse(b"#a\0;b\0line\nbreak\0\0\xff\0", true).unwrap();
        let paths: Vec<_> = list.paths.iter().map(|path| path.to_vec()).collect();
        assert_eq!(paths, [&b"#a"[..], b";b", b"line\nbreak", b"\xff"]);
    }

    #[test]
    fn a_list_of_its_paths_is_the_same_list() {
        for text in ["", "./", "a//b\n/c\nc\n\n.\n", "#no\n-\n b\n"] {
            let list = list(text);
            let paths: Vec<&[u8]> = list.paths().collect();
            let again = FilesFrom::of_paths(paths.iter().rev().copied()).unwrap();
            assert_eq!(again.paths, list.paths, "{text:?}");
        }
        let odd = FilesFrom::of_paths([&b"#a"[..], b"line\nbreak", b"\xff/"]).unwrap();
        assert_eq!(
            odd.paths().collect::<Vec<_>>(),
            [&b"#a"[..], b"line\nbreak", b"\xff"]
        );
        assert!(FilesFrom::of_paths([&b"a/.."[..]]).is_err());
        assert!(FilesFrom::of_paths([&b"a\0b"[..]]).is_err());
    }

    #[test]
    fn the_way_out_is_refused() {
        for text in ["..", "../a", "a/../b", "a/..", "/..", "a\0b"] {
            let error = FilesFrom::parse(text.as_bytes(), false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text:?}");
        }
        assert_eq!(list("..a\na..\n...").len(), 3);
    }

    #[test]
    fn parents_are_implied_and_directories_are_whole() {
        let list = list("a/b/c\nd\n");
        let table = [
            ("", true, Want::Descend),
            ("a", true, Want::Descend),
            ("a", false, Want::No),
            ("a/b", true, Want::Descend),
            ("a/b/c", true, Want::Yes),
            ("a/b/c", false, Want::Yes),
            ("a/b/c/deep/er", false, Want::Yes),
            ("a/b/cc", false, Want::No),
            ("a/x", true, Want::No),
            ("d", true, Want::Yes),
            ("d/e/f", true, Want::Yes),
            ("d-e", false, Want::No),
            ("e", true, Want::No),
        ];
        for (path, is_dir, answer) in table {
            assert_eq!(list.wants(path.as_bytes(), is_dir), answer, "{path}");
        }
    }

    #[test]
    fn neighbours_in_byte_order_are_not_below() {
        // '-' and '.' sort before '/', '0' after it.
        let list = list("a-b\na.b/c\na/b\na/c\na0b\n");
        assert_eq!(list.below(b"a").len(), 2);
        assert_eq!(list.below(b"a.b").len(), 1);
        assert_eq!(list.below(b"a0b").len(), 0);
    }

    #[test]
    fn a_dot_means_everything_and_an_empty_list_nothing() {
        assert_eq!(list("./").wants(b"x/y", false), Want::Yes);
        assert_eq!(list("").wants(b"x", true), Want::No);
    }

    #[test]
    fn what_was_not_met_is_missing() {
        let list = list("a\nb/c\nb/d\ne\n");
        let mut seen = Seen::new(&list);
        seen.met(b"a");
        seen.gave_up(b"b");
        assert_eq!(seen.missing().collect::<Vec<_>>(), [b"e"]);
    }

    #[test]
    fn a_million_paths_are_searched_quickly() {
        let lines = (0..1_000_000).map(|n| format!("d{}/f{n}", n % 1000));
        let text = lines.collect::<Vec<_>>().join("\n");
        let list = list(&text);
        assert_eq!(list.len(), 1_000_000);
        // A linear scan would compare 10^11 paths here.
        let wanted = (0..100_000).filter(|n| {
            let path = format!("d{}/f{n}", n % 1000);
            list.wants(path.as_bytes(), false) == Want::Yes
        });
        assert_eq!(wanted.count(), 100_000);
        assert_eq!(list.wants(b"d999", true), Want::Descend);
        assert_eq!(list.wants(b"d1000", true), Want::No);
    }
}
