//! A loop with a party of a workload as its handler, turned from outside: on real sockets by `soak`, from a recording by
//! [`crate::recording`].
//!
//! There are no threads and no clocks here. All that the loop is given from outside is the results of its calls, the
//! messages that other threads send, and [`Member::stop`]; a [`Journal`](crate::recording::Journal) takes down the last two.

mod own_calls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reactor::sys::{Errno, Readiness, SocketOption, Syscalls};
use reactor::time::Instant;
use reactor::{Config, Counters, ListenOptions, Reactor, Sender, Turn};

use crate::audit::Audited;
use crate::workload::{Breach, Measures, Numbered, Party, TurnFacts};

pub use own_calls::{DESCRIPTOR_LEAK, Descriptors, IMPOSSIBLE_ERRORS, check_end};

/// How long connections may take to finish when a loop of clients is done.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How often the structure of a loop is looked at, in turns.
const LOOK_EVERY_TURNS: u64 = 64;

/// Whether a loop listens, and whether it ends by itself.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// It listens, and goes on until it is told to stop: it may yet be asked for more.
    Service,
    /// It connects, and stops when its party has finished.
    Client,
}

impl Role {
    /// Its name in recordings.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Service => "service",
            Role::Client => "client",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::Service, Role::Client].into_iter().find(|role| role.name() == name)
    }
}

/// See the module. The party stays with the caller, who joins its ledger with those of others at the end.
#[derive(Debug)]
pub struct Member<'a, S: Syscalls, P: Party> {
    reactor: Reactor<S, &'a mut Audited<P>>,
    role: Role,
    address: SocketAddr,
    config: Config,
    wait_rounding_ns: u64,
    finished: bool,
    stop_asked: bool,
    timers_fired: u64,
    turns: u64,
}

impl<'a, S: Syscalls, P: Party> Member<'a, S, P> {
    /// Makes a loop. A service listens at `shared`, beside others that listen there too (`SO_REUSEPORT`), or at a free port
    /// of 127.0.0.1.
    ///
    /// # Errors
    /// Those of [`Reactor::new`] and [`Reactor::listen`].
    pub fn open(
        sys: S,
        config: &Config,
        role: Role,
        shared: Option<SocketAddr>,
        audited: &'a mut Audited<P>,
    ) -> Result<Member<'a, S, P>, Errno> {
        let wait_rounding_ns = match sys.readiness() {
            Readiness::Epoll => 1_000_000,
            Readiness::Kqueue => 0,
        };
        let mut reactor = Reactor::new(sys, config.clone(), audited)?;
        let mut address = shared.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        if role == Role::Service {
            let mut options = ListenOptions::default();
            if shared.is_some() {
                options.options.push(SocketOption::ReusePort(true));
            }
            let listener = reactor.listen(address, &options, 0)?;
            address = reactor.local_address(listener)?;
        }
        Ok(Member {
            reactor,
            role,
            address,
            config: config.clone(),
            wait_rounding_ns,
            finished: false,
            stop_asked: false,
            timers_fired: 0,
            turns: 0,
        })
    }

    /// Where a service listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends messages to the loop, from any thread.
    pub fn sender(&self) -> Sender<Numbered> {
        self.reactor.sender()
    }

    /// What the loop has counted.
    pub fn counters(&self) -> &Counters {
        self.reactor.counters()
    }

    /// Live connections and listeners.
    pub fn live(&self) -> usize {
        self.reactor.live()
    }

    /// Timers that are armed or due and have not run, the loop's own included.
    pub fn timers_pending(&self) -> usize {
        self.reactor.timers_pending()
    }

    /// The clock that the loop read last.
    pub fn now(&mut self) -> Instant {
        self.reactor.with(|_, ctx| ctx.now())
    }

    /// Whose loop it is.
    pub fn party(&self) -> &P {
        self.reactor.handler().party()
    }

    /// Lets somebody take what the party has [measured](Party::measures), if it measures anything.
    pub fn take_measures(&mut self, take: impl FnOnce(&mut Measures)) {
        self.reactor.with(|audited, _| audited.party_mut().measures().map(take));
    }

    /// Whether the party neither owes nor awaits anything, as seen after the last turn.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Lets the party begin. There is no trouble that ends at a known time, so it is told at once that there is none.
    pub fn begin(&mut self) {
        self.reactor.with(|audited, ctx| {
            audited.party_mut().begin(ctx);
            audited.party_mut().calm(ctx);
        });
        // A party may be owed nothing from the beginning; nothing would wake its loop then.
        self.look_at_party();
    }

    /// Stops the loop, between two turns. Who asks from another thread wakes it with [`Sender::notify`].
    pub fn stop(&mut self, within: Duration) {
        self.reactor.stop(within);
    }

    fn look_at_party(&mut self) {
        self.finished = self.reactor.with(|audited, _| audited.party().is_finished());
        if self.finished && self.role == Role::Client && !self.stop_asked {
            self.stop_asked = true;
            self.reactor.stop(STOP_WITHIN);
        }
    }

    /// One turn, and the checks after it.
    ///
    /// # Errors
    /// What the party, or the audit around it, saw broken; `turn-error` when the turn itself failed.
    ///
    /// # Panics
    /// When the structure of the loop is broken, or a handler panics.
    pub fn turn(&mut self) -> Result<Turn, Breach> {
        let turn = self
            .reactor
            .turn()
            .map_err(|error| Breach::new("turn-error", format!("a turn of a loop failed: {error}")))?;
        if turn == Turn::Ran {
            self.turns += 1;
            if self.turns.is_multiple_of(LOOK_EVERY_TURNS) {
                self.reactor.assert_invariants();
            }
            let fired = self.reactor.counters().timers_fired;
            let timer_budget_ended = fired - self.timers_fired >= u64::from(self.config.timers_per_turn);
            self.timers_fired = fired;
            let (wait_rounding_ns, tick_ns) = (self.wait_rounding_ns, self.config.tick_ns);
            self.reactor.with(|audited, ctx| {
                let now = ctx.now();
                let facts = TurnFacts { now, timer_budget_ended, asleep: None, wait_rounding_ns, tick_ns };
                audited.party_mut().after_turn(facts);
            });
        }
        if let Some(breach) = self.reactor.handler().breach() {
            return Err(breach.clone());
        }
        if turn == Turn::Ran {
            self.look_at_party();
        }
        Ok(turn)
    }
}
