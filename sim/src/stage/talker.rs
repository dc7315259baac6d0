//! The handler that holds a conversation.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Context, Handler, Origin, Token};

use super::conversation::{Conversation, Step};
use crate::oracle::Oracle;
use crate::workload::Breach;

/// Where connections may break, nobody waits longer than this for what a client that was cut off would have caused.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are shown of what was sent.
const SHOWN_MAX: usize = 60;

/// The timer of a step that pauses, and the one of a step that waits.
const PAUSE: u64 = 0;
const WAIT: u64 = 1;

/// How breaks of connections are judged, by all talkers of a stage alike.
#[derive(Clone, Debug)]
pub(super) struct Breaks {
    /// Whether the world may break a connection: then a break is nobody's fault.
    pub(super) are_legal: bool,
    /// Whether there was one.
    pub(super) seen: Rc<Cell<bool>>,
}

/// What became of the connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Line {
    /// Not yet asked for.
    Before,
    /// Asked for or open.
    Up,
    /// Gone, or never come to be.
    Gone,
}

/// A client that holds a [`Conversation`], and remembers what it was sent.
#[derive(Debug)]
pub struct Talker {
    name: String,
    address: SocketAddr,
    steps: VecDeque<Step>,
    breaks: Breaks,
    line: Line,
    token: Option<Token>,
    /// Everything that has come.
    received: Vec<u8>,
    /// How much of it the steps so far have taken.
    taken: usize,
    /// The peer has ended its side.
    ended: bool,
    /// A pause is running.
    pausing: bool,
    /// The timer of a step that waits.
    waiting: Option<TimerToken>,
    /// The conversation was given up half way, and that is nobody's fault.
    cut_off: bool,
    breach: Option<Breach>,
}

/// What became of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Progress {
    Done,
    Waits,
    Broken(String),
}

impl Talker {
    pub(super) fn new(
        name: &str,
        address: SocketAddr,
        conversation: &Conversation,
        breaks: Breaks,
    ) -> Talker {
        Talker {
            name: name.to_owned(),
            address,
            steps: conversation.steps.clone().into(),
            breaks,
            line: Line::Before,
            token: None,
            received: Vec::new(),
            taken: 0,
            ended: false,
            pausing: false,
            waiting: None,
            cut_off: false,
            breach: None,
        }
    }

    /// Everything that it was sent.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// The whole lines that it was sent, without their ends. What is no UTF-8 shows as U+FFFD.
    pub fn lines(&self) -> Vec<String> {
        let whole = self.received.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.received[..whole].split_inclusive(|&byte| byte == b'\n');
        lines.map(|line| text_of(&line[..line.len() - 1])).collect()
    }

    /// Whether the world broke its connection, or that of another client whose part it waited for in vain, so that it could
    /// not say and hear everything. Never where connections are whole.
    pub fn was_cut_off(&self) -> bool {
        self.cut_off
    }

