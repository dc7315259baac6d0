//! Threads that are not reactors: they wake loops, between calls and inside them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use reactor::sys::{EpollEvent, Syscalls, Wait, Wake, WakeTarget};
use reactor::time::Instant;
use sim::{Actor, Decisions, FaultKind, Kernel, Latency, Ratio, SharedWorld, Step, Swarm, WorldOptions};

use crate::script::{ET, IN, Script};

/// Wakes a loop some times, and writes down when.
struct Producer {
    waker: Arc<dyn Wake>,
    left: u32,
    period_ns: u64,
    times: Rc<RefCell<Vec<Instant>>>,
}

impl Actor for Producer {
    fn step(&mut self, now: Instant) -> Option<u64> {
        self.waker.wake();
        self.times.borrow_mut().push(now);
        self.left -= 1;
        (self.left > 0).then_some(self.period_ns)
    }
}

fn world(swarm: Swarm) -> SharedWorld {
    let options = WorldOptions { swarm: Some(swarm), ..WorldOptions::default() };
    SharedWorld::new(options, Decisions::from_seed(3))
}

#[test]
fn an_actor_wakes_a_sleeping_loop_at_its_time() {
    let world = world(Swarm::calm(Latency::constant(0)));
    let host = world.add_host(Kernel::Linux);
    let mut sys = world.add_thread(host);
    let eventfd = sys.eventfd().unwrap();
    let epoll = sys.epoll_of(eventfd, IN | ET);
    let waker = sys.waker(WakeTarget::Eventfd(eventfd)).unwrap();
    let times = Rc::new(RefCell::new(Vec::new()));
    let first = sys.clock_gettime().saturating_add_ns(5_000_000);
    let producer = Producer { waker, left: 3, period_ns: 1_000_000, times: Rc::clone(&times) };
    world.add_actor(Box::new(producer), first);
    let mut events = [EpollEvent::default(); 4];
    for round in 0..3 {
        assert_eq!(sys.epoll_wait(epoll, &mut events, -1), Ok(Wait::Parked));
        assert!(matches!(world.step(Instant::FAR_FUTURE), Step::Actor(_)));
        assert!(matches!(world.step(Instant::FAR_FUTURE), Step::Run(_)));
        assert_eq!(sys.epoll_wait(epoll, &mut events, -1), Ok(Wait::Ready(1)));
        assert_eq!(times.borrow()[round], first.saturating_add_ns(round as u64 * 1_000_000));
    }
    assert_eq!(sys.read_eventfd(eventfd), Ok(3));
}

#[test]
fn an_actor_that_is_due_runs_inside_the_next_call() {
    let world = world(Swarm::calm(Latency::constant(0)));
    let host = world.add_host(Kernel::Linux);
    let mut sys = world.add_thread(host);
    let eventfd = sys.eventfd().unwrap();
    let waker = sys.waker(WakeTarget::Eventfd(eventfd)).unwrap();
    let times = Rc::new(RefCell::new(Vec::new()));
    let first = sys.clock_gettime().saturating_add_ns(1_000);
    world.add_actor(Box::new(Producer { waker, left: 1, period_ns: 0, times: Rc::clone(&times) }), first);
    assert!(times.borrow().is_empty());
    world.spend(sys.thread(), 2_000);
    assert_eq!(sys.read_eventfd(eventfd), Ok(1));
    assert_eq!(*times.borrow(), [first]);
}

#[test]
fn an_actor_may_run_early_at_any_call_and_at_schedule_points() {
    let swarm = Swarm::calm(Latency::constant(0)).with(FaultKind::EarlyActors, Ratio::new(1, 4));
    let world = world(swarm);
    let host = world.add_host(Kernel::Linux);
    let mut sys = world.add_thread(host);
    let eventfd = sys.eventfd().unwrap();
    let waker = sys.waker(WakeTarget::Eventfd(eventfd)).unwrap();
    let times = Rc::new(RefCell::new(Vec::new()));
    let period_ns = 1_000_000_000;
    let first = sys.clock_gettime().saturating_add_ns(period_ns);
    world.add_actor(Box::new(Producer { waker, left: 40, period_ns, times: Rc::clone(&times) }), first);
    for _ in 0..50 {
        sys.schedule_point("between two steps");
        sys.clock_gettime();
    }
    let early = times.borrow().len();
    assert!((5..=40).contains(&early), "{early} steps were early");
    assert!(world.fault_counts().of(FaultKind::EarlyActors) >= early as u64);
}
