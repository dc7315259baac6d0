//! Episodes of a workload on real sockets, recorded: each loop on a thread of its own, as in `soak`, with a mistake of the
//! kernel where a test wants one.

use std::fmt::Debug;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::sys::{
    Accepted, Congestion, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness,
    Shutdown, SocketOption, Syscalls, System, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;
use reactor::{Config, Sender, Turn};
use sim::audit::{Audited, Witness};
use sim::member::{Member, Role, STOP_WITHIN};
use sim::recording::{Budget, End, Failure, Journal, LoopLog, Plan, PlanUse, Recorder, Recording, Verdict};
use sim::workload::{Accounts, Breach, Numbered, Party};

/// A party that has not finished by now never will.
const FINISH_WITHIN: Duration = Duration::from_secs(20);

/// What goes wrong below the recorder.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Nothing.
    None,
    /// The last byte of this receive of more than one, counted from 0 over the loop, is lost.
    LoseByte(u64),
    /// This receive, counted likewise, panics.
    Panic(u64),
    /// Every wait from this one on sleeps for ever.
    Sleep(u64),
}

/// The kernel's calls, with a flaw.
#[derive(Debug)]
struct Flawed {
    inner: System,
    flaw: Flaw,
    occasions: u64,
    congestion: Option<Congestion>,
    /// Set when nothing is awaited any more.
    over: Arc<AtomicBool>,
}

impl Flawed {
    fn is_next(&mut self, at: u64) -> bool {
        self.occasions += 1;
        self.occasions == at + 1
    }
}

impl Syscalls for Flawed {
    fn clock_gettime(&mut self) -> Instant {
        self.inner.clock_gettime()
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        let fd = self.inner.socket(family)?;
        if let Some(congestion) = self.congestion {
            self.inner.setsockopt(fd, SocketOption::Congestion(congestion))?;
        }
        Ok(fd)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        self.inner.setsockopt(fd, option)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.inner.bind(fd, address)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        self.inner.listen(fd, backlog)
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        self.inner.accept4(fd)
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.inner.connect(fd, address)
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        self.inner.getsockname(fd)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        self.inner.take_socket_error(fd)
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let result = self.inner.recv(fd, buffer);
        match (self.flaw, result) {
            (Flaw::LoseByte(at), Ok(2..)) if self.is_next(at) => result.map(|length| length - 1),
            (Flaw::Panic(at), Ok(2..)) if self.is_next(at) => panic!("a panic on purpose"),
            _ => result,
        }
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.inner.send(fd, bytes)
    }

    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.inner.sendmsg(fd, segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.inner.shutdown(fd, how)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        self.inner.close(fd)
    }

    fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        self.inner.epoll_create1()
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        self.inner.epoll_ctl(epoll, operation, fd, mask, data)
    }

    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        if let Flaw::Sleep(at) = self.flaw {
            self.occasions += 1;
            if self.occasions > at {
                while !self.over.load(Ordering::SeqCst) {
                    thread::park_timeout(Duration::from_millis(20));
                }
                // The journal has been taken by now; this only lets the thread end.
                return Err(Errno::EBADF);
            }
        }
        self.inner.epoll_wait(epoll, events, timeout_ms)
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        self.inner.eventfd()
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        self.inner.read_eventfd(fd)
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        self.inner.kqueue()
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        self.inner.kevent(kqueue, changes, events, timeout_ns)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        self.inner.waker(target)
    }
}

/// What a test asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The plan.
    pub plan: Plan,
    /// The name of a loop, and what goes wrong there.
    pub flaw: (String, Flaw),
    /// Whether loops are recorded; a measurement compares both.
    pub recorded: bool,
    /// The congestion control of every socket; `None` for the system's own choice.
    pub congestion: Option<Congestion>,
    /// Limits of every loop.
    pub config: Config,
    /// The bound of the recording in bytes.
    pub bytes_max: u64,
    /// How long loops may take to finish.
    pub finish_within: Duration,
}

