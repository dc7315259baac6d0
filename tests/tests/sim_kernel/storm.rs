//! Random legal loops under every kernel and weather: streams stay intact, the same seed gives the same run, and
//! once the weather is calm everything ends.

use std::collections::BTreeMap;

use reactor::sys::{
    EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Filter, Kevent, KeventFlags, Readiness,
    Shutdown, Syscalls, Wait,
};
use sim::{
    Decisions, Domain, Excuse, FaultKind, Kernel, SharedWorld, SimSyscalls, Site, Step, Weather, WorldOptions,
};

/// The byte at a position of every stream: position alone, so that a lost or doubled byte shows.
fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

#[derive(Default)]
struct Stream {
    sent: u64,
    received: u64,
    goal: u64,
    shut: bool,
    ended: bool,
}

/// A loop of the plainest kind: edge-triggered, and after each wake-up it tries everything it has.
struct Loop {
    sys: SimSyscalls,
    set: Option<Fd>,
    listener: Option<Fd>,
    retry_listener: bool,
    streams: BTreeMap<i32, Stream>,
    serves: bool,
    to_connect: u32,
    server: std::net::SocketAddr,
    failures: u32,
    finished: u32,
}

impl Loop {
    fn watch(&mut self, fd: Fd) -> bool {
        let set = self.set.unwrap();
        if self.sys.readiness() == Readiness::Epoll {
            let mask = EpollMask::IN | EpollMask::OUT | EpollMask::RDHUP | EpollMask::ET;
            return self.sys.epoll_ctl(set, EpollOperation::Add, fd, mask, fd.as_raw() as u64).is_ok();
        }
        let ident = fd.as_raw() as u64;
        let add = KeventFlags::ADD | KeventFlags::CLEAR;
        [Filter::Read, Filter::Write].into_iter().all(|filter| {
            let change = Kevent { ident, filter, flags: add, ..Kevent::EMPTY };
            self.sys.kevent(set, &[change], &mut [], Some(0)).is_ok()
        })
    }

    fn start(&mut self) {
        while self.set.is_none() {
            let set = match self.sys.readiness() {
                Readiness::Epoll => self.sys.epoll_create1(),
                Readiness::Kqueue => self.sys.kqueue(),
            };
            self.set = set.ok();
        }
        while self.listener.is_none() && self.serves {
            if let Ok(listener) = self.sys.socket(Family::V4) {
                self.sys.bind(listener, &self.server).unwrap();
                self.sys.listen(listener, 4).unwrap();
                while !self.watch(listener) {}
                self.listener = Some(listener);
            }
        }
    }

    /// Interrupted or not, the descriptor is gone (T79).
    fn close(&mut self, fd: Fd) {
        let result = self.sys.close(fd);
        assert!(matches!(result, Ok(()) | Err(Errno::EINTR)), "{result:?}");
    }

    fn adopt(&mut self, fd: Fd) {
        if self.watch(fd) {
            let entity = self.sys.thread().0;
            let goal = self.sys.world().draw(Domain::Workload, Site("bytes of a stream"), entity, 8_000);
            self.streams.insert(fd.as_raw(), Stream { goal, ..Stream::default() });
        } else {
            self.failures += 1;
            self.close(fd);
        }
    }

