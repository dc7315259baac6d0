//! The entries of a log, as text and as JSON Lines.

use std::io::{self, Write};

use super::entry::{Call, Entry};
use super::log::{Cursor, LoopLog};
use crate::trace::Outcome;
use crate::view::quote::Quoted;

/// Writes the first `until` entries, one a line: number, the loop's clock, what happened.
///
/// # Errors
/// Those of `out`.
pub fn write_text(log: &LoopLog, until: u64, out: &mut dyn Write) -> io::Result<()> {
    each(log, until, |at, entry| {
        let (number, ns) = (at.entries(), at.clock_ns());
        writeln!(out, "{number:>8} {:>6}.{:09} {entry}", ns / 1_000_000_000, ns % 1_000_000_000)
    })
}

/// Writes the first `until` entries, one object a line: `loop`, `entry`, `clock_ns`, `words`; for calls also `call`, `fd`,
/// `arguments`, and `value` or `error`.
///
/// # Errors
/// Those of `out`.
pub fn write_json(log: &LoopLog, until: u64, out: &mut dyn Write) -> io::Result<()> {
    let name = log.name();
    each(log, until, |at, entry| {
        let (number, clock_ns) = (at.entries(), at.clock_ns());
        write!(out, r#"{{"loop":{},"entry":{number},"clock_ns":{clock_ns}"#, Quoted(&name))?;
        if let Entry::Call(Call { kind, fd, arguments: [first, second], outcome, .. }) = &entry {
            write!(out, r#","call":"{}","fd":{fd},"arguments":[{first},{second}]"#, kind.name())?;
            match outcome {
                Outcome::Value(value) => write!(out, r#","value":{value}"#)?,
                Outcome::Error(error) => write!(out, r#","error":"{}""#, error.name())?,
            }
        }
        writeln!(out, r#","words":{}}}"#, Quoted(&entry))
    })
}

fn each(
    log: &LoopLog,
    until: u64,
    mut write: impl FnMut(&Cursor, Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = Cursor::default();
    while at.entries() < until {
        let Some(entry) = log.next(&mut at) else { break };
        write(&at, entry)?;
    }
    Ok(())
}
