//! Where a loop's recording grows: shared by the [`Recorder`](super::Recorder) below the loop, the audit above it, and
//! whoever writes it out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reactor::sys::{Errno, Fd};
use reactor::time::duration_ns;

use super::chunk_pool::ChunkPool;
use super::entry::{Call, End, Entry, Excuse};
use super::stretch::{STRETCH_BYTES_MIN, Streams, Stretch};
use crate::audit::Witness;
use crate::trace::{CallKind, Outcome};
use crate::workload::Numbered;
use crate::workload::content::Position;

/// What the recordings of an episode may hold together.
///
/// When it is reached, the driver is to end the episode. What the loops do until they have ended is still taken down, up to
/// twice the bound; beyond that a recording ends, and says so.
#[derive(Clone, Debug)]
pub struct Budget {
    used_bytes: Arc<AtomicU64>,
    bytes_max: u64,
    pool: ChunkPool,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u64) -> Budget {
        Budget::drawing_on(bytes_max, &ChunkPool::default())
    }

    /// A budget of so many bytes, whose memory comes from `pool` where it has some.
    pub fn drawing_on(bytes_max: u64, pool: &ChunkPool) -> Budget {
        Budget { used_bytes: Arc::default(), bytes_max, pool: pool.clone() }
    }

    /// Whether the bound is reached.
    pub fn is_reached(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) >= self.bytes_max
    }
}

/// See the module. Cloning shares it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Mutex<Growing>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({} entries)", self.growing().entries)
    }
}

struct Growing {
    full: Vec<Vec<u8>>,
    chunk: Vec<u8>,
    streams: Streams,
    /// The last receive, of which it is not known yet whether its bytes have to be held.
    open: Option<Receive>,
    /// Its bytes, if they were copied.
    received: Vec<u8>,
    budget: Budget,
    entries: u64,
    clock_ns: u64,
    ended: bool,
    cut: bool,
}

/// A receive that gave bytes.
#[derive(Copy, Clone, Debug)]
struct Receive {
    fd: i32,
    /// What there was room for, in bytes.
    room: u64,
    length: usize,
    /// The address that the bytes were written to: a party that is offered that memory is offered these bytes.
    address: usize,
    /// Whether there is a copy. There is none while the party of the stream has taken and compared all that came before:
    /// the loop then offers this receive to it before it makes another call, or to nobody.
    is_copied: bool,
}

/// What a journal holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Whole entries, one after the other.
    pub chunks: Vec<Vec<u8>>,
    /// Whether it goes on after what is held, because the bound was reached.
    pub cut: bool,
}

impl Journal {
    /// An empty one.
    pub fn new(budget: &Budget) -> Journal {
        let growing = Growing {
            full: Vec::new(),
            chunk: Vec::new(),
            streams: Streams::default(),
            open: None,
            received: Vec::new(),
            budget: budget.clone(),
            entries: 0,
            clock_ns: 0,
            ended: false,
            cut: false,
        };
        Journal { shared: Arc::new(Mutex::new(growing)) }
    }

