//! An episode whose services and clients have processes of their own: several services share one port (`SO_REUSEPORT`), and
//! the parent supervises, joins what all of them leave, and judges by the oracles of the workload.
//!
//! Each process of services runs all services of the plan, as one more life of each, at addresses that all of them share.
//! There are as many processes of clients, or as few as the plan has loops of clients; the loops are dealt out to them. Where
//! there is chaos on the wire, each process of clients has its own proxy. No process outlives its parent: each ends when its
//! standard input does, and on Linux when its parent dies.

pub(crate) mod child;
mod grounds;
mod kept;
mod message;
mod trouble;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use sim::workload::{Accounts, Breach, Workload};

use self::grounds::Grounds;
use self::kept::{Heard, Kept};
use self::message::{Assignment, Ledgers, Order, Report, Side, Status, book_of, failure_of};
use self::trouble::Trouble;
use super::episode::{Ended, Episode, ReservedPort, reserve_port};
use super::options::Plant;
use super::record::read_counted;
use super::roster::Other;
use crate::Failure;
use crate::chaos::ChaosOptions;
use crate::machine::Stopwatch;

/// The longest wait for something to be told: what is due by the clock is seen by then.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Processes tell how they stand a few times a second; who says nothing for so long does not answer.
const SILENT_AFTER_NS: u64 = 60_000_000_000;

/// How long processes may take to end when an episode is cut short.
const CUT_WITHIN_NS: u64 = 40_000_000_000;

/// How long the writing of recordings may take.
const WRITTEN_WITHIN_NS: u64 = 120_000_000_000;

/// An episode that lasts so much longer than its load will not end; its processes should have said so before.
const LIMIT_BEYOND_LOAD_NS: u64 = 150_000_000_000;

/// Entries of processes in the roster.
static ENTRIES: AtomicU64 = AtomicU64::new(0);

/// Plays an episode in `processes` processes of services and those of clients.
///
/// # Errors
/// What was wrong, of any process or with all of them together; machine: a process cannot be made.
pub(super) fn play<W: Accounts>(episode: &Episode, processes: u32, plan: &W) -> Result<Ended, Failure> {
    let mut troupe = Troupe::new(episode, plan)?;
    let result = troupe.begin(processes, plan).and_then(|()| troupe.wait());
    let result = match result {
        Ok(Ended::Judged) => troupe.judge(plan).map(|()| Ended::Judged),
        Ok(Ended::Cut) => {
            troupe.cut();
            Ok(Ended::Cut)
        }
        Err(failure) => {
            let own = troupe.cut();
            // Whose own end says more than that the others wait for it?
            Err(own.filter(|_| matches!(failure, Failure::Liveness(_))).unwrap_or(failure))
        }
    };
    match result {
        Err(failure @ (Failure::Invariant(_) | Failure::Liveness(_))) => {
            let written = troupe.leave(true);
            match &episode.recordings {
                Some(_) => Err(failure.recorded(&written, true)),
                None => Err(failure),
            }
        }
        other => {
            let keeping = episode.recordings.as_ref().filter(|(recordings, _)| recordings.keeps_all());
            let written = troupe.leave(keeping.is_some());
            if let Some((recordings, _)) = keeping {
                recordings.wrote(written.map_err(Failure::Machine)?);
            }
            other
        }
    }
}

/// Everybody of an episode, and what is known of them.
struct Troupe<'a> {
    episode: &'a Episode,
    /// They end before what they stand on.
    processes: Vec<Kept>,
    grounds: Grounds,
    heard: Receiver<(u64, Heard)>,
    sender: Sender<(u64, Heard)>,
    addresses: Vec<SocketAddr>,
    nobody: SocketAddr,
    /// As long as these are held, no other program gets a port that is shared here.
    _reserved: Vec<ReservedPort>,
    watch: Stopwatch,
    next_serial: u64,
    /// How many processes there are at once.
    count: u64,
    /// How often it was asked how everybody stands.
    looks: u64,
    trouble: Trouble,
    is_hurried: bool,
    /// What is wrong with all of them together, and with none alone.
    joined: Option<Breach>,
    /// The recordings that are written so far, or why one is not.
    written: Result<Vec<PathBuf>, String>,
}

