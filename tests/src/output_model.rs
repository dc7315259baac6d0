//! The write queue and its watermarks against a model that knows only positions in a stream of known bytes.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use reactor::parts::Output;
use reactor::{Config, Pressure};

use crate::account::{Account, Ending, quietly, same};
use crate::operands::Operands;

/// Operations of one run; further bytes are ignored.
const STEPS_MAX: usize = 1000;
/// The most that is queued: more would only be slow.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// Just below, at and above the size at which copied segments end.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Carries out the operations that the bytes stand for.
///
/// # Panics
/// When queue and model differ, with everything that was done until then.
pub fn check(bytes: &[u8]) {
    carry_out(bytes).check("write queue");
}

/// What the bytes do, in words.
pub fn tell(bytes: &[u8]) -> String {
    carry_out(bytes).to_string()
}

fn carry_out(bytes: &[u8]) -> Account {
    let mut run = Run::new(Operands::new(bytes));
    let ended = quietly(|| run.steps());
    Account::new(run.story, ended)
}

/// The stream repeats itself after so many bytes: a prime, so that places which are segments apart differ.
const PERIOD: usize = 65_521;

/// One period of the stream; neighbours differ.
fn stream() -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    STREAM.get_or_init(|| {
        (0..PERIOD as u64).map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    })
}

/// The pieces of the stream between two places.
fn pieces(from: u64, length: usize) -> impl Iterator<Item = &'static [u8]> {
    let (mut place, mut left) = ((from % PERIOD as u64) as usize, length);
    std::iter::from_fn(move || {
        let piece = &stream()[place..PERIOD.min(place + left)];
        (place, left) = (0, left - piece.len());
        (!piece.is_empty()).then_some(piece)
    })
}

/// Where bytes that should be those from a place on are others.
fn first_wrong(bytes: &[u8], from: u64) -> Option<u64> {
    let mut rest = bytes;
    for piece in pieces(from, bytes.len()) {
        let (part, after) = rest.split_at(piece.len());
        if part != piece {
            let at = bytes.len() - rest.len();
            let within = part.iter().zip(piece).position(|(byte, expected)| byte != expected);
            return Some(from + (at + within.unwrap_or(0)) as u64);
        }
        rest = after;
    }
    None
}

struct Run<'a> {
    input: Operands<'a>,
    output: Output,
    high: usize,
    low: usize,
    /// Places of the stream: what has left, and what was queued.
    sent: u64,
    queued: u64,
    /// Where each push ended that has not left completely.
    ends: VecDeque<u64>,
    above: bool,
    told: bool,
    story: String,
}

impl<'a> Run<'a> {
    fn new(mut input: Operands<'a>) -> Run<'a> {
        let high = input.pick(&[1000, 0, 1, 64, SEGMENT_BYTES, 100_000]);
        let low = match input.byte() % 4 {
            0 => high / 4,
            1 => 0,
            2 => high,
            _ => high.saturating_sub(1),
        };
        let config = Config { queue_bytes_high: high, queue_bytes_low: low, ..Config::default() };
        let story = format!("A queue with a high mark of {high} and a low mark of {low} bytes.\n");
        Run {
            input,
            output: Output::new(config),
            high,
            low,
            sent: 0,
            queued: 0,
            ends: VecDeque::new(),
            above: false,
            told: false,
            story,
        }
    }

    fn steps(&mut self) -> Ending {
        self.compare()?;
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            match self.input.byte() % 8 {
                0..=2 => self.push(),
                3..=5 => self.write()?,
                6 => self.hear()?,
                7 => match self.input.byte() {
                    0..4 => self.clear(),
                    _ => self.push(),
                },
                _ => unreachable!(),
            }
            self.compare()?;
        }
        while self.queued > self.sent {
            self.write_up_to(64, usize::MAX, 256)?;
            self.compare()?;
        }
        self.hear()
    }

