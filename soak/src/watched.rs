//! Stands between a loop and the kernel: counts descriptors, wake-ups and errors, remembers the last calls, and shifts the
//! clock where uptimes of years are to be met.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Filter, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, System, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use crate::chaos::Exposure;
use crate::machine::Stopwatch;

/// How many calls are remembered.
const LAST_CALLS: usize = 32;

macro_rules! calls {
    ($($name:ident)*) => {
        /// A call of the seam.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types, reason = "the names of the calls")]
        enum Call {
            $($name),*
        }

        impl Call {
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];
        }
    };
}

calls! {
    socket setsockopt bind listen accept4 connect getsockname take_socket_error recv send sendmsg shutdown close
    epoll_create1 epoll_ctl epoll_wait eventfd read_eventfd kqueue kevent
}

/// What the calls of one loop came to; other threads may look at it at any time.
#[derive(Debug)]
pub(crate) struct CallLedger {
    /// Descriptors that were made and not closed. Those of wake handles, which outlive the loop, are not among them.
    open: AtomicI64,
    /// Times that the loop found itself woken by another thread.
    wakes: AtomicU64,
    calls: AtomicU64,
    /// By place in [`Errno::LISTED`]; then the unsupported and the unlisted ones.
    errors: Vec<AtomicU64>,
    last: [AtomicU64; LAST_CALLS],
}

