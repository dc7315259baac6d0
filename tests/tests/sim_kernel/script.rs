//! A tiny language for facts: one thread on one host, delivery at once, every wait with its answer.

use std::net::SocketAddr;

use reactor::sys::{EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, SocketOption, Syscalls, Wait};
use reactor::time::Instant;
use sim::{Decisions, Kernel, Latency, SharedWorld, SimSyscalls, Step, Swarm, WorldOptions};

pub const IN: EpollMask = EpollMask::IN;
pub const OUT: EpollMask = EpollMask::OUT;
pub const RDH: EpollMask = EpollMask::RDHUP;
pub const HUP: EpollMask = EpollMask::HUP;
pub const ERR: EpollMask = EpollMask::ERR;
pub const ET: EpollMask = EpollMask::ET;
pub const ONESHOT: EpollMask = EpollMask::ONESHOT;
pub const FULL: EpollMask = IN.union(OUT).union(RDH);
pub const NOTHING: [(u64, EpollMask); 0] = [];

/// A world whose network takes no time, and one thread in it.
pub fn synchronous(kernel: Kernel, buffer_bytes: Option<u64>) -> SimSyscalls {
    let mut swarm = Swarm::calm(Latency::constant(0));
    swarm.wake = Latency::constant(0);
    let options = WorldOptions { swarm: Some(swarm), buffer_bytes, ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::zeros());
    let host = world.add_host(kernel);
    world.add_thread(host)
}

pub fn linux() -> SimSyscalls {
    synchronous(Kernel::Linux, None)
}

pub fn linux_with_buffers(bytes: u64) -> SimSyscalls {
    synchronous(Kernel::Linux, Some(bytes))
}

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What facts are told with.
pub trait Script {
    fn listener(&mut self, port: u16, backlog: u32) -> Fd;
    fn fresh(&mut self) -> Fd;
    fn connecting(&mut self, port: u16) -> Fd;
    /// A connected pair: the side that connected, the side that accepted.
    fn pair(&mut self) -> (Fd, Fd);
    /// A new epoll instance that watches `fd`; its data is the descriptor's number.
    fn epoll_of(&mut self, fd: Fd, mask: EpollMask) -> Fd;
    fn add(&mut self, epoll: Fd, fd: Fd, mask: EpollMask);
    /// What a wait with timeout 0 and room for `room` reports.
    fn wait_for(&mut self, epoll: Fd, room: usize) -> Vec<(u64, EpollMask)>;
    fn wait_now(&mut self, epoll: Fd) -> Vec<(u64, EpollMask)>;
    /// The bits of the only descriptor that `epoll` watches; empty for no event.
    fn edge(&mut self, epoll: Fd) -> EpollMask;
    /// The bits of a descriptor under a level-triggered full mask.
    fn bits(&mut self, fd: Fd) -> EpollMask;
    /// A wait that may sleep, to its end.
    fn sleep_in(&mut self, epoll: Fd, timeout_ms: i32) -> Result<Vec<(u64, EpollMask)>, Errno>;
    fn pass(&mut self, ms: i32);
    fn fill(&mut self, fd: Fd) -> usize;
    fn recv_all(&mut self, fd: Fd) -> usize;
    fn recv_some(&mut self, fd: Fd, bytes: usize) -> Result<usize, Errno>;
    fn reset_close(&mut self, fd: Fd);
    fn error(&mut self, fd: Fd) -> Option<Errno>;
    fn now_ns(&mut self) -> u64;
}

impl Script for SimSyscalls {
    fn listener(&mut self, port: u16, backlog: u32) -> Fd {
        let listener = self.fresh();
        self.bind(listener, &address(port)).unwrap();
        self.listen(listener, backlog).unwrap();
        listener
    }

    fn fresh(&mut self) -> Fd {
        self.socket(Family::V4).unwrap()
    }

    fn connecting(&mut self, port: u16) -> Fd {
        let client = self.fresh();
        assert_eq!(self.connect(client, &address(port)), Err(Errno::EINPROGRESS));
        client
    }

