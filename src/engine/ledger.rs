//! What a command does with each file once it is durable: list it, print it, compare it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::session::Observer;
use crate::digest::Hash;
use crate::error::{Error, ErrorKind, Side};
use crate::manifest::{Record, Sorter};
use crate::scan::{Entry, Kind};

/// Takes note of durable files, in the order they became durable.
pub(crate) trait Ledger: Debug + Send {
    /// Takes note of one. `digest` is `None` for what has no bytes of its own, and for a further
    /// name of a file that was there before this run; `existing` is the path below TARGET that a
    /// further name is linked to.
    ///
    /// # Errors
    /// The file then counts as failed.
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        existing: Option<&[u8]>,
    ) -> Result<(), Error>;
}

/// `copy`: lists files for the manifest.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) sorter: Sorter,
    /// Names linked to files that were there before: by that file's path, both below TARGET. Their
    /// digests are in an earlier manifest.
    pub(crate) owed: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Ledger for Listing {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(digest) = digest else {
            if let Some(existing) = existing.filter(|_| entry.kind == Kind::File) {
                let names = self.owed.entry(existing.to_vec()).or_default();
                names.push(entry.target_path());
            }
            return Ok(());
        };
        let record = Record {
            path: entry.target_path(),
            digest: *digest,
        };
        self.sorter.push(&record).map_err(|source| {
            let what = "copied, but it cannot be listed in the manifest";
            Error::new(
                ErrorKind::RecordWrite,
                Side::Record,
                entry.display_path(),
                what,
            )
            .because(source)
        })
    }
}

/// `hash`: tells the observer.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) observer: Arc<dyn Observer>,
}

impl Ledger for Telling {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        _existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        if let Some(digest) = digest {
            use std::os::unix::ffi::OsStrExt;
            let path = entry.display_path();
            self.observer
                .hashed(path.as_os_str().as_bytes(), entry.stamp.size, digest);
        }
        Ok(())
    }
}

/// `verify`: compares with what the manifest says; `copy --verify both`: with what the journal says
/// of the first read.
#[derive(Debug)]
pub(crate) struct Comparing {
    /// What is read: the target, or the sources again.
    pub(crate) side: Side,
}

impl Ledger for Comparing {
    fn committed(
        &mut self,
        entry: &Entry,
        digest: Option<&Hash>,
        _existing: Option<&[u8]>,
    ) -> Result<(), Error> {
        match (entry.recorded, digest) {
            (Some(recorded), Some(read)) if recorded == *read => Ok(()),
            (Some(recorded), Some(read)) => {
                let what = match self.side {
                    Side::Source => format!(
                        "read twice, it gave different bytes: first {recorded}, then {read}; \
                         do not trust this drive, or its cable"
                    ),
                    _ => format!("its bytes differ: recorded {recorded}, read {read}"),
                };
                let path = entry.display_path();
                let kind = ErrorKind::DigestMismatch;
                Err(Error::new(kind, self.side, path, &what))
            }
            (None, _) | (_, None) => Ok(()),
        }
    }
}