impl Default for CallLedger {
    fn default() -> CallLedger {
        CallLedger {
            open: AtomicI64::new(0),
            wakes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            errors: (0..Errno::LISTED.len() + 2).map(|_| AtomicU64::new(0)).collect(),
            last: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// Answers that only say that a call has to wait.
const fn is_ordinary(error: Errno) -> bool {
    matches!(error, Errno::EAGAIN | Errno::EINPROGRESS)
}

impl CallLedger {
    /// Descriptors that were made and not closed.
    pub(crate) fn open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Times that the loop found itself woken by another thread.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Errors that came, by name, where there were any.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Errno::LISTED.iter().map(|errno| errno.name()).chain(["Unsupported", "Unlisted"]);
        names
            .zip(&self.errors)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
            .filter(|&(_, count)| count > 0)
    }

    /// The last calls in words, the latest last.
    pub(crate) fn last_calls(&self) -> Vec<String> {
        let made = self.calls.load(Ordering::Relaxed);
        let first = made.saturating_sub(LAST_CALLS as u64);
        (first..made)
            .map(|number| {
                let word = self.last[(number % LAST_CALLS as u64) as usize].load(Ordering::Relaxed);
                let name = Call::NAMES[((word >> 56) as usize).min(Call::NAMES.len() - 1)];
                let fd = (word >> 32) & 0xff_ffff;
                let result = word as u32;
                let on = if fd == NO_FD { String::new() } else { format!(" fd{fd}") };
                match result.checked_sub(FIRST_ERROR) {
                    None => format!("{name}{on} = {result}"),
                    Some(place) => {
                        let error =
                            Errno::LISTED.get(place as usize).map_or("other error", |errno| errno.name());
                        format!("{name}{on} = {error}")
                    }
                }
            })
            .collect()
    }

    // Only its own loop writes, so that loads and stores need not be one step.
    fn add(counter: &AtomicU64, more: u64) {
        counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    #[inline]
    fn note<T: AsCount>(&self, call: Call, fd: Option<Fd>, result: &Result<T, Errno>) {
        let number = self.calls.load(Ordering::Relaxed);
        let outcome = match result {
            Ok(value) => value.count().min(FIRST_ERROR - 1),
            Err(error) => self.note_error(*error),
        };
        let fd = fd.map_or(NO_FD, |fd| fd.as_raw() as u64 & 0xff_ffff);
        let word = (call as u64) << 56 | fd << 32 | u64::from(outcome);
        self.last[(number % LAST_CALLS as u64) as usize].store(word, Ordering::Relaxed);
        self.calls.store(number + 1, Ordering::Relaxed);
    }

    fn note_error(&self, error: Errno) -> u32 {
        let listed = Errno::LISTED.iter().position(|&listed| listed == error);
        let place = listed.unwrap_or(Errno::LISTED.len() + usize::from(error != Errno::Unsupported));
        if !is_ordinary(error) {
            CallLedger::add(&self.errors[place], 1);
        }
        FIRST_ERROR + place as u32
    }

    fn opened(&self, more: i64) {
        self.open.store(self.open.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}

/// In a remembered call: no descriptor, and where results end and errors begin.
const NO_FD: u64 = 0xff_ffff;
const FIRST_ERROR: u32 = 1 << 30;

/// What a result comes to as a number.
trait AsCount {
    fn count(&self) -> u32;
}

impl AsCount for () {
    fn count(&self) -> u32 {
        0
    }
}

impl AsCount for usize {
    fn count(&self) -> u32 {
        u32::try_from(*self).unwrap_or(u32::MAX)
    }
}

impl AsCount for u64 {
    fn count(&self) -> u32 {
        u32::try_from(*self).unwrap_or(u32::MAX)
    }
}

impl AsCount for Fd {
    fn count(&self) -> u32 {
        self.as_raw().unsigned_abs()
    }
}

impl AsCount for Accepted {
    fn count(&self) -> u32 {
        self.fd.count()
    }
}

impl AsCount for SocketAddr {
    fn count(&self) -> u32 {
        u32::from(self.port())
    }
}

impl AsCount for Option<Errno> {
    fn count(&self) -> u32 {
        u32::from(self.is_some())
    }
}

impl AsCount for Wait {
    fn count(&self) -> u32 {
        match self {
            Wait::Ready(events) => events.count(),
            Wait::Parked => 0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    ledger: Arc<CallLedger>,
    clock_shift_ns: u64,
    exposure: Option<Exposure>,
}

impl<S: Syscalls> Watched<S> {
    /// Watches `inner`, whose clock is set forward by `clock_shift_ns`. Where there is chaos, sockets get the buffers that
    /// it asks for, and where connections come from is told.
    pub(crate) fn new(
        inner: S,
        ledger: Arc<CallLedger>,
        clock_shift_ns: u64,
        exposure: Option<Exposure>,
    ) -> Watched<S> {
        Watched { inner, ledger, clock_shift_ns, exposure }
    }

    /// Asks for small buffers. Not through `inner`: it is none of the loop's calls.
    fn limit_buffers(&self, fd: Fd) {
        if let Some(bytes) = self.exposure.as_ref().and_then(|exposure| exposure.buffer_bytes) {
            let mut sys = System::new();
            // A system that gives more than was asked for has done nothing wrong.
            let _ = sys.setsockopt(fd, SocketOption::SendBufferBytes(bytes));
            let _ = sys.setsockopt(fd, SocketOption::ReceiveBufferBytes(bytes));
        }
    }

    fn made(&self, call: Call, from: Option<Fd>, result: Result<Fd, Errno>) -> Result<Fd, Errno> {
        self.ledger.note(call, from, &result);
        self.ledger.opened(i64::from(result.is_ok()));
        result
    }
}

/// A call that is passed on and noted.
macro_rules! pass {
    ($self:ident, $call:ident, $fd:expr, $($argument:expr),*) => {{
        let result = $self.inner.$call($($argument),*);
        $self.ledger.note(Call::$call, $fd, &result);
        result
    }};
}

impl<S: Syscalls> Syscalls for Watched<S> {
    fn clock_gettime(&mut self) -> Instant {
        self.inner.clock_gettime().saturating_add_ns(self.clock_shift_ns)
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        let result = self.inner.socket(family);
        if let Ok(fd) = result {
            self.limit_buffers(fd);
        }
        self.made(Call::socket, None, result)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        pass!(self, setsockopt, Some(fd), fd, option)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        pass!(self, bind, Some(fd), fd, address)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        pass!(self, listen, Some(fd), fd, backlog)
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        let result = pass!(self, accept4, Some(fd), fd);
        self.ledger.opened(i64::from(result.is_ok()));
        if let (Some(exposure), Ok(Accepted { fd, peer: Some(peer) })) = (&self.exposure, result) {
            exposure.origins.note(fd, peer, Stopwatch::now_ns());
        }
        result
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        // Before the call: who is connected may be cut at once.
        let begun_ns = self.exposure.as_ref().map(|_| Stopwatch::now_ns());
        let result = pass!(self, connect, Some(fd), fd, address);
        if let (Some(exposure), Some(begun_ns)) = (&self.exposure, begun_ns)
            && let Ok(from) = System::new().getsockname(fd)
        {
            exposure.origins.note(fd, from, begun_ns);
        }
        result
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        pass!(self, getsockname, Some(fd), fd)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        pass!(self, take_socket_error, Some(fd), fd)
    }

    #[inline]
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        pass!(self, recv, Some(fd), fd, buffer)
    }

    #[inline]
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        pass!(self, send, Some(fd), fd, bytes)
    }

    #[inline]
    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        pass!(self, sendmsg, Some(fd), fd, segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        pass!(self, shutdown, Some(fd), fd, how)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        if let Some(exposure) = &self.exposure {
            exposure.origins.forget(fd);
        }
        let result = pass!(self, close, Some(fd), fd);
        // The number is free whatever the answer, but where there was none.
        self.ledger.opened(-i64::from(result != Err(Errno::EBADF)));
        result
    }

    fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.epoll_create1();
        self.made(Call::epoll_create1, None, result)
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        pass!(self, epoll_ctl, Some(fd), epoll, operation, fd, mask, data)
    }

    #[inline]
    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        pass!(self, epoll_wait, Some(epoll), epoll, events, timeout_ms)
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.eventfd();
        self.made(Call::eventfd, None, result)
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        let result = pass!(self, read_eventfd, Some(fd), fd);
        CallLedger::add(&self.ledger.wakes, u64::from(result.is_ok()));
        result
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.kqueue();
        self.made(Call::kqueue, None, result)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let result = self.inner.kevent(kqueue, changes, events, timeout_ns);
        self.ledger.note(Call::kevent, Some(kqueue), &result);
        if let Ok(Wait::Ready(count)) = result {
            let is_wake = |event: &&Kevent| event.filter == Filter::User && event.receipt().is_none();
            let wakes = events[..count].iter().filter(is_wake).count() as u64;
            CallLedger::add(&self.ledger.wakes, wakes);
        }
        result
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        self.inner.waker(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_from_their_making_to_their_close() {
        let ledger = Arc::new(CallLedger::default());
        let mut sys = Watched::new(System::new(), Arc::clone(&ledger), 0, None);
        let first = sys.socket(Family::V4).unwrap();
        let _leaked = sys.socket(Family::V4).unwrap();
        assert_eq!(ledger.open(), 2);
        sys.close(first).unwrap();
        assert_eq!(ledger.open(), 1, "what is not closed is seen");
        assert_eq!(sys.close(Fd::from_raw(1_000_000)), Err(Errno::EBADF));
        assert_eq!(ledger.open(), 1, "what was not open was not closed");
        assert_eq!(ledger.errors().collect::<Vec<_>>(), [("EBADF", 1)]);
        let last = ledger.last_calls();
        assert_eq!(last.len(), 4);
        assert!(last[3].starts_with("close fd") && last[3].ends_with("= EBADF"), "{last:?}");
    }

    #[test]
    fn a_clock_is_set_forward_and_stops_at_its_end() {
        let mut plain = System::new();
        let before = plain.clock_gettime();
        let mut late = Watched::new(System::new(), Arc::default(), 1 << 62, None);
        assert!(late.clock_gettime() >= before.saturating_add_ns(1 << 62));
        let mut last = Watched::new(System::new(), Arc::default(), u64::MAX, None);
        assert_eq!(last.clock_gettime(), Instant::FAR_FUTURE);
    }
}
