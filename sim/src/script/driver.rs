//! Runs a script on a kernel, whichever it is: resolves names, makes the calls, compares answers.

mod calls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use reactor::sys::{Errno, Fd, KeventFlags};

use super::expect::Expectation;
use super::probe::{Probe, Ticket, WideFilter};
use super::step::{Action, Argument, Call, Script, Step, Term};
use super::words;

/// What a call answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Nothing.
    Nothing,
    /// A descriptor.
    Descriptor(Fd),
    /// Two descriptors.
    Descriptors(Fd, Fd),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A word.
    Word(String),
    /// An address.
    Address(SocketAddr),
    /// Event bits.
    Mask(u32),
    /// Events, by the names of what they are about.
    Events(Vec<(String, Event)>),
    /// A wait on another thread, by its number.
    Ticket(usize),
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Of epoll or poll.
    Bits(u32),
    /// Of select.
    Side(char),
    /// Of kevent.
    Knote {
        /// The filter.
        filter: WideFilter,
        /// `data`.
        data: i64,
        /// `udata`.
        udata: u64,
        /// The low 24 bits of `fflags`.
        fflags: u32,
        /// The flags, EV_EOF left out.
        flags: KeventFlags,
        /// EV_EOF.
        eof: bool,
        /// The error of an EOF.
        error: Option<Errno>,
    },
    /// An EV_ERROR entry.
    Receipt {
        /// How the change failed, if it did.
        error: Option<Errno>,
        /// The flags, EV_ERROR left out.
        flags: KeventFlags,
    },
}

/// What a name stands for.
#[derive(Debug)]
enum Bound {
    Descriptor(Fd),
    Number(i64),
    Address(SocketAddrV4),
    Ticket { set: Fd, ticket: Option<Ticket> },
}

/// Where a script failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The line; 0 for a step that comes from no file.
    pub line: usize,
    /// The step as it is written.
    pub step: String,
    /// What was found, or what is wrong with the step.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n    found: {}", self.line, self.step, self.found)
    }
}

impl std::error::Error for Failure {}

/// An `until` that runs longer never ends.
const ROUNDS_MAX: u64 = 100_000;

/// Bytes, or entries, that a step takes memory for at most.
const AMOUNT_MAX: usize = 64 << 20;

/// One script on one kernel.
#[derive(Debug)]
pub struct Driver<'a, P> {
    probe: &'a mut P,
    host: Ipv4Addr,
    names: BTreeMap<String, Bound>,
    /// The names that registrations carry as their data.
    data_names: Vec<String>,
    /// How the idents of knotes were written.
    ident_names: BTreeMap<u64, String>,
    /// Waits on other threads, by number.
    tickets: usize,
}

/// The step cannot be carried out as it stands: a name that is not bound, a number out of range.
type Malformed = String;

