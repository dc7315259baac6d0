//! One direction of a connection: a ring of bytes, and how far along it everyone is.
//!
//! Positions are absolute sequence numbers: `read <= arrived <= sent <= written`, and `acked <= arrived`; the end of the
//! stream (FIN) occupies the one number after the last byte. A segment under way is nothing but an arrival time and an
//! end position, so bytes are copied once into the ring and once out of it.

use std::collections::VecDeque;

use super::ring::{Ring, RingPool};
use crate::work::WorkCount;

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

/// A receiver acknowledges so many segments at once before it keeps an acknowledgement back.
const QUICK_ACKS: u8 = 16;
/// What a receiver takes for a full segment before it has seen a longer one.
const FRAME_BYTES_MIN: u64 = 536;

/// Acknowledgements under way, in the order in which they arrive. A stream whose messages go back and forth has one at
/// a time, and needs no memory for more.
#[derive(Debug, Default)]
struct Acknowledgements {
    first: Option<Acknowledgement>,
    #[expect(clippy::box_collection, reason = "a word in every stream, not four, for what few streams have")]
    more: Option<Box<VecDeque<Acknowledgement>>>,
}

impl Acknowledgements {
    #[inline]
    fn last_mut(&mut self) -> Option<&mut Acknowledgement> {
        match &mut self.more {
            Some(more) if !more.is_empty() => more.back_mut(),
            _ => self.first.as_mut(),
        }
    }

    #[inline]
    fn last(&self) -> Option<&Acknowledgement> {
        match &self.more {
            Some(more) if !more.is_empty() => more.back(),
            _ => self.first.as_ref(),
        }
    }

    #[inline]
    fn push(&mut self, acknowledgement: Acknowledgement) {
        if self.first.is_none() {
            self.first = Some(acknowledgement);
        } else {
            self.more.get_or_insert_default().push_back(acknowledgement);
        }
    }

    /// Drops the first.
    #[inline]
    fn pop(&mut self) {
        self.first = self.more.as_mut().and_then(|more| more.pop_front());
    }

    fn iter(&self) -> impl Iterator<Item = &Acknowledgement> {
        self.first.iter().chain(self.more.iter().flat_map(|more| more.iter()))
    }

    fn is_full(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.len() + 1 >= ACKS_MAX)
    }
}

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
    /// A segment was lost: what follows it is of no use until it has been sent again.
    pub(crate) lost: bool,
    /// The last acknowledgement was lost, and with it the window that it told.
    pub(crate) unheard: bool,
    /// A retransmission is queued.
    pub(crate) retransmits: bool,
    /// How often the sender has sent again in vain.
    pub(crate) retries: u32,
    /// The receiver answers what it gets, and keeps acknowledgements back to send them along with data (T66).
    pub(crate) interactive: bool,
    /// The sender has been told that its FIN was acknowledged.
    pub(crate) fin_told: bool,
    /// Segments that have arrived since the last acknowledgement was sent, two at most.
    unacknowledged: u8,
    /// The longest segment that has come: more unacknowledged bytes than these are acknowledged at once.
    frame_bytes: u64,
    /// How many segments the receiver still acknowledges at once before it begins to keep acknowledgements back.
    quick_acks: u8,
    /// When an acknowledgement that is kept back reaches the sender; `u64::MAX` for none.
    delayed_ack_at: u64,
    /// The time of the acknowledgement event that is queued; `u64::MAX` for none.
    pub(crate) ack_event_at: u64,
    /// The last arrival that was scheduled: later segments arrive after it.
    pub(crate) last_arrival: u64,
    last_ack: u64,
    acks: Acknowledgements,
}

