//! What a step must answer.

use std::fmt;

use reactor::sys::{Errno, KeventFlags};

use super::driver::{Event, Value};
use super::probe::WideFilter;
use super::words;

/// One of several answers must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// At least one.
    pub alternatives: Vec<Expected>,
}

/// One answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Anything.
    Any,
    /// Success.
    Ok,
    /// This error.
    Error(Errno),
    /// A number, or as many bytes; both included.
    Number {
        /// At least.
        low: i64,
        /// At most.
        high: i64,
    },
    /// These bytes.
    Bytes(Vec<u8>),
    /// This word.
    Word(String),
    /// The number of this descriptor.
    NumberOf(String),
    /// These bits.
    Mask(u32),
    /// These events.
    Events {
        /// Whether the order counts.
        ordered: bool,
        /// Name (or data) and bits, or side and name for `select`.
        events: Vec<(String, ExpectedEvent)>,
    },
}

/// One event of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpectedEvent {
    /// Of epoll or poll.
    Bits(u32),
    /// Of select: `r`, `w` or `x`.
    Side(char),
    /// Of kevent.
    Knote {
        /// The filter.
        filter: WideFilter,
        /// `data`, if it is compared.
        data: Option<i64>,
        /// `udata`, if it is compared.
        udata: Option<u64>,
        /// The low 24 bits of `fflags`, if they are compared.
        fflags: Option<u32>,
        /// The flags, EV_EOF left out, if they are compared: systems echo different ones (K13).
        flags: Option<KeventFlags>,
        /// EV_EOF.
        eof: bool,
        /// The error of an EOF.
        error: Option<Errno>,
    },
    /// An EV_ERROR entry of kevent.
    Receipt {
        /// How the change failed, if it did.
        error: Option<Errno>,
        /// The flags, EV_ERROR left out, if they are compared (K19).
        flags: Option<KeventFlags>,
    },
}

impl Expectation {
    /// Success.
    pub fn ok() -> Expectation {
        Expectation { alternatives: vec![Expected::Ok] }
    }

    /// Anything.
    pub fn any() -> Expectation {
        Expectation { alternatives: vec![Expected::Any] }
    }

    /// Whether an answer is one of those expected; `number_of` tells the number behind a name.
    pub fn holds(&self, answer: &Result<Value, Errno>, number_of: &dyn Fn(&str) -> Option<i64>) -> bool {
        self.alternatives.iter().any(|expected| expected.holds(answer, number_of))
    }
}

impl Expected {
    fn holds(&self, answer: &Result<Value, Errno>, number_of: &dyn Fn(&str) -> Option<i64>) -> bool {
        let value = match (self, answer) {
            (Expected::Any, _) | (Expected::Ok, Ok(_)) => return true,
            (Expected::Error(expected), Err(error)) => return expected == error,
            (_, Err(_)) => return false,
            (_, Ok(value)) => value,
        };
        match (self, value) {
            (Expected::Number { low, high }, Value::Number(number)) => (low..=high).contains(&number),
            (Expected::Number { low, high }, Value::Bytes(bytes)) => {
                i64::try_from(bytes.len()).is_ok_and(|count| (*low..=*high).contains(&count))
            }
            (Expected::Number { low: 0, high: 0 }, Value::Mask(0)) => true,
            (Expected::Bytes(expected), Value::Bytes(bytes)) => expected == bytes,
            (Expected::Word(expected), Value::Word(word)) => expected == word,
            (Expected::Mask(expected), Value::Mask(bits)) => expected == bits,
            (Expected::NumberOf(name), Value::Number(number)) => number_of(name) == Some(*number),
            (Expected::NumberOf(name), Value::Descriptor(fd)) => {
                number_of(name) == Some(i64::from(fd.as_raw()))
            }
            (Expected::Events { ordered, events }, Value::Events(found)) => {
                if events.len() != found.len() {
                    return false;
                }
                if *ordered {
                    return events.iter().zip(found).all(|(expected, found)| matches(expected, found));
                }
                // Every expected event takes one that was found.
                let mut left: Vec<&(String, Event)> = found.iter().collect();
                events.iter().all(|expected| {
                    let place = left.iter().position(|found| matches(expected, found));
                    place.is_some_and(|place| {
                        left.remove(place);
                        true
                    })
                })
            }
            _ => false,
        }
    }
}

