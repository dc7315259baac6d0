//! A loop on a thread of its own, with a party of a workload as its handler.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{Errno, Syscalls};
use reactor::{Config, Counters, Sender, Turn};
use sim::audit::Audited;
use sim::audit::Witness;
use sim::member::{Member as Driven, Role};
use sim::recording::{End, Journal, Recorder};
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

/// Starts a loop on a thread of its own, and waits until it listens. With a journal, it is recorded.
pub(crate) fn start<S, P>(
    role: Role,
    config: &Config,
    journal: Option<Journal>,
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
    let outside = Outside { stop: Arc::clone(&stop), ready, tell_done };
    let thread = spawn(role.name(), move || match journal {
        None => {
            let mut audited = Audited::new(make(), &config, None);
            let counters = outside.turn_until_stopped(S::default(), role, &config, &mut audited, None)?;
            Ok((audited.into_party(), counters))
        }
        Some(journal) => {
            let witness: Box<dyn Witness> = Box::new(journal.clone());
            let mut audited = Audited::new(make(), &config, Some(witness));
            let sys = Recorder::new(S::default(), journal.clone());
            let driven = catch_unwind(AssertUnwindSafe(|| {
                outside.turn_until_stopped(sys, role, &config, &mut audited, Some(&journal))
            }));
            match driven {
                Ok(Ok(counters)) => {
                    journal.end(End::Stopped);
                    Ok((audited.into_party(), counters))
                }
                Ok(Err(breach)) => Err(breach),
                Err(payload) => {
                    journal.end(End::Panic { message: panic_message(&*payload) });
                    resume_unwind(payload)
                }
            }
        }
    })?;
    match is_ready.recv() {
        Ok(Ok((sender, address))) => Ok(Member { sender, address, done, thread, stop }),
        Ok(Err(error)) => Err(Failure::Machine(format!("event loop: {error}"))),
        Err(_) => Err(Failure::Invariant("panic: a loop panicked before it began".to_owned())),
    }
}

/// What a loop is told, and tells, beside its calls and messages.
struct Outside {
    stop: Arc<StopRequest>,
    ready: mpsc::Sender<Result<(Sender<Numbered>, SocketAddr), Errno>>,
    tell_done: mpsc::Sender<()>,
}

impl Outside {
    fn turn_until_stopped<S: Syscalls, P: Party>(
        &self,
        sys: S,
        role: Role,
        config: &Config,
        audited: &mut Audited<P>,
        journal: Option<&Journal>,
    ) -> Result<Counters, Breach> {
        let mut driven = match Driven::open(sys, config, role, audited) {
            Ok(driven) => driven,
            Err(error) => {
                let _ = self.ready.send(Err(error));
                return Err(Breach::new("turn-error", format!("a loop could not be made: {error}")));
            }
        };
        // The other side waits for this.
        let _ = self.ready.send(Ok((driven.sender(), driven.address())));
        let mut told = false;
        driven.begin();
        loop {
            if driven.is_finished() && !told {
                told = true;
                let _ = self.tell_done.send(());
            }
            if let Some(within) = self.stop.take() {
                if let Some(journal) = journal {
                    journal.stop(within);
                }
                driven.stop(within);
            }
            match driven.turn() {
                Ok(Turn::Stopped) => return Ok(*driven.counters()),
                Ok(Turn::Ran | Turn::Parked) => {}
                Err(breach) => {
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
