//! One episode: a fresh service with fresh clients over loopback, their oracles, and the verdict when all have ended.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
use reactor::sys::LibkqueueSystem;
use reactor::sys::{Errno, Family, Fd, SocketOption, Syscalls, System};
use reactor::{Config, Counters};
use sim::decision::seed::Seed;
use sim::member::{Role, STOP_WITHIN};
use sim::recording::{self, Plan, PlanUse};
use sim::workload::{Accounts, Breach, Load, Party, Workload, WorkloadKind};

use super::cast::{Cast, Scene, Seat};
use super::options::Plant;
use super::processes;
use super::roster::Roster;
use crate::Failure;
use crate::chaos::{ChaosOptions, Chronicle, Share, Turmoil, shortage};
use crate::episode_record::{EpisodeRecord, Recordings};
use crate::machine::Stopwatch;
use crate::member::{Member, panic_message, panicked};
use crate::poller::Backend;

/// An episode that lasts so much longer than its load will not end, however busy it is.
const LIMIT_BEYOND_LOAD: Duration = Duration::from_secs(120);

/// Longer than a loop that was told to stop may need, with its connections given up and its structure looked at.
const STOPPED_AFTER: Duration = Duration::from_secs(3 * STOP_WITHIN.as_secs());

/// What makes an episode, and where it shows what it does.
#[derive(Clone)]
pub(super) struct Episode {
    pub(super) workload: WorkloadKind,
    /// Its number in the run; `None` for the one that lives as long as the run.
    pub(super) index: Option<u64>,
    /// What its plan is drawn from.
    pub(super) seed: u64,
    /// `None` for a plan as the simulator draws it.
    pub(super) load: Option<Load>,
    pub(super) backend: Backend,
    pub(super) clock_shift_ns: u64,
    pub(super) roster: Arc<Roster>,
    /// What is to go wrong on purpose, and who writes down that it did.
    pub(super) chaos: Option<(ChaosOptions, Arc<Chronicle>)>,
    /// Set when the run is to end at once.
    pub(super) cut: Arc<AtomicBool>,
    /// Set together with `cut` when something owed did not come.
    pub(super) stalled: Arc<AtomicBool>,
    /// Where recordings are kept, and how many bytes one may have.
    pub(super) recordings: Option<(Arc<Recordings>, u64)>,
    /// A loop that owes something and does nothing for so long has stalled.
    pub(super) stalled_after: Duration,
    /// How many processes of services it has, beside those of its clients; `None` for all of it in this process.
    pub(super) processes: Option<u32>,
    /// For tests.
    pub(super) plant: Option<Plant>,
}

/// What was wrong with an episode, and how to have the same one again.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// What its plan was made of; null where there is no single episode to blame.
    pub(super) recipe: serde_json::Value,
}

/// How an episode ended, if nothing was wrong.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// All was judged.
    Judged,
    /// The run ended first: nobody judges half a story.
    Cut,
}

impl Episode {
    /// Its name in reports.
    pub(super) fn name(&self) -> String {
        match self.index {
            Some(index) => format!("{} episode {index}", self.workload),
            None => format!("{}, long-lived", self.workload),
        }
    }

    /// Its name, with what its plan is drawn from.
    pub(super) fn name_with_plan(&self) -> String {
        format!("{} with plan {}", self.name(), Seed(self.seed))
    }

