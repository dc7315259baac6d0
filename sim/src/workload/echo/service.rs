//! Who echoes, or passes on to who echoes.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Context, Handler, Origin, PauseReasons, Pressure, Token};

use super::{ServicePlan, Writing};
use crate::workload::content::{Content, HEADER_BYTES, Position};
use crate::workload::stream_plan::Appetite;
use crate::workload::{Breach, Numbered, Party, Tally};

/// How the service saw a stream end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nothing happened that excuses a loss.
    InOrder,
    /// The service gave it up, by a limit of its own.
    GivenUp,
    /// The world broke it.
    Excused,
}

/// A stream, as a service saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedStream {
    /// What it carries, by its header.
    pub content: Content,
    /// Bytes that came.
    pub received: u64,
    /// How it ended.
    pub ended: Ended,
    /// Why the connection closed.
    pub reason: CloseReason,
}

impl fmt::Display for ServedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service took {} bytes and closed it with {:?}", self.received, self.reason)
    }
}

/// Where a connection's bytes go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Link {
    /// Back.
    Echo,
    /// From a client, on to this connection.
    Front(Option<Token>),
    /// From the second hop, back to this connection.
    Back(Token),
}

/// A connection of the service.
#[derive(Debug)]
pub struct Served {
    link: Link,
    header: [u8; HEADER_BYTES as usize],
    content: Option<Content>,
    received: u64,
    /// Set when this service has given the stream up.
    given_up: bool,
    excused: bool,
    /// Its sender was killed: nobody waits for it any more.
    short: bool,
    /// The other connection of a second hop is gone.
    widowed: bool,
}

/// The service of the workload `echo`.
#[derive(Debug)]
pub struct EchoService {
    plan: ServicePlan,
    upstream: Option<SocketAddr>,
    tally: Tally,
    streams: Vec<ServedStream>,
    /// Under load, the last ones that ended in order; `streams` are then the others.
    in_order: VecDeque<ServedStream>,
    in_order_max: Option<usize>,
    /// Connections whose excuse came before their close.
    excused: Option<Token>,
    /// A stream that may end anywhere, just before its end is told.
    short: Option<Token>,
    /// Front connections whose second hop failed, with whether the world did it.
    widows: Vec<(Token, bool)>,
    breach: Option<Breach>,
    messages: u64,
    open: u64,
    /// Connections from clients that have not ended, where all are to end together.
    accepted: BTreeSet<Token>,
    /// Connections that were lost before their header had come.
    nameless_losses: u64,
    checks: bool,
}

impl EchoService {
    /// A service; with `upstream` it passes everything on to that address.
    pub fn new(plan: ServicePlan, upstream: Option<SocketAddr>, checks: bool) -> EchoService {
        EchoService {
            plan,
            upstream,
            tally: Tally::default(),
            streams: Vec::new(),
            in_order: VecDeque::new(),
            in_order_max: None,
            excused: None,
            short: None,
            widows: Vec::new(),
            breach: None,
            messages: 0,
            open: 0,
            accepted: BTreeSet::new(),
            nameless_losses: 0,
            checks,
        }
    }

    /// Forgets streams that ended in order, but for the last `most`.
    pub(super) fn remember_only(&mut self, most: usize) {
        self.in_order_max = Some(most);
    }

    /// Its connections, counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Connections that were lost, to the world or to a limit, before they had said which stream they carried.
    pub fn nameless_losses(&self) -> u64 {
        self.nameless_losses
    }

    /// The streams it saw end; under load, only the last of those that ended in order.
    pub fn streams(&self) -> impl Iterator<Item = &ServedStream> {
        self.streams.iter().chain(&self.in_order)
    }

    fn violated(&mut self, details: String) {
        self.breach.get_or_insert(Breach { invariant: "byte-stream", details });
    }

