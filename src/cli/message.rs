//! Failures told to people: what happened, why, what is safe, what to do next.

use std::path::Path;

use super::escape::{escape, escape_path};
use super::resolve::Misuse;
use super::text::{Paint, Tone, push};
use crate::error::{Error, ErrorKind};

/// What the advice depends on besides the failure.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// `copy`, `resume`, `hash` or `verify`.
    pub command: &'a str,
    /// The target as typed, if there is one.
    pub target: Option<&'a Path>,
    /// Whether anything can have been written to the target.
    pub began: bool,
    /// How to colour.
    pub paint: Paint,
}

/// Returns a failure that ended a run, as lines without a last line end.
pub fn render_error(error: &Error, context: &Context<'_>) -> String {
    let kind = error.kind();
    let path = escape_path(error.path());
    let what = if path.is_empty() {
        headline(kind).to_owned()
    } else {
        format!("{}: {path}", headline(kind))
    };
    let why = escape(error.reason().as_bytes());
    lines(
        &what,
        &why,
        Some(kept(kind, context)),
        &next(kind, context),
        context.paint,
    )
}

/// Returns a command line that cannot be done, as lines without a last line end.
pub fn render_misuse(misuse: &Misuse, paint: Paint) -> String {
    lines(&misuse.what, &misuse.why, None, &misuse.next, paint)
}

fn lines(what: &str, why: &str, kept: Option<&str>, next: &str, paint: Paint) -> String {
    let mut text = format!("{} {what}", paint.paint(Tone::Bad, "error:"));
    for (label, part) in [("why: ", Some(why)), ("kept:", kept), ("next:", Some(next))] {
        if let Some(part) = part {
            let part = part.replace('\n', "\n        ");
            push(
                &mut text,
                format_args!("\n  {} {part}", paint.paint(Tone::Strong, label)),
            );
        }
    }
    text
}

fn headline(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::SourceRead => "cannot read",
        ErrorKind::SourceDenied => "no permission to read",
        ErrorKind::SourceVanished => "the source is not there",
        ErrorKind::SourceChanged => "the source changed while it was read",
        ErrorKind::SourceLost => "the source drive went away",
        ErrorKind::SourceStalled => "the source drive does not answer",
        ErrorKind::TargetExists => "the name is taken in the target",
        ErrorKind::TargetName => "the target cannot hold this name",
        ErrorKind::TargetDenied => "no permission to write",
        ErrorKind::TargetWrite => "cannot write to the target",
        ErrorKind::TargetFull => "the target is full",
        ErrorKind::TargetSync => "the target could not make data durable",
        ErrorKind::TargetLost => "the target is not what it was",
        ErrorKind::Metadata => "metadata could not be kept",
        ErrorKind::Escape => "the path leads out of its root",
        ErrorKind::DigestMismatch => "the bytes are NOT those that were recorded",
        ErrorKind::Unverified => "copied, but not verified as asked",
        ErrorKind::Missing => "a recorded file is not there",
        ErrorKind::RecordCorrupt => "a record cannot be understood",
        ErrorKind::RecordWrite => "a record could not be written",
        ErrorKind::Unsupported => "not possible on this system",
        ErrorKind::Usage => "this cannot be done",
        ErrorKind::Refused => "refused",
        ErrorKind::Locked => "another run holds the target",
        ErrorKind::Stopped => "stopped before the end",
        ErrorKind::Panic => "a bug in inhaul ended the work on a drive",
    }
}

