//! Where files lie on their drive, and drives whose bits flip there.

use std::path::Path;

use super::tool;

/// Returns the first and last physical block of each extent of a file, in blocks of 4096 bytes.
pub(crate) fn blocks(file: &Path) -> Vec<u64> {
    let text = tool(
        "filefrag",
        &["-v".as_ref(), "-b4096".as_ref(), file.as_os_str()],
    );
    let text = String::from_utf8(text).unwrap();
    text.lines()
        .filter(|line| line.contains(".."))
        .filter_map(|line| line.split(':').nth(2))
        .flat_map(|range| range.split(".."))
        .map(|number| number.trim().parse().unwrap())
        .collect()
}

/// Returns where on its drive a byte of a file lies.
pub(crate) fn place(file: &Path, offset: u64) -> u64 {
    let text = tool(
        "filefrag",
        &["-v".as_ref(), "-b4096".as_ref(), file.as_os_str()],
    );
    let text = String::from_utf8_lossy(&text).into_owned();
    let block = offset / 4096;
    for line in text.lines().filter(|line| line.contains("..")) {
        let fields: Vec<&str> = line.split(':').collect();
        let range = |field: usize| -> Vec<u64> {
            let numbers = fields[field].split("..");
            numbers.map(|it| it.trim().parse().unwrap()).collect()
        };
        let (logical, physical) = (range(1), range(2));
        if (logical[0]..=logical[1]).contains(&block) {
            return (physical[0] + block - logical[0]) * 4096 + offset % 4096;
        }
    }
    panic!("no extent of {} holds byte {offset}", file.display());
}

/// Flips a bit of a device, below any file system on it.
pub(crate) fn flip(device: &str, place: u64) {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let aligned = place & !4095;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(o_sync());
    let file = options.open(device).unwrap();
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, aligned).unwrap();
    block[usize::try_from(place - aligned).unwrap()] ^= 1;
    file.write_all_at(&block, aligned).unwrap();
    file.sync_all().unwrap();
}

fn o_sync() -> i32 {
    i32::try_from(rustix::fs::OFlags::SYNC.bits()).unwrap()
}
