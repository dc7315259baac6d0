//! Who sends, and checks what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Context, Handler, Origin, Pressure, Token};

use super::feed::Feed;
use super::service::is_shortage;
use crate::workload::content::{Content, HEADER_BYTES, Position};
use crate::workload::load::OVER;
use crate::workload::stream_plan::{Appetite, Ending, StreamPlan};
use crate::workload::{Breach, Measures, Numbered, Party, Tally};

/// A stream that has made no progress for this long is given up: far longer than any trouble lasts.
const PATIENCE_NS: u64 = 300_000_000_000;

/// Before a broken stream is begun again.
const RETRY_NS: u64 = 50_000_000;

/// What became of a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Waits for its time.
    NotStarted,
    /// Is connecting.
    Connecting,
    /// Is open.
    Open,
    /// Did what its plan says.
    Completed,
    /// Was aborted, as its plan says.
    Vanished,
    /// Found nobody, as its plan says.
    RefusedByNobody,
    /// Could not connect.
    ConnectFailed(Errno),
    /// Ended early; without an error when it seemed to end in order.
    Broken(Option<Errno>),
    /// Made no progress for too long.
    GivenUp,
}

/// One stream, from connect to close. A retry is a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    plan: StreamPlan,
    /// What it carries.
    pub content: Content,
    token: Option<Token>,
    patience: Option<TimerToken>,
    /// Bytes given to the loop.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Requests whose answers are complete.
    pub completed: u64,
    /// Requests that were under way when the stream ended.
    pub lost: u64,
    /// What became of it.
    pub fate: Fate,
    /// Whether the world broke it.
    pub excused: bool,
    /// Under pressure, or thinking: nothing is sent.
    pressed: bool,
    thinking: bool,
}

impl Attempt {
    /// Requests that were sent, at least in part.
    pub fn issued(&self) -> u64 {
        self.sent.saturating_sub(HEADER_BYTES).div_ceil(self.plan.message_bytes)
    }

    fn has_ended(&self) -> bool {
        !matches!(self.fate, Fate::NotStarted | Fate::Connecting | Fate::Open)
    }

    /// Whether it did what its plan says, so that nobody has to judge it.
    pub(super) fn ended_well(&self) -> bool {
        matches!(self.fate, Fate::Completed | Fate::Vanished | Fate::RefusedByNobody)
            && self.completed + self.lost == self.issued()
    }

    fn sent_all(&self) -> bool {
        self.sent == self.content.length
    }

    fn can_send(&self) -> bool {
        self.fate == Fate::Open
            && !self.pressed
            && !self.thinking
            && !self.sent_all()
            && self.issued() - self.completed < self.plan.pipeline
    }
}

mod tag {
    /// Connect: the low bits are the attempt.
    pub const START: u64 = 1 << 56;
    pub const THINK: u64 = 2 << 56;
    pub const PATIENCE: u64 = 3 << 56;
    pub const REST: u64 = 4 << 56;
    /// The next planned message.
    pub const PLANNED: u64 = 5 << 56;
    /// The time of the load is over.
    pub const OVER: u64 = 6 << 56;
    pub const INDEX: u64 = (1 << 56) - 1;
}

/// A loop of clients of the workload `echo`.
#[derive(Debug)]
pub struct EchoClient {
    attempts: Vec<Attempt>,
    number: u64,
    service: SocketAddr,
    nobody: SocketAddr,
    tally: Tally,
    unfinished: usize,
    buffer: Vec<u8>,
    excused: Option<Token>,
    breach: Option<Breach>,
    messages: u64,
    checks: bool,
    /// Under load: what follows the first streams. Attempts are then slots, one for each connection.
    feed: Option<Box<Feed>>,
}

impl EchoClient {
    /// The loop with this number, below 2^16.
    pub fn new(
        number: usize,
        plans: &[StreamPlan],
        service: SocketAddr,
        nobody: SocketAddr,
        checks: bool,
    ) -> EchoClient {
        let mut client = EchoClient {
            attempts: Vec::with_capacity(plans.len()),
            number: number as u64,
            service,
            nobody,
            tally: Tally::default(),
            unfinished: 0,
            buffer: Vec::new(),
            excused: None,
            breach: None,
            messages: 0,
            checks,
            feed: None,
        };
        for plan in plans {
            client.add(*plan);
        }
        client
    }