    /// What says how to have the same plan again.
    fn recipe(&self) -> serde_json::Value {
        serde_json::json!({
            "workload": self.workload.name(),
            "episode": self.index,
            "plan_seed": Seed(self.seed).to_string(),
            "load": self.load.map(|load| serde_json::json!({
                "connections": load.connections,
                "rate_per_s": load.rate_per_s,
                "duration_ns": load.duration_ns,
            })),
            "poller": self.backend.poller().name(),
            "clock_shift_ns": self.clock_shift_ns,
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// What was wrong, with the episode's name.
    pub(super) fn run(&self) -> Result<Ended, Broken> {
        let plan = Plan { workload: self.workload, seed: self.seed, load: self.load };
        let stage =
            || Failure::Usage(format!("{} is a stage of a test: only that test runs it", self.workload));
        let ended = plan.draw(Play { episode: self, plan }).unwrap_or_else(|| Err(stage()));
        if ended == Ok(Ended::Judged) {
            self.roster.episode_ended(self.workload);
        }
        let place = format!("{}, whose plan has the seed {}", self.name(), Seed(self.seed));
        ended.map_err(|failure| Broken { failure: failure.in_place(&place), recipe: self.recipe() })
    }

    fn play<S, W>(&self, drawn: Plan, plan: &Arc<W>) -> Result<Ended, Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        let (_reserved, nobody) = reserve_port(false)?;
        let config = Config::default();
        let record = self.recordings.as_ref().map(|(recordings, bytes_max)| {
            let budget = recordings.budget(*bytes_max);
            EpisodeRecord::new(drawn, nobody, &config, S::default().readiness(), budget)
        });
        let mut cast = Cast::<W>::default();
        let mut turmoil = match (&self.chaos, self.load) {
            (Some((options, chronicle)), Some(load)) => {
                let load = Duration::from_nanos(load.duration_ns);
                Some(Turmoil::new(options, Share::Whole, self.seed, load, Arc::clone(chronicle))?)
            }
            _ => None,
        };
        let seen = record.as_ref();
        let begun = self.begin::<S, W>(plan, nobody, seen, &mut turmoil, &mut cast);
        let waited = begun.and_then(|()| self.wait(&cast, seen));
        let stalled = self.stalled.load(Ordering::Relaxed);
        if let (true, Some(record)) = (stalled, seen) {
            record.set_late();
            blame(seen, &Breach::new("liveness", "something owed did not come".to_owned()), None);
        }
        let result = match waited {
            Ok(Ended::Judged) => self.judge(plan.as_ref(), cast, seen),
            Ok(Ended::Cut) => {
                self.dismiss(cast, seen);
                Ok(Ended::Cut)
            }
            Err(failure) => {
                // Whose own end says more than that the others wait for it?
                let own = self.dismiss(cast, seen);
                Err(own.unwrap_or(failure))
            }
        };
        let (Some(record), Some((recordings, _))) = (record, &self.recordings) else { return result };
        let is_wrong = matches!(result, Err(Failure::Invariant(_) | Failure::Liveness(_)));
        let whole = is_wrong || stalled || result == Ok(Ended::Judged);
        recordings.keep(self.index.unwrap_or(u64::MAX), record.finish(whole));
        match result {
            Err(failure) if is_wrong => {
                Err(failure.recorded(&shortage::with_room(|| recordings.write()), false))
            }
            other => other,
        }
    }

    fn begin<S, W>(
        &self,
        plan: &Arc<W>,
        nobody: SocketAddr,
        record: Option<&EpisodeRecord>,
        turmoil: &mut Option<Turmoil>,
        cast: &mut Cast<W>,
    ) -> Result<(), Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        // The first service may pass everything on to the later ones, so those begin first.
        let mut scene = Scene { addresses: vec![nobody; plan.services()], nobody, record };
        for index in (0..plan.services()).rev() {
            let member = self.begin_service::<S, W>(plan, index, Seat::default(), &scene, turmoil)?;
            scene.addresses[index] = member.address;
            cast.services.insert(0, member);
            if let Some(turmoil) = turmoil {
                scene.addresses[index] = turmoil.front(scene.addresses[index])?;
            }
        }
        self.begin_producers(plan, cast)?;
        for index in 0..plan.clients() {
            let member = self.begin_client::<S, W>(plan, index, Seat::default(), &scene, turmoil)?;
            cast.clients.push(member);
        }
        turmoil.as_mut().map_or(Ok(()), Turmoil::begin)
    }

    /// How long the episode may last.
    pub(super) fn limit_ns(&self) -> u64 {
        let load_ns = self.load.map_or(0, |load| load.duration_ns);
        load_ns.saturating_add(LIMIT_BEYOND_LOAD.as_nanos() as u64)
    }

    /// Waits until nobody owes or awaits anything.
    fn wait<W: Workload>(&self, cast: &Cast<W>, record: Option<&EpisodeRecord>) -> Result<Ended, Failure> {
        let (watch, mut is_hurried) = (Stopwatch::start(), false);
        loop {
            if self.cut.load(Ordering::Relaxed) {
                return Ok(Ended::Cut);
            }
            if cast.is_finished()? {
                return Ok(Ended::Judged);
            }
            if record.is_some_and(EpisodeRecord::is_full) && !is_hurried {
                // What comes after the bound cannot be replayed: the load ends, and what has begun is still judged.
                is_hurried = true;
                cast.hurry();
            }
            if watch.ns() > self.limit_ns() {
                return Err(cast.does_not_end(record, LIMIT_BEYOND_LOAD));
            }
            pause(Duration::from_millis(20));
        }
    }

    fn judge<W: Workload>(
        &self,
        plan: &W,
        cast: Cast<W>,
        record: Option<&EpisodeRecord>,
    ) -> Result<Ended, Failure> {
        let Cast { services, clients, producers } = cast;
        // Clients first, to their end: a service that stops earlier cuts their last bytes short.
        let clients = self.finish(Role::Client, clients, record);
        services.iter().for_each(|service| service.stop(STOP_WITHIN));
        let services = self.finish(Role::Service, services, record);
        for producer in producers {
            producer.join().map_err(|_| panicked("a producer"))?;
        }
        let (services, clients) = (services?, clients?);
        let lost_at_accept =
            services.iter().any(|(_, counters)| counters.shed > 0 || counters.accept_errors > 0);
        let service_parties: Vec<&W::Service> = services.iter().map(|(party, _)| party).collect();
        let client_parties: Vec<&W::Client> = clients.iter().map(|(party, _)| party).collect();
        plan.judge(&service_parties, &client_parties, lost_at_accept).map_err(|breach| {
            blame(record, &breach, None);
            Failure::Invariant(breach.to_string())
        })?;
        Ok(Ended::Judged)
    }

    /// Waits for loops to end; all of them, also when one of them is broken.
    pub(super) fn finish<P: Party>(
        &self,
        role: Role,
        members: Vec<Member<P>>,
        record: Option<&EpisodeRecord>,
    ) -> Result<Vec<(P, Counters)>, Failure> {
        let mut finished = Ok(Vec::new());
        for (index, member) in members.into_iter().enumerate() {
            let result = self.join(role, index, member);
            match (&mut finished, result) {
                (Ok(list), Ok(end)) => list.push(end),
                (Ok(_), Err((failure, breach))) => {
                    blame(record, &breach, Some(format!("{} {index}", role.name())));
                    finished = Err(failure);
                }
                (Err(_), _) => {}
            }
        }
        finished
    }

    /// Waits for a loop that was told to stop.
    fn join<P>(
        &self,
        role: Role,
        index: usize,
        member: Member<P>,
    ) -> Result<(P, Counters), (Failure, Breach)> {
        if !member.ends_within(STOPPED_AFTER) {
            // Nobody can join it: it sleeps, or turns in circles. What is recorded of it ends here.
            let details =
                format!("{} {index} did not stop when it was told to\n{}", role.name(), member.gauge.dump());
            let breach = Breach::new("liveness", details);
            return Err((Failure::Liveness(breach.to_string()), breach));
        }
        let joined = member.thread.join();
        self.roster.leave(self.workload, &member.gauge);
        match joined {
            Ok(Ok(end)) => Ok(end),
            Ok(Err(breach)) => Err((Failure::Invariant(breach.to_string()), breach)),
            Err(payload) => {
                let breach = Breach::new("panic", panic_message(&*payload));
                let text = format!("panic: {} {index} panicked: {}", role.name(), breach.details);
                Err((Failure::Invariant(text), breach))
            }
        }
    }

    /// Sends everybody home in the middle. What is broken by that counts for nothing; what was broken before is answered.
    pub(super) fn dismiss<W: Workload>(
        &self,
        cast: Cast<W>,
        record: Option<&EpisodeRecord>,
    ) -> Option<Failure> {
        let Cast { services, clients, producers } = cast;
        let died_before: Vec<bool> = clients
            .iter()
            .map(|member| member.thread.is_finished() && !member.gauge.is_finished())
            .chain(services.iter().map(|member| member.thread.is_finished()))
            .collect();
        clients.iter().for_each(|client| client.stop(Duration::ZERO));
        services.iter().for_each(|service| service.stop(Duration::ZERO));
        let mut ends = Vec::new();
        for (index, member) in clients.into_iter().enumerate() {
            ends.push((Role::Client, index, self.join(Role::Client, index, member).err()));
        }
        for (index, member) in services.into_iter().enumerate() {
            ends.push((Role::Service, index, self.join(Role::Service, index, member).err()));
        }
        // Whoever waits for somebody who is gone is told so by the cut, or by a mailbox that is closed.
        self.cut_producers(producers);
        let mut own = ends.into_iter().zip(died_before).filter(|(_, before)| *before);
        own.find_map(|((role, index, end), _)| {
            let (failure, breach) = end?;
            blame(record, &breach, Some(format!("{} {index}", role.name())));
            Some(failure)
        })
    }

    fn cut_producers(&self, producers: Vec<JoinHandle<()>>) {
        // Another episode may go on: only a run that has failed, or is to end, dismisses anybody.
        self.cut.store(true, Ordering::Relaxed);
        for producer in producers {
            let _ = producer.join();
        }
    }
}

/// An episode and what its plan is drawn from.
struct Play<'a> {
    episode: &'a Episode,
    plan: Plan,
}

