//! The seam as the runner gives it to a loop: the simulated calls, with a note of what each wait asked for, and - in tests
//! that show that an oracle sees what it claims to see - with one mistake made on purpose.

use std::cell::Cell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use crate::kernel::syscalls::SimSyscalls;

/// A mistake that no legal kernel and no correct loop makes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// A received byte is lost.
    LoseByte,
    /// A received byte is changed.
    ChangeByte,
    /// The events of a wait are lost.
    LoseEvents,
    /// A descriptor is closed twice.
    CloseTwice,
    /// A descriptor is not closed.
    ForgetClose,
    /// The loop sleeps longer than it should.
    Oversleep,
    /// Every wait from here on returns at once, with nothing.
    NeverSleep,
    /// The wait fails.
    FailWait,
    /// accept says that the listener is none.
    FailAccept,
    /// A wake-up, and every one after it, goes nowhere.
    ForgetWakes,
    /// A call panics, as a handler might.
    Panic,
    /// A call outside of the listed ones is made: reading an eventfd that is no eventfd.
    CallNonsense,
    /// The clock reads something that the seed does not decide.
    ReadAnotherClock,
}

/// Where a mistake is made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tamper {
    /// What is done.
    pub mistake: Mistake,
    /// At which occasion, counted from 0 for each loop.
    pub at: u64,
}

/// What the last wait asked for, and what was asked of one descriptor since.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    timeout_ns: Rc<Cell<Option<u64>>>,
    busiest: Rc<Cell<Busiest>>,
}

/// The most calls of a kind that one descriptor had since the last wait.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Busiest {
    /// recv(2).
    pub reads: u32,
    /// accept(2).
    pub accepts: u32,
}

/// What one descriptor had in the turn of this number.
#[derive(Copy, Clone, Debug, Default)]
struct Usage {
    turn: u64,
    busy: Busiest,
}

impl Asked {
    /// The timeout in nanoseconds; `None` for none.
    pub fn timeout_ns(&self) -> Option<u64> {
        self.timeout_ns.get()
    }

