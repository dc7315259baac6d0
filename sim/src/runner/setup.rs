//! What a run draws before it begins: workload, kernel, weather, and the limits of every loop.

use reactor::Config;

use super::RunOptions;
use crate::decision::{Decisions, Domain, Site};
use crate::kernel::Kernel;
use crate::weather::{Latency, Weather};
use crate::workload::{Scale, WorkloadKind};

/// What a run begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What runs.
    pub workload: WorkloadKind,
    /// On which kernel.
    pub kernel: Kernel,
    /// In which weather.
    pub weather: Weather,
    /// The limits of the services' loops.
    pub service: Config,
    /// The limits of the clients' loops.
    pub client: Config,
    /// How long the trouble lasts, in virtual nanoseconds.
    pub trouble_ns: u64,
    /// How many calls, and steps of other threads, the trouble may take, and half as many everything owed after it: a loop
    /// that spins would not come to its end.
    pub calls_max: u64,
    /// Descriptors of each process.
    pub descriptor_limit: usize,
    /// Backlog of the listeners.
    pub backlog: u32,
    /// Latency between hosts, where the weather is not to decide.
    pub latency: Option<Latency>,
    /// Whether anything is checked beside the parties' own checks; off for measurements only.
    pub oracles: bool,
}

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// Far more calls than any drawn plan makes.
const CALLS_MAX: u64 = 2_000_000;

impl Setup {
    /// Everything at its default: for plans made by hand.
    pub fn plain(workload: WorkloadKind, kernel: Kernel, weather: Weather) -> Setup {
        let config = Config { connections_max: 1024, read_bytes: 4096, ..Config::default() };
        Setup {
            workload,
            kernel,
            weather,
            service: config.clone(),
            client: config,
            trouble_ns: SECOND,
            calls_max: CALLS_MAX,
            descriptor_limit: 65_536,
            backlog: 128,
            latency: None,
            oracles: true,
        }
    }

    /// How much a workload may do: little where every call moves only a few bytes.
    pub fn scale(&self) -> Scale {
        let bytes_of_a_call = [&self.service, &self.client]
            .map(|config| config.read_bytes.min(config.write_bytes_max).min(config.queue_bytes_high.max(64)));
        let few = bytes_of_a_call.into_iter().any(|bytes| bytes < 64);
        if few || self.weather == Weather::Tiny { Scale::Small } else { Scale::Normal }
    }

    /// Draws everything that the options leave open. Every dimension is drawn even when it is fixed, so that fixing one
    /// leaves the others as they were.
    pub fn draw(options: &RunOptions, decisions: &mut Decisions) -> Setup {
        let mut draw =
            |site, bound: usize| decisions.draw(Domain::Setup, Site(site), 0, bound as u64) as usize;
        let workload = [
            WorkloadKind::Echo,
            WorkloadKind::Echo,
            WorkloadKind::Wake,
            WorkloadKind::Timers,
            WorkloadKind::Cluster,
        ];
        let weather = [
            Weather::Calm,
            Weather::Default,
            Weather::Default,
            Weather::Default,
            Weather::Cruel,
            Weather::Tiny,
        ];
        let workload = workload[draw("workload", workload.len())];
        let kernel = Kernel::ALL[draw("kernel", Kernel::ALL.len())];
        let weather = weather[draw("weather", weather.len())];
        let trouble_ns =
            [SECOND, 100 * MILLISECOND, 5 * SECOND, 30 * SECOND][draw("how long the trouble lasts", 4)];
        let tight = draw("descriptor limit", 8) == 7;
        let backlog = [128, 16, 1][draw("backlog", 3)];
        let mut service = draw_config(&mut draw);
        let mut client = draw_config(&mut draw);
        // A full registry turns connections away; clients have room for what they plan.
        service.connections_max = [1024, 1024, 1024, 3][draw("connections of a service", 4)];
        let weather = options.weather.unwrap_or(weather);
        if weather == Weather::Tiny {
            shrink(&mut service);
            shrink(&mut client);
        }
        let workload = options.workload.unwrap_or(workload);
        let spare = match (workload, weather) {
            // Two loops, and a connection to and from everybody, some of them dead without knowing it.
            (WorkloadKind::Cluster, _) => DESCRIPTORS_OF_A_LOOP + 72,
            (_, Weather::Tiny) => 3,
            _ => 5,
        };
        // Shorter than a slow reader takes for all of it, and longer than it rests between two sips.
        let drain_ns = [30 * SECOND, 100 * MILLISECOND, 30 * MILLISECOND][draw("drain", 3)];
        if workload == WorkloadKind::Echo {
            service.drain_ns = drain_ns;
        }
        if workload == WorkloadKind::Cluster {
            service.connections_max = service.connections_max.max(64);
        }
        Setup {
            workload,
            kernel: options.kernel.unwrap_or(kernel),
            weather,
            service,
            client,
            trouble_ns,
            calls_max: CALLS_MAX,
            descriptor_limit: if tight { DESCRIPTORS_OF_A_LOOP + spare } else { 65_536 },
            backlog,
            latency: None,
            oracles: true,
        }
    }
}

