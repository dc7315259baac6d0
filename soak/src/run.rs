//! `soak run`: the workloads of `sim` over real loopback sockets, for seconds or for nights. The same handlers and the same
//! oracles, each loop on a thread of its own.
//!
//! A run is a row of rounds. In each, one episode of every lane runs, with fresh loops under a load; when all have ended and
//! been judged there is a quiet point, at which what is left in the process is looked at. Beside them, in long runs, one
//! service lives as long as the run.

mod cast;
mod directory;
mod episode;
mod options;
pub(crate) mod processes;
mod quiet;
mod record;
pub(crate) mod roster;
mod signal;
mod slope;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::sys::System;
use serde_json::{Value, json};
use sim::decision::seed::seed_of_run;
use sim::workload::{Load, WorkloadKind};

pub(crate) use self::cast::Seat;
use self::directory::{Directory, Past, SCHEMA};
use self::episode::{Broken, Ended, Episode, pause};
pub(crate) use self::options::RunArguments;
use self::options::{Options, Output, Plans, Plant};
use self::quiet::QuietPoints;
use self::record::{Process, Record};
use self::roster::{Roster, Totals};
use self::signal::Asked;
use self::watchdog::Watchdog;
use crate::chaos::{ChaosOptions, Chronicle, Happened, shortage};
use crate::episode_record::Recordings;
use crate::latency::LatencyBook;
use crate::machine::{self, Stopwatch};
use crate::member::{panicked, spawn};
use crate::{Failure, say};

/// A round shorter than this is not begun.
const SHORTEST_ROUND: Duration = Duration::from_millis(500);

/// Between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long loops may take to end when a run is cut short; those that are stuck never do.
const CUT_WITHIN: Duration = Duration::from_secs(120);

/// The long-lived service's load: little, so that what it does beside the episodes is the same all the time.
const LONG_CONNECTIONS: u32 = 16;
const LONG_RATE_PER_S: u64 = 200;

/// What the recordings of all episodes under way may hold, in bytes; two more are kept, and each may grow to twice its share
/// while it ends.
const RECORDED_BYTES_MAX: u64 = 512 << 20;

/// Where recordings go when something is wrong and no folder was asked for.
const RECORDINGS: &str = "soak-artifacts";

type EpisodeThread = JoinHandle<Result<Ended, Broken>>;

/// A run under way.
struct Run {
    options: Options,
    output: Output,
    clock_shift_ns: u64,
    directory: Option<Directory>,
    /// The records cannot be written: said once, and the run ends.
    unwritable: Option<Failure>,
    roster: Arc<Roster>,
    cut: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
    recordings: Option<(Arc<Recordings>, u64)>,
    asked: Arc<Asked>,
    chronicle: Arc<Chronicle>,
    watch: Stopwatch,
    /// Of the parts before this one.
    before_ms: u64,
    part: u64,
    intervals: u64,
    interval_began_ms: u64,
    next_interval_ms: u64,
    episodes_begun: u64,
    latencies: Vec<(WorkloadKind, LatencyBook)>,
    quiet: QuietPoints,
    watchdog: Watchdog,
    next_look_ns: u64,
    failures: Vec<Failure>,
    long: Option<EpisodeThread>,
}

/// Runs until the time is over, somebody stops it, or something is wrong.
///
/// # Errors
/// What was wrong first; an interrupt; a machine that refuses.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let output = arguments.output();
    let (options, directory, past) = match &output.resume {
        None => {
            let options = arguments.options()?;
            let directory = match &output.out {
                Some(path) => Some(Directory::create(path, &description(&options))?),
                None => None,
            };
            (options, directory, None)
        }
        Some(path) => {
            let (directory, past) = Directory::resume(path)?;
            let mut options = Options::from_json(&past.run["options"]).ok_or_else(|| {
                Failure::Usage(format!("{}: run.json has no options that this program knows", path.display()))
            })?;
            options.duration = output.asked.unwrap_or(options.duration);
            (options, Some(directory), Some(past))
        }
    };
    let mut run = Run::new(options, output, directory, past)?;
    run.play();
    run.end()
}

/// What `run.json` says.
fn description(options: &Options) -> Value {
    json!({
        "schema": SCHEMA,
        "options": options.to_json(),
        "version": env!("CARGO_PKG_VERSION"),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "command_line": std::env::args().collect::<Vec<_>>(),
        "process": std::process::id(),
        "begun_unix_ms": machine::unix_ms(),
        "machine": machine::facts(),
    })
}

