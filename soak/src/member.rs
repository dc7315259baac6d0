//! A loop on a thread of its own, with a party of a workload as its handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{Errno, Syscalls};
use reactor::{Config, Counters, Sender, Turn};
use sim::audit::{Audited, Witness};
use sim::member::{Member as Driven, Role};
use sim::workload::{Breach, Numbered, Party};

use crate::Failure;
use crate::chaos::Exposure;
use crate::gauge::{Gauge, Needle};
use crate::watched::{IMPOSSIBLE_ERRORS, Watched};

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
    pub(crate) done: Receiver<()>,
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

/// What is said when a thread of the soak has panicked.
pub(crate) fn panicked(who: &str) -> Failure {
    Failure::Invariant(format!("panic: {who} panicked"))
}

/// What a loop is made with, beside its party.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) role: Role,
    pub(crate) config: Config,
    /// Where it shows what it does.
    pub(crate) gauge: Arc<Gauge>,
    /// How far its clock is set forward.
    pub(crate) clock_shift_ns: u64,
    /// What it has to do with chaos, if there is any.
    pub(crate) exposure: Option<Exposure>,
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
    let Place { role, config, gauge, clock_shift_ns, exposure } = place;
    let shown = Arc::clone(&gauge);
    let (ready, is_ready) = mpsc::channel();
    let (tell_done, done) = mpsc::channel();
    let stop = Arc::new(StopRequest { within_ns: AtomicU64::new(NO_STOP) });
    let asked = Arc::clone(&stop);
    let thread = spawn(role.name(), move || {
        let _present = exposure.as_ref().map(Exposure::enter);
        let witness = exposure.as_ref().map(|exposure| Box::new(exposure.witness()) as Box<dyn Witness>);
        let mut audited = Audited::new(make(), &config, witness);
        let sys = Watched::new(S::default(), Arc::clone(&gauge.ledger), clock_shift_ns, exposure);
        let counters = match Driven::open(sys, &config, role, &mut audited) {
            Ok(mut driven) => {
                let mut needle = Needle::new(Arc::clone(&gauge), &driven);
                // The other side waits for this.
                let _ = ready.send(Ok((driven.sender(), driven.address())));
                let result = turn_until_stopped(&mut driven, &asked, &tell_done, &mut needle);
                needle.end(&mut driven);
                result?;
                *driven.counters()
            }
            Err(error) => {
                let breach = Breach::new("turn-error", format!("a loop could not be made: {error}"));
                let _ = ready.send(Err(error));
                return Err(breach);
            }
        };
        check_calls(&gauge)?;
        Ok((audited.into_party(), counters))
    })?;
    let made: Result<Result<_, Errno>, _> = is_ready.recv();
    match made {
        Ok(Ok((sender, address))) => Ok(Member { sender, address, done, thread, stop, gauge: shown }),
        Ok(Err(error)) => Err(Failure::Machine(format!("event loop: {error}"))),
        Err(_) => Err(Failure::Invariant("panic: a loop panicked before it began".to_owned())),
    }
}

fn turn_until_stopped<S: Syscalls, P: Party>(
    driven: &mut Driven<'_, S, P>,
    stop: &StopRequest,
    tell_done: &mpsc::Sender<()>,
    needle: &mut Needle,
) -> Result<(), Breach> {
    let mut told = false;
    driven.begin();
    loop {
        if driven.is_finished() && !told {
            told = true;
            let _ = tell_done.send(());
        }
        if let Some(within) = stop.take() {
            driven.stop(within);
        }
        let turn = driven.turn()?;
        let leaked = needle.follow(driven);
        if leaked > 0 {
            let live = driven.live();
            let details = format!(
                "{leaked} descriptors are open beside those of {live} connections and the loop's own"
            );
            return Err(Breach::new("descriptor-leak", details));
        }
        if turn == Turn::Stopped {
            return Ok(());
        }
    }
}

/// A loop that has ended leaves no descriptor behind, and has never used one that was not its own.
fn check_calls(gauge: &Gauge) -> Result<(), Breach> {
    let open = gauge.ledger.open();
    if open != 0 {
        let details = format!("the loop has ended, and {open} of its descriptors are still open");
        return Err(Breach::new("descriptor-leak", details));
    }
    match gauge.ledger.errors().find(|(name, _)| IMPOSSIBLE_ERRORS.contains(name)) {
        Some((name, count)) => {
            let details = format!("{count} calls answered {name}, which says that the loop itself is wrong");
            Err(Breach::new("impossible-event", details))
        }
        None => Ok(()),
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
