//! A handler around a handler, which checks what the loop owes every handler: the life of tokens, and watermarks.
//!
//! Oracles: `dead-generation` (a call for a connection that was never opened or has closed; two opens of one token) and
//! `watermark` (events alternate, begin with high, and match the bytes queued), `bounded-close` (a close ends in time, and
//! is not given up while it makes progress), `byte-stream` (what has arrived is delivered before a failure is told). That no handler method runs inside
//! another needs no check: each holds the handler exclusively.

use std::fmt;

use reactor::sys::{Errno, Fd};
use reactor::time::Instant;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, Pressure, Token};

use crate::workload::content::Position;
use crate::workload::echo::is_shortage;
use crate::workload::{Breach, Numbered, Party};

/// With more connections than this, nobody looks at all of them after each timer, message and turn.
const SLOTS_LOOKED_AT_MAX: usize = 64;

/// Says whether the world did something to the connection behind a descriptor, and sees what it hands over.
pub trait Witness {
    /// Whether it did.
    fn excuses(&self, fd: Fd) -> bool;

    /// Bytes that a read would still give.
    fn unread_bytes(&self, fd: Fd) -> u64;

    /// Whether the process at the other end was killed, so that its stream may end in order, and anywhere.
    fn ends_short(&self, fd: Fd) -> bool {
        let _ = fd;
        false
    }

    /// A message of another thread is about to be handled.
    fn message(&self, message: Numbered) {
        let _ = message;
    }

    /// Of the bytes `offered` to the party, the first `taken` were taken, and `next` is the [position](Party::position) after
    /// them. When the party panics over them, none were taken, and nothing is known.
    fn data(&self, offered: &[u8], taken: usize, next: Option<Position>) {
        let _ = (offered, taken, next);
    }
}

/// Bytes that a party is being offered: the witness hears of them also when the party panics over them.
struct Offer<'a> {
    witness: Option<&'a dyn Witness>,
    bytes: &'a [u8],
}

impl Offer<'_> {
    #[inline]
    fn answered(mut self, taken: usize, next: Option<Position>) {
        if let Some(witness) = self.witness.take() {
            witness.data(self.bytes, taken, next);
        }
    }
}

impl Drop for Offer<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(witness) = self.witness {
            witness.data(self.bytes, 0, None);
        }
    }
}

#[derive(Copy, Clone, Debug, Default)]
struct Slot {
    /// The token's word, while it lives; a connection's is never zero together with `live`.
    word: u64,
    live: bool,
    high: bool,
    /// It was closed from this side.
    closing: bool,
}

/// A close under way.
#[derive(Copy, Clone, Debug)]
struct Close {
    token: Token,
    /// Bytes left to send, as last seen.
    queued_bytes: usize,
    /// No later than when that number of bytes was reached.
    progress: Instant,
    /// Since when nothing is left to send, once that is so.
    flushed: Option<Instant>,
}

/// See the module.
pub struct Audited<P> {
    party: P,
    slots: Vec<Slot>,
    queue_bytes_high: usize,
    queue_bytes_low: usize,
    witness: Option<Box<dyn Witness>>,
    breach: Option<Breach>,
    opened: u64,
    closed: u64,
    calls: u64,
    enabled: bool,
    linger_ns: u64,
    drain_ns: u64,
    /// Closed from this side and not gone.
    closes: Vec<Close>,
    /// The loop's clock at the last look between turns. Whatever is seen to have changed since changed after it: a turn reads
    /// its clock more than once, and the later reading would make a rest too short.
    looked: Instant,
}

impl<P: fmt::Debug> fmt::Debug for Audited<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audited")
            .field("party", &self.party)
            .field("breach", &self.breach)
            .finish_non_exhaustive()
    }
}

impl<P: Party> Audited<P> {
    /// Wraps `party`, which runs on a loop with this configuration.
    pub fn new(party: P, config: &Config, witness: Option<Box<dyn Witness>>) -> Audited<P> {
        Audited {
            party,
            slots: Vec::new(),
            queue_bytes_high: config.queue_bytes_high,
            queue_bytes_low: config.queue_bytes_low,
            witness,
            breach: None,
            opened: 0,
            closed: 0,
            calls: 0,
            enabled: true,
            linger_ns: config.linger_ns.saturating_add(2 * config.tick_ns),
            drain_ns: config.drain_ns,
            closes: Vec::new(),
            looked: Instant::default(),
        }
    }

    /// Checks nothing more; for measurements.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// Who is watched.
    pub fn party(&self) -> &P {
        &self.party
    }

    /// Who is watched, to be acted upon between turns.
    pub fn party_mut(&mut self) -> &mut P {
        &mut self.party
    }

    /// Who was watched.
    pub fn into_party(self) -> P {
        self.party
    }