    fn push(&mut self) {
        let (kind, size) = (self.input.byte(), self.input.byte() as usize);
        let length = match kind >> 1 & 7 {
            0..=3 => size,
            4 => size * 16,
            5 => SEGMENT_BYTES - 2 + size % 5,
            6 => SEGMENT_BYTES / 2 + size % 3,
            _ => size * 700,
        };
        let shared = kind & 1 == 1;
        let how = if shared { "shared" } else { "copied" };
        if self.held() + length > QUEUED_BYTES_MAX {
            let _ = writeln!(self.story, "- left out {length} {how} bytes: enough is queued");
            return;
        }
        let _ = writeln!(self.story, "- queued {length} bytes, {how}");
        let end = self.queued + length as u64;
        let bytes = pieces(self.queued, length).collect::<Vec<_>>().concat();
        if shared {
            self.output.push_shared(Bytes::from(bytes));
        } else {
            self.output.push_copy(&bytes);
        }
        self.queued = end;
        if length > 0 {
            self.ends.push_back(end);
        }
        self.note();
    }

    fn write(&mut self) -> Ending {
        let segments_max = self.input.pick(&[64, 1, 2, 3, 100]);
        let bytes_max = match self.input.byte() {
            0 => usize::MAX,
            1 => SEGMENT_BYTES,
            few => few as usize,
        };
        let share = self.input.byte() as usize + 1;
        self.write_up_to(segments_max, bytes_max, share)
    }

    /// One write; the kernel takes this share of it, in 256ths.
    fn write_up_to(&mut self, segments_max: usize, bytes_max: usize, share: usize) -> Ending {
        let (offered, segments) = self.output.offer(segments_max, bytes_max);
        let _ = writeln!(
            self.story,
            "- offered {} bytes in {segments} segments (at most {bytes_max} in {segments_max})",
            offered.len()
        );
        same("segments within their limit", segments <= segments_max, true)?;
        same("bytes within their limit", offered.len() <= bytes_max, true)?;
        same("nothing is offered exactly if nothing is queued", offered.is_empty(), self.held() == 0)?;
        if self.ends.len() <= segments_max.min(64) {
            same("bytes offered where everything may go", offered.len(), self.held().min(bytes_max))?;
        }
        same("the first wrong byte of the stream", first_wrong(&offered, self.sent), None)?;

        let taken = offered.len() * share / 256;
        let _ = writeln!(self.story, "  the kernel took {taken}");
        self.output.advance(taken);
        self.leave(self.sent + taken as u64);
        Ok(())
    }

    fn clear(&mut self) {
        let _ = writeln!(self.story, "- dropped everything");
        self.output.clear();
        self.leave(self.queued);
    }

    fn leave(&mut self, sent: u64) {
        self.sent = sent;
        while self.ends.front().is_some_and(|&end| end <= sent) {
            self.ends.pop_front();
        }
        self.note();
    }

    /// The handler hears what there is to hear.
    fn hear(&mut self) -> Ending {
        let news = self.output.take_news();
        let _ = writeln!(self.story, "- the handler heard {news:?}");
        let expected =
            (self.above != self.told).then_some(if self.above { Pressure::High } else { Pressure::Low });
        self.told = self.above;
        same("what the handler hears", news, expected)
    }

    fn held(&self) -> usize {
        (self.queued - self.sent) as usize
    }

    fn note(&mut self) {
        if self.held() > self.high {
            self.above = true;
        } else if self.held() <= self.low {
            self.above = false;
        }
    }

    fn compare(&self) -> Ending {
        self.output.assert_invariants();
        same("bytes", self.output.bytes(), self.held())?;
        same("is_empty", self.output.is_empty(), self.held() == 0)?;
        same("is_above", self.output.is_above(), self.above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_found_wherever_it_is() {
        let from = 3 * PERIOD as u64 - 10;
        let right = pieces(from, 100).collect::<Vec<_>>().concat();
        assert_eq!(first_wrong(&right, from), None);
        for place in [0, 9, 10, 99] {
            let mut wrong = right.clone();
            wrong[place] ^= 1;
            assert_eq!(first_wrong(&wrong, from), Some(from + place as u64));
        }
        assert!(first_wrong(&right, from + 1).is_some());
    }
}
