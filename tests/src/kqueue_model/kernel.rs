//! A kernel that writes down change lists and answers with whatever event list it is given.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use reactor::sys::{
    Accepted, Errno, Family, Fd, Kevent, Readiness, Shutdown, SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct ListKernel {
    /// The change list of each call since it was last looked at.
    pub(super) seen: Vec<Vec<Kevent>>,
    /// How many events the last call had room for, and how long it was to wait.
    pub(super) room: usize,
    pub(super) timeout_ns: Option<u64>,
    /// What the next calls answer.
    pub(super) events: Vec<Kevent>,
    pub(super) answer: Result<Wait, Errno>,
}

impl Default for ListKernel {
    fn default() -> ListKernel {
        ListKernel {
            seen: Vec::new(),
            room: 0,
            timeout_ns: None,
            events: Vec::new(),
            answer: Ok(Wait::Ready(0)),
        }
    }
}

/// The poller makes no other call.
const OTHER: Errno = Errno::Unsupported;

impl Syscalls for ListKernel {
    fn clock_gettime(&mut self) -> Instant {
        Instant::from_ns(0)
    }

    fn socket(&mut self, _: Family) -> Result<Fd, Errno> {
        Err(OTHER)
    }

    fn setsockopt(&mut self, _: Fd, _: SocketOption) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn bind(&mut self, _: Fd, _: &SocketAddr) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn listen(&mut self, _: Fd, _: u32) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn accept4(&mut self, _: Fd) -> Result<Accepted, Errno> {
        Err(OTHER)
    }

    fn connect(&mut self, _: Fd, _: &SocketAddr) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn getsockname(&mut self, _: Fd) -> Result<SocketAddr, Errno> {
        Err(OTHER)
    }

    fn take_socket_error(&mut self, _: Fd) -> Result<Option<Errno>, Errno> {
        Err(OTHER)
    }

    fn recv(&mut self, _: Fd, _: &mut [u8]) -> Result<usize, Errno> {
        Err(OTHER)
    }

    fn send(&mut self, _: Fd, _: &[u8]) -> Result<usize, Errno> {
        Err(OTHER)
    }

    fn sendmsg(&mut self, _: Fd, _: &[IoSlice<'_>]) -> Result<usize, Errno> {
        Err(OTHER)
    }

    fn shutdown(&mut self, _: Fd, _: Shutdown) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn close(&mut self, _: Fd) -> Result<(), Errno> {
        Err(OTHER)
    }

    fn readiness(&self) -> Readiness {
        Readiness::Kqueue
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        Ok(Fd::from_raw(2))
    }

    fn kevent(
        &mut self,
        _: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        self.seen.push(changes.to_vec());
        (self.room, self.timeout_ns) = (events.len(), timeout_ns);
        for (room, event) in events.iter_mut().zip(&self.events) {
            *room = *event;
        }
        self.answer
    }

    fn waker(&mut self, _: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        Err(OTHER)
    }
}