    /// The first breach, of this audit or of the party itself.
    #[inline]
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref().or_else(|| self.party.breach())
    }

    /// Calls that did something a wake-up can be for.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Connections that have opened and not closed.
    pub fn open(&self) -> u64 {
        self.opened - self.closed
    }

    #[cold]
    fn violated(&mut self, invariant: &'static str, details: String) {
        self.breach.get_or_insert(Breach { invariant, details });
    }

    #[inline]
    fn is_live(&self, token: Token) -> bool {
        self.slots.get(token.slot() as usize).is_some_and(|slot| slot.live && slot.word == token.as_word())
    }

    /// Bytes, their end and pressure are told only of a connection that is open: neither dead nor closed by its own
    /// handler.
    #[inline]
    fn check_open(&mut self, ctx: &Context<'_>, token: Token, call: &'static str) {
        let live = self.is_live(token);
        if self.enabled && !(live && ctx.is_open(token)) {
            let why = if live { "which its handler has closed" } else { "which is not open" };
            self.violated("dead-generation", format!("{call} for {token:?}, {why}"));
        }
    }

    /// Events alternate, begin with high, and are told only while the queue is on their side of the other mark.
    fn check_watermark(&mut self, token: Token, is_high: bool, queued_bytes: usize) {
        let slot = &mut self.slots[token.slot() as usize];
        let alternates = slot.high != is_high;
        slot.high = is_high;
        let told = if is_high { Pressure::High } else { Pressure::Low };
        if !alternates {
            self.violated("watermark", format!("{told:?} was told to {token:?}, which was there already"));
        }
        let fits =
            if is_high { queued_bytes > self.queue_bytes_low } else { queued_bytes <= self.queue_bytes_high };
        if !fits {
            self.violated(
                "watermark",
                format!("{told:?} was told to {token:?} with {queued_bytes} bytes queued"),
            );
        }
    }

    /// Takes note of a connection that its handler may have closed.
    #[inline]
    fn note_closing(&mut self, ctx: &Context<'_>, token: Token) {
        if ctx.is_open(token) || !self.is_live(token) {
            return;
        }
        let slot = &mut self.slots[token.slot() as usize];
        if !slot.closing {
            slot.closing = true;
            let (queued_bytes, progress) = (ctx.queued_bytes(token), self.looked);
            self.closes.push(Close { token, queued_bytes, progress, flushed: None });
        }
    }

    /// Takes note of every connection that its handler may have closed in a call that was for none of them.
    fn note_closings(&mut self, ctx: &Context<'_>) {
        if self.slots.len() <= SLOTS_LOOKED_AT_MAX {
            for index in 0..self.slots.len() {
                let slot = self.slots[index];
                if slot.live && !slot.closing {
                    self.note_closing(ctx, Token::from_word(slot.word));
                }
            }
        }
    }

    /// After a turn: what was closed and has nothing left to send does not wait for its peer longer than the linger time
    /// (bug-catalogue B47). Nothing is late before all timers that were due have run: `timers_ran`.
    pub fn check_closes(&mut self, ctx: &Context<'_>, timers_ran: bool) {
        // A handler may close another connection than the one that it is called for.
        self.note_closings(ctx);
        let looked = std::mem::replace(&mut self.looked, ctx.now());
        if self.closes.is_empty() {
            return;
        }
        let mut closes = std::mem::take(&mut self.closes);
        closes.retain(|close| self.is_live(close.token));
        for Close { token, queued_bytes, progress, flushed } in &mut closes {
            let left_bytes = ctx.queued_bytes(*token);
            if left_bytes != *queued_bytes {
                (*queued_bytes, *progress) = (left_bytes, looked);
            }
            if left_bytes > 0 {
                *flushed = None;
                continue;
            }
            if !timers_ran {
                continue;
            }
            let since = *flushed.get_or_insert(ctx.now());
            let lasts_ns = ctx.now().saturating_ns_since(since);
            if lasts_ns > self.linger_ns {
                self.violated(
                    "bounded-close",
                    format!(
                        "{token:?} is closed, has nothing left to send, and is there after {lasts_ns} ns"
                    ),
                );
            }
        }
        self.closes = closes;
    }

    /// Who makes progress is not given up, however slow the peer (bug-catalogue B79). Where there are too many to look at after
    /// each turn, nobody knows when a close began.
    #[cold]
    fn check_drain(&mut self, ctx: &Context<'_>, token: Token) {
        if self.slots.len() > SLOTS_LOOKED_AT_MAX {
            return;
        }
        let Some(close) = self.closes.iter().find(|close| close.token == token) else { return };
        let rested_ns = ctx.now().saturating_ns_since(close.progress);
        if rested_ns < self.drain_ns {
            let left_bytes = close.queued_bytes;
            self.violated(
                "bounded-close",
                format!(
                    "{token:?} was given up with {left_bytes} bytes to send, {rested_ns} ns after its last progress"
                ),
            );
        }
    }

    /// What the kernel still has to give comes before the failure (bug-catalogue B27), unless the handler has said that it
    /// wants no more, or the system was too short of something to read.
    #[cold]
    fn check_unread(&mut self, ctx: &Context<'_>, token: Token, error: Errno) {
        let closing = self.slots.get(token.slot() as usize).is_none_or(|slot| slot.closing);
        if closing || self.slots.len() > SLOTS_LOOKED_AT_MAX || is_shortage(error) {
            return;
        }
        if let (Some(witness), Some(fd)) = (&self.witness, ctx.descriptor(token)) {
            let unread_bytes = witness.unread_bytes(fd);
            if unread_bytes > 0 {
                self.violated(
                    "byte-stream",
                    format!(
                        "{token:?} failed with {error}, and {unread_bytes} bytes that had come were not read"
                    ),
                );
            }
        }
    }

    fn tell_excuse(&mut self, ctx: &Context<'_>, token: Token) {
        if let (Some(witness), Some(fd)) = (&self.witness, ctx.descriptor(token))
            && witness.excuses(fd)
        {
            self.party.excuse(token);
        }
    }
}

