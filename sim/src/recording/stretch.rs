//! Received bytes that need not be held, because a workload generates them: where in which stream they lie.

use reactor::sys::Fd;

use crate::frame::varint;
use crate::workload::content::{Content, Position};

/// Receives of fewer bytes are held whole: that costs no more.
pub(super) const STRETCH_BYTES_MIN: usize = 256;

/// The most that one receive gives, in bytes: the largest room that a loop of a recording may have.
pub(super) const STRETCH_BYTES_MAX: u64 = 1 << 22;

/// A piece of a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The stream, and the offset of the first byte.
    pub begin: Position,
    /// How many bytes.
    pub length: u64,
}

impl Stretch {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        let Stretch { begin: Position { content, offset }, length } = *self;
        for number in [content.stream, content.length, offset, length] {
            varint::put(bytes, number);
        }
    }

    /// Takes one off the front; `None` for one that no stream has.
    pub(super) fn take(bytes: &mut &[u8]) -> Option<Stretch> {
        let stream = varint::take(bytes)?;
        let content = Content { stream, length: varint::take(bytes)? };
        let offset = varint::take(bytes)?;
        let length = varint::take(bytes)?;
        offset.checked_add(length).filter(|_| stream <= Content::STREAM_MAX)?;
        Some(Stretch { begin: Position { content, offset }, length })
    }
}

/// What is known of the stream of a descriptor. It only says where to look: bytes are compared before a stretch stands for them.
#[derive(Copy, Clone, Default, Debug)]
enum Hint {
    /// Nothing has been received.
    #[default]
    Begins,
    /// The next byte is expected to be this one.
    Next(Position),
    /// Likewise, and a party has taken and compared all that came before.
    Followed(Position),
    /// It carries something else.
    Lost,
}

/// The streams of a loop, by descriptor.
#[derive(Default, Debug)]
pub(super) struct Streams {
    hints: Vec<Hint>,
}

/// Larger numbers are not looked after.
const DESCRIPTORS_MAX: usize = 1 << 20;

impl Streams {
    fn hint(&mut self, fd: i32) -> Option<&mut Hint> {
        let at = usize::try_from(fd).ok().filter(|&at| at < DESCRIPTORS_MAX)?;
        if self.hints.len() <= at {
            self.hints.resize(at + 1, Hint::Begins);
        }
        Some(&mut self.hints[at])
    }

    /// A descriptor was made: what had its number is gone.
    pub fn begin(&mut self, fd: Fd) {
        if let Some(hint) = self.hint(fd.as_raw()) {
            *hint = Hint::Begins;
        }
    }

    /// These bytes were received, and what they are does not matter.
    pub fn pass(&mut self, fd: i32, received: &[u8]) {
        let Some(hint) = self.hint(fd).filter(|_| !received.is_empty()) else { return };
        *hint = match expected(*hint, received) {
            Some(position) => Hint::Next(position.after(received.len())),
            None => Hint::Lost,
        };
    }

    /// These bytes were received; the stretch that they are, if they are one that is expected there.
    pub fn find(&mut self, fd: i32, received: &[u8]) -> Option<Stretch> {
        let hint = self.hint(fd)?;
        let begin = expected(*hint, received).filter(|begin| begin.is_of(received));
        *hint = begin.map_or(Hint::Lost, |begin| Hint::Next(begin.after(received.len())));
        begin.map(|begin| Stretch { begin, length: received.len() as u64 })
    }

    /// So many bytes were received, and are known to begin there; whether a party has taken them all.
    pub fn found(&mut self, fd: i32, begin: Position, length: usize, is_followed: bool) -> Stretch {
        if let Some(hint) = self.hint(fd) {
            let next = begin.after(length);
            *hint = if is_followed { Hint::Followed(next) } else { Hint::Next(next) };
        }
        Stretch { begin, length: length as u64 }
    }

    /// Whether a party has taken and compared all that was received so far.
    pub fn is_followed(&mut self, fd: i32) -> bool {
        self.hint(fd).is_some_and(|hint| matches!(hint, Hint::Followed(_)))
    }

    /// So many bytes were received on a stream that was followed, and nobody can look at them any more: as if the stream went
    /// on. `None` for a stream that was not.
    pub fn assume(&mut self, fd: i32, length: usize) -> Option<Stretch> {
        let hint = self.hint(fd)?;
        let Hint::Followed(begin) = *hint else { return None };
        *hint = Hint::Next(begin.after(length));
        Some(Stretch { begin, length: length as u64 })
    }
}

fn expected(hint: Hint, received: &[u8]) -> Option<Position> {
    match hint {
        Hint::Begins => Content::at_start(0, received).map(|content| Position { content, offset: 0 }),
        Hint::Next(position) | Hint::Followed(position) => Some(position),
        Hint::Lost => None,
    }
}