fn kept(kind: ErrorKind, context: &Context<'_>) -> &'static str {
    let before_writing = matches!(
        kind,
        ErrorKind::Usage | ErrorKind::Unsupported | ErrorKind::Refused | ErrorKind::Locked
    );
    if context.command == "bench" {
        "nothing is left behind, and block devices are only ever read"
    } else if !matches!(context.command, "copy" | "resume") {
        "nothing was changed; this command only reads"
    } else if before_writing || !context.began {
        "nothing was written"
    } else if kind == ErrorKind::TargetSync {
        "files acknowledged before this are durable; everything else counts as not copied"
    } else {
        "files that were finished are durable and recorded; nothing half-written has its final name"
    }
}

fn next(kind: ErrorKind, context: &Context<'_>) -> String {
    let target = context.target.map_or("TARGET".to_owned(), shell_word);
    let again = "run the same command again";
    match kind {
        ErrorKind::SourceRead => format!(
            "{again}; if it fails again, look for drive errors with 'dmesg' and 'smartctl -a'"
        ),
        ErrorKind::SourceDenied => format!("run as root or allow reading, then {again}"),
        ErrorKind::SourceVanished => {
            format!("check the path, and with 'findmnt' whether the drive is mounted; then {again}")
        }
        ErrorKind::SourceChanged => format!("stop what writes to the source, then {again}"),
        ErrorKind::SourceLost | ErrorKind::SourceStalled => {
            format!("check cable and power, mount the drive again, then {again}")
        }
        ErrorKind::TargetExists => "choose: --existing skip leaves what is there, \
             --existing overwrite replaces it; or name another target"
            .to_owned(),
        ErrorKind::TargetName => "leave it out with --exclude, \
             or use a target whose file system takes any name, such as ext4 or XFS"
            .to_owned(),
        ErrorKind::TargetDenied => {
            format!(
                "run as root or allow writing, check that it is mounted read-write; then {again}"
            )
        }
        ErrorKind::TargetWrite => {
            format!("look for storage errors with 'dmesg', then {again}")
        }
        ErrorKind::TargetFull => format!("make room ('df -h {target}'), then {again}"),
        ErrorKind::TargetSync => format!(
            "look for storage errors with 'dmesg', put them right, then {again};\n\
             with --verify target, what is there is read back, too"
        ),
        ErrorKind::TargetLost => format!(
            "look with 'findmnt' and 'dmesg' what became of it, mount it again, then {again}"
        ),
        ErrorKind::Metadata => {
            "run as root, or use a target whose file system has owners and attributes".to_owned()
        }
        ErrorKind::Escape => "look at the path: a symbolic link or a mount stands where a \
             directory was; something else may be writing there"
            .to_owned(),
        ErrorKind::DigestMismatch => "keep the source drive; check memory, cables and storage, \
             then copy this file again, with --existing overwrite if it is in the target"
            .to_owned(),
        ErrorKind::Unverified => format!(
            "it is copied and durable; after a remount, 'inhaul verify {target}' reads it again"
        ),
        ErrorKind::Missing if context.command == "resume" => {
            "give the copy command again: it copies what is missing".to_owned()
        }
        ErrorKind::Missing => format!("if it should be there, copy it again: {again}"),
        ErrorKind::RecordCorrupt => match context.command {
            "copy" | "resume" => {
                format!("look at {target}/.inhaul and its drive; other jobs there are not affected")
            }
            _ => format!("choose another record with --job; 'ls {target}/.inhaul' lists them"),
        },
        ErrorKind::RecordWrite => {
            format!("check room and permissions of {target}/.inhaul, then {again}")
        }
        ErrorKind::Unsupported => {
            "leave the option out: the default uses what this system has".to_owned()
        }
        ErrorKind::Usage => {
            format!("'inhaul {} --help' explains each argument", context.command)
        }
        ErrorKind::Refused => match context.command {
            "copy" => "put that right and run again; -n shows the plan and writes nothing",
            _ => "put that right and run again",
        }
        .to_owned(),
        ErrorKind::Locked => "wait until the other run has ended, then run again".to_owned(),
        ErrorKind::Stopped => format!("to go on, {again}, or: inhaul resume {target}"),
        ErrorKind::Panic => {
            "please report this with the text above; the other drives are not affected".to_owned()
        }
    }
}

/// Returns a path as one word for a POSIX shell; one that cannot be typed is shown escaped.
pub fn shell_word(path: &Path) -> String {
    let text = escape_path(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@%+=:,-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Side;

    fn context(target: &Path) -> Context<'_> {
        Context {
            command: "copy",
            target: Some(target),
            began: true,
            paint: Paint(false),
        }
    }

    #[test]
    fn a_failure_says_what_why_kept_next() {
        let error = Error::target("/tank/in", "sync", rustix::io::Errno::IO);
        let error = Error::new(ErrorKind::TargetSync, Side::Target, error.path(), "sync")
            .because(rustix::io::Errno::IO);
        assert_eq!(
            render_error(&error, &context(Path::new("/tank/my in"))),
            "\
error: the target could not make data durable: /tank/in
  why:  sync: Input/output error (os error 5)
  kept: files acknowledged before this are durable; everything else counts as not copied
  next: look for storage errors with 'dmesg', put them right, then run the same command again;
        with --verify target, what is there is read back, too"
        );
    }

    #[test]
    fn every_kind_has_advice_that_is_safe_to_print() {
        use ErrorKind as K;
        let kinds = [
            K::SourceRead,
            K::SourceDenied,
            K::SourceVanished,
            K::SourceChanged,
            K::SourceLost,
            K::TargetExists,
            K::TargetName,
            K::TargetDenied,
            K::TargetWrite,
            K::TargetFull,
            K::TargetSync,
            K::TargetLost,
            K::Metadata,
            K::Escape,
            K::DigestMismatch,
            K::Unverified,
            K::Missing,
            K::RecordCorrupt,
            K::RecordWrite,
            K::Unsupported,
            K::Usage,
            K::Refused,
            K::Locked,
            K::Stopped,
            K::Panic,
        ];
        for kind in kinds {
            let error = Error::new(kind, Side::Source, "/mnt/\x1b[2J", "while \x07 testing");
            let text = render_error(&error, &context(Path::new("/t\x1bx")));
            assert!(text.starts_with("error: "), "{text}");
            for label in [
                "\n  why:  while \\x07 testing\n",
                "\n  kept: ",
                "\n  next: ",
            ] {
                assert!(text.contains(label), "{text}");
            }
            assert!(
                !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text}"
            );
            assert!(!text.contains("  next: \n"), "{text}");
        }
    }

    #[test]
    fn before_anything_is_written_it_says_so() {
        let error = Error::new(ErrorKind::Locked, Side::Record, "/tank/in", "lock");
        let text = render_error(&error, &context(Path::new("/tank/in")));
        assert!(text.contains("kept: nothing was written"), "{text}");
        let reading = Context {
            command: "verify",
            ..context(Path::new("/tank/in"))
        };
        assert!(render_error(&error, &reading).contains("nothing was changed"));
        let resuming = Context {
            command: "resume",
            began: false,
            ..context(Path::new("/tank/in"))
        };
        let text = render_error(&error, &resuming);
        assert!(text.contains("kept: nothing was written"), "{text}");
    }

    #[test]
    fn words_for_a_shell_are_quoted_when_needed() {
        assert_eq!(shell_word(Path::new("/tank/in-1")), "/tank/in-1");
        assert_eq!(shell_word(Path::new("/a b")), "'/a b'");
        assert_eq!(shell_word(Path::new("it's")), "'it'\\''s'");
        assert_eq!(shell_word(Path::new("")), "''");
    }
}
