//! The process of an episode: it plays its part, says how it stands, and ends when its parent does.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use reactor::Config;
#[cfg(all(target_os = "linux", feature = "libkqueue"))]
use reactor::sys::LibkqueueSystem;
use reactor::sys::{Syscalls, System};
use sim::decision::seed::seed_of_run;
use sim::member::{Role, STOP_WITHIN};
use sim::recording::{Budget, Plan, PlanUse};
use sim::workload::{Accounts, Breach, Workload, WorkloadKind};

use super::message::{Assignment, Ledgers, Order, Report, Side, Status, timed_of};
use crate::Failure;
use crate::chaos::{ChaosOptions, Chronicle, Cuts, Share, Turmoil, shortage};
use crate::episode_record::{EpisodeRecord, Recordings};
use crate::machine::Stopwatch;
use crate::member::{panicked, spawn};
use crate::poller::Backend;
use crate::run::cast::{Cast, Scene, Seat};
use crate::run::episode::{Episode, blame};
use crate::run::options::Plant;
use crate::run::record::{Process, counted, sum};
use crate::run::roster::Roster;
use crate::run::watchdog::Watchdog;

/// Between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Between two reports of how it stands.
const STATUS_EVERY_NS: u64 = 250_000_000;

/// Histograms are large: they are told less often.
const TIMED_EVERY_NS: u64 = 1_000_000_000;

/// Between two looks at who does nothing.
const WATCH_EVERY_NS: u64 = 500_000_000;

/// In tests, when a process ends itself.
const CRASH_AFTER_NS: u64 = 300_000_000;

/// `soak episode-process`: reads its assignment, and plays.
///
/// # Errors
/// Machine: its parent is gone, or is none.
pub(crate) fn play() -> Result<(), Failure> {
    // A process that is stopped hears nothing of a pipe; this reaches it all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let mut first = String::new();
    let read = std::io::stdin().lock().read_line(&mut first);
    read.map_err(|error| Failure::Machine(format!("standard input: {error}")))?;
    let assignment: Assignment = serde_json::from_str(&first).map_err(|error| {
        Failure::Usage(format!(
            "this command is for `soak run --processes` alone, which tells it what to do: {error}"
        ))
    })?;
    if let Some(group) = &assignment.group {
        // Before the first socket: what is made earlier is not counted.
        std::fs::write(group, std::process::id().to_string())
            .map_err(|error| Failure::Machine(format!("{}: {error}", group.display())))?;
    }
    let (sender, orders) = mpsc::channel();
    spawn("orders", move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { break };
            if sender.send(order).is_err() {
                return;
            }
        }
        // Whoever gives orders is gone, and nobody is there to be told anything.
        std::process::exit(Failure::Interrupted.exit_code().into());
    })?;
    let workload = WorkloadKind::from_name(&assignment.workload)
        .ok_or_else(|| Failure::Usage(format!("there is no workload {:?}", assignment.workload)))?;
    let plan = Plan { workload, seed: assignment.seed, load: Some(assignment.load()) };
    let part = Part::new(assignment, workload, orders)?;
    plan.draw(Drawn { part, plan })
        .unwrap_or_else(|| Err(Failure::Usage("a stage has no processes".to_owned())))
}

struct Drawn {
    part: Part,
    plan: Plan,
}

impl PlanUse for Drawn {
    type Output = Result<(), Failure>;

    fn with<W>(self, plan: W) -> Result<(), Failure>
    where
        W: Accounts,
    {
        let Drawn { part, plan: drawn } = self;
        match part.episode.backend {
            Backend::Own(_) => part.play::<System, W>(drawn, &Arc::new(plan)),
            #[cfg(all(target_os = "linux", feature = "libkqueue"))]
            Backend::Libkqueue => part.play::<LibkqueueSystem, W>(drawn, &Arc::new(plan)),
        }
    }
}