    /// Its connections, counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Its streams; under load, without those that ended well and made room for others.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.feed.iter().flat_map(|feed| feed.kept()).chain(&self.attempts)
    }

    /// Puts it under load.
    pub(super) fn sustain(&mut self, feed: Feed) {
        self.feed = Some(Box::new(feed));
    }

    fn add(&mut self, plan: StreamPlan) -> usize {
        let index = self.attempts.len();
        self.unfinished += 1;
        self.attempts.push(self.attempt(plan, index as u64));
        index
    }

    /// The stream of this loop with this number, not yet begun.
    fn attempt(&self, plan: StreamPlan, stream: u64) -> Attempt {
        Attempt {
            plan,
            content: plan.content(self.number << 32 | stream),
            token: None,
            patience: None,
            sent: 0,
            received: 0,
            completed: 0,
            lost: 0,
            fate: Fate::NotStarted,
            excused: false,
            pressed: false,
            thinking: false,
        }
    }

    fn violated(&mut self, invariant: &'static str, details: String) {
        self.breach.get_or_insert(Breach { invariant, details });
    }

    fn start(&mut self, ctx: &mut Context<'_>, index: usize) {
        let attempt = &mut self.attempts[index];
        let address = if attempt.plan.to_nobody { self.nobody } else { self.service };
        match ctx.connect(address, index as u64) {
            Ok(token) => {
                self.tally.connects += 1;
                attempt.token = Some(token);
                attempt.fate = Fate::Connecting;
                let patience = Duration::from_nanos(PATIENCE_NS);
                attempt.patience = Some(ctx.arm_timer(patience, tag::PATIENCE | index as u64));
            }
            Err(error) => {
                attempt.excused = is_shortage(error);
                self.end(ctx, index, Fate::ConnectFailed(error));
                self.follow(ctx, index);
            }
        }
    }

    /// Under load, and with the slot's stream gone: begins the next one.
    fn follow(&mut self, ctx: &mut Context<'_>, index: usize) {
        let Some(feed) = &mut self.feed else { return };
        match feed.next(index, &self.attempts[index]) {
            Some((plan, stream)) => {
                // Who could not connect does not try again at once, and for ever.
                let failed = matches!(self.attempts[index].fate, Fate::ConnectFailed(_));
                let pause_ns = if failed { RETRY_NS } else { plan.start_ns };
                self.attempts[index] = self.attempt(plan, stream);
                ctx.arm_timer(Duration::from_nanos(pause_ns), tag::START | index as u64);
            }
            None => self.unfinished -= 1,
        }
    }

    /// Whether a plan of times lets the slot send now; if not, a timer sees to it.
    fn is_due(&mut self, ctx: &mut Context<'_>, index: usize) -> bool {
        let Some(feed) = &mut self.feed else { return true };
        match feed.may_send(index, ctx.now()) {
            Ok(()) => true,
            Err(wait) => {
                if let Some(planned) = wait {
                    ctx.arm_timer_at(planned, tag::PLANNED | index as u64);
                }
                false
            }
        }
    }

    /// Whether the stream is silent because its next message is not planned yet.
    fn waits_for_plan(&self, index: usize) -> bool {
        let attempt = &self.attempts[index];
        self.feed.is_some() && attempt.can_send() && attempt.issued() == attempt.completed
    }

    /// The time of the load is over: nobody thinks or waits any more.
    fn hurry(&mut self, ctx: &mut Context<'_>) {
        if let Some(feed) = &mut self.feed {
            feed.is_over = true;
        }
        for index in 0..self.attempts.len() {
            self.attempts[index].thinking = false;
            self.pump(ctx, index);
        }
    }

    /// Sends what may be sent now.
    fn pump(&mut self, ctx: &mut Context<'_>, index: usize) {
        let Some(token) = self.attempts[index].token else { return };
        let plan = self.attempts[index].plan;
        while self.attempts[index].can_send() && self.is_due(ctx, index) {
            let attempt = &mut self.attempts[index];
            let from = attempt.sent;
            let to = (from + plan.message_bytes).max(HEADER_BYTES + plan.message_bytes);
            self.buffer.clear();
            attempt.content.append(from, to, &mut self.buffer);
            if ctx.write(token, &self.buffer).is_err() {
                // The close that follows says why.
                return;
            }
            attempt.sent = to;
            if let Some(feed) = &mut self.feed {
                feed.sent(index, ctx.now());
            }
            if let Ending::Vanish { after_messages } = plan.ending
                && attempt.issued() >= after_messages
            {
                ctx.abort(token);
                self.end(ctx, index, Fate::Vanished);
                return;
            }
        }
        let attempt = &self.attempts[index];
        if attempt.fate == Fate::Open && attempt.sent_all() {
            match plan.ending {
                Ending::HalfClose => ctx.shutdown_write(token),
                Ending::CloseUnread => {
                    ctx.close(token);
                    self.end(ctx, index, Fate::Completed);
                }
                Ending::CloseAfterAll | Ending::Vanish { .. } => {}
            }
        }
    }

    /// The stream has ended for its plan; its connection may still be closing.
    fn end(&mut self, ctx: &mut Context<'_>, index: usize, fate: Fate) {
        let attempt = &mut self.attempts[index];
        if attempt.has_ended() {
            return;
        }
        attempt.fate = fate;
        attempt.lost = attempt.issued() - attempt.completed;
        if let Some(patience) = attempt.patience.take() {
            ctx.cancel_timer(patience);
        }
        let plan = attempt.plan;
        if let Some(feed) = &mut self.feed {
            // The slot goes on when the connection is gone.
            feed.ended(index);
            return;
        }
        self.unfinished -= 1;
        let again = matches!(fate, Fate::Broken(_) | Fate::ConnectFailed(_)) && plan.retries > 0;
        if again {
            let index = self.add(StreamPlan { retries: plan.retries - 1, ..plan });
            ctx.arm_timer(Duration::from_nanos(RETRY_NS), tag::START | index as u64);
        }
    }

    fn take_excuse(&mut self, token: Token, index: usize) {
        if self.excused.take() == Some(token) {
            self.attempts[index].excused = true;
        }
    }
}

