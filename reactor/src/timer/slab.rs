//! Where the entries of a wheel live: one array of 32-byte entries, threaded into circular lists by index.
//!
//! The first [`LISTS`] entries are no timers but the heads of the lists, so linking and unlinking never branch on the
//! ends, and an entry need not record which list it is in: when its two neighbours are the same entry, that is the head
//! of a list that has just become empty.

/// The wheel's slots, then three lists of its own; see `super`.
pub(super) const LISTS: u32 = super::LEVELS * super::SLOTS + 3;

/// Links are this wide, so at most 2^28 entries: 8 GiB of them.
const LINK_BITS: u32 = 28;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
/// In place of the link to the previous entry: this entry is free.
const FREE: u32 = LINK_MASK as u32;
/// In place of the link to the previous entry: this timer is in the due queue, and in no list.
const DUE: u32 = FREE - 1;
/// The first index that is no entry.
const INDEX_END: u32 = DUE;

/// One timer. Two share a cache line, and none lies across two.
#[repr(align(32))]
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) deadline_ns: u64,
    pub(super) word: u64,
    pub(super) generation: u32,
    /// Position in the order of arming; re-arming renews it.
    pub(super) sequence: u32,
    /// From the low end: link to the next entry, link to the previous entry or `FREE` or `DUE`, kind.
    packed: u64,
}

const _: () = assert!(size_of::<Entry>() == 32, "a timer costs 32 bytes");

impl Entry {
    pub(super) fn next(&self) -> u32 {
        (self.packed & LINK_MASK) as u32
    }

    fn previous(&self) -> u32 {
        (self.packed >> LINK_BITS & LINK_MASK) as u32
    }

    fn set_next(&mut self, index: u32) {
        self.packed = self.packed & !LINK_MASK | u64::from(index);
    }

    fn set_previous(&mut self, index: u32) {
        self.packed = self.packed & !(LINK_MASK << LINK_BITS) | u64::from(index) << LINK_BITS;
    }

    fn set_links(&mut self, previous: u32, next: u32) {
        let kind = self.packed >> (2 * LINK_BITS) << (2 * LINK_BITS);
        self.packed = kind | u64::from(previous) << LINK_BITS | u64::from(next);
    }

    pub(super) fn kind(&self) -> u8 {
        (self.packed >> (2 * LINK_BITS)) as u8
    }

    pub(super) fn is_free(&self) -> bool {
        self.previous() == FREE
    }

    pub(super) fn is_due(&self) -> bool {
        self.previous() == DUE
    }

    pub(super) fn mark_due(&mut self) {
        self.set_previous(DUE);
    }
}

#[derive(Debug)]
pub(super) struct Slab {
    entries: Vec<Entry>,
    /// The first free entry, or `FREE`. The last freed is the first reused: it is still in the cache.
    free: u32,
    /// The generation of a slot's first tenant.
    generation_start: u32,
}

