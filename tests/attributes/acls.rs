//! ACLs, and the mode that shows their mask.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use inhaul::scan::Attributes;
use inhaul::target::attributes::apply;
use rustix::io::Errno;

use crate::{
    Mounted, PLAIN, apply_new, clean, dir, file, loss, mode_of, open_directory, read_dir,
    read_file, set_xattr,
};

pub(crate) fn setfacl(path: &Path, acl: &str) {
    let status = Command::new("setfacl").args(["-m", acl]).arg(path).status();
    assert!(status.unwrap().success());
}

pub(crate) fn getfacl(path: &Path) -> String {
    let mut command = Command::new("getfacl");
    command.args(["-n", "--omit-header", "--absolute-names"]);
    let output = command.arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn acls_arrive_and_the_mode_leaves_them_alone(at: &Path) {
    let source = file(at, "source", 0o640);
    setfacl(&source, "u:1001:rwx,g:1002:rx,g::-,m::rx,o::-");
    let want = "user::rw-\nuser:1001:rwx\t#effective:r-x\ngroup::---\ngroup:1002:r-x\n\
                mask::r-x\nother::---\n\n";
    assert_eq!(getfacl(&source), want);
    let outcome = read_file(&source, PLAIN);
    assert_eq!((outcome.mode, outcome.unread), (0o650, None));
    let (target, applied) = apply_new(at, "target", &outcome, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(getfacl(&target), want);
    assert_eq!(mode_of(&target), 0o650);

    let source = dir(at, "source dir", 0o2750);
    setfacl(&source, "u:1001:rwx,m::rwx,d:u:1003:rx,d:g::r,d:o::-");
    let want = "user::rwx\nuser:1001:rwx\ngroup::r-x\nmask::rwx\nother::---\n\
                default:user::rwx\ndefault:user:1003:r-x\ndefault:group::r--\n\
                default:mask::r-x\ndefault:other::---\n\n";
    assert_eq!(getfacl(&source), want);
    let outcome = read_dir(&source, PLAIN);
    let target = dir(at, "target dir", 0o700);
    let fd = open_directory(&target);
    assert_eq!(apply(fd.as_fd(), &outcome, &PLAIN), clean());
    assert_eq!(getfacl(&target), want);
    assert_eq!(mode_of(&target), 0o2770);
}

pub(crate) fn an_inherited_acl_does_not_stay(at: &Path) {
    let wanted = read_file(&file(at, "source", 0o664), PLAIN);
    let wanted_dir = read_dir(&dir(at, "source dir", 0o775), PLAIN);
    let parent = dir(at, "parent", 0o755);
    setfacl(&parent, "d:u:1001:rwx");

    let (target, applied) = apply_new(&parent, "target", &wanted, PLAIN);
    assert_eq!(applied, clean());
    assert_eq!(getfacl(&target), "user::rw-\ngroup::rw-\nother::r--\n\n");

    // Nor when the source's own ACL is refused: here one that does not parse.
    let broken = Attributes {
        xattrs: vec![(b"system.posix_acl_access".to_vec(), vec![9; 12])],
        ..wanted
    };
    let (target, applied) = apply_new(&parent, "refused", &broken, PLAIN);
    assert_eq!(applied.losses.len(), 1);
    assert_eq!(getfacl(&target), "user::rw-\ngroup::---\nother::r--\n\n");

    let target = dir(&parent, "target dir", 0o700);
    assert!(getfacl(&target).contains("default:user:1001:rwx"));
    let fd = open_directory(&target);
    assert_eq!(apply(fd.as_fd(), &wanted_dir, &PLAIN), clean());
    assert_eq!(getfacl(&target), "user::rwx\ngroup::rwx\nother::r-x\n\n");
}

#[test]
fn an_acl_that_cannot_be_set_does_not_open_the_file_to_its_group() {
    let (Some(with), Some(without)) = (Mounted::new("tmpfs"), Mounted::new("ramfs")) else {
        return;
    };
    // The group has nothing; the mask, which the mode shows, has everything.
    let source = file(&with.path(), "source", 0o600);
    setfacl(&source, "u:1001:rwx,g::-,m::rwx");
    set_xattr(&source, "user.colour", b"blue");
    let wanted = read_file(&source, PLAIN);
    assert_eq!(wanted.mode, 0o670);
    let (target, applied) = apply_new(&without.path(), "target", &wanted, PLAIN);
    assert_eq!(mode_of(&target), 0o600);
    let lost = [
        loss("xattr user.colour", Errno::OPNOTSUPP),
        loss("xattr system.posix_acl_access", Errno::OPNOTSUPP),
    ];
    assert_eq!((applied.owner_kept, &applied.losses[..]), (true, &lost[..]));

    // A source without extended attributes is no problem.
    let outcome = read_file(&target, PLAIN);
    assert_eq!((outcome.xattrs, outcome.unread), (vec![], None));
}
