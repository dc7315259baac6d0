//! Plans of single streams, and of how the bytes of a connection are taken.

use reactor::{Context, PauseReasons, Token};
use std::time::Duration;

use super::content::{Content, HEADER_BYTES};
use super::{Scale, between, pick};
use crate::decision::Decisions;

const MILLISECOND: u64 = 1_000_000;

/// How a handler takes the bytes it is offered.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Appetite {
    /// All at once.
    Everything,
    /// Whole frames of this many bytes, and the end of the stream; the rest is left to the loop.
    Frames {
        /// At least 16, and at most what the loop keeps.
        bytes: usize,
    },
    /// At most this many bytes; reading pauses, and a timer resumes it.
    Sips {
        /// At least 1.
        bytes: usize,
        /// How long it pauses.
        rest_ns: u64,
    },
    /// At most this many bytes; the rest is asked for again at once.
    Nibbles {
        /// At least 1.
        bytes: usize,
    },
}

impl Appetite {
    /// Draws one. `gentle`: whether large meals are usual, so that most runs are fast.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> Appetite {
        let small = scale == Scale::Small;
        match between(decisions, "appetite", 0, 7) {
            0..=3 => Appetite::Everything,
            4 | 5 => Appetite::Frames { bytes: pick(decisions, "frame", &[16, 17, 48]) },
            6 => Appetite::Sips {
                bytes: pick(decisions, "sip", if small { &[16, 7] } else { &[512, 100, 4000] }),
                rest_ns: pick(decisions, "rest between sips", &[MILLISECOND, 0, 20 * MILLISECOND]),
            },
            _ => Appetite::Nibbles {
                bytes: pick(decisions, "nibble", if small { &[16, 5] } else { &[300, 64, 1500] }),
            },
        }
    }

    /// How many of `offered` bytes are taken now, when `received` have been taken of a stream of `length` bytes (0 while
    /// the length is not known).
    pub fn take(self, offered: usize, received: u64, length: u64) -> usize {
        match self {
            Appetite::Everything => offered,
            Appetite::Frames { bytes } => {
                if length > 0 && received + offered as u64 >= length {
                    return offered;
                }
                offered / bytes * bytes
            }
            Appetite::Sips { bytes, .. } | Appetite::Nibbles { bytes } => offered.min(bytes),
        }
    }

    /// Sees to it that what was left is offered again; a timer is armed with `tag`, and [`Appetite::rested`] is to be
    /// called when it fires. Returns whether one was armed.
    pub fn leave(self, ctx: &mut Context<'_>, token: Token, left: usize, tag: u64) -> bool {
        match self {
            Appetite::Sips { rest_ns, .. } if left > 0 => {
                ctx.pause_reading(token, PauseReasons::RATE);
                ctx.arm_timer(Duration::from_nanos(rest_ns), tag);
                true
            }
            Appetite::Nibbles { .. } if left > 0 => {
                ctx.resume_reading(token, PauseReasons::RATE);
                false
            }
            _ => false,
        }
    }

    /// The rest is over.
    pub fn rested(ctx: &mut Context<'_>, token: Token) {
        ctx.resume_reading(token, PauseReasons::RATE);
    }
}

/// How a client ends a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Ends its side when everything is sent, and reads to the end.
    HalfClose,
    /// Closes when everything has come back.
    CloseAfterAll,
    /// Closes as soon as everything is sent, and hears no more.
    CloseUnread,
    /// Aborts after this many messages, as a crashed client would.
    Vanish {
        /// At least 1.
        after_messages: u64,
    },
}

/// What one client does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct StreamPlan {
    /// Before it connects.
    pub start_ns: u64,
    /// Whether it connects to a port where nobody listens.
    pub to_nobody: bool,
    /// How many messages it sends, at least 1.
    pub messages: u64,
    /// Bytes of each, at least 1.
    pub message_bytes: u64,
    /// How many messages may be under way at once, at least 1.
    pub pipeline: u64,
    /// Between the answer to a message and the next one.
    pub think_ns: u64,
    /// How it ends.
    pub ending: Ending,
    /// How it reads.
    pub appetite: Appetite,
    /// How often it begins again when the world broke the stream.
    pub retries: u32,
}

