//! What is asked of `soak run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sim::decision::seed::Seed;
use sim::workload::WorkloadKind;

use crate::Failure;
use crate::chaos::{ChaosOptions, Level, STORM_CONNECTIONS_MAX};
use crate::machine::Stopwatch;
use crate::poller::Backend;

/// Options of `soak run`, as on the command line.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    soak run --workload echo --seconds 60                  one minute, closed loop, as fast as it goes\n  \
    soak run --workload echo,timers --rate 2000 --minutes 10 --out night\n                                                         \
    open loop: latency from the planned times; records in night/\n  \
    soak run --hours 8 --workload echo,wake,timers,cluster --out night\n  \
    soak run --resume night                                goes on where a run was broken off, with its options\n  \
    soak run --workload echo --chaos cruel --seconds 60    the same through a proxy that delays, splits, resets ...\n  \
    soak run --workload echo --processes 3 --chaos default three service processes on one port, and their clients' processes\n  \
    soak run --workload wake --plans drawn --lanes 8       many short plans, as the simulator draws them\n\n\
    Signals: SIGINT, SIGTERM or SIGHUP once stops and sums up, twice leaves at once; SIGUSR1 says how it stands.\n\n\
    Exit codes: 0 pass, 1 invariant broken, 2 usage, 3 something owed did not come (stall), 4 a leak by its slope,\n\
    7 the machine refuses (also: a folder that cannot be written), 130 interrupted, with a summary.\n\
    Files in DIR are described in soak/REPORT_FORMAT.md.")]
pub(crate) struct RunArguments {
    /// The workloads: echo, wake, cluster, timers; several at once with commas, or the option again; always needed, but with
    /// --resume
    #[arg(long, value_delimiter = ',', required_unless_present = "resume")]
    workload: Vec<String>,
    /// How long, in hours; with --minutes and --seconds, the sum
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=8760))]
    hours: Option<u64>,
    /// How long, in minutes
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=525_600))]
    minutes: Option<u64>,
    /// How long, in seconds [default: 60, where no time is given]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    seconds: Option<u64>,
    /// What the plans of the episodes are drawn from: decimal, 0x hex, or a commit [default: 1]
    #[arg(long)]
    seed: Option<String>,
    /// Connections at once in each episode [default: 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: Option<u32>,
    /// Messages a second in each episode, each at its planned time (open loop); closed loop if left out
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Episodes side by side of each workload; each has threads of its own [default: 1, of drawn plans 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    lanes: Option<u32>,
    /// Processes of services side by side in each episode, on one port of each service (SO_REUSEPORT), loaded by as many
    /// processes of clients, or as few as there are loops of clients; 1 has everything in this process. Linux only [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// How long an episode's load lasts, in seconds; then everything that has begun ends, and is judged [default: 60]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    episode_seconds: Option<u64>,
    /// What episodes are: one sustained load each, or many short plans as the simulator draws them [default: sustained]
    #[arg(long, value_enum)]
    plans: Option<Plans>,
    /// Whether one echo service with few clients lives as long as the run; auto: in runs of two minutes and more
    /// [default: auto]
    #[arg(long, value_enum)]
    long: Option<LongLived>,
    /// What the loops wait with: epoll or kqueue. The system's own if left out; the other one, kqueue on Linux, goes
    /// through the C library libkqueue
    #[arg(long)]
    poller: Option<String>,
    /// What is to go wrong by real means: on the wire, at the sockets, in the process; `soak chaos` lists the kinds
    #[arg(long, value_enum, value_name = "LEVEL")]
    chaos: Option<Level>,
    /// Only these kinds of it
    #[arg(long, value_delimiter = ',', value_name = "KIND", requires = "chaos")]
    chaos_only: Vec<String>,
    /// Where the loops' clocks begin, in nanoseconds: long uptimes without waiting for them; the machine's own if left out.
    /// Places where arithmetic goes wrong: 2147483588000000 (2^31 ms less a minute), 9223372036794775807 (2^63 ns less one)
    #[arg(long)]
    clock_start: Option<u64>,
    /// A folder for records of the run; it must not exist
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Goes on with the run in this folder, with the options it had; --hours, --minutes, --seconds may ask for more
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workload", "seed", "connections", "rate", "lanes",
        "processes", "episode_seconds", "plans", "chaos", "chaos_only", "long", "poller", "clock_start", "interval", "stall_seconds"])]
    resume: Option<PathBuf>,
    /// Between two lines of status, and two records, in seconds [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: Option<u64>,
    /// A loop that owes something and does nothing for so long, in seconds, has stalled [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stall_seconds: Option<u64>,
    /// Record nothing: without it the last two episodes are written out when something is wrong, for `sim replay`, into
    /// DIR/failures, or soak-artifacts without a DIR
    #[arg(long)]
    no_recording: bool,
    /// Write the last two recordings out at the end of the run also when nothing was wrong, for `sim import`
    #[arg(long, conflicts_with = "no_recording")]
    keep_recordings: bool,
    /// Print one JSON object at the end, the summary, instead of lines
    #[arg(long)]
    json: bool,
    /// For tests of the monitors: a fault of the soak itself (leak-descriptors, leak-memory, stall, crash, forget-cuts)
    #[arg(long, hide = true, value_enum)]
    plant: Option<Plant>,
}