    /// A loop that panics holds no lock while a handler runs, so that what is there is whole.
    fn growing(&self) -> MutexGuard<'_, Growing> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn call(&self, call: &Call<'_>) {
        self.growing().call(call);
    }

    /// A receive into `buffer` came to this.
    #[inline]
    pub(super) fn received(&self, fd: Fd, buffer: &[u8], result: Result<usize, Errno>) {
        let (fd, room) = (fd.as_raw(), buffer.len() as u64);
        let given = &buffer[..result.unwrap_or(0)];
        let mut growing = self.growing();
        growing.settle();
        if given.len() < STRETCH_BYTES_MIN {
            growing.streams.pass(fd, given);
            let outcome = result.map_or_else(Outcome::Error, |length| Outcome::Value(length as u64));
            return growing.call(&received(fd, room, outcome, given, None));
        }
        let is_copied = !growing.streams.is_followed(fd);
        growing.open =
            Some(Receive { fd, room, length: given.len(), address: given.as_ptr() as usize, is_copied });
        if is_copied {
            growing.received.clear();
            growing.received.extend_from_slice(given);
        }
    }

    /// A descriptor was made.
    pub(super) fn begin_stream(&self, fd: Fd) {
        let mut growing = self.growing();
        // Of whoever had the number before.
        growing.settle();
        growing.streams.begin(fd);
    }

    /// Of the bytes `offered` to the party, the first `taken` were taken, and are the stream's up to `next`, where that is
    /// known. Then the last receive's bytes need not be held. To be called also where the party panics: then with none taken,
    /// and nothing known.
    #[inline]
    pub fn data(&self, offered: &[u8], taken: usize, next: Option<Position>) {
        self.growing().data(offered, taken, next);
    }

    /// A message was handed to the handler.
    pub fn message(&self, message: Numbered) {
        self.growing().add(0, |bytes, clock_ns| Entry::Message(message).put(bytes, clock_ns));
    }

    /// Whoever watches the episode has said this of a connection.
    pub fn excuse(&self, fd: Fd, excuse: Excuse) {
        let fd = fd.as_raw();
        self.growing().add(0, |bytes, clock_ns| Entry::Excuse { fd, excuse }.put(bytes, clock_ns));
    }

    /// The loop is told to stop.
    pub fn stop(&self, within: Duration) {
        let within_ns = duration_ns(within);
        self.growing().add(0, |bytes, clock_ns| Entry::Stop { within_ns }.put(bytes, clock_ns));
    }

    /// The loop has ended, like this. What it does while it is dropped is not taken down.
    pub fn end(&self, end: End) {
        let mut growing = self.growing();
        growing.add(0, |bytes, clock_ns| Entry::End(end).put(bytes, clock_ns));
        growing.ended = true;
    }

    /// Nothing follows, as if the loop slept from here on: what it does while everybody is sent home shows nothing.
    pub fn freeze(&self) {
        let mut growing = self.growing();
        growing.settle();
        growing.ended = true;
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.growing().entries
    }

    /// Takes what is held, also while the loop goes on; nothing follows in this journal then.
    pub fn take(&self) -> Taken {
        let mut growing = self.growing();
        growing.settle();
        let mut chunks = std::mem::take(&mut growing.full);
        chunks.push(std::mem::take(&mut growing.chunk));
        growing.ended = true;
        Taken { chunks, cut: growing.cut }
    }
}

fn received<'a>(fd: i32, room: u64, outcome: Outcome, given: &'a [u8], stretch: Option<Stretch>) -> Call<'a> {
    Call { kind: CallKind::Recv, fd, arguments: [room, 0], asked: &[], outcome, given, stretch }
}

impl Growing {
    #[inline]
    fn call(&mut self, call: &Call<'_>) {
        self.add(call.asked.len() + call.given.len(), |bytes, clock_ns| call.put(bytes, clock_ns));
    }

    #[inline]
    fn data(&mut self, offered: &[u8], taken: usize, next: Option<Position>) {
        let Some(Receive { fd, room, length, address, is_copied }) = self.open else { return };
        let Some(kept) = offered.len().checked_sub(length) else { return };
        // Behind bytes that the party had left before, or the memory itself.
        let is_memory = offered.as_ptr() as usize + kept == address;
        if !(is_memory || is_copied && offered.ends_with(&self.received)) {
            return;
        }
        self.open = None;
        // What the party has not taken, it has not compared. Before the beginning of the stream is something else.
        let (received, taken_here) = (&offered[kept..], taken.saturating_sub(kept).min(length));
        let is_rest = |next: &Position| next.is_of(&offered[taken.min(offered.len())..]);
        let Some(next) = next.filter(is_rest) else {
            return self.hold(fd, room, received);
        };
        let head = taken_here.saturating_sub(usize::try_from(next.offset).unwrap_or(usize::MAX));
        if length - head < STRETCH_BYTES_MIN {
            return self.hold(fd, room, received);
        }
        let left_before = kept.saturating_sub(taken);
        let begin =
            next.before(taken_here - head).expect("no more than there is before it").after(left_before);
        let stretch = self.streams.found(fd, begin, length - head, taken == offered.len());
        self.take_down(fd, room, length, &received[..head], Some(stretch));
    }