impl StreamPlan {
    /// Draws one.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> StreamPlan {
        let small = scale == Scale::Small;
        let bytes_max = if small { 600 } else { 12_000 };
        let sizes: &[u64] = if small { &[10, 1, 40, 150] } else { &[64, 1, 700, 1460, 5000, 12_000] };
        let message_bytes = pick(decisions, "message size", sizes);
        let most = (bytes_max / message_bytes).clamp(1, 40);
        let messages = between(decisions, "messages", 1, most);
        let pipeline = pick(decisions, "pipeline", &[1, 1, 4, u64::MAX]);
        let ending = match between(decisions, "ending", 0, 7) {
            0..=2 => Ending::HalfClose,
            3..=5 => Ending::CloseAfterAll,
            6 => Ending::CloseUnread,
            _ => Ending::Vanish {
                after_messages: between(decisions, "messages before it vanishes", 1, messages),
            },
        };
        let think_ns = pick(decisions, "think time", &[0, 0, 0, 5 * MILLISECOND, 400 * MILLISECOND]);
        StreamPlan {
            start_ns: between(decisions, "start", 0, 3) * between(decisions, "start", 0, 50) * MILLISECOND
                / 3,
            to_nobody: between(decisions, "whether anybody listens", 0, 19) == 19,
            messages,
            message_bytes,
            pipeline,
            think_ns: if pipeline == 1 { think_ns } else { 0 },
            ending,
            appetite: Appetite::draw(decisions, scale),
            retries: between(decisions, "retries", 0, 2) as u32,
        }
    }

    /// Draws one that is followed by others, under load. With a rate, messages are small enough that it can be kept; without,
    /// one stream of 128 carries more than the kernel's buffers take at once. Each is over within a few seconds of its own.
    pub fn draw_under_load(decisions: &mut Decisions, has_rate: bool) -> StreamPlan {
        const KIB: u64 = 1024;
        let is_bulk = between(decisions, "bulk", 0, 127) == 127 && !has_rate;
        let message_bytes = if is_bulk {
            pick(decisions, "message size", &[256 * KIB, 64 * KIB, 1024 * KIB])
        } else {
            pick(decisions, "message size", &[64, 1, 64, 700, 1460, 5000, 16_000])
        };
        let bytes_max = if is_bulk { 4096 * KIB } else { 100_000 };
        let most = (bytes_max / message_bytes).clamp(1, if has_rate { 200 } else { 40 });
        let messages = between(decisions, "messages", 1, most);
        let pipeline = pick(decisions, "pipeline", &[1, 1, 4, 64]);
        let ending = match between(decisions, "ending", 0, 7) {
            0..=2 => Ending::HalfClose,
            3..=5 => Ending::CloseAfterAll,
            6 => Ending::CloseUnread,
            _ => Ending::Vanish {
                after_messages: between(decisions, "messages before it vanishes", 1, messages),
            },
        };
        let appetite = match between(decisions, "appetite", 0, 15) {
            0..=9 => Appetite::Everything,
            10 | 11 => Appetite::Frames { bytes: pick(decisions, "frame", &[16, 17, 48]) },
            12 | 13 => Appetite::Nibbles { bytes: pick(decisions, "nibble", &[1500, 300]) },
            _ => Appetite::Sips {
                bytes: pick(decisions, "sip", &[4000, 512]),
                rest_ns: pick(decisions, "rest between sips", &[MILLISECOND, 0]),
            },
        };
        let thinks = [0, 0, 0, MILLISECOND, 5 * MILLISECOND, 50 * MILLISECOND];
        StreamPlan {
            start_ns: pick(decisions, "start", &[0, 0, 0, MILLISECOND, 30 * MILLISECOND]),
            to_nobody: between(decisions, "whether anybody listens", 0, 63) == 63,
            messages,
            message_bytes,
            pipeline,
            think_ns: if pipeline == 1 && !has_rate { pick(decisions, "think time", &thinks) } else { 0 },
            ending,
            // Small helpings of something very large take minutes.
            appetite: if is_bulk { Appetite::Everything } else { appetite },
            retries: 0,
        }
    }

    /// What the stream with this number carries.
    pub fn content(&self, stream: u64) -> Content {
        Content { stream, length: HEADER_BYTES + self.messages * self.message_bytes }
    }
}
