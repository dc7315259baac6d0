//! Medians with their uncertainty, from few and noisy rounds.

/// The generator behind the order of the rounds and the resampling: SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// One whose numbers follow from `seed`.
    pub(crate) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// An index below `length`.
    pub(crate) const fn below(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    /// Puts `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A median and its 95 % confidence interval.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Resamples behind an interval.
const RESAMPLES: usize = 4000;

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// The median of `values`, with the bootstrap's 95 % interval: the median of many resamples of the same size.
pub(crate) fn estimate(values: &[f64], random: &mut Random) -> Estimate {
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sample: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
            median(&mut sample)
        })
        .collect();
    resampled.sort_unstable_by(f64::total_cmp);
    Estimate {
        median: median(&mut values.to_vec()),
        low: resampled[RESAMPLES * 25 / 1000],
        high: resampled[RESAMPLES * 975 / 1000 - 1],
    }
}
