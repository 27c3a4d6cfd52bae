//! The mount table, as `/proc/self/mountinfo` tells it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of `/proc/self/mountinfo`. Source: proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Mount id: what `statx` calls `stx_mnt_id`. Reused after an unmount.
    pub id: u64,
    /// Major and minor number of the file system; major 0 when no block device of its own.
    pub device: (u32, u32),
    /// Directory of the file system that is the root of this mount; not `/` for a bind mount.
    pub root: Vec<u8>,
    /// Where it is mounted.
    pub point: PathBuf,
    /// File system type with its subtype, such as `ext4` or `fuse.sshfs`.
    pub fs: String,
    /// What is mounted, by the name its mounter gave; may be empty, and proves nothing.
    pub source: Vec<u8>,
    /// Options of the mount, a comma, options of the file system: escaped as the kernel wrote
    /// them, because a comma inside a value is told from a separator only by its escape.
    pub options: Vec<u8>,
    /// Whether the mount or the file system is read-only.
    pub read_only: bool,
}

impl Mount {
    /// Returns the values of `name=value` options in order, their octal escapes decoded.
    pub fn option_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.options
            .split(|&byte| byte == b',')
            .filter_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .map(unescape)
            .collect()
    }
}

/// Returns the mounts of a mount table in its order. Lines that do not parse are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    // Split at single spaces: an empty source shows as two spaces in a row.
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let _parent = fields.next()?;
    let device = parse_device(std::str::from_utf8(fields.next()?).ok()?)?;
    let root = unescape(fields.next()?);
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let mount_options = fields.next()?;
    // Any number of optional fields (`shared:7`), ended by a lone dash.
    fields.find(|field| *field == b"-")?;
    let fs = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = unescape(fields.next()?);
    let super_options = fields.next()?;

    let options = [mount_options, super_options].join(&b',');
    let read_only = options.split(|&byte| byte == b',').any(|o| o == b"ro");
    Some(Mount {
        id,
        device,
        root,
        point,
        fs,
        source,
        options,
        read_only,
    })
}

/// Parses `MAJOR:MINOR`, as mountinfo and the `dev` attributes of sysfs write it.
pub(super) fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Decodes `\ooo`, the only escape the kernel writes here (space, tab, newline, backslash, and
/// comma inside an option). Bytes in, bytes out: a name need not be text.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        if let (
            b'\\',
            [
                high @ b'0'..=b'3',
                middle @ b'0'..=b'7',
                low @ b'0'..=b'7',
                tail @ ..,
            ],
        ) = (first, after)
        {
            plain.push(((high - b'0') << 6) | ((middle - b'0') << 3) | (low - b'0'));
            rest = tail;
        } else {
            plain.push(first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_line_gives_its_fields() {
        let table =
            b"27 1 254:3 /sub /mnt/a rw,relatime shared:1 master:2 - ext4 /dev/vda3 rw,discard\n";
        assert_eq!(
            parse(table),
            [Mount {
                id: 27,
                device: (254, 3),
                root: b"/sub".to_vec(),
                point: PathBuf::from("/mnt/a"),
                fs: "ext4".to_owned(),
                source: b"/dev/vda3".to_vec(),
                options: b"rw,relatime,rw,discard".to_vec(),
                read_only: false,
            }]
        );
    }

    #[test]
    fn octal_escapes_become_bytes_even_outside_utf8() {
        let table = b"5 1 8:1 / /mnt/a\\040b\\011c\\134d\xff rw - ext4 /dev/x\\012 rw\n".as_slice();
        let mounts = parse(table);
        let point = PathBuf::from(OsString::from_vec(b"/mnt/a b\tc\\d\xff".to_vec()));
        assert_eq!(mounts[0].point, point);
        assert_eq!(mounts[0].source, b"/dev/x\n");
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\x41\\777\\"), b"\\x41\\777\\");
        assert_eq!(unescape(b"\\134040"), b"\\040", "decoded once only");
    }

    #[test]
    fn an_empty_source_keeps_its_place() {
        let mounts = parse(b"9 1 0:31 / /t rw - tmpfs  rw,size=4k\n");
        assert_eq!(mounts[0].source, b"");
        assert_eq!(mounts[0].options, b"rw,rw,size=4k");
    }

    #[test]
    fn read_only_by_mount_or_by_file_system() {
        let table = b"1 0 8:1 / /a ro,relatime - ext4 x rw\n\
            2 0 8:1 / /b rw - ext4 x ro\n\
            3 0 8:1 / /c rw,errors=ro - ext4 x rw,root\n";
        let flags: Vec<bool> = parse(table).iter().map(|m| m.read_only).collect();
        assert_eq!(flags, [true, true, false]);
    }

    #[test]
    fn broken_lines_are_left_out_and_the_rest_kept() {
        let table = b"\nx 0 8:1 / /a rw - ext4 x rw\n1 0 8 / /a rw - ext4 x rw\n\
            1 0 8:1 / /a rw ext4 x rw\n7 0 8:1 / /good rw - ext4 x rw";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point, Path::new("/good"));
    }

    #[test]
    fn an_escaped_comma_does_not_end_a_value() {
        let table = b"1 0 0:9 / /o rw - overlay o rw,lowerdir=/l,upperdir=/u\\0541,upperdirx=/n\n";
        let mounts = parse(table);
        assert_eq!(mounts[0].option_values("upperdir"), [b"/u,1".to_vec()]);
        assert_eq!(
            mounts[0].option_values("workdir"),
            Vec::<Vec<u8>>::new(),
            "absent"
        );
    }
}
