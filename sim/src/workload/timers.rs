//! The workload `timers`: timers armed, moved, cancelled and repeated from their own callbacks, and idle timeouts that
//! every byte pushes back - all against a model with its own ordered list of deadlines.
//!
//! Oracles: `timer-contract` and `timer-conservation`, see [`model::Model`].

pub mod model;

mod caller;

pub use caller::Caller;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::time::Instant;
use reactor::timer::{Interval, MissedTicks, TimerToken};
use reactor::{CloseReason, Config, Context, Handler, Origin, PauseReasons, Token};

use self::model::Model;
use super::ledger::{self, Accounts, Connections};
use super::load::{OVER, Schedule};
use super::{Breach, Load, Measures, Numbered, Party, Scale, Tally, TurnFacts, Workload, between, pick};
use crate::decision::Decisions;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// The longest delay of a plan that a real clock has to sit through.
const REAL_LONGEST_NS: u64 = 300 * MILLISECOND;

/// One thing done to the timers.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Arms one.
    Arm {
        /// From the turn's clock.
        delay_ns: u64,
    },
    /// Arms one for the deadline of the timer that was armed this many before.
    ArmEqual {
        /// 1 is the last one.
        back: usize,
    },
    /// Arms one for a deadline that has passed.
    ArmPast,
    /// Arms one that never fires.
    ArmNever,
    /// Begins an interval.
    Repeat {
        /// At least 1.
        period_ns: u64,
        /// How often it fires before it ends itself.
        times: u32,
        /// What becomes of missed ticks.
        missed: MissedTicks,
    },
    /// Cancels the timer that is due next; often one of the same batch.
    CancelFirst,
    /// Cancels the one that was armed this many before; it may be dead.
    Cancel {
        /// 1 is the last one.
        back: usize,
    },
    /// Moves the one that was armed this many before; it may be dead.
    Move {
        /// 1 is the last one.
        back: usize,
        /// From the turn's clock.
        delay_ns: u64,
    },
}

impl Operation {
    fn draw(decisions: &mut Decisions, longest_ns: u64) -> Operation {
        match between(decisions, "operation", 0, 15) {
            0..=5 => Operation::Arm { delay_ns: draw_delay_ns(decisions).min(longest_ns) },
            6 | 7 => Operation::ArmEqual { back: between(decisions, "equal to", 1, 6) as usize },
            8 => Operation::ArmPast,
            9 => Operation::ArmNever,
            10 => Operation::Repeat {
                period_ns: pick(
                    decisions,
                    "period",
                    &[10 * MILLISECOND, MILLISECOND, 700_000, 50_000, 3 * SECOND],
                )
                .min(longest_ns),
                times: between(decisions, "times", 1, 12) as u32,
                missed: pick(
                    decisions,
                    "missed ticks",
                    &[MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip],
                ),
            },
            11 | 12 => Operation::CancelFirst,
            13 => Operation::Cancel { back: between(decisions, "which to cancel", 1, 20) as usize },
            _ => Operation::Move {
                back: between(decisions, "which to move", 1, 20) as usize,
                delay_ns: draw_delay_ns(decisions).min(longest_ns),
            },
        }
    }
}

/// Delays of every size, from none to beyond what the kernel's timeout can express.
fn draw_delay_ns(decisions: &mut Decisions) -> u64 {
    const SCALES_NS: [u64; 10] = [
        MILLISECOND,
        0,
        1_000,
        100_000,
        16 * MILLISECOND,
        64 * MILLISECOND,
        SECOND,
        70 * SECOND,
        3_600 * SECOND,
        // Beyond 2^31 milliseconds.
        30 * 86_400 * SECOND,
    ];
    let scale_ns = pick(decisions, "scale of a delay", &SCALES_NS);
    scale_ns + between(decisions, "delay", 0, scale_ns.max(1))
}