/// The part of an episode that this process plays.
struct Part {
    assignment: Assignment,
    episode: Episode,
    orders: Receiver<Order>,
    chronicle: Arc<Chronicle>,
    /// Connections of processes that were killed.
    killed: Arc<Cuts>,
}

/// Why a part is over.
enum Over {
    /// Everybody has finished.
    InOrder,
    /// It was told to end at once.
    Cut,
}

fn tell(report: &Report) -> Result<(), Failure> {
    let text = serde_json::to_string(report).map_err(|error| Failure::Machine(error.to_string()))?;
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Failure::Machine(format!("standard output: {error}")))
}

impl Part {
    fn new(assignment: Assignment, workload: WorkloadKind, orders: Receiver<Order>) -> Result<Part, Failure> {
        let chronicle = Arc::<Chronicle>::default();
        let chaos = assignment.chaos.as_ref().map(|chaos| {
            let chaos = ChaosOptions::from_json(chaos, true);
            chaos.ok_or_else(|| Failure::Usage("an assignment with a chaos that is none".to_owned()))
        });
        let chaos = chaos.transpose()?.map(|chaos| (chaos, Arc::clone(&chronicle)));
        let episode = Episode {
            workload,
            index: Some(assignment.episode),
            seed: assignment.seed,
            load: Some(assignment.load()),
            backend: Backend::with_poller(Some(&assignment.poller))?,
            clock_shift_ns: assignment.clock_shift_ns,
            roster: Arc::new(Roster::new([(workload, Default::default())])),
            chaos,
            cut: Arc::default(),
            stalled: Arc::default(),
            recordings: None,
            stalled_after: Duration::from_millis(assignment.stall_ms),
            processes: None,
            plant: assignment.plant,
        };
        Ok(Part { assignment, episode, orders, chronicle, killed: Arc::default() })
    }

