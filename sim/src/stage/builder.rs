//! What builds a stage for every run, and the built stage as a workload.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reactor::{Config, Sender};

use super::ended::NamedCheck;
use super::role::{Part, Role};
use super::talker::Breaks;
use super::{Ended, Post, Sometimes, Stage, StageName};
use crate::decision::Decisions;
use crate::fault::{FaultKind, FaultSet, FaultSwitches};
use crate::oracle::Oracle;
use crate::runner::panics;
use crate::runner::setup::Setup;
use crate::workload::{Breach, Numbered, Producer, Workload};

/// Kinds that break connections, or keep them from coming to be.
const CONNECTION_BREAKERS: &[FaultKind] = &[
    FaultKind::Partitions,
    FaultKind::OneWayPartitions,
    FaultKind::BlackHoles,
    FaultKind::InjectedResets,
    FaultKind::FailedConnections,
    FaultKind::FailedConnects,
    FaultKind::AcceptErrors,
    FaultKind::AcceptAborts,
    // The loop sheds the connection with its reserve descriptor.
    FaultKind::AcceptRefusals,
    FaultKind::DescriptorLimits,
    FaultKind::CreationErrors,
    FaultKind::RegistrationErrors,
    FaultKind::RefusedAtOnce,
    FaultKind::StolenConnections,
];

/// Kinds that processes die of, or are stopped by.
const PROCESS_KILLERS: &[FaultKind] =
    &[FaultKind::KilledProcesses, FaultKind::CrashedHosts, FaultKind::FrozenProcesses];

type Build = Box<dyn Fn(&mut Stage<'_>) + Send + Sync>;

struct Inner {
    name: StageName,
    build: Build,
    /// The command that runs the test: `cargo test -p chat every_line`.
    test: String,
    breaks_are_legal: bool,
    mortal: bool,
    /// What has to happen sometimes, and whether it did in any run so far.
    sometimes: Mutex<BTreeMap<String, bool>>,
}

/// Builds a stage, anew for every run: what [`RunOptions::stage`](crate::RunOptions::stage) holds. [`super::Check`] makes it.
#[derive(Clone)]
pub struct StageBuilder {
    inner: Arc<Inner>,
}

impl fmt::Debug for StageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageBuilder")
            .field("name", &self.inner.name)
            .field("test", &self.inner.test)
            .finish_non_exhaustive()
    }
}

impl StageBuilder {
    pub(super) fn new(
        name: StageName,
        test: String,
        (breaks_are_legal, mortal): (bool, bool),
        build: impl Fn(&mut Stage<'_>) + Send + Sync + 'static,
    ) -> StageBuilder {
        let sometimes = Mutex::default();
        let build = Box::new(build);
        StageBuilder { inner: Arc::new(Inner { name, build, test, breaks_are_legal, mortal, sometimes }) }
    }

    /// The name of the stage.
    pub fn name(&self) -> StageName {
        self.inner.name
    }

    /// The command that runs the test of this stage.
    pub fn test(&self) -> &str {
        &self.inner.test
    }

    /// Kinds of fault that are off in every run, because the test has not asked for them.
    pub fn unasked(&self) -> FaultSet {
        let mut off = FaultSet::EMPTY;
        if !self.inner.breaks_are_legal {
            CONNECTION_BREAKERS.iter().for_each(|&kind| off.insert(kind));
        }
        if !self.inner.mortal {
            PROCESS_KILLERS.iter().for_each(|&kind| off.insert(kind));
        }
        off
    }

    /// What is fixed about faults as somebody asked for it, without what this stage leaves out anyway.
    pub fn asked_of(&self, switches: FaultSwitches) -> FaultSwitches {
        let unasked = self.unasked();
        let without = switches.without.iter().filter(|&kind| !unasked.contains(kind)).collect();
        FaultSwitches { without, ..switches }
    }

    /// What had to happen sometimes and has not so far, by name.
    pub fn never_happened(&self) -> Vec<String> {
        let sometimes = self.inner.sometimes.lock().unwrap_or_else(PoisonError::into_inner);
        sometimes.iter().filter(|&(_, &met)| !met).map(|(what, _)| what.clone()).collect()
    }

    /// Builds the stage of one run, and takes from its limits what the test has not asked for.
    pub(crate) fn build(&self, setup: &mut Setup, decisions: &mut Decisions) -> Play {
        let Inner { breaks_are_legal, mortal, .. } = *self.inner;
        if !breaks_are_legal {
            let plain = Setup::plain(setup.workload, setup.kernel, setup.weather);
            (setup.backlog, setup.descriptor_limit) = (plain.backlog, plain.descriptor_limit);
        }
        let mut stage = Stage::new(setup, decisions, breaks_are_legal, mortal);
        let built = panics::catch(|| (self.inner.build)(&mut stage)).and_then(|()| {
            if stage.servers.is_empty() {
                Err("the stage has no server: see Stage::serve".to_owned())
            } else {
                Ok(())
            }
        });
        let Stage { servers, clients, posts, checks, sometimes, breaks, .. } = stage;
        let staged = Play {
            builder: self.clone(),
            unbuildable: None,
            servers,
            clients,
            posts,
            checks,
            sometimes,
            breaks,
        };
        match built {
            Ok(()) => staged,
            // Nobody begins, and the verdict is what went wrong.
            Err(message) => Play {
                unbuildable: Some(message),
                servers: Vec::new(),
                clients: Vec::new(),
                posts: Vec::new(),
                ..staged
            },
        }
    }
}

/// A stage that has been built, as a run takes it.
pub struct Play {
    builder: StageBuilder,
    unbuildable: Option<String>,
    servers: Vec<Part>,
    clients: Vec<Part>,
    posts: Vec<Post>,
    checks: Vec<NamedCheck>,
    sometimes: Vec<Sometimes>,
    breaks: Breaks,
}

impl fmt::Debug for Play {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Play").field("builder", &self.builder).finish_non_exhaustive()
    }
}