impl Wanted {
    /// This plan, and nothing wrong.
    pub fn plain(plan: Plan) -> Wanted {
        Wanted {
            plan,
            flaw: (String::new(), Flaw::None),
            recorded: true,
            congestion: None,
            config: Config::default(),
            bytes_max: 1 << 30,
            finish_within: FINISH_WITHIN,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Recorded {
    /// The recording.
    pub recording: Recording,
    /// The parties of the loops that stopped, in full, by the names of their loops.
    pub parties: Vec<(String, String)>,
}

/// Runs an episode and records it.
///
/// # Panics
/// When the machine has no sockets or threads for it.
pub fn record(wanted: &Wanted) -> Recorded {
    wanted.plan.draw(Real { wanted }).expect("no stage")
}

/// Runs an episode of this plan, whatever `wanted` says of one.
///
/// # Panics
/// As [`record`].
pub fn record_plan<W>(wanted: &Wanted, plan: W) -> Recorded
where
    W: Accounts,
{
    Real { wanted }.with(plan)
}

struct Real<'a> {
    wanted: &'a Wanted,
}

struct Running<P> {
    sender: Sender<Numbered>,
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    done: Receiver<()>,
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    journal: Journal,
    role: Role,
    index: usize,
    thread: JoinHandle<(P, End, bool)>,
}

impl<P> Running<P> {
    fn name(&self) -> String {
        format!("{} {}", self.role.name(), self.index)
    }
}

fn start<P: Party + Send + 'static>(
    wanted: &Wanted,
    budget: &Budget,
    (role, index): (Role, usize),
    addresses: &[SocketAddr],
    party: P,
) -> Running<P> {
    let (config, journal) = (wanted.config.clone(), Journal::new(budget));
    let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flaw = if wanted.flaw.0 == format!("{} {index}", role.name()) { wanted.flaw.1 } else { Flaw::None };
    let (ready, is_ready) = mpsc::channel();
    let (tell_done, done) = mpsc::channel();
    let sys = Flawed {
        inner: System::new(),
        flaw,
        occasions: 0,
        congestion: wanted.congestion,
        over: Arc::clone(&over),
    };
    let driver = Driver { noted: journal.clone(), asked: Arc::clone(&stop), ready, tell_done };
    let is_recorded = wanted.recorded;
    let work = move || {
        let witness = is_recorded.then(|| Box::new(driver.noted.clone()) as Box<dyn Witness>);
        let mut audited = Audited::new(party, &config, witness);
        let driven = catch_unwind(AssertUnwindSafe(|| {
            if is_recorded {
                driver.drive(Recorder::new(sys, driver.noted.clone()), &config, role, &mut audited)
            } else {
                driver.drive(sys, &config, role, &mut audited)
            }
        }));
        let (end, lost_at_accept) = driven.unwrap_or_else(|payload| {
            let message = payload.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned();
            let end = End::Panic { message };
            driver.noted.end(end.clone());
            (end, false)
        });
        // Nobody waits for somebody who is gone.
        let _ = driver.tell_done.send(());
        (audited.into_party(), end, lost_at_accept)
    };
    let thread = thread::Builder::new().name(role.name().to_owned()).spawn(work).expect("a thread");
    let (sender, address) = is_ready.recv().expect("the loop begins");
    let addresses = addresses.to_vec();
    Running { sender, address, addresses, done, stop, over, journal, role, index, thread }
}

/// What a loop is told, and tells, beside its calls and messages.
struct Driver {
    noted: Journal,
    asked: Arc<AtomicBool>,
    ready: mpsc::Sender<(Sender<Numbered>, SocketAddr)>,
    tell_done: mpsc::Sender<()>,
}

impl Driver {
    /// Turns the loop until it ends. Answers how, and whether it lost connections while accepting them.
    fn drive<S: Syscalls, P: Party>(
        &self,
        sys: S,
        config: &Config,
        role: Role,
        audited: &mut Audited<P>,
    ) -> (End, bool) {
        let mut member = Member::open(sys, config, role, None, audited).expect("a loop");
        self.ready.send((member.sender(), member.address())).expect("somebody waits for it");
        member.begin();
        let mut turn = Ok(Turn::Ran);
        let mut told = false;
        while turn == Ok(Turn::Ran) {
            if member.is_finished() && !told {
                told = true;
                let _ = self.tell_done.send(());
            }
            if self.asked.swap(false, Ordering::SeqCst) {
                self.noted.stop(STOP_WITHIN);
                member.stop(STOP_WITHIN);
            }
            turn = member.turn();
        }
        let counters = member.counters();
        let lost_at_accept = counters.shed > 0 || counters.accept_errors > 0;
        let end = match turn {
            Ok(_) => End::Stopped,
            Err(Breach { invariant, details }) => End::Breach { invariant: invariant.to_owned(), details },
        };
        self.noted.end(end.clone());
        (end, lost_at_accept)
    }
}

/// Whether all of them have finished.
fn wait_for<P>(members: &[Running<P>], within: Duration) -> bool {
    members.iter().all(|member| member.done.recv_timeout(within).is_ok())
}

impl PlanUse for Real<'_> {
    type Output = Recorded;

