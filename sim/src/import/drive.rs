//! One imported run: the loop turned as its driver turned it, puppets around it, and the end.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use reactor::{Config, Turn};

use super::SUBJECT;
use super::puppets::{PuppetActor, Puppets};
use super::scenario::Scenario;
use crate::decision::{Decisions, Ratio};
use crate::fault::FaultKind;
use crate::kernel::imposed::Imposed;
use crate::member::{Role, STOP_WITHIN};
use crate::obligation::ObligationCheck;
use crate::oracle::Oracle;
use crate::recording::PlanUse;
use crate::runner::single::Single;
use crate::runner::{Failure, Outcome, RunOptions, panics};
use crate::schedule::Step;
use crate::weather::{Latency, Swarm};
use crate::workload::{Accounts, Breach, Party};
use crate::world::{SharedWorld, WorldOptions};

/// What a buffer holds: more than any peer leaves unread.
const BUFFER_BYTES: u64 = 1 << 30;
/// The longest that a wake-up is put off by a decision, in nanoseconds.
const WAKE_NS_MAX: u64 = 1 << 40;
/// How long everything owed may take once all decided acts are done.
const CALM_NS: u64 = 3_600 * 1_000_000_000;
/// As many messages as ever wait for the loop, unless its own limit is higher.
const MESSAGES_WAITING_MAX: usize = 1 << 16;

/// Runs a scenario.
pub(crate) fn run_scenario(
    scenario: &Arc<Scenario>,
    options: &RunOptions,
    decisions: Decisions,
) -> Option<Outcome> {
    scenario.plan.draw(Ensemble { scenario, options, decisions })
}

struct Ensemble<'a> {
    scenario: &'a Arc<Scenario>,
    options: &'a RunOptions,
    decisions: Decisions,
}

impl PlanUse for Ensemble<'_> {
    type Output = Outcome;

    fn with<W>(self, plan: W) -> Outcome
    where
        W: Accounts,
    {
        let Ensemble { scenario, options, decisions } = self;
        let Scenario { role, index, ref addresses, nobody, ref config, .. } = **scenario;
        let index = index as usize;
        match role {
            Role::Service => {
                run_party(scenario, options, decisions, &|| plan.service(index, addresses, config))
            }
            Role::Client => {
                run_party(scenario, options, decisions, &|| plan.client(index, addresses, nobody))
            }
        }
    }
}

fn world_of(scenario: &Scenario, options: &RunOptions, decisions: Decisions) -> SharedWorld {
    let mut swarm = Swarm::calm(Latency::constant(0))
        .with(FaultKind::InterruptedWaits, Ratio::new(1, 2))
        .with(FaultKind::ReorderedBatches, Ratio::new(1, 2));
    swarm.wake = Latency { min_ns: 0, max_ns: WAKE_NS_MAX };
    swarm.clock_origin_ns = scenario.origin_ns;
    let world = WorldOptions {
        weather: crate::weather::Weather::Calm,
        swarm: Some(swarm),
        kernel: Some(scenario.kernel()),
        buffer_bytes: Some(BUFFER_BYTES),
        // Room that a decision withholds is no state of the kernel's own, from which the check could derive what is owed.
        obligations: ObligationCheck::Never,
        lapse: options.lapse,
        collect_trace: options.collect_trace,
        imposed: Some(Imposed { thread: SUBJECT, call_ns: scenario.call_ns }),
        ..WorldOptions::default()
    };
    SharedWorld::new(world, decisions)
}

fn run_party<P: Party>(
    scenario: &Arc<Scenario>,
    options: &RunOptions,
    decisions: Decisions,
    party: &dyn Fn() -> P,
) -> Outcome {
    let world = world_of(scenario, options, decisions);
    let mut drive = Drive { scenario, options, world, single: None };
    let caught = panics::catch(|| drive.run(party));
    drive.finish(caught)
}

struct Drive<'a, P: Party> {
    scenario: &'a Arc<Scenario>,
    options: &'a RunOptions,
    world: SharedWorld,
    single: Option<Single<P>>,
}

