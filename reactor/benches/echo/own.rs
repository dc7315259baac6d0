//! The loop's own time: 64 connections over a kernel that answers at once, so that nothing but the loop is measured. It
//! does not drift, and `valgrind --tool=callgrind` can count its instructions.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Readiness, Shutdown, SocketOption,
    Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;
use reactor::{Config, ListenOptions, Reactor};

use crate::os;
use crate::servers::Echo;

const CONNECTIONS: usize = 64;
const MESSAGE_BYTES: usize = 64;

#[derive(Debug)]
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A kernel in which every connection has one message at every wait, and room for every answer.
#[derive(Debug, Default)]
struct Instantly {
    descriptors: i32,
    accepts_left: usize,
    /// The words of the listener and of the connections; the waker's is left out.
    listener: Option<u64>,
    connections: Vec<u64>,
    clock_ns: u64,
}

impl Instantly {
    fn descriptor(&mut self) -> Fd {
        self.descriptors += 1;
        Fd::from_raw(self.descriptors)
    }
}

impl Syscalls for Instantly {
    fn clock_gettime(&mut self) -> Instant {
        self.clock_ns += 1000;
        Instant::from_ns(self.clock_ns)
    }

    fn socket(&mut self, _: Family) -> Result<Fd, Errno> {
        Ok(self.descriptor())
    }

    fn setsockopt(&mut self, _: Fd, _: SocketOption) -> Result<(), Errno> {
        Ok(())
    }

    fn bind(&mut self, _: Fd, _: &SocketAddr) -> Result<(), Errno> {
        Ok(())
    }

    fn listen(&mut self, _: Fd, _: u32) -> Result<(), Errno> {
        Ok(())
    }

    fn accept4(&mut self, _: Fd) -> Result<Accepted, Errno> {
        self.accepts_left = self.accepts_left.checked_sub(1).ok_or(Errno::EAGAIN)?;
        let peer = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        Ok(Accepted { fd: self.descriptor(), peer })
    }

    fn connect(&mut self, _: Fd, _: &SocketAddr) -> Result<(), Errno> {
        Err(Errno::ECONNREFUSED)
    }

    fn getsockname(&mut self, _: Fd) -> Result<SocketAddr, Errno> {
        Err(Errno::ENOTSOCK)
    }

    fn take_socket_error(&mut self, _: Fd) -> Result<Option<Errno>, Errno> {
        Ok(None)
    }

    #[inline(never)]
    fn recv(&mut self, _: Fd, _: &mut [u8]) -> Result<usize, Errno> {
        Ok(MESSAGE_BYTES)
    }

    #[inline(never)]
    fn send(&mut self, _: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        Ok(bytes.len())
    }

    fn sendmsg(&mut self, _: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        Ok(segments.iter().map(|segment| segment.len()).sum())
    }

    fn shutdown(&mut self, _: Fd, _: Shutdown) -> Result<(), Errno> {
        Ok(())
    }

    fn close(&mut self, _: Fd) -> Result<(), Errno> {
        Ok(())
    }

    fn readiness(&self) -> Readiness {
        Readiness::Epoll
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        Ok(self.descriptor())
    }

    fn epoll_ctl(
        &mut self,
        _: Fd,
        _: EpollOperation,
        _: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        if mask.contains(EpollMask::RDHUP) {
            self.connections.push(data);
        } else {
            // The waker comes first, the listener later.
            self.listener = Some(data);
        }
        Ok(())
    }

    fn epoll_wait(&mut self, _: Fd, events: &mut [EpollEvent], _: i32) -> Result<Wait, Errno> {
        if self.accepts_left > 0 {
            let data = self.listener.expect("the listener is registered");
            events[0] = EpollEvent { events: EpollMask::IN.bits(), data };
            return Ok(Wait::Ready(1));
        }
        for (event, data) in events.iter_mut().zip(&self.connections) {
            *event = EpollEvent { events: EpollMask::IN.bits(), data: *data };
        }
        Ok(Wait::Ready(self.connections.len().min(events.len())))
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        Ok(self.descriptor())
    }

    fn waker(&mut self, _: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        Ok(Arc::new(NoWake))
    }
}

/// Nanoseconds of processor time per message, the best of ten passes of `messages` each.
pub(crate) fn ns_per_message(messages: u64) -> f64 {
    let kernel = Instantly { accepts_left: CONNECTIONS, ..Instantly::default() };
    let mut server = Reactor::new(kernel, Config::default(), Echo).expect("this kernel refuses nothing");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    server.listen(address, &ListenOptions::default(), 0).expect("this kernel refuses nothing");
    let mut pass = |messages: u64| {
        let target = server.counters().writes + messages;
        let (begin, first) = (os::processor_ns(), server.counters().writes);
        while server.counters().writes < target {
            server.turn().expect("this kernel never fails");
        }
        (os::processor_ns() - begin) as f64 / (server.counters().writes - first) as f64
    };
    pass(messages / 10);
    (0..10).map(|_| pass(messages)).fold(f64::INFINITY, f64::min)
}
