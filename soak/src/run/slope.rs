//! Whether a series of samples keeps growing: a leak is a slope, not a level.
//!
//! Samples are taken at quiet points, between two rounds of episodes, when nothing but the long-lived loop is there: what
//! they differ by is what was left behind. The estimate is that of Theil and Sen, the median of the slopes between all pairs
//! of samples, so that single samples, however wild, do not move it.
//!
//! What grows must do so all the time: the medians of the first, second and third part of the samples each lie well above
//! the one before. A pool that is filled once, or a buffer that doubles once, is a step, and steps are not leaks.
//!
//! | value | grows by more than | why that does not alarm |
//! |---|---|---|
//! | allocated bytes, without kept recordings | 1 MiB over the samples | the long-lived loop's queues and pools come and go by a few hundred KiB |
//! | resident bytes, without kept recordings | 256 MiB over the samples | the allocator gives pages back late |
//! | descriptors beside those of running loops | 4 | they are exactly the same at each quiet point |
//! | threads beside those of running loops | 4 | the same |
//!
//! The first two samples are left out: tables of the program, and pools of the allocator, are made in the first rounds.

/// Samples at the beginning that are not looked at.
const WARM_UP: usize = 2;

/// With fewer samples than this there is no verdict.
const SAMPLES_MIN: usize = 6;

/// More samples than this are thinned out: pairs are looked at.
const SAMPLES_MAX: usize = 1000;

/// What a series says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// There are too few samples to say.
    TooFew,
    /// It does not keep growing.
    Steady,
    /// It keeps growing.
    Leak {
        /// How much for each hour, by the slope.
        per_hour: i64,
    },
}

/// Judges samples of (milliseconds, value), in order of time, which may grow by `allowed` over all of them.
pub(crate) fn judge(samples: &[(u64, i64)], allowed: i64) -> Verdict {
    let warm = samples.get(WARM_UP..).unwrap_or_default();
    let every = warm.len().div_ceil(SAMPLES_MAX).max(1);
    let samples: Vec<(u64, i64)> = warm.iter().copied().step_by(every).collect();
    if samples.len() < SAMPLES_MIN {
        return Verdict::TooFew;
    }
    let span_ms = samples[samples.len() - 1].0.saturating_sub(samples[0].0);
    let per_hour = slope_per_hour(&samples);
    let growth = i128::from(per_hour) * i128::from(span_ms) / i128::from(HOUR_MS);
    let third = samples.len() / 3;
    let level = |part: &[(u64, i64)]| median(part.iter().map(|&(_, value)| value).collect());
    let levels = [
        level(&samples[..third]),
        level(&samples[third..samples.len() - third]),
        level(&samples[samples.len() - third..]),
    ];
    let (total, steps) = (levels[2] - levels[0], [levels[1] - levels[0], levels[2] - levels[1]]);
    let keeps_growing = steps.iter().all(|&step| step > 0 && step >= total / 4);
    if growth > i128::from(allowed) && keeps_growing { Verdict::Leak { per_hour } } else { Verdict::Steady }
}

const HOUR_MS: u64 = 3_600_000;

/// The median of the slopes of all pairs.
fn slope_per_hour(samples: &[(u64, i64)]) -> i64 {
    let mut slopes = Vec::new();
    for (at, &(begin_ms, begin)) in samples.iter().enumerate() {
        for &(end_ms, end) in &samples[at + 1..] {
            if end_ms > begin_ms {
                let slope = i128::from(end - begin) * i128::from(HOUR_MS) / i128::from(end_ms - begin_ms);
                slopes.push(slope.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
            }
        }
    }
    median(slopes)
}

fn median(mut values: Vec<i64>) -> i64 {
    if values.is_empty() {
        return 0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    /// A sample a minute.
    fn series(count: usize, value: impl Fn(i64) -> i64) -> Vec<(u64, i64)> {
        (0u64..).zip(0i64..).take(count).map(|(at, minute)| (at * 60_000, value(minute))).collect()
    }

    /// Something without a pattern, in `-size..size`.
    fn noise(minute: i64, size: i64) -> i64 {
        let word = (minute as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((word ^ word >> 29) >> 13).cast_signed() % (2 * size) - size
    }

    #[test]
    fn what_stays_is_steady() {
        assert_eq!(judge(&series(60, |_| 40 * MIB), MIB), Verdict::Steady);
    }

    #[test]
    fn what_goes_up_and_down_is_steady() {
        for count in [8, 10, 13, 60, 480] {
            for shift in 0..50 {
                let samples = series(count, |minute| 40 * MIB + noise(minute + 1000 * shift, MIB / 4));
                assert_eq!(judge(&samples, MIB), Verdict::Steady, "{count} samples, shift {shift}");
            }
        }
    }

    #[test]
    fn a_step_is_steady_wherever_it_is() {
        for at in 0..60 {
            let samples =
                series(60, |minute| (if minute < at { 40 } else { 80 }) * MIB + noise(minute, MIB / 8));
            assert_eq!(judge(&samples, MIB), Verdict::Steady, "a step after {at} minutes");
        }
    }

    #[test]
    fn a_slow_leak_is_seen_through_noise() {
        let samples = series(10, |minute| 40 * MIB + minute * 400_000 + noise(minute, MIB / 8));
        let Verdict::Leak { per_hour } = judge(&samples, MIB) else { panic!("400 KB a minute go unseen") };
        assert!((18_000_000..30_000_000).contains(&per_hour), "{per_hour} an hour");
        let night = series(480, |minute| 40 * MIB + minute * 10_000 + noise(minute, MIB / 4));
        assert!(matches!(judge(&night, MIB), Verdict::Leak { .. }), "10 KB a minute for a night");
    }

    #[test]
    fn one_descriptor_a_round_is_seen() {
        assert!(matches!(judge(&series(10, |minute| 20 + minute), 4), Verdict::Leak { .. }));
        assert_eq!(judge(&series(10, |minute| 20 + minute % 3), 4), Verdict::Steady);
    }

    #[test]
    fn single_wild_samples_say_nothing() {
        let samples = series(30, |minute| if minute % 7 == 3 { 900 * MIB } else { 40 * MIB });
        assert_eq!(judge(&samples, MIB), Verdict::Steady);
    }

    #[test]
    fn few_samples_are_no_verdict() {
        assert_eq!(judge(&series(7, |minute| minute * 100 * MIB), MIB), Verdict::TooFew);
        assert_eq!(judge(&[], MIB), Verdict::TooFew);
    }
}
