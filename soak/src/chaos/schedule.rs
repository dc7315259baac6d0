//! What is to go wrong in an episode, and when: drawn from its seed.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sim::decision::{Decisions, Domain, Site};

use super::kind::Kind;

/// How much goes wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Level {
    /// Now and then a little.
    Calm,
    /// About as bad as a bad day.
    Default,
    /// Something all the time.
    Cruel,
}

impl Level {
    /// Its name in options and records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Default => "default",
            Level::Cruel => "cruel",
        }
    }

    /// How many events are begun in ten seconds.
    const fn events_in_10_s(self) -> u64 {
        match self {
            Level::Calm => 3,
            Level::Default => 10,
            Level::Cruel => 25,
        }
    }

    /// The longest event, in milliseconds.
    const fn longest_ms(self) -> u64 {
        match self {
            Level::Calm => 400,
            Level::Default => 1500,
            Level::Cruel => 4000,
        }
    }

    /// The greatest strength, in percent.
    const fn strongest(self) -> u64 {
        match self {
            Level::Calm => 20,
            Level::Default => 60,
            Level::Cruel => 100,
        }
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChaosOptions {
    pub(crate) level: Level,
    /// These kinds; without those that cannot be had here.
    pub(crate) kinds: Vec<Kind>,
    /// Whether services and clients have processes of their own.
    pub(crate) apart: bool,
}

impl ChaosOptions {
    /// `names` are the only kinds wanted; all of them if there are none. `apart` says whether services and clients have
    /// processes of their own.
    ///
    /// # Errors
    /// What is wrong with the names: one that does not exist, one that cannot be had here.
    pub(crate) fn new(level: Level, names: &[String], apart: bool) -> Result<ChaosOptions, String> {
        let mut kinds = Vec::new();
        for name in names {
            let Some(kind) = Kind::from_name(name) else {
                let names = Kind::ALL.map(Kind::name).join(", ");
                return Err(format!("there is no kind of chaos {name:?}; there are {names}"));
            };
            if let Some(reason) = kind.left_out(apart) {
                return Err(format!("{name} cannot be had here: {reason}"));
            }
            kinds.push(kind);
        }
        if kinds.is_empty() {
            kinds.extend(Kind::ALL.into_iter().filter(|kind| kind.left_out(apart).is_none()));
        }
        Ok(ChaosOptions { level, kinds, apart })
    }

    /// As it is kept in a folder: also what is left out, and why.
    pub(crate) fn to_json(&self) -> Value {
        let left_out = |kind: Kind| Some((kind.name().to_owned(), kind.left_out(self.apart)?.into()));
        json!({
            "level": self.level.name(),
            "kinds": self.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            "left_out": Value::Object(Kind::ALL.into_iter().filter_map(left_out).collect()),
        })
    }

    /// Reads what [`ChaosOptions::to_json`] made.
    pub(crate) fn from_json(value: &Value, apart: bool) -> Option<ChaosOptions> {
        let level = Level::from_str(value.get("level")?.as_str()?, false).ok()?;
        let kinds = value.get("kinds")?.as_array()?;
        let kinds = kinds.iter().map(|name| Kind::from_name(name.as_str()?)).collect::<Option<_>>()?;
        Some(ChaosOptions { level, kinds, apart })
    }

    /// What is said of it once, when a run begins.
    pub(crate) fn describe(&self) -> String {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let left_out: Vec<String> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some(format!("{kind} ({})", kind.left_out(self.apart)?)))
            .collect();
        format!("chaos {}: {}; left out here: {}", self.level.name(), kinds.join(", "), left_out.join(", "))
    }
}

/// Whose doing a kind of trouble is, so that each event happens once.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Share {
    /// Everything is in one process.
    Whole,
    /// A process of services.
    Services {
        /// The first of them.
        first: bool,
    },
    /// A process of clients.
    Clients,
    /// The process that supervises the others.
    Parent,
}

impl Share {
    fn has(self, kind: Kind) -> bool {
        match self {
            Share::Whole => !kind.is_of_processes(),
            // Spinning threads take all processors, wherever they are.
            Share::Services { first } => match kind {
                Kind::Hog => first,
                kind => matches!(kind, Kind::Buffers | Kind::Interrupt | Kind::Descriptors),
            },
            Share::Clients => kind != Kind::Hog && !kind.is_of_processes(),
            Share::Parent => kind.is_of_processes(),
        }
    }
}

/// One thing that goes wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Counted from 0 in its episode.
    pub(crate) number: u64,
    /// Since the episode began.
    pub(crate) at_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) kind: Kind,
    /// 1 to 100; for small buffers, KiB.
    pub(crate) strength: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { duration_ns, kind, strength, .. } = self;
        match kind {
            Kind::Buffers => write!(f, "buffers of {strength} KiB"),
            _ => write!(f, "{kind} of strength {strength} for {} ms", duration_ns / 1_000_000),
        }
    }
}

/// Everything that is to go wrong in an episode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Schedule {
    /// By time.
    pub(crate) events: Vec<Event>,
    /// What sockets ask for as their buffers, in bytes, if they ask.
    pub(crate) buffer_bytes: Option<u32>,
}

/// An episode shorter than this has no chaos: it would have no calm.
const SHORTEST: Duration = Duration::from_millis(1000);

