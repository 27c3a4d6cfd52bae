//! The bytes of a file in pages, cheap to copy and to compare.

use std::sync::Arc;

/// What a file system keeps or loses in one piece, in bytes.
pub(super) const PAGE: usize = 4096;

/// One page; `None` is a page of zeros.
pub(super) type Page = Option<Arc<[u8; PAGE]>>;

/// The bytes of a file. What lies behind its end is zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    size: u64,
    pages: Vec<Page>,
}

fn page_of(bytes: &[u8]) -> Page {
    if bytes.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut page = [0; PAGE];
    page[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::new(page))
}

pub(super) fn same_page(one: &Page, other: &Page) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (Some(page), None) | (None, Some(page)) => page.iter().all(|&byte| byte == 0),
    }
}

fn same_memory(one: &Page, other: &Page) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            pages: bytes.chunks(PAGE).map(page_of).collect(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how many pages have ever been written.
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn page(&self, index: usize) -> &Page {
        self.pages.get(index).unwrap_or(&None)
    }

    pub(super) fn set_page(&mut self, index: usize, page: Page) {
        if index >= self.pages.len() {
            self.pages.resize(index + 1, None);
        }
        self.pages[index] = page;
    }

    /// Writes; returns the pages that were touched. `likely` is what the bytes probably are: then
    /// memory is shared with it.
    pub(super) fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        likely: Option<&Self>,
    ) -> std::ops::Range<usize> {
        let offset = usize::try_from(offset).unwrap();
        let end = offset + bytes.len();
        let (first, behind) = (offset / PAGE, end.div_ceil(PAGE));
        for index in first..behind {
            let start = (index * PAGE).max(offset);
            let stop = ((index + 1) * PAGE).min(end);
            let piece = &bytes[start - offset..stop - offset];
            let page = self.patched(index, start - index * PAGE, piece, likely);
            self.set_page(index, page);
        }
        self.size = self.size.max(end as u64);
        first..behind
    }

    fn patched(&self, index: usize, at: usize, piece: &[u8], likely: Option<&Self>) -> Page {
        if piece.len() == PAGE {
            let likely = likely.map(|content| content.page(index));
            return match likely {
                Some(Some(page)) if page[..] == *piece => Some(Arc::clone(page)),
                _ => page_of(piece),
            };
        }
        let mut page = self.page(index).as_ref().map_or([0; PAGE], |page| **page);
        page[at..at + piece.len()].copy_from_slice(piece);
        page_of(&page)
    }

    /// Sets the length; what is cut off is gone.
    pub(super) fn set_size(&mut self, size: u64) {
        self.size = size;
        let size = usize::try_from(size).unwrap();
        self.pages.truncate(size.div_ceil(PAGE));
        if let Some(Some(page)) = self.pages.get_mut(size / PAGE)
            && page[size % PAGE..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(page)[size % PAGE..].fill(0);
        }
    }

    /// Sets the length and leaves the pages behind it for whoever makes the file longer again.
    pub(super) fn set_size_alone(&mut self, size: u64) {
        self.size = size;
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap().min(buffer.len());
        let offset = usize::try_from(offset).unwrap();
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let count = (PAGE - at % PAGE).min(len - done);
            let to = &mut buffer[done..done + count];
            match self.page(at / PAGE) {
                Some(page) => to.copy_from_slice(&page[at % PAGE..at % PAGE + count]),
                None => to.fill(0),
            }
            done += count;
        }
        len
    }

    /// Returns the first page that differs.
    pub(super) fn difference(&self, other: &Self) -> Option<usize> {
        (0..self.pages().max(other.pages()))
            .find(|&index| !same_page(self.page(index), other.page(index)))
    }

    pub(super) fn shares_page(&self, index: usize, page: &Page) -> bool {
        same_memory(self.page(index), page)
    }
}
