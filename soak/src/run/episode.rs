//! One episode: a fresh service with fresh clients over loopback, their oracles, and the verdict when all have ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
use reactor::sys::LibkqueueSystem;
use reactor::sys::{Errno, Family, Fd, Syscalls, System};
use reactor::{Config, Counters};
use sim::decision::Decisions;
use sim::decision::seed::Seed;
use sim::member::{Role, STOP_WITHIN};
use sim::workload::cluster::Cluster;
use sim::workload::echo::Echo;
use sim::workload::timers::Timers;
use sim::workload::wake::Wake;
use sim::workload::{Load, Party, Scale, Workload, WorkloadKind};

use super::options::Plant;
use super::roster::Roster;
use crate::Failure;
use crate::chaos::{ChaosOptions, Chronicle, Turmoil};
use crate::machine::Stopwatch;
use crate::member::{Member, Place, panicked, spawn, start};
use crate::poller::Backend;

/// An episode that lasts so much longer than its load will not end, however busy it is.
const LIMIT_BEYOND_LOAD: Duration = Duration::from_secs(120);

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
    /// For tests.
    pub(super) plant: Option<Plant>,
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

    /// What says how to have the same plan again.
    pub(super) fn recipe(&self) -> serde_json::Value {
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
    pub(super) fn run(&self) -> Result<Ended, Failure> {
        let ended = match self.backend {
            Backend::Own(_) => self.run_on::<System>(),
            #[cfg(all(target_os = "linux", feature = "libkqueue"))]
            Backend::Libkqueue => self.run_on::<LibkqueueSystem>(),
        };
        if ended == Ok(Ended::Judged) {
            self.roster.episode_ended(self.workload);
        }
        ended.map_err(|failure| {
            failure.in_place(&format!("{}, whose plan has the seed {}", self.name(), Seed(self.seed)))
        })
    }

    fn run_on<S: Syscalls + Default + 'static>(&self) -> Result<Ended, Failure> {
        let mut decisions = Decisions::from_seed(self.seed);
        let (decisions, scale) = (&mut decisions, Scale::RealTime);
        match (self.workload, &self.load) {
            (WorkloadKind::Echo, None) => self.play::<S, _>(&Arc::new(Echo::draw(decisions, scale))),
            (WorkloadKind::Echo, Some(load)) => self.play::<S, _>(&Arc::new(Echo::load(decisions, load))),
            (WorkloadKind::Wake, None) => self.play::<S, _>(&Arc::new(Wake::draw(decisions, scale))),
            (WorkloadKind::Wake, Some(load)) => self.play::<S, _>(&Arc::new(Wake::load(decisions, load))),
            // Processes live as long as the episode: nobody is killed.
            (WorkloadKind::Cluster, None) => self.play::<S, _>(&Arc::new(Cluster::draw(decisions, scale))),
            (WorkloadKind::Cluster, Some(load)) => {
                self.play::<S, _>(&Arc::new(Cluster::load(decisions, load)))
            }
            (WorkloadKind::Timers, None) => self.play::<S, _>(&Arc::new(Timers::draw(decisions, scale))),
            (WorkloadKind::Timers, Some(load)) => self.play::<S, _>(&Arc::new(Timers::load(decisions, load))),
            (WorkloadKind::Stage(name), _) => {
                Err(Failure::Usage(format!("{name} is a stage of a test: only that test runs it")))
            }
        }
    }

    fn play<S, W>(&self, plan: &Arc<W>) -> Result<Ended, Failure>
    where
        S: Syscalls + Default + 'static,
        W: Workload + Send + Sync + 'static,
        W::Service: Send + 'static,
        W::Client: Send + 'static,
    {
        let (_reserved, nobody) = reserve_port()?;
        let mut cast = Cast::<W> { services: Vec::new(), clients: Vec::new(), producers: Vec::new() };
        let watch = Stopwatch::start();
        let mut turmoil = match (&self.chaos, self.load) {
            (Some((options, chronicle)), Some(load)) => {
                let load = Duration::from_nanos(load.duration_ns);
                Some(Turmoil::new(options, self.seed, load, Arc::clone(chronicle))?)
            }
            _ => None,
        };
        let begun = self.begin::<S, W>(plan, nobody, &mut turmoil, &mut cast);
        let waited = begun.and_then(|()| self.wait(&cast, &watch));
        let result = match waited {
            Ok(Ended::Judged) => self.judge(plan.as_ref(), cast),
            Ok(Ended::Cut) => {
                self.dismiss(cast);
                Ok(Ended::Cut)
            }
            Err(failure) => {
                // Whose own end says more than that the others wait for it?
                let own = self.dismiss(cast);
                Err(own.unwrap_or(failure))
            }
        };
        result
    }

    fn place(&self, role: Role, index: usize, config: Config, turmoil: &Option<Turmoil>) -> Place {
        let name = format!("{}, {} {index}", self.name(), role.name());
        let gauge = self.roster.enter(self.workload, role, name);
        let exposure = turmoil.as_ref().map(Turmoil::exposure);
        Place { role, config, gauge, clock_shift_ns: self.clock_shift_ns, exposure }
    }

    fn begin<S, W>(
        &self,
        plan: &Arc<W>,
        nobody: SocketAddr,
        turmoil: &mut Option<Turmoil>,
        cast: &mut Cast<W>,
    ) -> Result<(), Failure>
    where
        S: Syscalls + Default + 'static,
        W: Workload + Send + Sync + 'static,
        W::Service: Send + 'static,
        W::Client: Send + 'static,
    {
        let config = Config::default();
        // The first service may pass everything on to the later ones, so those begin first.
        let mut addresses = vec![nobody; plan.services()];
        for index in (0..plan.services()).rev() {
            let (plan, known, limits) = (Arc::clone(plan), addresses.clone(), config.clone());
            let place = self.place(Role::Service, index, config.clone(), turmoil);
            let gauge = Arc::clone(&place.gauge);
            let member = start::<S, _>(place, move || plan.service(index, &known, &limits))
                .inspect_err(|_| self.roster.leave(self.workload, &gauge))?;
            addresses[index] = member.address;
            cast.services.insert(0, member);
            if let Some(turmoil) = turmoil {
                addresses[index] = turmoil.front(addresses[index])?;
            }
        }
        for index in 0..plan.producers() {
            let sender = cast.services[plan.fed_by(index)].sender.clone();
            let (plan, cut) = (Arc::clone(plan), Arc::clone(&self.cut));
            let stalls = self.plant == Some(Plant::Stall);
            cast.producers.push(spawn("producer", move || {
                let mut producer = plan.producer(index, sender);
                let mut steps = 0u64;
                while let Some(pause_ns) = producer.step() {
                    steps += 1;
                    if cut.load(Ordering::Relaxed) {
                        return;
                    }
                    if stalls && steps > 200 {
                        pause(Duration::from_millis(50));
                        continue_until(&cut);
                        return;
                    }
                    pause(Duration::from_nanos(pause_ns));
                }
            })?);
        }
        for index in 0..plan.clients() {
            let (plan, addresses) = (Arc::clone(plan), addresses.clone());
            let place = self.place(Role::Client, index, config.clone(), turmoil);
            let gauge = Arc::clone(&place.gauge);
            let member = start::<S, _>(place, move || plan.client(index, &addresses, nobody))
                .inspect_err(|_| self.roster.leave(self.workload, &gauge))?;
            cast.clients.push(member);
        }
        turmoil.as_mut().map_or(Ok(()), Turmoil::begin)
    }

    /// Waits until nobody owes or awaits anything.
    fn wait<W: Workload>(&self, cast: &Cast<W>, watch: &Stopwatch) -> Result<Ended, Failure> {
        let load_ns = self.load.map_or(0, |load| load.duration_ns);
        let limit_ns = load_ns.saturating_add(LIMIT_BEYOND_LOAD.as_nanos() as u64);
        loop {
            if self.cut.load(Ordering::Relaxed) {
                return Ok(Ended::Cut);
            }
            let clients =
                cast.clients.iter().map(|member| (member.gauge.is_finished(), member.thread.is_finished()));
            let services =
                cast.services.iter().map(|member| (member.gauge.is_finished(), member.thread.is_finished()));
            let (mut all_finished, mut any_died) = (true, false);
            for (finished, ended) in clients.clone() {
                // A client that has finished ends by itself.
                all_finished &= finished && ended;
                any_died |= ended && !finished;
            }
            for (finished, ended) in services {
                all_finished &= finished;
                any_died |= ended;
            }
            all_finished &= cast.producers.iter().all(JoinHandle::is_finished);
            if any_died {
                return Err(Failure::Liveness("a loop ended before its time".to_owned()));
            }
            if all_finished {
                return Ok(Ended::Judged);
            }
            if watch.ns() > limit_ns {
                let gauges = cast.gauges();
                gauges.iter().for_each(|gauge| gauge.ask());
                pause(Duration::from_millis(100));
                let dumps: Vec<String> =
                    gauges.iter().filter(|gauge| !gauge.is_finished()).map(|gauge| gauge.dump()).collect();
                return Err(Failure::Liveness(format!(
                    "the episode does not end, {} s after its load\n{}",
                    LIMIT_BEYOND_LOAD.as_secs(),
                    dumps.join("\n")
                )));
            }
            pause(Duration::from_millis(20));
        }
    }

    fn judge<W: Workload>(&self, plan: &W, cast: Cast<W>) -> Result<Ended, Failure> {
        let Cast { services, clients, producers } = cast;
        // Clients first, to their end: a service that stops earlier cuts their last bytes short.
        let clients = self.finish(clients);
        services.iter().for_each(|service| service.stop(STOP_WITHIN));
        let services = self.finish(services);
        for producer in producers {
            producer.join().map_err(|_| panicked("a producer"))?;
        }
        let (services, clients) = (services?, clients?);
        let lost_at_accept =
            services.iter().any(|(_, counters)| counters.shed > 0 || counters.accept_errors > 0);
        let service_parties: Vec<&W::Service> = services.iter().map(|(party, _)| party).collect();
        let client_parties: Vec<&W::Client> = clients.iter().map(|(party, _)| party).collect();
        plan.judge(&service_parties, &client_parties, lost_at_accept)
            .map_err(|breach| Failure::Invariant(breach.to_string()))?;
        Ok(Ended::Judged)
    }

    /// Waits for loops to end; all of them, also when one of them is broken.
    fn finish<P: Party>(&self, members: Vec<Member<P>>) -> Result<Vec<(P, Counters)>, Failure> {
        let mut finished = Ok(Vec::new());
        for member in members {
            let joined = member.thread.join();
            self.roster.leave(self.workload, &member.gauge);
            let result = joined
                .map_err(|_| panicked("a loop or its handler"))
                .and_then(|result| result.map_err(|breach| Failure::Invariant(breach.to_string())));
            match (&mut finished, result) {
                (Ok(list), Ok(end)) => list.push(end),
                (Ok(_), Err(failure)) => finished = Err(failure),
                (Err(_), _) => {}
            }
        }
        finished
    }

    /// Sends everybody home in the middle. What is broken by that counts for nothing; what was broken before is answered.
    fn dismiss<W: Workload>(&self, cast: Cast<W>) -> Option<Failure> {
        let Cast { services, clients, producers } = cast;
        let broken = |ended: bool, finished: bool| ended && !finished;
        let before: Vec<bool> = clients
            .iter()
            .map(|member| broken(member.thread.is_finished(), member.gauge.is_finished()))
            .chain(services.iter().map(|member| member.thread.is_finished()))
            .collect();
        clients.iter().for_each(|client| client.stop(Duration::ZERO));
        services.iter().for_each(|service| service.stop(Duration::ZERO));
        let clients = clients.into_iter().map(|member| self.dismiss_one(member));
        let ends: Vec<Option<Failure>> =
            clients.chain(services.into_iter().map(|member| self.dismiss_one(member))).collect();
        for producer in producers {
            let _ = producer.join();
        }
        ends.into_iter().zip(before).find_map(|(end, before)| end.filter(|_| before))
    }

    fn dismiss_one<P>(&self, member: Member<P>) -> Option<Failure> {
        let joined = member.thread.join();
        self.roster.leave(self.workload, &member.gauge);
        match joined {
            Ok(Ok(_)) => None,
            Ok(Err(breach)) => Some(Failure::Invariant(breach.to_string())),
            Err(_) => Some(panicked("a loop or its handler")),
        }
    }
}

