//! What a call answered, as far as it is compared.

use std::fmt;

use reactor::sys::Errno;

use super::call::{Bits, Slot};

/// What a call answered, reduced to what both kernels must agree on: addresses only as present, buffers' capacities not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// The call was left out: a place that it needs is empty.
    LeftOut,
    /// Success without a value.
    Done,
    /// A failure.
    Failed(Errno),
    /// Descriptors, by their rank among the numbers that were free when the script began.
    Descriptors(Vec<u32>),
    /// A number.
    Number(i64),
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes in a number that depends on the capacity of buffers: at least one.
    Some,
    /// None of them.
    None,
    /// Bytes were received until something else was answered.
    Drained {
        /// How many; `None` where only "at least one" is compared.
        count: Option<u64>,
        /// The error that ended it; `None` for the end of the stream.
        end: Option<Errno>,
    },
    /// The pending error.
    Pending(Option<Errno>),
    /// Events by the place in their data, in order.
    Events(Vec<(Slot, u32)>),
    /// A wait that returned empty before its time was over.
    EmptyTooEarly,
}

impl Observation {
    /// Its kind, for reports and to tell differences apart: an error's name, or what sort of success it was.
    pub fn kind(&self) -> &'static str {
        match self {
            Observation::LeftOut => "left out",
            Observation::Done => "ok",
            Observation::Failed(error) => error.name(),
            Observation::Descriptors(_) => "descriptor",
            Observation::Number(_) => "number",
            Observation::Bytes(bytes) if bytes.is_empty() => "no bytes",
            Observation::Bytes(_) => "bytes",
            Observation::Some => "some",
            Observation::None => "none",
            Observation::Drained { .. } => "drained",
            Observation::Pending(None) => "no error",
            Observation::Pending(Some(_)) => "pending error",
            Observation::Events(events) if events.is_empty() => "no events",
            Observation::Events(_) => "events",
            Observation::EmptyTooEarly => "empty too early",
        }
    }

    /// Whether the system lacks the call, which says nothing about the model.
    pub fn is_unsupported(&self) -> bool {
        *self == Observation::Failed(Errno::Unsupported)
    }
}

/// As the expectation of a script's step.
impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Observation::LeftOut => f.write_str("left out"),
            Observation::Done => f.write_str("ok"),
            Observation::Failed(error) => f.write_str(error.name()),
            Observation::Descriptors(ranks) => write!(f, "descriptor of rank {ranks:?}"),
            Observation::Number(number) => write!(f, "{number}"),
            Observation::Bytes(bytes) => {
                match bytes.iter().all(u8::is_ascii_lowercase) && bytes.len() <= 40 {
                    true => write!(f, "\"{}\"", String::from_utf8_lossy(bytes)),
                    false => write!(f, "{}", bytes.len()),
                }
            }
            Observation::Some => f.write_str(">=1"),
            Observation::None => f.write_str("0"),
            Observation::Drained { count, end } => {
                match count {
                    Some(count) => write!(f, "{count}")?,
                    None => f.write_str(">=1")?,
                }
                write!(f, " and then {}", end.map_or("the end", |error| error.name()))
            }
            Observation::Pending(error) => write!(f, "is {}", error.map_or("none", |error| error.name())),
            Observation::Events(events) => {
                let events: Vec<String> =
                    events.iter().map(|(slot, bits)| format!("{slot}:{}", Bits(*bits))).collect();
                write!(f, "[{}]", events.join(", "))
            }
            Observation::EmptyTooEarly => f.write_str("[] before the timeout"),
        }
    }
}
