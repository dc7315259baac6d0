//! The bytes of a stream, and the memory that they lie in: lent from a pool while there are any, and given back at once
//! when there are none. An idle connection has no buffer.

/// Bytes by absolute position, in a buffer whose length is a power of two, or zero.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    storage: Box<[u8]>,
}

const BYTES_MIN: usize = 256;
/// Buffers of 256 bytes to 32 MiB, each length twice the one before. Longer ones are not kept.
const CLASSES: usize = 18;
/// The pool keeps no more than this.
const POOL_BYTES_MAX: usize = 4 << 20;

/// Buffers that no stream needs now.
#[derive(Debug, Default)]
pub(crate) struct RingPool {
    classes: [Vec<Box<[u8]>>; CLASSES],
    bytes: usize,
}

impl RingPool {
    /// The class of a length, which is a power of two.
    fn class(length: usize) -> usize {
        (length / BYTES_MIN).trailing_zeros() as usize
    }

    /// A buffer of this length, which is a power of two; what is in it is of no meaning.
    fn take(&mut self, length: usize) -> Box<[u8]> {
        match self.classes.get_mut(RingPool::class(length)).and_then(Vec::pop) {
            Some(storage) => {
                self.bytes -= length;
                storage
            }
            None => vec![0; length].into_boxed_slice(),
        }
    }

    fn give_back(&mut self, storage: Box<[u8]>) {
        let length = storage.len();
        if length > 0
            && self.bytes + length <= POOL_BYTES_MAX
            && let Some(class) = self.classes.get_mut(RingPool::class(length))
        {
            self.bytes += length;
            class.push(storage);
        }
    }
}

impl Ring {
    #[inline]
    fn offset(&self, position: u64) -> usize {
        (position & (self.storage.len() as u64 - 1)) as usize
    }

    /// Appends bytes at `end`; those from `start` on are still needed.
    #[inline]
    pub(crate) fn write(&mut self, start: u64, end: u64, bytes: &[u8], pool: &mut RingPool) {
        if bytes.is_empty() {
            return;
        }
        let needed = usize::try_from(end - start).expect("buffers are bounded") + bytes.len();
        if needed > self.storage.len() {
            self.grow(start, end, needed, pool);
        }
        let at = self.offset(end);
        let straight = bytes.len().min(self.storage.len() - at);
        self.storage[at..at + straight].copy_from_slice(&bytes[..straight]);
        self.storage[..bytes.len() - straight].copy_from_slice(&bytes[straight..]);
    }

    #[inline]
    pub(crate) fn read(&self, position: u64, buffer: &mut [u8]) {
        if buffer.is_empty() {
            return;
        }
        let at = self.offset(position);
        let straight = buffer.len().min(self.storage.len() - at);
        let (head, tail) = buffer.split_at_mut(straight);
        head.copy_from_slice(&self.storage[at..at + straight]);
        tail.copy_from_slice(&self.storage[..tail.len()]);
    }

    fn grow(&mut self, start: u64, end: u64, needed: usize, pool: &mut RingPool) {
        let mut bigger = Ring { storage: pool.take(needed.next_power_of_two().max(BYTES_MIN)) };
        let mut position = start;
        while position < end {
            let at = self.offset(position);
            let left = usize::try_from(end - position).expect("buffers are bounded");
            let straight = left.min(self.storage.len() - at);
            let target = bigger.offset(position);
            let straight = straight.min(bigger.storage.len() - target);
            bigger.storage[target..target + straight].copy_from_slice(&self.storage[at..at + straight]);
            position += straight as u64;
        }
        std::mem::swap(self, &mut bigger);
        pool.give_back(bigger.storage);
    }

    /// Nothing in it is needed any more.
    #[inline]
    pub(crate) fn release(&mut self, pool: &mut RingPool) {
        if !self.storage.is_empty() {
            pool.give_back(std::mem::take(&mut self.storage));
        }
    }

    /// Whether it has a buffer.
    #[cfg(test)]
    pub(crate) fn has_storage(&self) -> bool {
        !self.storage.is_empty()
    }
}