    /// Checks `bytes` against the stream that its header says it is.
    #[inline]
    fn check(&mut self, state: &mut Served, bytes: &[u8]) {
        let mut rest = bytes;
        if state.received < HEADER_BYTES {
            let at = state.received as usize;
            let length = rest.len().min(HEADER_BYTES as usize - at);
            state.header[at..at + length].copy_from_slice(&rest[..length]);
            state.received += length as u64;
            rest = &rest[length..];
            if state.received == HEADER_BYTES {
                state.content = Content::from_header(&state.header);
                if state.content.is_none() {
                    self.violated(format!("a stream begins with {:02x?}, which is no header", state.header));
                }
            }
        }
        if rest.is_empty() {
            return;
        }
        let Some(content) = state.content else { return };
        if self.checks
            && let Some(at) = content.first_difference(state.received, rest)
        {
            self.violated(format!(
                "stream {:#x}: the byte at offset {at} is wrong on arrival",
                content.stream
            ));
        }
        state.received += rest.len() as u64;
        if state.received > content.length {
            let Content { stream, length } = content;
            self.violated(format!(
                "stream {stream:#x}: {} bytes came, {length} were promised",
                state.received
            ));
        }
    }

    fn write(&mut self, ctx: &mut Context<'_>, to: Token, bytes: &[u8]) -> bool {
        let result = match self.plan.writing {
            Writing::Copied => ctx.write(to, bytes),
            Writing::Shared => ctx.write_shared(to, Bytes::copy_from_slice(bytes)),
            Writing::Pieces(length) => bytes.chunks(length).try_fold(0, |_, piece| ctx.write(to, piece)),
        };
        result.is_ok()
    }
}

impl Handler for EchoService {
    type Connection = Served;
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Served {
        self.open += 1;
        let mut given_up = false;
        if self.plan.ends_together && matches!(origin, Origin::Accepted { .. }) {
            self.accepted.insert(token);
        }
        let link = match (origin, self.upstream) {
            (Origin::Accepted { .. }, None) => {
                self.tally.accepted += 1;
                Link::Echo
            }
            (Origin::Accepted { .. }, Some(upstream)) => {
                self.tally.accepted += 1;
                let back = ctx.connect(upstream, token.as_word()).ok();
                if back.is_some() {
                    self.tally.connects += 1;
                    // Nothing tells of pressure on a connection that is not open yet.
                    ctx.pause_reading(token, PauseReasons::APPLICATION);
                } else {
                    given_up = true;
                    ctx.abort(token);
                }
                Link::Front(back)
            }
            (Origin::Connected { tag }, _) => {
                self.tally.connected += 1;
                let front = Token::from_word(tag);
                if ctx.is_open(front) {
                    ctx.resume_reading(front, PauseReasons::APPLICATION);
                } else {
                    ctx.abort(token);
                }
                Link::Back(front)
            }
        };
        Served {
            link,
            header: [0; HEADER_BYTES as usize],
            content: None,
            received: 0,
            given_up,
            excused: false,
            short: false,
            widowed: false,
        }
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        self.tally.failed += 1;
        let front = Token::from_word(tag);
        let excused = self.excused.take() == Some(token) || is_shortage(error);
        self.widows.push((front, excused));
        ctx.abort(front);
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Served, bytes: &[u8]) -> usize {
        // A stream that fits into one offer ends with it, so its length has to be known before anything is taken.
        let length =
            state.content.or_else(|| Content::at_start(state.received, bytes)).map_or(0, |c| c.length);
        let taken = self.plan.appetite.take(bytes.len(), state.received, length);
        let (bytes, left) = (&bytes[..taken], bytes.len() - taken);
        if taken > 0 {
            self.messages += 1;
            self.check(state, bytes);
            let to = match state.link {
                Link::Echo => Some(token),
                Link::Front(to) => to,
                Link::Back(to) => Some(to),
            };
            // Refused: the other side is ending, and its end says the rest.
            if !to.is_some_and(|to| self.write(ctx, to, bytes)) {
                state.given_up |= state.link == Link::Echo;
            }
        }
        self.plan.appetite.leave(ctx, token, left, token.as_word());
        taken
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Served, unconsumed: usize) {
        let whole = state.content.is_some_and(|content| state.received == content.length);
        if self.short.take() == Some(token) && !whole {
            state.short = true;
            return ctx.abort(token);
        }
        if unconsumed > 0 {
            self.violated(format!(
                "{unconsumed} bytes were left over at the end of a stream that had been asked for"
            ));
        }
        if self.accepted.remove(&token) {
            for other in std::mem::take(&mut self.accepted) {
                ctx.abort(other);
            }
        }
        match state.link {
            Link::Echo | Link::Front(_) if !whole => {
                let (received, of) = (state.received, state.content.map_or(0, |content| content.length));
                let stream = state.content.map_or(0, |content| content.stream);
                self.violated(format!("stream {stream:#x} ended in order after {received} of {of} bytes"));
                ctx.close(token);
            }
            Link::Echo => ctx.close(token),
            Link::Front(back) => match back {
                Some(back) => ctx.shutdown_write(back),
                None => ctx.close(token),
            },
            Link::Back(front) => {
                if whole {
                    ctx.close(front);
                } else {
                    self.widows.push((front, true));
                    ctx.abort(front);
                }
                ctx.close(token);
            }
        }
    }