    /// Takes down the last receive, if that is still to be done: no party has said what its bytes are.
    #[inline]
    fn settle(&mut self) {
        let Some(Receive { fd, room, length, is_copied, .. }) = self.open.take() else { return };
        if is_copied {
            let bytes = std::mem::take(&mut self.received);
            self.hold(fd, room, &bytes);
            self.received = bytes;
        } else {
            // Nobody was offered them and nobody will be, so that it decides nothing what they were: the stream goes on.
            let stretch = self.streams.assume(fd, length);
            self.take_down(fd, room, length, &[], stretch);
        }
    }

    fn hold(&mut self, fd: i32, room: u64, bytes: &[u8]) {
        let stretch = self.streams.find(fd, bytes);
        let given = if stretch.is_some() { &[] } else { bytes };
        self.take_down(fd, room, bytes.len(), given, stretch);
    }

    #[inline]
    fn take_down(&mut self, fd: i32, room: u64, length: usize, given: &[u8], stretch: Option<Stretch>) {
        self.call(&received(fd, room, Outcome::Value(length as u64), given, stretch));
    }

    #[inline]
    fn add(&mut self, extra_bytes: usize, put: impl FnOnce(&mut Vec<u8>, &mut u64)) {
        /// More than an entry has beside its slices.
        const ENTRY_BYTES: usize = 64;
        // In the order in which things happened. There may be no room for that.
        self.settle();
        if self.ended || self.cut {
            return;
        }
        if self.chunk.len() + extra_bytes + ENTRY_BYTES > self.chunk.capacity() {
            self.next_chunk(extra_bytes + ENTRY_BYTES);
            if self.cut {
                return;
            }
        }
        self.entries += 1;
        put(&mut self.chunk, &mut self.clock_ns);
    }

    #[cold]
    fn next_chunk(&mut self, needed_bytes: usize) {
        let Budget { used_bytes, bytes_max, pool } = &self.budget;
        let held_bytes = used_bytes.fetch_add(self.chunk.len() as u64, Ordering::Relaxed);
        if held_bytes >= bytes_max.saturating_mul(2) {
            self.cut = true;
            return;
        }
        let next = pool.take(needed_bytes);
        let full = std::mem::replace(&mut self.chunk, next);
        if !full.is_empty() {
            self.full.push(full);
        }
    }
}

/// Nothing is known of real connections that would excuse anything.
impl Witness for Journal {
    fn excuses(&self, _: Fd) -> bool {
        false
    }

    fn unread_bytes(&self, _: Fd) -> u64 {
        0
    }

    fn message(&self, message: Numbered) {
        Journal::message(self, message);
    }

    fn data(&self, offered: &[u8], taken: usize, next: Option<Position>) {
        Journal::data(self, offered, taken, next);
    }
}

#[cfg(test)]
mod tests {
    use reactor::sys::Readiness;

    use super::super::LoopLog;
    use super::*;
    use crate::member::Role;
    use crate::workload::content::Content;

    const CONTENT: Content = Content { stream: 0x7_0000_0003, length: 1 << 20 };

    fn bytes(from: u64, to: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        CONTENT.append(from, to, &mut bytes);
        bytes
    }

    fn next(offset: u64) -> Option<Position> {
        Some(Position { content: CONTENT, offset })
    }

    fn fd() -> Fd {
        Fd::from_raw(9)
    }