impl<'a, P: Probe> Driver<'a, P> {
    /// A driver whose sockets live at `host`, an address of 127.0.0.0/8.
    pub fn new(probe: &'a mut P, host: Ipv4Addr) -> Driver<'a, P> {
        Driver {
            probe,
            host,
            names: BTreeMap::new(),
            data_names: Vec::new(),
            ident_names: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Runs a whole script; ends at the first step that answers something else.
    ///
    /// # Errors
    /// That step.
    pub fn run(&mut self, script: &Script) -> Result<(), Failure> {
        self.steps(&script.steps)
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Failure> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        let fail = |found: String| Failure { line: step.line, step: step.to_string(), found };
        match &step.action {
            Action::Call { names, call, expectation, within } => {
                let began = self.probe.clock_gettime();
                let answer = self.call(names, call).map_err(fail)?;
                let took_ns = self.probe.clock_gettime().as_ns().saturating_sub(began.as_ns());
                if !self.holds(expectation, &answer) {
                    return Err(fail(self.written(&answer)));
                }
                match within {
                    Some((low, high)) if !(low..=high).contains(&&took_ns) => {
                        Err(fail(format!("it took {took_ns} ns")))
                    }
                    _ => Ok(()),
                }
            }
            Action::Repeat { rounds, body } => (0..*rounds).try_for_each(|_| self.steps(body)),
            Action::Until { call, expectation, body } => {
                for _ in 0..ROUNDS_MAX {
                    let answer = self.call(&[], call).map_err(fail)?;
                    if self.holds(expectation, &answer) {
                        return Ok(());
                    }
                    self.steps(body)?;
                }
                Err(fail(format!("{ROUNDS_MAX} rounds were not enough")))
            }
            Action::Count { name, call, expectation } => {
                let answer = self.call(&[], call).map_err(fail)?;
                let counts = self.holds(expectation, &answer);
                self.add(name, i64::from(counts)).map_err(fail)
            }
            Action::Sum { name, call } => {
                let count = match self.call(&[], call).map_err(fail)? {
                    Ok(Value::Number(number)) => number,
                    Ok(Value::Bytes(bytes)) => i64::try_from(bytes.len()).unwrap_or(i64::MAX),
                    _ => 0,
                };
                self.add(name, count).map_err(fail)
            }
            Action::Check { left, comparison, right } => {
                let (left, right) = (self.total(left).map_err(fail)?, self.total(right).map_err(fail)?);
                let holds = match comparison.as_str() {
                    "==" => left == right,
                    "!=" => left != right,
                    "<" => left < right,
                    "<=" => left <= right,
                    ">" => left > right,
                    _ => left >= right,
                };
                if holds { Ok(()) } else { Err(fail(format!("{left} and {right}"))) }
            }
        }
    }

    fn add(&mut self, name: &str, count: i64) -> Result<(), Malformed> {
        match self.names.entry(name.to_owned()).or_insert(Bound::Number(0)) {
            Bound::Number(number) => {
                *number += count;
                Ok(())
            }
            _ => Err(format!("{name} is bound to something else")),
        }
    }

    fn total(&self, terms: &[Term]) -> Result<i64, Malformed> {
        let mut total = 0_i64;
        for Term { operator, number } in terms {
            let number = self.number(number)?;
            total = match operator {
                '+' => total.checked_add(number),
                '-' => total.checked_sub(number),
                '*' => total.checked_mul(number),
                _ => total.checked_div(number),
            }
            .ok_or_else(|| format!("{total} {operator} {number} has no answer"))?;
        }
        Ok(total)
    }

    /// Whether an answer is as expected.
    pub fn holds(&self, expectation: &Expectation, answer: &Result<Value, Errno>) -> bool {
        expectation.holds(answer, &|name| match self.names.get(name)? {
            Bound::Descriptor(fd) => Some(i64::from(fd.as_raw())),
            Bound::Number(number) => Some(*number),
            Bound::Address(_) | Bound::Ticket { .. } => None,
        })
    }

    /// Makes a call and binds what it answers.
    ///
    /// # Errors
    /// What is wrong with the call as it is written: nothing has been called then.
    pub fn call(&mut self, names: &[String], call: &Call) -> Result<Result<Value, Errno>, Malformed> {
        let answer = self.carry_out(call)?;
        if let Ok(value) = &answer {
            self.bind(names, call, value)?;
        }
        Ok(answer)
    }

    fn bind(&mut self, names: &[String], call: &Call, value: &Value) -> Result<(), Malformed> {
        let bound = match (names, value) {
            ([], _) => return Ok(()),
            ([first, second], Value::Descriptors(one, two)) => {
                self.names.insert(first.clone(), Bound::Descriptor(*one));
                self.names.insert(second.clone(), Bound::Descriptor(*two));
                return Ok(());
            }
            ([_], Value::Descriptor(fd)) => Bound::Descriptor(*fd),
            ([_], Value::Number(number)) => Bound::Number(*number),
            ([_], Value::Bytes(bytes)) => Bound::Number(i64::try_from(bytes.len()).unwrap_or(i64::MAX)),
            ([_], Value::Address(SocketAddr::V4(address))) => Bound::Address(*address),
            ([name], Value::Ticket(_)) => {
                let set = self.descriptor(&call.arguments[0])?;
                let Some(Bound::Ticket { ticket, .. }) = self.names.remove("") else {
                    return Err(format!("{name} has no wait"));
                };
                Bound::Ticket { set, ticket }
            }
            _ => return Err(format!("{} cannot be bound to what the call answers", names.join(" "))),
        };
        self.names.insert(names[0].clone(), bound);
        Ok(())
    }

    fn descriptor(&self, argument: &Argument) -> Result<Fd, Malformed> {
        match argument {
            Argument::RawDescriptor(number) => Ok(Fd::from_raw(*number)),
            Argument::Name(name) => match self.names.get(name) {
                Some(Bound::Descriptor(fd)) => Ok(*fd),
                Some(_) => Err(format!("{name} is no descriptor")),
                None => Err(format!("{name} is not bound")),
            },
            other => Err(format!("{other} is no descriptor")),
        }
    }

    fn number(&self, argument: &Argument) -> Result<i64, Malformed> {
        match argument {
            Argument::Number(number) => Ok(*number),
            Argument::Name(name) => match self.names.get(name) {
                Some(Bound::Number(number)) => Ok(*number),
                Some(_) => Err(format!("{name} is no number")),
                None => Err(format!("{name} is not bound")),
            },
            other => Err(format!("{other} is no number")),
        }
    }

    /// A number of bytes or of entries that memory is taken for.
    fn amount(&self, argument: &Argument) -> Result<usize, Malformed> {
        let amount = self.small(argument)?;
        if amount <= AMOUNT_MAX { Ok(amount) } else { Err("at most 64M".to_owned()) }
    }

    /// The number as another integer type.
    fn small<T: TryFrom<i64>>(&self, argument: &Argument) -> Result<T, Malformed> {
        let number = self.number(argument)?;
        T::try_from(number).map_err(|_| format!("{number} is out of range"))
    }

    fn address(&mut self, argument: &Argument) -> Result<SocketAddr, Malformed> {
        match argument {
            Argument::Address(address) => Ok(SocketAddr::V4(*address)),
            Argument::HostPort(port) => Ok(SocketAddr::V4(SocketAddrV4::new(self.host, *port))),
            Argument::AddressOf(name) => match self.names.get(name) {
                Some(Bound::Address(address)) => Ok(SocketAddr::V4(*address)),
                Some(Bound::Descriptor(fd)) => {
                    let fd = *fd;
                    self.probe.getsockname(fd).map_err(|error| format!("the address of {name}: {error}"))
                }
                _ => Err(format!("{name} has no address")),
            },
            other => Err(format!("{other} is no address")),
        }
    }

    fn bytes(argument: &Argument) -> Result<Vec<u8>, Malformed> {
        match argument {
            Argument::Text(bytes) => Ok(bytes.clone()),
            Argument::Filling(count) => {
                let count = usize::try_from(*count).ok().filter(|count| *count <= AMOUNT_MAX);
                let count = count.ok_or("at most 64M bytes")?;
                Ok((0..count).map(|place| (place % 251) as u8).collect())
            }
            other => Err(format!("{other} is no bytes")),
        }
    }

    /// The word that a registration carries for this descriptor.
    fn data_of(&mut self, argument: &Argument, data: Option<&Argument>) -> Result<u64, Malformed> {
        if let Some(Argument::Word(word)) = data {
            let number = word.strip_prefix("data=").and_then(words::parse_number);
            let number = number.and_then(|number| u64::try_from(number).ok());
            return number.ok_or_else(|| format!("{word:?}: write `data=n`"));
        }
        let name = argument.to_string();
        let place = self.data_names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.data_names.push(name);
            self.data_names.len() - 1
        });
        Ok(DATA_OF_NAMES + place as u64)
    }

    /// The name behind a registration's data.
    fn name_of(&self, data: u64) -> String {
        let place = data.checked_sub(DATA_OF_NAMES).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.data_names.get(place)).cloned().unwrap_or_else(|| data.to_string())
    }

