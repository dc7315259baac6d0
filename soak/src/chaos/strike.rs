//! Trouble that is in force on the wire, and what it asks of one connection.

use std::collections::BTreeSet;

use super::kind::Kind;
use super::schedule::Event;

/// An event that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) event: Event,
    /// On the machine's clock.
    pub(crate) begun_ns: u64,
    pub(crate) until_ns: u64,
    /// Connections that felt it.
    pub(crate) touched: BTreeSet<u64>,
}

impl Strike {
    /// `event` begins now.
    pub(crate) fn new(event: Event, now_ns: u64) -> Strike {
        let until_ns = now_ns.saturating_add(event.duration_ns);
        Strike { event, begun_ns: now_ns, until_ns, touched: BTreeSet::new() }
    }

    /// Whether it strikes the connection with this number: a share of all, spread evenly, another one for each event.
    pub(crate) fn hits(&self, serial: u64) -> bool {
        let strength = self.event.strength;
        let share_percent = match self.event.kind {
            // Who is cut has nothing more to show.
            Kind::Reset => strength.div_ceil(2),
            Kind::Vanish => strength.div_ceil(4),
            _ => strength.max(20),
        };
        let mixed = (serial ^ self.event.number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 33) % 100 < share_percent
    }
}

/// What is asked of one connection now.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) delay_ns: u64,
    /// Bytes a second, in each direction; at least 1.
    pub(crate) rate_bytes_per_s: Option<u64>,
    /// The most bytes of a write, at least 1.
    pub(crate) segment_bytes: Option<usize>,
    pub(crate) stalled: bool,
    /// By how much an end is later than the bytes before it.
    pub(crate) end_delay_ns: u64,
}

impl Rules {
    /// What `strikes` ask of a connection. Where several do, the worst of each.
    pub(crate) fn of<'a>(strikes: impl Iterator<Item = &'a Strike>, serial: u64) -> Rules {
        let mut rules = Rules::default();
        for strike in strikes.filter(|strike| strike.hits(serial)) {
            let strength = strike.event.strength.clamp(1, 100);
            match strike.event.kind {
                Kind::Delay => rules.delay_ns = rules.delay_ns.max(strength * 3_000_000),
                Kind::Throttle => {
                    let rate = 2_000_000 / strength;
                    rules.rate_bytes_per_s =
                        Some(rules.rate_bytes_per_s.map_or(rate, |other| other.min(rate)));
                }
                Kind::Split => {
                    let bytes = (1 + (100 - strength) * 1459 / 99) as usize;
                    rules.segment_bytes = Some(rules.segment_bytes.map_or(bytes, |other| other.min(bytes)));
                }
                Kind::Stall => rules.stalled = true,
                Kind::LateEnd => rules.end_delay_ns = rules.end_delay_ns.max(strength * 30_000_000),
                _ => {}
            }
        }
        rules
    }

    /// Whether an event of this kind changes anything for bytes that pass.
    pub(crate) fn is_felt(kind: Kind) -> bool {
        matches!(kind, Kind::Delay | Kind::Throttle | Kind::Split | Kind::Stall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(kind: Kind, strength: u64, number: u64) -> Strike {
        Strike::new(Event { number, at_ns: 0, duration_ns: 1000, kind, strength }, 5)
    }

    #[test]
    fn a_strike_hits_about_its_share_and_each_event_another_one() {
        let (first, second) = (strike(Kind::Stall, 40, 0), strike(Kind::Stall, 40, 1));
        let of = |strike: &Strike| (0..1000).filter(|&serial| strike.hits(serial)).count();
        assert!((300..500).contains(&of(&first)), "{}", of(&first));
        assert!((300..500).contains(&of(&second)), "{}", of(&second));
        assert!((0..1000).any(|serial| first.hits(serial) != second.hits(serial)));
    }

    #[test]
    fn the_worst_of_several_strikes_counts() {
        let strikes =
            [strike(Kind::Delay, 100, 0), strike(Kind::Split, 100, 1), strike(Kind::Throttle, 100, 2)];
        let serial = (0..1000).find(|&serial| strikes.iter().all(|strike| strike.hits(serial))).unwrap();
        let rules = Rules::of(strikes.iter(), serial);
        assert_eq!(rules.delay_ns, 300_000_000);
        assert_eq!(rules.segment_bytes, Some(1));
        assert_eq!(rules.rate_bytes_per_s, Some(20_000));
        assert_eq!(Rules::of([].iter(), serial), Rules::default());
    }
}
