//! The simulated kernel pays what it owes; a debt that it forgets is seen, and named.

use reactor::sys::{
    EpollEvent, EpollMask, EpollOperation, Filter, Kevent, KeventFlags, Note, Readiness, Syscalls, WakeTarget,
};
use sim::{Decisions, Kernel, Lapse, ObligationCheck, Oracle, RunOptions, Weather, WorkloadKind};
use sim::{SharedWorld, Violation, WorldOptions};

fn run(kernel: Kernel, weather: Weather, lapse: Option<Lapse>, seed: u64) -> sim::runner::Outcome {
    let options = RunOptions {
        workload: Some(WorkloadKind::Echo),
        kernel: Some(kernel),
        weather: Some(weather),
        obligations: ObligationCheck::Always,
        lapse,
        ..RunOptions::default()
    };
    sim::run(&options, Decisions::from_seed(seed))
}

/// The first of some runs that fails, which has to fail by what the kernel owes.
fn found(kernel: Kernel, lapse: Lapse) -> Option<String> {
    // Only tiny buffers are short of room often.
    let weather = if lapse == Lapse::SkipFreedRoom { Weather::Tiny } else { Weather::Default };
    let failed = |seed| run(kernel, weather, Some(lapse), seed).failure;
    let failure = (0..60).find_map(failed)?;
    assert_eq!(failure.oracle, Oracle::OwedEvent, "{lapse:?} under {kernel}: {}", failure.details);
    Some(failure.details)
}

#[test]
fn every_debt_that_the_kernel_forgets_is_seen_and_named() {
    // The loop registers for edges only; see the next test.
    for lapse in Lapse::ALL.into_iter().filter(|&lapse| lapse != Lapse::DropLevels) {
        let details = Kernel::ALL.map(|kernel| found(kernel, lapse));
        let expected = match lapse {
            Lapse::SkipArrivals | Lapse::DropRestOfBatch | Lapse::DropLevels => "list it",
            Lapse::SkipFreedRoom => "short of room",
            Lapse::LeaveSleepers => "sleeps while its set lists",
            Lapse::SkipTimeouts => "sleeps on",
        };
        let seen: Vec<&String> = details.iter().flatten().collect();
        assert!(seen.iter().all(|details| details.contains(expected)), "{lapse:?}: {seen:?}");
        // Linux alone owes an edge after a shortage; armed write knotes hear of all room.
        let kernels = if lapse == Lapse::SkipFreedRoom { 1 } else { 3 };
        assert_eq!(seen.len(), kernels, "{lapse:?}: {details:?}");
    }
}

/// A level-triggered registration of something that is ready and stays so, waited for twice.
fn wait_twice(kernel: Kernel, lapse: Option<Lapse>) -> Option<Violation> {
    let obligations = ObligationCheck::Always;
    let options = WorldOptions { weather: Weather::Calm, obligations, lapse, ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::zeros());
    let host = world.add_host(kernel);
    let mut sys = world.add_thread(host);
    match sys.readiness() {
        Readiness::Epoll => {
            let (epoll, eventfd) = (sys.epoll_create1().unwrap(), sys.eventfd().unwrap());
            sys.epoll_ctl(epoll, EpollOperation::Add, eventfd, EpollMask::IN, 7).unwrap();
            sys.waker(WakeTarget::Eventfd(eventfd)).unwrap().wake();
            for _ in 0..2 {
                let _ = sys.epoll_wait(epoll, &mut [EpollEvent::default(); 4], 0).unwrap();
            }
        }
        _ => {
            let kqueue = sys.kqueue().unwrap();
            let knote =
                |flags, note| Kevent { ident: 1, filter: Filter::User, flags, note, data: 0, udata: 7 };
            let changes = [knote(KeventFlags::ADD, Note::None), knote(KeventFlags::empty(), Note::Trigger)];
            let _ = sys.kevent(kqueue, &changes, &mut [], Some(0)).unwrap();
            let mut events = [knote(KeventFlags::empty(), Note::None); 4];
            for _ in 0..2 {
                let _ = sys.kevent(kqueue, &[], &mut events, Some(0)).unwrap();
            }
        }
    }
    world.violation()
}

#[test]
fn a_level_that_is_dropped_after_its_report_is_seen() {
    for kernel in Kernel::ALL {
        assert_eq!(wait_twice(kernel, None), None, "{kernel}");
        let violation = wait_twice(kernel, Some(Lapse::DropLevels)).expect("a forgotten debt");
        assert_eq!(violation.invariant, "owed-event", "{kernel}");
        assert!(violation.details.contains("list it"), "{kernel}: {violation}");
    }
}

#[test]
fn no_fault_cancels_a_debt() {
    let mut owed = 0;
    for kernel in Kernel::ALL {
        for weather in Weather::ALL {
            for seed in 0..40 {
                let outcome = run(kernel, weather, None, seed);
                assert_eq!(outcome.failure, None, "{kernel} {weather} seed {seed}");
                owed += outcome.obligations.paid;
            }
        }
    }
    assert!(owed > 10_000, "only {owed} events were owed and paid");
}

#[test]
fn checking_what_is_owed_leaves_a_run_as_it_was() {
    for seed in 0..40 {
        let hash = |obligations| {
            let options = RunOptions { obligations, ..RunOptions::default() };
            sim::run(&options, Decisions::from_seed(seed)).trace_hash
        };
        assert_eq!(hash(ObligationCheck::Always), hash(ObligationCheck::Never), "seed {seed}");
    }
}
