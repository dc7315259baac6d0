//! One direction of a connection: a ring of bytes, and how far along it everyone is.
//!
//! Positions are absolute sequence numbers: `read <= arrived <= sent <= written`, and `acked <= arrived`; the end of the
//! stream (FIN) occupies the one number after the last byte. A segment under way is nothing but an arrival time and an
//! end position, so bytes are copied once into the ring and once out of it.

use std::collections::VecDeque;

/// What an acknowledgement tells the sender when it arrives.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acknowledgement {
    /// When it reaches the sender.
    pub(crate) at: u64,
    pub(crate) acked: u64,
    /// The sender may send up to here.
    pub(crate) window_end: u64,
}

/// More acknowledgements under way than this are merged, as delayed ones are.
const ACKS_MAX: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Stream {
    ring: Ring,
    /// The sender's process has put in this much.
    pub(crate) written: u64,
    /// Under way or beyond.
    pub(crate) sent: u64,
    /// In the receive queue or beyond.
    pub(crate) arrived: u64,
    /// The receiver's process has taken this much.
    pub(crate) read: u64,
    /// The sender knows that this much has arrived.
    pub(crate) acked: u64,
    /// The sender may send up to here, as far as it knows.
    pub(crate) window_end: u64,
    /// What the receiver last told.
    pub(crate) window_told: u64,
    pub(crate) receive_capacity: u64,
    /// The sender's process has finished: a FIN follows the last byte.
    pub(crate) finished: bool,
    /// Nothing more arrives: the connection was reset.
    pub(crate) cut: bool,
    /// The sender has reset the connection: nothing more is sent.
    pub(crate) aborted: bool,
    /// A small segment waits while an earlier one is not acknowledged (Nagle, T66).
    pub(crate) holds_small: bool,
    /// What arrives is dropped, and nothing that has arrived is readable (BSD, local SHUT_RD).
    pub(crate) discards: bool,
    /// An acknowledgement event is queued.
    pub(crate) ack_event: bool,
    /// The last arrival that was scheduled: later segments arrive after it.
    pub(crate) last_arrival: u64,
    last_ack: u64,
    acks: VecDeque<Acknowledgement>,
}

impl Stream {
    pub(crate) fn new(receive_capacity: u64, storage: Vec<u8>) -> Stream {
        Stream {
            ring: Ring { storage },
            window_end: receive_capacity,
            window_told: receive_capacity,
            receive_capacity,
            ..Stream::default()
        }
    }

    /// The sequence number after everything there is to send, the FIN included.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.written + u64::from(self.finished)
    }

    /// Whether the FIN has arrived.
    #[inline]
    pub(crate) fn fin_arrived(&self) -> bool {
        self.finished && self.arrived > self.written
    }

    /// Whether the sender knows that its FIN has arrived.
    #[inline]
    pub(crate) fn fin_acked(&self) -> bool {
        self.finished && self.acked > self.written
    }

    /// Bytes in the receive queue.
    #[inline]
    pub(crate) fn readable(&self) -> u64 {
        if self.discards {
            return 0;
        }
        self.arrived.min(self.written) - self.read
    }

    /// Bytes that occupy the send buffer: written and not acknowledged.
    #[inline]
    pub(crate) fn queued(&self) -> u64 {
        if self.cut { 0 } else { self.written.saturating_sub(self.acked) }
    }

    /// Takes in what acknowledgements have reached the sender by now.
    #[inline]
    pub(crate) fn settle(&mut self, now: u64) {
        while let Some(front) = self.acks.front() {
            if front.at > now {
                return;
            }
            self.acked = self.acked.max(front.acked);
            self.window_end = self.window_end.max(front.window_end);
            self.acks.pop_front();
        }
    }

    /// When the next acknowledgement reaches the sender.
    pub(crate) fn next_ack(&self) -> Option<u64> {
        self.acks.front().map(|ack| ack.at)
    }

    /// Sends an acknowledgement of what has arrived, with the window that is open now.
    pub(crate) fn acknowledge(&mut self, at: u64) {
        let at = at.max(self.last_ack);
        self.last_ack = at;
        self.window_told = self.window_told.max(self.read + self.receive_capacity);
        let ack = Acknowledgement { at, acked: self.arrived, window_end: self.window_told };
        let full = self.acks.len() >= ACKS_MAX;
        match self.acks.back_mut() {
            Some(back) if full || back.at == at => *back = ack,
            _ => self.acks.push_back(ack),
        }
    }

    /// Whether a read has opened the window far enough to tell the sender (T58: in lumps).
    #[inline]
    pub(crate) fn owes_window_update(&self) -> bool {
        let open = self.read + self.receive_capacity;
        open.saturating_sub(self.window_told) >= (self.receive_capacity / 4).max(1)
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.ring.write(self.read, self.written, bytes);
        self.written += bytes.len() as u64;
    }

    /// Takes bytes out of the receive queue: the smaller of the buffer and what is queued (T46).
    pub(crate) fn read_into(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        self.ring.read(self.read, &mut buffer[..length]);
        self.read += length as u64;
        length
    }

    /// As [`Stream::read_into`], and leaves the bytes where they are.
    pub(crate) fn peek_into(&self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        self.ring.read(self.read, &mut buffer[..length]);
        length
    }

    /// Gives the ring's memory back.
    pub(crate) fn take_storage(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ring.storage)
    }
}

