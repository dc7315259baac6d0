//! `soak keep`: a small process between the night and one part, so that no part outlives the night.
//!
//! The night holds the other end of the keeper's standard input. A byte there asks for an end: an interrupt to the part's
//! process group, and a kill when the grace is over. The end of the input, which also comes when the night itself is killed,
//! kills the group at once. How the part ended is told on standard output, as one JSON object.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

use super::clock::Elapsed;
use super::part::End;
use crate::{Failure, say};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// After this many seconds the part is stopped
    #[arg(long)]
    limit_seconds: u64,
    /// How many seconds an interrupted part has to end
    #[arg(long)]
    grace_seconds: u64,
    /// How much lower than the night's the part's priority is
    #[arg(long, default_value_t = 0)]
    nice: i32,
    /// Where the part's output goes
    #[arg(long)]
    log: PathBuf,
    /// Program and arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What a keeper waits for.
enum Event {
    Ended(io::Result<ExitStatus>),
    Asked,
    NightIsGone,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Stage {
    Running,
    Interrupted,
    Killed,
}

/// Runs a command to its end, or to the night's.
pub(crate) fn keep(arguments: &Arguments) -> Result<(), Failure> {
    // The night decides when its parts end; an interrupt meant for everybody must not end the one who tells.
    ctrlc::set_handler(|| ()).map_err(|error| Failure::Machine(format!("signal handler: {error}")))?;
    adopt_strays();
    let end = match start(arguments) {
        Ok(child) => watch(arguments, child)?,
        Err(text) => End { not_started: Some(text), ..End::default() },
    };
    let text = serde_json::to_string(&end).map_err(|error| Failure::Machine(error.to_string()))?;
    say(&text)
}

fn start(arguments: &Arguments) -> Result<Child, String> {
    let log = OpenOptions::new().create(true).append(true).open(&arguments.log);
    let log = log.map_err(|error| format!("{}: {error}", arguments.log.display()))?;
    let copy = |log: &File| log.try_clone().map_err(|error| error.to_string());
    if arguments.nice != 0 {
        rustix::process::nice(arguments.nice).map_err(|error| format!("a lower priority: {error}"))?;
    }
    let [program, rest @ ..] = arguments.command.as_slice() else {
        return Err("there is no command".to_owned());
    };
    Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(copy(&log)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))
}

fn watch(arguments: &Arguments, mut child: Child) -> Result<End, Failure> {
    let group = Pid::from_child(&child);
    let (sender, events) = mpsc::channel();
    let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|error| Failure::Machine(format!("thread: {error}")))
    };
    let lifeline = sender.clone();
    let result = thread("lifeline", Box::new(move || listen(&lifeline))).and_then(|_| {
        thread(
            "wait",
            Box::new(move || {
                // Nobody listens any more only when the keeper is about to end.
                let _ = sender.send(Event::Ended(child.wait()));
            }),
        )
    });
    if let Err(failure) = result {
        signal(group, Signal::KILL);
        return Err(failure);
    }
    let mut end = End::default();
    let status = until_ended(arguments, group, &events, &mut end)
        .map_err(|error| Failure::Machine(format!("waiting for a part: {error}")))?;
    end.exit_code = status.code();
    end.signal = status.signal();
    end.left_behind = end_strays();
    if cfg!(not(target_os = "linux")) {
        signal(group, Signal::KILL);
    }
    Ok(end)
}

/// Reads the night's requests.
fn listen(events: &Sender<Event>) {
    let mut byte = [0];
    loop {
        let event = match io::stdin().read(&mut byte) {
            Ok(1) => Event::Asked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            _ => Event::NightIsGone,
        };
        let is_last = matches!(event, Event::NightIsGone);
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}

fn until_ended(
    arguments: &Arguments,
    group: Pid,
    events: &Receiver<Event>,
    end: &mut End,
) -> io::Result<ExitStatus> {
    let grace = Duration::from_secs(arguments.grace_seconds);
    let mut stage = Stage::Running;
    let mut since = Elapsed::start();
    let mut allowed = Duration::from_secs(arguments.limit_seconds);
    loop {
        let left = allowed.saturating_sub(Duration::from_millis(since.ms()));
        let event = match events.recv_timeout(left) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let next = match (event, stage) {
            (Some(Event::Ended(status)), _) => return status,
            (Some(Event::NightIsGone), _) | (None, Stage::Interrupted | Stage::Killed) => Stage::Killed,
            (Some(Event::Asked), Stage::Running) => {
                end.asked = true;
                Stage::Interrupted
            }
            (Some(Event::Asked), Stage::Interrupted | Stage::Killed) => continue,
            (None, Stage::Running) => {
                end.late = true;
                Stage::Interrupted
            }
        };
        if next == Stage::Killed {
            end.killed = true;
            signal(group, Signal::KILL);
        } else {
            signal(group, Signal::INT);
        }
        stage = next;
        since = Elapsed::start();
        allowed = grace;
    }
}

/// A group that is gone already has nothing to be told.
fn signal(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// Makes this process the parent of whatever the part leaves behind, also outside its process group. Where a system
/// has no such thing, the process group has to do.
fn adopt_strays() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Ends what the part left behind, and says how many processes that were.
fn end_strays() -> u32 {
    let mut ended = 0;
    // Children of a stray become children of this process when it ends, so one look is not enough.
    loop {
        let before = ended;
        for stray in children() {
            // A process of another user cannot be ended, and is not waited for.
            if kill_process(stray, Signal::KILL).is_ok() {
                let _ = waitpid(Some(stray), WaitOptions::empty());
                ended += 1;
            }
        }
        if ended == before {
            return ended;
        }
    }
}

/// Children of this process that are running. Ended ones that nobody has waited for do not count.
fn children() -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = rustix::process::getpid();
    let child = |entry: io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // The name, in parentheses, may contain anything: what follows the last one is state and parent.
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let is_running = fields.next()? != "Z";
        let parent: i32 = fields.next()?.parse().ok()?;
        let pid: i32 = head.split_whitespace().next()?.parse().ok()?;
        (is_running && parent == own.as_raw_nonzero().get()).then(|| Pid::from_raw(pid)).flatten()
    };
    processes.filter_map(child).collect()
}
