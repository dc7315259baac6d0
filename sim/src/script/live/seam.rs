//! The calls of the seam, as the loop's own backend makes them; only what they open is written down.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use super::Live;

impl Syscalls for Live {
    fn clock_gettime(&mut self) -> Instant {
        self.system.clock_gettime()
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        let made = self.system.socket(family);
        self.opened(made)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        self.system.setsockopt(fd, option)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.system.bind(fd, address)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        self.system.listen(fd, backlog)
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        let accepted = self.system.accept4(fd)?;
        self.open.insert(accepted.fd);
        Ok(accepted)
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.system.connect(fd, address)
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        self.system.getsockname(fd)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        self.system.take_socket_error(fd)
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.system.recv(fd, buffer)
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.system.send(fd, bytes)
    }

    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.system.sendmsg(fd, segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.system.shutdown(fd, how)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        // Linux frees the number whatever close(2) answers.
        self.open.remove(&fd);
        self.system.close(fd)
    }

    fn readiness(&self) -> Readiness {
        if self.has_kqueue { Readiness::Kqueue } else { self.system.readiness() }
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        let made = self.system.epoll_create1();
        self.opened(made)
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        self.system.epoll_ctl(epoll, operation, fd, mask, data)
    }

    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        self.system.epoll_wait(epoll, events, timeout_ms)
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        let made = self.system.eventfd();
        self.opened(made)
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        self.system.read_eventfd(fd)
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        #[cfg(feature = "libkqueue")]
        if self.has_kqueue {
            let made = super::libkqueue::kqueue();
            return self.opened(made);
        }
        let made = self.system.kqueue();
        self.opened(made)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        self.system.kevent(kqueue, changes, events, timeout_ns)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        self.system.waker(target)
    }

    fn schedule_point(&mut self, site: &'static str) {
        self.system.schedule_point(site);
    }
}
