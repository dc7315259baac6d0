//! Tables of kernel objects by small number; a freed number is used again.

use std::ops::{Index, IndexMut};

use crate::work::WorkCount;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(value);
            return index;
        }
        self.entries.push(Some(value));
        (self.entries.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, index: u32) -> T {
        let value = self.entries[index as usize].take().expect("the entry is live");
        self.free.push(index);
        value
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// The most entries that there were at once.
    pub(crate) fn places(&self) -> usize {
        self.entries.len()
    }

    /// The numbers of all entries, in order. Looks at every place there ever was, unless none is taken.
    pub(crate) fn numbers(&self, work: &WorkCount) -> Vec<u32> {
        if self.entries.len() == self.free.len() {
            return Vec::new();
        }
        work.add(self.entries.len());
        self.iter().map(|(number, _)| number).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| Some((index as u32, entry.as_ref()?)))
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        self.entries[index as usize].as_ref().expect("the entry is live")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.entries[index as usize].as_mut().expect("the entry is live")
    }
}
