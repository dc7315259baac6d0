//! The timer wheel: its contract as a property against a model, and one test for each way in which timers have failed
//! elsewhere (bug-catalogue).

mod properties;

use proptest::collection::vec;
use proptest::prelude::*;
use reactor::time::Instant;
use reactor::timer::{Due, Interval, MissedTicks, TimerToken, TimerWheel};
use tests::timer_model;

const TICK_NS: u64 = 1 << 10;
/// The words of no timer.
const NOTHING: [u64; 0] = [];

proptest! {
    #![proptest_config(properties::config(3000))]

    #[test]
    fn the_wheel_does_what_an_ordered_map_would(bytes in vec(any::<u8>(), 0..600)) {
        timer_model::check(&bytes);
    }

    #[test]
    fn an_interval_never_drifts_and_keeps_the_promise_of_its_policy(
        period_ns in 1_u64..1_000_000,
        deadline_ns in 0_u64..1 << 50,
        late_ns in 0_u64..10_000_000,
    ) {
        let (deadline, now) = (at(deadline_ns), at(deadline_ns + late_ns));
        let next = |missed| Interval::new(period_ns, missed).next(deadline, now).as_ns();
        prop_assert_eq!(next(MissedTicks::Burst), deadline_ns + period_ns);
        if late_ns < period_ns {
            prop_assert_eq!(next(MissedTicks::Delay), deadline_ns + period_ns);
            prop_assert_eq!(next(MissedTicks::Skip), deadline_ns + period_ns);
        } else {
            prop_assert_eq!(next(MissedTicks::Delay), now.as_ns() + period_ns);
            let skipped_ns = next(MissedTicks::Skip);
            prop_assert_eq!((skipped_ns - deadline_ns) % period_ns, 0);
            prop_assert!(now.as_ns() < skipped_ns && skipped_ns <= now.as_ns() + period_ns);
        }
    }
}

fn at(ns: u64) -> Instant {
    Instant::from_ns(ns)
}

fn ticks(count: u64) -> Instant {
    at(count * TICK_NS)
}

fn wheel_at(now: Instant) -> TimerWheel {
    TimerWheel::new(TICK_NS, now)
}

fn pop_all(wheel: &mut TimerWheel) -> Vec<Due> {
    wheel.assert_invariants();
    let popped = std::iter::from_fn(|| wheel.pop_due()).collect();
    wheel.assert_invariants();
    popped
}

/// Words of the timers that are due at `now`, in the order of firing.
fn fired_at(wheel: &mut TimerWheel, now: Instant) -> Vec<u64> {
    wheel.collect(now);
    pop_all(wheel).iter().map(|due| due.word).collect()
}

/// Follows the wheel's own wake-ups until a timer fires. Returns when, and how many wake-ups fired nothing.
fn sleep_until_fired(wheel: &mut TimerWheel) -> (Instant, u32) {
    for empty in 0..1000 {
        let wakeup = wheel.next_wakeup().expect("a timer is armed, and there is nothing to wake for");
        if !fired_at(wheel, wakeup).is_empty() {
            return (wakeup, empty);
        }
    }
    panic!("a thousand wake-ups, and nothing fired: the loop spins");
}

/// Words of all timers in the order of firing, as the wheel's own wake-ups bring them.
fn fired_in_sleep(wheel: &mut TimerWheel) -> Vec<u64> {
    let mut fired = Vec::new();
    for _ in 0..10_000 {
        let Some(wakeup) = wheel.next_wakeup() else { return fired };
        fired.extend(fired_at(wheel, wakeup));
    }
    panic!("ten thousand wake-ups, and timers are left: the loop spins");
}

#[test]
fn the_runs_of_the_model_are_not_empty() {
    let mut state = 1_u64;
    let (mut batches, mut fired, mut cancelled, mut rearmed, mut empty_wakeups, mut alive_max) =
        (0, 0, 0, 0, 0, 0);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..1500)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        let seen = timer_model::check(&bytes);
        batches += seen.batches;
        fired += seen.counters.fired;
        cancelled += seen.counters.cancelled;
        rearmed += seen.counters.rearmed;
        empty_wakeups += seen.empty_wakeups;
        alive_max = alive_max.max(seen.alive_max);
    }
    let told = format!(
        "{batches} batches, {fired} fired, {cancelled} cancelled, {rearmed} re-armed, {empty_wakeups} empty wake-ups, \
         {alive_max} alive"
    );
    assert!(batches > 1000 && fired > 5000 && cancelled > 1000 && rearmed > 5000, "{told}");
    assert!(empty_wakeups > 300 && alive_max > 100, "{told}");
}

