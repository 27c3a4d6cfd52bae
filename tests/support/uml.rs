//! A Linux of its own, for file systems that the kernel of this machine may lack: User-Mode Linux, which
//! runs as a process, sees this machine's files, and has a device mapper of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::program::{INHAUL, NO_STATE, Running};
use super::{Scratch, need_root, need_tools};

/// What a script begins with. `drive IMAGE` makes a drive of an image, `/dev/dm-0`; `well`, `dead` and
/// `bad SECTOR` say how it fares from then on.
const PRELUDE: &str = r#"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
exec >"$OUT/said" 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
dmesg -n 1
mount -t tmpfs tmp /mnt
cd /usr/lib/uml/modules/*/kernel || exit 1
for module in drivers/md/dm-mod drivers/block/loop drivers/cdrom/cdrom fs/nls/nls_cp437 \
    fs/nls/nls_iso8859-1 fs/nls/nls_ascii fs/fat/fat fs/fat/vfat fs/isofs/isofs; do
    insmod $module.ko
done
cd /mnt
table() {
    dmsetup suspend --noudevsync --nolockfs d
    dmsetup load d
    dmsetup resume --noudevsync d
}
drive() {
    LOOP=$(losetup -f --show "$1")
    SECTORS=$(blockdev --getsz $LOOP)
    echo "0 $SECTORS linear $LOOP 0" | dmsetup create --noudevsync d
}
well() { echo "0 $SECTORS linear $LOOP 0" | table; }
dead() { echo "0 $SECTORS error" | table; }
bad() {
    table <<END
0 $1 linear $LOOP 0
$1 1 error
$(($1 + 1)) $((SECTORS - $1 - 1)) linear $LOOP $(($1 + 1))
END
}
"#;

/// Returns whether such a Linux can be run here, with these tools beside; else says that the test is
/// skipped.
pub(crate) fn can_run(test: &str, tools: &[&str]) -> bool {
    need_root(test)
        && need_tools(test, &["linux.uml", "insmod", "dmsetup", "losetup"])
        && need_tools(test, tools)
}

/// Runs a script there, with `$INHAUL` and a folder `$OUT` outside; returns what it said.
pub(crate) fn run(scratch: &Scratch, script: &str) -> String {
    let out = scratch.dir("out");
    let init = scratch.join("init");
    let text = format!(
        "#!/bin/bash\nOUT={}\nINHAUL={INHAUL}\nexport XDG_STATE_HOME={NO_STATE}\n{PRELUDE}\n{script}\n\
         echo THE END\nsync\necho o >/proc/sysrq-trigger\nsleep 60\n",
        out.display()
    );
    std::fs::write(&init, text).unwrap();
    std::fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("linux.uml");
    command
        .args([
            "mem=512M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
        ])
        .args(["con=null", "con0=null,fd:2", "con1=fd:0,fd:1"])
        .arg(format!("init={}", init.display()))
        .arg(format!("uml_dir={}", scratch.dir("uml").display()))
        .env("HOME", scratch.path());
    let ran = Running::start(command).finish();
    let said = std::fs::read_to_string(out.join("said")).unwrap_or_default();
    assert!(
        said.ends_with("THE END\n"),
        "{}\n{}\n{said}",
        ran.out(),
        ran.err()
    );
    said
}
