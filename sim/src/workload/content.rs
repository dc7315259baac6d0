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

impl Content {
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
