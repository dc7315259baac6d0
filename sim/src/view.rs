//! A recorded run, as pictures and files for other tools: text, JSON Lines, a page for browsers, a Perfetto trace, a capture.
//!
//! All five show the same: the calls with their times, what happened without a call, the packets, the faults. Times are virtual
//! and count from the start of the run.

mod html;
mod json;
mod pcapng;
mod perfetto;
pub(crate) mod quote;
mod text;

use std::fmt;
use std::io::{self, Write};

use reactor::time::Instant;

use crate::runner::Outcome;
use crate::scene::{Scene, SceneConnection};
use crate::story::Story;
use crate::trace::{CallKind, CallRecord, Outcome as Answer, TraceEntry};

pub use json::SCHEMA;

/// What a run can be shown as.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Format {
    /// The lines of `sim replay --trace`.
    Text,
    /// JSON Lines, see [`SCHEMA`].
    Json,
    /// One page that needs nothing else.
    Html,
    /// Trace events in JSON, as Perfetto and Chromium open them.
    Perfetto,
    /// A capture of all packets, as Wireshark and tcpdump open it.
    Pcapng,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 5] = [Format::Text, Format::Json, Format::Html, Format::Perfetto, Format::Pcapng];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Html => "html",
            Format::Perfetto => "perfetto",
            Format::Pcapng => "pcapng",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run to be shown, made with [`crate::RunOptions::recorded`].
#[derive(Clone, Debug)]
pub struct View<'a> {
    outcome: &'a Outcome,
    scene: &'a Scene,
    /// What it was made from: a seed, or the name of a file.
    source: &'a str,
    /// The line that replays it.
    replay: &'a str,
    story: Option<Story>,
}

impl<'a> View<'a> {
    /// A view of a run; `None` if its trace was not collected.
    pub fn of(outcome: &'a Outcome, source: &'a str, replay: &'a str) -> Option<View<'a>> {
        let scene = outcome.scene.as_deref()?;
        let story = outcome.failure.as_ref().map(|failure| Story::of(outcome, failure));
        Some(View { outcome, scene, source, replay, story })
    }

    /// Writes the run in a format.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Text => text::write(self, out),
            Format::Json => json::write(self, out),
            Format::Html => html::write(self, out),
            Format::Perfetto => perfetto::write(self, out),
            Format::Pcapng => pcapng::write(self, out),
        }
    }

    /// Nanoseconds since the start of the run.
    fn since_start(&self, at: Instant) -> u64 {
        at.saturating_ns_since(self.scene.origin)
    }

    /// The name of a thread.
    fn name_of_thread(&self, thread: u32) -> String {
        self.outcome.cast.get(thread as usize).cloned().unwrap_or_else(|| format!("thread {thread}"))
    }

    /// Whether this call is the one at which the run failed.
    fn is_guilty(&self, call: &CallRecord) -> bool {
        self.outcome.failure.as_ref().is_some_and(|failure| failure.step == call.step)
    }

    /// How many calls came before each entry of the trace, with its place and itself.
    fn entries(&self) -> impl Iterator<Item = (usize, u64, &'a TraceEntry)> {
        let mut step = 0;
        self.outcome.trace.iter().enumerate().map(move |(place, entry)| {
            if let TraceEntry::Call(call) = entry {
                step = call.step;
            }
            (place, step, entry)
        })
    }
}

/// `10.0.0.2:32768 -> 10.0.0.1:7`.
fn name_of_connection(connection: &SceneConnection) -> String {
    let [client, server] = connection.addresses;
    format!("{client} \u{2192} {server}")
}

/// What a call is for; views colour by it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Class {
    Read,
    Write,
    Lifecycle,
    Wait,
    Register,
    Other,
}

impl Class {
    fn of(call: &CallRecord) -> Class {
        match call.call {
            CallKind::Recv | CallKind::Read | CallKind::Recvmsg | CallKind::ReadEventfd => Class::Read,
            CallKind::Send | CallKind::Sendmsg | CallKind::Write | CallKind::Writev | CallKind::Sendfile => {
                Class::Write
            }
            CallKind::Accept4
            | CallKind::Connect
            | CallKind::Shutdown
            | CallKind::Close
            | CallKind::Socket
            | CallKind::Bind
            | CallKind::Listen
            | CallKind::TakeSocketError => Class::Lifecycle,
            // Without events to return it only changes what is watched.
            CallKind::Kevent if call.began == call.ended || call.arguments[0] == 0 => Class::Register,
            CallKind::EpollWait | CallKind::Kevent | CallKind::Poll => Class::Wait,
            CallKind::EpollCtl => Class::Register,
            _ => Class::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Lifecycle => "lifecycle",
            Class::Wait => "wait",
            Class::Register => "register",
            Class::Other => "other",
        }
    }
}

/// The name of an error, if a call ended with one.
fn error_of(call: &CallRecord) -> Option<&'static str> {
    match call.outcome {
        Answer::Value(_) => None,
        Answer::Error(error) => Some(error.name()),
    }
}

/// Whether a wait slept until its timeout.
fn has_timed_out(call: &CallRecord) -> bool {
    matches!(call.timeout_ns(), Some(Some(1..))) && call.outcome == Answer::Value(0)
}
