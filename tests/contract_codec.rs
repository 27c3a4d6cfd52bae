//! The contract of `manifest::Codec`, for every codec there is; and `b3sum` itself as the judge.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, which may panic and say what they skip"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use inhaul::manifest::{
    B3sum, Codec, Counts, DecodeError, FRAME_LEN_MAX, NulList, PATH_LEN_MAX, Record, Sorter, load,
    reader, write_sorted,
};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

const CODECS: [&dyn Codec; 2] = [&B3sum, &NulList];

/// A digest with all sixteen digits in it, and its bytes.
const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const DIGEST: [u8; 32] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
];

/// Paths that b3sum can check, with the line each must become, less its newline; `H` is the digest.
const EXPRESSIBLE: [(&[u8], &[u8]); 26] = [
    (b"plain", b"H  plain"),
    (b"dir/file.mov", b"H  dir/file.mov"),
    (b" lead", b"H   lead"),
    (b"  two", b"H    two"),
    (b"trail ", b"H  trail "),
    (b" ", b"H   "),
    (b"a  b", b"H  a  b"),
    (b"*star", b"H  *star"),
    (b"-dash", b"H  -dash"),
    (b"--help", b"H  --help"),
    (b"#hash", b"H  #hash"),
    (b"BLAKE3 (x) = y", b"H  BLAKE3 (x) = y"),
    (b"tab\there", b"H  tab\there"),
    (b"\x01\x1b\x7f", b"H  \x01\x1b\x7f"),
    (
        "h\u{e9}\u{fc}\u{1f600}".as_bytes(),
        b"H  h\xc3\xa9\xc3\xbc\xf0\x9f\x98\x80",
    ),
    (
        "\u{feff}bom\u{2028}".as_bytes(),
        b"H  \xef\xbb\xbfbom\xe2\x80\xa8",
    ),
    (b"back\\slash", b"\\H  back\\\\slash"),
    (b"\\", b"\\H  \\\\"),
    (b"\\n", b"\\H  \\\\n"),
    (b"new\nline", b"\\H  new\\nline"),
    (b"\n", b"\\H  \\n"),
    (b"carriage\rreturn", b"\\H  carriage\\rreturn"),
    (b"trailing\r", b"\\H  trailing\\r"),
    (b"both\r\n", b"\\H  both\\r\\n"),
    (b"sub/-", b"H  sub/-"),
    (b"...", b"H  ..."),
];

/// Paths that only `NulList` can hold.
const OUTSIDE_B3SUM: [&[u8]; 6] = [
    b"-",
    b"raw\xff\xfebytes",
    b"\xe9",
    b"half\xc3",
    "lost\u{fffd}bytes".as_bytes(),
    b"raw\xff\n\r\\",
];

fn record(path: &[u8]) -> Record {
    Record {
        path: path.to_vec(),
        digest: blake3::Hash::from_bytes(DIGEST),
    }
}

fn encode(codec: &dyn Codec, record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(record, &mut out);
    out
}

/// Every path of both lists, and the long ones.
fn nasty_paths() -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = EXPRESSIBLE.iter().map(|(path, _)| path.to_vec()).collect();
    paths.extend(OUTSIDE_B3SUM.iter().map(|path| path.to_vec()));
    paths.push(vec![b'n'; 255]);
    paths.push(vec![b'\\'; 255]);
    paths.push([b"component/".repeat(409), b"12345".to_vec()].concat());
    paths.push(b"component\n/".repeat(1900));
    paths.push(vec![b'\n'; PATH_LEN_MAX]);
    paths
}

#[test]
fn clause_1_what_can_be_expressed_comes_back() {
    let mut count = [0; CODECS.len()];
    for path in nasty_paths() {
        for (codec, count) in CODECS.iter().zip(&mut count) {
            if codec.can_express(&path) {
                let mut frame = encode(*codec, &record(&path));
                assert_eq!(frame.pop(), Some(codec.terminator()));
                assert_eq!(codec.decode(&frame), Ok(record(&path)), "{}", codec.name());
                *count += 1;
            }
        }
    }
    // b3sum: its list, two names of 255 bytes and one path of 4095. The other: all 37.
    assert_eq!(count, [29, 37]);
}

#[test]
fn clause_2_b3sum_admits_what_b3sum_can_check_and_no_more() {
    for (path, _) in EXPRESSIBLE {
        assert!(B3sum.can_express(path), "{}", path.escape_ascii());
    }
    for path in OUTSIDE_B3SUM {
        assert!(!B3sum.can_express(path), "{}", path.escape_ascii());
        assert!(NulList.can_express(path), "{}", path.escape_ascii());
    }
    for codec in CODECS {
        assert!(!codec.can_express(b""));
        assert!(!codec.can_express(b"nul\0byte"));
        assert!(!codec.can_express(&vec![b'x'; PATH_LEN_MAX + 1]));
    }
}

