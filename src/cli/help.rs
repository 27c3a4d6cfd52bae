//! The parts of the help that teach: examples, rules, exit codes. Also sections of the manual page.
//!
//! Every section is a heading that ends in a colon and lines indented by two; the manual page
//! finds them by that shape.

use super::text::push;
use crate::exit::Exit;

/// Under `inhaul -h`.
pub const SHORT_HINT: &str = "\
Example:
  inhaul copy /mnt/d1 /mnt/d2 /mnt/d3 /tank/in

'inhaul --help' has more examples, the rules and the exit codes.";

/// Under `inhaul copy -h`.
pub const COPY_SHORT: &str = "\
Example:
  inhaul copy /mnt/d1 /mnt/d2 /tank/in    makes /tank/in/d1 and /tank/in/d2

'inhaul copy --help' explains each option, the rules and the exit codes.";

/// Under `inhaul resume -h`.
pub const RESUME_SHORT: &str = "\
Example:
  inhaul resume /tank/in

'inhaul resume --help' explains each option, the rules and the exit codes.";

/// Under `inhaul hash -h`.
pub const HASH_SHORT: &str = "\
Example:
  inhaul hash /mnt/d1 > d1.b3 && b3sum -c d1.b3

'inhaul hash --help' explains each option, the rules and the exit codes.";

/// Under `inhaul verify -h`.
pub const VERIFY_SHORT: &str = "\
Example:
  inhaul verify /tank/in

'inhaul verify --help' explains each option and the exit codes.";

/// Under `inhaul bench -h`.
pub const BENCH_SHORT: &str = "\
Example:
  inhaul bench /dev/sd[a-h]

'inhaul bench --help' explains each option and what the figures mean.";

/// Under `inhaul drives -h`.
pub const DRIVES_SHORT: &str = "\
Example:
  inhaul drives --json | jq '.links[] | {name, drives}'

'inhaul drives --help' explains each option.";

const BENCH_FIGURES: &str = "\
What is measured:
  Reads go past the page cache, or are proved not to be in it; where a rate
  would be that of memory, it is refused or marked. A warm-up before each
  sample is not counted. A figure is the median of at least 3 samples, with
  the slowest and the fastest beside it. The search for queue depth and
  request size takes one sample each; what it finds is measured then.
  Latency is from the request to the look that found it done, at the depth
  of the queue: a deeper queue waits longer.
  'together' reads 1, 2, 4 ... all of them at once, and names the link,
  processor or memory that holds them back, as far as the kernel shows it.
  Writing goes to scratch files without a name, and counts the last sync;
  what is left of a bench that was killed between making and hiding one is
  removed by the next. Block devices are opened for reading, always.
  Ctrl-C ends it; what was measured by then is printed.";

const EXAMPLES: &str = "\
Examples:
  inhaul copy /mnt/d1 /mnt/d2 /tank/in            two drives at once
  inhaul copy /mnt/d* /tank/in                    as many as there are
  inhaul copy -n /mnt/d* /tank/in                 would it fit? writes nothing
  inhaul copy --spill /mnt/b /mnt/d* /mnt/a       goes on in b when a is full
  inhaul resume /tank/in                          go on after a stop
  inhaul verify /tank/in                          read all again and compare
  inhaul hash /mnt/d1 > d1.b3                     digests alone
  inhaul drives                                   what is attached
  inhaul bench /dev/sd[a-h]                       what it gives";

const SLASH: &str = "\
Trailing slash:
  inhaul copy /mnt/d1  /tank/in    /mnt/d1/a.mov becomes /tank/in/d1/a.mov
  inhaul copy /mnt/d1/ /tank/in    /mnt/d1/a.mov becomes /tank/in/a.mov
  A slash at the end of a SOURCE means 'the contents of', as with rsync.
  A slash at the end of TARGET means nothing.";

const FILTERS: &str = "\
Filters:
  Patterns are tried in the order of the command line, --include, --exclude
  and --exclude-from alike; the first that matches decides, as with rsync
  (not the last, as with git). What no pattern matches is kept.
  A directory that is left out is not entered.
    --exclude '*.tmp' --exclude .Trash        neither of these
    --include keep.tmp --exclude '*.tmp'      no *.tmp but keep.tmp";