/// One run of `timers`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timers {
    operations: Vec<Operation>,
    /// Operations done at the beginning.
    first: usize,
    /// Operations done in each callback.
    each: usize,
    /// How long a silent connection is kept.
    idle_ns: u64,
    /// Whether a ping is taken byte by byte, with a timer for the clock that the next turn is likely to read.
    bytewise: bool,
    /// Pings of each caller, and the time between them.
    callers: Vec<(u64, u64)>,
    /// The operations come again and again, until the time is over.
    sustained: Option<Sustained>,
}

/// What a load adds to a plan.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Sustained {
    duration_ns: u64,
    operations_per_s: u64,
}

/// Operations a second under a load that names no rate.
const OPERATIONS_PER_S: u64 = 10_000;

/// Between two looks at how many operations are due.
const PULSE_NS: u64 = MILLISECOND;

/// The longest delay under load, and the most callers.
const LOAD_LONGEST_NS: u64 = 2 * SECOND;
const LOAD_CALLERS_MAX: u32 = 64;

impl Timers {
    /// Draws a plan.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> Timers {
        let most = if scale == Scale::Small { 60 } else { 200 };
        let count = between(decisions, "operations", 5, most);
        let longest_ns = if scale == Scale::RealTime { REAL_LONGEST_NS } else { u64::MAX };
        let operations: Vec<Operation> = (0..count).map(|_| Operation::draw(decisions, longest_ns)).collect();
        let first = between(decisions, "operations at the beginning", 1, operations.len() as u64) as usize;
        let idle_ns = pick(decisions, "idle timeout", &[100 * MILLISECOND, 20 * MILLISECOND, 5 * SECOND])
            .min(longest_ns);
        let callers = between(decisions, "callers", 0, 3);
        let callers = (0..callers)
            .map(|_| {
                let pings = between(decisions, "pings", 1, 10);
                (pings, between(decisions, "between pings", 1, 10) * idle_ns / 12)
            })
            .collect();
        Timers {
            operations,
            first,
            each: between(decisions, "operations of a callback", 1, 3) as usize,
            idle_ns,
            bytewise: between(decisions, "byte by byte", 0, 1) == 1,
            callers,
            sustained: None,
        }
    }

    /// Makes a plan for a load: so many operations each second until the time is over, and callers that ping meanwhile.
    pub fn load(decisions: &mut Decisions, load: &Load) -> Timers {
        let operations = (0..4096)
            .map(|_| match Operation::draw(decisions, LOAD_LONGEST_NS) {
                // One that never fires would be there for good.
                Operation::ArmNever => Operation::Arm { delay_ns: LOAD_LONGEST_NS },
                other => other,
            })
            .collect();
        let idle_ns = pick(decisions, "idle timeout", &[100 * MILLISECOND, 20 * MILLISECOND, SECOND]);
        let callers = (0..load.connections.min(LOAD_CALLERS_MAX))
            .map(|_| {
                let gap_ns = between(decisions, "between pings", 1, 10) * idle_ns / 12;
                // A ping is late now and then; the last one comes before the time is over.
                (load.duration_ns / 4 * 3 / gap_ns + 1, gap_ns)
            })
            .collect();
        Timers {
            operations,
            first: 0,
            each: 0,
            idle_ns,
            bytewise: between(decisions, "byte by byte", 0, 1) == 1,
            callers,
            sustained: Some(Sustained {
                duration_ns: load.duration_ns,
                operations_per_s: load.rate_per_s.unwrap_or(OPERATIONS_PER_S),
            }),
        }
    }
}

impl Workload for Timers {
    type Service = TimersService;
    type Client = Caller;

    /// A hundred years: far timers arm further ones.
    const CALM_NS: u64 = 36_500 * 86_400 * SECOND;

    fn services(&self) -> usize {
        1
    }

    fn clients(&self) -> usize {
        self.callers.len()
    }