    fn on_pressure(&mut self, ctx: &mut Context<'_>, _: Token, state: &mut Served, pressure: Pressure) {
        let source = match state.link {
            Link::Echo => return,
            Link::Front(Some(back)) => back,
            Link::Front(None) => return,
            Link::Back(front) => front,
        };
        match pressure {
            Pressure::High => ctx.pause_reading(source, PauseReasons::UPSTREAM),
            Pressure::Low => ctx.resume_reading(source, PauseReasons::UPSTREAM),
        }
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, mut state: Served, reason: CloseReason) {
        self.open -= 1;
        self.tally.closed += 1;
        self.accepted.remove(&token);
        state.excused |= self.excused.take() == Some(token);
        match state.link {
            Link::Echo => {}
            Link::Front(back) => {
                if let Some(at) = self.widows.iter().position(|&(front, _)| front == token) {
                    let (_, excused) = self.widows.swap_remove(at);
                    state.widowed = true;
                    state.excused |= excused;
                }
                if let Some(back) = back {
                    ctx.abort(back);
                }
            }
            Link::Back(front) => {
                let whole = state.content.is_some_and(|content| state.received == content.length);
                if whole {
                    ctx.close(front);
                } else if ctx.is_open(front) {
                    // Without a broken stream on this side the second hop's own ledger has to excuse the loss.
                    self.widows.push((front, state.excused));
                    ctx.abort(front);
                }
                return;
            }
        }
        if state.short {
            return;
        }
        let own_limit = match reason {
            CloseReason::DrainExpired | CloseReason::Overflow | CloseReason::Stopped => true,
            CloseReason::LingerExpired => true,
            CloseReason::Aborted => !state.widowed,
            CloseReason::Failed(error) => is_shortage(error),
            CloseReason::Finished => false,
        };
        let ended = if state.excused {
            Ended::Excused
        } else if own_limit || state.given_up {
            Ended::GivenUp
        } else {
            Ended::InOrder
        };
        let Some(content) = state.content else {
            self.nameless_losses += u64::from(ended != Ended::InOrder);
            return;
        };
        let stream = ServedStream { content, received: state.received, ended, reason };
        match self.in_order_max {
            Some(most) if ended == Ended::InOrder => {
                self.in_order.push_back(stream);
                if self.in_order.len() > most {
                    self.in_order.pop_front();
                }
            }
            _ => self.streams.push(stream),
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        Appetite::rested(ctx, Token::from_word(tag));
    }
}

/// Errors that say that the process, or the system, ran out of something.
pub(crate) fn is_shortage(error: Errno) -> bool {
    matches!(
        error,
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::ENOSPC
            // No port, or no route, inside connect (kernel-semantics T5, T9).
            | Errno::EADDRNOTAVAIL
            | Errno::ENETUNREACH
    )
}

impl Party for EchoService {
    fn begin(&mut self, _: &mut Context<'_>) {}

    /// Who stops a service while a client's last bytes are on their way cuts that stream short.
    fn is_finished(&self) -> bool {
        self.open == 0
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", format!("the service still has {} connections", self.open))
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

    fn position(&self, state: &Served) -> Option<Position> {
        let content = state.content.filter(|_| self.checks && self.breach.is_none())?;
        Some(Position { content, offset: state.received })
    }

    fn cut_short(&mut self, token: Token) {
        self.short = Some(token);
    }
}
