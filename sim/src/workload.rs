//! Workloads: what runs on the loop, written once, and run by `sim` on the simulated kernel and by `soak` on real
//! sockets.
//!
//! A workload is a plan drawn from decisions, one or more services, several clients, perhaps producers on other threads,
//! and a verdict. Services and clients are plain [`reactor::Handler`]s that know nothing of a simulation; each keeps its
//! own ledger, and the verdict joins the ledgers when all have ended.

pub mod cluster;
pub mod content;
pub mod echo;
pub mod ledger;
pub mod load;
pub mod stream_plan;
pub mod timers;
pub mod wake;

use std::fmt;
use std::net::SocketAddr;

use reactor::time::Instant;
use reactor::{Config, Context, Handler, Sender, Token};

use self::content::Position;
pub use self::ledger::Accounts;
pub use self::load::{Load, Measures};
use crate::decision::{Decisions, Domain, Site};
pub use crate::stage::StageName;

/// Which workload a run has.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WorkloadKind {
    /// Many clients against an echo service.
    Echo,
    /// Other threads post messages and wake the loop.
    Wake,
    /// Timers against a model.
    Timers,
    /// Hosts that ask each other, while some of them die and links fail.
    Cluster,
    /// A [`Stage`](crate::stage::Stage) of somebody's own test: only that test can run it.
    Stage(StageName),
}

impl WorkloadKind {
    /// Every workload that this library brings; the first is the one that zeros choose.
    pub const ALL: [WorkloadKind; 4] =
        [WorkloadKind::Echo, WorkloadKind::Wake, WorkloadKind::Timers, WorkloadKind::Cluster];

    /// The name used in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            WorkloadKind::Echo => "echo",
            WorkloadKind::Wake => "wake",
            WorkloadKind::Timers => "timers",
            WorkloadKind::Cluster => "cluster",
            WorkloadKind::Stage(name) => name.as_str(),
        }
    }

    /// Whether it is a stage of somebody's own test, of which this library knows no more than the name.
    pub const fn is_stage(self) -> bool {
        matches!(self, WorkloadKind::Stage(_))
    }

    /// One line about it.
    pub const fn describe(self) -> &'static str {
        match self {
            WorkloadKind::Echo => {
                "clients of every temper against an echo service, sometimes through a second hop; every byte checked"
            }
            WorkloadKind::Wake => {
                "producers on other threads post numbered messages and wake a loop that is otherwise idle"
            }
            WorkloadKind::Cluster => {
                "five hosts ask each other over faulty links, while processes are killed, stopped and started again"
            }
            WorkloadKind::Timers => {
                "timers armed, moved, cancelled and repeated, against a model with its own list of deadlines"
            }
            WorkloadKind::Stage(_) => "a stage that a test of yours builds",
        }
    }

    /// The workload with this name, of those that this library brings.
    pub fn from_name(name: &str) -> Option<WorkloadKind> {
        WorkloadKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A broken invariant, as a party or the verdict found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// Its name, one of [`crate::oracle::Oracle`]'s.
    pub invariant: &'static str,
    /// What exactly.
    pub details: String,
}

impl Breach {
    /// A breach of `invariant`.
    pub fn new(invariant: &'static str, details: String) -> Breach {
        Breach { invariant, details }
    }

    /// What was wrong with a run: what it said itself, or the message of its panic.
    pub(crate) fn caught(run: Result<Result<(), Breach>, String>) -> Option<Breach> {
        run.unwrap_or_else(|message| Err(Breach::new("panic", message))).err()
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.details)
    }
}

/// What other threads send to a service: a number of their own series.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Numbered {
    /// Which series.
    pub producer: u32,
    /// Counted from 0 in each series.
    pub number: u64,
}

/// How large runs may be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Scale {
    /// A few kilobytes in all: for kernels whose buffers hold a few bytes.
    Small,
    /// A simulated run of about a millisecond.
    Normal,
    /// As `Normal`, on a real clock: nothing is put off for longer than a fraction of a second.
    RealTime,
}

