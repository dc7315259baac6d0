//! The variables `SIM_...` that say, for one `cargo test`, which runs its checks make.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::decision::seed::Seed;
use crate::fault::FaultSet;
use crate::kernel::Kernel;
use crate::shard::Shard;
use crate::weather::Weather;

/// Every variable, and what it says.
const VARIABLES: [(&str, &str); 17] = [
    ("SIM_SEED", "one run, of this seed; with SIM_RUNS so many, from it on"),
    ("SIM_RUNS", "so many runs"),
    ("SIM_JOBS", "on so many threads"),
    ("SIM_SHARD", "part I/N of the runs, counted from 1"),
    ("SIM_CHECK_DETERMINISM", "1 makes every run twice, and compares the hashes"),
    ("SIM_KERNEL", "the kernel of every host: linux, freebsd or macos"),
    ("SIM_WEATHER", "how much trouble there is: calm, default, cruel or tiny"),
    (
        "SIM_FAULTS",
        "exactly these faults are on, where they are legal; a list with commas; `sim faults` has them all",
    ),
    ("SIM_WITHOUT_FAULTS", "these faults are off"),
    ("SIM_SUPPRESS_FAULTS", "these faults are drawn, but nothing comes of them"),
    ("SIM_OUT", "the folder where failing runs are kept"),
    ("SIM_REPLAY", "a kept run, to be made again instead of any others"),
    ("SIM_UNTIL", "with SIM_REPLAY: stops after so many calls; with SIM_SEED and SIM_TRACE: prints so many"),
    ("SIM_TRACE", "with SIM_REPLAY or SIM_SEED: 1 prints every call"),
    ("SIM_SHRINK", "a kept run, to be made smaller instead of any others being made"),
    (
        "SIM_SHRINK_RUNS",
        "runs made at most to find a smaller one that fails in the same way; 0 leaves it as it is",
    ),
    ("SIM_TEST", "what to call this test in lines to paste, where cargo does not say"),
];

/// What a count should be.
const FROM_ONE: &str = "a number from 1 on, at most 18446744073709551615";

/// What the variables ask for. Whatever is absent is as the [`super::Check`] has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// `SIM_SEED`: one run, of this seed; with `SIM_RUNS` so many, from it on.
    pub seed: Option<Seed>,
    /// `SIM_RUNS`: so many runs; at least 1.
    pub runs: Option<u64>,
    /// `SIM_JOBS`: on so many threads; at least 1.
    pub jobs: Option<usize>,
    /// `SIM_SHARD`: this part of the runs.
    pub shard: Option<Shard>,
    /// `SIM_CHECK_DETERMINISM`: every run is made twice.
    pub check_determinism: bool,
    /// `SIM_KERNEL`: the kernel of every host.
    pub kernel: Option<Kernel>,
    /// `SIM_WEATHER`: how much trouble there is.
    pub weather: Option<Weather>,
    /// `SIM_FAULTS`: exactly these faults are on, where they are legal.
    pub faults: Option<FaultSet>,
    /// `SIM_WITHOUT_FAULTS`: these are off.
    pub without_faults: FaultSet,
    /// `SIM_SUPPRESS_FAULTS`: these are drawn, but nothing comes of them.
    pub suppress_faults: FaultSet,
    /// `SIM_OUT`: the folder where failing runs are kept.
    pub out: Option<PathBuf>,
    /// `SIM_REPLAY`: a kept run, to be made again.
    pub replay: Option<PathBuf>,
    /// `SIM_UNTIL`: a replay stops after so many calls; of a seed so many are printed.
    pub until_step: Option<u64>,
    /// `SIM_TRACE`: every call is printed.
    pub trace: bool,
    /// `SIM_SHRINK`: a kept run, to be made smaller.
    pub shrink: Option<PathBuf>,
    /// `SIM_SHRINK_RUNS`: runs made at most to find a smaller one.
    pub shrink_runs: Option<u64>,
    /// `SIM_TEST`: what to call the test.
    pub test: Option<String>,
}

/// Why the variables make no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnvironmentError(String);

impl fmt::Display for EnvironmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EnvironmentError {}

fn unknown(name: &str) -> EnvironmentError {
    let mut text = format!("{name} is no variable of the simulator; there are:");
    for (known, says) in VARIABLES {
        text += &format!("\n  {known:<22} {says}");
    }
    EnvironmentError(text)
}

