//! Records as `b3sum -c` reads them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Codec, DecodeError, Record, admit, put_digest, split_digest};

/// Longest path `b3sum` can open, in bytes: PATH_MAX less its NUL.
///
/// Source: open(2), ENAMETOOLONG; linux/limits.h.
const OPENABLE_LEN_MAX: usize = 4095;

/// The format of `b3sum`: `digest  path`, a line each.
///
/// A path with a backslash, newline or carriage return is written with `\\`, `\n` and `\r`, and
/// its line begins with a backslash. Releases of `b3sum` before 1.5.5 or so cannot check lines
/// with `\r`.
///
/// Not admitted, because `b3sum -c` would refuse or misread them:
/// - paths that are not UTF-8: one such line makes `b3sum` give up on the whole file;
/// - paths with U+FFFD, which `b3sum` itself writes for bytes it cannot show;
/// - `-` at the top of TARGET, for which `b3sum` reads its standard input;
/// - paths of 4096 bytes or more, which no open(2) takes.
///
/// **Source:** `check_one_line` and `hash_path` in `b3sum` 1.8.7.
#[derive(Debug, Clone, Copy, Default)]
pub struct B3sum;

impl B3sum {
    fn admit(path: &[u8]) -> Result<(), DecodeError> {
        admit(path)?;
        if path.len() > OPENABLE_LEN_MAX {
            return Err(DecodeError::TooLong);
        }
        let text = std::str::from_utf8(path).map_err(|_| DecodeError::NotUtf8)?;
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(DecodeError::ReplacementCharacter);
        }
        // Compared the way b3sum does, so that "-/." counts as well.
        if Path::new(OsStr::from_bytes(path)) == Path::new("-") {
            return Err(DecodeError::StandardInput);
        }
        Ok(())
    }
}

impl Codec for B3sum {
    fn name(&self) -> &'static str {
        "b3sum"
    }

    fn can_express(&self, path: &[u8]) -> bool {
        Self::admit(path).is_ok()
    }

    fn encode(&self, record: &Record, out: &mut Vec<u8>) {
        let escaped = record.path.iter().any(|&byte| letter(byte).is_some());
        if escaped {
            out.push(b'\\');
        }
        put_digest(&record.digest, out);
        for &byte in &record.path {
            match letter(byte) {
                Some(letter) => out.extend_from_slice(&[b'\\', letter]),
                None => out.push(byte),
            }
        }
        out.push(self.terminator());
    }

    fn decode(&self, frame: &[u8]) -> Result<Record, DecodeError> {
        let path;
        let digest;
        if let Some(marked) = frame.strip_prefix(b"\\") {
            let (hash, text) = split_digest(marked)?;
            digest = hash;
            path = unescape(text)?;
        } else {
            let (hash, text) = split_digest(frame)?;
            digest = hash;
            if text.iter().any(|&byte| letter(byte).is_some()) {
                return Err(DecodeError::Unescaped);
            }
            path = text.to_vec();
        }
        Self::admit(&path)?;
        Ok(Record { path, digest })
    }

    fn terminator(&self) -> u8 {
        b'\n'
    }
}

/// Returns what follows the backslash where `byte` must be escaped.
fn letter(byte: u8) -> Option<u8> {
    match byte {
        b'\\' => Some(b'\\'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'\\') => b'\\',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => return Err(DecodeError::Escape),
            },
            b'\n' | b'\r' => return Err(DecodeError::Unescaped),
            plain => plain,
        });
    }
    // Each escape makes the path one byte shorter than the text.
    if path.len() == text.len() {
        return Err(DecodeError::NeedlessMark);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    fn decode(frame: &str) -> Result<Record, DecodeError> {
        B3sum.decode(frame.replace("HEX", HEX).as_bytes())
    }

    #[test]
    fn each_fault_has_its_own_name() {
        use DecodeError as E;
        for (frame, fault) in [
            ("", E::Digest),
            ("# a comment", E::Digest),
            (" HEX  a", E::Digest),
            ("0HEX  a", E::Separator),
            ("HEX", E::Separator),
            ("HEX ", E::Separator),
            ("HEX *a", E::Separator),
            ("HEX\ta", E::Separator),
            ("HEX  ", E::Empty),
            ("\\HEX  ", E::NeedlessMark),
            ("\\HEX  a", E::NeedlessMark),
            ("\\\\HEX  a\\n", E::Digest),
            ("HEX  a\\nb", E::Unescaped),
            ("HEX  a\r", E::Unescaped),
            ("\\HEX  a\\n\r", E::Unescaped),
            ("\\HEX  a\\", E::Escape),
            ("\\HEX  a\\t", E::Escape),
            ("\\HEX  \\\\\\", E::Escape),
            ("HEX  a\u{fffd}", E::ReplacementCharacter),
            ("HEX  -", E::StandardInput),
            ("HEX  -/.", E::StandardInput),
            ("HEX  a\0b", E::Nul),
        ] {
            assert_eq!(decode(frame), Err(fault), "{frame:?}");
        }
        let capitals = format!("{}  a", HEX.to_uppercase());
        assert_eq!(B3sum.decode(capitals.as_bytes()), Err(E::Digest));
        let raw = [HEX.as_bytes(), b"  a\xff"].concat();
        assert_eq!(B3sum.decode(&raw), Err(E::NotUtf8));
    }

    #[test]
    fn the_longest_path_is_what_open_takes() {
        assert!(B3sum.can_express(&[b'a'; 4095]));
        assert!(!B3sum.can_express(&[b'a'; 4096]));
    }
}
