//! Decisions from arbitrary bytes, as a fuzzer makes them.
//!
//! The input is a sequence of frames: one head byte, whose high four bits name the lane (the domain's number) and whose
//! low four bits, plus one, say how many of the following bytes belong to that lane; the last frame may be cut short.
//! Every input is valid, a frame can be cut out or copied elsewhere without disturbing the others, and a lane that is
//! exhausted answers zero for ever.
//!
//! A value below a bound takes as few bytes as can express the bound, little-endian, modulo the bound.

use super::Domain;

#[derive(Debug, Default)]
struct Lane {
    bytes: Vec<u8>,
    next: usize,
}

/// One lane of bytes per domain.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: [Lane; Domain::COUNT],
}

impl Lanes {
    pub(crate) fn new(mut bytes: &[u8]) -> Lanes {
        let mut lanes: [Lane; Domain::COUNT] = std::array::from_fn(|_| Lane::default());
        while let Some((&head, rest)) = bytes.split_first() {
            let length = (usize::from(head & 15) + 1).min(rest.len());
            let (frame, rest) = rest.split_at(length);
            lanes[usize::from(head >> 4)].bytes.extend_from_slice(frame);
            bytes = rest;
        }
        Lanes { lanes }
    }

    pub(crate) fn draw(&mut self, domain: Domain, bound: u64) -> u64 {
        let lane = &mut self.lanes[domain as usize];
        let width = width_bytes(bound);
        let rest = &lane.bytes[lane.next..];
        let taken = width.min(rest.len());
        let mut word = [0; 8];
        word[..taken].copy_from_slice(&rest[..taken]);
        lane.next += taken;
        u64::from_le_bytes(word) % bound
    }
}

/// Appends a value that was chosen below `bound`, as a lane reads it.
pub(super) fn append_value(lane: &mut Vec<u8>, value: u64, bound: u64) {
    lane.extend_from_slice(&value.to_le_bytes()[..width_bytes(bound)]);
}

/// Appends the frames of one lane. Zeros at its end say nothing, and are left out.
pub(super) fn append_frames(bytes: &mut Vec<u8>, lane: usize, values: &[u8]) {
    let end = values.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    for frame in values[..end].chunks(16) {
        bytes.push((lane as u8) << 4 | (frame.len() - 1) as u8);
        bytes.extend_from_slice(frame);
    }
}

/// The fewest bytes that express every value below `bound`, 1 to 8.
const fn width_bytes(bound: u64) -> usize {
    let bits = u64::BITS - (bound - 1).leading_zeros();
    let bytes = bits.div_ceil(8) as usize;
    if bytes == 0 { 1 } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_feed_their_lanes_and_exhausted_lanes_answer_zero() {
        // Lane 4 (network) gets two bytes, lane 1 (swarm) one, lane 4 one more; the last frame is cut short.
        let mut lanes = Lanes::new(&[0x41, 7, 1, 0x10, 9, 0x4f, 5]);
        assert_eq!(lanes.draw(Domain::Network, 10_000), 7 + 256);
        assert_eq!(lanes.draw(Domain::Network, 3), 5 % 3);
        assert_eq!(lanes.draw(Domain::Network, 3), 0);
        assert_eq!(lanes.draw(Domain::Swarm, 200), 9);
        assert_eq!(lanes.draw(Domain::Setup, 200), 0);
    }

    #[test]
    fn a_value_takes_the_fewest_bytes() {
        assert_eq!(width_bytes(2), 1);
        assert_eq!(width_bytes(256), 1);
        assert_eq!(width_bytes(257), 2);
        assert_eq!(width_bytes(u64::MAX), 8);
    }
}
