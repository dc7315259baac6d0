//! A loop on a thread of its own, with a party of a workload as its handler.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{Errno, Syscalls};
use reactor::{Config, Counters, ListenOptions, Reactor, Sender, Turn};
use sim::audit::Audited;
use sim::workload::{Breach, Numbered, Party, TurnFacts};

use crate::Failure;

/// How long connections may take to finish when an episode is over.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How often the structure of a loop is looked at, in turns.
const LOOK_EVERY_TURNS: u64 = 64;

/// What a wait of `epoll_wait(2)` is rounded up to, in nanoseconds; those of `kevent(2)` are finer.
const WAIT_ROUNDING_NS: u64 = 1_000_000;

/// A loop that runs on a thread of its own.
pub(crate) struct Member<P> {
    pub(crate) sender: Sender<Numbered>,
    pub(crate) address: SocketAddr,
    pub(crate) done: Receiver<()>,
    pub(crate) thread: JoinHandle<Result<(P, Counters), Breach>>,
}

/// Whether a loop listens, and when it ends by itself.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Service,
    Client,
}

/// What is said when a thread of the soak has panicked.
pub(crate) fn panicked(who: &str) -> Failure {
    Failure::Invariant(format!("panic: {who} panicked"))
}

/// Starts a loop on a thread of its own, and waits until it listens.
pub(crate) fn start<S, P>(
    role: Role,
    config: &Config,
    make: impl FnOnce() -> P + Send + 'static,
) -> Result<Member<P>, Failure>
where
    S: Syscalls + Default,
    P: Party + Send + 'static,
{
    let config = config.clone();
    let (ready, is_ready) = mpsc::channel();
    let (tell_done, done) = mpsc::channel();
    let thread = spawn(if role == Role::Service { "service" } else { "client" }, move || {
        let mut audited = Audited::new(make(), &config, None);
        let counters = {
            let made = Reactor::new(S::default(), config.clone(), &mut audited)
                .and_then(|mut reactor| open(&mut reactor, role).map(|address| (reactor, address)));
            let mut reactor = match made {
                Ok((reactor, address)) => {
                    // The other side waits for this.
                    let _ = ready.send(Ok((reactor.sender(), address)));
                    reactor
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Err(Breach::new("turn-error", format!("a loop could not be made: {error}")));
                }
            };
            reactor.with(|audited, ctx| {
                audited.party_mut().begin(ctx);
                // On real sockets there is no trouble that ends at a known time.
                audited.party_mut().calm(ctx);
            });
            turn_until_stopped(&mut reactor, role, &config, &tell_done)?;
            *reactor.counters()
        };
        match audited.breach() {
            Some(breach) => Err(breach.clone()),
            None => Ok((audited.into_party(), counters)),
        }
    })?;
    match is_ready.recv() {
        Ok(Ok((sender, address))) => Ok(Member { sender, address, done, thread }),
        Ok(Err(error)) => Err(Failure::Machine(format!("event loop: {error}"))),
        Err(_) => Err(Failure::Invariant("panic: a loop panicked before it began".to_owned())),
    }
}

fn open<S: Syscalls, P: Party>(
    reactor: &mut Reactor<S, &mut Audited<P>>,
    role: Role,
) -> Result<SocketAddr, Errno> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    if role == Role::Client {
        return Ok(any);
    }
    let listener = reactor.listen(any, &ListenOptions::default(), 0)?;
    reactor.local_address(listener)
}

fn turn_until_stopped<S: Syscalls, P: Party>(
    reactor: &mut Reactor<S, &mut Audited<P>>,
    role: Role,
    config: &Config,
    tell_done: &mpsc::Sender<()>,
) -> Result<(), Breach> {
    // A party may be owed nothing from the beginning; nothing would wake its loop then.
    let mut finished = reactor.with(|audited, _| audited.party().is_finished());
    let mut told = false;
    let mut fired_before = 0;
    let mut turns = 0u64;
    loop {
        if finished && !told {
            told = true;
            let _ = tell_done.send(());
            // A service may yet be asked for more; a client that has finished is over.
            if role == Role::Client {
                reactor.stop(STOP_WITHIN);
            }
        }
        let turn = reactor
            .turn()
            .map_err(|error| Breach::new("turn-error", format!("a turn of a loop failed: {error}")))?;
        if turn == Turn::Stopped {
            return Ok(());
        }
        turns += 1;
        if turns.is_multiple_of(LOOK_EVERY_TURNS) {
            reactor.assert_invariants();
        }
        let fired = reactor.counters().timers_fired;
        let timer_budget_ended = fired - fired_before >= u64::from(config.timers_per_turn);
        fired_before = fired;
        let tick_ns = config.tick_ns;
        finished = reactor.with(|audited, ctx| {
            let facts = TurnFacts {
                now: ctx.now(),
                timer_budget_ended,
                asleep: None,
                wait_rounding_ns: WAIT_ROUNDING_NS,
                tick_ns,
            };
            audited.party_mut().after_turn(facts);
            audited.party().is_finished()
        });
        if let Some(breach) = reactor.handler().breach() {
            return Err(breach.clone());
        }
    }
}

/// Starts a thread with a name.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Failure::Machine(format!("thread {name}: {error}")))
}
