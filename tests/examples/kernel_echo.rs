//! The echo scenario on the bare simulated kernel, for profiling: one server, 100 clients, each on a host of its own,
//! 64-byte messages, 1 to 100 ms per segment. Prints calls and messages; time it from outside.
//!
//! `cargo run --release -p tests --example kernel_echo -- 1000`: round trips per client.

use std::net::SocketAddr;

use reactor::sys::{EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, SocketOption, Syscalls, Wait};
use reactor::time::Instant;
use sim::{Decisions, Kernel, Latency, SharedWorld, SimSyscalls, Step, Weather, WorldOptions};

const CLIENTS: u32 = 100;
const MASK: EpollMask = EpollMask::IN.union(EpollMask::RDHUP).union(EpollMask::ET);

struct Endpoint {
    sys: SimSyscalls,
    epoll: Fd,
    /// The listener of the server, the connection of a client.
    fd: Fd,
    round_trips_left: u32,
}

impl Endpoint {
    fn server_turn(&mut self, events: &mut [EpollEvent]) -> u64 {
        let Ok(Wait::Ready(count)) = self.sys.epoll_wait(self.epoll, events, -1) else { return 0 };
        let mut messages = 0;
        for event in &events[..count] {
            let fd = Fd::from_raw(event.data as i32);
            if fd == self.fd {
                while let Ok(accepted) = self.sys.accept4(fd) {
                    let data = accepted.fd.as_raw() as u64;
                    self.sys.setsockopt(accepted.fd, SocketOption::NoDelay(true)).unwrap();
                    self.sys.epoll_ctl(self.epoll, EpollOperation::Add, accepted.fd, MASK, data).unwrap();
                }
                continue;
            }
            let mut buffer = [0; 1024];
            let length = self.sys.recv(fd, &mut buffer);
            if let Ok(length @ 1..) = length {
                self.sys.send(fd, &buffer[..length]).unwrap();
                messages += length as u64 / 64;
            }
        }
        messages
    }

    fn client_turn(&mut self, events: &mut [EpollEvent]) -> u64 {
        let Ok(Wait::Ready(_)) = self.sys.epoll_wait(self.epoll, events, -1) else { return 0 };
        let mut buffer = [0; 1024];
        let received = self.sys.recv(self.fd, &mut buffer);
        if self.round_trips_left > 0 {
            self.round_trips_left -= 1;
            self.sys.send(self.fd, &[self.round_trips_left as u8; 64]).unwrap();
        } else {
            self.sys.world().finish_thread(self.sys.thread());
        }
        u64::from(received.is_ok())
    }
}

fn main() {
    let round_trips = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000);
    let latency = Some(Latency { min_ns: 1_000_000, max_ns: 100_000_000 });
    let options = WorldOptions { weather: Weather::Calm, latency, ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::from_seed(1));
    let server_host = world.add_host(Kernel::Linux);
    let address = SocketAddr::from((world.address(server_host), 80));
    let mut endpoints: Vec<Endpoint> = (0..=CLIENTS)
        .map(|index| {
            let host = if index == 0 { server_host } else { world.add_host(Kernel::Linux) };
            let mut sys = world.add_thread(host);
            let epoll = sys.epoll_create1().unwrap();
            let fd = sys.socket(Family::V4).unwrap();
            if index == 0 {
                sys.bind(fd, &address).unwrap();
                sys.listen(fd, 128).unwrap();
                sys.epoll_ctl(epoll, EpollOperation::Add, fd, MASK, fd.as_raw() as u64).unwrap();
            } else {
                sys.setsockopt(fd, SocketOption::NoDelay(true)).unwrap();
                assert_eq!(sys.connect(fd, &address), Err(Errno::EINPROGRESS));
                sys.epoll_ctl(epoll, EpollOperation::Add, fd, MASK | EpollMask::OUT, 1).unwrap();
            }
            Endpoint { sys, epoll, fd, round_trips_left: round_trips }
        })
        .collect();
    let mut events = [EpollEvent::default(); 128];
    let mut messages = 0;
    while let Step::Run(thread) = world.step(Instant::FAR_FUTURE) {
        let endpoint = &mut endpoints[thread.0 as usize];
        messages +=
            if thread.0 == 0 { endpoint.server_turn(&mut events) } else { endpoint.client_turn(&mut events) };
    }
    println!("{} calls, {messages} messages, hash {:#018x}", world.steps(), world.trace_hash());
}