impl Schedule {
    /// Draws the schedule of an episode with a load of this length. Nothing goes wrong in its first tenth, in which loops
    /// are made, and in its last fifth, in which everything that is owed is to come. Of all that is drawn, `share` stays.
    pub(crate) fn draw(
        decisions: &mut Decisions,
        options: &ChaosOptions,
        share: Share,
        load: Duration,
    ) -> Schedule {
        let ChaosOptions { level, kinds, .. } = options;
        let mut draw = |site: &'static str, number: u64, bound: u64| {
            decisions.draw(Domain::Swarm, Site(site), number as u32, bound)
        };
        let mut buffer_bytes = None;
        if kinds.contains(&Kind::Buffers) {
            let choices = match level {
                Level::Calm => [None, None, None, Some(64 << 10)],
                Level::Default => [None, None, Some(64 << 10), Some(16 << 10)],
                Level::Cruel => [None, Some(64 << 10), Some(16 << 10), Some(6 << 10)],
            };
            buffer_bytes = choices[draw("small buffers", 0, choices.len() as u64) as usize];
        }
        let timed: Vec<Kind> = kinds.iter().copied().filter(|&kind| kind != Kind::Buffers).collect();
        if load < SHORTEST || timed.is_empty() {
            return Schedule { events: Vec::new(), buffer_bytes };
        }
        let load_ms = load.as_millis() as u64;
        let (from_ms, to_ms) = (load_ms / 10, load_ms / 10 * 8);
        let slots = (level.events_in_10_s() * load_ms).div_ceil(10_000);
        let mut events = Vec::new();
        for slot in 0..slots {
            // Zero draws no trouble.
            let Some(choice) = draw("kind of chaos", slot, timed.len() as u64 + 1).checked_sub(1) else {
                continue;
            };
            let kind = timed[choice as usize];
            let at_ms = from_ms + draw("time of chaos", slot, to_ms - from_ms);
            let duration_ms = 20 + draw("length of chaos", slot, level.longest_ms());
            let strength = 1 + draw("strength of chaos", slot, level.strongest());
            events.push(Event {
                number: 0,
                at_ns: at_ms * 1_000_000,
                duration_ns: duration_ms.min(to_ms - at_ms) * 1_000_000,
                kind,
                strength,
            });
        }
        events.retain(|event| share.has(event.kind));
        events.sort_by_key(|event| event.at_ns);
        for (number, event) in events.iter_mut().enumerate() {
            event.number = number as u64;
        }
        Schedule { events, buffer_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(level: Level) -> ChaosOptions {
        ChaosOptions::new(level, &[], true).unwrap()
    }

    #[test]
    fn a_seed_draws_the_same_schedule_again_and_another_seed_another_one() {
        let draw = |seed| {
            let mut decisions = Decisions::from_seed(seed);
            Schedule::draw(&mut decisions, &all(Level::Cruel), Share::Whole, Duration::from_secs(30))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn trouble_begins_after_the_first_tenth_and_is_over_before_the_last_fifth() {
        for seed in 0..50 {
            for level in [Level::Calm, Level::Default, Level::Cruel] {
                let mut decisions = Decisions::from_seed(seed);
                let schedule =
                    Schedule::draw(&mut decisions, &all(level), Share::Whole, Duration::from_secs(10));
                for event in &schedule.events {
                    assert!(event.at_ns >= 1_000_000_000, "{event:?}");
                    assert!(event.at_ns + event.duration_ns <= 8_000_000_000, "{event:?}");
                    assert!((1..=100).contains(&event.strength), "{event:?}");
                }
            }
        }
    }

    #[test]
    fn every_kind_that_can_be_had_is_drawn_in_some_minute() {
        let options = all(Level::Default);
        let mut drawn = Vec::new();
        for seed in 0..20 {
            for share in [Share::Whole, Share::Parent] {
                let mut decisions = Decisions::from_seed(seed);
                let schedule = Schedule::draw(&mut decisions, &options, share, Duration::from_secs(60));
                drawn.extend(schedule.events.iter().map(|event| event.kind));
                drawn.extend(schedule.buffer_bytes.map(|_| Kind::Buffers));
            }
        }
        for kind in options.kinds {
            assert!(drawn.contains(&kind), "{kind} was never drawn");
        }
    }

    #[test]
    fn each_kind_is_the_doing_of_somebody_who_can_do_it() {
        for kind in Kind::ALL {
            let of = |share: Share| share.has(kind);
            let apart = [Share::Services { first: true }, Share::Clients, Share::Parent];
            assert!(apart.into_iter().any(of), "nobody does {kind} where there are processes");
            assert!(!(of(Share::Parent) && of(Share::Whole)), "{kind} needs processes, or it does not");
            assert!(!kind.is_on_the_wire() || of(Share::Clients), "the proxies are with the clients: {kind}");
        }
    }

    #[test]
    fn a_kind_that_does_not_exist_or_cannot_be_had_is_refused_with_the_reason() {
        let refused = |name: &str| ChaosOptions::new(Level::Calm, &[name.to_owned()], false).unwrap_err();
        assert!(refused("rain").contains("there are delay, throttle"), "{}", refused("rain"));
        assert!(refused("memory").contains("ends a Rust program"), "{}", refused("memory"));
        let only = ChaosOptions::new(Level::Calm, &["reset".to_owned()], false).unwrap();
        assert_eq!(only.kinds, [Kind::Reset]);
    }
}