    /// The most calls that one descriptor had since the last wait.
    pub fn busiest(&self) -> Busiest {
        self.busiest.get()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Seam {
    inner: SimSyscalls,
    asked: Asked,
    tamper: Option<Tamper>,
    occasions: u64,
    parked: bool,
    turn: u64,
    /// By descriptor number.
    usage: Vec<Usage>,
}

impl Seam {
    /// The calls of one thread.
    pub fn new(inner: SimSyscalls, tamper: Option<Tamper>) -> Seam {
        Seam {
            inner,
            asked: Asked::default(),
            tamper,
            occasions: 0,
            parked: false,
            turn: 0,
            usage: Vec::new(),
        }
    }

    /// A view of what the last wait asked for.
    pub fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// Counts a call on a descriptor.
    #[inline]
    fn count_call(&mut self, fd: Fd, count: impl FnOnce(&mut Busiest)) {
        let Ok(number) = usize::try_from(fd.as_raw()) else { return };
        if number >= self.usage.len() {
            self.usage.resize(number + 1, Usage::default());
        }
        let usage = &mut self.usage[number];
        if usage.turn != self.turn {
            *usage = Usage { turn: self.turn, busy: Busiest::default() };
        }
        count(&mut usage.busy);
        let (busy, most) = (usage.busy, self.asked.busiest.get());
        if busy.reads > most.reads || busy.accepts > most.accepts {
            let Busiest { reads, accepts } = busy;
            let most = Busiest { reads: reads.max(most.reads), accepts: accepts.max(most.accepts) };
            self.asked.busiest.set(most);
        }
    }

    /// Whether this mistake is made now; counts the occasion.
    #[inline]
    fn tampers(&mut self, mistake: Mistake) -> bool {
        let Some(tamper) = self.tamper else { return false };
        if tamper.mistake != mistake {
            return false;
        }
        self.occasions += 1;
        self.occasions == tamper.at + 1
    }

    fn lasting(&mut self, mistake: Mistake) -> bool {
        let hit = self.tampers(mistake);
        hit || self.tamper.is_some_and(|tamper| tamper.mistake == mistake && self.occasions > tamper.at)
    }

    /// Takes note of a wait that begins. Answers the timeout to ask for.
    fn begin_wait(&mut self, timeout_ns: Option<u64>) -> Option<u64> {
        /// Half an hour.
        const OVERSLEPT_NS: u64 = 1_800_000_000_000;
        if self.parked {
            return timeout_ns;
        }
        self.turn += 1;
        self.asked.busiest.set(Busiest::default());
        let mut timeout_ns = timeout_ns;
        if timeout_ns.is_some_and(|ns| ns > 0) && self.tampers(Mistake::Oversleep) {
            timeout_ns = timeout_ns.map(|ns| ns.saturating_add(OVERSLEPT_NS));
        }
        if self.lasting(Mistake::NeverSleep) {
            timeout_ns = Some(0);
        }
        self.asked.timeout_ns.set(timeout_ns);
        timeout_ns
    }

    fn end_wait(&mut self, result: Result<Wait, Errno>) -> Result<Wait, Errno> {
        self.parked = result == Ok(Wait::Parked);
        match result {
            Ok(Wait::Ready(count)) if count > 0 && self.tampers(Mistake::LoseEvents) => Ok(Wait::Ready(0)),
            Ok(Wait::Ready(_)) if self.tampers(Mistake::FailWait) => Err(Errno::EBADF),
            result => result,
        }
    }
}

/// What the clock adds with [`Mistake::ReadAnotherClock`]: counts over all runs of the process, which no seed decides.
static UNDECIDED: AtomicU64 = AtomicU64::new(0);

impl Syscalls for Seam {
    #[inline]
    fn clock_gettime(&mut self) -> Instant {
        let now = self.inner.clock_gettime();
        if self.tampers(Mistake::Panic) {
            panic!("a panic on purpose");
        }
        if self.tampers(Mistake::CallNonsense) {
            let _ = self.inner.listen(Fd::from_raw(0), 1);
        }
        if self.tampers(Mistake::ReadAnotherClock) {
            let extra_ns = UNDECIDED.fetch_add(1, Ordering::SeqCst) * 1_000_000;
            self.inner.world().spend(self.inner.thread(), extra_ns);
        }
        now
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        self.inner.socket(family)
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
        self.count_call(fd, |busy| busy.accepts += 1);
        if self.tampers(Mistake::FailAccept) {
            return Err(Errno::EINVAL);
        }
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

    #[inline]
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.count_call(fd, |busy| busy.reads += 1);
        let result = self.inner.recv(fd, buffer);
        let Ok(length) = result else { return result };
        if length > 1 && self.tampers(Mistake::LoseByte) {
            buffer.copy_within(1..length, 0);
            return Ok(length - 1);
        }
        if length > 0 && self.tampers(Mistake::ChangeByte) {
            buffer[length - 1] ^= 0x40;
        }
        result
    }

    #[inline]
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.inner.send(fd, bytes)
    }

    #[inline]
    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.inner.sendmsg(fd, segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.inner.shutdown(fd, how)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        if self.tampers(Mistake::ForgetClose) {
            return Ok(());
        }
        // The next tenant of the number begins anew.
        if let Some(usage) = usize::try_from(fd.as_raw()).ok().and_then(|number| self.usage.get_mut(number)) {
            *usage = Usage::default();
        }
        if self.tampers(Mistake::CloseTwice) {
            let _ = self.inner.close(fd);
        }
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

    #[inline]
    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        const MILLISECOND: u64 = 1_000_000;
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * MILLISECOND);
        let timeout_ms = match self.begin_wait(timeout_ns) {
            Some(ns) => i32::try_from(ns / MILLISECOND).unwrap_or(i32::MAX),
            None => -1,
        };
        let result = self.inner.epoll_wait(epoll, events, timeout_ms);
        self.end_wait(result)
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

    #[inline]
    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        if events.is_empty() {
            return self.inner.kevent(kqueue, changes, events, timeout_ns);
        }
        let timeout_ns = self.begin_wait(timeout_ns);
        let result = self.inner.kevent(kqueue, changes, events, timeout_ns);
        self.end_wait(result)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let waker = self.inner.waker(target)?;
        match self.tamper {
            Some(Tamper { mistake: Mistake::ForgetWakes, at }) => {
                Ok(Arc::new(ForgetfulWaker { waker, left: AtomicU64::new(at) }))
            }
            _ => Ok(waker),
        }
    }

    fn schedule_point(&mut self, site: &'static str) {
        self.inner.schedule_point(site);
    }
}

/// Wakes so many times, and never again.
#[derive(Debug)]
struct ForgetfulWaker {
    waker: Arc<dyn Wake>,
    left: AtomicU64,
}

impl Wake for ForgetfulWaker {
    fn wake(&self) {
        let left = self.left.load(Ordering::SeqCst);
        if left > 0 {
            self.left.store(left - 1, Ordering::SeqCst);
            self.waker.wake();
        }
    }
}