    fn work(&mut self) {
        while self.to_connect > 0 && self.streams.len() < 3 {
            let Ok(fd) = self.sys.socket(Family::V4) else { break };
            self.to_connect -= 1;
            match self.sys.connect(fd, &self.server) {
                Err(Errno::EINPROGRESS) => self.adopt(fd),
                _ => self.close(fd),
            }
        }
        self.retry_listener = false;
        while let Some(listener) = self.listener {
            match self.sys.accept4(listener) {
                Ok(accepted) => self.adopt(accepted.fd),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                    self.retry_listener = true;
                    break;
                }
                Err(_) => {}
            }
        }
        let fds: Vec<i32> = self.streams.keys().copied().collect();
        for raw in fds {
            if !self.serve(Fd::from_raw(raw)) {
                self.streams.remove(&raw);
                self.close(Fd::from_raw(raw));
            }
        }
    }

    /// Sends and receives until neither goes on; false when the stream is over.
    fn serve(&mut self, fd: Fd) -> bool {
        let stream = self.streams.get_mut(&fd.as_raw()).unwrap();
        let mut buffer = [0; 3_000];
        while !stream.ended {
            match self.sys.recv(fd, &mut buffer) {
                Ok(0) => stream.ended = true,
                Ok(count) => {
                    for &byte in &buffer[..count] {
                        assert_eq!(byte, byte_at(stream.received), "at {}", stream.received);
                        stream.received += 1;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.failures += 1;
                    return false;
                }
            }
        }
        while stream.sent < stream.goal {
            let length = (stream.goal - stream.sent).min(2_500);
            let bytes: Vec<u8> = (stream.sent..stream.sent + length).map(byte_at).collect();
            match self.sys.send(fd, &bytes) {
                Ok(count) => stream.sent += count as u64,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.failures += 1;
                    return false;
                }
            }
        }
        if stream.sent == stream.goal && !stream.shut {
            match self.sys.shutdown(fd, Shutdown::Write) {
                // Still connecting, or over already; the bytes of this stream were none.
                Ok(()) => stream.shut = true,
                Err(_) => return false,
            }
        }
        let over = stream.shut && stream.ended;
        self.finished += u32::from(over);
        !over
    }

    /// One turn; false when there is nothing left to do.
    fn turn(&mut self) -> bool {
        self.start();
        let timeout_ms = if self.retry_listener || self.to_connect > 0 { 10 } else { -1 };
        let mut events = [EpollEvent::default(); 8];
        let mut kevents = [Kevent::EMPTY; 8];
        let set = self.set.unwrap();
        let wait = match self.sys.readiness() {
            Readiness::Epoll => self.sys.epoll_wait(set, &mut events, timeout_ms),
            Readiness::Kqueue => {
                let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
                self.sys.kevent(set, &[], &mut kevents, timeout_ns)
            }
        };
        if wait == Ok(Wait::Parked) {
            return true;
        }
        self.work();
        self.listener.is_some() || self.to_connect > 0 || !self.streams.is_empty()
    }
}

/// What a run comes to: the trace hash, calls, streams that finished, streams that failed.
fn storm(kernel: Kernel, weather: Weather, seed: u64) -> (u64, u64, u32, u32) {
    let (world, (finished, failures)) = storm_world(kernel, weather, seed);
    (world.trace_hash(), world.steps(), finished, failures)
}

fn storm_world(kernel: Kernel, weather: Weather, seed: u64) -> (SharedWorld, (u32, u32)) {
    println!("seed {seed} {kernel} {weather}");
    storm_under(kernel, weather, Decisions::from_seed(seed))
}

fn storm_under(kernel: Kernel, weather: Weather, decisions: Decisions) -> (SharedWorld, (u32, u32)) {
    let options = WorldOptions { weather, ..WorldOptions::default() };
    let world = SharedWorld::new(options, decisions);
    let server_host = world.add_host(kernel);
    let server = std::net::SocketAddr::from((world.address(server_host), 80));
    let mut loops: Vec<Loop> = (0..4)
        .map(|index| {
            let host = if index < 1 { server_host } else { world.add_host(kernel) };
            Loop {
                sys: world.add_thread(host),
                set: None,
                listener: None,
                retry_listener: false,
                streams: BTreeMap::new(),
                serves: index == 0,
                to_connect: if index == 0 { 0 } else { 8 },
                server,
                failures: 0,
                finished: 0,
            }
        })
        .collect();
    // A client never waits for a listener that is not there yet: refusals are legal, and counted.
    loops[0].start();
    let mut limit = world.now().saturating_add_ns(20_000_000_000);
    let mut calm = false;
    loop {
        match world.step(limit) {
            Step::Run(thread) => {
                let current = &mut loops[thread.0 as usize];
                if !current.turn() {
                    world.finish_thread(thread);
                }
            }
            Step::Actor(_) | Step::Restart(_) => {}
            Step::LimitReached | Step::Idle if !calm => {
                calm = true;
                world.calm_down();
                limit = limit.saturating_add_ns(600_000_000_000);
            }
            Step::LimitReached | Step::Idle => break,
        }
        if let Some(violation) = world.violation() {
            panic!("{kernel} {weather}: {violation}");
        }
    }
    let clients = &loops[1..];
    let left: usize = clients.iter().map(|client| client.streams.len()).sum();
    assert_eq!(left, 0, "{kernel} {weather}: streams that never end");
    let finished = loops.iter().map(|each| each.finished).sum();
    let failures = loops.iter().map(|each| each.failures).sum();
    (world, (finished, failures))
}