    /// Each receive that was taken down: the offset and length of a stretch, or the bytes.
    fn receives(journal: &Journal) -> Vec<Result<(u64, u64), Vec<u8>>> {
        let log = LoopLog::empty(Role::Client, 0, Readiness::Epoll, Vec::new()).with(journal.take());
        let of = |entry: Entry<'_>| match entry {
            Entry::Call(call @ Call { kind: CallKind::Recv, stretch: Some(stretch), .. }) => {
                let Call { given, outcome, .. } = call;
                assert_eq!(outcome, Outcome::Value(given.len() as u64 + stretch.length));
                assert_eq!(call.received().len(), given.len() + stretch.length as usize);
                Some(Ok((stretch.begin.offset, stretch.length)))
            }
            Entry::Call(Call { kind: CallKind::Recv, given, .. }) => Some(Err(given.to_vec())),
            _ => None,
        };
        log.entries().filter_map(of).collect()
    }

    fn journal() -> Journal {
        Journal::new(&Budget::new(1 << 30))
    }

    #[test]
    fn bytes_that_the_party_has_compared_are_not_held() {
        let (journal, received) = (journal(), bytes(5000, 6000));
        journal.received(fd(), &received, Ok(1000));
        journal.data(&received, 1000, next(6000));
        assert_eq!(receives(&journal), [Ok((5000, 1000))]);
    }

    #[test]
    fn bytes_that_the_party_left_are_compared_here() {
        let (journal, received) = (journal(), bytes(5000, 6000));
        journal.received(fd(), &received, Ok(1000));
        journal.data(&received, 300, next(5300));
        // They come again, before those that are received next.
        let more = bytes(6000, 6400);
        journal.received(fd(), &more, Ok(400));
        journal.data(&bytes(5300, 6400), 900, next(6200));
        let mut wrong = bytes(6400, 7000);
        wrong[599] ^= 1;
        journal.received(fd(), &wrong, Ok(600));
        journal.data(&[&bytes(6200, 6400)[..], &wrong].concat(), 500, next(6700));
        assert_eq!(receives(&journal), [Ok((5000, 1000)), Ok((6000, 400)), Err(wrong)]);
    }

    #[test]
    fn bytes_that_stand_before_a_stream_are_held_and_the_stream_is_not() {
        let journal = journal();
        // The end of another stream, then the beginning of this one.
        let received = [&[9; 300][..], &bytes(0, 1000)].concat();
        journal.received(fd(), &received, Ok(1300));
        journal.data(&received, 1300, next(1000));
        // So short a part of it that it is held as well.
        let short = [&[9; 300][..], &bytes(0, 40)].concat();
        journal.received(fd(), &short, Ok(340));
        journal.data(&short, 340, next(40));
        let log = LoopLog::empty(Role::Client, 0, Readiness::Epoll, Vec::new()).with(journal.take());
        let calls: Vec<(Vec<u8>, usize)> = log
            .entries()
            .filter_map(|entry| match entry {
                Entry::Call(call) => Some((call.received().into_owned(), call.given.len())),
                _ => None,
            })
            .collect();
        assert_eq!(calls, [(received, 300), (short, 340)]);
    }

    #[test]
    fn bytes_behind_others_that_the_party_leaves_are_compared_here() {
        let journal = journal();
        let first = bytes(0, 1000);
        journal.received(fd(), &first, Ok(1000));
        journal.data(&first, 400, next(400));
        journal.received(fd(), &bytes(1000, 2000), Ok(1000));
        journal.data(&bytes(400, 2000), 100, next(500));
        assert_eq!(receives(&journal), [Ok((0, 1000)), Ok((1000, 1000))]);
    }

    #[test]
    fn bytes_of_another_receive_than_the_party_was_offered_are_held() {
        let (journal, received) = (journal(), vec![1; 500]);
        journal.received(fd(), &received, Ok(500));
        journal.data(&bytes(100, 600), 500, next(600));
        assert_eq!(receives(&journal), [Err(received)]);
    }

    #[test]
    fn bytes_of_a_stream_that_a_party_follows_are_looked_at_where_the_party_has_them() {
        let journal = journal();
        let receive = |from, to, taken, next| {
            let received = bytes(from, to);
            journal.received(fd(), &received, Ok(received.len()));
            journal.data(&received, taken, next);
        };
        receive(0, 1000, 1000, next(1000));
        receive(1000, 2000, 1000, next(2000));
        // What it left, it has not compared.
        receive(2000, 3000, 300, next(2300));
        let wrong = |from, to, at: usize| {
            let mut bytes = bytes(from, to);
            bytes[at] ^= 1;
            bytes
        };
        let offered = [bytes(2300, 3000), wrong(3000, 4000, 999)].concat();
        journal.received(fd(), &offered[700..], Ok(1000));
        journal.data(&offered, 1000, next(3300));
        // It knows of the wrong byte, or panics over it.
        receive(4000, 5000, 1000, next(5000));
        let at_5000 = wrong(5000, 6000, 10);
        journal.received(fd(), &at_5000, Ok(1000));
        journal.data(&at_5000, 1000, None);
        let expected = [
            Ok((0, 1000)),
            Ok((1000, 1000)),
            Ok((2000, 1000)),
            Err(wrong(3000, 4000, 999)),
            Ok((4000, 1000)),
            Err(at_5000),
        ];
        assert_eq!(receives(&journal), expected);
    }

    #[test]
    fn bytes_that_the_loop_drops_count_as_those_that_a_followed_stream_owes() {
        let journal = journal();
        let first = bytes(0, 1000);
        journal.received(fd(), &first, Ok(1000));
        journal.data(&first, 1000, next(1000));
        journal.received(fd(), &[7; 500], Ok(500));
        journal.stop(Duration::from_secs(1));
        // After them nothing is followed any more.
        journal.received(fd(), &[7; 500], Ok(500));
        journal.stop(Duration::from_secs(1));
        assert_eq!(receives(&journal), [Ok((0, 1000)), Ok((1000, 500)), Err(vec![7; 500])]);
    }

    #[test]
    fn bytes_that_no_party_saw_are_those_that_the_stream_owes_or_are_held() {
        let journal = journal();
        journal.begin_stream(fd());
        for (from, to) in [(0, 300), (300, 310), (310, 1000)] {
            journal.received(fd(), &bytes(from, to), Ok((to - from) as usize));
        }
        journal.received(fd(), &[2; 400], Ok(400));
        journal.received(fd(), &bytes(1000, 2000), Ok(1000));
        // The number is another connection's now, and so is its header.
        journal.begin_stream(fd());
        journal.received(fd(), &bytes(0, 256), Ok(256));
        let expected = [
            Ok((0, 300)),
            Err(bytes(300, 310)),
            Ok((310, 690)),
            Err(vec![2; 400]),
            Err(bytes(1000, 2000)),
            Ok((0, 256)),
        ];
        assert_eq!(receives(&journal), expected);
    }

    #[test]
    fn nothing_follows_a_receive_for_which_there_was_no_room() {
        let (journal, received) = (Journal::new(&Budget::new(1000)), vec![3; 2000]);
        for _ in 0..300 {
            journal.received(fd(), &received, Ok(2000));
            journal.stop(Duration::from_secs(1));
        }
        let taken = journal.take();
        assert!(taken.cut);
        let log = LoopLog::empty(Role::Client, 0, Readiness::Epoll, Vec::new()).with(taken);
        let stops = log.entries().filter(|entry| matches!(entry, Entry::Stop { .. })).count();
        assert_eq!(log.entries().count(), 2 * stops, "a stop has a receive before it");
    }

    #[test]
    fn a_receive_has_its_place_before_what_followed_it() {
        let journal = journal();
        let received = vec![3; 400];
        journal.received(fd(), &received, Ok(400));
        journal.stop(Duration::from_secs(1));
        journal.received(fd(), &received, Ok(400));
        journal.end(End::Stopped);
        let log = LoopLog::empty(Role::Client, 0, Readiness::Epoll, Vec::new()).with(journal.take());
        let kinds: Vec<bool> = log.entries().map(|entry| matches!(entry, Entry::Call(_))).collect();
        assert_eq!(kinds, [true, false, true, false]);
    }
}
