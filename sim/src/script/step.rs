//! A script as a value: what the parser makes, what the generator makes, and how both are written.

use std::fmt;
use std::net::SocketAddrV4;

use reactor::sys::KeventFlags;

use super::capability::Capability;
use super::expect::Expectation;
use super::probe::{WideFilter, WideNotes};
use super::verb::Verb;
use super::words;
use crate::kernel::Kernel;

/// Where a script cannot run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Only {
    /// The live kernel cannot be brought there, for this reason.
    Simulated(String),
    /// The simulated kernel does not model it, for this reason.
    Live(String),
}

/// A script.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// What it shows.
    pub title: String,
    /// The kernels that it speaks of; empty for Linux.
    pub systems: Vec<Kernel>,
    /// Capabilities that the live machine must grant.
    pub needs: Vec<Capability>,
    /// Whether one side is left out.
    pub only: Option<Only>,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Script {
    /// Whether it speaks of this kernel.
    pub fn is_on(&self, kernel: Kernel) -> bool {
        if self.systems.is_empty() { kernel == Kernel::Linux } else { self.systems.contains(&kernel) }
    }
}

/// One step, and its line in the file (0 where there is none).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Counted from 1.
    pub line: usize,
    /// What is done.
    pub action: Action,
}

impl Step {
    /// A call outside of a file, which must only succeed or fail: nothing is expected of it.
    pub fn of(names: &[&str], verb: Verb, arguments: Vec<Argument>) -> Step {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let call = Call { verb, arguments };
        Step { line: 0, action: Action::Call { names, call, expectation: Expectation::any(), within: None } }
    }
}

/// What a step does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// A call.
    Call {
        /// What the answer is bound to.
        names: Vec<String>,
        /// The call.
        call: Call,
        /// What it must answer.
        expectation: Expectation,
        /// How long it may take: at least, at most; nanoseconds.
        within: Option<(u64, u64)>,
    },
    /// The same steps several times.
    Repeat {
        /// How often.
        rounds: u64,
        /// What.
        body: Vec<Step>,
    },
    /// The body until the call answers so; the call comes first.
    Until {
        /// The call.
        call: Call,
        /// What ends it.
        expectation: Expectation,
        /// What is done while it does not hold.
        body: Vec<Step>,
    },
    /// Adds one to a number if the answer is so.
    Count {
        /// The number's name.
        name: String,
        /// The call.
        call: Call,
        /// What counts.
        expectation: Expectation,
    },
    /// Adds the number that the call answers; nothing for an error.
    Sum {
        /// The number's name.
        name: String,
        /// The call.
        call: Call,
    },
    /// Compares numbers.
    Check {
        /// First term, then operators and terms, evaluated from the left.
        left: Vec<Term>,
        /// `==`, `!=`, `<`, `<=`, `>` or `>=`.
        comparison: String,
        /// As `left`.
        right: Vec<Term>,
    },
}

/// A term of `check`, and the operator before it (`+` for the first).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// `+`, `-`, `*` or `/`.
    pub operator: char,
    /// The number.
    pub number: Argument,
}

/// A verb and what it is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// One for each parameter that was given; `None` for one that was left out before another.
    pub arguments: Vec<Argument>,
}

/// What a verb is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Argument {
    /// An optional one that was left out.
    Absent,
    /// A bound name.
    Name(String),
    /// A descriptor by its number.
    RawDescriptor(i32),
    /// A number.
    Number(i64),
    /// These bytes.
    Text(Vec<u8>),
    /// That many bytes.
    Filling(u64),
    /// Nanoseconds; `None` for ever.
    Time(Option<i64>),
    /// Event bits.
    Mask(u32),
    /// An address.
    Address(SocketAddrV4),
    /// A port of the script's own address.
    HostPort(u16),
    /// Where the named descriptor is bound, or the named address.
    AddressOf(String),
    /// A word.
    Word(String),
    /// For `poll`.
    Entries(Vec<(Argument, u32)>),
    /// For `select`.
    Descriptors(Vec<Argument>),
    /// For `kevent`.
    Changes(Vec<Change>),
}

impl Argument {
    /// A bound name.
    pub fn name(name: &str) -> Argument {
        Argument::Name(name.to_owned())
    }

    /// A word.
    pub fn word(word: &str) -> Argument {
        Argument::Word(word.to_owned())
    }

