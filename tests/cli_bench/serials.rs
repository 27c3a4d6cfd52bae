//! Drives that have serial numbers, as loop devices have none: the program is shown a record of udev
//! for them, in a mount namespace of its own.

use std::process::Command;

use crate::support::program::under;
use crate::support::{Scratch, can_mount, need_tools};

/// Returns whether this can be done here; else says that the test is skipped.
pub(crate) fn can_have_serials(test: &str) -> bool {
    can_mount(test) && need_tools(test, &["unshare", "mount"])
}

/// Returns `command` where these devices have these serial numbers: bytes that hold no line end.
pub(crate) fn with_serials(
    scratch: &Scratch,
    serials: &[(&str, &[u8])],
    command: &Command,
) -> Command {
    let records = scratch.dir("udev");
    for (device, serial) in serials {
        let name = device.strip_prefix("/dev/").unwrap();
        let number = std::fs::read_to_string(format!("/sys/class/block/{name}/dev")).unwrap();
        let record = [b"E:ID_SERIAL_SHORT=", *serial, b"\n"].concat();
        std::fs::write(records.join(format!("b{}", number.trim())), record).unwrap();
    }
    let shown = "mount -t tmpfs none /run && mkdir /run/udev && cp -r \"$0\" /run/udev/data && \
                 exec \"$@\"";
    let records = records.to_str().unwrap();
    under(&["unshare", "--mount", "sh", "-c", shown, records], command)
}
