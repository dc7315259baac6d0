//! Requests and answers as bytes, and how they are put together again from pieces of any size.
//!
//! A request is a [`Content`] whose stream is the request's identity. An answer is what was counted, three words, and
//! then a [`Content`] of the same identity: so every byte of both is checked.

use crate::decision::seed::mix;
use crate::workload::Breach;
use crate::workload::content::{Content, HEADER_BYTES, Position};

/// Words in front of an answer's content.
const COUNT_WORDS: usize = 3;

/// Who asks, in which life, for the how-manieth time: below 2^48.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

impl RequestId {
    /// `incarnation` is below 2^12 and `lane` below 2^4 in these names; the number is counted in each lane.
    pub fn new(issuer: usize, incarnation: u32, lane: usize, number: u32) -> RequestId {
        let issuer = (issuer as u64 & 0xff) << 40;
        RequestId(
            issuer | u64::from(incarnation & 0xfff) << 28 | (lane as u64 & 0xf) << 24 | u64::from(number),
        )
    }

    /// What is asked.
    pub fn request(self, bytes: u64) -> Content {
        Content { stream: self.0, length: HEADER_BYTES + bytes }
    }

    /// What is answered: its length follows from the identity, its bytes differ from the request's.
    pub fn answer(self, bytes_max: u64) -> Content {
        Content { stream: self.0, length: HEADER_BYTES + mix(self.0) % (bytes_max + 1) }
    }
}

/// What a service says it has done: its life, and how many different requests it had carried out by then.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count {
    /// The incarnation of the service.
    pub incarnation: u64,
    /// From 1 on.
    pub carried_out: u64,
}

impl Count {
    fn words(self) -> [u64; COUNT_WORDS] {
        let Count { incarnation, carried_out } = self;
        [incarnation, carried_out, mix(incarnation << 32 ^ carried_out)]
    }

    /// Appends the whole answer.
    pub fn append_answer(self, answer: Content, to: &mut Vec<u8>) {
        self.words().iter().for_each(|word| to.extend_from_slice(&word.to_le_bytes()));
        answer.append(0, answer.length, to);
    }
}

/// A whole message that has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// What it carried.
    pub content: Content,
    /// In front of an answer.
    pub count: Option<Count>,
}

/// One direction of a connection: the message that is coming in.
#[derive(Clone, Debug)]
pub struct Incoming {
    counts: bool,
    head: Vec<u8>,
    content: Option<Content>,
    received: u64,
    /// After the last byte that was taken, where that is known.
    position: Option<Position>,
}

impl Incoming {
    /// Of requests.
    pub fn requests() -> Incoming {
        Incoming { counts: false, head: Vec::new(), content: None, received: 0, position: None }
    }

    /// Of answers, with their counts in front.
    pub fn answers() -> Incoming {
        Incoming { counts: true, ..Incoming::requests() }
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.head.is_empty()
    }

    /// Which byte of which message was taken and compared last, and the place after it. `None` within the head of a message,
    /// and after a byte that was wrong.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Takes bytes up to the end of the message. Answers how many it took, and the message if it is whole.
    ///
    /// # Errors
    /// A breach of `byte-stream`, when a byte is not what it should be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Arrived>), Breach> {
        let head_bytes = HEADER_BYTES as usize + if self.counts { COUNT_WORDS * 8 } else { 0 };
        self.position = None;
        let mut taken = bytes.len().min(head_bytes - self.head.len());
        self.head.extend_from_slice(&bytes[..taken]);
        if self.head.len() < head_bytes {
            return Ok((taken, None));
        }
        let content = match self.content {
            Some(content) => content,
            None => {
                let header = self.head.last_chunk().expect("the head is whole");
                let content = Content::from_header(header).filter(|content| content.length >= HEADER_BYTES);
                let Some(content) = content else {
                    let details = format!("a message begins with {:02x?}, which is no header", self.head);
                    return Err(Breach::new("byte-stream", details));
                };
                self.received = HEADER_BYTES;
                self.content = Some(content);
                content
            }
        };
        let left = content.length - self.received;
        let body = &bytes[taken..];
        let body = &body[..body.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        if let Some(at) = content.first_difference(self.received, body) {
            let details =
                format!("message {:#x} differs at offset {at} of {}", content.stream, content.length);
            return Err(Breach::new("byte-stream", details));
        }
        taken += body.len();
        self.received += body.len() as u64;
        let position = Some(Position { content, offset: self.received });
        if self.received < content.length {
            self.position = position;
            return Ok((taken, None));
        }
        let count = self.take_count()?;
        self.position = position;
        self.content = None;
        self.head.clear();
        Ok((taken, Some(Arrived { content, count })))
    }

    fn take_count(&self) -> Result<Option<Count>, Breach> {
        if !self.counts {
            return Ok(None);
        }
        let word = |index: usize| {
            let bytes = &self.head[index * 8..index * 8 + 8];
            u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
        };
        let count = Count { incarnation: word(0), carried_out: word(1) };
        if count.words()[2] != word(2) {
            return Err(Breach::new(
                "byte-stream",
                format!("an answer's count is wrong: {:02x?}", self.head),
            ));
        }
        Ok(Some(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let ids = [RequestId::new(1, 0, 2, 3), RequestId::new(4, 1, 0, 0)];
        let count = Count { incarnation: 2, carried_out: 9 };
        let mut bytes = Vec::new();
        ids.iter().for_each(|id| count.append_answer(id.answer(100), &mut bytes));
        for cut in 1..bytes.len() {
            let mut incoming = Incoming::answers();
            let mut found = Vec::new();
            for mut piece in bytes.chunks(cut) {
                while !piece.is_empty() {
                    let (taken, arrived) = incoming.feed(piece).unwrap();
                    found.extend(arrived);
                    piece = &piece[taken..];
                }
            }
            let wanted = ids.map(|id| Arrived { content: id.answer(100), count: Some(count) });
            assert_eq!(found, wanted, "pieces of {cut} bytes");
            assert!(!incoming.is_partial());
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_is_seen() {
        let mut bytes = Vec::new();
        let count = Count { incarnation: 0, carried_out: 1 };
        let wanted = Arrived { content: RequestId::new(1, 0, 0, 0).answer(50), count: Some(count) };
        count.append_answer(wanted.content, &mut bytes);
        for wrong in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[wrong] ^= 1;
            let mut incoming = Incoming::answers();
            let mut rest = &damaged[..];
            let mut seen = false;
            while !rest.is_empty() && !seen {
                match incoming.feed(rest) {
                    Ok((taken, arrived)) => {
                        // Whole, but not what was asked for: whoever asked compares the two.
                        seen = arrived.is_some_and(|arrived| arrived != wanted);
                        rest = &rest[taken..];
                    }
                    Err(_) => seen = true,
                }
            }
            // A longer length is seen by the rest that never comes.
            assert!(seen || incoming.is_partial(), "byte {wrong}");
        }
    }
}
