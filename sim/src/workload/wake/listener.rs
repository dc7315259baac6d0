//! Who listens to reports of the messages, and checks that they come whole and in order.

use std::net::SocketAddr;

use reactor::sys::Errno;
use reactor::{CloseReason, Context, Handler, Origin, Token};

use super::REPORT_BYTES;
use crate::workload::echo::is_shortage;
use crate::workload::{Breach, Numbered, Party, Tally};

/// See the module.
#[derive(Debug)]
pub struct Listener {
    service: SocketAddr,
    next: Vec<Option<u64>>,
    reports: u64,
    whole: Option<bool>,
    end: Option<Errno>,
    excused: bool,
    tally: Tally,
    breach: Option<Breach>,
    finished: bool,
}

impl Listener {
    /// Listens to the service at this address.
    pub(super) fn new(service: SocketAddr) -> Listener {
        Listener {
            service,
            next: Vec::new(),
            reports: 0,
            whole: None,
            end: None,
            excused: false,
            tally: Tally::default(),
            breach: None,
            finished: false,
        }
    }

    /// Its connection, counted.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Reports that came.
    pub(super) fn reports(&self) -> u64 {
        self.reports
    }

    /// Whether the reports ended in order.
    pub(super) fn got_all(&self) -> bool {
        self.whole == Some(true)
    }

    /// What ended them otherwise.
    pub(super) fn end(&self) -> Option<Errno> {
        self.end
    }

    /// Whether the world broke the connection.
    pub(super) fn is_excused(&self) -> bool {
        self.excused
    }
}

impl Handler for Listener {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {
        self.tally.connected += 1;
    }

    fn on_connect_failed(&mut self, _: &mut Context<'_>, _: Token, _: u64, error: Errno) {
        self.tally.failed += 1;
        self.end = Some(error);
        self.excused |= is_shortage(error);
        self.finished = true;
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        let whole = bytes.len() / REPORT_BYTES * REPORT_BYTES;
        for report in bytes[..whole].chunks_exact(REPORT_BYTES) {
            let producer = u32::from_le_bytes([report[0], report[1], report[2], report[3]]) as usize;
            let mut number = [0; 8];
            number.copy_from_slice(&report[4..]);
            let number = u64::from_le_bytes(number);
            self.reports += 1;
            if producer < 64 && self.next.len() <= producer {
                self.next.resize(producer + 1, None);
            }
            let in_order = self.next.get_mut(producer).is_some_and(|next| {
                let in_order = next.is_none_or(|next| next == number);
                *next = Some(number + 1);
                in_order
            });
            if !in_order {
                self.breach.get_or_insert_with(|| {
                    Breach::new(
                        "byte-stream",
                        format!("the report of message {number} of producer {producer} is out of order"),
                    )
                });
            }
        }
        whole
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), unconsumed: usize) {
        self.whole = Some(unconsumed == 0);
        ctx.close(token);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), reason: CloseReason) {
        self.tally.closed += 1;
        if let CloseReason::Failed(error) = reason {
            self.end = Some(error);
            self.excused |= is_shortage(error);
        }
        self.finished = true;
    }
}

impl Party for Listener {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        match ctx.connect(self.service, 0) {
            Ok(_) => self.tally.connects += 1,
            Err(error) => {
                self.end = Some(error);
                self.excused = true;
                self.finished = true;
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", format!("the listener has {} reports and waits for the end", self.reports))
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.reports
    }

    fn excuse(&mut self, _: Token) {
        self.excused = true;
    }
}