impl Run {
    fn new(
        options: Options,
        output: Output,
        directory: Option<Directory>,
        past: Option<Past>,
    ) -> Result<Run, Failure> {
        machine::allow_connections(&mut System::new(), options.descriptors())?;
        let clock_shift_ns = options.clock_shift_ns()?;
        let last = past.as_ref().map_or(Value::Null, |past| past.last.clone());
        let number = |key: &str| last[key].as_u64().unwrap_or(0);
        let before_ms = (last["elapsed_s"].as_f64().unwrap_or(0.0) * 1000.0).round() as u64;
        let kinds = options.workloads.iter().copied();
        // The long-lived service is an echo service.
        let kinds: Vec<WorkloadKind> = match options.long && !options.workloads.contains(&WorkloadKind::Echo)
        {
            true => kinds.chain([WorkloadKind::Echo]).collect(),
            false => kinds.collect(),
        };
        let totals = kinds
            .iter()
            .map(|&kind| (kind, record::read_counted(&last["workloads"][kind.name()]["counters"])));
        let roster = Arc::new(Roster::new(totals));
        let watchdog = Watchdog::new(options.stalled_after());
        let resumed = past.is_some();
        let folder = directory.as_ref().map_or_else(|| PathBuf::from(RECORDINGS), Directory::failures);
        let episodes = options.workloads.len() as u64 * u64::from(options.lanes);
        let recordings = (!output.no_recording).then(|| {
            (Arc::new(Recordings::new(&folder, output.keep_recordings)), RECORDED_BYTES_MAX / episodes)
        });
        let mut run = Run {
            clock_shift_ns,
            directory,
            unwritable: None,
            roster,
            cut: Arc::default(),
            stalled: Arc::default(),
            recordings,
            asked: Asked::listen()?,
            chronicle: Arc::default(),
            watch: Stopwatch::start(),
            before_ms,
            part: if resumed { number("part") + 1 } else { 0 },
            intervals: past.as_ref().map_or(0, |past| past.intervals.len() as u64),
            interval_began_ms: before_ms,
            next_interval_ms: 0,
            episodes_begun: number("episodes_begun"),
            latencies: kinds.iter().map(|&kind| (kind, LatencyBook::default())).collect(),
            quiet: QuietPoints::default(),
            watchdog,
            next_look_ns: 0,
            failures: Vec::new(),
            long: None,
            options,
            output,
        };
        run.next_interval_ms = run.before_ms + ms(run.options.interval);
        if let Some(chaos) = run.options.chaos.as_ref().map(ChaosOptions::describe) {
            run.say(&chaos);
        }
        if let Some(past) = past {
            past.events.iter().for_each(|event| run.chronicle.restore(event));
            for (kind, book) in &past.latencies {
                run.add_latencies(*kind, book);
            }
            for text in &past.dropped {
                eprintln!("soak: {text}");
            }
            run.say(&format!(
                "goes on after {} s, with episode {}",
                run.before_ms / 1000,
                run.episodes_begun
            ));
        }
        Ok(run)
    }

    fn say(&mut self, line: &str) {
        if !self.output.json {
            // Standard output may be gone; the end of the run says so.
            let _ = say(line);
        }
    }

    fn add_latencies(&mut self, kind: WorkloadKind, book: &LatencyBook) {
        if let Some((_, all)) = self.latencies.iter_mut().find(|(known, _)| *known == kind) {
            all.add_all(book);
        }
    }

    /// Since the run began, the parts before this one included.
    fn elapsed_ms(&self) -> u64 {
        self.before_ms + self.watch.ns() / 1_000_000
    }

    fn left(&self) -> Duration {
        self.options.duration.saturating_sub(Duration::from_millis(self.elapsed_ms()))
    }

    fn is_to_end(&self) -> bool {
        self.asked.wants_stop() || !self.failures.is_empty() || self.unwritable.is_some()
    }

    fn play(&mut self) {
        self.begin_long();
        self.look_at_quiet();
        while !self.is_to_end() && self.left() >= SHORTEST_ROUND {
            let episodes = self.begin_round();
            self.wait_for(episodes);
            if !self.is_to_end() {
                self.plant_leaks();
                self.look_at_quiet();
            }
        }
        if self.is_to_end() {
            self.cut.store(true, Ordering::Relaxed);
        }
        if let Some(long) = self.long.take() {
            self.wait_for(vec![long]);
        }
    }

    /// Looks at what is left between rounds; recordings that are kept are not left over.
    fn look_at_quiet(&mut self) {
        let kept_bytes = self.recordings.as_ref().map_or(0, |(recordings, _)| recordings.memory_bytes());
        self.quiet.look(self.elapsed_ms(), &self.roster, kept_bytes as u64);
    }

