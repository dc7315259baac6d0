//! Where the timers of a wheel live: three arrays with the same indices, 32 bytes a timer in all.
//!
//! They are apart because they are wanted apart. A re-arm that leaves the timer in its list reads and writes the 16
//! bytes of [`Armed`] and nothing else; unlinking visits two neighbours, but only their 8 bytes of [`Link`]; the word is
//! touched by the first arm and the last pop. With a million timers in random order nearly every touch is a cache miss,
//! and the smaller the array the cheaper the miss.
//!
//! The first [`LISTS`] indices are no timers but the heads of circular lists, so linking and unlinking never branch on
//! the ends, and a timer need not record which list it is in: when its two neighbours are the same, that is the head of a
//! list that has just become empty.

/// The wheel's slots, then three lists of its own; see `super`.
pub(super) const LISTS: u32 = super::LEVELS * super::SLOTS + 3;

/// Links are this wide, so at most 2^28 timers: 8 GiB of them.
const LINK_BITS: u32 = 28;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
/// In place of a link: none.
const NONE: u32 = LINK_MASK as u32;
/// In place of a sequence number: this timer is free. The wheel never gives this number out.
pub(super) const SEQUENCE_FREE: u32 = u32::MAX;

/// What is asked of a timer when it is looked up.
#[repr(align(16))]
#[derive(Clone, Debug)]
pub(super) struct Armed {
    pub(super) deadline_ns: u64,
    pub(super) generation: u32,
    /// Position in the order of arming, renewed by re-arming; or [`SEQUENCE_FREE`].
    pub(super) sequence: u32,
}

impl Armed {
    pub(super) fn is_free(&self) -> bool {
        self.sequence == SEQUENCE_FREE
    }
}

/// A timer's place in its list, and its kind. From the low end: next, previous, kind. A timer that is due is in no list,
/// and has no previous; a free one has a next that is free, or none.
#[derive(Copy, Clone, Debug)]
struct Link(u64);

const _: () = assert!(
    size_of::<Armed>() + size_of::<Link>() + size_of::<u64>() == 32,
    "a timer costs 32 bytes, and every byte costs cache"
);

impl Link {
    const fn new(kind: u8, previous: u32, next: u32) -> Link {
        Link((kind as u64) << (2 * LINK_BITS) | (previous as u64) << LINK_BITS | next as u64)
    }

    const fn next(self) -> u32 {
        (self.0 & LINK_MASK) as u32
    }

    const fn previous(self) -> u32 {
        (self.0 >> LINK_BITS & LINK_MASK) as u32
    }

    const fn kind(self) -> u8 {
        (self.0 >> (2 * LINK_BITS)) as u8
    }

    fn set_next(&mut self, index: u32) {
        self.0 = self.0 & !LINK_MASK | u64::from(index);
    }

    fn set_previous(&mut self, index: u32) {
        self.0 = self.0 & !(LINK_MASK << LINK_BITS) | u64::from(index) << LINK_BITS;
    }
}

#[derive(Debug)]
pub(super) struct Slab {
    armed: Vec<Armed>,
    links: Vec<Link>,
    words: Vec<u64>,
    /// The first free index, or `NONE`. The last freed is the first reused: it is still in the cache.
    free: u32,
    /// The generation of a slot's first tenant.
    generation_start: u32,
}

impl Slab {
    pub(super) fn new(generation_start: u32) -> Slab {
        let head = Armed { deadline_ns: 0, generation: 0, sequence: SEQUENCE_FREE };
        Slab {
            armed: vec![head; LISTS as usize],
            links: (0..LISTS).map(|list| Link::new(0, list, list)).collect(),
            words: vec![0; LISTS as usize],
            free: NONE,
            generation_start,
        }
    }

    pub(super) fn armed(&self, index: u32) -> &Armed {
        &self.armed[index as usize]
    }

    pub(super) fn armed_mut(&mut self, index: u32) -> &mut Armed {
        &mut self.armed[index as usize]
    }

    /// The index of the living timer of this slot and generation.
    #[inline]
    pub(super) fn find(&self, slot: u32, generation: u32) -> Option<u32> {
        let index = slot.checked_add(LISTS)?;
        let armed = self.armed.get(index as usize)?;
        (armed.generation == generation && !armed.is_free()).then_some(index)
    }

    pub(super) fn kind(&self, index: u32) -> u8 {
        self.links[index as usize].kind()
    }

    pub(super) fn word(&self, index: u32) -> u64 {
        self.words[index as usize]
    }

    /// Makes a new timer, which is in no list yet.
    ///
    /// # Panics
    /// When 2^28 indices are in use.
    #[inline]
    pub(super) fn insert(&mut self, deadline_ns: u64, sequence: u32, kind: u8, word: u64) -> u32 {
        let link = Link::new(kind, NONE, NONE);
        if self.free == NONE {
            return self.insert_new(deadline_ns, sequence, link, word);
        }
        let index = self.free;
        self.free = std::mem::replace(&mut self.links[index as usize], link).next();
        self.words[index as usize] = word;
        let armed = self.armed_mut(index);
        armed.deadline_ns = deadline_ns;
        armed.sequence = sequence;
        index
    }