/// What a party can look at after a turn of its loop.
#[derive(Copy, Clone, Debug)]
pub struct TurnFacts {
    /// The loop's clock.
    pub now: Instant,
    /// Whether the turn's timer budget ended before the due timers did.
    pub timer_budget_ended: bool,
    /// Set when the loop went to sleep: the timeout it asked for, `None` inside for none.
    pub asleep: Option<Option<u64>>,
    /// By how much the kernel's wait rounds a timeout up, in nanoseconds.
    pub wait_rounding_ns: u64,
    /// The length of the loop's timer tick, in nanoseconds.
    pub tick_ns: u64,
}

/// One side of a workload: a handler with a ledger.
pub trait Party: Handler<Message = Numbered> {
    /// Begins: the first connects, the first timers. Called once, before the first turn.
    fn begin(&mut self, ctx: &mut Context<'_>);

    /// Whether this side neither owes nor awaits anything.
    fn is_finished(&self) -> bool;

    /// What is missing while it is not finished: said when the run cannot go on.
    fn missing(&self) -> Breach;

    /// The first invariant that this side saw broken.
    fn breach(&self) -> Option<&Breach>;

    /// Messages handled and found right.
    fn messages(&self) -> u64;

    /// The trouble is over: what is still to be shown may begin. Called once, or never; loops that begin later are told
    /// right after [`Party::begin`].
    fn calm(&mut self, ctx: &mut Context<'_>) {
        let _ = ctx;
    }

    /// Whether this side gave up a connection by a limit of its own, which the other side then sees broken.
    fn has_given_up(&self) -> bool {
        false
    }

    /// Told just before a connection is closed or fails: the world did something to it that excuses a broken stream.
    fn excuse(&mut self, token: Token) {
        let _ = token;
    }

    /// Where the next byte of a connection lies in a stream that this workload generates, if all that was taken of it so far
    /// has been compared with that stream and was the same. Asked right after bytes were taken, by whoever records them.
    fn position(&self, connection: &Self::Connection) -> Option<Position> {
        let _ = connection;
        None
    }

    /// Told just before the end of a stream: the process at its other end was killed, so that it may end anywhere.
    fn cut_short(&mut self, token: Token) {
        let _ = token;
    }

    /// A turn has ended, or the loop has gone to sleep.
    fn after_turn(&mut self, facts: TurnFacts) {
        let _ = facts;
    }

    /// What it has measured since whoever asked before [cleared](Measures::clear) it; `None` from who measures nothing,
    /// which is everybody who is not under [load](Load). To be asked often: it grows.
    fn measures(&mut self) -> Option<&mut Measures> {
        None
    }
}

/// Another thread of a service's process, cut into steps.
pub trait Producer: Send {
    /// Runs the next step; answers the nanoseconds until the one after it, or `None` at the end.
    fn step(&mut self) -> Option<u64>;
}

/// A plan with its parties. Everything is drawn when it is made, from [`Domain::Workload`]: each plan has a function `draw`.
pub trait Workload: Sized {
    /// Who listens.
    type Service: Party;
    /// Who connects.
    type Client: Party;

    /// How long everything owed may take once the trouble is over, in virtual nanoseconds; longer than any patience of
    /// the parties themselves.
    const CALM_NS: u64 = 3_600 * 1_000_000_000;

    /// Whether processes may be killed and stopped, and hosts lose power.
    const INCIDENTS: bool = false;

    /// The limits of a service's loop, given those that were drawn.
    fn service_config(&self, index: usize, drawn: &Config) -> Config {
        let _ = index;
        drawn.clone()
    }

    /// The limits of the loop of clients, given those that were drawn.
    fn client_config(&self, index: usize, drawn: &Config) -> Config {
        let _ = index;
        drawn.clone()
    }

