//! Who asks every other host, again after a while when nothing comes, until each request has its one answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Context, Handler, Origin, Token};

use super::frame::{Arrived, Count, Incoming, RequestId};
use super::lane::{Lane, LanePlan, Link};
use crate::workload::content::Position;
use crate::workload::echo::is_shortage;
use crate::workload::load::OVER;
use crate::workload::{Breach, Measures, Numbered, Party, Tally};

/// A lane that is not answered for this long gives its connection up and begins another, with which it is twice as patient:
/// through tiny buffers an answer may take longer, and would never be heard whole.
const PATIENCE_NS: u64 = 3_000_000_000;
/// How often patience doubles at most.
const DOUBLINGS_MAX: u32 = 5;
/// Before the next connection.
const RETRY_NS: u64 = 50_000_000;

mod tag {
    pub const ISSUE: u64 = 1 << 56;
    pub const PATIENCE: u64 = 2 << 56;
    pub const RETRY: u64 = 3 << 56;
    /// The time of the load is over.
    pub const OVER: u64 = 4 << 56;
    pub const INDEX: u64 = (1 << 56) - 1;
}

/// The connection of a lane.
#[derive(Debug)]
pub struct Asking {
    lane: usize,
    incoming: Incoming,
}

/// A loop of clients of the workload `cluster`: one lane to each other host.
#[derive(Debug)]
pub struct ClusterClient {
    lanes: Vec<Lane>,
    answer_bytes_max: u64,
    /// Counts that services have told, by lane: each is told for one request only.
    counts: BTreeSet<(usize, Count)>,
    tally: Tally,
    excused: Option<Token>,
    breach: Option<Breach>,
    /// The first connection that broke without an excuse of the world's.
    broken: Option<String>,
    messages: u64,
    calm: bool,
    buffer: Vec<u8>,
    /// Under load, for how long; what is measured.
    sustained: Option<(Duration, Measures)>,
}

impl ClusterClient {
    /// The clients of one host in its `incarnation`-th life; each plan is a lane to one address.
    pub fn new(
        issuer: usize,
        incarnation: u32,
        plans: &[(SocketAddr, LanePlan)],
        answer_bytes_max: u64,
    ) -> ClusterClient {
        let lanes = plans.iter().enumerate();
        ClusterClient {
            lanes: lanes
                .map(|(index, &(address, plan))| Lane::new(issuer, incarnation, index, address, plan))
                .collect(),
            answer_bytes_max,
            counts: BTreeSet::new(),
            tally: Tally::default(),
            excused: None,
            breach: None,
            broken: None,
            messages: 0,
            calm: false,
            buffer: Vec::new(),
            sustained: None,
        }
    }

    /// Issues requests for this long, and no more.
    pub(super) fn sustain(&mut self, duration: Duration) {
        self.sustained = Some((duration, Measures::default()));
    }

    /// Its connections, counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The first connection that broke, and nothing that the world knows of broke it.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Requests that were issued, and those that have their answer.
    pub fn requests(&self) -> (u64, u64) {
        let issued = self.lanes.iter().map(|lane| u64::from(lane.issued)).sum();
        (issued, self.lanes.iter().map(|lane| lane.completed).sum())
    }

    fn violated(&mut self, invariant: &'static str, details: String) {
        self.breach.get_or_insert(Breach { invariant, details });
    }

    /// Does what the lane can do now: connect, or ask.
    fn pump(&mut self, ctx: &mut Context<'_>, index: usize) {
        let lane = &mut self.lanes[index];
        if !lane.has_work() {
            return;
        }
        match lane.link {
            Link::Down if lane.retry.is_none() => match ctx.connect(lane.address, index as u64) {
                Ok(token) => {
                    self.tally.connects += 1;
                    lane.link = Link::Connecting(token);
                    self.be_patient(ctx, index);
                }
                Err(_) => self.retry_later(ctx, index),
            },
            Link::Open(token) => {
                while let Some(content) = lane.next_request(ctx.now()) {
                    self.buffer.clear();
                    content.append(0, content.length, &mut self.buffer);
                    if ctx.write(token, &self.buffer).is_err() {
                        // The close that follows asks again.
                        return;
                    }
                }
            }
            Link::Down | Link::Connecting(_) | Link::Closing(_) => {}
        }
    }

    fn be_patient(&mut self, ctx: &mut Context<'_>, index: usize) {
        let lane = &mut self.lanes[index];
        if let Some(timer) = lane.patience.take() {
            ctx.cancel_timer(timer);
        }
        if lane.has_work() {
            let patience = Duration::from_nanos(PATIENCE_NS << lane.given_up.min(DOUBLINGS_MAX));
            lane.patience = Some(ctx.arm_timer(patience, tag::PATIENCE | index as u64));
        }
    }

    fn retry_later(&mut self, ctx: &mut Context<'_>, index: usize) {
        let retry = Duration::from_nanos(RETRY_NS);
        self.lanes[index].retry = Some(ctx.arm_timer(retry, tag::RETRY | index as u64));
    }

    fn issue_later(&mut self, ctx: &mut Context<'_>, index: usize) {
        let lane = &self.lanes[index];
        if lane.issued < lane.plan.requests {
            let think = Duration::from_nanos(lane.plan.think_ns);
            ctx.arm_timer(think, tag::ISSUE | index as u64);
        }
    }

    /// The lane's connection is gone: what was asked and not answered is asked again on the next one.
    fn disconnected(&mut self, ctx: &mut Context<'_>, index: usize) {
        let lane = &mut self.lanes[index];
        lane.link = Link::Down;
        lane.ask_again();
        if let Some(timer) = lane.patience.take() {
            ctx.cancel_timer(timer);
        }
        self.retry_later(ctx, index);
    }

