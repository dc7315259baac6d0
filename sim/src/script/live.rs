//! The live Linux kernel behind [`Probe`]: scripts run here to check what the simulated kernel is held to.
//!
//! [`Live`] is the seam's own backend, widened by raw calls. The free functions of the modules below each make one call;
//! what is kept between calls - the numbers that a script has opened, the threads that sleep for it - is in [`Live`].

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reactor::sys::{Errno, Fd, Syscalls, System};

use super::probe::{Answer, MessageFlags, PollEntry, Probe, SocketKind, Ticket, WideKevent, WideOption};

mod alarm;
mod descriptor;
mod grant;
#[cfg(feature = "libkqueue")]
mod libkqueue;
mod namespace;
mod option;
mod readiness;
mod seam;
mod signal;
mod sleeper;
mod socket;
mod timer;
mod transfer;

use alarm::Alarm;
use descriptor::DescriptorLimit;
pub(super) use grant::missing;
pub(super) use namespace::apart;
use signal::Handlers;
use sleeper::{Sleeper, Told};

/// Descriptor numbers, the descriptor limit and signal handlers belong to the process, so that one script runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The live Linux kernel, for one script.
///
/// There is one at a time in a process: [`Live::new`] waits until the one before is dropped. Dropping it ends the threads
/// that still wait, closes what the script has left open - sockets by a reset, so that none stays in TIME_WAIT - and
/// puts the descriptor limit and the signal handlers back.
#[derive(Debug)]
pub struct Live {
    system: System,
    /// The numbers that calls have made and that no call has closed.
    open: BTreeSet<Fd>,
    /// By the number in the ticket; `None` once finished.
    sleepers: Vec<Option<Sleeper>>,
    limit: DescriptorLimit,
    /// Before the handlers, which it needs.
    alarm: Option<Alarm>,
    handlers: Handlers,
    /// Whether kqueues are there, through the library.
    has_kqueue: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Live {
    /// The live kernel, with a counting handler for SIGPIPE, an empty one for SIGUSR2, and SIGUSR1 ignored.
    ///
    /// # Errors
    /// What sigaction(2) or getrlimit(2) answers.
    pub fn new() -> Answer<Live> {
        let turn = turn();
        Ok(Live {
            system: System::new(),
            open: BTreeSet::new(),
            sleepers: Vec::new(),
            limit: DescriptorLimit::now()?,
            alarm: None,
            handlers: Handlers::install()?,
            has_kqueue: false,
            _turn: turn,
        })
    }

    /// The live kernel with the kqueues of `libkqueue`, and without epoll in the eyes of a script.
    ///
    /// # Errors
    /// As [`Live::new`]; `Unsupported` without the library.
    #[cfg(feature = "libkqueue")]
    pub fn over_libkqueue() -> Answer<Live> {
        if reactor::sys::libkqueue::missing().is_some() {
            return Err(Errno::Unsupported);
        }
        let mut live = Live::new()?;
        live.has_kqueue = true;
        Ok(live)
    }

    /// Remembers a number that a call has made, to close it in the end.
    fn opened(&mut self, made: Answer<Fd>) -> Answer<Fd> {
        made.inspect(|&fd| {
            self.open.insert(fd);
        })
    }

    /// As [`Live::opened`], for calls that make two.
    fn opened_two(&mut self, made: Answer<(Fd, Fd)>) -> Answer<(Fd, Fd)> {
        made.inspect(|&(first, second)| {
            self.open.extend([first, second]);
        })
    }

    fn sleeper(&self, ticket: &Ticket) -> Option<&Sleeper> {
        self.sleepers.get(ticket.0)?.as_ref()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The threads first: they use the descriptors.
        for sleeper in self.sleepers.iter_mut().filter_map(Option::take) {
            sleeper.end();
        }
        for fd in std::mem::take(&mut self.open) {
            descriptor::discard(fd);
        }
    }
}

/// Waits until what belongs to the process is nobody else's.
fn turn() -> MutexGuard<'static, ()> {
    // A script that panicked has dropped its kernel all the same.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of the call that has just failed on this thread.
fn last_error() -> Errno {
    // `last_os_error` always has a number.
    Errno::from_host_number(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// The result of a call that answers -1 or zero.
fn check(answer: libc::c_int) -> Answer<()> {
    if answer < 0 { Err(last_error()) } else { Ok(()) }
}

/// The result of a call that answers -1 or a descriptor.
fn check_fd(answer: libc::c_int) -> Answer<Fd> {
    if answer < 0 { Err(last_error()) } else { Ok(Fd::from_raw(answer)) }
}

/// The result of a call that answers -1 or a count.
fn check_count(answer: isize) -> Answer<usize> {
    usize::try_from(answer).map_err(|_| last_error())
}

impl Probe for Live {
    fn sleep(&mut self, ns: u64) {
        timer::sleep(ns);
    }

    fn dup(&mut self, fd: Fd) -> Answer<Fd> {
        let made = descriptor::dup(fd);
        self.opened(made)
    }

    fn dup2(&mut self, fd: Fd, to: Fd) -> Answer<Fd> {
        let made = descriptor::dup2(fd, to);
        self.opened(made)
    }

    fn socket_of(&mut self, kind: SocketKind) -> Answer<Fd> {
        let made = socket::socket(kind);
        self.opened(made)
    }

    fn socketpair(&mut self) -> Answer<(Fd, Fd)> {
        let made = socket::socketpair();
        self.opened_two(made)
    }

    fn accept_wide(&mut self, fd: Fd, non_blocking: bool, bad_flags: bool) -> Answer<Fd> {
        let made = socket::accept(fd, non_blocking, bad_flags);
        self.opened(made)
    }

    fn bind_malformed(&mut self, fd: Fd, wrong_family: bool) -> Answer<()> {
        socket::bind_malformed(fd, wrong_family)
    }

    fn listen_wide(&mut self, fd: Fd, backlog: i32) -> Answer<()> {
        socket::listen(fd, backlog)
    }

    fn disconnect(&mut self, fd: Fd) -> Answer<()> {
        socket::disconnect(fd)
    }

    fn getpeername(&mut self, fd: Fd) -> Answer<SocketAddr> {
        socket::getpeername(fd)
    }

    fn shutdown_wide(&mut self, fd: Fd, how: i32) -> Answer<()> {
        socket::shutdown(fd, how)
    }

    fn option(&mut self, fd: Fd, option: WideOption) -> Answer<i64> {
        option::get(fd, option)
    }

    fn set_option(&mut self, fd: Fd, option: WideOption, value: i64) -> Answer<()> {
        option::set(fd, option, value)
    }

    fn recv_wide(&mut self, fd: Fd, length: usize, flags: MessageFlags) -> Answer<Vec<u8>> {
        transfer::recv(fd, length, flags)
    }

    fn send_wide(&mut self, fd: Fd, bytes: &[u8], flags: MessageFlags) -> Answer<usize> {
        transfer::send(fd, bytes, flags)
    }

    fn writev(&mut self, fd: Fd, segments: i32, length: usize) -> Answer<usize> {
        transfer::writev(fd, segments, length)
    }

    fn sendmsg_wide(&mut self, fd: Fd, segments: usize, length: usize) -> Answer<usize> {
        transfer::sendmsg(fd, segments, length)
    }

    fn read(&mut self, fd: Fd, length: usize) -> Answer<Vec<u8>> {
        transfer::read(fd, length)
    }

    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Answer<usize> {
        transfer::write(fd, bytes)
    }

    fn send_descriptor(&mut self, fd: Fd, passed: Fd) -> Answer<()> {
        transfer::send_descriptor(fd, passed)
    }

    fn receive_descriptor(&mut self, fd: Fd) -> Answer<Fd> {
        let made = transfer::receive_descriptor(fd);
        self.opened(made)
    }

    fn eventfd_wide(&mut self, initial: u32, semaphore: bool) -> Answer<Fd> {
        let made = descriptor::eventfd(initial, semaphore);
        self.opened(made)
    }

    fn pipe(&mut self) -> Answer<(Fd, Fd)> {
        let made = descriptor::pipe();
        self.opened_two(made)
    }

    fn timerfd(&mut self) -> Answer<Fd> {
        let made = timer::timerfd();
        self.opened(made)
    }

    fn timerfd_set(&mut self, fd: Fd, value_ns: i64, interval_ns: i64, absolute: bool) -> Answer<()> {
        let now = absolute.then(|| self.system.clock_gettime());
        timer::set(fd, value_ns, interval_ns, now)
    }

    fn timerfd_get(&mut self, fd: Fd) -> Answer<(u64, u64)> {
        timer::get(fd)
    }

    fn file(&mut self, bytes: &[u8]) -> Answer<Fd> {
        let made = descriptor::file(bytes);
        self.opened(made)
    }

    fn seek(&mut self, fd: Fd, offset: u64) -> Answer<u64> {
        descriptor::seek(fd, offset)
    }

    fn sendfile(&mut self, to: Fd, from: Fd, length: usize) -> Answer<usize> {
        transfer::sendfile(to, from, length)
    }

    fn epoll_create_wide(&mut self, size: Option<i32>, flags: i32) -> Answer<Fd> {
        let made = readiness::epoll_create(size, flags);
        self.opened(made)
    }

    fn epoll_ctl_wide(&mut self, epoll: Fd, operation: i32, fd: Fd, event: Option<(u32, u64)>) -> Answer<()> {
        readiness::epoll_ctl(epoll, operation, fd, event)
    }

    fn epoll_wait_wide(&mut self, epoll: Fd, room: i32, timeout_ms: i32) -> Answer<Vec<(u32, u64)>> {
        readiness::epoll_wait(epoll, room, timeout_ms)
    }

    fn epoll_pwait2(&mut self, epoll: Fd, room: i32, timeout: Option<(i64, i64)>) -> Answer<Vec<(u32, u64)>> {
        readiness::epoll_pwait2(epoll, room, timeout)
    }

    fn poll(&mut self, entries: &[PollEntry], timeout_ms: i32) -> Answer<Vec<PollEntry>> {
        readiness::poll(entries, timeout_ms)
    }

    fn select(&mut self, sets: [&[Fd]; 3], timeout_ms: i32) -> Answer<[Vec<Fd>; 3]> {
        readiness::select(sets, timeout_ms)
    }

    fn kevent_wide(
        &mut self,
        kqueue: Fd,
        changes: &[WideKevent],
        room: i32,
        timeout: Option<(i64, i64)>,
    ) -> Answer<Vec<WideKevent>> {
        #[cfg(feature = "libkqueue")]
        if self.has_kqueue {
            return libkqueue::kevent_wide(kqueue, changes, room, timeout);
        }
        let _ = (kqueue, changes, room, timeout);
        Err(Errno::Unsupported)
    }

    fn start_wait(&mut self, set: Fd, room: i32, timeout_ms: i32) -> Answer<Ticket> {
        let ticket = Ticket(self.sleepers.len());
        let has_kqueue = self.has_kqueue;
        let sleeper = Sleeper::start(ticket.0, &self.limit, move || {
            #[cfg(feature = "libkqueue")]
            if has_kqueue {
                return libkqueue::wait(set, room, timeout_ms).map(Told::Kqueue);
            }
            let _ = has_kqueue;
            readiness::epoll_wait(set, room, timeout_ms).map(Told::Epoll)
        })?;
        self.sleepers.push(Some(sleeper));
        Ok(ticket)
    }

    fn is_over(&mut self, ticket: &Ticket) -> bool {
        self.sleeper(ticket).is_none_or(|sleeper| sleeper.is_over(&self.limit))
    }

    fn finish_wait(&mut self, ticket: Ticket) -> Answer<Vec<(u32, u64)>> {
        match self.sleepers.get_mut(ticket.0).and_then(Option::take).ok_or(Errno::ENOENT)?.finish()? {
            Told::Epoll(events) => Ok(events),
            Told::Kqueue(_) => Err(Errno::Unsupported),
        }
    }

    fn finish_kevent(&mut self, ticket: Ticket) -> Answer<Vec<WideKevent>> {
        match self.sleepers.get_mut(ticket.0).and_then(Option::take).ok_or(Errno::ENOENT)?.finish()? {
            Told::Kqueue(events) => Ok(events),
            Told::Epoll(_) => Err(Errno::Unsupported),
        }
    }

    fn limit_descriptors(&mut self, limit: Option<usize>) -> Answer<()> {
        self.limit.set(limit)
    }

    fn pipe_signals(&mut self) -> u64 {
        self.handlers.pipe_signals()
    }

    fn interrupt(&mut self, ticket: &Ticket) -> Answer<()> {
        self.sleeper(ticket).ok_or(Errno::ENOENT)?.interrupt(&self.limit)
    }

    fn raise_ignored(&mut self) -> Answer<()> {
        signal::raise_ignored()
    }

    fn set_alarm(&mut self, after_ns: u64) -> Answer<()> {
        self.alarm = None;
        self.alarm = Some(Alarm::set(after_ns)?);
        Ok(())
    }

    fn send_to(&mut self, fd: Fd, bytes: &[u8], address: &SocketAddr) -> Answer<usize> {
        transfer::send_to(fd, bytes, address)
    }

    fn set_ports(&mut self, low: u16, high: u16) -> Answer<()> {
        namespace::set_ports(low, high)
    }

    fn set_loopback(&mut self, up: bool) -> Answer<()> {
        namespace::set_loopback(up)
    }
}