/// B15
#[test]
fn a_near_timer_is_not_filed_behind_a_far_one() {
    for level in 1..=7 {
        let boundary = 1_u64 << (6 * level);
        let mut wheel = wheel_at(ticks(boundary - 2));
        wheel.arm(ticks(boundary * 70 + 5), 0, 1);
        wheel.arm(ticks(boundary + 3), 0, 2);
        wheel.arm(at(u64::MAX - 1), 0, 3);
        wheel.assert_invariants();
        assert_eq!(fired_in_sleep(&mut wheel), [2, 1, 3], "boundary 64^{level}");
    }
}

/// B16
#[test]
fn cancelling_the_earliest_timer_leaves_the_later_ones_their_wakeup() {
    let mut wheel = wheel_at(at(0));
    let early = wheel.arm(ticks(3), 0, 1);
    wheel.arm(ticks(9), 0, 2);
    assert_eq!(wheel.next_wakeup(), Some(ticks(3)));
    assert!(wheel.cancel(early));
    assert_eq!(wheel.next_wakeup(), Some(ticks(9)));
    wheel.collect(ticks(4));
    let earlier = wheel.arm(ticks(100), 0, 3);
    assert!(wheel.rearm(earlier, ticks(6)));
    assert_eq!(wheel.next_wakeup(), Some(ticks(6)), "re-armed to an earlier deadline");
    assert_eq!(fired_at(&mut wheel, ticks(9)), [3, 2]);
    assert_eq!(wheel.next_wakeup(), None);
    wheel.arm(ticks(10), 0, 4);
    assert_eq!(wheel.next_wakeup(), Some(ticks(10)), "armed after the wheel had been empty");
}

/// B17
#[test]
fn a_timer_that_is_due_and_not_popped_can_be_cancelled_and_rearmed() {
    let mut wheel = wheel_at(at(0));
    let timers: Vec<TimerToken> = (0..4).map(|word| wheel.arm(ticks(64), 0, word)).collect();
    wheel.collect(ticks(64));
    assert_eq!(wheel.pop_due().unwrap().word, 0);
    assert!(wheel.cancel(timers[1]));
    assert!(wheel.rearm(timers[2], ticks(70)));
    wheel.assert_invariants();
    assert_eq!(pop_all(&mut wheel).iter().map(|due| due.word).collect::<Vec<_>>(), [3]);
    assert_eq!(fired_at(&mut wheel, ticks(69)), NOTHING);
    assert_eq!(fired_at(&mut wheel, ticks(70)), [2]);
}

/// B29, B59, B82
#[test]
fn deadlines_at_the_end_of_the_clock_neither_wrap_nor_come_early() {
    for now_ns in [0, 1, 1 << 31, 1 << 32, u64::MAX / 2, u64::MAX - 5 * TICK_NS, u64::MAX - 9] {
        let mut wheel = wheel_at(at(now_ns));
        wheel.arm(at(now_ns).saturating_add_ns(u64::MAX), 0, 1);
        wheel.arm(Instant::FAR_FUTURE, 0, 2);
        wheel.arm(at(u64::MAX - 1), 0, 3);
        assert_eq!(fired_at(&mut wheel, at(now_ns)), NOTHING, "at {now_ns}");
        assert_eq!(fired_at(&mut wheel, at(u64::MAX - 2)), NOTHING, "at {now_ns}");
        assert_eq!(fired_at(&mut wheel, Instant::FAR_FUTURE), [3], "at {now_ns}");
        assert_eq!(wheel.next_wakeup(), None, "what is armed for FAR_FUTURE never fires");
        assert_eq!(wheel.len(), 2);
    }
}

