//! Each oracle sees what it claims to see: one mistake is made on purpose, in the seam, in a handler or in a ledger, and
//! the oracle names it. Nothing is rebuilt for that.

use reactor::sys::Errno;
use reactor::time::Instant;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, Pressure, Reactor, Token};
use sim::audit::Audited;
use sim::runner::{Failure, RunOptions, run};
use sim::seam::{Mistake, Tamper};
use sim::sweep::run_seed;
use sim::workload::timers::model::Model;
use sim::workload::{Breach, Numbered, Party, Tally, TurnFacts};
use sim::{Decisions, Kernel, Oracle, SharedWorld, SimSyscalls, Weather, WorkloadKind, WorldOptions};

/// Makes the mistake at one occasion after the other, over a few seeds, until an oracle sees it.
fn first_failure(workload: WorkloadKind, kernel: Kernel, mistake: Mistake) -> Failure {
    let attempts = (0..40).flat_map(|seed| [0, 1, 3].map(|at| (seed, at)));
    for (seed, at) in attempts {
        let options = RunOptions {
            workload: Some(workload),
            kernel: Some(kernel),
            weather: Some(Weather::Calm),
            tamper: Some(Tamper { mistake, at }),
            ..RunOptions::default()
        };
        if let Some(failure) = run(&options, Decisions::from_seed(seed)).failure {
            return failure;
        }
    }
    panic!("{mistake:?} was not seen by anybody");
}

fn is_seen(workload: WorkloadKind, mistake: Mistake, oracle: Oracle) {
    for kernel in [Kernel::Linux, Kernel::Freebsd] {
        let failure = first_failure(workload, kernel, mistake);
        assert_eq!(failure.oracle, oracle, "{kernel}: {failure:?}");
    }
}

#[test]
fn a_lost_byte_breaks_the_byte_stream() {
    is_seen(WorkloadKind::Echo, Mistake::LoseByte, Oracle::ByteStream);
}

#[test]
fn a_changed_byte_breaks_the_byte_stream_and_is_named_by_its_offset() {
    let failure = first_failure(WorkloadKind::Echo, Kernel::Linux, Mistake::ChangeByte);
    assert_eq!(failure.oracle, Oracle::ByteStream);
    assert!(failure.details.contains("offset") || failure.details.contains("header"), "{failure:?}");
}

#[test]
fn lost_events_end_in_a_stream_that_waits_for_ever() {
    is_seen(WorkloadKind::Echo, Mistake::LoseEvents, Oracle::Liveness);
}

#[test]
fn a_forgotten_close_shows_in_the_descriptor_ledger() {
    is_seen(WorkloadKind::Echo, Mistake::ForgetClose, Oracle::DescriptorLedger);
}

#[test]
fn a_second_close_is_a_call_on_a_closed_descriptor() {
    is_seen(WorkloadKind::Echo, Mistake::CloseTwice, Oracle::ClosedDescriptor);
}

#[test]
fn a_call_that_makes_no_sense_is_illegal() {
    is_seen(WorkloadKind::Echo, Mistake::CallNonsense, Oracle::IllegalCall);
}

#[test]
fn a_listener_that_is_given_up_is_missed() {
    is_seen(WorkloadKind::Timers, Mistake::FailAccept, Oracle::ListenerKept);
}

#[test]
fn a_loop_that_never_sleeps_spins() {
    is_seen(WorkloadKind::Wake, Mistake::NeverSleep, Oracle::EmptyWakeups);
}

#[test]
fn a_failing_wait_fails_the_turn() {
    is_seen(WorkloadKind::Echo, Mistake::FailWait, Oracle::TurnError);
}

#[test]
fn a_panic_is_caught_and_named_with_its_place() {
    let failure = first_failure(WorkloadKind::Echo, Kernel::Linux, Mistake::Panic);
    assert_eq!(failure.oracle, Oracle::Panic);
    assert!(failure.details.contains("on purpose") && failure.details.contains("seam.rs"), "{failure:?}");
}

#[test]
fn a_wake_that_goes_nowhere_is_a_lost_wakeup() {
    is_seen(WorkloadKind::Wake, Mistake::ForgetWakes, Oracle::LostWakeup);
}

#[test]
fn oversleeping_breaks_the_timer_contract() {
    is_seen(WorkloadKind::Timers, Mistake::Oversleep, Oracle::TimerContract);
}