/// The limits that the test gave, with those that only cut work into pieces made as small as the run drew them.
fn cut_to_pieces(own: &Config, drawn: &Config) -> Config {
    let queue_bytes_high = own.queue_bytes_high.min(drawn.queue_bytes_high);
    Config {
        events_per_wait: own.events_per_wait.min(drawn.events_per_wait),
        read_bytes: own.read_bytes.min(drawn.read_bytes),
        reads_per_turn: own.reads_per_turn.min(drawn.reads_per_turn),
        write_segments_max: own.write_segments_max.min(drawn.write_segments_max),
        write_bytes_max: own.write_bytes_max.min(drawn.write_bytes_max),
        writes_per_turn: own.writes_per_turn.min(drawn.writes_per_turn),
        flush_early_bytes: own.flush_early_bytes.min(drawn.flush_early_bytes),
        queue_bytes_high,
        queue_bytes_low: own.queue_bytes_low.min(drawn.queue_bytes_low).min(queue_bytes_high),
        accepts_per_turn: own.accepts_per_turn.min(drawn.accepts_per_turn),
        timers_per_turn: own.timers_per_turn.min(drawn.timers_per_turn),
        messages_per_turn: own.messages_per_turn.min(drawn.messages_per_turn),
        tick_ns: drawn.tick_ns,
        generation_start: drawn.generation_start,
        ..own.clone()
    }
}

/// A thread that sleeps, and posts one message.
struct Postman {
    post: u32,
    delay_ns: Option<u64>,
    sender: Sender<Numbered>,
}

/// How long a thread rests that finds the mailbox full.
const FULL_REST_NS: u64 = 1_000_000;

impl Producer for Postman {
    fn step(&mut self) -> Option<u64> {
        if let Some(delay_ns) = self.delay_ns.take().filter(|&delay_ns| delay_ns > 0) {
            return Some(delay_ns);
        }
        let message = Numbered { producer: self.post, number: 0 };
        match self.sender.send(message) {
            Err(reactor::SendError::Full(_)) => Some(FULL_REST_NS),
            Ok(()) | Err(_) => None,
        }
    }
}

impl Workload for Play {
    type Service = Role;
    type Client = Role;

    fn services(&self) -> usize {
        self.servers.len()
    }

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn producers(&self) -> usize {
        self.posts.len()
    }

    fn fed_by(&self, producer: usize) -> usize {
        self.posts[producer].server
    }

    fn producer(&self, index: usize, sender: Sender<Numbered>) -> Box<dyn Producer> {
        let delay_ns = Some(self.posts[index].delay_ns);
        Box::new(Postman { post: index as u32, delay_ns, sender })
    }

    fn service(&self, index: usize, _: &[SocketAddr], _: &Config) -> Role {
        self.servers[index].play()
    }

    fn client(&self, index: usize, _: &[SocketAddr], _: SocketAddr) -> Role {
        self.clients[index].play()
    }

    fn service_config(&self, index: usize, drawn: &Config) -> Config {
        cut_to_pieces(&self.servers[index].config, drawn)
    }

    fn client_config(&self, index: usize, drawn: &Config) -> Config {
        cut_to_pieces(&self.clients[index].config, drawn)
    }

    fn service_name(&self, index: usize) -> Option<&str> {
        Some(&self.servers[index].name)
    }

    fn client_name(&self, index: usize) -> Option<&str> {
        Some(&self.clients[index].name)
    }

    fn has_incidents(&self) -> bool {
        self.builder.inner.mortal
    }

    fn judge(&self, servers: &[&Role], clients: &[&Role], _: bool) -> Result<(), Breach> {
        if let Some(message) = &self.unbuildable {
            return Err(Breach::new(Oracle::Panic.name(), message.clone()));
        }
        let ended = Ended { servers, clients, cut_off: self.breaks.seen.get() };
        for check in &self.checks {
            check.holds(&ended)?;
        }
        let mut sometimes = self.builder.inner.sometimes.lock().unwrap_or_else(PoisonError::into_inner);
        for Sometimes { what, met } in &self.sometimes {
            *sometimes.entry(what.to_string()).or_default() |= met.get();
        }
        Ok(())
    }
}