/// B31
#[test]
fn a_timer_cancelled_by_another_of_its_batch_does_not_fire() {
    let mut wheel = wheel_at(at(0));
    let timers: Vec<TimerToken> = (0..3).map(|word| wheel.arm(ticks(1), 0, word)).collect();
    wheel.collect(ticks(1));
    assert_eq!(wheel.pop_due().unwrap().timer, timers[0]);
    assert!(wheel.cancel(timers[1]));
    assert!(wheel.cancel(timers[2]));
    assert!(!wheel.cancel(timers[2]));
    assert!(!wheel.has_due());
    assert_eq!(wheel.pop_due(), None);
    assert_eq!(wheel.next_wakeup(), None);
}

/// B30: the half of it that is the wheel's.
#[test]
fn a_deadline_inside_a_tick_costs_one_wakeup_and_is_not_early() {
    let mut wheel = wheel_at(at(0));
    wheel.arm(at(5 * TICK_NS + 1), 0, 1);
    assert_eq!(fired_at(&mut wheel, ticks(5)), NOTHING);
    assert_eq!(fired_at(&mut wheel, at(6 * TICK_NS - 1)), NOTHING);
    assert_eq!(sleep_until_fired(&mut wheel), (ticks(6), 0));
}

/// B39
#[test]
fn a_delay_of_whole_revolutions_is_neither_a_round_late_nor_early() {
    for level in 0..=7 {
        for revolutions in [1, 2, 63, 64, 65] {
            for start in [0, 1, 62, 63, 64, 4095, 4096, (1 << 36) - 1] {
                let mut wheel = wheel_at(at(start * TICK_NS + 7));
                let deadline = ticks(start + (revolutions << (6 * level)));
                wheel.arm(deadline, 0, 1);
                wheel.assert_invariants();
                let (fired, empty) = sleep_until_fired(&mut wheel);
                assert_eq!(fired, deadline, "64^{level} x {revolutions} ticks from {start}");
                assert!(empty <= 6, "{empty} empty wake-ups: more than one per level");
            }
        }
    }
}

/// B41
#[test]
fn a_timer_armed_while_popping_waits_for_the_next_collect() {
    let mut wheel = wheel_at(ticks(5));
    let first = wheel.arm(ticks(5), 0, 1);
    let second = wheel.arm(ticks(5), 0, 2);
    wheel.collect(ticks(5));
    let mut popped = Vec::new();
    while let Some(due) = wheel.pop_due() {
        assert!(popped.len() < 10, "the turn does not end");
        popped.push(due.word);
        wheel.arm(ticks(5), 0, due.word + 10);
        wheel.arm(at(0), 0, due.word + 20);
        wheel.rearm(second, ticks(5));
    }
    assert_eq!(popped, [1]);
    assert!(!wheel.is_armed(first));
    assert_eq!(wheel.next_wakeup(), Some(ticks(5)), "they are due already");
    assert_eq!(fired_at(&mut wheel, ticks(5)), [21, 11, 2]);
}

/// B41: what is left over is served before what came later, so an eager re-armer starves nobody.
#[test]
fn a_bounded_turn_leaves_the_rest_in_order_and_does_not_sleep() {
    let mut wheel = wheel_at(at(0));
    for word in 0..4 {
        wheel.arm(ticks(1), 0, word);
    }
    let mut popped = Vec::new();
    for turn in 0..8 {
        wheel.collect(ticks(1));
        popped.push(wheel.pop_due().unwrap().word);
        wheel.arm(at(0), 0, 100 + turn);
        wheel.assert_invariants();
        assert_eq!(wheel.next_wakeup(), Some(ticks(1)));
    }
    assert_eq!(popped, [0, 1, 2, 3, 100, 101, 102, 103]);
}

/// B57
#[test]
fn a_deadline_of_exactly_now_is_due() {
    let mut wheel = wheel_at(at(0));
    wheel.arm(ticks(1), 0, 1);
    wheel.arm(at(TICK_NS + 1), 0, 2);
    assert_eq!(fired_at(&mut wheel, at(TICK_NS - 1)), NOTHING);
    assert_eq!(fired_at(&mut wheel, ticks(1)), [1]);
    wheel.arm(ticks(1), 0, 3);
    assert_eq!(fired_at(&mut wheel, ticks(1)), [3]);
    assert_eq!(fired_at(&mut wheel, ticks(2)), [2]);
}

