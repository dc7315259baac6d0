//! Who answers, and counts each request once however often it comes.

use std::collections::{BTreeMap, BTreeSet};

use reactor::{CloseReason, Context, Handler, Origin, Token};

use super::frame::{Count, Incoming, RequestId};
use crate::workload::content::Position;
use crate::workload::echo::is_shortage;
use crate::workload::{Breach, Numbered, Party, Tally};

/// A connection from another host.
#[derive(Debug)]
pub struct Served {
    incoming: Incoming,
}

/// A service of the workload `cluster`.
#[derive(Debug)]
pub struct ClusterService {
    incarnation: u64,
    answer_bytes_max: u64,
    /// What each request was answered: carried out once, answered as often as it comes.
    carried_out: BTreeMap<RequestId, Count>,
    tally: Tally,
    excused: Option<Token>,
    /// Connections of processes that were killed.
    short: BTreeSet<Token>,
    breach: Option<Breach>,
    messages: u64,
    given_up: bool,
    buffer: Vec<u8>,
}

impl ClusterService {
    /// A service in its `incarnation`-th life, counted from 0.
    pub fn new(incarnation: u32, answer_bytes_max: u64) -> ClusterService {
        ClusterService {
            incarnation: u64::from(incarnation),
            answer_bytes_max,
            carried_out: BTreeMap::new(),
            tally: Tally::default(),
            excused: None,
            short: BTreeSet::new(),
            breach: None,
            messages: 0,
            given_up: false,
            buffer: Vec::new(),
        }
    }

    /// Its connections, counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn answer(&mut self, ctx: &mut Context<'_>, token: Token, id: RequestId) {
        let next = self.carried_out.len() as u64 + 1;
        let count = Count { incarnation: self.incarnation, carried_out: next };
        let count = *self.carried_out.entry(id).or_insert(count);
        self.buffer.clear();
        count.append_answer(id.answer(self.answer_bytes_max), &mut self.buffer);
        // A connection that takes no more is told of in its close.
        let _ = ctx.write(token, &self.buffer);
    }
}

impl Handler for ClusterService {
    type Connection = Served;
    type Message = Numbered;

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) -> Served {
        self.tally.accepted += 1;
        Served { incoming: Incoming::requests() }
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Served, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            match state.incoming.feed(rest) {
                Ok((taken, arrived)) => {
                    rest = &rest[taken..];
                    if let Some(arrived) = arrived {
                        self.messages += 1;
                        self.answer(ctx, token, RequestId(arrived.content.stream));
                    }
                }
                Err(breach) => {
                    self.breach.get_or_insert(breach);
                    break;
                }
            }
        }
        bytes.len()
    }

    fn on_close(&mut self, _: &mut Context<'_>, token: Token, state: Served, reason: CloseReason) {
        self.tally.closed += 1;
        let is_short = self.short.remove(&token);
        let excused = self.excused.take() == Some(token) || is_short;
        match reason {
            CloseReason::Failed(error) if !is_shortage(error) => {}
            // Who ends in order has sent whole requests.
            CloseReason::Finished | CloseReason::LingerExpired => {
                if state.incoming.is_partial() && !excused {
                    let details = "a connection ended in order in the middle of a request".to_owned();
                    self.breach.get_or_insert(Breach::new("byte-stream", details));
                }
            }
            _ => self.given_up = true,
        }
    }
}

impl Party for ClusterService {
    fn begin(&mut self, _: &mut Context<'_>) {}

    /// Nobody owes a service anything.
    fn is_finished(&self) -> bool {
        true
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", "the service waits for nothing".to_owned())
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn has_given_up(&self) -> bool {
        self.given_up
    }

    fn position(&self, state: &Served) -> Option<Position> {
        state.incoming.position()
    }

    fn excuse(&mut self, token: Token) {
        self.excused = Some(token);
    }

    fn cut_short(&mut self, token: Token) {
        self.short.insert(token);
    }
}