/// Everybody of an episode.
struct Cast<W: Workload> {
    services: Vec<Member<W::Service>>,
    clients: Vec<Member<W::Client>>,
    producers: Vec<JoinHandle<()>>,
}

impl<W: Workload> Cast<W> {
    fn gauges(&self) -> Vec<Arc<crate::gauge::Gauge>> {
        let clients = self.clients.iter().map(|member| &member.gauge);
        clients.chain(self.services.iter().map(|member| &member.gauge)).map(Arc::clone).collect()
    }
}

/// A port that is taken, and at which nobody listens.
fn reserve_port() -> Result<(ReservedPort, SocketAddr), Failure> {
    let refused = |error: Errno| Failure::Machine(format!("a port for nobody: {error}"));
    let mut sys = System::new();
    let fd = sys.socket(Family::V4).map_err(refused)?;
    let reserved = ReservedPort { fd };
    sys.bind(fd, &SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).map_err(refused)?;
    let address = sys.getsockname(fd).map_err(refused)?;
    Ok((reserved, address))
}

struct ReservedPort {
    fd: Fd,
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let _ = System::new().close(self.fd);
    }
}

fn continue_until(cut: &AtomicBool) {
    while !cut.load(Ordering::Relaxed) {
        pause(Duration::from_millis(20));
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