impl Stream {
    pub(crate) fn new(receive_capacity: u64) -> Stream {
        Stream {
            window_end: receive_capacity,
            window_told: receive_capacity,
            receive_capacity,
            quick_acks: QUICK_ACKS,
            frame_bytes: FRAME_BYTES_MIN,
            delayed_ack_at: u64::MAX,
            ack_event_at: u64::MAX,
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
    pub(crate) fn settle(&mut self, now: u64, work: &WorkCount) {
        while let Some(first) = self.acks.first {
            if first.at > now {
                break;
            }
            work.add(1);
            self.acked = self.acked.max(first.acked);
            self.window_end = self.window_end.max(first.window_end);
            self.acks.pop();
        }
        if self.delayed_ack_at <= now {
            self.take_delayed_ack();
        }
    }

    /// What was kept back reaches the sender.
    #[cold]
    fn take_delayed_ack(&mut self) {
        self.delayed_ack_at = u64::MAX;
        self.unacknowledged = 0;
        self.window_told = self.window_told.max(self.read + self.receive_capacity);
        self.acked = self.acked.max(self.arrived);
        self.window_end = self.window_end.max(self.window_told);
    }

    /// When the next acknowledgement reaches the sender.
    pub(crate) fn next_ack(&self) -> Option<u64> {
        match self.acks.first {
            Some(ack) => Some(ack.at.min(self.delayed_ack_at)),
            None if self.delayed_ack_at == u64::MAX => None,
            None => Some(self.delayed_ack_at),
        }
    }

    /// Acknowledgements that the sender has not taken in, by time.
    pub(crate) fn acks(&self) -> impl Iterator<Item = Acknowledgement> + '_ {
        let delayed = (self.delayed_ack_at != u64::MAX).then(|| Acknowledgement {
            at: self.delayed_ack_at,
            acked: self.arrived,
            window_end: self.window_told.max(self.read + self.receive_capacity),
        });
        self.acks.iter().copied().chain(delayed)
    }

    /// Whether what has just arrived is acknowledged at once: at the start, after more than a full segment, and where nothing is
    /// answered (T58, T66).
    #[inline]
    pub(crate) fn acknowledges_at_once(&mut self, segment_bytes: u64) -> bool {
        // Nobody sends segments of more than half a window.
        self.frame_bytes = self.frame_bytes.max(segment_bytes.min(self.receive_capacity / 2));
        self.unacknowledged = (self.unacknowledged + 1).min(2);
        if self.has_a_frame_unacknowledged() {
            return true;
        }
        let quick = self.quick_acks > 0 && !self.interactive;
        self.quick_acks = self.quick_acks.saturating_sub(1);
        quick
    }

    /// More than a full segment has come since the last acknowledgement.
    #[inline]
    pub(crate) fn has_a_frame_unacknowledged(&self) -> bool {
        let told = self.acks.last().map_or(self.acked, |ack| ack.acked);
        self.arrived.saturating_sub(told) > self.frame_bytes
    }

    /// Whether a read that has taken everything sends the acknowledgement that is kept back: a receiver that answers waits for
    /// a second segment.
    #[inline]
    pub(crate) fn acknowledges_when_drained(&self) -> bool {
        self.keeps_ack() && self.unacknowledged > u8::from(self.interactive) && self.readable() == 0
    }

    /// Keeps an acknowledgement back, until it reaches the sender at this time at the latest.
    pub(crate) fn delay_ack(&mut self, at: u64) {
        self.delayed_ack_at = self.delayed_ack_at.min(at);
    }

    /// Whether an acknowledgement is kept back.
    #[inline]
    pub(crate) fn keeps_ack(&self) -> bool {
        self.delayed_ack_at != u64::MAX
    }

    /// Sends an acknowledgement of what has arrived, with the window that is open now.
    pub(crate) fn acknowledge(&mut self, at: u64) {
        let at = at.max(self.last_ack);
        self.last_ack = at;
        self.unheard = false;
        self.delayed_ack_at = u64::MAX;
        self.unacknowledged = 0;
        self.window_told = self.window_told.max(self.read + self.receive_capacity);
        let ack = Acknowledgement { at, acked: self.arrived, window_end: self.window_told };
        let full = self.acks.is_full();
        match self.acks.last_mut() {
            Some(last) if full || last.at == at => *last = ack,
            _ => self.acks.push(ack),
        }
    }

    /// Whether a read has opened the window far enough to tell the sender (T58: in lumps).
    #[inline]
    pub(crate) fn owes_window_update(&self) -> bool {
        let open = self.read + self.receive_capacity;
        open.saturating_sub(self.window_told) >= (self.receive_capacity / 4).max(1)
    }

    /// The sender has vanished: what it has not sent yet is never sent.
    pub(crate) fn forget_unsent(&mut self) {
        if self.sent <= self.written {
            self.written = self.sent.max(self.read);
            self.finished = false;
        }
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8], pool: &mut RingPool) {
        self.ring.write(self.read, self.written, bytes, pool);
        self.written += bytes.len() as u64;
    }