    /// A time in milliseconds.
    pub fn ms(ms: i64) -> Argument {
        Argument::Time(Some(ms * 1_000_000))
    }
}

/// One entry of a change list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The filter.
    pub filter: WideFilter,
    /// A descriptor's name or a number.
    pub ident: Argument,
    /// Flags.
    pub flags: KeventFlags,
    /// Filter flags.
    pub notes: WideNotes,
    /// `data`.
    pub data: i64,
    /// The user's word.
    pub udata: u64,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}", self.title)?;
        if !self.systems.is_empty() {
            let names: Vec<&str> = self.systems.iter().map(|kernel| kernel.name()).collect();
            writeln!(f, "on {}", names.join(" "))?;
        }
        for need in &self.needs {
            writeln!(f, "needs {}", need.name())?;
        }
        match &self.only {
            Some(Only::Simulated(reason)) => writeln!(f, "simulated only: {reason}")?,
            Some(Only::Live(reason)) => writeln!(f, "live only: {reason}")?,
            None => {}
        }
        write_steps(f, &self.steps, 0)
    }
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step], depth: usize) -> fmt::Result {
    let indent = "    ".repeat(depth);
    for step in steps {
        writeln!(f, "{indent}{step}")?;
        if let Action::Repeat { body, .. } | Action::Until { body, .. } = &step.action {
            write_steps(f, body, depth + 1)?;
            writeln!(f, "{indent}}}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Call { names, call, expectation, within } => {
                if !names.is_empty() {
                    write!(f, "{} = ", names.join(" "))?;
                }
                write!(f, "{call}")?;
                if *expectation != Expectation::ok() {
                    write!(f, " -> {expectation}")?;
                }
                match within {
                    Some((low, high)) => {
                        write!(
                            f,
                            " within {}..{}",
                            words::time(Some(low.cast_signed())),
                            words::time(Some(high.cast_signed()))
                        )
                    }
                    None => Ok(()),
                }
            }
            Action::Repeat { rounds, .. } => write!(f, "repeat {rounds} {{"),
            Action::Until { call, expectation, .. } => write!(f, "until {call} -> {expectation} {{"),
            Action::Count { name, call, expectation } => write!(f, "count {name} {call} -> {expectation}"),
            Action::Sum { name, call } => write!(f, "sum {name} {call}"),
            Action::Check { left, comparison, right } => {
                write!(f, "check {} {comparison} {}", terms(left), terms(right))
            }
        }
    }
}

fn terms(terms: &[Term]) -> String {
    let mut text = String::new();
    for (index, Term { operator, number }) in terms.iter().enumerate() {
        if index > 0 {
            text += &format!(" {operator} ");
        }
        text += &number.to_string();
    }
    text
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb)?;
        for argument in &self.arguments {
            if *argument != Argument::Absent {
                write!(f, " {argument}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Absent => Ok(()),
            Argument::Name(name) | Argument::Word(name) => f.write_str(name),
            Argument::RawDescriptor(number) => write!(f, "#{number}"),
            Argument::Number(number) => write!(f, "{number}"),
            Argument::Text(bytes) => f.write_str(&words::quoted(bytes)),
            Argument::Filling(count) => write!(f, "{count}x"),
            Argument::Time(time) => f.write_str(&words::time(*time)),
            Argument::Mask(bits) => f.write_str(&words::mask(*bits)),
            Argument::Address(address) => write!(f, "{address}"),
            Argument::HostPort(port) => write!(f, "host:{port}"),
            Argument::AddressOf(name) => write!(f, "@{name}"),
            Argument::Entries(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(fd, bits)| format!("{fd}:{}", words::mask(*bits))).collect();
                write!(f, "[{}]", entries.join(", "))
            }
            Argument::Descriptors(names) => {
                let names: Vec<String> = names.iter().map(Argument::to_string).collect();
                write!(f, "[{}]", names.join(", "))
            }
            Argument::Changes(changes) => {
                let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
                write!(f, "[{}]", changes.join(", "))
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", words::filter(self.filter), self.ident)?;
        if !self.flags.is_empty() {
            write!(f, " {}", words::kevent_flags(self.flags))?;
        }
        if !self.notes.is_empty() {
            write!(f, " notes={}", words::notes(self.notes))?;
        }
        if self.data != 0 {
            write!(f, " data={}", self.data)?;
        }
        if self.udata != 0 {
            write!(f, " udata={}", self.udata)?;
        }
        Ok(())
    }
}
