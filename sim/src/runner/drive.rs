//! From the first call of a run to its verdict: trouble, calm, stop, judgement.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use reactor::Sender;
use reactor::time::Instant;

use super::member::Member;
use super::setup::Setup;
use super::{Failure, Outcome, RunOptions};
use crate::actor::Actor;
use crate::decision::Decisions;
use crate::kernel::Kernel;
use crate::oracle::Oracle;
use crate::schedule::Step;
use crate::weather::Weather;
use crate::workload::{Breach, Numbered, Party, Producer, Workload, WorkloadKind};
use crate::world::{SharedWorld, WorldOptions};

/// The port that services listen on; nobody listens on the one above.
const PORT: u16 = 7;
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
    services: Vec<Member<W::Service>>,
    clients: Vec<Member<W::Client>>,
    began: Instant,
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
        Drive { plan, setup, options, world, services: Vec::new(), clients: Vec::new(), began }
    }

    /// The whole run.
    pub(super) fn run(&mut self) -> Result<(), Breach> {
        self.begin()?;
        self.trouble_and_calm()?;
        self.world.audit_obligations();
        self.kernel_breach()?;
        for service in &self.services {
            service.check_listener()?;
        }
        self.stop()?;
        self.judge()
    }

    fn begin(&mut self) -> Result<(), Breach> {
        let Drive { plan, setup, options, world, .. } = self;
        let kernel = setup.kernel;
        let hosts: Vec<_> = (0..plan.services()).map(|_| world.add_host(kernel)).collect();
        let addresses: Vec<SocketAddr> =
            hosts.iter().map(|&host| SocketAddr::from((world.address(host), PORT))).collect();
        let nobody = SocketAddr::from((world.address(hosts[0]), PORT + 1));
        for (index, &host) in hosts.iter().enumerate() {
            let party = || plan.service(index, &addresses, &setup.service);
            let tamper = if index == 0 { options.tamper } else { None };
            let mut member = Member::new(world, host, &setup.service, party, tamper, setup.oracles)?;
            member.listen(world, addresses[index], setup.backlog)?;
            self.services.push(member);
        }
        for index in 0..plan.clients() {
            let host = world.add_host(kernel);
            let party = || plan.client(index, &addresses, nobody);
            self.clients.push(Member::new(world, host, &setup.client, party, None, setup.oracles)?);
        }
        for index in 0..plan.producers() {
            let sender: Sender<Numbered> = self.services[0].reactor.sender();
            let producer = plan.producer(index, sender);
            world.add_actor(Box::new(ProducerActor(producer)), world.now());
        }
        for member in &mut self.services {
            member.reactor.with(|audited, ctx| audited.party_mut().begin(ctx));
        }
        for member in &mut self.clients {
            member.reactor.with(|audited, ctx| audited.party_mut().begin(ctx));
        }
        Ok(())
    }

    /// Gives the thread a turn. Answers whether its party has finished.
    fn turn(&mut self, thread: u32) -> Result<bool, Breach> {
        // Threads are numbered in the order in which they were added.
        let index = thread as usize;
        let services = self.services.len();
        if index < services {
            let member = &mut self.services[index];
            member.turn(&self.world)?;
            Ok(member.party().is_finished())
        } else {
            let member = &mut self.clients[index - services];
            member.turn(&self.world)?;
            Ok(member.party().is_finished())
        }
    }

    fn has_stopped(&self, thread: u32) -> bool {
        let index = thread as usize;
        match index.checked_sub(self.services.len()) {
            None => self.services[index].stopped,
            Some(index) => self.clients[index].stopped,
        }
    }

    fn is_finished(&self) -> bool {
        self.services.iter().all(|member| member.party().is_finished())
            && self.clients.iter().all(|member| member.party().is_finished())
    }

    fn missing(&self) -> Breach {
        let services =
            self.services.iter().map(|member| (member.party().is_finished(), member.party().missing()));
        let clients =
            self.clients.iter().map(|member| (member.party().is_finished(), member.party().missing()));
        let found = services.chain(clients).find(|(finished, _)| !finished).map(|(_, missing)| missing);
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
        let mut calm = false;
        let mut limit = self.began.saturating_add_ns(self.setup.trouble_ns);
        let (mut actor_steps, mut steps_max) = (0, self.world.steps() + self.setup.calls_max);
        let mut unfinished = !self.is_finished();
        let mut rounds = 0_u64;
        while unfinished {
            match self.world.step(limit) {
                Step::Run(thread) => {
                    if self.turn(thread.0)? {
                        unfinished = !self.is_finished();
                    }
                    self.kernel_breach()?;
                }
                Step::Actor(_) => actor_steps += 1,
                // Also when nothing is left to happen: trouble may have left an end that only the calm tells of the other's.
                Step::Idle | Step::LimitReached if !calm => {
                    calm = true;
                    self.world.calm_down();
                    limit = self.began.saturating_add_ns(self.setup.trouble_ns.saturating_add(W::CALM_NS));
                    steps_max = self.world.steps() + actor_steps + self.setup.calls_max / 2;
                }
                Step::Idle | Step::LimitReached => {
                    self.kernel_breach()?;
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

    fn tell_progress(&self) {
        if let Some(progress) = &self.options.progress {
            let messages = self.clients.iter().map(|member| member.party().messages()).sum();
            progress.store(messages, Ordering::Relaxed);
        }
    }

    fn stop(&mut self) -> Result<(), Breach> {
        self.world.calm_down();
        for member in &mut self.clients {
            member.stop();
        }
        for member in &mut self.services {
            member.stop();
        }
        let limit = self.world.now().saturating_add_ns(STOP_NS);
        let mut left = self.services.len() + self.clients.len();
        let steps_max = self.world.steps() + self.setup.calls_max / 2;
        while left > 0 {
            match self.world.step(limit) {
                Step::Run(thread) => {
                    self.turn(thread.0)?;
                    self.kernel_breach()?;
                    left -= usize::from(self.has_stopped(thread.0));
                    if self.world.steps() > steps_max {
                        return Err(Breach::new("liveness", format!("{left} loops do not stop")));
                    }
                }
                Step::Actor(_) => {}
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
        let lost_at_accept = self.services.iter().any(|member| {
            let counters = member.reactor.counters();
            counters.shed + counters.accept_errors + counters.registrations_failed > 0
        });
        let services: Vec<_> = self.services.iter().map(Member::party).collect();
        let clients: Vec<_> = self.clients.iter().map(Member::party).collect();
        self.plan.judge(&services, &clients, lost_at_accept)
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
        let breach = match caught {
            Ok(Ok(())) => None,
            Ok(Err(breach)) => Some(breach),
            Err(message) => Some(Breach::new("panic", message)),
        };
        let failure = breach.map(|Breach { invariant, details }| {
            let oracle = Oracle::from_name(invariant).unwrap_or(Oracle::Panic);
            let (at, step) = match world.violation() {
                Some(violation) if violation.invariant == invariant => (violation.at, violation.step),
                _ => (world.now(), world.steps()),
            };
            world.note(|| format!("FAILED {oracle}: {details}"));
            Failure { oracle, at, step, details }
        });
        let messages_of_clients = self.clients.iter().map(|member| member.party().messages()).sum::<u64>();
        let messages_of_services = self.services.iter().map(|member| member.party().messages()).sum::<u64>();
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
            trace: world.take_trace(),
        };
        if outcome.failure.is_some() {
            // Loops that failed in the middle of something may panic once more when they are dropped.
            let _ = super::panics::catch(|| drop(self));
        }
        outcome
    }
}
