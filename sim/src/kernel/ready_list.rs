//! The list of registrations that a wake-up has queued: first in first out, and cheap to leave from the middle.

use super::NONE;

#[derive(Copy, Clone, Debug)]
struct Link {
    listed: bool,
    next: u32,
    previous: u32,
}

const UNLISTED: Link = Link { listed: false, next: NONE, previous: NONE };

/// Items by their number in the set's table.
#[derive(Debug)]
pub(crate) struct ReadyList {
    links: Vec<Link>,
    head: u32,
    tail: u32,
    length: u32,
}

impl Default for ReadyList {
    fn default() -> ReadyList {
        ReadyList { links: Vec::new(), head: NONE, tail: NONE, length: 0 }
    }
}

impl ReadyList {
    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    pub(crate) fn contains(&self, item: u32) -> bool {
        self.links.get(item as usize).is_some_and(|link| link.listed)
    }

    /// Appends an item, unless it is on the list already: then it keeps its place (M2).
    #[inline]
    pub(crate) fn push(&mut self, item: u32) -> bool {
        let index = item as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, UNLISTED);
        }
        if self.links[index].listed {
            return false;
        }
        let tail = self.tail;
        self.links[index] = Link { listed: true, next: NONE, previous: tail };
        if tail == NONE {
            self.head = item;
        } else {
            self.links[tail as usize].next = item;
        }
        self.tail = item;
        self.length += 1;
        true
    }

    /// Takes an item off, if it is on.
    pub(crate) fn remove(&mut self, item: u32) {
        let Some(&Link { listed: true, next, previous }) = self.links.get(item as usize) else { return };
        self.links[item as usize] = UNLISTED;
        if previous == NONE {
            self.head = next;
        } else {
            self.links[previous as usize].next = next;
        }
        if next == NONE {
            self.tail = previous;
        } else {
            self.links[next as usize].previous = previous;
        }
        self.length -= 1;
    }

    /// The next to leave.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let item = self.head;
        if item == NONE {
            return None;
        }
        self.remove(item);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_they_came_and_may_leave_early() {
        let mut list = ReadyList::default();
        for item in [3, 1, 4, 0, 2] {
            assert!(list.push(item));
        }
        assert!(!list.push(4), "it keeps its place");
        list.remove(1);
        list.remove(2);
        list.remove(9);
        assert_eq!(list.len(), 3);
        assert!(list.push(1));
        assert_eq!(std::iter::from_fn(|| list.pop()).collect::<Vec<_>>(), [3, 4, 0, 1]);
        assert_eq!(list.len(), 0);
    }
}