/// What episodes are.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Plans {
    /// A load that lasts.
    Sustained,
    /// Plans as the simulator draws them, a fraction of a second each.
    Drawn,
}

/// Whether there is a loop that lives as long as the run.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LongLived {
    /// In runs of two minutes and more.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A fault that shows that a monitor sees it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Plant {
    /// Each round leaves a descriptor open.
    LeakDescriptors,
    /// Each round leaves some memory allocated.
    LeakMemory,
    /// A producer stops in the middle.
    Stall,
    /// A process of an episode ends itself.
    Crash,
    /// Loops do not hear which of their connections the chaos schedule cut.
    ForgetCuts,
}

/// What is asked of a run, all of it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) workloads: Vec<WorkloadKind>,
    /// How long in all, parts before this one included.
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) connections: u32,
    pub(crate) rate_per_s: Option<u64>,
    pub(crate) lanes: u32,
    /// Processes of services in each episode; 1 for none beside this one.
    pub(crate) processes: u32,
    pub(crate) episode: Duration,
    pub(crate) plans: Plans,
    pub(crate) chaos: Option<ChaosOptions>,
    pub(crate) long: bool,
    pub(crate) backend: Backend,
    pub(crate) clock_start_ns: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) stall: Duration,
}

/// Where records go, and what is said.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) out: Option<PathBuf>,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) no_recording: bool,
    pub(crate) keep_recordings: bool,
    pub(crate) plant: Option<Plant>,
    /// The time asked for on this command line.
    pub(crate) asked: Option<Duration>,
}

/// A run of at least this length has a loop that lives as long as it.
const LONG_FROM: Duration = Duration::from_secs(120);