#[test]
fn clause_3_encoding_appends_exactly_one_frame() {
    for codec in CODECS {
        for path in nasty_paths() {
            if !codec.can_express(&path) {
                continue;
            }
            let mut out = b"before".to_vec();
            codec.encode(&record(&path), &mut out);
            let frame = out.strip_prefix(b"before").unwrap();
            let ends: Vec<_> = (0..frame.len())
                .filter(|&at| frame[at] == codec.terminator())
                .collect();
            assert_eq!(ends, [frame.len() - 1], "{}", codec.name());
            assert!(frame.len() <= FRAME_LEN_MAX + 1, "{}", codec.name());
        }
    }
}

#[test]
fn frames_are_the_stated_bytes() {
    for (path, line) in EXPRESSIBLE {
        let line = String::from_utf8(line.to_vec()).unwrap();
        // The first H only: none comes before the digest's.
        let expected = line.replacen('H', HEX, 1) + "\n";
        assert_eq!(encode(&B3sum, &record(path)), expected.as_bytes());
    }
    let expected = [HEX.as_bytes(), b"  raw\xff\n\r\\\0"].concat();
    assert_eq!(encode(&NulList, &record(b"raw\xff\n\r\\")), expected);
}

/// A frame that decodes to `record` must be the one that is made of it.
fn assert_strict(codec: &dyn Codec, frame: &[u8], original: &Record) {
    if let Ok(decoded) = codec.decode(frame) {
        assert_ne!(&decoded, original, "{}", frame.escape_ascii());
        let mut again = encode(codec, &decoded);
        assert_eq!(again.pop(), Some(codec.terminator()));
        assert_eq!(again, frame, "{}", frame.escape_ascii());
    }
}

#[test]
fn clause_5_every_changed_frame_is_an_error_or_another_record() {
    for codec in CODECS {
        for path in nasty_paths() {
            if path.len() > 20 || !codec.can_express(&path) {
                continue;
            }
            let original = record(&path);
            let mut frame = encode(codec, &original);
            frame.pop();
            for at in 0..frame.len() {
                assert_strict(codec, &frame[..at], &original);
                let kept = frame[at];
                for byte in (0..=u8::MAX).filter(|&byte| byte != kept) {
                    frame[at] = byte;
                    assert_strict(codec, &frame, &original);
                }
                frame[at] = kept;
                let mut shorter = frame.clone();
                shorter.remove(at);
                assert_strict(codec, &shorter, &original);
            }
            for at in 0..=frame.len() {
                for byte in 0..=u8::MAX {
                    let mut longer = frame.clone();
                    longer.insert(at, byte);
                    assert_strict(codec, &longer, &original);
                }
            }
        }
    }
}

#[test]
fn a_changed_digest_changes_no_path_and_a_changed_path_no_digest() {
    for codec in CODECS {
        let original = record(b"dir/file");
        let mut frame = encode(codec, &original);
        frame.pop();
        for at in 0..frame.len() {
            let kept = frame[at];
            frame[at] = if kept == b'a' { b'b' } else { b'a' };
            match codec.decode(&frame) {
                Ok(decoded) if at < 64 => {
                    assert_eq!(decoded.path, original.path);
                    assert_ne!(decoded.digest, original.digest);
                }
                Ok(decoded) => {
                    assert!(at >= 66);
                    assert_ne!(decoded.path, original.path);
                    assert_eq!(decoded.digest, original.digest);
                }
                Err(error) => {
                    assert_eq!(error, DecodeError::Separator);
                    assert!(at == 64 || at == 65);
                }
            }
            frame[at] = kept;
        }
    }
}

#[test]
fn no_proper_part_of_a_file_reads_as_a_whole_one() {
    for codec in CODECS {
        let mut file = Vec::new();
        let mut ends = vec![0];
        for path in [&b"one"[..], b"two\n", b"three"] {
            codec.encode(&record(path), &mut file);
            ends.push(file.len());
        }
        for len in 0..file.len() {
            let items: Vec<_> = reader(codec, &file[..len]).collect();
            let whole = ends.iter().filter(|&&end| 0 < end && end <= len).count();
            assert_eq!(items.iter().filter(|item| item.is_ok()).count(), whole);
            // Only a cut between two records goes unseen; the counts in the report tell of it.
            let is_cut_inside = !ends.contains(&len);
            assert_eq!(items.len(), whole + usize::from(is_cut_inside), "{len}");
        }
    }
}