    fn episode(&self, workload: WorkloadKind, index: Option<u64>, load: Option<Load>) -> Episode {
        Episode {
            workload,
            index,
            seed: seed_of_run(self.options.seed, index.unwrap_or(u64::MAX)),
            load,
            backend: self.options.backend,
            clock_shift_ns: self.clock_shift_ns,
            roster: Arc::clone(&self.roster),
            // The long-lived service shows what only time shows, beside what chaos does to the process.
            chaos: index.and(self.options.chaos.clone()).map(|chaos| (chaos, Arc::clone(&self.chronicle))),
            cut: Arc::clone(&self.cut),
            stalled: Arc::clone(&self.stalled),
            // What lives as long as the run would be cut at the bound.
            recordings: self.recordings.clone().filter(|_| index.is_some()),
            stalled_after: self.options.stalled_after(),
            processes: index.and(self.options.processes()),
            plant: self.output.plant,
        }
    }

    fn begin_long(&mut self) {
        let left = self.left();
        if !self.options.long || left < SHORTEST_ROUND {
            return;
        }
        let load = Load {
            connections: LONG_CONNECTIONS,
            rate_per_s: Some(LONG_RATE_PER_S),
            duration_ns: left.as_nanos() as u64,
        };
        let episode = self.episode(WorkloadKind::Echo, None, Some(load));
        match spawn("long-lived", move || episode.run()) {
            Ok(thread) => self.long = Some(thread),
            Err(failure) => self.failures.push(failure),
        }
    }

    fn begin_round(&mut self) -> Vec<EpisodeThread> {
        let duration = self.options.episode.min(self.left());
        let mut threads = Vec::new();
        for workload in self.options.workloads.clone() {
            for _ in 0..self.options.lanes {
                let thread = match self.options.plans {
                    Plans::Sustained => self.begin_sustained(workload, duration),
                    Plans::Drawn => self.begin_drawn(workload, duration),
                };
                match thread {
                    Ok(thread) => threads.push(thread),
                    Err(failure) => self.failures.push(failure),
                }
            }
        }
        threads
    }

    fn begin_sustained(
        &mut self,
        workload: WorkloadKind,
        duration: Duration,
    ) -> Result<EpisodeThread, Failure> {
        let index = self.episodes_begun;
        self.episodes_begun += 1;
        let load = Load {
            connections: self.options.connections,
            rate_per_s: self.options.rate_per_s,
            duration_ns: duration.as_nanos() as u64,
        };
        let episode = self.episode(workload, Some(index), Some(load));
        spawn("lane", move || episode.run())
    }

    /// Many plans, one after the other, until the round is over. Their numbers are set apart in advance.
    fn begin_drawn(&mut self, workload: WorkloadKind, duration: Duration) -> Result<EpisodeThread, Failure> {
        /// More than any lane plays in a second.
        const EPISODES_A_SECOND: u64 = 1000;
        let first = self.episodes_begun;
        let numbers = (duration.as_secs() + 1) * EPISODES_A_SECOND;
        self.episodes_begun += numbers;
        let mut episode = self.episode(workload, Some(first), None);
        let base = self.options.seed;
        spawn("lane", move || {
            let watch = Stopwatch::start();
            for index in first..first + numbers {
                (episode.index, episode.seed) = (Some(index), seed_of_run(base, index));
                if episode.run()? == Ended::Cut {
                    return Ok(Ended::Cut);
                }
                if u128::from(watch.ns()) >= duration.as_nanos() {
                    break;
                }
            }
            Ok(Ended::Judged)
        })
    }

    /// Waits until these have ended, and does meanwhile what comes up.
    fn wait_for(&mut self, mut threads: Vec<EpisodeThread>) {
        let mut cut_since_ns = None;
        while !threads.is_empty() {
            let (ended, running) = threads.into_iter().partition(JoinHandle::is_finished);
            threads = running;
            for thread in ended {
                match thread.join() {
                    Ok(Ok(_)) => {}
                    Ok(Err(Broken { failure, recipe })) => self.fail(failure, &recipe),
                    Err(_) => self.fail(panicked("an episode"), &Value::Null),
                }
            }
            if self.long.as_ref().is_some_and(JoinHandle::is_finished)
                && self.left() > SHORTEST_ROUND
                && let Some(long) = self.long.take()
            {
                threads.push(long);
            }
            self.tend();
            if self.is_to_end() {
                self.cut.store(true, Ordering::Relaxed);
                let now_ns = self.watch.ns();
                if now_ns - *cut_since_ns.get_or_insert(now_ns) > CUT_WITHIN.as_nanos() as u64 {
                    // They are stuck, and end with the process. What they are stuck in is a failure already, or will be.
                    if self.failures.is_empty() {
                        let running = self.roster.running();
                        let dumps: Vec<String> = running.iter().map(|gauge| gauge.dump()).collect();
                        let text = format!("loops do not end when they are told to\n{}", dumps.join("\n"));
                        self.fail(Failure::Liveness(text), &Value::Null);
                    }
                    return;
                }
            }
            if !threads.is_empty() {
                pause(LOOK_EVERY);
            }
        }
    }