/// Bytes by absolute position, in a buffer whose length is a power of two, or zero.
#[derive(Debug, Default)]
struct Ring {
    storage: Vec<u8>,
}

const RING_BYTES_MIN: usize = 1024;

impl Ring {
    #[inline]
    fn offset(&self, position: u64) -> usize {
        (position & (self.storage.len() as u64 - 1)) as usize
    }

    #[inline]
    fn write(&mut self, start: u64, end: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let needed = usize::try_from(end - start).expect("buffers are bounded") + bytes.len();
        if needed > self.storage.len() {
            self.grow(start, end, needed);
        }
        let at = self.offset(end);
        let straight = bytes.len().min(self.storage.len() - at);
        self.storage[at..at + straight].copy_from_slice(&bytes[..straight]);
        self.storage[..bytes.len() - straight].copy_from_slice(&bytes[straight..]);
    }

    #[inline]
    fn read(&self, position: u64, buffer: &mut [u8]) {
        if buffer.is_empty() {
            return;
        }
        let at = self.offset(position);
        let straight = buffer.len().min(self.storage.len() - at);
        let (head, tail) = buffer.split_at_mut(straight);
        head.copy_from_slice(&self.storage[at..at + straight]);
        tail.copy_from_slice(&self.storage[..tail.len()]);
    }

    #[cold]
    fn grow(&mut self, start: u64, end: u64, needed: usize) {
        let mut bigger = Ring { storage: vec![0; needed.next_power_of_two().max(RING_BYTES_MIN)] };
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
        self.storage = bigger.storage;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_while_the_ring_grows_and_wraps() {
        let mut stream = Stream::new(1 << 20, Vec::new());
        let mut next_in = 0u8;
        let mut next_out = 0u8;
        for round in 0..400usize {
            let bytes: Vec<u8> = (0..(round * 37) % 900)
                .map(|_| {
                    next_in = next_in.wrapping_add(1);
                    next_in
                })
                .collect();
            stream.write(&bytes);
            stream.arrived = stream.written;
            let mut buffer = vec![0; (round * 31) % 800];
            let read = stream.read_into(&mut buffer);
            for &byte in &buffer[..read] {
                next_out = next_out.wrapping_add(1);
                assert_eq!(byte, next_out);
            }
        }
    }

    #[test]
    fn acknowledgements_take_effect_at_their_time() {
        let mut stream = Stream::new(100, Vec::new());
        stream.write(&[0; 60]);
        stream.sent = 60;
        stream.arrived = 60;
        stream.acknowledge(500);
        stream.settle(499);
        assert_eq!(stream.queued(), 60);
        stream.settle(500);
        assert_eq!(stream.queued(), 0);
        assert_eq!(stream.window_end, 100);
    }
}
