//! What was recorded of one loop.

use std::net::SocketAddr;

use reactor::sys::Readiness;

use super::entry::Entry;
use super::journal::Taken;
use crate::member::Role;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoopLog {
    /// Whether it listens.
    pub role: Role,
    /// Its number among those of its role.
    pub index: u32,
    /// Which life of it this is, counted from 0: of several that share an address, or followed one that died.
    pub incarnation: u32,
    /// Where it listens beside others; `None` for a port of its own.
    pub shared: Option<SocketAddr>,
    /// Which readiness calls its system has.
    pub readiness: Readiness,
    /// The addresses of the services, as it was told them when it was made.
    pub addresses: Vec<SocketAddr>,
    /// Whole entries, one after the other.
    chunks: Vec<Vec<u8>>,
    /// Whether the loop went on after the last entry, because the bound in bytes was reached.
    pub cut: bool,
}

/// A place in a log, between two entries.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    chunk: usize,
    offset: usize,
    clock_ns: u64,
    entries: u64,
}

impl Cursor {
    /// How many entries lie before it.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// What the loop's clock said last, in nanoseconds.
    pub fn clock_ns(&self) -> u64 {
        self.clock_ns
    }
}

impl LoopLog {
    /// A log that holds nothing yet.
    pub fn empty(role: Role, index: u32, readiness: Readiness, addresses: Vec<SocketAddr>) -> LoopLog {
        let (chunks, incarnation, shared, cut) = (Vec::new(), 0, None, false);
        LoopLog { role, index, incarnation, shared, readiness, addresses, chunks, cut }
    }

    /// The same, with what a journal holds.
    #[must_use]
    pub fn with(mut self, taken: Taken) -> LoopLog {
        self.cut = taken.cut;
        self.chunks = taken.chunks;
        self.chunks.retain(|chunk| !chunk.is_empty());
        self
    }

    /// What it is called: `service 0`, `client 2`.
    pub fn name(&self) -> String {
        format!("{} {}", self.role.name(), self.index)
    }

    pub(super) fn chunks(&self) -> &[Vec<u8>] {
        &self.chunks
    }

    pub(super) fn into_chunks(self) -> Vec<Vec<u8>> {
        self.chunks
    }

    /// Adds a chunk that was read, if it holds whole entries; `at` is the end of what is there and moves on.
    pub(super) fn push_chunk(&mut self, chunk: Vec<u8>, at: &mut Cursor) -> Result<(), &'static str> {
        if chunk.is_empty() {
            return Ok(());
        }
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            Entry::take(&mut rest, &mut at.clock_ns).ok_or("an entry cannot be read")?;
        }
        self.chunks.push(chunk);
        Ok(())
    }

    /// The entry at a place, which moves on; `None` at the end.
    #[inline]
    pub fn next(&self, at: &mut Cursor) -> Option<Entry<'_>> {
        let mut chunk = self.chunks.get(at.chunk)?;
        if at.offset == chunk.len() {
            at.chunk += 1;
            at.offset = 0;
            chunk = self.chunks.get(at.chunk)?;
        }
        let mut rest = &chunk[at.offset..];
        let entry = Entry::take(&mut rest, &mut at.clock_ns)?;
        at.offset = chunk.len() - rest.len();
        at.entries += 1;
        Some(entry)
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut at = Cursor::default();
        std::iter::from_fn(move || self.next(&mut at))
    }

    /// Bytes of memory that its entries take.
    pub fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }

    /// Bytes of its entries.
    pub fn length_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}
