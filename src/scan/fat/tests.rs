use std::cell::{Cell, RefCell};

use super::*;

const SECTOR: usize = 512;
const ENTRIES: usize = 16;

/// A small file system of one sector a cluster.
///
/// Its root has a label, a piece of a long name, a deleted folder in cluster 9, a file in cluster 8, and
/// the folder `DCIM`, in clusters 3 and 5. In the second of these is `DCIM/100CANON`, in cluster 4, in
/// which `BACK` leads to cluster 3 again.
struct Image {
    bytes: Vec<u8>,
    bits: u32,
    table: usize,
    root: usize,
    data: usize,
}

impl Image {
    fn new(bits: u32) -> Self {
        let (reserved, clusters) = match bits {
            12 => (1, 200),
            16 => (1, 5000),
            _ => (32, 70_000),
        };
        let table_sectors = ((clusters + 2) * bits as usize / 8).div_ceil(SECTOR);
        let root_sectors = usize::from(bits != 32);
        let root = (reserved + 2 * table_sectors) * SECTOR;
        let data = root + root_sectors * SECTOR;
        let sectors = data / SECTOR + clusters;
        let mut image = Self {
            bytes: vec![0; data + 4096 * SECTOR],
            bits,
            table: reserved * SECTOR,
            root,
            data,
        };
        image.put(11, SECTOR, 2);
        image.put(13, 1, 1);
        image.put(14, reserved, 2);
        image.put(16, 2, 1);
        image.put(32, sectors, 4);
        if bits == 32 {
            image.put(36, table_sectors, 4);
            image.put(44, 2, 4);
            image.chain(2, 0x0FFF_FFFF);
            image.root = image.cluster(2);
        } else {
            image.put(17, ENTRIES, 2);
            image.put(22, table_sectors, 2);
        }
        image.fill();
        image
    }

    fn fill(&mut self) {
        let root = self.root;
        self.record(root, 0, b"LABEL      ", 0x08, 0);
        self.record(root, 1, b"Along name.", 0x0F, 7);
        self.record(root, 2, b"\xE5ONE       ", 0x10, 9);
        self.record(root, 3, b"A       TXT", 0x20, 8);
        self.record(root, 4, b"DCIM       ", 0x10, 3);
        self.chain(3, 5);
        self.chain(5, 0x0FFF_FFF8);
        self.chain(4, 0x0FFF_FFFF);
        let [first, second, below] = [3, 5, 4].map(|cluster| self.cluster(cluster));
        self.record(first, 0, b".          ", 0x10, 3);
        self.record(first, 1, b"..         ", 0x10, 0);
        self.record(second, 15, b"100CANON   ", 0x10, 4);
        self.record(below, 0, b"BACK       ", 0x10, 3);
    }

