//! What the process of an episode is told, and what it tells: one JSON object a line, on its standard input and output.

use std::net::SocketAddr;
use std::path::PathBuf;

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sim::workload::Load;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::Failure;
use crate::chaos::Happened;
use crate::latency::{LatencyBook, Timed};
use crate::run::options::Plant;
use crate::run::record::Process;
use crate::run::roster::Now;

/// Which side of an episode a process has.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Side {
    /// All services of the plan, each beside those of the same number in the other processes.
    Services,
    /// Some of the loops of clients.
    Clients,
}

impl Side {
    /// What one of these processes is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Side::Services => "service process",
            Side::Clients => "client process",
        }
    }

    /// The same in names of files.
    pub(super) const fn stem(self) -> &'static str {
        match self {
            Side::Services => "services",
            Side::Clients => "clients",
        }
    }
}

/// The first line: all that a process needs to play its part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) workload: String,
    pub(super) episode: u64,
    pub(super) seed: u64,
    pub(super) connections: u32,
    pub(super) rate_per_s: Option<u64>,
    pub(super) duration_ns: u64,
    pub(super) poller: String,
    pub(super) clock_shift_ns: u64,
    pub(super) side: Side,
    /// Counted from 0 on each side.
    pub(super) number: u32,
    /// For services the process's own number; for clients how many went before this one and were killed.
    pub(super) incarnation: u32,
    /// The loops of clients that are in this process.
    pub(super) loops: Vec<usize>,
    /// The address of each service of the plan, which several processes share.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) nobody: SocketAddr,
    /// What is left of the load's time for who begins late.
    pub(super) left_ns: u64,
    pub(super) chaos: Option<Value>,
    pub(super) stall_ms: u64,
    /// How many bytes a recording may have; `None` for no recording.
    pub(super) recorded_bytes_max: Option<u64>,
    /// Where a recording goes when it is wanted.
    pub(super) folder: PathBuf,
    /// Where the process writes its number, to join a group.
    pub(super) group: Option<PathBuf>,
    /// For tests: what goes wrong here.
    pub(super) plant: Option<Plant>,
}

impl Assignment {
    pub(super) fn load(&self) -> Load {
        let Assignment { connections, rate_per_s, duration_ns, .. } = *self;
        Load { connections, rate_per_s, duration_ns }
    }
}

/// A later line to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Say how it stands, with this number.
    Look(u64),
    /// The time of the load is over, earlier than planned.
    Over,
    /// A process with these connections is about to be killed.
    Killed(Vec<SocketAddr>),
    /// Everybody has finished: end in order.
    Stop,
    /// End at once.
    Cut,
    /// The episode is over; whether the recording is wanted.
    Leave {
        /// It is.
        write: bool,
        /// What was wrong with all processes together, and with none alone: the oracle, and what exactly.
        joined: Option<(String, String)>,
    },
}

/// A line from a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// Its loops run.
    Ready,
    /// How it stands, a few times a second.
    Status(Box<Status>),
    /// The end of others is excused, as [`Order::Killed`] said.
    Excused,
    /// All loops have ended in order.
    Done(Ledgers),
    /// It was cut, and nothing was wrong before.
    Cut,
    /// Something is wrong.
    Failed {
        /// [`Failure::class`].
        class: String,
        /// What.
        text: String,
    },
    /// The recording is written, or could not be.
    Written(Result<Vec<PathBuf>, String>),
}

/// What the loops of a process leave for the verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledgers {
    /// In the order of the plan's numbers.
    pub(super) ledgers: Vec<Value>,
    /// Whether any loop gave up connections while accepting them.
    pub(super) lost_at_accept: bool,
}

/// How a process stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Status {
    /// The number of the last look that was asked for.
    pub(super) look: u64,
    /// Whether none of its loops owes or awaits anything.
    pub(super) is_finished: bool,
    /// Whether its recording holds all that it may.
    pub(super) is_full: bool,
    /// What its loops have counted, as the records have it.
    pub(super) counted: Value,
    pub(super) now: Now,
    pub(super) process: Process,
    /// What was timed since it was last told: a histogram of each, in V2 format and base64; empty for none.
    pub(super) timed: Vec<String>,
    /// What went wrong on purpose since the last one.
    pub(super) happened: Vec<Happened>,
}

/// Writes what was timed.
pub(super) fn timed_of(book: &LatencyBook) -> Vec<String> {
    let one = |timed: Timed| {
        let mut bytes = Vec::new();
        if !book.of(timed).is_empty() {
            V2Serializer::new()
                .serialize(book.of(timed), &mut bytes)
                .expect("memory takes all that is written");
        }
        BASE64_STANDARD.encode(bytes)
    };
    Timed::ALL.map(one).to_vec()
}

/// Reads what [`timed_of`] wrote; `None` for nothing, and for what is none.
pub(super) fn book_of(timed: &[String]) -> Option<LatencyBook> {
    if timed.iter().all(String::is_empty) {
        return None;
    }
    let mut book = LatencyBook::default();
    for (kind, text) in Timed::ALL.into_iter().zip(timed).filter(|(_, text)| !text.is_empty()) {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        book.add(kind, &Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?);
    }
    Some(book)
}

/// The failure that a process told.
pub(super) fn failure_of(class: &str, text: String) -> Failure {
    match class {
        "usage" => Failure::Usage(text),
        "machine" => Failure::Machine(text),
        "liveness" => Failure::Liveness(text),
        "leak" => Failure::Leak(text),
        _ => Failure::Invariant(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::workload::Measures;
    use sim::workload::load::AnswerTime;

    #[test]
    fn what_was_timed_is_the_same_in_the_other_process() {
        let mut book = LatencyBook::default();
        let answers =
            [7, 80_000, 3_000_000_000].map(|ns| AnswerTime { corrected_ns: ns, uncorrected_ns: ns / 2 });
        book.take(&mut Measures { answers: answers.to_vec(), timer_lateness_ns: Vec::new() });
        let timed = timed_of(&book);
        assert_eq!(timed[2], "", "no timer was timed");
        let again = book_of(&timed).unwrap();
        for kind in Timed::ALL {
            assert_eq!(again.of(kind), book.of(kind));
        }
        assert!(book_of(&["no histogram".to_owned()]).is_none());
        assert!(book_of(&[String::new()]).is_none());
    }

    #[test]
    fn a_failure_keeps_its_class_and_its_text() {
        for failure in [
            Failure::Machine("a".to_owned()),
            Failure::Liveness("b".to_owned()),
            Failure::Invariant("c".to_owned()),
        ] {
            assert_eq!(failure_of(failure.class(), failure.text().to_owned()), failure);
        }
    }
}
