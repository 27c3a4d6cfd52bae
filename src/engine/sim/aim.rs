//! One operation that fails on purpose: the N-th of its kind, with one answer, once or from then on.

use rustix::io::Errno;

/// What the engine asks of the world, as far as that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    ReadBack,
    ReadPublished,
    ReadLink,
    Lookup,
    Create,
    Reserve,
    Write,
    WriteBack,
    Cut,
    MakeDir,
    FinishDir,
    Rename,
    Link,
    TakeBack,
    SyncAll,
    SyncFile,
    SyncDir,
    JournalAppend,
    JournalSync,
}

impl Call {
    pub(super) const ALL: [Self; 20] = [
        Self::Read,
        Self::ReadBack,
        Self::ReadPublished,
        Self::ReadLink,
        Self::Lookup,
        Self::Create,
        Self::Reserve,
        Self::Write,
        Self::WriteBack,
        Self::Cut,
        Self::MakeDir,
        Self::FinishDir,
        Self::Rename,
        Self::Link,
        Self::TakeBack,
        Self::SyncAll,
        Self::SyncFile,
        Self::SyncDir,
        Self::JournalAppend,
        Self::JournalSync,
    ];

    /// Returns whether it moves bytes, and may move fewer than were asked for.
    pub(super) fn moves_bytes(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// What the world says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Error(Errno),
    /// Some of the bytes, and at least one.
    Short,
    /// Not one byte, and no error.
    Nothing,
}

/// The errors that every call is answered with in turn.
pub(super) const ERRORS: [Errno; 5] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::ACCESS,
    Errno::ROFS,
    Errno::NOMEM,
];

/// Which operation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) call: Call,
    /// Counted from 1.
    pub(super) nth: u64,
    /// Whether all that follow of its kind are answered so as well.
    pub(super) for_ever: bool,
    pub(super) answer: Answer,
}

/// An aim, and how many operations of its kind there were.
#[derive(Debug)]
pub(super) struct Aimed {
    aim: Aim,
    seen: u64,
}

impl Aimed {
    pub(super) fn new(aim: Aim) -> Self {
        Self { aim, seen: 0 }
    }

    /// Counts an operation; returns what it is answered if that is not what it asks for.
    pub(super) fn strike(&mut self, call: Call) -> Option<Answer> {
        if call != self.aim.call {
            return None;
        }
        self.seen += 1;
        let is_met = self.seen == self.aim.nth || self.aim.for_ever && self.is_met();
        is_met.then_some(self.aim.answer)
    }

    pub(super) fn is_met(&self) -> bool {
        self.seen >= self.aim.nth
    }
}