    fn play<S, W>(self, drawn: Plan, plan: &Arc<W>) -> Result<(), Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        let config = Config::default();
        let record = self.assignment.recorded_bytes_max.map(|bytes_max| {
            // A process plays one episode: there is no memory of others.
            let (nobody, budget) = (self.assignment.nobody, Budget::new(bytes_max));
            EpisodeRecord::new(drawn, nobody, &config, S::default().readiness(), budget)
        });
        let seen = record.as_ref();
        let mut cast = Cast::<W>::default();
        let mut turmoil = self.turmoil()?;
        let begun = self.begin::<S, W>(plan, seen, &mut turmoil, &mut cast);
        let over = begun.and_then(|()| tell(&Report::Ready)).and_then(|()| self.attend(&cast, seen));
        let (report, is_whole) = match over {
            Ok(Over::InOrder) => match self.close(cast, seen) {
                Ok(ledgers) => (Report::Done(ledgers), true),
                Err(failure) => (failed(&failure), true),
            },
            Ok(Over::Cut) => match self.episode.dismiss(cast, seen) {
                Some(own) => (failed(&own), true),
                None => (Report::Cut, false),
            },
            Err(failure) => {
                let own = self.episode.dismiss(cast, seen);
                (failed(&own.unwrap_or(failure)), true)
            }
        };
        drop(turmoil);
        self.tell_status(0, true, false, true)?;
        tell(&report)?;
        self.leave(record, is_whole)
    }

    /// The chaos that is this process's share.
    fn turmoil(&self) -> Result<Option<Turmoil>, Failure> {
        let Assignment { side, number, seed, duration_ns, .. } = self.assignment;
        let Some((options, chronicle)) = &self.episode.chaos else { return Ok(None) };
        let (share, apart) = match side {
            Side::Services => (Share::Services { first: number == 0 }, 1 + 2 * u64::from(number)),
            Side::Clients => (Share::Clients, 2 + 2 * u64::from(number)),
        };
        let (load, chronicle) = (Duration::from_nanos(duration_ns), Arc::clone(chronicle));
        let mut turmoil = Turmoil::new(options, share, seed_of_run(seed, apart), load, chronicle)?;
        turmoil.excuse_killed(&self.killed);
        // Who begins late meets what is left.
        turmoil.begin_at(Duration::from_nanos(duration_ns.saturating_sub(self.assignment.left_ns)));
        Ok(Some(turmoil))
    }

    fn begin<S, W>(
        &self,
        plan: &Arc<W>,
        record: Option<&EpisodeRecord>,
        turmoil: &mut Option<Turmoil>,
        cast: &mut Cast<W>,
    ) -> Result<(), Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        let Assignment { side, incarnation, nobody, .. } = self.assignment;
        let mut scene = Scene { addresses: self.assignment.addresses.clone(), nobody, record };
        match side {
            Side::Services => {
                for index in (0..plan.services()).rev() {
                    let seat = Seat { incarnation, shared: Some(scene.addresses[index]) };
                    let member = self.episode.begin_service::<S, W>(plan, index, seat, &scene, turmoil)?;
                    cast.services.insert(0, member);
                }
                self.episode.begin_producers(plan, cast)?;
            }
            Side::Clients => {
                if let Some(turmoil) = turmoil {
                    for address in &mut scene.addresses {
                        *address = turmoil.front(*address)?;
                    }
                }
                for &index in &self.assignment.loops {
                    let seat = Seat { incarnation, shared: None };
                    cast.clients.push(self.episode.begin_client::<S, W>(plan, index, seat, &scene, turmoil)?);
                }
            }
        }
        turmoil.as_mut().map_or(Ok(()), Turmoil::begin)
    }

    /// Does what is ordered, until everybody has finished.
    fn attend<W: Workload>(&self, cast: &Cast<W>, record: Option<&EpisodeRecord>) -> Result<Over, Failure> {
        let watch = Stopwatch::start();
        let mut watchdog = Watchdog::new(Duration::from_millis(self.assignment.stall_ms));
        let (mut look, mut next_status_ns, mut next_timed_ns, mut next_watch_ns) = (0, 0, TIMED_EVERY_NS, 0);
        let mut is_hurried = false;
        loop {
            match self.orders.recv_timeout(LOOK_EVERY) {
                Ok(Order::Look(number)) => (look, next_status_ns) = (number, 0),
                Ok(Order::Over) => cast.hurry(),
                Ok(Order::Killed(addresses)) => {
                    addresses.into_iter().for_each(|from| self.killed.cut(from));
                    tell(&Report::Excused)?;
                }
                Ok(Order::Stop) => return Ok(Over::InOrder),
                Ok(Order::Cut | Order::Leave { .. }) => return Ok(Over::Cut),
                Err(RecvTimeoutError::Timeout) => {}
                // The thread that reads orders ends the process.
                Err(RecvTimeoutError::Disconnected) => return Ok(Over::Cut),
            }
            let now_ns = watch.ns();
            let is_finished = cast.is_finished()?;
            if is_finished && self.assignment.side == Side::Clients {
                return Ok(Over::InOrder);
            }
            if now_ns >= next_status_ns {
                next_status_ns = now_ns + STATUS_EVERY_NS;
                let is_timed = now_ns >= next_timed_ns;
                if is_timed {
                    next_timed_ns = now_ns + TIMED_EVERY_NS;
                }
                let is_full = record.is_some_and(EpisodeRecord::is_full);
                self.tell_status(look, is_finished, is_full, is_timed)?;
            }
            if self.assignment.left_ns < self.assignment.duration_ns
                && now_ns >= self.assignment.left_ns
                && !std::mem::replace(&mut is_hurried, true)
            {
                cast.hurry();
            }
            if now_ns >= next_watch_ns {
                next_watch_ns = now_ns + WATCH_EVERY_NS;
                if let Some(dump) = watchdog.look(&self.episode.roster, now_ns) {
                    if let Some(record) = record {
                        record.set_late();
                    }
                    let breach = Breach::new("liveness", "something owed did not come".to_owned());
                    blame(record, &breach, None);
                    let seconds = self.assignment.stall_ms / 1000;
                    let text = format!("something is owed, and nothing has happened for {seconds} s\n{dump}");
                    return Err(Failure::Liveness(text));
                }
            }
            if now_ns > self.episode.limit_ns() {
                let beyond = Duration::from_nanos(now_ns.saturating_sub(self.assignment.duration_ns));
                return Err(cast.does_not_end(record, beyond));
            }
            if self.assignment.plant == Some(Plant::Crash) && now_ns > CRASH_AFTER_NS {
                eprintln!("a crash that a test asked for");
                std::process::abort();
            }
        }
    }

    /// Everybody ends in order; their ledgers.
    fn close<W: Accounts>(&self, cast: Cast<W>, record: Option<&EpisodeRecord>) -> Result<Ledgers, Failure> {
        let Cast { services, clients, producers } = cast;
        let clients = self.episode.finish(Role::Client, clients, record);
        services.iter().for_each(|service| service.stop(STOP_WITHIN));
        let services = self.episode.finish(Role::Service, services, record);
        for producer in producers {
            producer.join().map_err(|_| panicked("a producer"))?;
        }
        let (services, clients) = (services?, clients?);
        let lost_at_accept =
            services.iter().any(|(_, counters)| counters.shed > 0 || counters.accept_errors > 0);
        let services = services.iter().map(|(party, _)| serde_json::to_value(W::service_ledger(party)));
        let clients = clients.iter().map(|(party, _)| serde_json::to_value(W::client_ledger(party)));
        let ledgers = services.chain(clients).collect::<Result<_, _>>();
        let ledgers = ledgers.map_err(|error| Failure::Machine(format!("a ledger: {error}")))?;
        Ok(Ledgers { ledgers, lost_at_accept })
    }

    fn tell_status(
        &self,
        look: u64,
        is_finished: bool,
        is_full: bool,
        is_timed: bool,
    ) -> Result<(), Failure> {
        let roster = &self.episode.roster;
        let latencies = if is_timed { roster.take_latencies() } else { Vec::new() };
        let status = Status {
            look,
            is_finished,
            is_full,
            counted: counted(&sum(&roster.totals())).into(),
            now: roster.now(),
            process: shortage::with_room(Process::look),
            timed: latencies.iter().flat_map(|(_, book)| timed_of(book)).collect(),
            happened: self.chronicle.take(),
        };
        tell(&Report::Status(Box::new(status)))
    }

    /// Waits until the others have ended, too, and then knows whether the recording is wanted.
    fn leave(&self, mut record: Option<EpisodeRecord>, is_whole: bool) -> Result<(), Failure> {
        for order in &self.orders {
            match order {
                Order::Killed(_) => tell(&Report::Excused)?,
                Order::Look(look) => self.tell_status(look, true, false, false)?,
                Order::Leave { write, joined } => {
                    if let (true, Some(record)) = (write, record.take()) {
                        if let Some((invariant, details)) = joined {
                            record.blame_all(sim::recording::Failure { invariant, details, culprit: None });
                        }
                        let Assignment { side, number, incarnation, folder, .. } = &self.assignment;
                        let again = match (side, incarnation) {
                            (Side::Services, _) | (_, 0) => String::new(),
                            (Side::Clients, again) => format!("-again-{again}"),
                        };
                        let whose = format!("-{}-{number}{again}", side.stem());
                        let recordings = Recordings::of(folder, &whose);
                        recordings.keep(self.assignment.episode, record.finish(is_whole));
                        tell(&Report::Written(recordings.write()))?;
                    }
                    return Ok(());
                }
                Order::Over | Order::Stop | Order::Cut => {}
            }
        }
        Ok(())
    }
}

fn failed(failure: &Failure) -> Report {
    Report::Failed { class: failure.class().to_owned(), text: failure.text().to_owned() }
}