    /// Takes bytes out of the receive queue: the smaller of the buffer and what is queued (T46).
    pub(crate) fn read_into(&mut self, buffer: &mut [u8], pool: &mut RingPool) -> usize {
        let length = buffer.len().min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        self.ring.read(self.read, &mut buffer[..length]);
        self.read += length as u64;
        if self.read == self.written {
            self.ring.release(pool);
        }
        length
    }

    /// As [`Stream::read_into`], and leaves the bytes where they are.
    pub(crate) fn peek_into(&self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(usize::try_from(self.readable()).unwrap_or(usize::MAX));
        self.ring.read(self.read, &mut buffer[..length]);
        length
    }

    /// Gives the ring's memory back: nobody reads any more.
    pub(crate) fn release(&mut self, pool: &mut RingPool) {
        self.ring.release(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_while_the_ring_grows_and_wraps() {
        let mut stream = Stream::new(1 << 20);
        let mut pool = RingPool::default();
        let mut next_in = 0u8;
        let mut next_out = 0u8;
        for round in 0..400usize {
            let bytes: Vec<u8> = (0..(round * 37) % 900)
                .map(|_| {
                    next_in = next_in.wrapping_add(1);
                    next_in
                })
                .collect();
            stream.write(&bytes, &mut pool);
            stream.arrived = stream.written;
            let mut buffer = vec![0; (round * 31) % 800];
            let read = stream.read_into(&mut buffer, &mut pool);
            for &byte in &buffer[..read] {
                next_out = next_out.wrapping_add(1);
                assert_eq!(byte, next_out);
            }
        }
    }

    #[test]
    fn acknowledgements_take_effect_at_their_time() {
        let mut stream = Stream::new(100);
        let (mut pool, work) = (RingPool::default(), WorkCount::default());
        stream.write(&[0; 60], &mut pool);
        stream.sent = 60;
        stream.arrived = 60;
        stream.acknowledge(500);
        stream.settle(499, &work);
        assert_eq!(stream.queued(), 60);
        stream.settle(500, &work);
        assert_eq!(stream.queued(), 0);
        assert_eq!(stream.window_end, 100);
    }

    #[test]
    fn acknowledgements_are_taken_in_order_and_merged_when_too_many_are_under_way() {
        let mut stream = Stream::new(1_000);
        let (mut pool, work) = (RingPool::default(), WorkCount::default());
        stream.write(&[0; 100], &mut pool);
        stream.sent = 100;
        for arrived in 1..=100 {
            stream.arrived = arrived;
            stream.acknowledge(arrived * 10);
        }
        assert_eq!(stream.next_ack(), Some(10));
        stream.settle(200, &work);
        assert_eq!((stream.acked, stream.next_ack()), (20, Some(210)));
        stream.settle(999, &work);
        assert_eq!((stream.acked, stream.next_ack()), (31, Some(1_000)), "the last ones are one");
        stream.settle(1_000, &work);
        assert_eq!((stream.acked, stream.next_ack()), (100, None));
    }

    #[test]
    fn a_stream_without_bytes_has_no_buffer() {
        let (mut stream, mut pool) = (Stream::new(1_000), RingPool::default());
        let mut buffer = [0; 600];
        for _ in 0..3 {
            assert!(!stream.ring.has_storage());
            stream.write(&[7; 500], &mut pool);
            stream.arrived = stream.written;
            assert_eq!(stream.read_into(&mut buffer[..499], &mut pool), 499);
            assert!(stream.ring.has_storage());
            assert_eq!(stream.read_into(&mut buffer, &mut pool), 1);
        }
        assert!(!stream.ring.has_storage());
    }
}