impl Handler for EchoClient {
    /// The attempt it belongs to.
    type Connection = usize;
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> usize {
        let Origin::Connected { tag } = origin else {
            self.violated("conservation", format!("{token:?} was accepted by a loop that does not listen"));
            return usize::MAX;
        };
        self.tally.connected += 1;
        let index = tag as usize;
        let attempt = &mut self.attempts[index];
        if attempt.fate != Fate::Connecting {
            // Given up in the meantime; the abort is on its way.
            return index;
        }
        attempt.fate = Fate::Open;
        if attempt.plan.to_nobody {
            self.violated("conservation", format!("{token:?} opened, but nobody listens at its address"));
        }
        self.pump(ctx, index);
        index
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        self.tally.failed += 1;
        let index = tag as usize;
        self.take_excuse(token, index);
        let attempt = &mut self.attempts[index];
        attempt.excused |= is_shortage(error);
        let fate = if attempt.plan.to_nobody { Fate::RefusedByNobody } else { Fate::ConnectFailed(error) };
        self.end(ctx, index, fate);
        self.attempts[index].token = None;
        self.follow(ctx, index);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, index: &mut usize, bytes: &[u8]) -> usize {
        let index = *index;
        let attempt = &mut self.attempts[index];
        let appetite = attempt.plan.appetite;
        // Nothing beyond what was sent can come, so there is no frame to wait for.
        let taken = appetite.take(bytes.len(), attempt.received, attempt.sent);
        let left = bytes.len() - taken;
        if taken > 0 {
            let (content, offset) = (attempt.content, attempt.received);
            let wrong = if self.checks { content.first_difference(offset, &bytes[..taken]) } else { None };
            attempt.received += taken as u64;
            let (received, sent) = (attempt.received, attempt.sent);
            if let Some(at) = wrong {
                let stream = content.stream;
                self.violated(
                    "byte-stream",
                    format!("stream {stream:#x}: the byte at offset {at} came back wrong"),
                );
            } else if received > sent {
                let stream = content.stream;
                let details = format!("stream {stream:#x}: {received} bytes came back, {sent} were sent");
                self.violated("byte-stream", details);
            }
            let attempt = &mut self.attempts[index];
            if let Some(patience) = attempt.patience {
                ctx.rearm_timer(patience, Duration::from_nanos(PATIENCE_NS));
            }
            let completed = received.saturating_sub(HEADER_BYTES) / attempt.plan.message_bytes;
            let news = completed - attempt.completed;
            attempt.completed = completed;
            self.messages += news;
            if let Some(feed) = &mut self.feed {
                feed.answered(index, news, ctx.now());
            }
            if news > 0 {
                let done = received == attempt.content.length;
                if done && attempt.plan.ending == Ending::CloseAfterAll {
                    ctx.close(token);
                    self.end(ctx, index, Fate::Completed);
                    return taken;
                }
                let thinks = self.feed.as_ref().is_none_or(|feed| !feed.is_over);
                if attempt.plan.think_ns > 0 && !attempt.sent_all() && thinks {
                    attempt.thinking = true;
                    ctx.arm_timer(Duration::from_nanos(attempt.plan.think_ns), tag::THINK | index as u64);
                }
                self.pump(ctx, index);
            }
        }
        appetite.leave(ctx, token, left, tag::REST | index as u64);
        taken
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, index: &mut usize, unconsumed: usize) {
        let attempt = &self.attempts[*index];
        let stream = attempt.content.stream;
        if unconsumed > 0 && !matches!(attempt.plan.appetite, Appetite::Frames { .. }) {
            let details = format!("stream {stream:#x}: {unconsumed} bytes were left over at the end");
            self.violated("byte-stream", details);
        }
        let attempt = &self.attempts[*index];
        let whole = attempt.received == attempt.content.length && attempt.sent_all();
        if whole {
            self.end(ctx, *index, Fate::Completed);
        }
        // Otherwise the close, where an excuse may be known, says how it ended.
        ctx.close(token);
    }