    fn answered(&mut self, ctx: &mut Context<'_>, index: usize, arrived: Arrived) {
        let Arrived { content, count } = arrived;
        let id = RequestId(content.stream);
        let lane = &mut self.lanes[index];
        let Some((issued, asked)) = lane.complete(id) else {
            let details =
                format!("an answer to {id:?} came, which was not the next to be answered on its connection");
            return self.violated("conservation", details);
        };
        if let Some((_, measures)) = &mut self.sustained {
            measures.answered(issued, asked, ctx.now());
        }
        self.messages += 1;
        if content != id.answer(self.answer_bytes_max) {
            let details = format!("the answer to {id:?} has {} bytes", content.length);
            self.violated("byte-stream", details);
        }
        if let Some(count) = count
            && !self.counts.insert((index, count))
        {
            let details = format!("{count:?} was told for {id:?} and for another request");
            self.violated("conservation", details);
        }
        self.be_patient(ctx, index);
        self.pump(ctx, index);
    }

    fn note_broken(&mut self, lane: usize, how: &str) {
        let address = self.lanes[lane].address;
        self.broken.get_or_insert_with(|| format!("a connection to {address} {how}, and nothing excuses it"));
    }
}

impl Handler for ClusterClient {
    type Connection = Asking;
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Asking {
        self.tally.connected += 1;
        let Origin::Connected { tag } = origin else { unreachable!("nobody listens here") };
        let index = tag as usize;
        self.lanes[index].link = Link::Open(token);
        self.be_patient(ctx, index);
        self.pump(ctx, index);
        Asking { lane: index, incoming: Incoming::answers() }
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        self.tally.failed += 1;
        let excused = self.excused.take() == Some(token);
        let index = tag as usize;
        // The lane's own impatience shows as an abort.
        let own = self.lanes[index].link == Link::Closing(token);
        if !excused && !own && !is_shortage(error) {
            self.note_broken(index, &format!("could not be made: {error}"));
        }
        self.disconnected(ctx, index);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Asking, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.lanes[state.lane].link == Link::Open(token) {
            match state.incoming.feed(rest) {
                Ok((taken, arrived)) => {
                    rest = &rest[taken..];
                    if let Some(arrived) = arrived {
                        self.answered(ctx, state.lane, arrived);
                    }
                }
                Err(Breach { invariant, details }) => {
                    self.violated(invariant, details);
                    break;
                }
            }
        }
        bytes.len()
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: Asking, reason: CloseReason) {
        self.tally.closed += 1;
        let excused = self.excused.take() == Some(token);
        let own = self.lanes[state.lane].link == Link::Closing(token);
        let limits = match reason {
            CloseReason::Failed(error) => is_shortage(error),
            CloseReason::Stopped | CloseReason::Overflow | CloseReason::DrainExpired => true,
            CloseReason::Finished | CloseReason::LingerExpired | CloseReason::Aborted => false,
        };
        let waited = self.lanes[state.lane].waits();
        if waited && !excused && !own && !limits {
            self.note_broken(state.lane, &format!("broke with {reason:?}"));
        }
        self.disconnected(ctx, state.lane);
    }

    fn on_message(&mut self, _: &mut Context<'_>, message: Numbered) {
        if message == OVER && self.sustained.is_some() {
            self.lanes.iter_mut().for_each(Lane::end_plan);
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        let index = (tag & tag::INDEX) as usize;
        let lane = &mut self.lanes[index];
        match tag & !tag::INDEX {
            tag::OVER => self.lanes.iter_mut().for_each(Lane::end_plan),
            // Planned before the time was over.
            tag::ISSUE if lane.issued >= lane.plan.requests => {}
            tag::ISSUE => {
                lane.issue(ctx.now());
                if lane.patience.is_none() {
                    self.be_patient(ctx, index);
                }
                self.issue_later(ctx, index);
                self.pump(ctx, index);
            }
            tag::PATIENCE => {
                lane.patience = None;
                if let Link::Open(token) | Link::Connecting(token) = lane.link {
                    lane.link = Link::Closing(token);
                    lane.given_up += 1;
                    ctx.abort(token);
                }
            }
            _ => {
                lane.retry = None;
                self.pump(ctx, index);
            }
        }
    }
}

impl Party for ClusterClient {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        if let Some((duration, _)) = self.sustained {
            ctx.arm_timer(duration, tag::OVER);
        }
        for index in 0..self.lanes.len() {
            self.issue_later(ctx, index);
        }
    }

    /// One more request to everybody: whoever lives reaches everybody again.
    fn calm(&mut self, ctx: &mut Context<'_>) {
        self.calm = true;
        for index in 0..self.lanes.len() {
            self.lanes[index].probe(ctx.now());
            if self.lanes[index].patience.is_none() {
                self.be_patient(ctx, index);
            }
            self.pump(ctx, index);
        }
    }

    fn is_finished(&self) -> bool {
        self.calm && self.lanes.iter().all(Lane::is_finished)
    }

    fn missing(&self) -> Breach {
        let slow = self.lanes.iter().find(|lane| !lane.is_finished());
        Breach::new("liveness", slow.map_or_else(|| "the calm has not come".to_owned(), Lane::to_string))
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn position(&self, state: &Asking) -> Option<Position> {
        state.incoming.position()
    }

    fn excuse(&mut self, token: Token) {
        self.excused = Some(token);
    }

    fn measures(&mut self) -> Option<&mut Measures> {
        self.sustained.as_mut().map(|(_, measures)| measures)
    }
}
