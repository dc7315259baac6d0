//! E30, E38 to E46, W1 to W5, C1, C4: sleeping, waking, and time.

use reactor::sys::{EpollEvent, Errno, Syscalls, Wait, WakeTarget};
use reactor::time::Instant;
use sim::{Decisions, FaultKind, Kernel, Latency, Ratio, SharedWorld, Step, Swarm, WorldOptions};

use crate::script::{ET, IN, NOTHING, OUT, Script, linux};

#[test]
fn e46_c4_a_wait_is_never_early_and_late_within_the_slack() {
    for timeout_ms in [1, 100, 1_000, 100_000] {
        let mut sys = linux();
        let epoll = sys.epoll_create1().unwrap();
        let began = sys.now_ns();
        assert_eq!(sys.sleep_in(epoll, timeout_ms), Ok(Vec::new()));
        let timeout_ns = u64::from(timeout_ms.unsigned_abs()) * 1_000_000;
        let late_ns = (sys.now_ns() - began).checked_sub(timeout_ns).expect("never early");
        assert!(late_ns <= (timeout_ns / 1_000).clamp(50_000, 100_000_000) + 10_000, "{late_ns} ns late");
    }
}

#[test]
fn e44_a_sleeping_wait_may_be_interrupted_and_e42_a_poll_never() {
    let mut swarm = Swarm::calm(Latency::constant(0)).with(FaultKind::InterruptedWaits, Ratio::new(9, 10));
    swarm.wake = Latency::constant(0);
    let options = WorldOptions { swarm: Some(swarm), ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::from_seed(1));
    let host = world.add_host(Kernel::Linux);
    let mut sys = world.add_thread(host);
    let epoll = sys.epoll_create1().unwrap();
    let interrupted = (0..40).filter(|_| sys.sleep_in(epoll, 10) == Err(Errno::EINTR)).count();
    assert!(interrupted > 20, "{interrupted} of 40");
    for _ in 0..40 {
        assert_eq!(sys.wait_now(epoll), NOTHING);
    }
}

#[test]
fn w1_w3_w4_an_eventfd_sums_and_every_write_is_an_edge() {
    let mut sys = linux();
    let eventfd = sys.eventfd().unwrap();
    let waker = sys.waker(WakeTarget::Eventfd(eventfd)).unwrap();
    let edge = sys.epoll_of(eventfd, IN | ET);
    let level = sys.epoll_of(eventfd, IN | OUT);
    assert_eq!(sys.edge(level), OUT);
    assert_eq!(sys.read_eventfd(eventfd), Err(Errno::EAGAIN));
    waker.wake();
    assert_eq!(sys.edge(edge), IN);
    assert!(sys.edge(edge).is_empty());
    waker.wake();
    waker.wake();
    assert_eq!(sys.edge(edge), IN);
    assert!(sys.edge(edge).is_empty());
    assert_eq!(sys.edge(level), IN | OUT);
    assert_eq!(sys.read_eventfd(eventfd), Ok(3));
    assert_eq!(sys.edge(level), OUT);
    sys.close(eventfd).unwrap();
    waker.wake();
    assert_eq!(sys.wait_now(edge), NOTHING, "waking after the loop is gone is harmless");
}

/// Two threads of one host: the second drains what the first is woken for.
#[test]
fn e30_a_harvest_looks_again_and_the_wait_sleeps_on() {
    let mut swarm = Swarm::calm(Latency::constant(0));
    swarm.wake = Latency::constant(1_000_000);
    let options = WorldOptions { swarm: Some(swarm), ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::zeros());
    let host = world.add_host(Kernel::Linux);
    let mut sleeper = world.add_thread(host);
    let mut thief = world.add_thread(host);
    let (a, b) = sleeper.pair();
    let epoll = sleeper.epoll_of(b, IN);
    let mut events = [EpollEvent::default(); 4];
    let began = sleeper.now_ns();
    assert_eq!(sleeper.epoll_wait(epoll, &mut events, 50), Ok(Wait::Parked));
    assert!(matches!(world.step(Instant::FAR_FUTURE), Step::Run(thread) if thread == thief.thread()));
    world.spend(thief.thread(), 200_000);
    thief.send(a, b"x").unwrap();
    thief.clock_gettime();
    assert_eq!(thief.recv_some(b, 9), Ok(1));
    let stolen = thief.epoll_create1().unwrap();
    assert_eq!(thief.epoll_wait(stolen, &mut events, -1), Ok(Wait::Parked));
    let mut wakes = 0;
    let result = loop {
        assert!(matches!(world.step(Instant::FAR_FUTURE), Step::Run(thread) if thread == sleeper.thread()));
        wakes += 1;
        match sleeper.epoll_wait(epoll, &mut events, 50) {
            Ok(Wait::Parked) => {}
            result => break result,
        }
    };
    assert_eq!((wakes, result), (2, Ok(Wait::Ready(0))));
    assert!(sleeper.now_ns() - began >= 50_000_000);
}

#[test]
fn e10_a_registration_that_is_ready_wakes_a_sleeper() {
    let world = SharedWorld::new(
        WorldOptions { swarm: Some(Swarm::calm(Latency::constant(0))), ..WorldOptions::default() },
        Decisions::zeros(),
    );
    let host = world.add_host(Kernel::Linux);
    let mut sleeper = world.add_thread(host);
    let mut other = world.add_thread(host);
    let (a, _b) = sleeper.pair();
    let epoll = sleeper.epoll_create1().unwrap();
    let mut events = [EpollEvent::default(); 4];
    assert_eq!(sleeper.epoll_wait(epoll, &mut events, -1), Ok(Wait::Parked));
    world.spend(other.thread(), 1_000_000);
    other.add(epoll, a, OUT);
    world.finish_thread(other.thread());
    assert_eq!(world.step(Instant::FAR_FUTURE), Step::Run(sleeper.thread()));
    assert_eq!(sleeper.epoll_wait(epoll, &mut events, -1), Ok(Wait::Ready(1)));
}

#[test]
fn a_call_on_a_closed_descriptor_is_a_violation() {
    let mut sys = linux();
    let fresh = sys.fresh();
    sys.close(fresh).unwrap();
    assert_eq!(sys.close(fresh), Err(Errno::EBADF));
    assert_eq!(sys.world().violation().unwrap().invariant, "closed-descriptor");
}

#[test]
fn waits_that_return_for_nothing_are_a_violation() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    sys.send(a, b"never read").unwrap();
    for _ in 0..80 {
        assert_eq!(sys.edge(epoll), IN);
    }
    assert_eq!(sys.world().violation().unwrap().invariant, "empty-wakeups");
}

#[test]
fn a_sleep_that_nothing_ends_is_idle() {
    let mut sys = linux();
    let epoll = sys.epoll_create1().unwrap();
    let mut events = [EpollEvent::default(); 4];
    assert_eq!(sys.epoll_wait(epoll, &mut events, -1), Ok(Wait::Parked));
    assert_eq!(sys.world().step(Instant::FAR_FUTURE), Step::Idle);
}

#[test]
fn a_limit_stops_the_world_before_what_lies_beyond() {
    let mut sys = linux();
    let epoll = sys.epoll_create1().unwrap();
    let mut events = [EpollEvent::default(); 4];
    let limit = sys.clock_gettime().saturating_add_ns(5_000_000);
    assert_eq!(sys.epoll_wait(epoll, &mut events, 10), Ok(Wait::Parked));
    assert_eq!(sys.world().step(limit), Step::LimitReached);
    assert!(matches!(sys.world().step(Instant::FAR_FUTURE), Step::Run(_)));
}