    /// Something is wrong: it is kept, and the run ends.
    fn fail(&mut self, failure: Failure, recipe: &Value) {
        if let Some(directory) = &self.directory {
            let record = json!({
                "class": failure.class(),
                "text": failure.text(),
                "at_s": record::seconds(self.elapsed_ms()),
                "part": self.part,
                "episode": recipe,
            });
            let kept = shortage::with_room(|| directory.add_failure(&record));
            match kept {
                Ok(path) => eprintln!("soak: a failure is kept in {}", path.display()),
                Err(error) => self.unwritable = Some(self.unwritable.take().unwrap_or(error)),
            }
        }
        self.failures.push(failure);
    }

    /// What is to be done all the time: records, the status, the watchdog.
    fn tend(&mut self) {
        if self.asked.take_status() {
            let line = self.with_record(&[], |record| record.line());
            self.say(&line);
        }
        self.write_events();
        if self.elapsed_ms() >= self.next_interval_ms {
            self.end_interval(false);
            while self.next_interval_ms <= self.elapsed_ms() {
                self.next_interval_ms += ms(self.options.interval);
            }
        }
        let now_ns = self.watch.ns();
        if now_ns >= self.next_look_ns && self.failures.is_empty() {
            self.next_look_ns = now_ns + 500_000_000;
            if let Some(dump) = self.watchdog.look(&self.roster, now_ns) {
                let seconds = self.options.stalled_after().as_secs();
                self.stalled.store(true, Ordering::Relaxed);
                let text = format!("something is owed, and nothing has happened for {seconds} s\n{dump}");
                self.fail(Failure::Liveness(text), &Value::Null);
            }
        }
    }

    /// Writes down what went wrong on purpose since the last call.
    fn write_events(&mut self) {
        let (elapsed_ms, now_ns) = (self.elapsed_ms(), Stopwatch::now_ns());
        for Happened { event, begun_ns, touched } in self.chronicle.take() {
            let at_ms = elapsed_ms.saturating_sub(now_ns.saturating_sub(begun_ns) / 1_000_000);
            let record = json!({
                "at_s": at_ms as f64 / 1000.0,
                "kind": event.kind.name(),
                "strength": event.strength,
                "duration_ms": event.duration_ns / 1_000_000,
                "touched": touched,
                "is_failure": false,
                "text": format!("{event}, touched {touched}"),
            });
            if let (Some(directory), None) = (&self.directory, &self.unwritable)
                && let Err(failure) = shortage::with_room(|| directory.add_event(&record))
            {
                self.unwritable = Some(failure);
            }
        }
    }