impl Slab {
    pub(super) fn new(generation_start: u32) -> Slab {
        let head = |list| Entry {
            deadline_ns: 0,
            word: 0,
            generation: 0,
            sequence: 0,
            packed: u64::from(list) << LINK_BITS | u64::from(list),
        };
        Slab { entries: (0..LISTS).map(head).collect(), free: FREE, generation_start }
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    pub(super) fn entry_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    /// The entry of a timer's slot, with its index, if there ever was such a slot. It may be free.
    pub(super) fn tenant(&mut self, slot: u32) -> Option<(u32, &mut Entry)> {
        let index = slot.checked_add(LISTS)?;
        Some((index, self.entries.get_mut(index as usize)?))
    }

    /// Takes a free entry, or makes one, for a new timer. It is in no list yet.
    ///
    /// # Panics
    /// When 2^28 entries are in use.
    pub(super) fn insert(&mut self, deadline_ns: u64, sequence: u32, kind: u8, word: u64) -> u32 {
        // Marked due until it is linked: every live entry is either linked or marked.
        let packed = u64::from(kind) << (2 * LINK_BITS) | u64::from(DUE) << LINK_BITS;
        if self.free != FREE {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next();
            *entry = Entry { deadline_ns, word, generation: entry.generation, sequence, packed };
            return index;
        }
        let index = self.entries.len();
        assert!(index < INDEX_END as usize, "more than {} timers", INDEX_END - LISTS);
        if index == self.entries.capacity() {
            // By a quarter, not by doubling: what is reserved beyond need counts as the cost of a timer too.
            self.entries.reserve_exact((index / 4).max(128));
        }
        self.entries.push(Entry { deadline_ns, word, generation: self.generation_start, sequence, packed });
        index as u32
    }

    /// Ends a tenancy. The entry must be in no list.
    ///
    /// A slot whose generations are used up is retired, so that no token ever names two timers; that costs 32 bytes
    /// for every four thousand million timers.
    pub(super) fn release(&mut self, index: u32) {
        let free = self.free;
        let entry = self.entry_mut(index);
        if entry.generation == u32::MAX {
            entry.set_links(FREE, FREE);
            return;
        }
        entry.generation += 1;
        entry.set_links(FREE, free);
        self.free = index;
    }

    /// Puts an entry that is in no list at the end of one.
    pub(super) fn append(&mut self, list: u32, index: u32) {
        let last = self.entry(list).previous();
        self.entry_mut(list).set_previous(index);
        self.entry_mut(last).set_next(index);
        self.entry_mut(index).set_links(last, list);
    }

    /// Takes an entry out of its list. Returns the list if that made it empty.
    ///
    /// The entry's own links are left for the caller, who links, marks or releases it next.
    pub(super) fn unlink(&mut self, index: u32) -> Option<u32> {
        let entry = self.entry(index);
        let (previous, next) = (entry.previous(), entry.next());
        self.entry_mut(previous).set_next(next);
        self.entry_mut(next).set_previous(previous);
        (previous == next).then_some(previous)
    }

    pub(super) fn is_empty(&self, list: u32) -> bool {
        self.entry(list).next() == list
    }

    /// Empties a list and returns its former entries as a chain: the first, each next by [`Slab::next`], until the list
    /// itself.
    pub(super) fn detach(&mut self, list: u32) -> u32 {
        let first = self.entry(list).next();
        self.entry_mut(list).set_links(list, list);
        first
    }

    pub(super) fn next(&self, index: u32) -> u32 {
        self.entry(index).next()
    }

    /// Indices of the entries that are timers now, in slot order.
    pub(super) fn live(&self) -> impl Iterator<Item = u32> {
        (LISTS..self.entries.len() as u32).filter(|&index| !self.entry(index).is_free())
    }

    /// Bytes that the entries occupy or have reserved.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Asserts that the lists are whole, both ways, and that every entry is in one list, or due, or free. `visit` is
    /// told every linked timer and its list.
    pub(super) fn assert_invariants(&self, mut visit: impl FnMut(u32, u32)) {
        let mut reached = vec![false; self.entries.len()];
        for list in 0..LISTS {
            let (mut previous, mut index) = (list, self.next(list));
            loop {
                assert_eq!(
                    self.entry(index).previous(),
                    previous,
                    "entry {index} in list {list} does not point back to {previous}"
                );
                if index == list {
                    break;
                }
                assert!(index >= LISTS, "list {list} runs into the head of list {index}");
                assert!(!reached[index as usize], "entry {index} is in two lists, or in a loop");
                reached[index as usize] = true;
                visit(list, index);
                (previous, index) = (index, self.next(index));
            }
        }
        let mut index = self.free;
        while index != FREE {
            assert!(self.entry(index).is_free(), "entry {index} is on the free list, but not marked free");
            assert!(!reached[index as usize], "free entry {index} is also in a list, or in a loop");
            reached[index as usize] = true;
            index = self.next(index);
        }
        for index in LISTS..self.entries.len() as u32 {
            let entry = self.entry(index);
            // With its last generation ahead an entry is on the free list, with it behind it is retired.
            let may_be_retired = entry.is_free() && entry.generation == u32::MAX;
            assert!(
                reached[index as usize] != entry.is_due() || may_be_retired,
                "entry {index} is lost, or due and linked: {entry:?}"
            );
        }
    }
}
