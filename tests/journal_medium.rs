//! What a writer asks of its medium, and a medium that does not take what it is given.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

mod journal_support;

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use inhaul::error::ErrorKind;
use inhaul::journal::{Follower, Medium, Position, Record, Tail, Writer, create_with, open_with};
use journal_support::{
    Folder, Owned, append_all, assert_holds, assert_latched, bounds, done, head, naming,
};

/// A medium that does as it is told, and keeps count.
#[derive(Debug)]
struct Told {
    file: File,
    orders: Arc<Mutex<Orders>>,
}

#[derive(Debug, Default)]
struct Orders {
    /// How many more bytes are taken; then every call fails.
    room: usize,
    is_sync_bad: bool,
    appends: u32,
    syncs: u32,
}

impl Medium for Told {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut orders = self.orders.lock().unwrap();
        orders.appends += 1;
        let taken = &bytes[..bytes.len().min(orders.room)];
        orders.room -= taken.len();
        self.file.write_all(taken)?;
        if taken.len() < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut orders = self.orders.lock().unwrap();
        orders.syncs += 1;
        if orders.is_sync_bad {
            return Err(io::Error::other("told to"));
        }
        Ok(())
    }
}

/// Returns orders to take everything, and what puts media under them.
fn told() -> (Arc<Mutex<Orders>>, impl FnMut(File) -> Box<dyn Medium>) {
    let orders = Arc::new(Mutex::new(Orders {
        room: usize::MAX,
        ..Orders::default()
    }));
    let given = Arc::clone(&orders);
    let wrap = move |file| -> Box<dyn Medium> {
        let orders = Arc::clone(&given);
        Box::new(Told { file, orders })
    };
    (orders, wrap)
}

/// Begins a journal on one.
fn begun(folder: &Folder) -> (Arc<Mutex<Orders>>, Writer) {
    let (orders, mut wrap) = told();
    let writer = create_with(folder.fd(), Path::new("JOB"), &head(), &mut wrap).unwrap();
    (orders, writer)
}

fn calls(orders: &Mutex<Orders>) -> (u32, u32) {
    let orders = orders.lock().unwrap();
    (orders.appends, orders.syncs)
}

#[test]
fn a_medium_is_asked_for_what_is_due_and_no_more() {
    let folder = Folder::new();
    let (orders, mut wrap) = told();
    let label = Path::new("JOB");
    let mut writer = create_with(folder.fd(), label, &head(), &mut wrap).unwrap();
    let now = Instant::now();
    assert_eq!(calls(&orders), (0, 0), "a head is durable before it counts");
    writer.flush().unwrap();
    writer.commit().unwrap();
    assert_eq!(calls(&orders), (0, 0));
    writer.append(&naming("a", 1).get(), now).unwrap();
    assert_eq!(calls(&orders), (0, 0));
    writer.flush().unwrap();
    writer.flush().unwrap();
    assert_eq!(calls(&orders), (1, 0));
    writer.commit().unwrap();
    assert_eq!(calls(&orders), (1, 1), "what was flushed is to be synced");
    append_all(&mut writer, &[done("a", 1)]);
    assert_eq!(calls(&orders), (2, 2));
    drop(writer);
    let (_, mut writer) = open_with(folder.fd(), label, &mut wrap).unwrap();
    append_all(&mut writer, &[done("b", 2)]);
    assert_eq!(calls(&orders), (3, 3));
    // After damage, what goes on is a new file.
    let mut bytes = folder.bytes();
    let frames = bounds(&bytes);
    bytes[frames[1] + 15] ^= 1;
    folder.set_bytes(&bytes);
    let (_, mut writer) = open_with(folder.fd(), label, &mut wrap).unwrap();
    append_all(&mut writer, &[done("c", 3)]);
    assert_eq!(calls(&orders), (4, 4));
    assert_holds(&folder.read().unwrap(), &[done("c", 3)]);
}

#[test]
fn a_flush_torn_at_any_byte_is_final() {
    let names: Vec<Owned> = (1..6).map(|n| naming(&format!("f{n}"), n)).collect();
    let folder = Folder::new();
    folder.record(&[done("a", 1)]);
    let before = folder.bytes().len();
    append_all(&mut folder.open().unwrap().1, &names);
    let frames = bounds(&folder.bytes());
    for torn in before..folder.bytes().len() {
        let folder = Folder::new();
        let (orders, mut writer) = begun(&folder);
        append_all(&mut writer, &[done("a", 1)]);
        let position = writer.position();
        assert_eq!(position.len, before as u64);
        orders.lock().unwrap().room = torn - before;
        for record in &names {
            writer.append(&record.get(), Instant::now()).unwrap();
        }
        let error = writer.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RecordWrite);
        assert_eq!(writer.position(), position);
        // Room that comes back changes nothing, and nothing is tried.
        orders.lock().unwrap().room = usize::MAX;
        assert_latched(&mut writer);
        assert_eq!(calls(&orders), (2, 1));
        assert_eq!(writer.position(), position);
        drop(writer);
        let whole = frames.iter().filter(|&&end| end <= torn).count() - 3;
        let (loaded, _) = folder.open().unwrap();
        assert_eq!(loaded.tail() == Tail::Clean, frames.contains(&torn));
        assert_holds(&loaded, &[&[done("a", 1)], &names[..whole]].concat());
        for (n, record) in names.iter().enumerate() {
            assert_eq!(loaded.naming(&record.path).is_some(), n < whole);
        }
    }
}

#[test]
fn a_flush_that_was_not_synced_is_not_committed() {
    let folder = Folder::new();
    let (orders, mut writer) = begun(&folder);
    append_all(&mut writer, &[done("a", 1)]);
    let position = writer.position();
    let now = Instant::now();
    writer.append(&naming("b", 2).get(), now).unwrap();
    writer.flush().unwrap();
    writer.append(&done("b", 2).get(), now).unwrap();
    orders.lock().unwrap().is_sync_bad = true;
    let error = writer.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    assert!(error.reason().contains("sync"), "{error}");
    // A second one would say yes.
    orders.lock().unwrap().is_sync_bad = false;
    assert_latched(&mut writer);
    assert_eq!(calls(&orders), (3, 2));
    assert_eq!(writer.position(), position);
    // Whoever follows gets to see what was committed.
    let from = Position {
        segment: 1,
        len: bounds(&folder.bytes())[1] as u64,
    };
    let mut follower = Follower::new(folder.fd(), Path::new("JOB"), from).unwrap();
    let mut seen = 0;
    let mut count = |record: Record<'_>| {
        assert_eq!(record, done("a", 1).get());
        seen += 1;
        ControlFlow::Continue(())
    };
    follower.next(writer.position(), &mut count).unwrap();
    assert_eq!(seen, 1);
}

/// Records beyond 1 MiB are written by the append that brings them to it.
#[test]
fn an_append_that_cannot_write_is_final_too() {
    let folder = Folder::new();
    let (orders, mut writer) = begun(&folder);
    orders.lock().unwrap().room = 1000;
    let now = Instant::now();
    let mut large = naming("", 1);
    large.path = vec![b'x'; 1 << 20];
    writer.append(&done("a", 1).get(), now).unwrap();
    let error = writer.append(&large.get(), now).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordWrite);
    orders.lock().unwrap().room = usize::MAX;
    assert_latched(&mut writer);
    assert_eq!(calls(&orders), (1, 0));
    assert_holds(&folder.open().unwrap().0, &[done("a", 1)]);
}