/// The three standard descriptors, and a loop's own: readiness, waker, reserve.
const DESCRIPTORS_OF_A_LOOP: usize = 6;

/// Budgets and vectors of two, as tiny weather has them.
fn shrink(config: &mut Config) {
    config.events_per_wait = config.events_per_wait.min(2);
    config.reads_per_turn = config.reads_per_turn.min(2);
    config.writes_per_turn = config.writes_per_turn.min(2);
    config.accepts_per_turn = config.accepts_per_turn.min(2);
    config.timers_per_turn = config.timers_per_turn.min(2);
    config.messages_per_turn = config.messages_per_turn.min(2);
    config.write_segments_max = config.write_segments_max.min(2);
}

/// Limits of a loop: often tiny, so that every budget ends and every queue fills. The largest are more than any drawn plan
/// fills, and no more: each run allocates them.
fn draw_config(draw: &mut impl FnMut(&'static str, usize) -> usize) -> Config {
    let mut of = |site, choices: &[u64]| choices[draw(site, choices.len())];
    let mut size = |site, choices: &[u64]| of(site, choices) as usize;
    let high = size("high mark", &[1 << 20, 1000, 1, 64, 10_000]);
    let read_bytes = size("read size", &[16_384, 1, 16, 100, 1460, 4096]);
    let pending_bytes_max = size("kept bytes", &[1 << 20, 64, 300]);
    let low = match size("low mark", &[0, 1, 2]) {
        0 => high / 4,
        1 => 0,
        _ => high,
    };
    let mut config = Config {
        connections_max: 1024,
        events_per_wait: size("events of a wait", &[256, 1, 2, 5]),
        read_bytes,
        reads_per_turn: size("reads of a turn", &[4, 1, 2]) as u32,
        pending_bytes_max,
        write_segments_max: size("segments of a write", &[64, 2, 1]),
        write_bytes_max: size("bytes of a write", &[1 << 20, 10, 1, 1000]),
        writes_per_turn: size("writes of a turn", &[4, 1, 2]) as u32,
        queue_bytes_high: high,
        queue_bytes_low: low,
        queue_bytes_max: 16 << 20,
        accepts_per_turn: size("accepts of a turn", &[64, 1, 2]) as u32,
        accept_pause_ns: 100 * MILLISECOND,
        timers_per_turn: size("timers of a turn", &[1024, 1, 2, 10]) as u32,
        tick_ns: 1 << size("tick", &[20, 0, 10, 16, 24]),
        messages_per_turn: size("messages of a turn", &[1024, 1, 3]) as u32,
        mailbox_messages_max: size("mailbox", &[256, 1, 2, 10]),
        drain_ns: 30 * SECOND,
        linger_ns: 2 * SECOND,
        generation_start: [0, u32::MAX - 2][size("generation", &[0, 1])],
        flush_early_bytes: size("early flush", &[4096, 1, 100]),
    };
    // Byte by byte is worth seeing; byte by byte on both sides for kilobytes is only slow.
    if config.read_bytes < 16 {
        config.write_bytes_max = config.write_bytes_max.max(1000);
        config.reads_per_turn = 4;
    }
    if config.write_bytes_max < 10 {
        config.writes_per_turn = 4;
    }
    config
}
