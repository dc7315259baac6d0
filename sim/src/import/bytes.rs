//! What a peer sends: as it was recorded, or by the stream that it is the beginning of.

use std::borrow::Cow;
use std::fmt;

use crate::workload::content::{Content, HEADER_BYTES};

/// Nobody waits for the end of a stream that is longer than this.
const COMPLETED_BYTES_MAX: u64 = 1 << 26;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PeerBytes {
    /// Held whole.
    Whole(Vec<u8>),
    /// So many bytes of a stream that the workload makes.
    Stream(Content, u64),
}

impl PeerBytes {
    /// The shortest way to hold these.
    pub(super) fn of(bytes: &[u8]) -> PeerBytes {
        let content = bytes.first_chunk::<{ HEADER_BYTES as usize }>().and_then(Content::from_header);
        match content {
            Some(content)
                if bytes.len() as u64 <= content.length && content.first_difference(0, bytes).is_none() =>
            {
                PeerBytes::Stream(content, bytes.len() as u64)
            }
            _ => PeerBytes::Whole(bytes.to_vec()),
        }
    }

    /// How many.
    pub(super) fn length(&self) -> u64 {
        match self {
            PeerBytes::Whole(bytes) => bytes.len() as u64,
            PeerBytes::Stream(_, length) => *length,
        }
    }

    /// All of the stream, of which these may be only the beginning; `None` where that is not known.
    pub(super) fn completed(&self) -> Option<PeerBytes> {
        match self {
            PeerBytes::Stream(content, _) if content.length <= COMPLETED_BYTES_MAX => {
                Some(PeerBytes::Stream(*content, content.length))
            }
            _ => None,
        }
    }

    /// Those from `from` to `to`, as far as there are.
    pub(super) fn range(&self, from: u64, to: u64) -> Cow<'_, [u8]> {
        let to = to.min(self.length());
        let from = from.min(to);
        match self {
            PeerBytes::Whole(bytes) => Cow::Borrowed(&bytes[from as usize..to as usize]),
            PeerBytes::Stream(content, _) => {
                let mut bytes = Vec::with_capacity((to - from) as usize);
                content.append(from, to, &mut bytes);
                Cow::Owned(bytes)
            }
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub(super) fn parse(text: &str) -> Option<PeerBytes> {
        if let Some(stream) = text.strip_prefix("stream ") {
            let mut words = stream.split(' ');
            let number = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
            let (length, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let content = Content { stream: number, length };
            return (words.next().is_none() && count <= length).then_some(PeerBytes::Stream(content, count));
        }
        let digits = text.strip_prefix("bytes ").or_else(|| (text == "bytes").then_some(""))?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
        bytes.collect::<Option<Vec<u8>>>().map(PeerBytes::Whole)
    }
}

impl fmt::Display for PeerBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerBytes::Whole(bytes) if bytes.is_empty() => f.write_str("bytes"),
            PeerBytes::Whole(bytes) => {
                f.write_str("bytes ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            PeerBytes::Stream(Content { stream, length }, count) => {
                write!(f, "stream {stream:#x} {length} {count}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_however_they_are_held() {
        let content = Content { stream: 77, length: 300 };
        let mut made = Vec::new();
        content.append(0, 200, &mut made);
        let mut other = made.clone();
        other[150] ^= 1;
        let samples = [(made, true), (other, false), (b"short".to_vec(), false), (Vec::new(), false)];
        for (bytes, is_stream) in samples {
            let held = PeerBytes::of(&bytes);
            assert_eq!(matches!(held, PeerBytes::Stream(..)), is_stream);
            assert_eq!(PeerBytes::parse(&held.to_string()), Some(held.clone()));
            assert_eq!(held.range(0, u64::MAX), bytes);
            let middle = bytes.get(20..100).unwrap_or_default();
            assert_eq!(held.range(20, if middle.is_empty() { 20 } else { 100 }), middle);
        }
        for wrong in ["bytes 1", "bytes zz", "stream 0x1 5 6", "stream 1 5 5", "stream 0x1 5", "", "other"] {
            assert_eq!(PeerBytes::parse(wrong), None, "{wrong}");
        }
    }
}
