//! Decisions from a seed: one ChaCha8 stream per domain, and a mapping from words to values that is ours.
//!
//! The key is the seed expanded by four steps of SplitMix64 (Steele, Lea and Flood 2014), little-endian; the stream
//! number is the domain's. Only raw 64-bit words are taken from the generator: how a word becomes a value below a bound
//! is the function [`value_below`], because the `rand` crates may change their own mapping between minor releases, and
//! that would throw away every kept seed.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Domain;

pub(crate) const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64: a bijection that spreads every input bit over the whole word.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Maps a uniform word onto `0..bound`: the high half of the 128-bit product. The bias is at most `bound` in 2^64.
pub const fn value_below(word: u64, bound: u64) -> u64 {
    ((word as u128 * bound as u128) >> 64) as u64
}

/// The seed of run `k` of the sweep that starts at `base`; run 0 is the base itself, so that one run of a printed seed
/// replays it. A pure function: `n` machines that take every `n`-th run cover the same seeds as one machine.
pub const fn seed_of_run(base: u64, k: u64) -> u64 {
    if k == 0 { base } else { mix(base.wrapping_add(k.wrapping_mul(GOLDEN_GAMMA))) }
}

/// Prints a seed the way every tool prints it: `0x` and 16 digits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// What a seed looks like, in words.
pub const SEED_FORMS: &str =
    "a seed is a decimal number, 0x and up to 16 hex digits, or a 40-digit commit hash";

/// Why a text is not a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedError(String);

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a seed: {SEED_FORMS}", self.0)
    }
}

impl std::error::Error for SeedError {}

impl std::str::FromStr for Seed {
    type Err = SeedError;

    /// Reads decimal, `0x` hexadecimal, or a 40-digit commit hash, whose first 16 digits are the seed.
    fn from_str(text: &str) -> Result<Seed, SeedError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = if let Some(digits) = text.strip_prefix("0x") {
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        } else if text.len() == 40 && plain {
            u64::from_str_radix(&text[..16], 16).ok()
        } else if plain {
            text.parse().ok()
        } else {
            None
        };
        parsed.map(Seed).ok_or_else(|| SeedError(text.to_owned()))
    }
}

/// One generator per domain, all under one key.
pub(crate) struct SeedStreams {
    seed: u64,
    streams: [ChaCha8Rng; Domain::COUNT],
}

impl SeedStreams {
    pub(crate) fn new(seed: u64) -> SeedStreams {
        let mut key = [0; 32];
        let mut state = seed;
        for word in key.chunks_exact_mut(8) {
            state = state.wrapping_add(GOLDEN_GAMMA);
            word.copy_from_slice(&mix(state).to_le_bytes());
        }
        let streams = std::array::from_fn(|domain| {
            let mut stream = ChaCha8Rng::from_seed(key);
            stream.set_stream(domain as u64);
            stream
        });
        SeedStreams { seed, streams }
    }

    pub(crate) fn draw(&mut self, domain: Domain, bound: u64) -> u64 {
        value_below(self.streams[domain as usize].next_u64(), bound)
    }
}

impl fmt::Debug for SeedStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedStreams").field("seed", &Seed(self.seed)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_hold() {
        let draws = |seed, domain, bound| {
            let mut streams = SeedStreams::new(seed);
            [(); 4].map(|()| streams.draw(domain, bound))
        };
        assert_eq!(draws(0, Domain::Setup, 1 << 32), GOLDEN_SETUP);
        assert_eq!(draws(0x51ed, Domain::Network, 1000), GOLDEN_NETWORK);
        assert_eq!(draws(u64::MAX, Domain::Processes, u64::MAX), GOLDEN_PROCESSES);
    }

    const GOLDEN_SETUP: [u64; 4] = [3_214_201_139, 980_649_845, 1_028_062_992, 398_895_907];
    const GOLDEN_NETWORK: [u64; 4] = [162, 881, 19, 313];
    const GOLDEN_PROCESSES: [u64; 4] = [
        7_435_046_448_521_107_199,
        11_437_859_007_559_117_887,
        11_346_901_410_187_134_505,
        3_243_817_191_295_823_503,
    ];

    #[test]
    fn run_zero_is_the_base_seed_and_runs_differ() {
        assert_eq!(seed_of_run(42, 0), 42);
        assert_ne!(seed_of_run(42, 1), seed_of_run(42, 2));
        assert_ne!(seed_of_run(42, 1), seed_of_run(43, 0));
    }

    #[test]
    fn seeds_are_read_in_three_forms_and_printed_in_one() {
        let read = |text: &str| text.parse::<Seed>();
        assert_eq!(read("66"), Ok(Seed(66)));
        assert_eq!(read("0x42"), Ok(Seed(0x42)));
        assert_eq!(read("0123456789abcdef0123456789abcdef01234567"), Ok(Seed(0x0123_4567_89ab_cdef)));
        assert_eq!(Seed(0x42).to_string(), "0x0000000000000042");
        for wrong in ["", "0x", "-1", "+1", "1e9", "0x10000000000000000", "deadbeef"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