impl<P: Party> Handler for Audited<P> {
    type Connection = P::Connection;
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> P::Connection {
        let index = token.slot() as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        if self.slots[index].live && self.enabled {
            self.violated("dead-generation", format!("{token:?} opened while its slot was in use"));
        }
        self.slots[index] = Slot { word: token.as_word(), live: true, high: false, closing: false };
        self.opened += 1;
        let state = self.party.on_open(ctx, token, origin);
        self.note_closing(ctx, token);
        state
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        if self.is_live(token) {
            self.violated("dead-generation", format!("on_connect_failed for {token:?}, which had opened"));
        }
        self.tell_excuse(ctx, token);
        self.party.on_connect_failed(ctx, token, tag, error);
    }

    #[inline]
    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut P::Connection,
        bytes: &[u8],
    ) -> usize {
        self.calls += 1;
        self.check_open(ctx, token, "on_data");
        let offer = Offer { witness: self.witness.as_deref(), bytes };
        let taken = self.party.on_data(ctx, token, state, bytes);
        offer.answered(taken, self.party.position(state));
        self.note_closing(ctx, token);
        taken
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut P::Connection, unconsumed: usize) {
        self.check_open(ctx, token, "on_end");
        if let (Some(witness), Some(fd)) = (&self.witness, ctx.descriptor(token))
            && witness.ends_short(fd)
        {
            self.party.cut_short(token);
        }
        self.party.on_end(ctx, token, state, unconsumed);
        self.note_closing(ctx, token);
    }

    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut P::Connection,
        pressure: Pressure,
    ) {
        let is_high = pressure == Pressure::High;
        if self.is_live(token) {
            self.check_watermark(token, is_high, ctx.queued_bytes(token));
        }
        self.check_open(ctx, token, "on_pressure");
        self.party.on_pressure(ctx, token, state, pressure);
        self.note_closing(ctx, token);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: P::Connection, reason: CloseReason) {
        if self.enabled && !self.is_live(token) {
            self.violated("dead-generation", format!("on_close for {token:?}, which is not open"));
        }
        if let Some(slot) = self.slots.get_mut(token.slot() as usize) {
            slot.live = false;
        }
        self.closed += 1;
        match reason {
            CloseReason::Failed(error) => self.check_unread(ctx, token, error),
            CloseReason::DrainExpired => self.check_drain(ctx, token),
            _ => {}
        }
        self.tell_excuse(ctx, token);
        self.party.on_close(ctx, token, state, reason);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        self.calls += 1;
        self.party.on_timer(ctx, timer, tag);
        self.note_closings(ctx);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        self.calls += 1;
        if let Some(witness) = &self.witness {
            witness.message(message);
        }
        self.party.on_message(ctx, message);
        self.note_closings(ctx);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Takes down what it hears of bytes.
    #[derive(Debug, Default)]
    struct Listening(RefCell<Vec<(Vec<u8>, usize)>>);

    impl Witness for Listening {
        fn excuses(&self, _: Fd) -> bool {
            false
        }

        fn unread_bytes(&self, _: Fd) -> u64 {
            0
        }

        fn data(&self, offered: &[u8], taken: usize, _: Option<Position>) {
            self.0.borrow_mut().push((offered.to_vec(), taken));
        }
    }

    #[test]
    fn a_witness_hears_once_of_each_offer_and_also_of_one_that_the_party_panics_over() {
        let witness = Listening::default();
        let offer = |bytes| Offer { witness: Some(&witness), bytes };
        offer(b"taken").answered(3, None);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _offer = offer(b"fatal");
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*witness.0.borrow(), [(b"taken".to_vec(), 3), (b"fatal".to_vec(), 0)]);
    }
}