    fn on_pressure(&mut self, ctx: &mut Context<'_>, _: Token, index: &mut usize, pressure: Pressure) {
        self.attempts[*index].pressed = pressure == Pressure::High;
        self.pump(ctx, *index);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, index: usize, reason: CloseReason) {
        self.tally.closed += 1;
        self.take_excuse(token, index);
        let error = match reason {
            CloseReason::Failed(error) => Some(error),
            _ => None,
        };
        let attempt = &mut self.attempts[index];
        attempt.excused |=
            matches!(reason, CloseReason::Overflow | CloseReason::Stopped | CloseReason::DrainExpired)
                || error.is_some_and(is_shortage);
        self.end(ctx, index, Fate::Broken(error));
        self.attempts[index].token = None;
        self.follow(ctx, index);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        if message == OVER && self.feed.is_some() {
            self.hurry(ctx);
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        let index = (tag & tag::INDEX) as usize;
        match tag & !tag::INDEX {
            tag::START => self.start(ctx, index),
            tag::THINK => {
                self.attempts[index].thinking = false;
                self.pump(ctx, index);
            }
            tag::PLANNED => {
                if let Some(feed) = &mut self.feed {
                    feed.waited(index);
                }
                self.pump(ctx, index);
            }
            tag::OVER => self.hurry(ctx),
            tag::REST => {
                if let Some(token) = self.attempts[index].token {
                    Appetite::rested(ctx, token);
                }
            }
            tag::PATIENCE if self.waits_for_plan(index) => {
                let patience = Duration::from_nanos(PATIENCE_NS);
                self.attempts[index].patience = Some(ctx.arm_timer(patience, tag));
            }
            _ => {
                self.attempts[index].patience = None;
                if let Some(token) = self.attempts[index].token {
                    ctx.abort(token);
                }
                self.end(ctx, index, Fate::GivenUp);
            }
        }
    }
}

impl Party for EchoClient {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        if let Some(feed) = &mut self.feed {
            let ends = feed.begin(ctx.now(), self.attempts.len());
            ctx.arm_timer_at(ends, tag::OVER);
        }
        for index in 0..self.attempts.len() {
            match self.attempts[index].plan.start_ns {
                0 => self.start(ctx, index),
                start_ns => {
                    ctx.arm_timer(Duration::from_nanos(start_ns), tag::START | index as u64);
                }
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    fn missing(&self) -> Breach {
        let stuck = self
            .attempts
            .iter()
            .find(|attempt| !attempt.has_ended() || self.feed.is_some() && attempt.token.is_some());
        let details = match stuck {
            Some(attempt) => format!(
                "stream {:#x} is {:?} with {} of {} bytes sent and {} back, and nothing more happens",
                attempt.content.stream, attempt.fate, attempt.sent, attempt.content.length, attempt.received
            ),
            None => "every stream has ended".to_owned(),
        };
        Breach::new("liveness", details)
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn excuse(&mut self, token: Token) {
        self.excused = Some(token);
    }

    fn position(&self, &index: &usize) -> Option<Position> {
        let attempt = self.attempts.get(index).filter(|_| self.checks && self.breach.is_none())?;
        Some(Position { content: attempt.content, offset: attempt.received })
    }

    fn measures(&mut self) -> Option<&mut Measures> {
        self.feed.as_mut().map(|feed| &mut feed.measures)
    }
}
