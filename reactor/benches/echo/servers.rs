//! The servers: the same echo, five times. Each reads into one buffer of [`READ_BYTES`] and takes up to
//! [`EVENTS_PER_WAIT`] events per wait.
//!
//! A server runs in a process of its own, this program with `--serve`, on processor 0. It prints its port; then, for each
//! line it is sent, its [`Usage`] so far; and it ends when its input does.

mod by_hand;
mod mio;
mod reactor;
mod tokio;

use std::fmt;
use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;

use crate::os;

pub(crate) use self::reactor::Echo;

/// The read buffer of every server. It exceeds every scenario's messages: a full read does not tell that the socket is
/// empty.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// The event list of every server.
pub(crate) const EVENTS_PER_WAIT: usize = 256;

/// An implementation of the echo server.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Server {
    /// This project's loop on the real kernel.
    Reactor,
    /// The same, as another build of this program has it.
    #[value(skip)]
    Baseline,
    /// An edge-triggered epoll loop in the manner of C: reads until EAGAIN, writes directly. The reference.
    ByHand,
    /// The same loop, but a short read ends the reading.
    ShortRead,
    /// mio.
    Mio,
    /// tokio on one thread, one task per connection.
    Tokio,
}

impl Server {
    /// Every server, in the order of the tables.
    pub(crate) const ALL: [Server; 6] =
        [Server::Reactor, Server::Baseline, Server::ByHand, Server::ShortRead, Server::Mio, Server::Tokio];

    /// What tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Server::Reactor => "reactor",
            Server::Baseline => "reactor, baseline",
            Server::ByHand => "hand-written",
            Server::ShortRead => "hand-written, short read",
            Server::Mio => "mio",
            Server::Tokio => "tokio",
        }
    }

    /// What the command line calls it.
    pub(crate) fn option(self) -> String {
        let server = if self == Server::Baseline { Server::Reactor } else { self };
        server.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// What results for machines call it.
    pub(crate) fn label(self) -> String {
        if self == Server::Baseline { "baseline".to_string() } else { self.option() }
    }

    /// Whether it counts its own system calls. What happens inside mio and tokio is not
    /// seen; and a tracer would slow a server so far that it never finds a socket empty, which is what to count.
    pub(crate) const fn counts_calls(self) -> bool {
        matches!(self, Server::Reactor | Server::Baseline | Server::ByHand | Server::ShortRead)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static REGISTRATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts a system call; free when not counting.
#[inline]
fn count<const COUNT: bool>() {
    if COUNT {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts an `epoll_ctl`, which is a system call too.
#[inline]
fn count_registration<const COUNT: bool>() {
    if COUNT {
        REGISTRATIONS.fetch_add(1, Ordering::Relaxed);
    }
    count::<COUNT>();
}

/// What a server's process has used since it began.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and kernel.
    pub processor_ns: u64,
    /// Processor time outside the kernel, sampled.
    pub user_ns: u64,
    /// System calls, if it counts them.
    pub calls: u64,
    /// Of these, `epoll_ctl`.
    pub registrations: u64,
}

impl Usage {
    fn now() -> Usage {
        Usage {
            processor_ns: os::processor_ns(),
            user_ns: os::user_ns(),
            calls: CALLS.load(Ordering::Relaxed),
            registrations: REGISTRATIONS.load(Ordering::Relaxed),
        }
    }

    /// What was used after `earlier`.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            processor_ns: self.processor_ns - earlier.processor_ns,
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            calls: self.calls - earlier.calls,
            registrations: self.registrations - earlier.registrations,
        }
    }

    /// Adds what was used at another time.
    pub(crate) fn add(&mut self, other: Usage) {
        self.processor_ns += other.processor_ns;
        self.user_ns += other.user_ns;
        self.calls += other.calls;
        self.registrations += other.registrations;
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.processor_ns, self.user_ns, self.calls, self.registrations)
    }
}

/// The process of a server: serves until its input ends, then exits.
pub(crate) fn serve(server: Server, count_calls: bool, processor: usize) -> io::Result<()> {
    os::pin(processor)?;
    os::raise_descriptor_limit();
    std::thread::Builder::new().name("usage".to_string()).spawn(|| {
        for line in io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            println!("{}", Usage::now());
        }
        std::process::exit(0);
    })?;
    let announce = |port: u16| println!("{port}");
    match (server, count_calls) {
        (Server::Reactor | Server::Baseline, false) => reactor::serve::<false>(announce),
        (Server::Reactor | Server::Baseline, true) => reactor::serve::<true>(announce),
        (Server::ByHand, false) => by_hand::serve::<false, false>(announce),
        (Server::ByHand, true) => by_hand::serve::<false, true>(announce),
        (Server::ShortRead, false) => by_hand::serve::<true, false>(announce),
        (Server::ShortRead, true) => by_hand::serve::<true, true>(announce),
        (Server::Mio, _) => mio::serve(announce),
        (Server::Tokio, _) => tokio::serve(announce),
    }
}

/// A running server, seen from the load.
pub(crate) struct Process {
    pub server: Server,
    pub address: SocketAddrV4,
    child: Child,
    ask: Option<ChildStdin>,
    answers: io::BufReader<ChildStdout>,
}

impl Process {
    /// Starts a server, which `program` contains, and waits until it listens.
    pub(crate) fn start(
        program: &Path,
        server: Server,
        count_calls: bool,
        processor: usize,
    ) -> io::Result<Process> {
        let mut command = Command::new(program);
        command.args(["--serve", &server.option(), "--processor", &processor.to_string()]);
        if count_calls {
            command.arg("--count-calls");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take();
        let mut answers = io::BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let port = line.trim().parse().map_err(|_| io::Error::other(format!("{server} did not start")))?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Ok(Process { server, address, child, ask, answers })
    }

    /// What the server has used so far.
    pub(crate) fn usage(&mut self) -> io::Result<Usage> {
        let ended = || io::Error::other("the server has ended");
        self.ask.as_mut().ok_or_else(ended)?.write_all(b"\n").map_err(|_| ended())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [processor_ns, user_ns, calls, registrations] = numbers[..] else { return Err(ended()) };
        Ok(Usage { processor_ns, user_ns, calls, registrations })
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that belongs to no file, in bytes: heap, stacks, and what the program has written to.
    pub(crate) fn memory_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no RssAnon in /proc"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.ask.take();
        let _ = self.child.wait();
    }
}