    /// Kinds that were to come and never did anything.
    fn idle_chaos(&self) -> Vec<&'static str> {
        let kinds = self.options.chaos.iter().flat_map(|chaos| &chaos.kinds);
        kinds.filter(|&&kind| self.chronicle.count(kind).touched == 0).map(|kind| kind.name()).collect()
    }

    fn with_record<R>(
        &self,
        latencies: &[(WorkloadKind, LatencyBook)],
        act: impl FnOnce(&Record<'_>) -> R,
    ) -> R {
        let totals = self.roster.totals();
        let (process, processes) = self.roster.processes(shortage::with_room(Process::look));
        act(&Record {
            elapsed_ms: self.elapsed_ms(),
            part: self.part,
            episodes_begun: self.episodes_begun,
            totals: &totals,
            latencies,
            now: self.roster.now(),
            process,
            processes,
            failures: self.failures.len() as u64,
        })
    }

    fn end_interval(&mut self, is_last: bool) {
        let latencies = self.roster.take_latencies();
        let (line, record, elapsed_ms) =
            self.with_record(&latencies, |record| (record.line(), record.to_json(), record.elapsed_ms));
        for (kind, book) in &latencies {
            self.add_latencies(*kind, book);
        }
        if !is_last {
            self.say(&line);
        }
        let start = Duration::from_millis(self.interval_began_ms);
        let duration = Duration::from_millis(elapsed_ms.saturating_sub(self.interval_began_ms));
        self.interval_began_ms = elapsed_ms;
        self.intervals += 1;
        if let (Some(directory), None) = (&mut self.directory, &self.unwritable) {
            // Histograms first: a line without them would say that nothing was timed.
            let written = directory
                .add_latencies(&latencies, start, duration)
                .and_then(|()| directory.add_interval(&record));
            if let Err(failure) = written {
                self.unwritable = Some(failure);
            }
        }
    }

    /// Leaves something behind, in tests of the monitors.
    fn plant_leaks(&self) {
        match self.output.plant {
            Some(Plant::LeakDescriptors) => std::mem::forget(std::fs::File::open("/dev/null")),
            Some(Plant::LeakMemory) => std::mem::forget(vec![1u8; 512 * 1024]),
            Some(Plant::Stall | Plant::Crash | Plant::ForgetCuts) | None => {}
        }
    }

    /// Writes out what nothing was wrong with, where that was asked for. A failure has written its own.
    fn keep_recordings(&mut self) {
        let Some((recordings, _)) = &self.recordings else { return };
        if !self.output.keep_recordings || !self.failures.is_empty() {
            return;
        }
        match recordings.write() {
            Ok(paths) => {
                let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                self.say(&format!("recordings: {}", names.join(" ")));
            }
            Err(what) => self.unwritable = Some(Failure::Machine(what)),
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        self.write_events();
        for failure in self.quiet.leaks() {
            if self.failures.is_empty() {
                self.fail(failure, &Value::Null);
            }
        }
        if self.stalled.load(Ordering::Relaxed)
            && let Some((recordings, _)) = &self.recordings
        {
            // Each episode kept its recording when it was cut.
            let written = recordings.write();
            self.failures =
                self.failures.drain(..).map(|failure| failure.recorded(&written, false)).collect();
        }
        self.keep_recordings();
        self.end_interval(true);
        let interrupted = self.asked.wants_stop();
        let failure = self.failures.first().cloned().or_else(|| interrupted.then_some(Failure::Interrupted));
        let verdict = failure.as_ref().map_or("pass", Failure::class);
        let totals = self.roster.totals();
        let all = record::sum(&totals);
        let exit_code = match (&failure, &self.unwritable) {
            (Some(Failure::Interrupted) | None, Some(unwritable)) => unwritable.exit_code(),
            (Some(failure), _) => failure.exit_code(),
            (None, None) => 0,
        };
        let summary = json!({
            "schema": SCHEMA,
            "verdict": verdict,
            "exit_code": exit_code,
            "failures": self.failures.iter().map(Failure::text).collect::<Vec<_>>(),
            "elapsed_s": record::seconds(self.elapsed_ms()),
            "part": self.part,
            "intervals": self.intervals,
            "episodes_begun": self.episodes_begun,
            "options": self.options.to_json(),
            "counters": record::counted(&all),
            "workloads": record::workloads(&totals, &self.latencies),
            "slopes": self.quiet.to_json(),
            "chaos": self.options.chaos.as_ref().map(|_| self.chronicle.to_json()),
            "chaos_without_effect": self.options.chaos.as_ref().map(|_| self.idle_chaos()),
        });
        if let (Some(directory), None) = (&self.directory, &self.unwritable)
            && let Err(failure) = directory.write_summary(&summary)
        {
            self.unwritable = Some(failure);
        }
        if self.output.json {
            say(&summary.to_string())?;
        } else {
            let idle = self.idle_chaos();
            if !idle.is_empty() {
                say(&format!("chaos that had no effect in this run: {}", idle.join(", ")))?;
            }
            say(&self.verdict_line(verdict, &all))?;
        }
        if let Some(unwritable) = self.unwritable {
            eprintln!("soak: {}", unwritable.text());
            return Err(match failure {
                Some(Failure::Interrupted) | None => {
                    Failure::Machine("the records of this run are not whole".to_owned())
                }
                Some(failure) => failure,
            });
        }
        failure.map_or(Ok(()), Err)
    }

    fn verdict_line(&self, verdict: &str, all: &Totals) -> String {
        let seconds = self.elapsed_ms() / 1000;
        let kept = self.output.out.as_ref().or(self.output.resume.as_ref());
        let kept = kept.map_or_else(String::new, |path| format!("; records in {}", path.display()));
        format!(
            "{verdict}{}: {} episodes in {seconds} s, {} messages right over {} connection ends{kept}",
            if self.unwritable.is_some() { ", but its records are not whole" } else { "" },
            all.episodes,
            all.messages,
            all.opened()
        )
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
