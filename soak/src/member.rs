//! A loop on a thread of its own, with a party of a workload as its handler.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{Errno, Syscalls};
use reactor::{Config, Counters, Sender, Turn};
use sim::audit::Audited;
use sim::member::{Member as Driven, Role, check_end};
use sim::recording::{End, Journal, Recorder};
use sim::workload::{Breach, Numbered, Party};

use crate::Failure;
use crate::chaos::Exposure;
use crate::gauge::{Gauge, Needle};
use crate::watched::Watched;

/// A stop that another thread asks for. The loop looks at it between turns and not, as for [`Sender::stop`], within one,
/// so that a recording has its place among the calls.
#[derive(Debug)]
struct StopRequest {
    /// The time that it allows, in nanoseconds, or [`NO_STOP`].
    within_ns: AtomicU64,
}

/// No stop was asked for.
const NO_STOP: u64 = u64::MAX;

impl StopRequest {
    fn take(&self) -> Option<Duration> {
        let within_ns = self.within_ns.swap(NO_STOP, Ordering::SeqCst);
        (within_ns != NO_STOP).then(|| Duration::from_nanos(within_ns))
    }
}

/// A loop that runs on a thread of its own.
pub(crate) struct Member<P> {
    pub(crate) sender: Sender<Numbered>,
    pub(crate) address: SocketAddr,
    pub(crate) thread: JoinHandle<Result<(P, Counters), Breach>>,
    stop: Arc<StopRequest>,
    pub(crate) gauge: Arc<Gauge>,
}

impl<P> Member<P> {
    /// Stops the loop; what is open may take so long to finish.
    pub(crate) fn stop(&self, within: Duration) {
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(NO_STOP).min(NO_STOP - 1);
        self.stop.within_ns.store(within_ns, Ordering::SeqCst);
        self.sender.notify();
    }
}

