//! A part while it runs, as the night sees it: its keeper, and how to ask for an end.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::part::End;

/// How a command is to be kept.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    /// `soak` itself, which is the keeper, too.
    pub(crate) soak: &'a Path,
    pub(crate) limit_seconds: u64,
    pub(crate) grace_seconds: u64,
    /// How much lower than the night's its priority is.
    pub(crate) nice: i32,
    pub(crate) log: &'a Path,
}

/// The end of the pipe on which the part hangs: it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Lifeline(ChildStdin);

impl Lifeline {
    /// Asks the part to end. One that has ended already has nothing to be asked.
    pub(crate) fn interrupt(&mut self) {
        let _ = self.0.write_all(b"i");
    }
}

/// A keeper that is running.
#[derive(Debug)]
pub(crate) struct Kept {
    keeper: Child,
}

/// Starts a command under a keeper. A command that cannot be started is told by [`Kept::end`].
///
/// # Errors
/// When not even the keeper can be started.
pub(crate) fn start(terms: &Terms<'_>, command: &[String]) -> std::io::Result<(Kept, Lifeline)> {
    let mut keeper = Command::new(terms.soak)
        .arg("keep")
        .args(["--limit-seconds", &terms.limit_seconds.to_string()])
        .args(["--grace-seconds", &terms.grace_seconds.to_string()])
        .args(["--nice", &terms.nice.to_string()])
        .arg("--log")
        .arg(terms.log)
        .arg("--")
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A Ctrl-C in the terminal is for the night, which then asks.
        .process_group(0)
        .spawn()?;
    let lifeline = keeper.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    Ok((Kept { keeper }, Lifeline(lifeline)))
}

impl Kept {
    /// Waits for the end.
    pub(crate) fn end(mut self) -> End {
        let mut told = String::new();
        // A keeper that is killed tells nothing, or half of it.
        if let Some(mut output) = self.keeper.stdout.take() {
            let _ = output.read_to_string(&mut told);
        }
        let _ = self.keeper.wait();
        serde_json::from_str(&told).unwrap_or_default()
    }
}