#[test]
fn every_kernel_in_every_weather_keeps_streams_intact_and_repeats_itself() {
    for kernel in Kernel::ALL {
        for weather in Weather::ALL {
            let mut finished = 0;
            for seed in 0..20 {
                let run = storm(kernel, weather, seed);
                finished += run.2;
                if seed % 10 == 0 {
                    assert_eq!(run, storm(kernel, weather, seed), "seed {seed} {kernel} {weather}");
                }
            }
            assert!(finished > 300, "{kernel} {weather}: {finished} streams finished");
        }
    }
}

#[test]
fn every_kind_of_fault_happens() {
    let mut kinds: BTreeMap<&str, u64> = FaultKind::ALL.iter().map(|kind| (kind.name(), 0)).collect();
    // Actors and clocks are not part of a storm, and nobody dies in it.
    kinds
        .retain(|&name, _| FaultKind::from_name(name).is_some_and(|kind| kind.domain() != Domain::Processes));
    kinds.remove(FaultKind::EarlyActors.name());
    kinds.remove(FaultKind::ClockLimits.name());
    for seed in 0..120 {
        let (world, _) = storm_world(Kernel::ALL[seed as usize % 3], Weather::Cruel, seed);
        for (kind, count) in world.fault_counts().iter() {
            *kinds.entry(kind.name()).or_default() += count;
        }
    }
    assert!(kinds.values().all(|&count| count > 0), "{kinds:?}");
}

#[test]
fn a_run_from_arbitrary_bytes_ends_too() {
    for length in [0, 1, 100, 5_000] {
        let bytes: Vec<u8> = (0..length).map(|index: u64| byte_at(index * 7)).collect();
        let decisions = || Decisions::from_bytes(&bytes);
        let (world, _) = storm_under(Kernel::Linux, Weather::Cruel, decisions());
        let (again, _) = storm_under(Kernel::Linux, Weather::Cruel, decisions());
        assert_eq!(world.trace_hash(), again.trace_hash());
    }
}

#[test]
fn calm_weather_fails_nothing() {
    for kernel in Kernel::ALL {
        let (_, _, finished, failures) = storm(kernel, Weather::Calm, 1);
        assert_eq!((finished, failures), (48, 0), "{kernel}");
    }
}

#[test]
fn a_refused_connection_is_excused() {
    let world = SharedWorld::new(WorldOptions::default(), Decisions::zeros());
    let host = world.add_host(Kernel::Linux);
    let mut sys = world.add_thread(host);
    let fd = sys.socket(Family::V4).unwrap();
    let nobody = std::net::SocketAddr::from((world.address(host), 81));
    assert_eq!(sys.connect(fd, &nobody), Err(Errno::EINPROGRESS));
    let local = sys.getsockname(fd).unwrap();
    sys.clock_gettime();
    assert_eq!(sys.take_socket_error(fd), Ok(Some(Errno::ECONNREFUSED)));
    assert_eq!(world.excuse(local, nobody), Some(Excuse::Refused));
}
