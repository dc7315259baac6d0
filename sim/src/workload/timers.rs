//! The workload `timers`: timers armed, moved, cancelled and repeated from their own callbacks, and idle timeouts that
//! every byte pushes back - all against a model with its own ordered list of deadlines.
//!
//! Oracles: `timer-contract` and `timer-conservation`, see [`model::Model`].

pub mod model;

mod caller;

pub use caller::Caller;

use std::net::SocketAddr;
use std::time::Duration;

use reactor::time::Instant;
use reactor::timer::{Interval, MissedTicks, TimerToken};
use reactor::{CloseReason, Config, Context, Handler, Origin, PauseReasons, Token};

use self::model::Model;
use super::{Breach, Numbered, Party, Scale, Tally, TurnFacts, Workload, between, pick};
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
}

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
            repeats: Vec::new(),
            tally: Tally::default(),
            idle: Vec::new(),
            broken: false,
            silent_closes: 0,
            turn_ns: 1,
            last_now: None,
        }
    }

    fn client(&self, index: usize, addresses: &[SocketAddr], _: SocketAddr) -> Caller {
        let (pings, gap_ns) = self.callers[index];
        Caller::new(addresses[0], pings, gap_ns)
    }

    fn judge(&self, services: &[&TimersService], clients: &[&Caller], _: bool) -> Result<(), Breach> {
        services[0].tally.check("service")?;
        for client in clients {
            client.tally().check("client")?;
            if client.gave_up() && !client.is_excused() && !services[0].broken {
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
    repeats: Vec<Option<Repeat>>,
    tally: Tally,
    /// Connections with their idle timers: number in the model, connection.
    idle: Vec<(u64, Token)>,
    broken: bool,
    silent_closes: u64,
    /// How long the last turn took that did not sleep, and when it began.
    turn_ns: u64,
    last_now: Option<Instant>,
}

impl TimersService {
    fn arm(&mut self, ctx: &mut Context<'_>, deadline: Instant, repeat: Option<Repeat>) {
        let number = self.model.next_number();
        let timer = ctx.arm_timer_at(deadline, number);
        self.model.armed(timer, deadline, ctx.now());
        self.repeats.push(repeat);
    }

    fn operate(&mut self, ctx: &mut Context<'_>, count: usize) {
        for _ in 0..count {
            let Some(&operation) = self.plan.operations.get(self.next) else { return };
            self.next += 1;
            let now = ctx.now();
            match operation {
                Operation::Arm { delay_ns } => {
                    // The loop's own arithmetic is under test here: the model adds for itself.
                    let number = self.model.next_number();
                    let timer = ctx.arm_timer(Duration::from_nanos(delay_ns), number);
                    self.model.armed(timer, Instant::from_ns(now.as_ns().saturating_add(delay_ns)), now);
                    self.repeats.push(None);
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
                        self.model.first().filter(|&(number, _)| !self.is_idle(number))
                    {
                        let was_armed = ctx.cancel_timer(timer);
                        self.model.cancelled(number, was_armed);
                    }
                }
                Operation::Cancel { back } => {
                    if let Some((number, timer)) =
                        self.model.back(back).filter(|&(number, _)| !self.is_idle(number))
                    {
                        let was_armed = ctx.cancel_timer(timer);
                        self.model.cancelled(number, was_armed);
                    }
                }
                Operation::Move { back, delay_ns } => {
                    if let Some((number, timer)) =
                        self.model.back(back).filter(|&(number, _)| !self.is_idle(number))
                    {
                        let deadline = now.saturating_add_ns(delay_ns);
                        let was_armed = ctx.rearm_timer(timer, Duration::from_nanos(delay_ns));
                        self.model.moved(number, deadline, now, was_armed);
                    }
                }
            }
        }
    }

    /// Whether it is the idle timeout of a connection, which only the connection's own callbacks touch.
    fn is_idle(&self, number: u64) -> bool {
        self.idle.iter().any(|&(idle, _)| idle == number)
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
        self.repeats.push(None);
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

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        let number = tag & !IDLE;
        let deadline = self.model.fired(number, timer, ctx.now());
        if tag & IDLE != 0 {
            if let Some(at) = self.idle.iter().position(|&(idle, _)| idle == number) {
                let (_, token) = self.idle.swap_remove(at);
                self.silent_closes += 1;
                ctx.close(token);
            }
            return;
        }
        let repeat = self.repeats.get(number as usize).copied().flatten();
        if let (Some(Repeat { interval, left }), Some(deadline)) = (repeat, deadline)
            && left > 1
        {
            self.arm(ctx, interval.next(deadline, ctx.now()), Some(Repeat { interval, left: left - 1 }));
        }
        self.operate(ctx, self.plan.each);
    }
}

impl Party for TimersService {
    fn begin(&mut self, ctx: &mut Context<'_>) {
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
}
