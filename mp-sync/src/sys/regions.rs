//! Which memory other processes have mapped too: where the death of a lock's owner has to be told.
//!
//! Locks ask at each change of hands, so each thread remembers the answers for the pages that it
//! asked for last. A count of changes tells when they are out of date.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// From the start to the end of each region. They do not overlap.
static REGIONS: RwLock<BTreeMap<usize, usize>> = RwLock::new(BTreeMap::new());

/// How often that has changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Mappings consist of whole pages. No page of a supported target is smaller.
const PAGE: usize = 4_096;

const REMEMBERED: usize = 16;

/// What a thread remembers. All-zero bytes are a new one.
pub(crate) struct Cache {
    changes: Cell<u64>,
    /// The number of the page, times two, plus one if it is shared; 0 is empty.
    pages: [Cell<usize>; REMEMBERED],
}

impl Cache {
    #[inline]
    pub(crate) fn is_shared(&self, address: usize) -> bool {
        // Whoever may use memory of a region has seen, by the way on which it got there, that the
        // region was added.
        let changes = CHANGES.load(Ordering::Acquire);
        let page = address / PAGE;
        let entry = self.pages[page % REMEMBERED].get();
        if changes == self.changes.get() && entry >> 1 == page {
            return entry & 1 == 1;
        }
        changes != 0 && self.look_up(address, changes)
    }

    #[cold]
    fn look_up(&self, address: usize, changes: u64) -> bool {
        if changes != self.changes.replace(changes) {
            self.pages.iter().for_each(|page| page.set(0));
        }
        let regions = REGIONS.read().unwrap_or_else(PoisonError::into_inner);
        let is_shared = regions.range(..=address).next_back().is_some_and(|(_, end)| address < *end);
        let page = address / PAGE;
        self.pages[page % REMEMBERED].set(page << 1 | usize::from(is_shared));
        is_shared
    }
}

/// The pages that hold these bytes.
pub(crate) fn pages_of(memory: &Range<usize>) -> Range<usize> {
    memory.start / PAGE * PAGE..memory.end.next_multiple_of(PAGE)
}

/// Adds a region, in whole pages. Tells whether it was new; one that overlaps another is not added.
pub(crate) fn add(region: &Range<usize>) -> bool {
    let mut regions = REGIONS.write().unwrap_or_else(PoisonError::into_inner);
    if regions.range(..region.end).next_back().is_some_and(|(_, end)| *end > region.start) {
        return false;
    }
    regions.insert(region.start, region.end);
    CHANGES.fetch_add(1, Ordering::Release);
    true
}

/// Forgets a region that was added.
pub(crate) fn remove(region: &Range<usize>) {
    let mut regions = REGIONS.write().unwrap_or_else(PoisonError::into_inner);
    regions.remove(&region.start);
    CHANGES.fetch_add(1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_shared_while_its_region_is_registered() {
        let cache = Cache { changes: Cell::new(0), pages: [const { Cell::new(0) }; REMEMBERED] };
        // Addresses that no test maps.
        let region = pages_of(&(0x10_0010..0x10_2010));
        assert_eq!(region, 0x10_0000..0x10_3000);
        assert!(!cache.is_shared(0x10_0000));
        assert!(add(&region));
        assert!(!add(&(0x10_2000..0x10_4000)), "they overlap");
        for _ in 0..2 {
            assert!(cache.is_shared(0x10_0000) && cache.is_shared(0x10_2fff));
            assert!(!cache.is_shared(0xf_ffff) && !cache.is_shared(0x10_3000));
        }
        assert!(add(&(0x10_3000..0x10_4000)), "they touch");
        remove(&region);
        assert!(!cache.is_shared(0x10_0000) && cache.is_shared(0x10_3000));
        remove(&(0x10_3000..0x10_4000));
    }
}