const SIZES: &str = "\
Sizes:
  K, M, G, T and KiB, MiB, ...   powers of 1024:  64M = 67,108,864 bytes
  kB, MB, GB, TB                 powers of 1000:  64MB = 64,000,000 bytes
  A size without a unit is in bytes; a rate needs a unit, as in 500MB.
  Output is always in powers of 1000, as drives are sold.";

const RECORDS: &str = "\
Records:
  TARGET/.inhaul/JOB/manifest.b3     digests, for 'b3sum -c' run in TARGET
  TARGET/.inhaul/JOB/report.json     what was copied, and what was not and why
  TARGET/.inhaul/JOB/job.json        what was asked for; 'resume' reads it
  JOB is named after the time it began.";

const SIGNALS: &str = "\
Stopping:
  Ctrl-C (or SIGTERM, or SIGHUP) stops in order: what is in flight is made
  durable and recorded, and the exit code is 75. A second one stops at once.
  To go on, run 'inhaul resume TARGET', or the same command again.";

const RESUMING: &str = "\
Resuming:
  JOB is a TARGET (its unfinished job is meant), a folder in TARGET/.inhaul,
  or the name of one that this user began. A source is known by its file
  system, not by its path: under another mount point it keeps its place in
  the target. One that is not there is reported, the others go on, and the
  exit code is 3. Which copies are unfinished is noted in
  $XDG_STATE_HOME/inhaul/jobs, by default below ~/.local/state.";

const NO_DELETE: &str = "\
Not here:
  --delete is absent on purpose: inhaul only adds to a target, so that no
  slip of a path can cost data. To mirror, run 'rsync -a --delete' after it.";

const JSON: &str = "\
Events:
  --json prints one object a line, each with \"schema\": 1 and \"type\": start,
  progress (one a second), problem, skipped, health, drive, file (hash), error,
  and at the end plan (with -n) or summary, which holds the whole report.
  Paths that are not UTF-8 come with their exact bytes in \"path_hex\".";

/// Under `inhaul man --help`.
pub const MAN: &str = "\
Examples:
  inhaul man | man -l -
  inhaul man > /usr/local/share/man/man1/inhaul.1";

/// Under `inhaul completions --help`.
pub const COMPLETIONS: &str = "\
Examples:
  inhaul completions bash > /etc/bash_completion.d/inhaul
  inhaul completions zsh > /usr/share/zsh/site-functions/_inhaul
  inhaul completions fish > ~/.config/fish/completions/inhaul.fish";

/// Returns the long help of the program.
pub fn root() -> String {
    sections(&[
        EXAMPLES,
        SLASH,
        SIZES,
        RECORDS,
        SIGNALS,
        &exit_codes(&Exit::ALL),
        NO_DELETE,
    ])
}

/// Returns the long help of `copy`.
pub fn copy() -> String {
    let codes: Vec<Exit> = Exit::ALL.into_iter().filter(|e| *e != Exit::Pipe).collect();
    sections(&[
        EXAMPLES,
        SLASH,
        FILTERS,
        SIZES,
        RECORDS,
        SIGNALS,
        JSON,
        &exit_codes(&codes),
        NO_DELETE,
    ])
}

/// Returns the long help of `resume`.
pub fn resume() -> String {
    let examples = "\
Examples:
  inhaul resume                          the one that is unfinished
  inhaul resume /tank/in                 the one that copies there
  inhaul resume --verify target JOB      JOB as in 'ls /tank/in/.inhaul'";
    let codes: Vec<Exit> = Exit::ALL.into_iter().filter(|e| *e != Exit::Pipe).collect();
    sections(&[
        examples,
        RESUMING,
        SIZES,
        RECORDS,
        SIGNALS,
        JSON,
        &exit_codes(&codes),
    ])
}

/// Returns the long help of `hash`.
pub fn hash() -> String {
    let examples = "\
Examples:
  inhaul hash /mnt/d1 /mnt/d2 > drives.b3
  b3sum -c drives.b3";
    sections(&[examples, FILTERS, SIZES, JSON, &exit_codes(&Exit::ALL)])
}