fn matches((name, expected): &(String, ExpectedEvent), (found_name, found): &(String, Event)) -> bool {
    if name != found_name {
        return false;
    }
    match (expected, found) {
        (ExpectedEvent::Bits(bits), Event::Bits(found)) => bits == found,
        (ExpectedEvent::Side(side), Event::Side(found)) => side == found,
        (
            ExpectedEvent::Receipt { error, flags },
            Event::Receipt { error: found_error, flags: found_flags },
        ) => error == found_error && flags.is_none_or(|flags| flags == *found_flags),
        (
            ExpectedEvent::Knote { filter, data, udata, fflags, flags, eof, error },
            Event::Knote {
                filter: found_filter,
                data: found_data,
                udata: found_udata,
                fflags: found_fflags,
                flags: found_flags,
                eof: found_eof,
                error: found_error,
            },
        ) => {
            filter == found_filter
                && data.is_none_or(|data| data == *found_data)
                && udata.is_none_or(|udata| udata == *found_udata)
                && fflags.is_none_or(|fflags| fflags == *found_fflags)
                && flags.is_none_or(|flags| flags == *found_flags)
                && eof == found_eof
                && error == found_error
        }
        _ => false,
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expected) in self.alternatives.iter().enumerate() {
            if index > 0 {
                f.write_str(" or ")?;
            }
            write!(f, "{expected}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Any => f.write_str("any"),
            Expected::Ok => f.write_str("ok"),
            Expected::Error(error) => f.write_str(error.name()),
            Expected::Number { low, high } if low == high => write!(f, "{low}"),
            Expected::Number { low, high: i64::MAX } => write!(f, ">={low}"),
            Expected::Number { low: i64::MIN, high } => write!(f, "<{}", high + 1),
            Expected::Number { low, high } => write!(f, "{low}..{high}"),
            Expected::Bytes(bytes) => f.write_str(&words::quoted(bytes)),
            Expected::Word(word) => write!(f, "is {word}"),
            Expected::NumberOf(name) => write!(f, "={name}"),
            Expected::Mask(bits) => {
                // Bits without a name would read as a number.
                let mask = words::mask(*bits);
                let reads_as_number = words::parse_number(&mask).is_some();
                write!(f, "{}{mask}", if reads_as_number { "0|" } else { "" })
            }
            Expected::Events { ordered, events } => {
                let events: Vec<String> = events.iter().map(|(name, event)| event.written(name)).collect();
                let events = events.join(", ");
                if *ordered { write!(f, "[{events}]") } else { write!(f, "{{{events}}}") }
            }
        }
    }
}

impl ExpectedEvent {
    /// The event of this name, as scripts write it.
    fn written(&self, name: &str) -> String {
        match self {
            ExpectedEvent::Bits(bits) => format!("{name}:{}", words::mask(*bits)),
            ExpectedEvent::Side(side) => format!("{side}:{name}"),
            ExpectedEvent::Receipt { error, flags } => {
                let mut text = match error {
                    None => format!("RECEIPT {name}"),
                    Some(error) => format!("ERROR {name} {}", error.name()),
                };
                if let Some(flags) = flags {
                    text += &format!(" flags={}", words::kevent_flags(*flags));
                }
                text
            }
            ExpectedEvent::Knote { filter, data, udata, fflags, flags, eof, error } => {
                let mut text = format!("{} {name}", words::filter(*filter));
                if let Some(data) = data {
                    text += &format!(" data={data}");
                }
                if let Some(udata) = udata {
                    text += &format!(" udata={udata}");
                }
                if let Some(fflags) = fflags {
                    text += &format!(" fflags={fflags:#x}");
                }
                if let Some(flags) = flags {
                    text += &format!(" flags={}", words::kevent_flags(*flags));
                }
                if *eof {
                    text += " EOF";
                }
                if let Some(error) = error {
                    text += &format!(" {}", error.name());
                }
                text
            }
        }
    }
}
