//! A client that opens many connections to an echo server, checks each, holds them idle, and checks each again.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::sys::{Errno, SocketOption, System};
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, Reactor, Token, Turn};

use crate::machine::{allow_connections, resident_bytes};
use crate::{Failure, say};

/// Connects under way at once: more than the listener's backlog would cost whole seconds each.
const CONNECTING_MAX: u32 = 256;

/// Nothing at all has happened for this long: the server does not answer.
const STALLED_AFTER: Duration = Duration::from_secs(20);

/// Length of what is sent on each connection in each round.
const MESSAGE_BYTES: usize = 64;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Phase {
    Opening,
    Holding,
    Checking,
}

const TIMER_STALL: u64 = 0;
const TIMER_HOLD: u64 = 1;

struct Holder {
    address: SocketAddr,
    wanted: u32,
    hold: Duration,
    phase: Phase,
    asked: u32,
    answered: u32,
    /// Each open connection with its number.
    open: Vec<(Token, u64)>,
    stall: Option<TimerToken>,
    failure: Option<Failure>,
}

/// What a connection sends in a round: a function of both, so that no other connection's bytes look right.
fn message(connection: u64, round: u8) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [round; MESSAGE_BYTES];
    for (index, chunk) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let word = (connection << 8 | u64::from(round)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index;
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

impl Holder {
    fn round(&self) -> u8 {
        u8::from(self.phase == Phase::Checking)
    }

    fn connect_more(&mut self, ctx: &mut Context<'_>) {
        while self.asked < self.wanted && self.asked - self.answered < CONNECTING_MAX {
            let options = [SocketOption::NoDelay(true)];
            match ctx.connect_with(self.address, &options, u64::from(self.asked)) {
                Ok(_) => self.asked += 1,
                Err(error) => return self.fail(ctx, Failure::Machine(format!("connect: {error}"))),
            }
        }
    }

    fn fail(&mut self, ctx: &mut Context<'_>, failure: Failure) {
        self.failure.get_or_insert(failure);
        ctx.stop(Duration::ZERO);
    }

    fn answer(&mut self, ctx: &mut Context<'_>) {
        self.answered += 1;
        if let Some(stall) = self.stall {
            ctx.rearm_timer(stall, STALLED_AFTER);
        }
        if self.answered < self.wanted {
            if self.phase == Phase::Opening {
                self.connect_more(ctx);
            }
            return;
        }
        match self.phase {
            Phase::Opening => {
                self.phase = Phase::Holding;
                if let Some(stall) = self.stall.take() {
                    ctx.cancel_timer(stall);
                }
                ctx.arm_timer(self.hold, TIMER_HOLD);
            }
            Phase::Checking => ctx.stop(Duration::from_secs(5)),
            Phase::Holding => {}
        }
    }
}

impl Handler for Holder {
    /// The connection's number.
    type Connection = u64;
    type Message = ();

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> u64 {
        let Origin::Connected { tag } = origin else { unreachable!("the holder has no listener") };
        self.open.push((token, tag));
        let _ = ctx.write(token, &message(tag, self.round()));
        tag
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, _: Token, tag: u64, error: Errno) {
        let text = format!("connection {tag} to {}: {error}", self.address);
        self.fail(ctx, Failure::Machine(text));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, _: Token, connection: &mut u64, bytes: &[u8]) -> usize {
        if bytes.len() < MESSAGE_BYTES {
            return 0;
        }
        if bytes[..MESSAGE_BYTES] == message(*connection, self.round()) {
            self.answer(ctx);
        } else {
            let text = format!("byte-stream: connection {connection} did not get its own bytes back");
            self.fail(ctx, Failure::Invariant(text));
        }
        MESSAGE_BYTES
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, _: Token, connection: u64, reason: CloseReason) {
        let finished = self.phase == Phase::Checking && self.answered == self.wanted;
        if !finished {
            let text = format!("connection {connection} ended while it was held: {reason:?}");
            self.fail(ctx, Failure::Invariant(text));
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        if tag == TIMER_STALL {
            let text = format!("{} of {} connections answered, then nothing", self.answered, self.wanted);
            return self.fail(ctx, Failure::Liveness(text));
        }
        self.phase = Phase::Checking;
        self.answered = 0;
        self.stall = Some(ctx.arm_timer(STALLED_AFTER, TIMER_STALL));
        let round = self.round();
        for (token, connection) in &self.open {
            let _ = ctx.write(*token, &message(*connection, round));
        }
    }
}

/// Holds `connections` connections to `address` for `seconds`.
pub(crate) fn hold(address: SocketAddr, connections: u32, seconds: u64) -> Result<(), Failure> {
    let mut sys = System::new();
    allow_connections(&mut sys, u64::from(connections))?;
    let holder = Holder {
        address,
        wanted: connections,
        hold: Duration::from_secs(seconds),
        phase: Phase::Opening,
        asked: 0,
        answered: 0,
        open: Vec::new(),
        stall: None,
        failure: None,
    };
    let machine = |what: &str, error: Errno| Failure::Machine(format!("{what}: {error}"));
    let mut reactor =
        Reactor::new(sys, Config::default(), holder).map_err(|error| machine("event loop", error))?;
    let resident_empty = resident_bytes();
    reactor.with(|holder, ctx| {
        holder.stall = Some(ctx.arm_timer(STALLED_AFTER, TIMER_STALL));
        holder.connect_more(ctx);
    });
    let mut said = false;
    while reactor.turn().map_err(|error| machine("wait", error))? != Turn::Stopped {
        if !said && reactor.handler().phase == Phase::Holding {
            said = true;
            let memory = match (resident_bytes(), resident_empty) {
                (Some(now), Some(empty)) => {
                    format!(
                        "; {} bytes of memory each",
                        now.saturating_sub(empty) / u64::from(connections.max(1))
                    )
                }
                _ => String::new(),
            };
            say(&format!("{connections} connections open, each echoed {MESSAGE_BYTES} bytes{memory}"))?;
        }
    }
    if let Some(failure) = reactor.with(|holder, _| holder.failure.take()) {
        return Err(failure);
    }
    say(&format!("{connections} connections echoed again after {seconds} s idle, all correct"))
}
