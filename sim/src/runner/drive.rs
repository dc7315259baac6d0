//! From the first call of a run to its verdict: trouble, calm, stop, judgement.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use reactor::time::Instant;
use reactor::{Counters, Sender};

use super::member::Member;
use super::panics;
use super::seat::Seat;
use super::setup::Setup;
use super::{Failure, Outcome, RunOptions};
use crate::actor::Actor;
use crate::aftermath::Sleeper;
use crate::decision::Decisions;
use crate::kernel::Kernel;
use crate::oracle::Oracle;
use crate::schedule::{Step, ThreadId};
use crate::weather::Weather;
use crate::workload::{Breach, Numbered, Party, Producer, Workload, WorkloadKind};
use crate::world::{HostId, SharedWorld, WorldOptions};

/// The port that services listen on; nobody listens on the one above.
pub(crate) const PORT: u16 = 7;
/// How often progress is told, in rounds of the schedule.
const TELL_EVERY_ROUNDS: u64 = 1_024;
/// How long the loops may take to stop.
const STOP_NS: u64 = 600 * 1_000_000_000;

struct ProducerActor(Box<dyn Producer>);

impl Actor for ProducerActor {
    fn step(&mut self, _: Instant) -> Option<u64> {
        self.0.step()
    }
}

/// A run under way.
pub(super) struct Drive<'a, W: Workload> {
    plan: &'a W,
    setup: Setup,
    options: &'a RunOptions,
    world: SharedWorld,
    addresses: Vec<SocketAddr>,
    services: Vec<Seat<W::Service>>,
    clients: Vec<Seat<W::Client>>,
    /// Whose each thread is, in the order in which they were added.
    threads: Vec<Place>,
    /// How many dead processes have been noticed.
    deaths: u64,
    calm: bool,
    began: Instant,
    /// Loops that slept through something when the trouble or the calm came to its end.
    oversleepers: Vec<Sleeper>,
}

/// Where a thread's loop sits.
#[derive(Copy, Clone, Debug)]
enum Place {
    Service(usize),
    Client(usize),
}

fn turn_of<P: Party>(seat: &mut Seat<P>, world: &SharedWorld) -> Result<bool, Breach> {
    let Some(member) = &mut seat.member else { return Ok(false) };
    member.turn(world)?;
    Ok(member.party().is_finished())
}

