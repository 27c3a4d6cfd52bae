//! Exit codes: what a script or a scheduler learns from a run.
//!
//! One code, one meaning: "bytes differ" is never mixed with "could not read some files", nor
//! either with "stopped, run me again".

use crate::error::{ErrorKind, Reach};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Everything was done.
    Success,
    /// Failed in a way nobody asked for.
    Failure,
    /// The command line asks for something impossible.
    Usage,
    /// Went to the end, but some files are not copied, or not verified as asked.
    Incomplete,
    /// Bytes differ from their record, or a source changed while it was read.
    Mismatch,
    /// Refused before anything was written.
    Refused,
    /// Another run holds the target.
    Locked,
    /// Stopped in order before the end.
    Stopped,
    /// Stopped at once by a second signal.
    Interrupted,
    /// The reader of standard output went away before it had every digest (`hash` only).
    Pipe,
}

impl Exit {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::Incomplete,
        Self::Mismatch,
        Self::Refused,
        Self::Locked,
        Self::Stopped,
        Self::Interrupted,
        Self::Pipe,
    ];

    /// Returns the number. 75 is EX_TEMPFAIL of sysexits.h; 130 and 141 are 128 + SIGINT, SIGPIPE.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Mismatch => 4,
            Self::Refused => 6,
            Self::Locked => 7,
            Self::Stopped => 75,
            Self::Interrupted => 130,
            Self::Pipe => 141,
        }
    }

    /// Returns the ending that has this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// Returns what the code means, in one line of help.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "everything is done, and every file is durable",
            Self::Failure => "failed: a sync, a record, the target, or a bug; see the message",
            Self::Usage => "the command line is wrong, or asks for what this kernel lacks",
            Self::Incomplete => {
                "went to the end, but NOT everything is copied or verified; see list"
            }
            Self::Mismatch => "bytes differ from their record, or a source changed while read",
            Self::Refused => "refused before anything was written (no space, unsafe target)",
            Self::Locked => "another run holds the target; try again later",
            Self::Stopped => "stopped in order before the end; run again to go on",
            Self::Interrupted => "stopped at once by a second Ctrl-C",
            Self::Pipe => "hash: the reader of standard output went away",
        }
    }

    /// Returns how much worse than the others it is, most severe last.
    fn severity(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Pipe => 1,
            Self::Stopped => 2,
            Self::Incomplete => 3,
            Self::Locked => 4,
            Self::Refused => 5,
            Self::Usage => 6,
            Self::Failure => 7,
            Self::Mismatch => 8,
            Self::Interrupted => 9,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Returns the worse of two endings; among those of a finished run 4 > 1 > 3 > 75 > 0.
#[must_use]
pub fn worst(a: Exit, b: Exit) -> Exit {
    if b.severity() > a.severity() { b } else { a }
}

/// Returns the ending that one failure of this kind asks for.
pub fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::SourceChanged | ErrorKind::DigestMismatch => Exit::Mismatch,
        ErrorKind::Usage | ErrorKind::Unsupported => Exit::Usage,
        ErrorKind::Refused => Exit::Refused,
        ErrorKind::Locked => Exit::Locked,
        ErrorKind::Stopped => Exit::Stopped,
        // A pulled drive ends its lane, and a human has to reseat it: not for a scheduler to retry.
        ErrorKind::SourceLost | ErrorKind::SourceStalled => Exit::Incomplete,
        other => match other.reach() {
            Reach::File => Exit::Incomplete,
            Reach::Lane | Reach::Target | Reach::Run => Exit::Failure,
        },
    }
}

/// Returns the ending of a run.
///
/// `stopped`: whether it was asked to stop. `fatal`: what ended it, if anything did. `problems`:
/// the kinds of everything reported on the way, each at least once, in any order.
pub fn exit_for(
    stopped: bool,
    fatal: Option<ErrorKind>,
    problems: impl IntoIterator<Item = ErrorKind>,
) -> Exit {
    let start = if stopped {
        Exit::Stopped
    } else {
        Exit::Success
    };
    fatal
        .into_iter()
        .chain(problems)
        .map(exit_of)
        .fold(start, worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind as K;

    #[test]
    fn every_kind_has_its_code() {
        let table = [
            (K::SourceRead, 3),
            (K::SourceDenied, 3),
            (K::SourceVanished, 3),
            (K::SourceChanged, 4),
            (K::SourceLost, 3),
            (K::SourceStalled, 3),
            (K::TargetExists, 3),
            (K::TargetName, 3),
            (K::TargetDenied, 3),
            (K::TargetWrite, 3),
            (K::TargetFull, 3),
            (K::TargetSync, 1),
            (K::TargetLost, 1),
            (K::Metadata, 3),
            (K::Escape, 3),
            (K::DigestMismatch, 4),
            (K::Unverified, 3),
            (K::Missing, 3),
            (K::RecordCorrupt, 1),
            (K::RecordWrite, 1),
            (K::Unsupported, 2),
            (K::Usage, 2),
            (K::Refused, 6),
            (K::Locked, 7),
            (K::Stopped, 75),
            (K::Panic, 1),
        ];
        for (kind, code) in table {
            assert_eq!(exit_of(kind).code(), code, "{kind:?}");
            assert_eq!(exit_for(false, Some(kind), []).code(), code, "{kind:?}");
            assert_eq!(exit_for(false, None, [kind]).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn the_worst_wins() {
        // From least to most severe.
        let order = [0, 141, 75, 3, 7, 6, 2, 1, 4, 130];
        for (i, a) in order.into_iter().enumerate() {
            for (j, b) in order.into_iter().enumerate() {
                let (a, b) = (Exit::from_code(a).unwrap(), Exit::from_code(b).unwrap());
                assert_eq!(worst(a, b), if i >= j { a } else { b }, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn runs_end_as_the_table_says() {
        let cases: [(bool, Option<K>, &[K], u8); 9] = [
            (false, None, &[], 0),
            (true, None, &[], 75),
            (true, None, &[K::SourceRead], 3),
            (false, None, &[K::SourceRead, K::DigestMismatch], 4),
            (false, None, &[K::DigestMismatch, K::SourceRead], 4),
            (true, None, &[K::SourceChanged], 4),
            (false, Some(K::TargetSync), &[K::SourceRead], 1),
            (false, Some(K::TargetSync), &[K::DigestMismatch], 4),
            (true, Some(K::Stopped), &[], 75),
        ];
        for (stopped, fatal, problems, code) in cases {
            let exit = exit_for(stopped, fatal, problems.iter().copied());
            assert_eq!(exit.code(), code, "{stopped} {fatal:?} {problems:?}");
        }
    }

    #[test]
    fn codes_go_both_ways() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 6, 7, 75, 130, 141]);
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
            assert!(exit.meaning().len() <= 68, "one line of help");
        }
        assert_eq!(Exit::from_code(5), None);
    }
}