impl<P> Member<P> {
    /// Whether the thread has ended, or ends in this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        const SLICE: Duration = Duration::from_millis(1);
        for _ in 0..limit.as_millis() / SLICE.as_millis() {
            if self.thread.is_finished() {
                return true;
            }
            thread::park_timeout(SLICE);
        }
        self.thread.is_finished()
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// What is said when a thread of the soak has panicked.
pub(crate) fn panicked(who: &str) -> Failure {
    Failure::Invariant(format!("panic: {who} panicked"))
}

/// What a loop is made with, beside its party.
pub(crate) struct Place {
    pub(crate) role: Role,
    pub(crate) config: Config,
    /// Where it shows what it does.
    pub(crate) gauge: Arc<Gauge>,
    /// How far its clock is set forward.
    pub(crate) clock_shift_ns: u64,
    /// Where a service listens beside others; `None` for a port of its own.
    pub(crate) shared: Option<SocketAddr>,
    /// What it has to do with chaos, if there is any.
    pub(crate) exposure: Option<Exposure>,
    /// Where it is recorded, if it is.
    pub(crate) journal: Option<Journal>,
}

/// Starts a loop on a thread of its own, and waits until it listens.
pub(crate) fn start<S, P>(
    place: Place,
    make: impl FnOnce() -> P + Send + 'static,
) -> Result<Member<P>, Failure>
where
    S: Syscalls + Default,
    P: Party + Send + 'static,
{
    let (ready, is_ready) = mpsc::channel();
    let stop = Arc::new(StopRequest { within_ns: AtomicU64::new(NO_STOP) });
    let (outside, gauge) = (Outside { stop: Arc::clone(&stop), ready }, Arc::clone(&place.gauge));
    let thread = spawn(place.role.name(), move || {
        // The clock is set forward below the recorder, so that a recording has the times that the loop saw.
        let exposure = place.exposure.clone();
        let _present = exposure.as_ref().map(Exposure::enter);
        let witness = exposure.as_ref().map(|exposure| exposure.witness(place.journal.clone()));
        let ledger = Arc::clone(&place.gauge.ledger);
        let sys = Watched::new(S::default(), ledger, place.clock_shift_ns, exposure);
        let Some(journal) = &place.journal else {
            let mut audited = Audited::new(make(), &place.config, witness);
            let counters = outside.turn_until_stopped(sys, &place, &mut audited)?;
            check_end(place.gauge.ledger.open(), place.gauge.ledger.errors())?;
            return Ok((audited.into_party(), counters));
        };
        let witness = witness.unwrap_or_else(|| Box::new(journal.clone()));
        let mut audited = Audited::new(make(), &place.config, Some(witness));
        let sys = Recorder::new(sys, journal.clone());
        let driven = catch_unwind(AssertUnwindSafe(|| outside.turn_until_stopped(sys, &place, &mut audited)));
        match driven {
            Ok(Ok(counters)) => {
                journal.end(End::Stopped);
                check_end(place.gauge.ledger.open(), place.gauge.ledger.errors())?;
                Ok((audited.into_party(), counters))
            }
            Ok(Err(breach)) => Err(breach),
            Err(payload) => {
                journal.end(End::Panic { message: panic_message(&*payload) });
                resume_unwind(payload)
            }
        }
    })?;
    match is_ready.recv() {
        Ok(Ok((sender, address))) => Ok(Member { sender, address, thread, stop, gauge }),
        Ok(Err(error)) => Err(Failure::Machine(format!("event loop: {error}"))),
        Err(_) => Err(Failure::Invariant("panic: a loop panicked before it began".to_owned())),
    }
}

/// What a loop is told, and tells, beside its calls and messages.
struct Outside {
    stop: Arc<StopRequest>,
    ready: mpsc::Sender<Result<(Sender<Numbered>, SocketAddr), Errno>>,
}

impl Outside {
    fn turn_until_stopped<S: Syscalls, P: Party>(
        &self,
        sys: S,
        place: &Place,
        audited: &mut Audited<P>,
    ) -> Result<Counters, Breach> {
        let Place { role, config, gauge, shared, journal, .. } = place;
        let mut driven = match Driven::open(sys, config, *role, *shared, audited) {
            Ok(driven) => driven,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return Err(Breach::new("turn-error", format!("a loop could not be made: {error}")));
            }
        };
        let mut needle = Needle::new(Arc::clone(gauge), &driven);
        // The other side waits for this.
        let _ = self.ready.send(Ok((driven.sender(), driven.address())));
        driven.begin();
        // A party may be owed nothing from the beginning: no turn would come to say so.
        needle.follow(&mut driven)?;
        loop {
            if let Some(within) = self.stop.take() {
                if let Some(journal) = journal {
                    journal.stop(within);
                }
                driven.stop(within);
            }
            let turn = driven.turn().and_then(|turn| needle.follow(&mut driven).map(|()| turn));
            match turn {
                Ok(Turn::Ran | Turn::Parked) => {}
                Ok(Turn::Stopped) => {
                    needle.end(&mut driven);
                    return Ok(*driven.counters());
                }
                Err(breach) => {
                    needle.end(&mut driven);
                    // Before the loop is dropped, which makes calls of its own.
                    if let Some(journal) = journal {
                        let (invariant, details) = (breach.invariant.to_owned(), breach.details.clone());
                        journal.end(End::Breach { invariant, details });
                    }
                    return Err(breach);
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::sys::System;
    use sim::Decisions;
    use sim::workload::timers::Timers;
    use sim::workload::{Scale, Workload, WorkloadKind};

    use crate::run::roster::Roster;

    /// The plan of an episode that once waited for its service until the watchdog came.
    #[test]
    fn who_is_owed_nothing_from_the_beginning_has_finished_without_a_turn() {
        let plan = Timers::draw(&mut Decisions::from_seed(0x0bce_c000_4512_8b85), Scale::RealTime);
        let roster = Roster::new([(WorkloadKind::Timers, Default::default())]);
        let gauge = roster.enter(WorkloadKind::Timers, Role::Service, "a service".to_owned());
        let config = Config::default();
        let (role, clock_shift_ns) = (Role::Service, 0);
        let place = Place {
            role,
            config: config.clone(),
            gauge,
            clock_shift_ns,
            shared: None,
            journal: None,
            exposure: None,
        };
        let Ok(member) = start::<System, _>(place, move || plan.service(0, &[], &config)) else {
            panic!("a loop can be made");
        };
        let has_finished = (0..10_000).any(|_| {
            thread::park_timeout(Duration::from_millis(1));
            member.gauge.is_finished()
        });
        member.stop(Duration::ZERO);
        assert!(member.thread.join().is_ok());
        assert!(has_finished, "nothing would ever wake it");
    }
}
