//! The bounded queue of bytes that a connection still has to send.
//!
//! Invariant: `head < length of the first segment` (or `head == 0` with no segments), no segment is empty, and
//! `bytes == sum of segment lengths - head`.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Copied bytes are gathered into segments of up to this size, so that many small writes become one.
const COPIED_SEGMENT_BYTES: usize = 64 * 1024;

/// The most segments one vectored write carries; the array of them lives on the stack.
pub(crate) const SEGMENTS_PER_WRITE_MAX: usize = 64;

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Segment {
    fn as_slice(&self) -> &[u8] {
        match self {
            Segment::Copied(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are already sent.
    head: usize,
    bytes: usize,
    /// The last copied segment that was fully sent: an echo server copies into the same memory for ever.
    spare: Vec<u8>,
}

impl WriteQueue {
    /// Bytes queued.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues a copy of `bytes`.
    #[inline]
    pub fn push_copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(Segment::Copied(last)) = self.segments.back_mut()
            && last.len() + bytes.len() <= COPIED_SEGMENT_BYTES
        {
            last.extend_from_slice(bytes);
            return;
        }
        let mut segment = std::mem::take(&mut self.spare);
        segment.extend_from_slice(bytes);
        self.segments.push_back(Segment::Copied(segment));
    }

    /// Queues shared bytes without a copy.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Shared(bytes));
    }

    /// The first bytes to send, up to `bytes_max` of one segment, when one plain write will do: there is a single
    /// segment, or the caller may pass only one.
    #[inline]
    pub fn single(&self, segments_max: usize, bytes_max: usize) -> Option<&[u8]> {
        if self.segments.len() > 1 && segments_max > 1 {
            return None;
        }
        let first = &self.segments.front()?.as_slice()[self.head..];
        Some(&first[..first.len().min(bytes_max)])
    }

    /// Fills `slices` with the first bytes to send, up to `segments_max` segments and `bytes_max` bytes. Returns how
    /// many slices, and how many bytes, they hold.
    pub fn gather<'a>(
        &'a self,
        slices: &mut [IoSlice<'a>; SEGMENTS_PER_WRITE_MAX],
        segments_max: usize,
        bytes_max: usize,
    ) -> (usize, usize) {
        let mut count = 0;
        let mut total = 0;
        let mut skip = self.head;
        for segment in self.segments.iter().take(segments_max.min(SEGMENTS_PER_WRITE_MAX)) {
            let bytes = &segment.as_slice()[skip..];
            skip = 0;
            let take = bytes.len().min(bytes_max - total);
            if take == 0 {
                break;
            }
            slices[count] = IoSlice::new(&bytes[..take]);
            count += 1;
            total += take;
        }
        (count, total)
    }

    /// Drops the first `sent` bytes, which the kernel has taken: the cursor may stop before, at or after the end of any
    /// segment (bug-catalogue B04).
    ///
    /// # Panics
    /// When `sent` exceeds what is queued.
    #[inline]
    pub fn advance(&mut self, sent: usize) {
        assert!(sent <= self.bytes, "the kernel took {sent} bytes of {} queued", self.bytes);
        self.bytes -= sent;
        let mut left = sent;
        while left > 0 {
            let first = self.segments.front().map_or(0, |segment| segment.as_slice().len());
            let remaining = first - self.head;
            if left < remaining {
                self.head += left;
                return;
            }
            left -= remaining;
            self.head = 0;
            if let Some(Segment::Copied(mut memory)) = self.segments.pop_front()
                && memory.capacity() > self.spare.capacity()
                && memory.capacity() <= COPIED_SEGMENT_BYTES
            {
                memory.clear();
                self.spare = memory;
            }
        }
    }

    /// Drops everything; the memory for copies is kept.
    pub fn clear(&mut self) {
        self.advance(self.bytes);
    }

    /// Asserts the module's invariant.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn assert_invariants(&self) {
        let total: usize = self.segments.iter().map(|segment| segment.as_slice().len()).sum();
        assert_eq!(self.bytes, total - self.head, "write queue: byte count differs from its segments");
        match self.segments.front() {
            Some(first) => {
                assert!(self.head < first.as_slice().len(), "write queue: cursor past its segment")
            }
            None => assert_eq!(self.head, 0, "write queue: cursor without a segment"),
        }
        assert!(
            self.segments.iter().all(|segment| !segment.as_slice().is_empty()),
            "write queue: empty segment"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::Bytes;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::{SEGMENTS_PER_WRITE_MAX, WriteQueue};

    #[derive(Clone, Debug)]
    enum Operation {
        Copy(u8),
        Share(u8),
        /// Offer so many segments and bytes; the kernel takes this share of them, in 256ths.
        Send(u8, u8, u8),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            any::<u8>().prop_map(Operation::Copy),
            any::<u8>().prop_map(Operation::Share),
            (1u8..5, any::<u8>(), any::<u8>()).prop_map(|(s, b, t)| Operation::Send(s, b, t)),
        ]
    }

    proptest! {
        #![proptest_config(Config { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

        /// Bug-catalogue B03, B04, B18, B70: whatever part of a vectored write the kernel takes, the bytes that leave are
        /// the bytes that were queued, in order, each once.
        #[test]
        fn bytes_leave_in_order_whatever_part_of_a_write_is_taken(
            operations in proptest::collection::vec(operation(), 0..200)
        ) {
            let mut queue = WriteQueue::default();
            let mut expected: Vec<u8> = Vec::new();
            let mut next = 0u8;
            for operation in operations {
                match operation {
                    Operation::Copy(length) | Operation::Share(length) => {
                        let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                        expected.extend_from_slice(&bytes);
                        if matches!(operation, Operation::Copy(_)) {
                            queue.push_copy(&bytes);
                        } else {
                            queue.push_shared(Bytes::from(bytes));
                        }
                    }
                    Operation::Send(segments_max, bytes_max, share) => {
                        let bytes_max = usize::from(bytes_max) + 1;
                        let offered: Vec<u8> = match queue.single(usize::from(segments_max), bytes_max) {
                            Some(slice) => slice.to_vec(),
                            None => {
                                let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE_MAX];
                                let (count, total) = queue.gather(&mut slices, usize::from(segments_max), bytes_max);
                                prop_assert!(count <= usize::from(segments_max));
                                let flat: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                                prop_assert_eq!(flat.len(), total);
                                flat
                            }
                        };
                        prop_assert!(offered.len() <= bytes_max);
                        prop_assert!(!offered.is_empty() || queue.is_empty());
                        let taken = offered.len() * (usize::from(share) + 1) / 256;
                        prop_assert_eq!(&offered[..taken], &expected[..taken]);
                        expected.drain(..taken);
                        queue.advance(taken);
                    }
                }
                queue.assert_invariants();
                prop_assert_eq!(queue.bytes(), expected.len());
            }
        }
    }
}