impl<P: Party> Drive<'_, P> {
    fn single(&mut self) -> &mut Single<P> {
        self.single.as_mut().expect("the run begins with its loop")
    }

    fn run(&mut self, party: &dyn Fn() -> P) -> Result<(), Breach> {
        let world = self.world.clone();
        let host = world.add_host(self.scenario.kernel());
        let process = world.process_of(host);
        // Messages may have come while others were taken out, so that more of them were handed over than there is room for.
        let given = &self.scenario.config;
        let room = if self.scenario.messages.is_empty() { 0 } else { MESSAGES_WAITING_MAX };
        let room = given.mailbox_messages_max.max(room);
        let config = Config { mailbox_messages_max: room, ..given.clone() };
        let calls = world.add_thread_to(world.add_process(host));
        world.finish_thread(calls.thread());
        let mut puppets = Puppets::new(Arc::clone(self.scenario), calls)?;
        self.single = Some(Single::open(&world, process, &config, self.scenario.role, party)?);
        puppets.begin(self.single().sender(), self.single().address());
        let origin_ns = self.scenario.origin_ns;
        let first_ns = puppets.first_ns();
        let puppets = Rc::new(RefCell::new(puppets));
        if let Some(first_ns) = first_ns {
            let actor = PuppetActor { puppets: Rc::clone(&puppets), origin_ns };
            let first = reactor::time::Instant::from_ns(origin_ns.saturating_add(first_ns));
            world.add_actor(Box::new(actor), first);
        }
        self.single().begin();
        self.turn_until_stopped(&puppets)
    }

    fn turn_until_stopped(&mut self, puppets: &Rc<RefCell<Puppets>>) -> Result<(), Breach> {
        let world = self.world.clone();
        let mut limit = reactor::time::Instant::from_ns(u64::MAX);
        let calls_max = self.scenario.calls_max();
        let mut told_to_stop = false;
        while !self.has_seen_enough() {
            let stop = puppets.borrow_mut().take_stop();
            if let Some(within) = stop {
                told_to_stop = true;
                self.single().stop(within);
            }
            if world.steps() > calls_max {
                return Err(Breach::new(
                    "liveness",
                    format!("the loop does not end within {calls_max} calls"),
                ));
            }
            match world.step(limit) {
                Step::Run(_) => {
                    let turn = self.single().turn(&world)?;
                    self.kernel_breach()?;
                    if turn == Turn::Stopped {
                        return self.end(puppets);
                    }
                }
                Step::Actor(_) | Step::Restart(_) => {}
                Step::Idle | Step::LimitReached => {
                    self.kernel_breach()?;
                    let now = world.now();
                    let goes_on = puppets.borrow_mut().wind_up(now.as_ns() - self.scenario.origin_ns);
                    peer_breach(puppets)?;
                    if goes_on {
                        limit = now.saturating_add_ns(CALM_NS);
                        continue;
                    }
                    self.check_all_is_done(puppets)?;
                    if told_to_stop {
                        return Err(Breach::new(
                            "liveness",
                            "the loop was told to stop, and sleeps".to_owned(),
                        ));
                    }
                    told_to_stop = true;
                    limit = now.saturating_add_ns(CALM_NS);
                    self.single().stop(STOP_WITHIN);
                    self.single().sender().notify();
                }
            }
        }
        Ok(())
    }

    /// Nobody does anything any more: whether anything that was owed has not come.
    fn check_all_is_done(&mut self, puppets: &Rc<RefCell<Puppets>>) -> Result<(), Breach> {
        let waiting = puppets.borrow().waiting();
        if waiting > 0 {
            let details = format!(
                "{waiting} peers have ended their streams, and the loop sleeps without ending its own"
            );
            return Err(Breach::new("liveness", details));
        }
        // Others may wait for what their peers did not do in the recording.
        let owes = self.scenario.owes_by_itself();
        let party = self.single().party();
        if owes && !party.is_finished() { Err(party.missing()) } else { Ok(()) }
    }

    /// The loop has stopped.
    fn end(&mut self, puppets: &Rc<RefCell<Puppets>>) -> Result<(), Breach> {
        puppets.borrow_mut().read_all();
        peer_breach(puppets)?;
        let left =
            self.single.as_ref().map(|single| single.open_descriptors(&self.world)).unwrap_or_default();
        if left.is_empty() {
            return Ok(());
        }
        let details = format!("{left:?} are still open after the loop has stopped");
        Err(Breach::new("descriptor-ledger", details))
    }

    fn has_seen_enough(&self) -> bool {
        self.options.until_step.is_some_and(|until| self.world.steps() >= until)
    }

    fn kernel_breach(&self) -> Result<(), Breach> {
        match self.world.violation() {
            Some(violation) => Err(Breach::new(violation.invariant, violation.details)),
            None => Ok(()),
        }
    }

    fn finish(self, caught: Result<Result<(), Breach>, String>) -> Outcome {
        let world = &self.world;
        let failure = Breach::caught(caught).map(|Breach { invariant, details }| {
            let oracle = Oracle::from_name(invariant).unwrap_or(Oracle::Panic);
            world.note(|| format!("FAILED {oracle}: {details}"));
            Failure { oracle, at: world.now(), step: world.steps(), details }
        });
        let collects = self.options.collect_trace;
        let subject = match self.scenario.role {
            Role::Service => "the service",
            Role::Client => "the client",
        };
        let outcome = Outcome {
            workload: self.scenario.plan.workload,
            kernel: self.scenario.kernel(),
            weather: crate::weather::Weather::Calm,
            failure,
            trace_hash: world.trace_hash(),
            steps: world.steps(),
            virtual_ns: world.now().as_ns().saturating_sub(self.scenario.origin_ns),
            messages: self.single.as_ref().map_or(0, |single| single.party().messages()),
            messages_of_clients: 0,
            connections_peak: world.connections_peak(),
            work: world.work(),
            faults: world.fault_counts(),
            obligations: world.obligation_counts(),
            scene: world.take_scene(),
            trace: world.take_trace(),
            choices: world.take_choices(),
            counters: self.single.as_ref().map(Single::counters).unwrap_or_default(),
            cast: if collects { vec!["a peer".to_owned(), subject.to_owned()] } else { Vec::new() },
            oversleepers: if collects { world.sleepers() } else { Vec::new() },
        };
        if outcome.failure.is_some() {
            // A loop that failed in the middle of something may panic once more when it is dropped.
            let _ = panics::catch(|| drop(self));
        }
        outcome
    }
}

fn peer_breach(puppets: &Rc<RefCell<Puppets>>) -> Result<(), Breach> {
    puppets.borrow().breach().cloned().map_or(Ok(()), Err)
}
