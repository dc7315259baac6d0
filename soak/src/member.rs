//! A loop on a thread of its own, with a party of a workload as its handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{Errno, Syscalls};
use reactor::{Config, Counters, Sender, Turn};
use sim::audit::Audited;
use sim::member::{Member as Driven, Role};
use sim::workload::{Breach, Numbered, Party};

use crate::Failure;

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
    let stop = Arc::new(StopRequest { within_ns: AtomicU64::new(NO_STOP) });
    let asked = Arc::clone(&stop);
    let thread = spawn(role.name(), move || {
        let mut audited = Audited::new(make(), &config, None);
        let counters = match Driven::open(S::default(), &config, role, &mut audited) {
            Ok(mut driven) => {
                // The other side waits for this.
                let _ = ready.send(Ok((driven.sender(), driven.address())));
                turn_until_stopped(&mut driven, &asked, &tell_done)?;
                *driven.counters()
            }
            Err(error) => {
                let breach = Breach::new("turn-error", format!("a loop could not be made: {error}"));
                let _ = ready.send(Err(error));
                return Err(breach);
            }
        };
        Ok((audited.into_party(), counters))
    })?;
    let made: Result<Result<_, Errno>, _> = is_ready.recv();
    match made {
        Ok(Ok((sender, address))) => Ok(Member { sender, address, done, thread, stop }),
        Ok(Err(error)) => Err(Failure::Machine(format!("event loop: {error}"))),
        Err(_) => Err(Failure::Invariant("panic: a loop panicked before it began".to_owned())),
    }
}

fn turn_until_stopped<S: Syscalls, P: Party>(
    driven: &mut Driven<'_, S, P>,
    stop: &StopRequest,
    tell_done: &mpsc::Sender<()>,
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
        if driven.turn()? == Turn::Stopped {
            return Ok(());
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
