//! Forms that have no place for what is to be known.

use crate::Device;
use crate::support::program::run;
use crate::support::{Scratch, need_root, need_tools};

#[test]
fn what_failed_and_what_to_know_is_said_where_a_form_has_no_place_for_it() {
    let test = "what_failed_and_what_to_know_is_said_where_a_form_has_no_place_for_it";
    if !need_root(test) || !need_tools(test, &["losetup"]) {
        return;
    }
    let scratch = Scratch::new();
    let [good, bad] = ["one", "two"].map(|name| Device::new(&scratch, name, 12, &[]));
    // What is read of it fails.
    let image = std::fs::File::options()
        .write(true)
        .open(scratch.join("two"))
        .unwrap();
    image.set_len(0).unwrap();
    let ran = |form: &str| {
        run(&[
            &"bench",
            &"-q",
            &"--alone",
            &"--seconds=0.1",
            &form,
            &good.0,
            &bad.0,
        ])
        .expect(3)
    };
    let failed = format!("note: {}: ", bad.name());
    let (one, other) = (good.name(), bad.name());
    let small = format!("note: {one} and {other}: only 12 MB can be read");
    for form in ["--csv", "--output-format=fio"] {
        let told = ran(form).err();
        let is_said = |text: &str| told.lines().any(|line| line.starts_with(text));
        assert!(
            is_said(&failed) && told.contains("Input/output error"),
            "{told}"
        );
        assert!(is_said(&small), "{told}");
    }
    // These have it where they have everything.
    for form in ["--json", "--output-format=table"] {
        assert_eq!(ran(form).err(), "");
    }
}