/// B58, B84
#[test]
fn a_deadline_already_past_is_due_although_the_clock_does_not_move() {
    for now in [at(0), at(1), at(TICK_NS + 5), Instant::FAR_FUTURE] {
        let mut wheel = wheel_at(now);
        wheel.arm(at(0), 0, 1);
        assert_eq!(wheel.next_wakeup(), Some(now));
        assert_eq!(fired_at(&mut wheel, now), [1]);
        let timer = wheel.arm(ticks(7), 0, 2);
        wheel.rearm(timer, at(0));
        assert_eq!(fired_at(&mut wheel, now), [2]);
    }
}

/// A timer that need not wait for its tick must not overtake one that does.
#[test]
fn an_overdue_timer_takes_the_passed_ones_of_its_tick_along() {
    let mut wheel = wheel_at(at(0));
    wheel.arm(at(TICK_NS + 20), 0, 1);
    wheel.arm(at(TICK_NS + 50), 0, 2);
    wheel.arm(at(TICK_NS + 51), 0, 3);
    assert_eq!(fired_at(&mut wheel, at(TICK_NS + 45)), NOTHING);
    wheel.arm(at(TICK_NS + 30), 0, 4);
    assert_eq!(fired_at(&mut wheel, at(TICK_NS + 50)), [1, 4, 2]);
    assert_eq!(fired_at(&mut wheel, ticks(2)), [3]);
}

/// B59
#[test]
fn a_clock_that_jumps_forward_fires_everything_in_order_and_one_that_goes_back_stands_still() {
    let mut wheel = wheel_at(ticks(1 << 20));
    let mut deadlines_ns: Vec<u64> =
        (0..44).map(|shift| ((1 << 20) + (1 << shift)) * TICK_NS + shift % 3).collect();
    deadlines_ns.rotate_left(17);
    for &deadline_ns in &deadlines_ns {
        wheel.arm(at(deadline_ns), 0, deadline_ns);
    }
    wheel.collect(at(0));
    assert!(!wheel.has_due());
    assert!(wheel.next_wakeup().unwrap() > ticks(1 << 20));
    deadlines_ns.sort_unstable();
    assert_eq!(fired_at(&mut wheel, ticks(1 << 50)), deadlines_ns);
}

/// B60
#[test]
fn cancelling_the_only_timer_leaves_nothing_to_wake_for() {
    for deadline in [at(0), ticks(3), ticks(64), ticks(1 << 13), ticks(1 << 40), Instant::FAR_FUTURE] {
        let mut wheel = wheel_at(ticks(1));
        let timer = wheel.arm(deadline, 0, 1);
        assert!(wheel.cancel(timer));
        wheel.assert_invariants();
        assert_eq!(wheel.next_wakeup(), None, "{deadline:?}");
        let timer = wheel.arm(deadline, 0, 2);
        assert!(wheel.rearm(timer, Instant::FAR_FUTURE));
        assert_eq!(wheel.next_wakeup(), None, "{deadline:?}, then for ever");
        wheel.assert_invariants();
    }
}

/// B82
#[test]
fn the_first_instants_of_the_clock_are_deadlines_like_any_other() {
    for tick_ns in [1, 2, TICK_NS, 1 << 63] {
        let mut wheel = TimerWheel::new(tick_ns, at(0));
        wheel.arm(at(0), 0, 1);
        wheel.arm(at(1), 0, 2);
        assert_eq!(fired_at(&mut wheel, at(0)), [1]);
        assert_eq!(fired_at(&mut wheel, at(tick_ns)), [2]);
    }
}

/// B83
#[test]
fn the_span_of_the_wheel_is_no_limit() {
    for now in [0, 1, 5, (1 << 36) - 1, 1 << 36] {
        for delay in [(1_u64 << 36) - 1, 1 << 36, (1 << 36) + 1, 5 << 36] {
            let mut wheel = wheel_at(ticks(now));
            wheel.arm(ticks(now + delay), 0, 1);
            wheel.assert_invariants();
            assert_eq!(sleep_until_fired(&mut wheel).0, ticks(now + delay));
        }
    }
}