    fn service(&self, _: usize, _: &[SocketAddr], config: &Config) -> TimersService {
        TimersService {
            plan: self.clone(),
            next: 0,
            model: Model::new(config.tick_ns),
            repeats: BTreeMap::new(),
            tally: Tally::default(),
            idle: Vec::new(),
            broken: false,
            silent_closes: 0,
            turn_ns: 1,
            last_now: None,
            steady: None,
        }
    }

    fn client(&self, index: usize, addresses: &[SocketAddr], _: SocketAddr) -> Caller {
        let (pings, gap_ns) = self.callers[index];
        let longest_ns = self.sustained.map_or(0, |sustained| sustained.duration_ns);
        Caller::new(addresses[0], pings, gap_ns, Duration::from_nanos(longest_ns))
    }

    fn judge(&self, services: &[&TimersService], clients: &[&Caller], _: bool) -> Result<(), Breach> {
        ledger::judge(self, services, clients, false)
    }
}

/// What a caller leaves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CallerLedger {
    /// Its connection, and whether the world broke it.
    pub connections: Connections,
    /// Whether it waited in vain.
    pub gave_up: bool,
}

impl Accounts for Timers {
    type ServiceLedger = Connections;
    type ClientLedger = CallerLedger;

    fn service_ledger(service: &TimersService) -> Connections {
        Connections { tally: service.tally, broken: service.broken }
    }

    fn client_ledger(client: &Caller) -> CallerLedger {
        let connections = Connections { tally: client.tally(), broken: client.is_excused() };
        CallerLedger { connections, gave_up: client.gave_up() }
    }

