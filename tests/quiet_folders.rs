//! File systems whose kernel says nothing of a folder that it cannot read: FAT and ISO 9660. What is not
//! listed is told of all the same, and of a sound drive nothing.

#![allow(
    clippy::unwrap_used,
    reason = "a failure of the bench is a failed test"
)]

mod support;

use support::{Scratch, uml};

/// What both scripts begin with. `copy` forgets what was cached, and copies: `$1` names the run, `$2` is
/// who runs it, `$3` what becomes of the drive when it has been mounted, `$4` what is copied if not all.
const COPY: &str = r#"
mkdir m
copy() {
    mount -t $KIND -o ro /dev/dm-0 m
    stat m >/dev/null
    stat -f m >/dev/null
    echo 3 >/proc/sys/vm/drop_caches
    $3
    mkdir t
    chown $2 t
    setpriv --reuid $2 --clear-groups "$INHAUL" copy --grace 0 --memory 64MiB ${4:-m} t/t >told 2>&1
    echo "$1: code $?, $(find t/t -name .inhaul -prune -o -type f -print 2>/dev/null | wc -l) files"
    sed "s/^/$1: /" told
    rm -rf t
    well
    umount m
}
"#;

/// `fill BITS SIZE OPTION` makes a FAT file system; in `many` are 200 files, eight to a sector.
const FAT: &str = r#"
KIND=vfat
fill() {
    rm -f image
    truncate -s $2 image
    mkfs.vfat -F $1 $3 -n LABEL image >/dev/null
    drive image
    mount -t vfat /dev/dm-0 m
    mkdir -p m/many m/deep/er/and/deeper "m/a folder with a name that is a long one" m/empty
    for number in $(seq -w 200); do echo $number >m/many/file$number; done
    for number in $(seq 60); do
        echo $number >"m/a folder with a name that is a long one/so is the name of file number $number"
    done
    rm "m/a folder with a name that is a long one/so is the name of file number "?
    echo deep >m/deep/er/and/deeper/file
    head -c 3000000 /dev/zero | tr '\0' x >m/large
    : >m/nothing
    umount m
    # Where the folder lists the hundredth file.
    BAD=$(($(grep -obUa FILE100 image | head -1 | cut -d: -f1) / 512))
}
fill 32 64M
copy FAT32-sound 0 true
copy FAT32-sound-anybody 65534 true
copy FAT32-bad 0 "bad $BAD"
copy FAT32-bad-itself 0 "bad $BAD" m/many
copy FAT32-bad-elsewhere 0 "bad $BAD" m/deep
copy FAT32-bad-left-out 0 "bad $BAD" "--exclude many m"
copy FAT32-bad-anybody 65534 "bad $BAD"
copy FAT32-dead 0 dead
copy FAT32-dead-anybody 65534 dead
dmsetup remove --noudevsync d
losetup -d $LOOP
# Its root takes up twice as much as the eight files.
fill 16 24M -r1024
copy FAT16-sound 0 true
copy FAT16-sound-anybody 65534 true
copy FAT16-bad 0 "bad $BAD"
copy FAT16-bad-anybody 65534 "bad $BAD"
copy FAT16-dead 0 dead
copy FAT16-dead-anybody 65534 dead
"#;

/// In `many` are 200 files, in several blocks of 2,048 bytes.
const ISO_9660: &str = r#"
KIND=iso9660
mkdir -p tree/many
for number in $(seq -w 200); do echo $number >tree/many/file$number; done
genisoimage -quiet -R -o image tree
drive image
# The second block of the folder that lists the hundredth file.
BAD=$(($(grep -obUa file100 image | head -1 | cut -d: -f1) / 2048 * 4))
copy ISO-sound 0 true
copy ISO-sound-anybody 65534 true
copy ISO-bad 0 "bad $BAD"
copy ISO-bad-anybody 65534 "bad $BAD"
copy ISO-dead 0 dead
"#;

/// Checks how a run ended, and what it told of.
#[track_caller]
fn check(said: &str, run: &str, end: &str, told: &[&str]) {
    let begin = format!("{run}: ");
    let lines = said.lines().filter_map(|line| line.strip_prefix(&begin));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines[0], end, "{said}");
    for text in told {
        let has = lines.iter().any(|line| line.contains(text));
        assert!(has, "{run} does not tell {text:?}\n{said}");
    }
}

const SAFE: &str = "  safe to release";
const KEPT: &str = "NOT safe to release";

#[test]
fn a_folder_of_fat_that_cannot_be_read_is_told_of() {
    let test = "a_folder_of_fat_that_cannot_be_read_is_told_of";
    if !uml::can_run(test, &["mkfs.vfat", "setpriv"]) {
        return;
    }
    let said = uml::run(&Scratch::new(), &format!("{COPY}{FAT}"));
    let in_use = "belong to nothing that was listed";
    for bits in ["FAT32", "FAT16"] {
        let of = |run: &str| format!("{bits}-{run}");
        check(&said, &of("sound"), "code 0, 254 files", &[SAFE]);
        check(&said, &of("sound-anybody"), "code 0, 254 files", &[SAFE]);
        let bad = ["read the folder \"/MANY\"", "/dev/dm-0", KEPT];
        check(&said, &of("bad"), "code 3, 246 files", &bad);
        let bad = [in_use, KEPT];
        check(&said, &of("bad-anybody"), "code 3, 246 files", &bad);
        let dead = ["the drive gives nothing", KEPT];
        check(&said, &of("dead"), "code 3, 0 files", &dead);
        check(
            &said,
            &of("dead-anybody"),
            "code 3, 0 files",
            &[in_use, KEPT],
        );
    }
    let itself = ["read the folder \"/MANY\"", KEPT];
    check(&said, "FAT32-bad-itself", "code 3, 192 files", &itself);
    // It is in no source, or not asked for: it keeps nobody's copy from being whole.
    check(&said, "FAT32-bad-elsewhere", "code 0, 1 files", &[SAFE]);
    check(&said, "FAT32-bad-left-out", "code 0, 54 files", &[SAFE]);
}

#[test]
fn a_folder_of_iso_9660_that_cannot_be_read_is_told_of() {
    let test = "a_folder_of_iso_9660_that_cannot_be_read_is_told_of";
    if !uml::can_run(test, &["genisoimage", "setpriv"]) {
        return;
    }
    let said = uml::run(&Scratch::new(), &format!("{COPY}{ISO_9660}"));
    check(&said, "ISO-sound", "code 0, 200 files", &[SAFE]);
    check(&said, "ISO-sound-anybody", "code 0, 200 files", &[SAFE]);
    let early = ["m/many", "its listing ended before it does", KEPT];
    check(&said, "ISO-bad", "code 3, 94 files", &early);
    check(&said, "ISO-bad-anybody", "code 3, 94 files", &early);
    check(&said, "ISO-dead", "code 3, 0 files", &[KEPT]);
}