impl<'a, W: Workload> Drive<'a, W> {
    pub(super) fn new(
        plan: &'a W,
        setup: Setup,
        options: &'a RunOptions,
        decisions: Decisions,
    ) -> Drive<'a, W> {
        let world = WorldOptions {
            weather: setup.weather,
            kernel: Some(setup.kernel),
            switches: options.switches,
            obligations: options.obligations,
            lapse: options.lapse,
            latency: setup.latency,
            descriptor_limit: setup.descriptor_limit,
            collect_trace: options.collect_trace,
            ..WorldOptions::default()
        };
        let world = SharedWorld::new(world, decisions);
        let began = world.now();
        Drive {
            plan,
            setup,
            options,
            world,
            addresses: Vec::new(),
            services: Vec::new(),
            clients: Vec::new(),
            threads: Vec::new(),
            deaths: 0,
            calm: false,
            began,
            oversleepers: Vec::new(),
        }
    }

    /// The whole run.
    pub(super) fn run(&mut self) -> Result<(), Breach> {
        self.begin()?;
        self.trouble_and_calm()?;
        if self.has_seen_enough() {
            return Ok(());
        }
        self.world.audit_obligations();
        self.kernel_breach()?;
        for service in self.services.iter().filter_map(|seat| seat.member.as_ref()) {
            service.check_listener()?;
        }
        self.stop()?;
        if self.has_seen_enough() {
            return Ok(());
        }
        self.judge()
    }

    fn begin(&mut self) -> Result<(), Breach> {
        let kernel = self.setup.kernel;
        for _ in 0..self.plan.services() {
            let host = self.world.add_host(kernel);
            self.addresses.push(SocketAddr::from((self.world.address(host), PORT)));
            self.services.push(Seat::new(host));
        }
        for index in 0..self.services.len() {
            self.seat_service(index)?;
        }
        for index in 0..self.plan.clients() {
            let home = self.plan.home(index).map(|service| self.services[service].host);
            let host = home.unwrap_or_else(|| self.world.add_host(kernel));
            self.clients.push(Seat::new(host));
            self.seat_client(index)?;
        }
        for index in 0..self.plan.producers() {
            let fed = &self.services[self.plan.fed_by(index)];
            let process = self.world.process_of(fed.host);
            let service = fed.member.as_ref().expect("it has just begun");
            let sender: Sender<Numbered> = service.reactor.sender();
            let producer = self.plan.producer(index, sender);
            self.world.add_actor_to(process, Box::new(ProducerActor(producer)), self.world.now());
        }
        if self.plan.has_incidents() {
            for seat in &self.services {
                self.world.draw_incidents(seat.host, self.setup.trouble_ns);
            }
        }
        for member in self.services.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.begin(false);
        }
        for member in self.clients.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.begin(false);
        }
        Ok(())
    }

    /// Makes the loop of a service, with its listener, on the newest process of its host.
    fn seat_service(&mut self, index: usize) -> Result<(), Breach> {
        let Drive { plan, setup, options, world, addresses, services, threads, .. } = self;
        let seat = &mut services[index];
        let config = plan.service_config(index, &setup.service);
        let party = || match seat.incarnations {
            0 => plan.service(index, addresses, &config),
            again => plan.service_again(index, again, addresses, &config),
        };
        let tamper = if index == 0 { options.tamper } else { None };
        let process = world.process_of(seat.host);
        threads.push(Place::Service(index));
        let mut member = Member::new(world, process, &config, party, tamper, setup.oracles)?;
        member.listen(world, addresses[index], setup.backlog)?;
        seat.fill(member);
        Ok(())
    }

    /// Makes a loop of clients on the newest process of its host.
    fn seat_client(&mut self, index: usize) -> Result<(), Breach> {
        let Drive { plan, setup, world, addresses, services, clients, threads, .. } = self;
        let nobody = SocketAddr::from((world.address(services[0].host), PORT + 1));
        let seat = &mut clients[index];
        let party = || match seat.incarnations {
            0 => plan.client(index, addresses, nobody),
            again => plan.client_again(index, again, addresses, nobody),
        };
        threads.push(Place::Client(index));
        let process = world.process_of(seat.host);
        let config = plan.client_config(index, &setup.client);
        seat.fill(Member::new(world, process, &config, party, None, setup.oracles)?);
        Ok(())
    }

    /// Starts a process on a host whose last one died, with every loop that it had. It may be killed meanwhile.
    fn restart(&mut self, host: HostId) -> Result<(), Breach> {
        self.bury();
        self.world.boot(host);
        self.world.add_process(host);
        let begun = panics::until_killed(|| -> Result<(), Breach> {
            let calm = self.calm;
            for index in 0..self.services.len() {
                if self.services[index].host == host {
                    self.seat_service(index)?;
                    self.services[index].member.as_mut().expect("it has just begun").begin(calm);
                }
            }
            for index in 0..self.clients.len() {
                if self.clients[index].host == host {
                    self.seat_client(index)?;
                    self.clients[index].member.as_mut().expect("it has just begun").begin(calm);
                }
            }
            Ok(())
        });
        self.bury();
        begun.unwrap_or(Ok(()))
    }

    /// Empties the seats of processes that have died.
    fn bury(&mut self) {
        let deaths = self.world.deaths();
        if deaths == self.deaths {
            return;
        }
        self.deaths = deaths;
        let world = &self.world;
        for seat in &mut self.services {
            if seat.member.as_ref().is_some_and(|member| world.is_dead(member.process)) {
                seat.empty();
            }
        }
        for seat in &mut self.clients {
            if seat.member.as_ref().is_some_and(|member| world.is_dead(member.process)) {
                seat.empty();
            }
        }
    }

    /// The trouble is over: whoever is dead is started again, and everybody is told.
    fn calm_down(&mut self) -> Result<(), Breach> {
        self.note_oversleepers();
        self.calm = true;
        self.world.calm_down();
        if !self.plan.has_incidents() {
            return Ok(());
        }
        for member in self.services.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.calm();
        }
        for member in self.clients.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.calm();
        }
        for index in 0..self.services.len() {
            let host = self.services[index].host;
            if self.world.is_dead(self.world.process_of(host)) {
                self.restart(host)?;
            }
        }
        Ok(())
    }

    /// Gives the thread a turn. Answers whether its party has finished.
    fn turn(&mut self, thread: u32) -> Result<bool, Breach> {
        if !self.plan.has_incidents() {
            return self.undisturbed_turn(thread);
        }
        let result = panics::until_killed(|| self.undisturbed_turn(thread));
        self.bury();
        result.unwrap_or(Ok(false))
    }

    fn undisturbed_turn(&mut self, thread: u32) -> Result<bool, Breach> {
        match self.threads[thread as usize] {
            Place::Service(index) => turn_of(&mut self.services[index], &self.world),
            Place::Client(index) => turn_of(&mut self.clients[index], &self.world),
        }
    }

    fn has_stopped(&self, thread: u32) -> bool {
        match self.threads[thread as usize] {
            Place::Service(index) => self.services[index].member.as_ref().is_some_and(|it| it.stopped),
            Place::Client(index) => self.clients[index].member.as_ref().is_some_and(|it| it.stopped),
        }
    }

    fn is_finished(&self) -> bool {
        self.services.iter().all(Seat::is_finished) && self.clients.iter().all(Seat::is_finished)
    }

    fn missing(&self) -> Breach {
        let of_services =
            self.services.iter().filter_map(Seat::party).map(|it| (it.is_finished(), it.missing()));
        let of_clients =
            self.clients.iter().filter_map(Seat::party).map(|it| (it.is_finished(), it.missing()));
        let found = of_services.chain(of_clients).find(|(finished, _)| !finished).map(|(_, missing)| missing);
        found.unwrap_or_else(|| Breach::new("liveness", "nothing is missing".to_owned()))
    }

    /// What the kernel saw, if it saw anything.
    fn kernel_breach(&self) -> Result<(), Breach> {
        match self.world.violation() {
            Some(violation) => Err(Breach::new(violation.invariant, violation.details)),
            None => Ok(()),
        }
    }

    fn trouble_and_calm(&mut self) -> Result<(), Breach> {
        let mut limit = self.began.saturating_add_ns(self.setup.trouble_ns);
        let (mut actor_steps, mut steps_max) = (0, self.world.steps() + self.setup.calls_max);
        let mut unfinished = !self.is_finished();
        let mut rounds = 0_u64;
        while unfinished && !self.has_seen_enough() {
            match self.world.step(limit) {
                Step::Run(thread) => {
                    if self.turn(thread.0)? {
                        unfinished = !self.is_finished();
                    }
                    self.kernel_breach()?;
                }
                Step::Actor(_) => {
                    actor_steps += 1;
                    self.bury();
                }
                Step::Restart(host) => self.restart(host)?,
                // Also when nothing is left to happen: trouble may have left an end that only the calm tells of the other's.
                Step::Idle | Step::LimitReached if !self.calm => {
                    self.calm_down()?;
                    unfinished = !self.is_finished();
                    limit = self.began.saturating_add_ns(self.setup.trouble_ns.saturating_add(W::CALM_NS));
                    steps_max = self.world.steps() + actor_steps + self.setup.calls_max / 2;
                }
                Step::Idle | Step::LimitReached => {
                    self.kernel_breach()?;
                    self.note_oversleepers();
                    return Err(self.missing());
                }
            }
            rounds += 1;
            if rounds.is_multiple_of(TELL_EVERY_ROUNDS) {
                self.tell_progress();
            }
            if self.world.steps() + actor_steps > steps_max {
                let missing = self.missing();
                let details = format!("after {} calls: {}", self.world.steps(), missing.details);
                // Where only other threads are still busy, the loop sleeps; otherwise it spins.
                let sleeps = actor_steps > self.world.steps();
                let invariant = if sleeps { missing.invariant } else { "liveness" };
                return Err(Breach::new(invariant, details));
            }
        }
        Ok(())
    }

    /// Remembers which loops sleep through something, for the story of a run that is going to fail.
    fn note_oversleepers(&mut self) {
        if !self.options.collect_trace {
            return;
        }
        let mut sleepers = self.world.sleepers();
        sleepers.retain(|sleeper| !sleeper.waiting.is_empty());
        if !sleepers.is_empty() {
            self.oversleepers = sleepers;
        }
    }

    /// Whether the run has come to the call that it was to end at.
    fn has_seen_enough(&self) -> bool {
        self.options.until_step.is_some_and(|until| self.world.steps() >= until)
    }

    fn tell_progress(&self) {
        if let Some(progress) = &self.options.progress {
            let messages = self.clients.iter().map(Seat::messages).sum();
            progress.store(messages, Ordering::Relaxed);
        }
    }

    fn stop(&mut self) -> Result<(), Breach> {
        self.world.calm_down();
        for member in self.clients.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.stop();
        }
        for member in self.services.iter_mut().filter_map(|seat| seat.member.as_mut()) {
            member.stop();
        }
        let limit = self.world.now().saturating_add_ns(STOP_NS);
        let mut left = self.services.len() + self.clients.len();
        let steps_max = self.world.steps() + self.setup.calls_max / 2;
        while left > 0 && !self.has_seen_enough() {
            match self.world.step(limit) {
                Step::Run(thread) => {
                    self.turn(thread.0)?;
                    self.kernel_breach()?;
                    if self.has_stopped(thread.0) {
                        left -= 1;
                        self.check_descriptors(thread)?;
                    }
                    if self.world.steps() > steps_max {
                        return Err(Breach::new("liveness", format!("{left} loops do not stop")));
                    }
                }
                Step::Actor(_) | Step::Restart(_) => {}
                Step::Idle | Step::LimitReached => {
                    return Err(Breach::new(
                        "liveness",
                        format!("{left} loops were told to stop, and sleep"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), Breach> {
        let lost_at_accept = self.services.iter().any(Seat::has_lost_connections);
        let services: Vec<_> = self.services.iter().filter_map(Seat::party).collect();
        let clients: Vec<_> = self.clients.iter().filter_map(Seat::party).collect();
        self.plan.judge(&services, &clients, lost_at_accept)
    }

    /// What the loops have counted.
    fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.services
            .iter()
            .filter_map(|seat| seat.member.as_ref())
            .for_each(|it| sum += *it.reactor.counters());
        self.clients
            .iter()
            .filter_map(|seat| seat.member.as_ref())
            .for_each(|it| sum += *it.reactor.counters());
        sum
    }

    /// Who each thread is, in words.
    fn cast(&self) -> Vec<String> {
        let one = self.services.len() == 1;
        let own = |place: &Place| match *place {
            Place::Service(index) => self.plan.service_name(index),
            Place::Client(index) => self.plan.client_name(index),
        };
        let name = |place: &Place| match place {
            _ if own(place).is_some() => own(place).unwrap_or_default().to_owned(),
            Place::Service(_) if one => "the service".to_owned(),
            Place::Service(index) => format!("service {index}"),
            Place::Client(_) if self.clients.len() == 1 => "the client".to_owned(),
            Place::Client(index) => format!("client {index}"),
        };
        self.threads.iter().map(name).collect()
    }

    /// Once every loop of a process has stopped, the process has no descriptor open.
    fn check_descriptors(&self, thread: ThreadId) -> Result<(), Breach> {
        let process = self.world.process_of_thread(thread);
        let of_services = self.services.iter().filter_map(|seat| seat.member.as_ref());
        let of_clients = self.clients.iter().filter_map(|seat| seat.member.as_ref());
        let runs = of_services
            .map(|it| (it.process, it.stopped))
            .chain(of_clients.map(|it| (it.process, it.stopped)));
        if runs.into_iter().any(|(its, stopped)| its == process && !stopped) {
            return Ok(());
        }
        let left = self.world.open_descriptors(process);
        if left.is_empty() {
            return Ok(());
        }
        let details =
            format!("{left:?} are still open after the loops of process {} have stopped", process.0);
        Err(Breach::new("descriptor-ledger", details))
    }

    /// Sums the run up; `caught` is how it ended.
    pub(super) fn finish(
        self,
        workload: WorkloadKind,
        kernel: Kernel,
        weather: Weather,
        caught: Result<Result<(), Breach>, String>,
    ) -> Outcome {
        let world = &self.world;
        let failure = Breach::caught(caught).map(|Breach { invariant, details }| {
            let oracle = Oracle::from_name(invariant).unwrap_or(Oracle::Panic);
            let (at, step) = match world.violation() {
                Some(violation) if violation.invariant == invariant => (violation.at, violation.step),
                _ => (world.now(), world.steps()),
            };
            world.note(|| format!("FAILED {oracle}: {details}"));
            Failure { oracle, at, step, details }
        });
        let messages_of_clients = self.clients.iter().map(Seat::messages).sum::<u64>();
        let messages_of_services = self.services.iter().map(Seat::messages).sum::<u64>();
        let outcome = Outcome {
            workload,
            kernel,
            weather,
            failure,
            trace_hash: world.trace_hash(),
            steps: world.steps(),
            virtual_ns: world.now().saturating_ns_since(self.began),
            messages: messages_of_services + messages_of_clients,
            messages_of_clients,
            connections_peak: world.connections_peak(),
            work: world.work(),
            faults: world.fault_counts(),
            obligations: world.obligation_counts(),
            scene: world.take_scene(),
            trace: world.take_trace(),
            choices: world.take_choices(),
            counters: self.counters(),
            cast: if self.options.collect_trace { self.cast() } else { Vec::new() },
            oversleepers: self.oversleepers.clone(),
        };
        if outcome.failure.is_some() {
            // Loops that failed in the middle of something may panic once more when they are dropped.
            let _ = panics::catch(|| drop(self));
        }
        outcome
    }
}