    fn with<W>(self, plan: W) -> Recorded
    where
        W: Accounts,
    {
        let Real { wanted } = self;
        let mut sys = System::new();
        let reserved = sys.socket(Family::V4).expect("a socket");
        sys.bind(reserved, &SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).expect("a port");
        let nobody = sys.getsockname(reserved).expect("its address");
        let mut recording = Recording::new(wanted.plan, nobody, &wanted.config);
        let budget = Budget::new(wanted.bytes_max);
        let mut addresses = vec![nobody; plan.services()];
        let mut services = Vec::new();
        for index in (0..plan.services()).rev() {
            let party = plan.service(index, &addresses, &wanted.config);
            let member = start(wanted, &budget, (Role::Service, index), &addresses, party);
            addresses[index] = member.address;
            services.push(member);
        }
        services.reverse();
        let producers: Vec<JoinHandle<()>> = (0..plan.producers())
            .map(|index| {
                let mut producer = plan.producer(index, services[plan.fed_by(index)].sender.clone());
                let work = move || {
                    while let Some(pause_ns) = producer.step() {
                        thread::park_timeout(Duration::from_nanos(pause_ns));
                    }
                };
                thread::Builder::new().spawn(work).expect("a thread")
            })
            .collect();
        let clients: Vec<Running<W::Client>> = (0..plan.clients())
            .map(|index| {
                let party = plan.client(index, &addresses, nobody);
                start(wanted, &budget, (Role::Client, index), &addresses, party)
            })
            .collect();
        let finished = wait_for(&clients, wanted.finish_within) && wait_for(&services, wanted.finish_within);
        let mut parties = Vec::new();
        let mut lost = false;
        let mut failure = None;
        let clients = stop(clients, &mut recording, &mut parties, &mut lost, &mut failure);
        let services = stop(services, &mut recording, &mut parties, &mut lost, &mut failure);
        producers.into_iter().for_each(|producer| producer.join().expect("no producer panics"));
        recording.loops.sort_by_key(|log| (log.role == Role::Client, log.index));
        let of = |breach: Breach| Failure {
            invariant: breach.invariant.to_owned(),
            details: breach.details,
            culprit: None,
        };
        if failure.is_none() && !finished {
            let unfinished = clients.iter().filter(|party| !party.is_finished()).map(Party::missing).next();
            let missing = || services.iter().filter(|party| !party.is_finished()).map(Party::missing).next();
            failure = unfinished.or_else(missing).map(of);
        } else if failure.is_none() {
            let (services, clients): (Vec<&_>, Vec<&_>) =
                (services.iter().collect(), clients.iter().collect());
            failure = plan.judge(&services, &clients, lost).err().map(of);
        }
        recording.verdict = Some(Verdict { late: !finished, failure, joined: None });
        sys.close(reserved).expect("it was open");
        Recorded { recording, parties }
    }
}

fn stop<P: Party + Debug>(
    members: Vec<Running<P>>,
    recording: &mut Recording,
    parties: &mut Vec<(String, String)>,
    lost: &mut bool,
    failure: &mut Option<Failure>,
) -> Vec<P> {
    for member in &members {
        member.stop.store(true, Ordering::SeqCst);
        member.sender.notify();
    }
    let readiness = System::new().readiness();
    let mut ended = Vec::new();
    for member in members {
        let name = member.name();
        let Running { journal, addresses, role, index, thread: handle, over, .. } = member;
        // Who has not stopped long after it was told to sleeps for ever; its journal is taken where it is.
        for _ in 0..STOP_WITHIN.as_millis() / 10 + 100 {
            if handle.is_finished() {
                break;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        let log = LoopLog::empty(role, index as u32, readiness, addresses).with(journal.take());
        over.store(true, Ordering::SeqCst);
        recording.loops.push(log);
        let (party, end, lost_here) = handle.join().expect("panics are caught");
        *lost |= lost_here;
        match &end {
            End::Stopped => {}
            // A loop that slept for ever was only let go.
            End::Breach { invariant, .. } if invariant == "turn-error" => {}
            End::Breach { invariant, details } => {
                let (invariant, details) = (invariant.clone(), details.clone());
                failure.get_or_insert(Failure { invariant, details, culprit: Some(name.clone()) });
            }
            End::Panic { message } => {
                let (invariant, details) = ("panic".to_owned(), message.clone());
                failure.get_or_insert(Failure { invariant, details, culprit: Some(name.clone()) });
            }
        }
        parties.push((name, format!("{party:?}")));
        ended.push(party);
    }
    ended
}