    /// What stories call a service; `None` for its number.
    fn service_name(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// What stories call a loop of clients; `None` for its number.
    fn client_name(&self, index: usize) -> Option<&str> {
        let _ = index;
        None
    }

    /// Whether processes may be killed and stopped in this very run.
    fn has_incidents(&self) -> bool {
        Self::INCIDENTS
    }

    /// How many services there are, at least 1; each has a loop of its own.
    fn services(&self) -> usize;

    /// How many loops of clients there are.
    fn clients(&self) -> usize;

    /// How many producers feed services.
    fn producers(&self) -> usize {
        0
    }

    /// The service that a producer feeds.
    fn fed_by(&self, producer: usize) -> usize {
        let _ = producer;
        0
    }

    /// Makes a service; `addresses` are those of all services.
    fn service(&self, index: usize, addresses: &[SocketAddr], config: &Config) -> Self::Service;

    /// Makes a loop of clients. Nobody listens at `nobody`.
    fn client(&self, index: usize, addresses: &[SocketAddr], nobody: SocketAddr) -> Self::Client;

    /// The service whose process this loop of clients shares; `None` for a host of its own.
    fn home(&self, client: usize) -> Option<usize> {
        let _ = client;
        None
    }

    /// Makes a service for a process that follows one that died. `incarnation` counts from 1.
    fn service_again(
        &self,
        index: usize,
        incarnation: u32,
        addresses: &[SocketAddr],
        config: &Config,
    ) -> Self::Service {
        let _ = incarnation;
        self.service(index, addresses, config)
    }

    /// Makes a loop of clients for a process that follows one that died. `incarnation` counts from 1.
    fn client_again(
        &self,
        index: usize,
        incarnation: u32,
        addresses: &[SocketAddr],
        nobody: SocketAddr,
    ) -> Self::Client {
        let _ = incarnation;
        self.client(index, addresses, nobody)
    }

    /// Makes a producer.
    fn producer(&self, index: usize, sender: Sender<Numbered>) -> Box<dyn Producer> {
        let _ = (index, sender);
        unreachable!("this workload has no producers")
    }

    /// Joins the ledgers of all sides, when all have ended. `lost_at_accept` says whether the first service's loop, or
    /// any other, gave up connections while accepting them.
    ///
    /// # Errors
    /// The first broken invariant.
    fn judge(
        &self,
        services: &[&Self::Service],
        clients: &[&Self::Client],
        lost_at_accept: bool,
    ) -> Result<(), Breach>;
}

/// What became of the connections of one side. Each is counted once.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tally {
    /// Connects asked for and taken.
    pub connects: u64,
    /// Connects that opened.
    pub connected: u64,
    /// Connects that failed.
    pub failed: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Open connections that closed.
    pub closed: u64,
}

impl Tally {
    /// Checks that everything begun has ended, exactly once.
    ///
    /// # Errors
    /// A breach of `conservation`.
    pub fn check(&self, whose: &str) -> Result<(), Breach> {
        let Tally { connects, connected, failed, accepted, closed } = *self;
        if connects != connected + failed {
            return Err(Breach::new(
                "conservation",
                format!("{whose}: {connects} connects ended in {connected} opened and {failed} failed"),
            ));
        }
        if connected + accepted != closed {
            return Err(Breach::new(
                "conservation",
                format!("{whose}: {} connections were opened and {closed} closed", connected + accepted),
            ));
        }
        Ok(())
    }
}

/// One of these values; zero draws the first.
pub(crate) fn pick<T: Copy>(decisions: &mut Decisions, site: &'static str, choices: &[T]) -> T {
    choices[decisions.draw(Domain::Workload, Site(site), 0, choices.len() as u64) as usize]
}

/// A number in `from..=to`; zero draws `from`.
pub(crate) fn between(decisions: &mut Decisions, site: &'static str, from: u64, to: u64) -> u64 {
    from + decisions.draw(Domain::Workload, Site(site), 0, to - from + 1)
}