#[test]
fn what_no_seed_decides_shows_as_non_determinism() {
    let options = RunOptions {
        tamper: Some(Tamper { mistake: Mistake::ReadAnotherClock, at: 0 }),
        weather: Some(Weather::Calm),
        ..RunOptions::default()
    };
    let failure = run_seed(&options, 0, true).failure.expect("the hashes differ");
    assert_eq!(failure.oracle, Oracle::Determinism);
    assert_eq!(failure.oracle.exit_code(), 5);
}

/// A party that records nothing, for calls made by hand.
#[derive(Debug, Default)]
struct Silent;

impl Handler for Silent {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}

    fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        bytes.len()
    }
}

impl Party for Silent {
    fn begin(&mut self, _: &mut Context<'_>) {}

    fn is_finished(&self) -> bool {
        true
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", String::new())
    }

    fn breach(&self) -> Option<&Breach> {
        None
    }

    fn messages(&self) -> u64 {
        0
    }
}

fn audited_loop() -> Reactor<SimSyscalls, Audited<Silent>> {
    let world = WorldOptions { weather: Weather::Calm, ..WorldOptions::default() };
    let world = SharedWorld::new(world, Decisions::zeros());
    let host = world.add_host(Kernel::Linux);
    let config = Config::default();
    let audited = Audited::new(Silent, &config, None);
    Reactor::new(world.add_thread(host), config, audited).expect("calm weather")
}

fn breach_of(act: impl FnOnce(&mut Audited<Silent>, &mut Context<'_>)) -> Option<Breach> {
    audited_loop().with(|audited, ctx| {
        act(audited, ctx);
        audited.breach().cloned()
    })
}

const TOKEN: Token = Token::from_word(1 << 32 | 7);

#[test]
fn a_call_for_a_dead_generation_is_seen() {
    let breach = breach_of(|audited, ctx| {
        audited.on_data(ctx, TOKEN, &mut (), b"late");
    });
    assert_eq!(breach.expect("the token was never opened").invariant, Oracle::DeadGeneration.name());

    let origin = Origin::Connected { tag: 0 };
    let next = Token::from_word(TOKEN.as_word() + 1);
    let breach = breach_of(|audited, ctx| {
        audited.on_open(ctx, TOKEN, origin);
        audited.on_close(ctx, TOKEN, (), CloseReason::Finished);
        audited.on_open(ctx, next, origin);
        audited.on_close(ctx, TOKEN, (), CloseReason::Finished);
    });
    assert!(breach.expect("the slot has another tenant").details.contains("on_close for 1v7"));

    // In the loop's own books the connection is closed, whatever was told of it before.
    let breach = breach_of(|audited, ctx| {
        audited.on_open(ctx, TOKEN, origin);
        audited.on_data(ctx, TOKEN, &mut (), b"after a close");
    });
    assert!(breach.expect("its handler has closed it").details.contains("on_data for 1v7"));

    let breach = breach_of(|audited, ctx| {
        audited.on_open(ctx, TOKEN, origin);
        audited.on_connect_failed(ctx, TOKEN, 0, Errno::ECONNREFUSED);
    });
    assert_eq!(breach.expect("it had opened").invariant, Oracle::DeadGeneration.name());
}

#[test]
fn watermark_events_out_of_turn_are_seen() {
    let origin = Origin::Connected { tag: 0 };
    let low_first = breach_of(|audited, ctx| {
        audited.on_open(ctx, TOKEN, origin);
        audited.on_pressure(ctx, TOKEN, &mut (), Pressure::Low);
    });
    assert_eq!(low_first.expect("low comes after high").invariant, Oracle::Watermark.name());
    let high_for_nothing = breach_of(|audited, ctx| {
        audited.on_open(ctx, TOKEN, origin);
        audited.on_pressure(ctx, TOKEN, &mut (), Pressure::High);
    });
    assert!(high_for_nothing.expect("nothing is queued").details.contains("0 bytes queued"));
}

#[test]
fn messages_out_of_order_are_seen() {
    use sim::workload::wake::Wake;
    use sim::workload::{Scale, Workload};
    let plan = Wake::draw(&mut Decisions::zeros(), Scale::Normal);
    let config = Config::default();
    let mut service = plan.service(0, &[], &config);
    audited_loop().with(|_, ctx| service.on_message(ctx, Numbered { producer: 0, number: 3 }));
    assert_eq!(service.breach().expect("0 to 2 are missing").invariant, Oracle::MessageOrder.name());
}

#[test]
fn a_connection_that_ends_twice_or_never_is_seen() {
    let never = Tally { connects: 2, connected: 1, failed: 0, accepted: 0, closed: 1 };
    assert_eq!(never.check("client").unwrap_err().invariant, Oracle::Conservation.name());
    let twice = Tally { connects: 1, connected: 1, failed: 0, accepted: 0, closed: 2 };
    assert_eq!(twice.check("client").unwrap_err().invariant, Oracle::Conservation.name());
    assert_eq!(Tally { connects: 1, connected: 1, failed: 0, accepted: 1, closed: 2 }.check("both"), Ok(()));
}

const TICK_NS: u64 = 1 << 20;

fn timer(word: u64) -> TimerToken {
    TimerToken::from_word(word)
}

fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

fn model() -> Model {
    let mut model = Model::new(TICK_NS);
    model.armed(timer(0), at(10), at(0));
    model.armed(timer(1), at(20), at(0));
    model
}

fn contract_breach(act: impl FnOnce(&mut Model)) -> String {
    let mut model = model();
    act(&mut model);
    let breach = model.breach().expect("a breach").clone();
    assert_eq!(breach.invariant, Oracle::TimerContract.name());
    breach.details
}

fn turn_at(now: Instant, asleep: Option<Option<u64>>) -> TurnFacts {
    TurnFacts { now, timer_budget_ended: false, asleep, wait_rounding_ns: 1_000_000, tick_ns: TICK_NS }
}

#[test]
fn every_clause_of_the_timer_contract_is_seen_broken() {
    let early = contract_breach(|model| {
        model.fired(0, timer(0), at(9));
    });
    assert!(early.contains("before its deadline"), "{early}");
    let twice = contract_breach(|model| {
        model.fired(0, timer(0), at(10));
        model.fired(0, timer(0), at(11));
    });
    assert!(twice.contains("which is Fired"), "{twice}");
    let cancelled = contract_breach(|model| {
        model.cancelled(0, true);
        model.fired(0, timer(0), at(10));
    });
    assert!(cancelled.contains("which is Cancelled"), "{cancelled}");
    let overtaken = contract_breach(|model| {
        model.fired(1, timer(1), at(30));
    });
    assert!(overtaken.contains("before timer 0"), "{overtaken}");
    let lied = contract_breach(|model| model.cancelled(0, false));
    assert!(lied.contains("answered false"), "{lied}");
    let late = contract_breach(|model| model.after_turn(turn_at(at(12), None)));
    assert!(late.contains("the turn ended without it"), "{late}");
    let oversleeps = contract_breach(|model| model.after_turn(turn_at(at(5), Some(Some(8_000_000)))));
    assert!(oversleeps.contains("beyond the deadline"), "{oversleeps}");
    let sleeps_for_ever = contract_breach(|model| model.after_turn(turn_at(at(5), Some(None))));
    assert!(sleeps_for_ever.contains("without a timeout"), "{sleeps_for_ever}");
}

#[test]
fn a_loop_in_time_breaks_no_contract() {
    let mut model = model();
    model.after_turn(turn_at(at(5), Some(Some(6_000_000))));
    model.fired(0, timer(0), at(11));
    model.cancelled(1, true);
    model.after_turn(turn_at(at(11), Some(None)));
    assert_eq!(model.breach(), None);
}

#[test]
fn timers_that_vanish_are_seen() {
    use reactor::timer::TimerCounters;
    let counters = TimerCounters { armed: 3, fired: 1, cancelled: 0, ..TimerCounters::default() };
    assert_eq!(sim::runner::check_timers(counters, 2), Ok(()));
    let breach = sim::runner::check_timers(counters, 1).unwrap_err();
    assert_eq!(breach.invariant, Oracle::TimerConservation.name());
}

#[test]
fn a_broken_structure_is_named_and_does_not_end_the_process() {
    let breach = sim::runner::check_structure(|| panic!("1v7: queue above its limit")).unwrap_err();
    assert_eq!(breach.invariant, Oracle::BoundedQueue.name());
    assert!(breach.details.contains("queue above its limit"), "{breach}");
}

/// Names are what kept failures and scripts of users refer to.
#[test]
fn every_oracle_has_a_name_of_its_own() {
    for &oracle in Oracle::ALL {
        assert_eq!(Oracle::from_name(oracle.name()), Some(oracle));
        assert!(oracle.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    }
}