    fn judge_ledgers(
        &self,
        services: &[Connections],
        clients: &[CallerLedger],
        _: bool,
    ) -> Result<(), Breach> {
        for service in services {
            service.tally.check("service")?;
        }
        let broken = services.iter().any(|service| service.broken);
        for client in clients {
            client.connections.tally.check("client")?;
            if client.gave_up && !client.connections.broken && !broken {
                return Err(Breach::new(
                    "liveness",
                    "a silent caller was not hung up on, and nothing excuses it".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// What a timer's tag says, in its high bits; the low bits are the number in the model.
const IDLE: u64 = 1 << 63;
const PULSE: u64 = 1 << 62;

/// A load under way.
#[derive(Debug)]
struct Steady {
    schedule: Schedule,
    ends: Instant,
    /// Operations done.
    done: u64,
    /// The number of the timer that does the next ones.
    pulse: u64,
    measures: Measures,
}

/// An interval under way.
#[derive(Copy, Clone, Debug)]
struct Repeat {
    interval: Interval,
    left: u32,
}

/// The service: its callbacks work off the list of operations.
#[derive(Debug)]
pub struct TimersService {
    plan: Timers,
    next: usize,
    model: Model,
    /// By number in the model.
    repeats: BTreeMap<u64, Repeat>,
    tally: Tally,
    /// Connections with their idle timers: number in the model, connection.
    idle: Vec<(u64, Token)>,
    broken: bool,
    silent_closes: u64,
    /// How long the last turn took that did not sleep, and when it began.
    turn_ns: u64,
    last_now: Option<Instant>,
    steady: Option<Box<Steady>>,
}

impl TimersService {
    fn arm(&mut self, ctx: &mut Context<'_>, deadline: Instant, repeat: Option<Repeat>) {
        let number = self.model.next_number();
        let timer = ctx.arm_timer_at(deadline, number);
        self.model.armed(timer, deadline, ctx.now());
        self.repeats.extend(repeat.map(|repeat| (number, repeat)));
    }

    /// Under load: does the operations that are due, and looks again soon.
    fn pulse(&mut self, ctx: &mut Context<'_>) {
        /// A loop that was held up for long does what it has missed bit by bit.
        const AT_ONCE_MAX: u64 = 1000;
        let now = ctx.now();
        let Some(steady) = &mut self.steady else { return };
        if now >= steady.ends {
            return;
        }
        let due = (steady.schedule.due(now) - steady.done).min(AT_ONCE_MAX);
        steady.done += due;
        self.operate(ctx, due as usize);
        let number = self.model.next_number();
        let timer = ctx.arm_timer(Duration::from_nanos(PULSE_NS), number | PULSE);
        self.model.armed(timer, now.saturating_add_ns(PULSE_NS), now);
        if let Some(steady) = &mut self.steady {
            steady.pulse = number;
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.steady.as_ref().is_some_and(|steady| now >= steady.ends)
    }

    fn operate(&mut self, ctx: &mut Context<'_>, count: usize) {
        for _ in 0..count {
            if self.steady.is_some() && self.next == self.plan.operations.len() {
                self.next = 0;
            }
            let Some(&operation) = self.plan.operations.get(self.next) else { return };
            self.next += 1;
            let now = ctx.now();
            match operation {
                Operation::Arm { delay_ns } => {
                    // The loop's own arithmetic is under test here: the model adds for itself.
                    let number = self.model.next_number();
                    let timer = ctx.arm_timer(Duration::from_nanos(delay_ns), number);
                    self.model.armed(timer, Instant::from_ns(now.as_ns().saturating_add(delay_ns)), now);
                }
                Operation::ArmEqual { back } => {
                    let deadline = self.model.deadline_of(back).unwrap_or(now);
                    self.arm(ctx, deadline, None);
                }
                Operation::ArmPast => {
                    let past_ns = now.as_ns().saturating_sub(5 * MILLISECOND);
                    self.arm(ctx, Instant::from_ns(past_ns), None);
                }
                Operation::ArmNever => self.arm(ctx, Instant::FAR_FUTURE, None),
                Operation::Repeat { period_ns, times, missed } => {
                    let interval = Interval::new(period_ns, missed);
                    self.arm(ctx, interval.next(now, now), Some(Repeat { interval, left: times }));
                }
                Operation::CancelFirst => {
                    if let Some((number, timer)) =
                        self.model.first().filter(|&(number, _)| !self.is_kept_out(number))
                    {
                        let was_armed = ctx.cancel_timer(timer);
                        self.model.cancelled(number, was_armed);
                        self.repeats.remove(&number);
                    }
                }
                Operation::Cancel { back } => {
                    if let Some((number, timer)) =
                        self.model.back(back).filter(|&(number, _)| !self.is_kept_out(number))
                    {
                        let was_armed = ctx.cancel_timer(timer);
                        self.model.cancelled(number, was_armed);
                        self.repeats.remove(&number);
                    }
                }
                Operation::Move { back, delay_ns } => {
                    if let Some((number, timer)) =
                        self.model.back(back).filter(|&(number, _)| !self.is_kept_out(number))
                    {
                        let deadline = now.saturating_add_ns(delay_ns);
                        let was_armed = ctx.rearm_timer(timer, Duration::from_nanos(delay_ns));
                        self.model.moved(number, deadline, now, was_armed);
                    }
                }
            }
        }
    }

    /// Whether it is the idle timeout of a connection, or what keeps a load going, which only their own callbacks touch.
    fn is_kept_out(&self, number: u64) -> bool {
        let is_pulse = self.steady.as_ref().is_some_and(|steady| steady.pulse == number);
        is_pulse || self.idle.iter().any(|&(idle, _)| idle == number)
    }

    fn forget_idle(&mut self, ctx: &mut Context<'_>, token: Token) {
        if let Some(at) = self.idle.iter().position(|&(_, idle)| idle == token) {
            let (number, _) = self.idle.swap_remove(at);
            if let Some(timer) = self.model.token_of(number) {
                let was_armed = ctx.cancel_timer(timer);
                self.model.cancelled(number, was_armed);
            }
        }
    }
}

impl Handler for TimersService {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, _: Origin) {
        self.tally.accepted += 1;
        let number = self.model.next_number();
        let timer = ctx.arm_timer(Duration::from_nanos(self.plan.idle_ns), number | IDLE);
        self.model.armed(timer, ctx.now().saturating_add_ns(self.plan.idle_ns), ctx.now());
        self.idle.push((number, token));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        let found = self.idle.iter().find(|&&(_, idle)| idle == token).map(|&(number, _)| number);
        if let Some((number, timer)) = found.and_then(|number| Some((number, self.model.token_of(number)?))) {
            let now = ctx.now();
            let was_armed = ctx.rearm_timer(timer, Duration::from_nanos(self.plan.idle_ns));
            self.model.moved(number, now.saturating_add_ns(self.plan.idle_ns), now, was_armed);
        }
        if !self.plan.bytewise || bytes.len() < 2 {
            return bytes.len();
        }
        // The rest keeps the loop awake; a turn that does not sleep takes as long as the one before, so this deadline is
        // often the next clock itself: due exactly now is due (bug-catalogue B57).
        ctx.resume_reading(token, PauseReasons::RATE);
        self.arm(ctx, ctx.now().saturating_add_ns(self.turn_ns), None);
        1
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), _: usize) {
        self.forget_idle(ctx, token);
        ctx.close(token);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, (): (), reason: CloseReason) {
        self.tally.closed += 1;
        self.broken |= reason != CloseReason::Finished;
        self.forget_idle(ctx, token);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        if let (Some(steady), OVER) = (&mut self.steady, message) {
            steady.ends = steady.ends.min(ctx.now());
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        let number = tag & !(IDLE | PULSE);
        let deadline = self.model.fired(number, timer, ctx.now());
        if let (Some(steady), Some(deadline)) = (&mut self.steady, deadline) {
            steady.measures.timer_lateness_ns.push(ctx.now().saturating_ns_since(deadline));
        }
        if tag & PULSE != 0 {
            return self.pulse(ctx);
        }
        if tag & IDLE != 0 {
            if let Some(at) = self.idle.iter().position(|&(idle, _)| idle == number) {
                let (_, token) = self.idle.swap_remove(at);
                self.silent_closes += 1;
                ctx.close(token);
            }
            return;
        }
        let repeat = self.repeats.remove(&number);
        if let (Some(Repeat { interval, left }), Some(deadline)) = (repeat, deadline)
            && left > 1
            && !self.is_over(ctx.now())
        {
            self.arm(ctx, interval.next(deadline, ctx.now()), Some(Repeat { interval, left: left - 1 }));
        }
        self.operate(ctx, self.plan.each);
    }
}

impl Party for TimersService {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        if let Some(Sustained { duration_ns, operations_per_s }) = self.plan.sustained {
            let now = ctx.now();
            self.steady = Some(Box::new(Steady {
                schedule: Schedule::new(now, operations_per_s, 0, 1),
                ends: now.saturating_add_ns(duration_ns),
                done: 0,
                pulse: 0,
                measures: Measures::default(),
            }));
            self.model.forget_the_dead();
            self.pulse(ctx);
        }
        self.operate(ctx, self.plan.first);
    }

    fn is_finished(&self) -> bool {
        !self.model.awaits_any()
    }

    fn missing(&self) -> Breach {
        Breach::new(
            "timer-contract",
            format!("the loop sleeps for ever, and {}", self.model.describe_first()),
        )
    }

    fn breach(&self) -> Option<&Breach> {
        self.model.breach()
    }

    fn messages(&self) -> u64 {
        self.model.fired_count()
    }

    fn after_turn(&mut self, facts: TurnFacts) {
        if let Some(last) = self.last_now {
            self.turn_ns = facts.now.saturating_ns_since(last);
        }
        self.last_now = facts.asleep.is_none().then_some(facts.now);
        self.model.after_turn(facts);
    }

    fn measures(&mut self) -> Option<&mut Measures> {
        self.steady.as_mut().map(|steady| &mut steady.measures)
    }
}
