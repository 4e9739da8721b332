//! The shared regions: memory in which the death of a lock's owner has to be reported.
//!
//! A lock asks whenever it is taken or released, so each thread caches the answers for the pages
//! for which it asked last. A count of changes tells when the cache is out of date.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Maps the start of each region to its end. Regions do not overlap.
static REGIONS: RwLock<BTreeMap<usize, usize>> = RwLock::new(BTreeMap::new());

/// The number of changes.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Mappings consist of whole pages. This is the smallest page size of the supported targets.
const PAGE: usize = 4_096;

const REMEMBERED: usize = 16;

/// The cache of a thread. Zero bytes are a new one.
pub(crate) struct Cache {
    changes: Cell<u64>,
    /// The number of the page, times two, plus one if the page is shared; 0 is empty.
    pages: [Cell<usize>; REMEMBERED],
}

impl Cache {
    #[inline]
    pub(crate) fn is_shared(&self, address: usize) -> bool {
        // A thread that may use memory of a region has synchronised with the thread that added the
        // region.
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

/// Returns the pages that contain these bytes.
pub(crate) fn pages_of(memory: &Range<usize>) -> Range<usize> {
    memory.start / PAGE * PAGE..memory.end.next_multiple_of(PAGE)
}

/// Adds a region, in whole pages, and tells whether it was added. A region that overlaps another
/// one is not.
pub(crate) fn add(region: &Range<usize>) -> bool {
    let mut regions = REGIONS.write().unwrap_or_else(PoisonError::into_inner);
    if regions.range(..region.end).next_back().is_some_and(|(_, end)| *end > region.start) {
        return false;
    }
    regions.insert(region.start, region.end);
    CHANGES.fetch_add(1, Ordering::Release);
    true
}

/// Removes a region.
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
        assert!(!add(&(0x10_2000..0x10_4000)), "the regions overlap");
        for _ in 0..2 {
            assert!(cache.is_shared(0x10_0000) && cache.is_shared(0x10_2fff));
            assert!(!cache.is_shared(0xf_ffff) && !cache.is_shared(0x10_3000));
        }
        assert!(add(&(0x10_3000..0x10_4000)), "the regions are adjacent");
        remove(&region);
        assert!(!cache.is_shared(0x10_0000) && cache.is_shared(0x10_3000));
        remove(&(0x10_3000..0x10_4000));
    }
}