impl PlanUse for Play<'_> {
    type Output = Result<Ended, Failure>;

    fn with<W>(self, plan: W) -> Result<Ended, Failure>
    where
        W: Accounts,
    {
        let Play { episode, plan: drawn } = self;
        if let Some(processes) = episode.processes {
            return processes::play(episode, processes, &plan);
        }
        match episode.backend {
            Backend::Own(_) => episode.play::<System, W>(drawn, &Arc::new(plan)),
            #[cfg(all(target_os = "linux", feature = "libkqueue"))]
            Backend::Libkqueue => episode.play::<LibkqueueSystem, W>(drawn, &Arc::new(plan)),
        }
    }
}

/// Writes into the record what was wrong, and which loop saw it.
pub(super) fn blame(record: Option<&EpisodeRecord>, breach: &Breach, culprit: Option<String>) {
    if let Some(record) = record {
        let (invariant, details) = (breach.invariant.to_owned(), breach.details.clone());
        record.blame(recording::Failure { invariant, details, culprit });
    }
}

/// A port that is taken, and at which nobody listens: or, where it is shared, others may.
pub(super) fn reserve_port(shared: bool) -> Result<(ReservedPort, SocketAddr), Failure> {
    let refused = |error: Errno| Failure::Machine(format!("a port for nobody: {error}"));
    let mut sys = System::new();
    let fd = sys.socket(Family::V4).map_err(refused)?;
    let reserved = ReservedPort { fd };
    if shared {
        sys.setsockopt(fd, SocketOption::ReusePort(true)).map_err(refused)?;
    }
    sys.bind(fd, &SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).map_err(refused)?;
    let address = sys.getsockname(fd).map_err(refused)?;
    Ok((reserved, address))
}

#[derive(Debug)]
pub(super) struct ReservedPort {
    fd: Fd,
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let _ = System::new().close(self.fd);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a producer on real sockets is a real thread, and paces itself"
)]
pub(super) fn pause(duration: Duration) {
    if duration.is_zero() {
        thread::yield_now();
    } else {
        thread::sleep(duration);
    }
}