/// Returns the long help of `verify`.
pub fn verify() -> String {
    let examples = "\
Examples:
  inhaul verify /tank/in
  inhaul verify --job JOB /tank/in       JOB as in 'ls /tank/in/.inhaul'
  inhaul verify --repair --from /mnt/d1 /tank/in
  cd /tank/in && b3sum -c .inhaul/JOB/manifest.b3";
    let codes: Vec<Exit> = Exit::ALL.into_iter().filter(|e| *e != Exit::Pipe).collect();
    sections(&[examples, SIZES, JSON, &exit_codes(&codes)])
}

/// Returns the long help of `drives`.
pub fn drives() -> String {
    let examples = "\
Examples:
  inhaul drives                          everything that is attached
  inhaul drives /mnt/d1 /dev/sdc         the drives these are on
  inhaul drives --json | jq -r '.drives[].serial'";
    let reading = "\
Reading the table:
  block        logical/physical block size in bytes
  queue        requests the drive (or else the kernel) takes at once
  node         NUMA node of the controller, on machines with several
  sdb=sdc      two paths to one drive (multipath)
  !            what the kernel has noticed: look at it before a copy
  The ceiling of a shared link is what its wire carries, in one direction;
  protocols take their part, so drives together see less.";
    sections(&[examples, reading])
}

/// Returns the long help of `bench`.
pub fn bench() -> String {
    let examples = "\
Examples:
  inhaul bench /dev/sd[a-h]              whole drives, read only, as root
  inhaul bench /mnt/d*                   by their files, as anybody
  inhaul bench /mnt/d* --target /tank/in what an ingest would reach
  inhaul bench --write /tank/in          how fast it writes
  inhaul bench --json /dev/sd[a-h] > before.json
  inhaul bench --compare before.json after.json
  inhaul bench --html shelf.html /dev/sd[a-h]";
    sections(&[
        examples,
        BENCH_FIGURES,
        SIZES,
        &exit_codes(&[
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::Incomplete,
            Exit::Refused,
            Exit::Stopped,
            Exit::Interrupted,
        ]),
    ])
}

/// Returns all sections for the manual page.
pub fn manual() -> String {
    sections(&[
        EXAMPLES,
        SLASH,
        FILTERS,
        SIZES,
        RECORDS,
        SIGNALS,
        RESUMING,
        JSON,
        &exit_codes(&Exit::ALL),
        NO_DELETE,
    ])
}

fn exit_codes(exits: &[Exit]) -> String {
    let mut table = "Exit codes:".to_owned();
    for exit in exits {
        push(
            &mut table,
            format_args!("\n  {:<4} {}", exit.code(), exit.meaning()),
        );
    }
    table.push_str("\n  If several apply, the worst counts: 4 before 1 before 3 before 75.");
    table
}

fn sections(parts: &[&str]) -> String {
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_a_small_terminal() {
        let all = [
            root(),
            copy(),
            resume(),
            hash(),
            verify(),
            drives(),
            manual(),
        ]
        .join("\n");
        let fixed = [
            SHORT_HINT,
            COPY_SHORT,
            RESUME_SHORT,
            HASH_SHORT,
            VERIFY_SHORT,
            DRIVES_SHORT,
            BENCH_SHORT,
            MAN,
            COMPLETIONS,
        ];
        for line in all
            .lines()
            .chain(fixed.iter().flat_map(|text| text.lines()))
        {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn help_states_every_exit_code() {
        let text = root();
        for line in [
            "\n  0    everything is done, and every file is durable\n",
            "\n  1    failed: ",
            "\n  2    the command line is wrong",
            "\n  3    went to the end, but NOT everything is copied",
            "\n  4    bytes differ",
            "\n  6    refused before anything was written",
            "\n  7    another run holds the target",
            "\n  75   stopped in order",
            "\n  130  stopped at once",
        ] {
            assert!(text.contains(line), "{line}");
            assert!(copy().contains(line), "{line}");
            assert!(resume().contains(line), "{line}");
            assert!(verify().contains(line), "{line}");
        }
    }
}
