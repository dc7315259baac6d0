//! Servers for real clients.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::sys::{Errno, System};
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, ListenOptions, Origin, Reactor, Token, Turn};

use crate::machine::{allow_connections, resident_bytes};
use crate::{Failure, say};

/// How long open connections may take to finish after an interrupt.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How often the number of connections is looked at.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Sends every byte back.
#[derive(Default)]
struct Echo {
    open: u64,
    served: u64,
    failed: u64,
    report_due: bool,
}

impl Handler for Echo {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {
        self.open += 1;
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        // Refused only when the queue overflows, which ends the connection and is counted there.
        let _ = ctx.write(token, bytes);
        bytes.len()
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), reason: CloseReason) {
        self.open -= 1;
        self.served += 1;
        // Who does not end its side while the server stops has not failed.
        self.failed += u64::from(!matches!(reason, CloseReason::Finished | CloseReason::LingerExpired));
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        self.report_due = true;
        ctx.arm_timer(REPORT_EVERY, tag);
    }
}

/// Serves `workload` at `address` until the process is interrupted.
pub(crate) fn serve(workload: &str, address: SocketAddr) -> Result<(), Failure> {
    if workload != "echo" {
        return Err(Failure::Usage(format!("there is nothing called {workload} to serve; there is echo")));
    }
    let mut sys = System::new();
    let machine = |what: &str, error: Errno| Failure::Machine(format!("{what}: {error}"));
    // As many as the hard limit allows; what exceeds it is shed at accept.
    let limit =
        sys.raise_descriptor_limit(u64::MAX).map_err(|error| machine("limit of open files", error))?;
    allow_connections(&mut sys, 1)?;
    let mut reactor = Reactor::new(sys, Config::default(), Echo::default())
        .map_err(|error| machine("event loop", error))?;
    let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
    let listener = reactor
        .listen(address, &options, 0)
        .map_err(|error| machine(&format!("cannot listen on {address}"), error))?;
    let bound = reactor.local_address(listener).map_err(|error| machine("listener", error))?;
    say(&format!("echo listens on {bound}; at most {limit} open files; Ctrl-C stops"))?;

    let sender = reactor.sender();
    // A second interrupt leaves at once.
    let mut interrupted = false;
    ctrlc::set_handler(move || {
        if std::mem::replace(&mut interrupted, true) {
            std::process::exit(130);
        }
        sender.stop(STOP_WITHIN);
    })
    .map_err(|error| Failure::Machine(format!("signal handler: {error}")))?;

    reactor.with(|_, ctx| ctx.arm_timer(REPORT_EVERY, 0));
    let resident_empty = resident_bytes();
    let mut reported = 0;
    while reactor.turn().map_err(|error| machine("wait", error))? != Turn::Stopped {
        let (due, open) = reactor.with(|echo, _| (std::mem::take(&mut echo.report_due), echo.open));
        if due && open != reported {
            reported = open;
            say(&status(open, resident_empty))?;
        }
    }
    let counters = *reactor.counters();
    let echo = reactor.handler();
    say(&format!(
        "served {} connections, {} of them failed; {} bytes in, {} bytes out, {} shed",
        echo.served, echo.failed, counters.bytes_read, counters.bytes_written, counters.shed
    ))
}

fn status(open: u64, resident_empty: Option<u64>) -> String {
    match (resident_bytes(), resident_empty) {
        (Some(now), Some(empty)) if open > 0 => format!(
            "{open} connections open; resident {} KiB, {} bytes per connection above the empty server",
            now / 1024,
            now.saturating_sub(empty) / open
        ),
        _ => format!("{open} connections open"),
    }
}