    fn insert_new(&mut self, deadline_ns: u64, sequence: u32, link: Link, word: u64) -> u32 {
        let index = self.links.len();
        assert!(index < NONE as usize, "more than {} timers", NONE - LISTS);
        if index == self.links.capacity() {
            // By a quarter, not by doubling: what is reserved beyond need counts as the cost of a timer too.
            let more = (index / 4).max(128);
            self.armed.reserve_exact(more);
            self.links.reserve_exact(more);
            self.words.reserve_exact(more);
        }
        self.armed.push(Armed { deadline_ns, generation: self.generation_start, sequence });
        self.links.push(link);
        self.words.push(word);
        index as u32
    }

    /// Ends a timer, which must be in no list.
    ///
    /// A slot whose generations are used up is retired, so that no token ever names two timers; that costs 32 bytes
    /// for every four thousand million timers.
    #[inline]
    pub(super) fn release(&mut self, index: u32) {
        let armed = &mut self.armed[index as usize];
        armed.sequence = SEQUENCE_FREE;
        let Some(generation) = armed.generation.checked_add(1) else {
            self.links[index as usize] = Link::new(0, NONE, NONE);
            return;
        };
        armed.generation = generation;
        self.links[index as usize] = Link::new(0, NONE, self.free);
        self.free = index;
    }

    /// Puts a timer that is in no list at the end of one.
    #[inline]
    pub(super) fn append(&mut self, list: u32, index: u32) {
        let last = self.links[list as usize].previous();
        self.links[list as usize].set_previous(index);
        self.links[last as usize].set_next(index);
        let link = &mut self.links[index as usize];
        *link = Link::new(link.kind(), last, list);
    }

    /// Takes a timer out of its list. Returns the list if that made it empty.
    ///
    /// The timer's own links are left for the caller, who links, marks or releases it next.
    #[inline]
    pub(super) fn unlink(&mut self, index: u32) -> Option<u32> {
        let link = self.links[index as usize];
        let (previous, next) = (link.previous(), link.next());
        self.links[previous as usize].set_next(next);
        self.links[next as usize].set_previous(previous);
        (previous == next).then_some(previous)
    }

    pub(super) fn is_empty(&self, list: u32) -> bool {
        self.next(list) == list
    }

    /// Empties a list and returns its former timers as a chain: the first, each further one by [`Slab::next`], until the
    /// list itself.
    pub(super) fn detach(&mut self, list: u32) -> u32 {
        std::mem::replace(&mut self.links[list as usize], Link::new(0, list, list)).next()
    }

    pub(super) fn next(&self, index: u32) -> u32 {
        self.links[index as usize].next()
    }

    /// Marks a timer that is in no list as due.
    pub(super) fn mark_due(&mut self, index: u32) {
        self.links[index as usize].set_previous(NONE);
    }

    /// Whether a living timer is due.
    pub(super) fn is_due(&self, index: u32) -> bool {
        self.links[index as usize].previous() == NONE
    }

    /// Indices of the living timers, in slot order.
    pub(super) fn living(&self) -> impl Iterator<Item = u32> {
        (LISTS..self.armed.len() as u32).filter(|&index| !self.armed(index).is_free())
    }

    /// Bytes that the arrays occupy or have reserved.
    pub(super) fn bytes(&self) -> usize {
        self.armed.capacity() * size_of::<Armed>()
            + self.links.capacity() * size_of::<Link>()
            + self.words.capacity() * size_of::<u64>()
    }

    /// Asserts that the lists are whole, both ways, and that every timer is in one list, or due, or free. `visit` is
    /// told every linked timer and its list.
    pub(super) fn assert_invariants(&self, mut visit: impl FnMut(u32, u32)) {
        assert_eq!((self.armed.len(), self.words.len()), (self.links.len(), self.links.len()));
        let mut reached = vec![false; self.links.len()];
        for list in 0..LISTS {
            let (mut previous, mut index) = (list, self.next(list));
            loop {
                assert_eq!(
                    self.links[index as usize].previous(),
                    previous,
                    "index {index} in list {list} does not point back to {previous}"
                );
                if index == list {
                    break;
                }
                assert!(index >= LISTS, "list {list} runs into the head of list {index}");
                assert!(!reached[index as usize], "index {index} is in two lists, or in a loop");
                assert!(!self.armed(index).is_free(), "index {index} is free, and in list {list}");
                reached[index as usize] = true;
                visit(list, index);
                (previous, index) = (index, self.next(index));
            }
        }
        let mut index = self.free;
        while index != NONE {
            assert!(self.armed(index).is_free(), "index {index} is on the free list, and alive");
            assert!(!reached[index as usize], "free index {index} is also in a list, or in a loop");
            reached[index as usize] = true;
            index = self.next(index);
        }
        for index in LISTS..self.links.len() as u32 {
            let armed = self.armed(index);
            // With its last generation ahead it is on the free list, with it behind it is retired.
            let may_be_retired = armed.is_free() && armed.generation == u32::MAX;
            let due = !armed.is_free() && self.is_due(index);
            assert!(reached[index as usize] != due || may_be_retired, "index {index} is lost: {armed:?}");
        }
    }
}
