//! A process of an episode, as its parent sees it. It is ended when this is dropped, however the episode ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::message::{Assignment, Ledgers, Order, Report, Side};
use crate::Failure;
use crate::chaos::Ground;
use crate::machine::Stopwatch;
use crate::member::spawn;

/// How much of what a process says on its standard error is kept: the end of it.
const LAST_WORDS_BYTES: usize = 4096;

/// What comes from a process, with its number.
#[derive(Debug)]
pub(super) enum Heard {
    Report(Report),
    /// It says nothing more: it has ended, or will.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    /// One for each process of an episode that ever began.
    pub(super) serial: u64,
    /// Its entry in the roster.
    pub(super) entry: u64,
    pub(super) assignment: Assignment,
    pub(super) is_ready: bool,
    /// The number of the look after which none of its loops owed or awaited anything.
    pub(super) finished_at_look: Option<u64>,
    pub(super) is_full: bool,
    /// What it left, once it has ended in order.
    pub(super) ledgers: Option<Ledgers>,
    /// Whether it has told how it ended.
    pub(super) has_ended: bool,
    /// Whether it has said which recording it wrote.
    pub(super) has_written: bool,
    /// It may not say anything for a while: nobody lets it.
    pub(super) is_stopped: bool,
    pub(super) heard_ns: u64,
    child: Child,
    input: ChildStdin,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    /// Reads what it says on its standard error, to the end.
    listener: Option<JoinHandle<()>>,
}

impl Kept {
    /// Starts a process in the network of `ground`, if there is one; what it tells comes with its `serial`.
    ///
    /// # Errors
    /// Machine: no process, or no thread, can be made.
    pub(super) fn start(
        serial: u64,
        entry: u64,
        assignment: Assignment,
        ground: Option<&Ground>,
        heard: &Sender<(u64, Heard)>,
    ) -> Result<Kept, Failure> {
        let refused =
            |error: std::io::Error| Failure::Machine(format!("a {}: {error}", assignment.side.name()));
        // This very program, also when its file is another one by now.
        let program: PathBuf = match cfg!(target_os = "linux") {
            true => "/proc/self/exe".into(),
            false => std::env::current_exe().map_err(refused)?,
        };
        let mut command = Command::new(program);
        command
            .arg("episode-process")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt from the terminal is for the parent, which then asks.
            .process_group(0);
        let begun = match ground {
            None => command.spawn(),
            Some(ground) => ground.run(move || command.spawn())?,
        };
        let mut child = begun.map_err(refused)?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = (input, output, errors) else {
            return Err(refused(std::io::ErrorKind::BrokenPipe.into()));
        };
        let last_words = Arc::<Mutex<VecDeque<u8>>>::default();
        let mut kept = Kept {
            serial,
            entry,
            is_ready: false,
            finished_at_look: None,
            is_full: false,
            ledgers: None,
            has_ended: false,
            has_written: false,
            is_stopped: false,
            heard_ns: Stopwatch::now_ns(),
            child,
            input,
            last_words: Arc::clone(&last_words),
            listener: None,
            assignment,
        };
        kept.listener = Some(spawn("last words", move || remember_end(errors, &last_words))?);
        let heard = heard.clone();
        spawn("reports", move || {
            for line in BufReader::new(output).lines() {
                let report = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let Some(report) = report else { break };
                if heard.send((serial, Heard::Report(report))).is_err() {
                    return;
                }
            }
            // Nobody listens any more only when the episode is over.
            let _ = heard.send((serial, Heard::Closed));
        })?;
        let first =
            serde_json::to_string(&kept.assignment).map_err(|error| Failure::Machine(error.to_string()))?;
        kept.write(&first);
        Ok(kept)
    }

    /// Its name in reports.
    pub(super) fn name(&self) -> String {
        let Assignment { side, number, incarnation, .. } = self.assignment;
        match (side, incarnation) {
            (Side::Services, _) | (_, 0) => format!("{} {number}", side.name()),
            (Side::Clients, again) => format!("{} {number} (begun again, {again})", side.name()),
        }
    }

    fn write(&mut self, line: &str) {
        // Who is gone says so by the end of its output.
        let _ = writeln!(self.input, "{line}");
    }

    /// Tells it what to do.
    pub(super) fn order(&mut self, order: &Order) {
        if let Ok(line) = serde_json::to_string(order) {
            self.write(&line);
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal; whether that could be done.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        kill_process(self.pid(), signal).is_ok()
    }

    /// Ends it at once and waits for that.
    pub(super) fn kill(&mut self) -> Option<ExitStatus> {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        self.child.wait().ok()
    }

    /// What is said of a process that ended and should not have.
    pub(super) fn crash(&mut self) -> Failure {
        let status = self.kill();
        if let Some(listener) = self.listener.take() {
            // The end of a process is the end of what it says.
            let _ = listener.join();
        }
        let how = match status.map(|status| (status.code(), status.signal())) {
            Some((_, Some(signal))) => format!("by signal {signal}"),
            Some((Some(code), _)) => format!("with code {code}"),
            _ => "in a way that nobody can tell".to_owned(),
        };
        let bytes: Vec<u8> =
            self.last_words.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let words = String::from_utf8_lossy(&bytes);
        let words = match words.trim() {
            "" => "it said nothing on its standard error".to_owned(),
            words => format!("the end of its standard error:\n    {}", words.replace('\n', "\n    ")),
        };
        Failure::Invariant(format!("panic: {} ended {how} in the middle of an episode; {words}", self.name()))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}

fn remember_end(mut errors: impl Read, last_words: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    loop {
        match errors.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
                words.extend(&buffer[..length]);
                let beyond = words.len().saturating_sub(LAST_WORDS_BYTES);
                words.drain(..beyond);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
