//! This project's loop, and the counting of its system calls at the seam.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reactor::sys::{
    Accepted, Congestion, EpollMask, EpollOperation, Errno, Family, Fd, Readiness, Shutdown, SocketOption,
    Syscalls, System, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;
use reactor::{Config, Context, Handler, ListenOptions, Origin, Reactor, Token};

use crate::servers::{EVENTS_PER_WAIT, READ_BYTES, count, count_registration};

/// Sends back what arrives.
#[derive(Debug)]
pub(crate) struct Echo;

impl Handler for Echo {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        // Refused when the connection is over; then nobody waits for the bytes.
        let _ = ctx.write(token, bytes);
        bytes.len()
    }
}

/// Serves for ever.
pub(super) fn serve<const COUNT: bool>(announce: impl Fn(u16)) -> io::Result<()> {
    let config = Config { read_bytes: READ_BYTES, events_per_wait: EVENTS_PER_WAIT, ..Config::default() };
    let broken = |error: Errno| io::Error::other(error);
    let mut server = Reactor::new(Counting::<COUNT>(System::new()), config, Echo).map_err(broken)?;
    let mut options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
    options.options.push(SocketOption::Congestion(Congestion::Cubic));
    let listener = server.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &options, 0).map_err(broken)?;
    announce(server.local_address(listener).map_err(broken)?.port());
    server.run().map_err(broken)
}

/// The real kernel; each call is counted if `COUNT`. Reading the clock is none: the kernel's page answers it.
#[derive(Debug)]
pub(crate) struct Counting<const COUNT: bool>(pub System);

impl<const COUNT: bool> Syscalls for Counting<COUNT> {
    #[inline]
    fn clock_gettime(&mut self) -> Instant {
        self.0.clock_gettime()
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        count::<COUNT>();
        self.0.socket(family)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.setsockopt(fd, option)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.bind(fd, address)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.listen(fd, backlog)
    }

    #[inline]
    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        count::<COUNT>();
        self.0.accept4(fd)
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.connect(fd, address)
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        count::<COUNT>();
        self.0.getsockname(fd)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        count::<COUNT>();
        self.0.take_socket_error(fd)
    }

    #[inline]
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        count::<COUNT>();
        self.0.recv(fd, buffer)
    }

    #[inline]
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        count::<COUNT>();
        self.0.send(fd, bytes)
    }

    #[inline]
    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        count::<COUNT>();
        self.0.sendmsg(fd, segments)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.shutdown(fd, how)
    }

    #[inline]
    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        count::<COUNT>();
        self.0.close(fd)
    }

    fn readiness(&self) -> Readiness {
        self.0.readiness()
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        count::<COUNT>();
        self.0.epoll_create1()
    }

    #[inline]
    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        count_registration::<COUNT>();
        self.0.epoll_ctl(epoll, operation, fd, mask, data)
    }

    #[inline]
    fn epoll_wait(
        &mut self,
        epoll: Fd,
        events: &mut [reactor::sys::EpollEvent],
        timeout_ms: i32,
    ) -> Result<Wait, Errno> {
        count::<COUNT>();
        self.0.epoll_wait(epoll, events, timeout_ms)
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        count::<COUNT>();
        self.0.eventfd()
    }

    #[inline]
    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        count::<COUNT>();
        self.0.read_eventfd(fd)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        self.0.waker(target)
    }
}