impl RunArguments {
    /// Where the records go; to be known before the options, which may be there.
    pub(crate) fn output(&self) -> Output {
        let RunArguments { out, resume, json, no_recording, keep_recordings, plant, .. } = self;
        let parts =
            [self.hours.map(|hours| hours * 3600), self.minutes.map(|minutes| minutes * 60), self.seconds];
        let asked = parts.into_iter().flatten().reduce(|sum, more| sum + more).map(Duration::from_secs);
        Output {
            out: out.clone(),
            resume: resume.clone(),
            json: *json,
            no_recording: *no_recording,
            keep_recordings: *keep_recordings,
            plant: *plant,
            asked,
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// Usage: an unknown name, a seed that is none, values that do not fit together.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let mut workloads = Vec::new();
        for name in &self.workload {
            let Some(workload) = WorkloadKind::from_name(name) else {
                let names = WorkloadKind::ALL.map(WorkloadKind::name).join(", ");
                return Err(Failure::Usage(format!("there is no workload {name:?}; there are {names}")));
            };
            if workloads.contains(&workload) {
                return Err(Failure::Usage(format!(
                    "the workload {name} is asked for twice; --lanes runs several"
                )));
            }
            workloads.push(workload);
        }
        let seed = self.seed.as_deref().unwrap_or("1");
        let seed: Seed = seed.parse().map_err(|error| Failure::Usage(format!("--seed {seed}: {error}")))?;
        let duration = self.output().asked.unwrap_or(Duration::from_secs(60));
        if duration.is_zero() {
            return Err(Failure::Usage(
                "a run of no time checks nothing; ask for at least --seconds 1".to_owned(),
            ));
        }
        let plans = self.plans.unwrap_or(Plans::Sustained);
        if plans == Plans::Drawn && (self.connections.is_some() || self.rate.is_some()) {
            return Err(Failure::Usage(
                "--connections and --rate are of sustained loads; drawn plans have their own".to_owned(),
            ));
        }
        let processes = self.processes.unwrap_or(1);
        if processes > 1 {
            if plans == Plans::Drawn {
                return Err(Failure::Usage(
                    "--processes is of sustained loads: drawn plans are over before a process has begun"
                        .to_owned(),
                ));
            }
            if cfg!(not(target_os = "linux")) {
                return Err(Failure::Usage(
                    "--processes needs Linux: elsewhere a port that is shared does not spread its connections"
                        .to_owned(),
                ));
            }
        }
        let chaos = match self.chaos {
            None => None,
            Some(_) if plans == Plans::Drawn => {
                return Err(Failure::Usage(
                    "--chaos is of sustained loads: drawn plans are over before anything can go wrong"
                        .to_owned(),
                ));
            }
            Some(level) => {
                let chaos = ChaosOptions::new(level, &self.chaos_only, processes > 1);
                Some(chaos.map_err(Failure::Usage)?)
            }
        };
        let long = match self.long.unwrap_or(LongLived::Auto) {
            LongLived::Auto => duration >= LONG_FROM,
            LongLived::On => true,
            LongLived::Off => false,
        };
        let options = Options {
            workloads,
            duration,
            seed: seed.0,
            connections: self.connections.unwrap_or(100),
            rate_per_s: self.rate,
            lanes: self.lanes.unwrap_or(if plans == Plans::Drawn { 8 } else { 1 }),
            processes,
            episode: Duration::from_secs(self.episode_seconds.unwrap_or(60)),
            plans,
            chaos,
            long,
            backend: Backend::with_poller(self.poller.as_deref())?,
            clock_start_ns: self.clock_start,
            interval: Duration::from_secs(self.interval.unwrap_or(10)),
            stall: Duration::from_secs(self.stall_seconds.unwrap_or(30)),
        };
        options.clock_shift_ns()?;
        Ok(options)
    }
}

impl Options {
    /// How far the loops' clocks are set forward.
    ///
    /// # Errors
    /// Usage: the clock would have to go back, or would come to its end within the run.
    pub(crate) fn clock_shift_ns(&self) -> Result<u64, Failure> {
        let Some(start_ns) = self.clock_start_ns else { return Ok(0) };
        let now_ns = Stopwatch::now_ns();
        let needed_ns =
            u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX).saturating_add(3_600_000_000_000);
        if start_ns.checked_add(needed_ns).is_none() {
            return Err(Failure::Usage(format!(
                "--clock-start {start_ns}: the clock ends at {} ns, before the run does and its timers come",
                u64::MAX
            )));
        }
        start_ns.checked_sub(now_ns).ok_or_else(|| {
            Failure::Usage(format!(
                "--clock-start {start_ns}: the machine's own clock is at {now_ns} ns already, and clocks only go forward"
            ))
        })
    }