    /// An answer as scripts write it.
    pub fn written(&self, answer: &Result<Value, Errno>) -> String {
        match answer {
            Ok(value) => value.to_string(),
            Err(error) => error.name().to_owned(),
        }
    }
}

/// Data below it is what a script gave itself.
const DATA_OF_NAMES: u64 = 1 << 40;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nothing => f.write_str("ok"),
            Value::Descriptor(fd) => write!(f, "#{}", fd.as_raw()),
            Value::Descriptors(one, two) => write!(f, "#{} #{}", one.as_raw(), two.as_raw()),
            Value::Number(number) => write!(f, "{number}"),
            Value::Bytes(bytes) if bytes.len() > 32 => write!(f, "{} bytes", bytes.len()),
            Value::Bytes(bytes) => f.write_str(&words::quoted(bytes)),
            Value::Word(word) => write!(f, "is {word}"),
            Value::Address(address) => write!(f, "{address}"),
            Value::Mask(bits) => f.write_str(&words::mask(*bits)),
            Value::Events(events) => {
                f.write_str("[")?;
                for (index, (name, event)) in events.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    event.write(f, name)?;
                }
                f.write_str("]")
            }
            Value::Ticket(_) => f.write_str("a wait"),
        }
    }
}

impl Event {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        match self {
            Event::Bits(bits) => write!(f, "{name}:{}", words::mask(*bits)),
            Event::Side(side) => write!(f, "{side}:{name}"),
            Event::Receipt { error, flags } => {
                match error {
                    None => write!(f, "RECEIPT {name}")?,
                    Some(error) => write!(f, "ERROR {name} {}", error.name())?,
                }
                write!(f, " flags={}", words::kevent_flags(*flags))
            }
            Event::Knote { filter, data, udata, fflags, flags, eof, error } => {
                write!(f, "{} {name} data={data}", words::filter(*filter))?;
                if *udata != 0 {
                    write!(f, " udata={udata}")?;
                }
                if *fflags != 0 {
                    write!(f, " fflags={fflags:#x}")?;
                }
                if !flags.is_empty() {
                    write!(f, " flags={}", words::kevent_flags(*flags))?;
                }
                if *eof {
                    f.write_str(" EOF")?;
                }
                if let Some(error) = error {
                    write!(f, " {}", error.name())?;
                }
                Ok(())
            }
        }
    }
}
