//! A client that pings now and then, falls silent, and expects to be hung up on; after a long time it gives up.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Context, Handler, Origin, Token};

use crate::workload::load::OVER;
use crate::workload::{Breach, Numbered, Party, Tally};

/// See the module.
#[derive(Debug)]
pub struct Caller {
    service: SocketAddr,
    pings: u64,
    gap_ns: u64,
    patience: Duration,
    token: Option<Token>,
    finished: bool,
    gave_up: bool,
    excused: bool,
    tally: Tally,
}

/// How long a caller waits to be hung up on, beyond the time that it means to ping.
const PATIENCE: Duration = Duration::from_secs(300);

mod tag {
    pub const PING: u64 = 0;
    pub const PATIENCE: u64 = 1;
}

impl Caller {
    /// Pings `pings` times, `gap_ns` apart. Patience counts from the opening, and is longer by `longer`.
    pub fn new(service: SocketAddr, pings: u64, gap_ns: u64, longer: Duration) -> Caller {
        Caller {
            service,
            pings,
            gap_ns,
            patience: PATIENCE.saturating_add(longer),
            token: None,
            finished: false,
            gave_up: false,
            excused: false,
            tally: Tally::default(),
        }
    }

    /// Whether it waited in vain.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Whether the world did something to its connection.
    pub fn is_excused(&self) -> bool {
        self.excused
    }

    /// Its connections, counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn ping(&mut self, ctx: &mut Context<'_>) {
        let Some(token) = self.token else { return };
        if self.pings > 0 && ctx.write(token, b"a ping").is_ok() {
            self.pings -= 1;
            ctx.arm_timer(Duration::from_nanos(self.gap_ns), tag::PING);
        }
    }
}

impl Handler for Caller {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, _: Origin) {
        self.tally.connected += 1;
        self.token = Some(token);
        ctx.arm_timer(self.patience, tag::PATIENCE);
        self.ping(ctx);
    }

    fn on_connect_failed(&mut self, _: &mut Context<'_>, _: Token, _: u64, _: Errno) {
        self.tally.failed += 1;
        self.finished = true;
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), _: CloseReason) {
        self.tally.closed += 1;
        self.token = None;
        self.finished = true;
    }

    fn on_message(&mut self, _: &mut Context<'_>, message: Numbered) {
        if message == OVER {
            self.pings = 0;
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        match (tag, self.token) {
            (tag::PING, _) => self.ping(ctx),
            (_, Some(token)) => {
                self.gave_up = true;
                ctx.abort(token);
            }
            (_, None) => {}
        }
    }
}

impl Party for Caller {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        match ctx.connect(self.service, 0) {
            Ok(_) => self.tally.connects += 1,
            Err(_) => self.finished = true,
        }
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", format!("a caller with {} pings left is not hung up on", self.pings))
    }

    fn breach(&self) -> Option<&Breach> {
        None
    }

    fn messages(&self) -> u64 {
        0
    }

    fn excuse(&mut self, _: Token) {
        self.excused = true;
    }
}