/// Returns the `b3sum` to ask, if there is one that knows all escapes.
fn b3sum() -> Option<std::ffi::OsString> {
    let program = std::env::var_os("INHAUL_B3SUM").unwrap_or_else(|| "b3sum".into());
    let Ok(output) = Command::new(&program).arg("--version").output() else {
        eprintln!("SKIPPED: no b3sum on PATH nor at $INHAUL_B3SUM");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text
        .trim()
        .trim_start_matches("b3sum ")
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    if version < (Some(1), Some(8)) {
        eprintln!(
            "SKIPPED: {} is too old to judge, 1.8 is needed",
            text.trim()
        );
        return None;
    }
    Some(program)
}

fn check(program: &std::ffi::OsStr, target: &Path, manifest: &Path) -> Output {
    Command::new(program)
        .arg("--check")
        .arg(manifest)
        .current_dir(target)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Writes a file and the directories above it, one component at a time: any length will do.
fn plant(target: &Path, path: &[u8], contents: &[u8]) {
    let mut dir: OwnedFd = File::open(target).unwrap().into();
    let mut names: Vec<_> = path.split(|&byte| byte == b'/').collect();
    let last = names.pop().unwrap();
    for name in names {
        mkdirat(&dir, name, Mode::from_raw_mode(0o755)).ok();
        dir = openat(
            &dir,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = openat(&dir, last, flags, Mode::from_raw_mode(0o644)).unwrap();
    File::from(file).write_all(contents).unwrap();
}

/// A path of `len` bytes: directories of 200, and what is left.
fn long_path(len: usize) -> Vec<u8> {
    let mut path = Vec::new();
    while path.len() + 201 < len {
        path.extend_from_slice(&[b'd'; 200]);
        path.push(b'/');
    }
    path.resize(len, b'f');
    path
}

#[test]
fn b3sum_accepts_a_true_manifest_and_refuses_a_false_one() {
    let Some(program) = b3sum() else { return };
    let target = tempfile::tempdir().unwrap();
    let job = tempfile::tempdir().unwrap();
    let job_dir = File::open(job.path()).unwrap();

    let mut paths: Vec<Vec<u8>> = EXPRESSIBLE.iter().map(|(path, _)| path.to_vec()).collect();
    paths.push(vec![b'n'; 255]);
    paths.push(long_path(4095));
    let inside = paths.len();
    paths.extend(OUTSIDE_B3SUM.iter().map(|path| path.to_vec()));
    paths.push(long_path(4096));
    paths.push(long_path(20_000));

    let mut sorter = Sorter::new(job_dir.try_clone().unwrap().into(), 4 << 10);
    for path in &paths {
        // Contents that differ from file to file, so that no name can pass for another.
        plant(target.path(), path, path);
        let digest = blake3::hash(path);
        let path = path.clone();
        sorter.push(&Record { path, digest }).unwrap();
    }
    let counts = write_sorted(sorter, job_dir.as_fd(), &mut |_| true).unwrap();
    let expected = Counts {
        records: 36,
        outside_b3sum: 8,
    };
    assert_eq!(counts, expected);
    assert_eq!(inside, 28);

    let manifest = job.path().join("manifest.b3");
    let output = check(&program, target.path(), &manifest);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        text.lines().filter(|line| line.ends_with(": OK")).count(),
        28
    );

    // Ours reads the same, and the rest besides.
    let mut loaded: Vec<_> = load(job_dir.as_fd())
        .unwrap()
        .map(|r| r.unwrap().path)
        .collect();
    loaded.sort();
    paths.sort();
    assert_eq!(loaded, paths);

    for victim in [&b"plain"[..], b"both\r\n", b"back\\slash"] {
        plant(target.path(), victim, b"something else");
        let output = check(&program, target.path(), &manifest);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text.lines().filter(|line| line.ends_with(": OK")).count(),
            27
        );
        assert_eq!(
            text.lines()
                .filter(|line| line.ends_with(": FAILED"))
                .count(),
            1
        );
        plant(target.path(), victim, victim);
    }
    std::fs::remove_file(target.path().join("--help")).unwrap();
    assert_eq!(
        check(&program, target.path(), &manifest).status.code(),
        Some(1)
    );
}

#[test]
fn b3sum_truly_cannot_check_the_names_we_leave_out() {
    let Some(program) = b3sum() else { return };
    let mut paths: Vec<Vec<u8>> = OUTSIDE_B3SUM.iter().map(|path| path.to_vec()).collect();
    paths.push(long_path(4096));
    for path in paths {
        let target = tempfile::tempdir().unwrap();
        plant(target.path(), &path, &path);
        // The line as it would be: the encoder is not asked whether it may.
        let digest = blake3::hash(&path);
        let line = encode(
            &B3sum,
            &Record {
                path: path.clone(),
                digest,
            },
        );
        let manifest = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(manifest.path(), line).unwrap();
        let output = check(&program, target.path(), manifest.path());
        let name = Path::new(std::ffi::OsStr::from_bytes(&path));
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}: {output:?}",
            name.display()
        );
    }
}
