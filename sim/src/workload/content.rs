//! What streams carry: bytes that are a pure function of stream and offset, so that any byte that is lost, repeated, out
//! of order or in the wrong stream is seen, and named by its offset.

use crate::decision::seed::mix;

/// Bytes of the header that each stream begins with: its number, then its length.
pub const HEADER_BYTES: u64 = 16;

/// Says that a word is a stream's number.
const MARK: u64 = 0xec40_0000_0000_0000;
const MARK_BITS: u64 = 0xffff_0000_0000_0000;

/// The contents of one stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// The number of the stream, below 2^48.
    pub stream: u64,
    /// Its length in bytes, header included.
    pub length: u64,
}

/// A place in a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The stream.
    pub content: Content,
    /// The offset of a byte in it.
    pub offset: u64,
}

impl Position {
    /// So many bytes further on.
    pub fn after(self, bytes: usize) -> Position {
        Position { offset: self.offset.saturating_add(bytes as u64), ..self }
    }

    /// So many bytes before; `None` before the beginning of the stream.
    pub fn before(self, bytes: usize) -> Option<Position> {
        Some(Position { offset: self.offset.checked_sub(bytes as u64)?, ..self })
    }

    /// Whether these are the bytes from here on.
    pub fn is_of(self, bytes: &[u8]) -> bool {
        self.offset.checked_add(bytes.len() as u64).is_some()
            && self.content.first_difference(self.offset, bytes).is_none()
    }
}

impl Content {
    /// The largest number of a stream.
    pub const STREAM_MAX: u64 = !MARK_BITS;

    /// The word at `index`, counted in words of 8 bytes.
    #[inline]
    fn word(self, index: u64) -> u64 {
        match index {
            0 => MARK | self.stream,
            1 => self.length ^ mix(self.stream),
            _ => mix(self.stream << 40 ^ index),
        }
    }

    /// Appends the bytes from `offset` to `end`.
    pub fn append(self, offset: u64, end: u64, to: &mut Vec<u8>) {
        let mut at = offset;
        while at < end {
            let word = self.word(at / 8).to_le_bytes();
            let from = (at % 8) as usize;
            let length = (8 - from).min((end - at) as usize);
            to.extend_from_slice(&word[from..from + length]);
            at += length as u64;
        }
    }

    /// Writes the bytes from `offset` on over all of `bytes`. The end of the stream is no limit.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word(at / 8).to_le_bytes();
            let from = (at % 8) as usize;
            let length = (8 - from).min(rest.len());
            let (part, after) = rest.split_at_mut(length);
            part.copy_from_slice(&word[from..from + length]);
            at = at.saturating_add(length as u64);
            rest = after;
        }
    }

    /// The offset of the first of `bytes`, which begin at `offset`, that is not as it should be.
    #[inline]
    pub fn first_difference(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let lead = ((8 - offset % 8) % 8).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(lead);
        if let Some(found) = self.differs_slowly(offset, head) {
            return Some(found);
        }
        let mut at = offset + lead as u64;
        let words = rest.chunks_exact(8);
        let tail = words.remainder();
        for word in words {
            if *word != self.word(at / 8).to_le_bytes() {
                return self.differs_slowly(at, word);
            }
            at += 8;
        }
        self.differs_slowly(at, tail)
    }

    fn differs_slowly(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        (offset..).zip(bytes).find_map(|(at, &byte)| {
            (self.word(at / 8).to_le_bytes()[(at % 8) as usize] != byte).then_some(at)
        })
    }

    /// Reads the header of a stream of which `received` bytes have been taken, if `offered` begins with it.
    pub fn at_start(received: u64, offered: &[u8]) -> Option<Content> {
        let header = offered.first_chunk().filter(|_| received == 0)?;
        Content::from_header(header)
    }

    /// Reads a header; `None` when it is none.
    pub fn from_header(header: &[u8; HEADER_BYTES as usize]) -> Option<Content> {
        let (first, second) = header.split_at(8);
        let first = u64::from_le_bytes(first.try_into().ok()?);
        let second = u64::from_le_bytes(second.try_into().ok()?);
        if first & MARK_BITS != MARK {
            return None;
        }
        let stream = first & !MARK_BITS;
        Some(Content { stream, length: second ^ mix(stream) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_however_they_are_cut() {
        let content = Content { stream: 7, length: 100 };
        let mut whole = Vec::new();
        content.append(0, 100, &mut whole);
        for cut in 0..=100 {
            let mut parts = Vec::new();
            content.append(0, cut, &mut parts);
            content.append(cut, 100, &mut parts);
            assert_eq!(parts, whole);
            assert_eq!(content.first_difference(cut, &whole[cut as usize..]), None);
        }
        assert_eq!(Content::from_header(whole[..16].try_into().unwrap()), Some(content));
    }

    #[test]
    fn bytes_are_filled_in_as_they_are_appended() {
        let content = Content { stream: 9, length: 200 };
        for (from, to) in [(0, 0), (0, 200), (3, 5), (7, 64), (16, 100), (199, 200)] {
            let mut appended = Vec::new();
            content.append(from, to, &mut appended);
            let mut filled = vec![0; appended.len()];
            content.fill(from, &mut filled);
            assert_eq!(filled, appended, "{from} to {to}");
            let position = Position { content, offset: from };
            assert!(position.is_of(&filled));
            assert_eq!(position.after(filled.len()).before(filled.len()), Some(position));
        }
        assert_eq!(Position { content, offset: 3 }.before(4), None);
        assert!(!Position { content, offset: u64::MAX - 2 }.is_of(&[0; 8]), "beyond what is counted");
    }

    #[test]
    fn a_wrong_byte_is_named_by_its_offset() {
        let content = Content { stream: 7, length: 100 };
        let mut whole = Vec::new();
        content.append(0, 100, &mut whole);
        for wrong in 0..100 {
            let mut bytes = whole.clone();
            bytes[wrong] ^= 0x10;
            assert_eq!(content.first_difference(0, &bytes), Some(wrong as u64));
            assert_eq!(content.first_difference(3, &bytes[3..]), (wrong >= 3).then_some(wrong as u64));
        }
    }
}