    pub(super) fn begin(&mut self, ctx: &mut Context<'_>) {
        if let Some(Step::Pause(length)) = self.steps.front() {
            self.pausing = true;
            ctx.arm_timer(*length, PAUSE);
        } else {
            self.connect(ctx);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.line == Line::Gone
    }

    pub(super) fn missing(&self) -> String {
        let rest = &self.received[self.taken..];
        let so_far = if rest.is_empty() { "nothing".to_owned() } else { format!("\"{}\"", shown(rest)) };
        match self.steps.front() {
            None => "its connection does not close".to_owned(),
            Some(step) => format!("it waits for {}, and was sent {so_far}", wanted(step)),
        }
    }

    pub(super) fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn connect(&mut self, ctx: &mut Context<'_>) {
        match ctx.connect(self.address, 0) {
            Ok(token) => {
                self.line = Line::Up;
                self.token = Some(token);
            }
            Err(error) => self.lost(&format!("could not ask for a connection: {error}")),
        }
    }

    fn broken(&mut self, what: &str) {
        let details = format!("{} {what}", self.name);
        self.breach.get_or_insert(Breach::new(Oracle::Expectation.name(), details));
    }

    /// The connection is gone before its time.
    fn lost(&mut self, what: &str) {
        self.line = Line::Gone;
        if self.breaks.are_legal {
            self.breaks.seen.set(true);
            self.cut_off = true;
        } else {
            self.broken(what);
        }
    }

    /// Takes as many steps as can be taken now.
    fn advance(&mut self, ctx: &mut Context<'_>) {
        let Some(token) = self.token.filter(|_| self.line == Line::Up && self.breach.is_none()) else {
            return;
        };
        while !self.pausing {
            let Some(step) = self.steps.front() else { break };
            match self.take(ctx, token, &step.clone()) {
                Progress::Done => {
                    self.steps.pop_front();
                    if let Some(timer) = self.waiting.take() {
                        ctx.cancel_timer(timer);
                    }
                }
                Progress::Waits => {
                    if self.breaks.are_legal && !self.pausing {
                        self.wait(ctx, token);
                    }
                    return;
                }
                Progress::Broken(what) => return self.broken(&what),
            }
        }
        if self.steps.is_empty() {
            ctx.close(token);
        }
    }

    /// Where connections may break, nobody waits for ever.
    fn wait(&mut self, ctx: &mut Context<'_>, token: Token) {
        if self.ended {
            // Nothing more can come; on_close finds steps left.
            ctx.close(token);
        } else if self.waiting.is_none() {
            self.waiting = Some(ctx.arm_timer(PATIENCE, WAIT));
        }
    }

    fn take(&mut self, ctx: &mut Context<'_>, token: Token, step: &Step) -> Progress {
        let rest = &self.received[self.taken..];
        match step {
            Step::Send(bytes) => {
                // Refused only when the connection is going, which on_close tells next.
                let _ = ctx.write(token, bytes);
                Progress::Done
            }
            Step::Pause(length) => {
                self.pausing = true;
                ctx.arm_timer(*length, PAUSE);
                Progress::Waits
            }
            Step::End => {
                ctx.shutdown_write(token);
                Progress::Done
            }
            Step::Abort => {
                self.steps.truncate(1);
                ctx.abort(token);
                Progress::Done
            }
            Step::ExpectEnd if !rest.is_empty() => self.contradicted(step, rest.len()),
            Step::ExpectEnd if self.ended => Progress::Done,
            Step::Expect(bytes) => {
                let both = rest.len().min(bytes.len());
                if rest[..both] != bytes[..both] {
                    return self.contradicted(step, both);
                }
                if both < bytes.len() {
                    return self.unless_ended(step);
                }
                self.taken += both;
                Progress::Done
            }
            Step::ExpectEnd | Step::ExpectLine(_) | Step::SkipToLine(_) | Step::ExpectLinesInAnyOrder(_) => {
                self.take_line(step)
            }
        }
    }

    fn take_line(&mut self, step: &Step) -> Progress {
        let rest = &self.received[self.taken..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return self.unless_ended(step) };
        let line = text_of(&rest[..end]);
        let matched = match step {
            Step::ExpectLine(wanted) => line == *wanted,
            Step::SkipToLine(wanted) if line != *wanted => {
                self.taken += end + 1;
                return self.take_line(step);
            }
            Step::ExpectLinesInAnyOrder(left) => left.contains(&line),
            _ => true,
        };
        if !matched {
            return self.contradicted(step, end);
        }
        self.taken += end + 1;
        match self.steps.front_mut() {
            Some(Step::ExpectLinesInAnyOrder(left)) => {
                let place = left.iter().position(|wanted| *wanted == line).expect("it has just been found");
                left.remove(place);
                if left.is_empty() { Progress::Done } else { self.take_next_of_any_order() }
            }
            _ => Progress::Done,
        }
    }

    fn take_next_of_any_order(&mut self) -> Progress {
        let step = self.steps.front().cloned().expect("it is under way");
        self.take_line(&step)
    }

    /// A step that waits for more can do so until the peer has ended its side.
    fn unless_ended(&self, step: &Step) -> Progress {
        match self.ended && !self.breaks.are_legal {
            true => Progress::Broken(format!(
                "expected {}, and the stream ended: {}",
                wanted(step),
                self.last_words()
            )),
            false => Progress::Waits,
        }
    }

    fn contradicted(&self, step: &Step, length: usize) -> Progress {
        let rest = &self.received[self.taken..];
        Progress::Broken(format!("expected {}, and was sent \"{}\"", wanted(step), shown(&rest[..length])))
    }

    fn last_words(&self) -> String {
        let rest = &self.received[self.taken..];
        if rest.is_empty() { "nothing more came".to_owned() } else { format!("\"{}\" was left", shown(rest)) }
    }
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

fn shown(bytes: &[u8]) -> String {
    let more = if bytes.len() > SHOWN_MAX { "..." } else { "" };
    format!("{}{more}", bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii())
}

fn wanted(step: &Step) -> String {
    match step {
        Step::Send(_) => "room to send".to_owned(),
        Step::Expect(bytes) => format!("\"{}\"", shown(bytes)),
        Step::ExpectLine(line) | Step::SkipToLine(line) => {
            format!("the line \"{}\"", shown(line.as_bytes()))
        }
        Step::ExpectLinesInAnyOrder(lines) => {
            let lines: Vec<String> =
                lines.iter().map(|line| format!("\"{}\"", shown(line.as_bytes()))).collect();
            format!("one of the lines {}", lines.join(", "))
        }
        Step::ExpectEnd => "the end of the stream".to_owned(),
        Step::Pause(length) => format!("a pause of {length:?} to end"),
        Step::End | Step::Abort => "its own end".to_owned(),
    }
}

impl Handler for Talker {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, ctx: &mut Context<'_>, _: Token, _: Origin) {
        self.advance(ctx);
    }

    fn on_connect_failed(&mut self, _: &mut Context<'_>, _: Token, _: u64, error: Errno) {
        self.lost(&format!("could not connect: {error}"));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        self.received.extend_from_slice(bytes);
        self.advance(ctx);
        bytes.len()
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, _: Token, (): &mut (), _: usize) {
        self.ended = true;
        self.advance(ctx);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), reason: CloseReason) {
        self.line = Line::Gone;
        if !self.steps.is_empty() {
            let what =
                format!("lost its connection ({reason:?}) while it waited for {}", wanted(&self.steps[0]));
            self.lost(&what);
        }
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        if tag == PAUSE {
            self.pausing = false;
            self.steps.pop_front();
            if self.line == Line::Before {
                self.connect(ctx);
            } else {
                self.advance(ctx);
            }
            return;
        }
        self.waiting = None;
        let Some(token) = self.token else { return };
        if self.breaks.seen.get() {
            // Whoever was to cause it may be gone; on_close finds steps left, and counts as cut off.
            ctx.close(token);
        } else {
            self.waiting = Some(ctx.arm_timer(PATIENCE, WAIT));
        }
    }
}
