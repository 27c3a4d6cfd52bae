//! Ends before the end: the run is to stop, the drive is lost, or the target is full.

use std::sync::atomic::Ordering::Relaxed;

use super::Lane;

impl Lane<'_> {
    /// Drops what was not begun and lets large files end; what is in flight is finished.
    pub(super) fn give_up(&mut self) {
        let before = self.unattempted;
        self.unattempted += self.queue.len() as u64;
        self.queue.clear();
        self.drop_search();
        let mut left = self.aside.clear();
        while let Ok(batch) = self.entries.try_recv() {
            self.unattempted += batch.len() as u64;
        }
        self.current = None;
        let mut abandoned = false;
        for transfer in self
            .transfers
            .values_mut()
            .filter(|transfer| !transfer.is_issued())
        {
            if self.lost && transfer.is_open() {
                left.push(transfer.entry.clone());
            }
            transfer.abandon();
            abandoned = true;
        }
        for entry in left {
            self.leave(&entry);
        }
        if (abandoned || self.unattempted > before) && self.context.halted() {
            self.context.interrupted.store(true, Relaxed);
        }
    }

    /// Drops what was not begun, and what waits for its turn; the large file that is being read has
    /// its space in the target, and is finished.
    pub(super) fn wind_down(&mut self) {
        let current = self.current.filter(|number| {
            let transfer = self.transfers.get(number);
            transfer.is_some_and(|transfer| transfer.is_open() && transfer.trouble.is_none())
        });
        self.unattempted += self.queue.len() as u64;
        self.queue.clear();
        while let Ok(batch) = self.entries.try_recv() {
            self.unattempted += batch.len() as u64;
        }
        self.drop_search();
        for entry in self.aside.clear() {
            self.leave(&entry);
        }
        for (number, transfer) in &mut self.transfers {
            if Some(*number) != current && !transfer.is_issued() {
                transfer.abandon();
            }
        }
        self.current = current;
    }
}
