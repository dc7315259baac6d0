//! Memory for recordings, used again: fresh memory costs a page fault every 4 KiB, and what threads allocate and others free
//! stays with the allocator, which gives it to nobody for a long time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::LoopLog;

/// Bytes of a chunk, but for its last entry. Each becomes a frame of the file.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks of recordings that nobody wants any more. Cloning shares it. It keeps as much as there ever was at once.
#[derive(Clone, Default, Debug)]
pub struct ChunkPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ChunkPool {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty chunk with room for so many bytes at least.
    pub(super) fn take(&self, needed_bytes: usize) -> Vec<u8> {
        let used = if needed_bytes <= CHUNK_BYTES { self.free().pop() } else { None };
        used.unwrap_or_else(|| Vec::with_capacity(needed_bytes.max(CHUNK_BYTES)))
    }

    /// Takes back what a log held.
    pub fn give(&self, log: LoopLog) {
        let chunks = log.into_chunks().into_iter().filter(|chunk| chunk.capacity() == CHUNK_BYTES);
        let emptied = chunks.map(|mut chunk| {
            chunk.clear();
            chunk
        });
        self.free().extend(emptied);
    }

    /// Bytes of memory that it keeps.
    pub fn memory_bytes(&self) -> usize {
        self.free().iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reactor::sys::Readiness;

    use super::super::{Budget, Journal};
    use super::*;
    use crate::member::Role;

    #[test]
    fn the_memory_of_a_log_serves_the_next_one() {
        let pool = ChunkPool::default();
        let record = || {
            let journal = Journal::new(&Budget::drawing_on(1 << 30, &pool));
            (0..100_000).for_each(|_| journal.stop(Duration::from_secs(1)));
            LoopLog::empty(Role::Service, 0, Readiness::Epoll, Vec::new()).with(journal.take())
        };
        let log = record();
        let held_bytes = log.memory_bytes();
        assert!(held_bytes > CHUNK_BYTES, "{held_bytes}");
        assert_eq!(pool.memory_bytes(), 0);
        pool.give(log);
        assert_eq!(pool.memory_bytes(), held_bytes);
        let again = record();
        assert_eq!(pool.memory_bytes(), 0, "all of it serves again");
        assert_eq!(again.memory_bytes(), held_bytes);
        assert_eq!(again.entries().count(), 100_000, "and nothing of before is left in it");
    }
}