/// B85
#[test]
fn an_interval_counts_from_its_deadline_not_from_its_callback() {
    let period_ns = 10 * TICK_NS;
    let interval = Interval::new(period_ns, MissedTicks::Skip);
    let mut wheel = wheel_at(at(0));
    wheel.arm(at(period_ns), 0, 0);
    let mut round = 0;
    while round < 1000 {
        // Each wake-up is late, and each callback takes its time, together less than a period.
        let now = wheel.next_wakeup().unwrap().saturating_add_ns(TICK_NS / 3);
        wheel.collect(now);
        if let Some(due) = wheel.pop_due() {
            round += 1;
            assert_eq!(due.deadline, at(round * period_ns));
            wheel.arm(interval.next(due.deadline, now.saturating_add_ns(7 * TICK_NS)), 0, 0);
        }
    }
}

/// B85
#[test]
fn missed_ticks_come_in_a_burst_or_are_delayed_or_skipped() {
    let next =
        |missed, deadline_ns, now_ns| Interval::new(10, missed).next(at(deadline_ns), at(now_ns)).as_ns();
    for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
        assert_eq!(next(missed, 100, 100), 110, "{missed:?} on time");
        assert_eq!(next(missed, 100, 109), 110, "{missed:?} late, and nothing missed");
        assert_eq!(next(missed, u64::MAX - 3, u64::MAX - 3), u64::MAX, "{missed:?} at the end of the clock");
        assert_eq!(next(missed, u64::MAX, u64::MAX), u64::MAX, "{missed:?} for ever");
    }
    assert_eq!(
        next(MissedTicks::Burst, 100, 110),
        110,
        "a tick that is due now is missed like one before it"
    );
    assert_eq!(next(MissedTicks::Delay, 100, 110), 120);
    assert_eq!(next(MissedTicks::Skip, 100, 110), 120);
    assert_eq!(next(MissedTicks::Burst, 100, 135), 110);
    assert_eq!(next(MissedTicks::Delay, 100, 135), 145);
    assert_eq!(next(MissedTicks::Skip, 100, 135), 140);
    assert_eq!(next(MissedTicks::Skip, 100, 130), 140, "strictly ahead");
}

#[test]
#[should_panic(expected = "at least one nanosecond")]
fn an_interval_of_nothing_is_refused() {
    let _ = Interval::new(0, MissedTicks::Skip);
}

#[test]
#[should_panic(expected = "no power of two")]
fn a_tick_that_is_no_power_of_two_is_refused() {
    let _ = TimerWheel::new(1_000_000, at(0));
}

/// B86
#[test]
fn pushing_back_and_cancelling_far_timers_costs_no_memory() {
    let mut wheel = wheel_at(at(0));
    let timers: Vec<TimerToken> = (0..100).map(|word| wheel.arm(ticks(1 << 20), 0, word)).collect();
    let bytes = wheel.bytes();
    for round in 0..1000 {
        for &timer in &timers {
            wheel.rearm(timer, ticks((1 << 20) + round));
        }
        let passing = wheel.arm(ticks(1 << 30), 0, 0);
        wheel.cancel(passing);
    }
    assert_eq!(wheel.bytes(), bytes);
    assert_eq!(wheel.len(), 100);
    wheel.assert_invariants();
}

/// B86
#[test]
fn firing_for_ever_costs_no_memory_whether_or_not_the_due_queue_ever_empties() {
    for left_over in [0, 3] {
        let mut wheel = wheel_at(at(0));
        let mut bytes_max = 0;
        for round in 0..2000 {
            for word in 0..10 {
                wheel.arm(ticks(round), 0, word);
            }
            wheel.collect(ticks(round));
            while wheel.len() > left_over {
                wheel.pop_due();
            }
            if round == 20 {
                bytes_max = wheel.bytes();
            }
        }
        assert_eq!(wheel.bytes(), bytes_max, "{left_over} left over in each turn");
    }
}