impl<'a> Troupe<'a> {
    fn new<W: Workload>(episode: &'a Episode, plan: &W) -> Result<Troupe<'a>, Failure> {
        let grounds = Grounds::lay(episode.chaos.as_ref().map(|(chaos, _)| chaos))?;
        let (reserved, addresses, nobody) = match grounds.addresses(plan.services()) {
            Some((addresses, nobody)) => (Vec::new(), addresses, nobody),
            None => reserve(plan.services())?,
        };
        let (sender, heard) = mpsc::channel();
        Ok(Troupe {
            episode,
            processes: Vec::new(),
            grounds,
            heard,
            sender,
            addresses,
            nobody,
            _reserved: reserved,
            watch: Stopwatch::start(),
            next_serial: 0,
            count: 0,
            looks: 0,
            trouble: Trouble::draw(episode),
            is_hurried: false,
            joined: None,
            written: Ok(Vec::new()),
        })
    }

    fn duration_ns(&self) -> u64 {
        self.episode.load.map_or(0, |load| load.duration_ns)
    }

    fn start(&mut self, side: Side, number: u32, incarnation: u32, loops: Vec<usize>) -> Result<(), Failure> {
        let episode = self.episode;
        let Some(load) = episode.load else {
            return Err(Failure::Usage("only a sustained load is played by processes".to_owned()));
        };
        let assignment = Assignment {
            workload: episode.workload.name().to_owned(),
            episode: episode.index.unwrap_or(u64::MAX),
            seed: episode.seed,
            connections: load.connections,
            rate_per_s: load.rate_per_s,
            duration_ns: load.duration_ns,
            poller: episode.backend.poller().name().to_owned(),
            clock_shift_ns: episode.clock_shift_ns,
            side,
            number,
            incarnation,
            loops,
            addresses: self.addresses.clone(),
            nobody: self.nobody,
            left_ns: match (side, incarnation) {
                (Side::Services, _) | (_, 0) => load.duration_ns,
                _ if self.is_hurried => 0,
                _ => load.duration_ns.saturating_sub(self.watch.ns()),
            },
            chaos: episode.chaos.as_ref().map(|(chaos, _)| ChaosOptions::to_json(chaos)),
            stall_ms: u64::try_from(episode.stalled_after.as_millis()).unwrap_or(u64::MAX),
            // All of them together may hold what an episode may.
            recorded_bytes_max: episode
                .recordings
                .as_ref()
                .map(|&(_, bytes_max)| bytes_max / self.count.max(1)),
            folder: episode
                .recordings
                .as_ref()
                .map_or_else(PathBuf::new, |(kept, _)| absolute(kept.folder())),
            group: match (&self.grounds.memory, side) {
                (Some(memory), Side::Services) => Some(memory.members()),
                _ => None,
            },
            plant: episode
                .plant
                .filter(|&plant| plant != Plant::Crash || side == Side::Clients && number == 0),
        };
        let entry = ENTRIES.fetch_add(1, Ordering::Relaxed);
        let serial = self.next_serial;
        self.next_serial += 1;
        let ground = self.grounds.of(side);
        self.processes.push(Kept::start(serial, entry, assignment, ground, &self.sender)?);
        Ok(())
    }

    fn begin<W: Workload>(&mut self, processes: u32, plan: &W) -> Result<(), Failure> {
        let count = (processes as usize).min(plan.clients());
        self.count = u64::from(processes) + count as u64;
        for number in 0..processes {
            self.start(Side::Services, number, number, Vec::new())?;
        }
        // Who connects finds all of them there.
        while !self.processes.iter().all(|kept| kept.is_ready) {
            self.hear()?;
            if self.episode.cut.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        self.watch = Stopwatch::start();
        for number in 0..count {
            let loops = (number..plan.clients()).step_by(count).collect();
            self.start(Side::Clients, number as u32, 0, loops)?;
        }
        Ok(())
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Kept> {
        self.processes.iter().filter(move |kept| kept.assignment.side == side)
    }

    fn order_all(&mut self, order: &Order) {
        self.processes.iter_mut().for_each(|kept| kept.order(order));
    }

    /// Takes what processes have told, if anything was.
    ///
    /// # Errors
    /// What is wrong with it.
    fn hear(&mut self) -> Result<(), Failure> {
        match self.heard.recv_timeout(LOOK_EVERY) {
            Ok((serial, heard)) => self.take(serial, heard)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok((serial, heard)) = self.heard.try_recv() {
            self.take(serial, heard)?;
        }
        Ok(())
    }

    fn take(&mut self, serial: u64, heard: Heard) -> Result<(), Failure> {
        // One that was killed has nothing more to say.
        let Some(at) = self.processes.iter().position(|kept| kept.serial == serial) else { return Ok(()) };
        let kept = &mut self.processes[at];
        kept.heard_ns = Stopwatch::now_ns();
        match heard {
            Heard::Report(Report::Ready) => kept.is_ready = true,
            Heard::Report(Report::Status(status)) => self.note(at, &status),
            Heard::Report(Report::Excused) => self.trouble.excused(),
            Heard::Report(Report::Done(ledgers)) => {
                kept.ledgers = Some(ledgers);
                kept.has_ended = true;
            }
            Heard::Report(Report::Cut) => kept.has_ended = true,
            Heard::Report(Report::Failed { class, text }) => {
                kept.has_ended = true;
                return Err(failure_of(&class, format!("{text}\n  in {}", kept.name())));
            }
            Heard::Report(Report::Written(written)) => {
                kept.has_written = true;
                match (&mut self.written, written) {
                    (Ok(all), Ok(more)) => all.extend(more),
                    (all, Err(error)) => *all = Err(error),
                    (Err(_), Ok(_)) => {}
                }
            }
            Heard::Closed => {
                let failure = (!kept.has_ended).then(|| kept.crash());
                kept.has_ended = true;
                kept.has_written = true;
                return failure.map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    fn note(&mut self, at: usize, status: &Status) {
        let kept = &mut self.processes[at];
        kept.finished_at_look = status.is_finished.then_some(status.look);
        kept.is_full = status.is_full;
        let other = Other { totals: read_counted(&status.counted), now: status.now, process: status.process };
        let timed = book_of(&status.timed);
        self.episode.roster.told(self.episode.workload, kept.entry, other, timed.as_ref());
        if let Some((_, chronicle)) = &self.episode.chaos {
            for happened in &status.happened {
                chronicle.happened(happened.event, happened.begun_ns, happened.touched);
            }
        }
    }

    /// Waits until everybody has ended in order, and makes trouble meanwhile.
    fn wait(&mut self) -> Result<Ended, Failure> {
        let (mut is_asked, mut is_told) = (false, false);
        loop {
            if self.episode.cut.load(Ordering::Relaxed) {
                return Ok(Ended::Cut);
            }
            self.hear()?;
            self.check_silence()?;
            self.make_trouble()?;
            if self.processes.iter().any(|kept| kept.is_full)
                && !std::mem::replace(&mut self.is_hurried, true)
            {
                // What comes after the bound of a recording cannot be replayed: the load ends, and is still judged.
                self.order_all(&Order::Over);
            }
            if self.of(Side::Clients).all(|kept| kept.ledgers.is_some()) {
                // What services said before that counts for nothing.
                if !std::mem::replace(&mut is_asked, true) {
                    self.looks += 1;
                    self.order_all(&Order::Look(self.looks));
                }
                let looks = self.looks;
                if self.of(Side::Services).all(|kept| kept.finished_at_look == Some(looks))
                    && !std::mem::replace(&mut is_told, true)
                {
                    self.order_all(&Order::Stop);
                }
            }
            if self.processes.iter().all(|kept| kept.ledgers.is_some()) {
                return Ok(Ended::Judged);
            }
            if self.watch.ns() > self.duration_ns().saturating_add(LIMIT_BEYOND_LOAD_NS) {
                let slow = self.processes.iter().filter(|kept| kept.ledgers.is_none()).map(Kept::name);
                let slow: Vec<String> = slow.collect();
                let seconds = LIMIT_BEYOND_LOAD_NS / 1_000_000_000;
                return Err(Failure::Liveness(format!(
                    "the episode does not end, {seconds} s after its load; it waits for {}",
                    slow.join(", ")
                )));
            }
        }
    }

    fn check_silence(&self) -> Result<(), Failure> {
        let now_ns = Stopwatch::now_ns();
        let is_silent = |kept: &&Kept| {
            !kept.has_ended && !kept.is_stopped && now_ns.saturating_sub(kept.heard_ns) > SILENT_AFTER_NS
        };
        match self.processes.iter().find(is_silent) {
            Some(kept) => Err(Failure::Liveness(format!(
                "{} has said nothing for {} s",
                kept.name(),
                SILENT_AFTER_NS / 1_000_000_000
            ))),
            None => Ok(()),
        }
    }

    /// Joins what everybody has left.
    fn judge<W: Accounts>(&mut self, plan: &W) -> Result<(), Failure> {
        let services = ledgers(self.of(Side::Services))?;
        // Whoever came after one that was killed stands beside it; the killed one leaves nothing.
        let clients = ledgers(self.of(Side::Clients))?;
        let all = self.processes.iter().filter_map(|kept| kept.ledgers.as_ref());
        let lost_at_accept = all.into_iter().any(|ledgers| ledgers.lost_at_accept);
        plan.judge_ledgers(&services, &clients, lost_at_accept).map_err(|breach| {
            let failure = Failure::Invariant(breach.to_string());
            self.joined = Some(breach);
            failure
        })
    }

    /// Ends everybody at once. What was wrong before that with one of them.
    fn cut(&mut self) -> Option<Failure> {
        self.trouble.end(&mut self.processes, &self.grounds);
        self.order_all(&Order::Cut);
        let (watch, mut own) = (Stopwatch::start(), None);
        while !self.processes.iter().all(|kept| kept.has_ended) && watch.ns() < CUT_WITHIN_NS {
            if let Err(failure) = self.hear() {
                own.get_or_insert(failure);
            }
        }
        own
    }

    /// Sends everybody home, after they have written their recordings if those are wanted. Where those are.
    fn leave(&mut self, write: bool) -> Result<Vec<PathBuf>, String> {
        let joined = self.joined.as_ref().map(|breach| (breach.invariant.to_owned(), breach.details.clone()));
        self.order_all(&Order::Leave { write, joined });
        let watch = Stopwatch::start();
        let is_wanted = write && self.episode.recordings.is_some();
        while is_wanted
            && !self.processes.iter().all(|kept| kept.has_written)
            && watch.ns() < WRITTEN_WITHIN_NS
        {
            // What is wrong by now has nothing more to say.
            let _ = self.hear();
        }
        self.written.clone()
    }
}

impl Drop for Troupe<'_> {
    fn drop(&mut self) {
        for kept in &self.processes {
            self.episode.roster.ended(self.episode.workload, kept.entry);
        }
    }
}

/// Ports of the machine's own loopback: for so many services, which other processes share, and one for nobody.
fn reserve(services: usize) -> Result<(Vec<ReservedPort>, Vec<SocketAddr>, SocketAddr), Failure> {
    let (reserved, nobody) = reserve_port(false)?;
    let (mut reserved, mut addresses) = (vec![reserved], Vec::new());
    for _ in 0..services {
        let (port, address) = reserve_port(true)?;
        reserved.push(port);
        addresses.push(address);
    }
    Ok((reserved, addresses, nobody))
}

/// The ledgers of all loops on one side, those of a process together, in the order of their numbers.
fn ledgers<'a, L: serde::de::DeserializeOwned>(
    processes: impl Iterator<Item = &'a Kept>,
) -> Result<Vec<L>, Failure> {
    let mut all = Vec::new();
    for kept in processes {
        let Ledgers { ledgers, .. } = kept
            .ledgers
            .as_ref()
            .ok_or_else(|| Failure::Liveness(format!("{} left no ledger", kept.name())))?;
        for ledger in ledgers {
            let ledger = serde_json::from_value(ledger.clone());
            all.push(
                ledger
                    .map_err(|error| Failure::Invariant(format!("a ledger of {}: {error}", kept.name())))?,
            );
        }
    }
    Ok(all)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
