//! The seam of a loop that is recorded: each call is made as ever, and taken down with its result.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use super::entry::{Call, put_address, put_epoll_event, put_kevent, word_of_error};
use super::journal::Journal;
use super::words;
use crate::trace::{CallKind, Outcome};

/// See the module.
#[derive(Debug)]
pub struct Recorder<S> {
    inner: S,
    journal: Journal,
    /// For what is put together before it is taken down.
    asked: Vec<u8>,
    given: Vec<u8>,
}

impl<S: Syscalls> Recorder<S> {
    /// Records the calls that are made of `inner`.
    pub fn new(inner: S, journal: Journal) -> Recorder<S> {
        Recorder { inner, journal, asked: Vec::new(), given: Vec::new() }
    }

    #[inline]
    fn note<R>(
        &self,
        kind: CallKind,
        fd: i32,
        arguments: [u64; 2],
        result: &Result<R, Errno>,
        value: impl FnOnce(&R) -> u64,
    ) {
        let outcome = outcome(result, value);
        self.journal.call(&Call { kind, fd, arguments, asked: &[], outcome, given: &[], stretch: None });
    }

    fn begin_stream(&self, made: &Result<Fd, Errno>) {
        if let Ok(fd) = made {
            self.journal.begin_stream(*fd);
        }
    }

    fn note_address(&mut self, kind: CallKind, fd: Fd, address: &SocketAddr, result: Result<(), Errno>) {
        self.asked.clear();
        put_address(&mut self.asked, address);
        let (arguments, outcome) = (words::address(address), outcome(&result, |()| 0));
        let asked = &self.asked;
        self.journal.call(&Call {
            kind,
            fd: fd.as_raw(),
            arguments,
            asked,
            outcome,
            given: &[],
            stretch: None,
        });
    }
}

#[inline]
fn outcome<R>(result: &Result<R, Errno>, value: impl FnOnce(&R) -> u64) -> Outcome {
    match result {
        Ok(result) => Outcome::Value(value(result)),
        Err(error) => Outcome::Error(*error),
    }
}

impl<S: Syscalls> Syscalls for Recorder<S> {
    #[inline]
    fn clock_gettime(&mut self) -> Instant {
        let now = self.inner.clock_gettime();
        self.note(CallKind::ClockGettime, -1, [0; 2], &Ok(now), |now| now.as_ns());
        now
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        let result = self.inner.socket(family);
        self.note(CallKind::Socket, -1, words::family(family), &result, words::fd);
        self.begin_stream(&result);
        result
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        let result = self.inner.setsockopt(fd, option);
        self.note(CallKind::Setsockopt, fd.as_raw(), words::option(option), &result, |()| 0);
        result
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        let result = self.inner.bind(fd, address);
        self.note_address(CallKind::Bind, fd, address, result);
        result
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        let result = self.inner.listen(fd, backlog);
        self.note(CallKind::Listen, fd.as_raw(), [u64::from(backlog), 0], &result, |()| 0);
        result
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        let result = self.inner.accept4(fd);
        self.given.clear();
        if let Ok(Accepted { peer: Some(peer), .. }) = &result {
            put_address(&mut self.given, peer);
        }
        let outcome = outcome(&result, |accepted| words::fd(&accepted.fd));
        self.journal.call(&Call {
            kind: CallKind::Accept4,
            fd: fd.as_raw(),
            arguments: [0; 2],
            asked: &[],
            outcome,
            given: &self.given,
            stretch: None,
        });
        self.begin_stream(&result.map(|accepted| accepted.fd));
        result
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        let result = self.inner.connect(fd, address);
        self.note_address(CallKind::Connect, fd, address, result);
        result
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        let result = self.inner.getsockname(fd);
        self.given.clear();
        if let Ok(address) = &result {
            put_address(&mut self.given, address);
        }
        let outcome = outcome(&result, |address| words::address(address)[0]);
        self.journal.call(&Call {
            kind: CallKind::Getsockname,
            fd: fd.as_raw(),
            arguments: [0; 2],
            asked: &[],
            outcome,
            given: &self.given,
            stretch: None,
        });
        result
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        let result = self.inner.take_socket_error(fd);
        let value = |error: &Option<Errno>| word_of_error(*error);
        self.note(CallKind::TakeSocketError, fd.as_raw(), [0; 2], &result, value);
        result
    }