/// A value that cannot be read, and what it should be.
fn parsed<T>(
    name: &str,
    value: &str,
    should: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, EnvironmentError> {
    parse(value).ok_or_else(|| EnvironmentError(format!("{name}={value:?}: it should be {should}")))
}

impl Environment {
    /// What the variables of this process ask for.
    ///
    /// # Errors
    /// As [`Environment::of`].
    pub fn of_process() -> Result<Environment, EnvironmentError> {
        Environment::of(std::env::vars_os())
    }

    /// What these variables ask for. Those that do not begin with `SIM_` are somebody else's.
    ///
    /// # Errors
    /// A variable that there is not, with a list of those that there are; a value that cannot be read, with what it should be;
    /// two variables that contradict each other.
    pub fn of(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Environment, EnvironmentError> {
        let mut read = Environment::default();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("SIM_")) else { continue };
            let path = PathBuf::from(&value);
            let Some(text) = value.to_str() else {
                return Err(EnvironmentError(format!("{name}={value:?}: it should be UTF-8")));
            };
            read.set(name, text, path)?;
        }
        if read.replay.is_some() && read.shrink.is_some() {
            return Err(EnvironmentError("SIM_REPLAY and SIM_SHRINK: one of them at a time".to_owned()));
        }
        if read.replay.is_some() && read.seed.is_some() {
            return Err(EnvironmentError(
                "SIM_REPLAY and SIM_SEED: a kept run has its own decisions, so one of them at a time"
                    .to_owned(),
            ));
        }
        let narrow = |name: &str| {
            let text = format!("{name} is about one run: SIM_REPLAY or SIM_SEED should say which");
            Err(EnvironmentError(text))
        };
        if read.trace && read.replay.is_none() && read.seed.is_none() {
            return narrow("SIM_TRACE");
        }
        if read.until_step.is_some() && read.replay.is_none() && !(read.seed.is_some() && read.trace) {
            return narrow("SIM_UNTIL");
        }
        Ok(read)
    }

    fn set(&mut self, name: &str, text: &str, path: PathBuf) -> Result<(), EnvironmentError> {
        let at_least_one = |text: &str| text.parse::<u64>().ok().filter(|&number| number > 0);
        let faults = |text: &str| {
            text.parse::<FaultSet>().map_err(|error| EnvironmentError(format!("{name}={text:?}: {error}")))
        };
        let switch = |text: &str| match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        };
        match name {
            "SIM_SEED" => {
                let seed = text.parse().map_err(|error| EnvironmentError(format!("{name}: {error}")))?;
                self.seed = Some(seed);
            }
            "SIM_RUNS" => self.runs = Some(parsed(name, text, FROM_ONE, at_least_one)?),
            "SIM_JOBS" => {
                let jobs = |text: &str| at_least_one(text).and_then(|jobs| usize::try_from(jobs).ok());
                self.jobs = Some(parsed(name, text, FROM_ONE, jobs)?);
            }
            "SIM_SHARD" => {
                let shard = text.parse().map_err(|error| EnvironmentError(format!("{name}: {error}")))?;
                self.shard = Some(shard);
            }
            "SIM_CHECK_DETERMINISM" => self.check_determinism = parsed(name, text, "1 or 0", switch)?,
            "SIM_KERNEL" => {
                self.kernel = Some(parsed(name, text, "linux, freebsd or macos", Kernel::from_name)?);
            }
            "SIM_WEATHER" => {
                self.weather = Some(parsed(name, text, "calm, default, cruel or tiny", Weather::from_name)?);
            }
            "SIM_FAULTS" => self.faults = Some(faults(text)?),
            "SIM_WITHOUT_FAULTS" => self.without_faults = faults(text)?,
            "SIM_SUPPRESS_FAULTS" => self.suppress_faults = faults(text)?,
            "SIM_OUT" => self.out = Some(path),
            "SIM_REPLAY" => self.replay = Some(path),
            "SIM_UNTIL" => {
                self.until_step = Some(parsed(name, text, "a number of calls from 1 on", at_least_one)?);
            }
            "SIM_TRACE" => self.trace = parsed(name, text, "1 or 0", switch)?,
            "SIM_SHRINK" => self.shrink = Some(path),
            "SIM_SHRINK_RUNS" => {
                self.shrink_runs = Some(parsed(name, text, "a number of runs", |text| text.parse().ok())?);
            }
            "SIM_TEST" => self.test = Some(text.to_owned()),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Whether it leaves out runs that a check would make, so that what happens sometimes may not happen now.
    pub(super) fn narrows(&self) -> bool {
        let Environment { seed, kernel, weather, faults, without_faults, suppress_faults, shard, .. } = self;
        seed.is_some()
            || shard.is_some_and(|shard| shard != Shard::WHOLE)
            || kernel.is_some()
            || weather.is_some()
            || faults.is_some()
            || !without_faults.is_empty()
            || !suppress_faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let pairs = variables.iter().map(|&(name, value)| (name.into(), value.into()));
        Environment::of(pairs.collect::<Vec<(OsString, OsString)>>()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_that_there_is_not_is_refused_with_a_list_of_those_that_there_are() {
        let error = of(&[("SIM_SEEDS", "1")]).unwrap_err();
        assert!(error.starts_with("SIM_SEEDS is no variable"), "{error}");
        for (name, _) in VARIABLES {
            assert!(error.contains(name), "{name} is not in: {error}");
        }
        assert_eq!(of(&[("HOME", "x"), ("SIMULATION", "y")]), Ok(Environment::default()));
    }

    #[test]
    fn every_listed_variable_is_read() {
        for (name, _) in VARIABLES {
            let values = ["1", "1/2", "linux", "calm", "late-waits"];
            assert!(
                values.iter().any(|value| match name {
                    "SIM_UNTIL" | "SIM_TRACE" => of(&[(name, value), ("SIM_REPLAY", "kept")]).is_ok(),
                    _ => of(&[(name, value)]).is_ok(),
                }),
                "{name} takes none of {values:?}"
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_says_what_it_should_be() {
        for (name, value, should) in [
            ("SIM_RUNS", "0", "a number from 1 on"),
            ("SIM_RUNS", "18446744073709551616", "at most 18446744073709551615"),
            ("SIM_RUNS", "many", "a number from 1 on"),
            ("SIM_KERNEL", "plan9", "linux, freebsd or macos"),
            ("SIM_WEATHER", "foggy", "calm, default, cruel or tiny"),
            ("SIM_SEED", "0xzz", "a seed is a decimal number"),
            ("SIM_FAULTS", "solar-flares", "split-segments"),
            ("SIM_TRACE", "yes", "1 or 0"),
            ("SIM_CHECK_DETERMINISM", "", "1 or 0"),
            ("SIM_SHARD", "3/2", "counted from 1"),
        ] {
            let error = of(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(should), "{error}");
        }
        assert!(of(&[("SIM_REPLAY", "a"), ("SIM_SHRINK", "b")]).is_err());
    }

    #[test]
    fn what_is_about_one_run_is_refused_where_none_is_named() {
        for about_one in
            [&[("SIM_TRACE", "1")][..], &[("SIM_UNTIL", "5")], &[("SIM_UNTIL", "5"), ("SIM_SEED", "1")]]
        {
            assert!(of(about_one).unwrap_err().contains("SIM_REPLAY or SIM_SEED"), "{about_one:?}");
        }
        assert!(of(&[("SIM_TRACE", "0")]).is_ok());
        assert!(of(&[("SIM_UNTIL", "5"), ("SIM_SEED", "1"), ("SIM_TRACE", "1")]).is_ok());
    }

    #[test]
    fn what_is_read_is_what_was_said() {
        let read = of(&[("SIM_SEED", "0x2a"), ("SIM_RUNS", "7"), ("SIM_KERNEL", "macos")]).unwrap();
        assert_eq!((read.seed, read.runs, read.kernel), (Some(Seed(42)), Some(7), Some(Kernel::Macos)));
        assert!(read.narrows() && !Environment::default().narrows());
        let read = of(&[("SIM_SHARD", "2/3"), ("SIM_CHECK_DETERMINISM", "1")]).unwrap();
        assert_eq!((read.shard, read.check_determinism), (Some(Shard::new(2, 3).unwrap()), true));
        assert!(read.narrows());
    }
}