    fn pair(&mut self) -> (Fd, Fd) {
        let listener = self.listener(0, 16);
        let port = self.getsockname(listener).unwrap().port();
        let client = self.connecting(port);
        let server = self.accept4(listener).unwrap().fd;
        self.close(listener).unwrap();
        (client, server)
    }

    fn epoll_of(&mut self, fd: Fd, mask: EpollMask) -> Fd {
        let epoll = self.epoll_create1().unwrap();
        self.add(epoll, fd, mask);
        epoll
    }

    fn add(&mut self, epoll: Fd, fd: Fd, mask: EpollMask) {
        let data = u64::try_from(fd.as_raw()).unwrap();
        self.epoll_ctl(epoll, EpollOperation::Add, fd, mask, data).unwrap();
    }

    fn wait_for(&mut self, epoll: Fd, room: usize) -> Vec<(u64, EpollMask)> {
        let mut events = vec![EpollEvent::default(); room];
        match self.epoll_wait(epoll, &mut events, 0).unwrap() {
            Wait::Ready(count) => events[..count].iter().map(told).collect(),
            Wait::Parked => panic!("a wait with timeout 0 never sleeps"),
        }
    }

    fn wait_now(&mut self, epoll: Fd) -> Vec<(u64, EpollMask)> {
        self.wait_for(epoll, 16)
    }

    fn edge(&mut self, epoll: Fd) -> EpollMask {
        let events = self.wait_now(epoll);
        assert!(events.len() <= 1, "{events:?}");
        events.first().map_or(EpollMask::empty(), |event| event.1)
    }

    fn bits(&mut self, fd: Fd) -> EpollMask {
        let epoll = self.epoll_of(fd, FULL);
        let bits = self.edge(epoll);
        self.close(epoll).unwrap();
        bits
    }

    fn sleep_in(&mut self, epoll: Fd, timeout_ms: i32) -> Result<Vec<(u64, EpollMask)>, Errno> {
        let mut events = vec![EpollEvent::default(); 16];
        loop {
            match self.epoll_wait(epoll, &mut events, timeout_ms)? {
                Wait::Ready(count) => return Ok(events[..count].iter().map(told).collect()),
                Wait::Parked => loop {
                    match self.world().step(Instant::FAR_FUTURE) {
                        Step::Run(thread) => {
                            assert_eq!(thread, self.thread());
                            break;
                        }
                        Step::Actor(_) => {}
                        step => panic!("the wait never ends: {step:?}"),
                    }
                },
            }
        }
    }

    fn pass(&mut self, ms: i32) {
        let epoll = self.epoll_create1().unwrap();
        assert_eq!(self.sleep_in(epoll, ms), Ok(Vec::new()));
        self.close(epoll).unwrap();
    }

    fn fill(&mut self, fd: Fd) -> usize {
        let block = [7; 60_000];
        let mut sent = 0;
        loop {
            match self.send(fd, &block) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    return sent;
                }
            }
        }
    }

    fn recv_all(&mut self, fd: Fd) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let mut received = 0;
        while let Ok(count @ 1..) = self.recv(fd, &mut buffer) {
            received += count;
        }
        received
    }

    fn recv_some(&mut self, fd: Fd, bytes: usize) -> Result<usize, Errno> {
        self.recv(fd, &mut vec![0; bytes])
    }

    fn reset_close(&mut self, fd: Fd) {
        self.setsockopt(fd, SocketOption::ResetOnClose(true)).unwrap();
        self.close(fd).unwrap();
    }

    fn error(&mut self, fd: Fd) -> Option<Errno> {
        self.take_socket_error(fd).unwrap()
    }

    fn now_ns(&mut self) -> u64 {
        self.clock_gettime().as_ns()
    }
}

fn told(event: &EpollEvent) -> (u64, EpollMask) {
    let (bits, data) = (event.events, event.data);
    (data, EpollMask::from_bits_retain(bits))
}