    fn put(&mut self, at: usize, value: usize, len: usize) {
        self.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn cluster(&self, number: usize) -> usize {
        self.data + (number - 2) * SECTOR
    }

    fn record(&mut self, block: usize, number: usize, name: &[u8], attributes: u8, cluster: usize) {
        let at = block + number * RECORD_LEN;
        self.bytes[at..at + 11].copy_from_slice(name);
        self.bytes[at + 11] = attributes;
        self.put(at + 20, cluster >> 16, 2);
        self.put(at + 26, cluster & 0xFFFF, 2);
    }

    /// Says what follows a cluster.
    fn chain(&mut self, cluster: usize, next: usize) {
        match self.bits {
            12 => {
                let at = self.table + cluster + cluster / 2;
                let pair = usize::from(self.bytes[at]) | usize::from(self.bytes[at + 1]) << 8;
                let pair = if cluster % 2 == 1 {
                    (pair & 0xF) | (next & 0xFFF) << 4
                } else {
                    (pair & 0xF000) | (next & 0xFFF)
                };
                self.put(at, pair, 2);
            }
            16 => self.put(self.table + cluster * 2, next & 0xFFFF, 2),
            // The four highest bits say nothing.
            _ => self.put(self.table + cluster * 4, next | 0xA000_0000, 4),
        }
    }

    /// Looks at it while these blocks cannot be read; returns also which blocks of folders were asked for.
    fn look(&self, bad: &[usize]) -> (Looked, Vec<usize>) {
        self.look_at(FOLDERS_MAX, bad)
    }

    /// The same, at so many folders at most.
    fn look_at(&self, folders_max: usize, bad: &[usize]) -> (Looked, Vec<usize>) {
        let asked = RefCell::new(Vec::new());
        let mut read = |at: u64, bytes: &mut [u8]| {
            let at = usize::try_from(at).unwrap();
            if at >= self.root {
                asked.borrow_mut().push(at);
            }
            let is_bad = |block: &usize| at < block + SECTOR && *block < at + bytes.len();
            if bad.iter().any(is_bad) {
                return Err(Errno::IO);
            }
            let from = self.bytes.get(at..at + bytes.len()).ok_or(Errno::IO)?;
            bytes.copy_from_slice(from);
            Ok(())
        };
        let looked = look_at(folders_max, &mut read, &|| true);
        (looked, asked.into_inner())
    }
}

fn fault(at: usize, folder: &str) -> Fault {
    Fault {
        at: at as u64,
        folder: folder.to_owned(),
        errno: Errno::IO,
    }
}

#[test]
fn every_block_of_every_folder_is_read_once_and_no_other() {
    for bits in [12, 16, 32] {
        let image = Image::new(bits);
        let (looked, asked) = image.look(&[]);
        assert_eq!(looked, Looked::Through(Vec::new(), true), "FAT{bits}");
        let clusters = [3, 5, 4].map(|number| image.cluster(number));
        assert_eq!(asked[0], image.root, "FAT{bits}");
        assert_eq!(asked[1..], clusters, "FAT{bits}");
    }
}

#[test]
fn a_block_that_cannot_be_read_is_told_with_its_folder() {
    for bits in [12, 16, 32] {
        let image = Image::new(bits);
        let [first, second, below] = [3, 5, 4].map(|number| image.cluster(number));
        let (looked, _) = image.look(&[first]);
        let want = vec![fault(first, "DCIM")];
        assert_eq!(looked, Looked::Through(want, true), "what follows is there");
        let (looked, asked) = image.look(&[second]);
        assert_eq!(looked, Looked::Through(vec![fault(second, "DCIM")], true));
        assert!(!asked.contains(&below));
        let (looked, _) = image.look(&[below]);
        let want = vec![fault(below, "DCIM/100CANON")];
        assert_eq!(looked, Looked::Through(want, true));
        // A file's cluster is none of a folder.
        let (looked, _) = image.look(&[image.cluster(8), image.cluster(9)]);
        assert_eq!(looked, Looked::Through(Vec::new(), true));
    }
}

#[test]
fn a_table_that_cannot_be_read_is_told() {
    for (bits, entry) in [(12, 4), (16, 6), (32, 12)] {
        let image = Image::new(bits);
        let (looked, _) = image.look(&[image.table]);
        let Looked::Through(faults, _) = looked else {
            panic!("FAT{bits}: {looked:?}");
        };
        // FAT32 does not come further than its root, whose chain is there as well.
        let (entry, folder) = if bits == 32 { (8, "") } else { (entry, "DCIM") };
        assert_eq!(faults[0], fault(image.table + entry, folder), "FAT{bits}");
    }
}

#[test]
fn a_drive_that_gives_nothing_is_told_from_one_with_bad_blocks() {
    let image = Image::new(16);
    let (looked, _) = image.look(&[0]);
    assert_eq!(looked, Looked::Through(vec![fault(0, "")], false));
    let (looked, _) = image.look(&[image.root]);
    let want = vec![fault(image.root, "")];
    assert_eq!(looked, Looked::Through(want, false));
}

#[test]
fn deep_folders_are_all_looked_at_and_their_paths_are_cut() {
    let mut image = Image::new(32);
    // `DEEP`, 3,000 times in each other.
    let root = image.root;
    image.record(root, 5, b"DEEP       ", 0x10, 1000);
    for cluster in 1000..3999 {
        image.chain(cluster, 0x0FFF_FFFF);
        let block = image.cluster(cluster);
        image.record(block, 2, b"DEEP       ", 0x10, cluster + 1);
    }
    image.chain(3999, 0x0FFF_FFFF);
    let (looked, asked) = image.look(&[]);
    assert_eq!(looked, Looked::Through(Vec::new(), true));
    assert_eq!(asked.len(), 3004);
    let last = image.cluster(3999);
    let (looked, _) = image.look(&[last]);
    let path = format!(".../{}", ["DEEP"; 32].join("/"));
    assert_eq!(looked, Looked::Through(vec![fault(last, &path)], true));
}

#[test]
fn chains_that_run_into_each_other_are_read_once() {
    let mut image = Image::new(16);
    let root = image.root;
    // Ten folders of one cluster each, and then all of them the same chain of a hundred.
    for number in 0..10 {
        image.record(root, 5 + number, b"MERGED     ", 0x10, 1000 + number);
        image.chain(1000 + number, 2000);
    }
    for cluster in 2000..2099 {
        image.chain(cluster, cluster + 1);
    }
    // And it runs into itself.
    image.chain(2099, 2050);
    let (looked, asked) = image.look(&[]);
    assert_eq!(looked, Looked::Through(Vec::new(), true));
    // The root, the three of before, ten and a hundred.
    assert_eq!(asked.len(), 114);
}

#[test]
fn a_folder_that_is_listed_often_is_remembered_once() {
    let mut image = Image::new(16);
    let first = image.cluster(3);
    for number in 2..16 {
        image.record(first, number, b"SAME       ", 0x10, 1000);
    }
    image.chain(1000, 0xFFFF);
    // With the root, `DCIM`, `SAME` and `100CANON` there are four.
    let (looked, asked) = image.look_at(4, &[]);
    assert_eq!(looked, Looked::Through(Vec::new(), true));
    assert_eq!(asked.len(), 5);
}

#[test]
fn what_was_found_before_there_were_too_many_folders_is_told() {
    let image = Image::new(16);
    let first = image.cluster(3);
    let (looked, asked) = image.look_at(2, &[first]);
    assert_eq!(looked, Looked::Partly(vec![fault(first, "DCIM")], true));
    assert!(!asked.contains(&image.cluster(4)));
    let (looked, _) = image.look_at(3, &[first]);
    assert_eq!(looked, Looked::Through(vec![fault(first, "DCIM")], true));
}

/// A file system of 32 KiB a cluster, the first of its root. Its second page lists `FIRST` in its first
/// block and `LAST` in the last but one, in clusters 3 and 4.
fn large_clusters() -> Image {
    let mut image = Image::new(32);
    image.put(13, 64, 1);
    image.put(32, 64 * 70_000, 4);
    // Two more blocks before the table, and the root begins a page.
    image.put(14, 34, 2);
    image.table += 2 * SECTOR;
    image.data += 2 * SECTOR;
    image.root = image.data;
    assert_eq!(image.root % 4096, 0);
    let root = image.root;
    image.bytes[root - 4096..].fill(0);
    image.record(root + 4096, 3, b"FIRST      ", 0x10, 3);
    image.record(root + 8192 - 2 * SECTOR, 3, b"LAST       ", 0x10, 4);
    for cluster in 2..5 {
        image.chain(cluster, 0x0FFF_FFFF);
    }
    image
}

/// Where each page of a cluster of 32 KiB begins, and the cluster itself.
const CLUSTER_AND_PAGES: [usize; 9] = [0, 0, 4096, 8192, 12288, 16384, 20480, 24576, 28672];

#[test]
fn a_bad_page_is_asked_for_four_times_and_told_of_once() {
    let image = large_clusters();
    let root = image.root;
    let bad: Vec<usize> = (8..16).map(|sector| root + sector * SECTOR).collect();
    let (looked, asked) = image.look(&bad);
    let want = vec![fault(root + 4096, "")];
    assert_eq!(looked, Looked::Through(want, true));
    let mut want = CLUSTER_AND_PAGES.to_vec();
    // Of the second page its first and its last block.
    want.splice(3..3, [4096, 7680]);
    let want: Vec<usize> = want.iter().map(|at| root + at).collect();
    assert_eq!(asked, want);
}

#[test]
fn what_a_page_lists_beside_a_bad_block_is_looked_at() {
    let image = large_clusters();
    let bad = image.root + 10 * SECTOR;
    let (looked, asked) = image.look(&[bad]);
    assert_eq!(looked, Looked::Through(vec![fault(bad, "")], true));
    // `FIRST` and `LAST`, at once each.
    let below = [1, 2].map(|number| image.root + number * 64 * SECTOR);
    assert_eq!(asked[asked.len() - 2..], below);
}

#[test]
fn after_some_faults_nothing_more_is_read() {
    let mut image = Image::new(16);
    let second = image.cluster(5);
    for number in 0..15 {
        image.record(second, number, b"BAD        ", 0x10, 1000 + number);
    }
    let bad: Vec<usize> = (1000..1015).map(|number| image.cluster(number)).collect();
    for number in 1000..1015 {
        image.chain(number, 0xFFFF);
    }
    let (looked, asked) = image.look(&bad);
    let faults = (0..8).map(|number| fault(bad[number], "DCIM/BAD"));
    assert_eq!(looked, Looked::Partly(faults.collect(), true));
    let of = |number: usize| asked.iter().filter(|at| **at == bad[number]).count();
    assert_eq!([of(0), of(7), of(8)], [2, 2, 0]);
}

#[test]
fn before_each_read_it_is_asked_whether_to_go_on() {
    let image = Image::new(16);
    let (asked, reads) = (Cell::new(0), Cell::new(0));
    let mut read = |at: u64, bytes: &mut [u8]| {
        reads.set(reads.get() + 1);
        let at = usize::try_from(at).unwrap();
        // What is asked for is bad, but for the boot sector.
        bytes.copy_from_slice(&image.bytes[at..at + bytes.len()]);
        if at == 0 { Ok(()) } else { Err(Errno::IO) }
    };
    let goes_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 2
    };
    assert_eq!(look(&mut read, &goes_on), Looked::Stopped);
    // The boot sector, and the root once.
    assert_eq!(reads.get(), 2);
}

#[test]
fn a_stop_is_heard() {
    let image = Image::new(16);
    let mut read = |at: u64, bytes: &mut [u8]| {
        let at = usize::try_from(at).unwrap();
        bytes.copy_from_slice(&image.bytes[at..at + bytes.len()]);
        Ok(())
    };
    assert_eq!(look(&mut read, &|| false), Looked::Stopped);
}

#[test]
fn what_is_no_fat_or_makes_no_sense_is_not_followed() {
    let mut nothing = |_: u64, bytes: &mut [u8]| {
        bytes.fill(0);
        Ok(())
    };
    assert_eq!(look(&mut nothing, &|| true), Looked::Untold);
    // Whatever stands in a boot sector, and in all that it leads to.
    let mut seed = 1_u64;
    for _ in 0..100 {
        let mut image = Image::new(16);
        for at in (11..48).chain(image.table..image.table + 40) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if seed >> 61 == 0 {
                image.bytes[at] = seed.to_le_bytes()[5];
            }
        }
        // It comes to its end.
        let _whatever = image.look(&[]);
    }
}