    #[inline]
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let result = self.inner.recv(fd, buffer);
        self.journal.received(fd, buffer, result);
        result
    }

    #[inline]
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        let result = self.inner.send(fd, bytes);
        let sum = words::checksum(&[IoSlice::new(bytes)], result.unwrap_or(0));
        self.journal.call(&Call {
            kind: CallKind::Send,
            fd: fd.as_raw(),
            arguments: words::send(bytes),
            asked: &sum,
            outcome: outcome(&result, |&length| length as u64),
            given: &[],
            stretch: None,
        });
        result
    }

    #[inline]
    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let result = self.inner.sendmsg(fd, segments);
        let sum = words::checksum(segments, result.unwrap_or(0));
        self.journal.call(&Call {
            kind: CallKind::Sendmsg,
            fd: fd.as_raw(),
            arguments: words::sendmsg(segments),
            asked: &sum,
            outcome: outcome(&result, |&length| length as u64),
            given: &[],
            stretch: None,
        });
        result
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        let result = self.inner.shutdown(fd, how);
        self.note(CallKind::Shutdown, fd.as_raw(), words::shutdown(how), &result, |()| 0);
        result
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        let result = self.inner.close(fd);
        if std::thread::panicking() {
            // The loop is being dropped; its log ends with the panic.
            return result;
        }
        self.note(CallKind::Close, fd.as_raw(), [0; 2], &result, |()| 0);
        result
    }

    fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.epoll_create1();
        self.note(CallKind::EpollCreate1, -1, [0; 2], &result, words::fd);
        result
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        let result = self.inner.epoll_ctl(epoll, operation, fd, mask, data);
        let arguments = words::epoll_ctl(operation, fd, mask, data);
        self.note(CallKind::EpollCtl, epoll.as_raw(), arguments, &result, |()| 0);
        result
    }

    #[inline]
    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        let result = self.inner.epoll_wait(epoll, events, timeout_ms);
        self.given.clear();
        events[..words::ready(result)].iter().for_each(|event| put_epoll_event(&mut self.given, event));
        self.journal.call(&Call {
            kind: CallKind::EpollWait,
            fd: epoll.as_raw(),
            arguments: words::epoll_wait(timeout_ms, events.len()),
            asked: &[],
            outcome: outcome(&result, |_| words::ready(result) as u64),
            given: &self.given,
            stretch: None,
        });
        result
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.eventfd();
        self.note(CallKind::Eventfd, -1, [0; 2], &result, words::fd);
        result
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        let result = self.inner.read_eventfd(fd);
        self.note(CallKind::ReadEventfd, fd.as_raw(), [0; 2], &result, |&sum| sum);
        result
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        let result = self.inner.kqueue();
        self.note(CallKind::Kqueue, -1, [0; 2], &result, words::fd);
        result
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let result = self.inner.kevent(kqueue, changes, events, timeout_ns);
        self.asked.clear();
        changes.iter().for_each(|change| put_kevent(&mut self.asked, change));
        self.given.clear();
        events[..words::ready(result)].iter().for_each(|event| put_kevent(&mut self.given, event));
        self.journal.call(&Call {
            kind: CallKind::Kevent,
            fd: kqueue.as_raw(),
            arguments: words::kevent(timeout_ns, changes.len()),
            asked: &self.asked,
            outcome: outcome(&result, |_| words::ready(result) as u64),
            given: &self.given,
            stretch: None,
        });
        result
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let result = self.inner.waker(target);
        let (fd, arguments) = words::waker(target);
        self.note(CallKind::Waker, fd.as_raw(), arguments, &result, |_| 0);
        result
    }

    fn schedule_point(&mut self, site: &'static str) {
        self.inner.schedule_point(site);
    }
}