/// B87 is a heap's, but the order it breaks is everyone's.
#[test]
fn timers_cancelled_from_the_middle_leave_the_others_in_order() {
    for step in 2..9 {
        let mut wheel = wheel_at(at(0));
        let deadline = |word: u64| ticks(word * 7919 % 500);
        let timers: Vec<TimerToken> = (1..400).map(|word| wheel.arm(deadline(word), 0, word)).collect();
        for timer in timers.iter().step_by(step) {
            assert!(wheel.cancel(*timer));
        }
        let mut expected: Vec<u64> =
            (1..400_u64).filter(|word| !(word - 1).is_multiple_of(step as u64)).collect();
        expected.sort_by_key(|&word| (deadline(word), word));
        assert_eq!(fired_in_sleep(&mut wheel), expected);
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_of_arming_across_cascades_and_rearms() {
    let deadline = ticks(100_000);
    let mut wheel = wheel_at(at(0));
    for (word, start) in (0..).zip([0, 1, 64, 4096, 90_000, 99_990, 99_999]) {
        wheel.collect(ticks(start));
        wheel.arm(deadline, 0, word);
    }
    assert_eq!(fired_at(&mut wheel, deadline), [0, 1, 2, 3, 4, 5, 6]);

    // Put off from other slots, in an order of their own.
    let mut wheel = wheel_at(at(0));
    let timers: Vec<TimerToken> = (0..6).map(|word| wheel.arm(ticks(10 + 1000 * word), 0, word)).collect();
    for index in [3, 0, 5, 1, 4] {
        assert!(wheel.rearm(timers[index], deadline));
    }
    wheel.arm(deadline, 0, 6);
    assert!(wheel.rearm(timers[2], deadline));
    assert_eq!(fired_in_sleep(&mut wheel), [3, 0, 5, 1, 4, 6, 2]);
}

#[test]
fn timers_of_one_tick_share_a_wakeup() {
    let mut wheel = wheel_at(at(0));
    for word in 1..=TICK_NS {
        wheel.arm(at(8 * TICK_NS + word), 0, word);
    }
    assert_eq!(wheel.next_wakeup(), Some(ticks(9)));
    assert_eq!(fired_at(&mut wheel, ticks(9)), (1..=TICK_NS).collect::<Vec<_>>());
}

/// The price of leaving a timer where it is: at most one empty wake-up.
#[test]
fn a_timer_put_off_many_times_wakes_the_loop_once() {
    let mut wheel = wheel_at(at(0));
    let timer = wheel.arm(ticks(10), 3, 77);
    for later in 11..60 {
        assert!(wheel.rearm(timer, ticks(later)));
    }
    assert_eq!(sleep_until_fired(&mut wheel), (ticks(59), 1));
}

#[test]
fn a_fired_timer_hands_back_what_it_was_armed_with() {
    let mut wheel = wheel_at(at(0));
    let timer = wheel.arm(at(1234), 255, u64::MAX);
    assert_eq!(TimerToken::from_word(timer.as_word()), timer);
    assert_eq!(format!("{timer:?}"), "timer 0v0");
    assert!(wheel.rearm(timer, at(2000)));
    wheel.collect(ticks(2));
    assert_eq!(pop_all(&mut wheel), [Due { timer, deadline: at(2000), kind: 255, word: u64::MAX }]);
    assert!(!wheel.is_armed(timer) && !wheel.cancel(timer) && !wheel.rearm(timer, at(0)));
}

#[test]
fn a_token_never_names_a_second_timer_even_when_generations_run_out() {
    let mut wheel = TimerWheel::with_counters_at(TICK_NS, at(0), u32::MAX - 3, u32::MAX - 4);
    let mut tokens: Vec<TimerToken> = Vec::new();
    for word in 0..20 {
        let timer = wheel.arm(ticks(1), 0, word);
        // Slot by slot, each until its generations are used up: a generation that wrapped would go back.
        assert!(tokens.last().is_none_or(|&last| last < timer), "{timer:?} after {tokens:?}");
        assert!(tokens.iter().all(|&dead| !wheel.is_armed(dead)));
        tokens.push(timer);
        assert!(wheel.cancel(timer));
        wheel.assert_invariants();
    }
}

#[test]
fn the_order_of_arming_survives_its_own_counter() {
    for start in (u32::MAX - 12)..=u32::MAX {
        let mut wheel = TimerWheel::with_counters_at(TICK_NS, at(0), 0, start);
        let timers: Vec<TimerToken> = (0..4).map(|word| wheel.arm(ticks(5), 0, word)).collect();
        wheel.collect(ticks(5));
        for word in 4..8 {
            wheel.arm(ticks(9), 0, word);
        }
        wheel.rearm(timers[1], ticks(9));
        wheel.arm(ticks(9), 0, 8);
        wheel.assert_invariants();
        assert_eq!(fired_at(&mut wheel, ticks(9)), [0, 2, 3, 4, 5, 6, 7, 1, 8], "from {start}");
    }
}