    /// How many processes of services an episode has; `None` where all of it is in this process.
    pub(crate) fn processes(&self) -> Option<u32> {
        (self.processes > 1).then_some(self.processes)
    }

    /// Whether something that is owed may be this late: planned times may be far apart.
    pub(crate) fn stalled_after(&self) -> Duration {
        let apart_s = self.rate_per_s.map_or(0, |rate| 3 * u64::from(self.connections) / rate);
        self.stall.max(Duration::from_secs(apart_s))
    }

    /// Descriptors that the run needs: both ends of each connection, and what loops hold for themselves.
    pub(crate) fn descriptors(&self) -> u64 {
        let episodes = self.workloads.len() as u64 * u64::from(self.lanes) + u64::from(self.long);
        // A second hop doubles what echo has; ten loops with five descriptors each are the most there are.
        let each = 4 * u64::from(self.connections) + 100;
        // A proxy has two descriptors of its own for each connection.
        let proxied =
            if self.chaos.is_some() { 4 * u64::from(self.connections) + STORM_CONNECTIONS_MAX } else { 0 };
        episodes * (each + proxied)
    }

    /// As it is kept in a folder.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "workloads": self.workloads.iter().map(|workload| workload.name()).collect::<Vec<_>>(),
            "duration_s": self.duration.as_secs(),
            "seed": Seed(self.seed).to_string(),
            "connections": self.connections,
            "rate_per_s": self.rate_per_s,
            "lanes": self.lanes,
            "processes": self.processes,
            "episode_s": self.episode.as_secs(),
            "plans": match self.plans { Plans::Sustained => "sustained", Plans::Drawn => "drawn" },
            "chaos": self.chaos.as_ref().map(ChaosOptions::to_json),
            "long": self.long,
            "poller": self.backend.poller().name(),
            "clock_start_ns": self.clock_start_ns,
            "interval_s": self.interval.as_secs(),
            "stall_s": self.stall.as_secs(),
        })
    }

    /// Reads what [`Options::to_json`] made.
    pub(crate) fn from_json(value: &serde_json::Value) -> Option<Options> {
        let number = |key: &str| value.get(key)?.as_u64();
        let seconds = |key: &str| number(key).map(Duration::from_secs);
        let workloads = value.get("workloads")?.as_array()?;
        // Runs that began before there was a choice have one.
        let processes = match value.get("processes") {
            None => 1,
            Some(processes) => u32::try_from(processes.as_u64()?).ok().filter(|&processes| processes > 0)?,
        };
        Some(Options {
            workloads: workloads
                .iter()
                .map(|name| WorkloadKind::from_name(name.as_str()?))
                .collect::<Option<_>>()?,
            duration: seconds("duration_s")?,
            seed: value.get("seed")?.as_str()?.parse::<Seed>().ok()?.0,
            connections: u32::try_from(number("connections")?).ok().filter(|&connections| connections > 0)?,
            rate_per_s: number("rate_per_s").filter(|&rate| rate > 0),
            lanes: u32::try_from(number("lanes")?).ok()?,
            processes,
            episode: seconds("episode_s")?,
            plans: match value.get("plans")?.as_str()? {
                "sustained" => Plans::Sustained,
                "drawn" => Plans::Drawn,
                _ => return None,
            },
            chaos: match value.get("chaos") {
                None | Some(serde_json::Value::Null) => None,
                Some(chaos) => Some(ChaosOptions::from_json(chaos, processes > 1)?),
            },
            long: value.get("long")?.as_bool()?,
            backend: Backend::with_poller(value.get("poller")?.as_str()).ok()?,
            clock_start_ns: number("clock_start_ns"),
            interval: seconds("interval_s").filter(|interval| !interval.is_zero())?,
            stall: seconds("stall_s")?,
        })
    }
}
