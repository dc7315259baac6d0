//! One connection through the proxy: what comes in at one end goes out at the other, in order, when the rules let it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::sockopt;

use super::strike::Rules;

/// What a flow holds at most; beyond it nothing more is read, so that who sends feels it.
const HELD_BYTES_MAX: usize = 64 << 10;

/// Reads and writes of a flow in one turn, so that no connection keeps the others waiting.
const OPERATIONS_PER_TURN: usize = 4;

/// How long what came before a reset may take to be passed on.
const FLUSH_WITHIN_NS: u64 = 1_000_000_000;

#[derive(Debug)]
struct Chunk {
    due_ns: u64,
    bytes: Vec<u8>,
    /// Bytes that have been written.
    at: usize,
}

/// One direction.
#[derive(Default, Debug)]
struct Flow {
    chunks: VecDeque<Chunk>,
    held_bytes: usize,
    /// When the end is to be passed on, once it has come.
    end_due_ns: Option<u64>,
    /// The end was passed on.
    ended: bool,
    last_due_ns: u64,
    next_write_ns: u64,
    /// The destination takes no more.
    blocked: bool,
}

impl Flow {
    fn wants_read(&self) -> bool {
        self.end_due_ns.is_none() && self.held_bytes < HELD_BYTES_MAX
    }

    /// When something is due; `None` when nothing is.
    fn due_ns(&self) -> Option<u64> {
        if self.blocked || self.ended {
            return None;
        }
        match self.chunks.front() {
            Some(chunk) => Some(chunk.due_ns.max(self.next_write_ns)),
            None => self.end_due_ns,
        }
    }

    fn push(&mut self, bytes: &[u8], due_ns: u64) {
        self.last_due_ns = self.last_due_ns.max(due_ns);
        self.held_bytes += bytes.len();
        self.chunks.push_back(Chunk { due_ns: self.last_due_ns, bytes: bytes.to_vec(), at: 0 });
    }
}

/// What a look at a crossing came to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It goes on.
    Going,
    /// Both ends are closed, or are to be.
    Over,
}

/// See the module. End 0 is the one that connected, end 1 the service.
#[derive(Debug)]
pub(super) struct Crossing {
    pub(super) serial: u64,
    /// Who connected, and what the service sees as who connected.
    pub(super) origins: [SocketAddr; 2],
    ends: [TcpStream; 2],
    /// By the end that they come from.
    flows: [Flow; 2],
    connected: bool,
    /// Silent until then, and then cut.
    pub(super) vanishes_at_ns: Option<u64>,
    /// This end has reset the connection; the other one hears of it by then.
    dead: Option<(usize, u64)>,
    /// Bytes passed on, in both directions.
    pub(super) passed_bytes: u64,
    /// Whether an end waited longer than the bytes before it, since somebody asked.
    pub(super) end_was_late: bool,
}

impl Crossing {
    pub(super) fn new(serial: u64, origins: [SocketAddr; 2], ends: [TcpStream; 2]) -> Crossing {
        Crossing {
            serial,
            origins,
            ends,
            flows: Default::default(),
            connected: false,
            vanishes_at_ns: None,
            dead: None,
            passed_bytes: 0,
            end_was_late: false,
        }
    }

    /// An end, to be polled.
    pub(super) fn end(&self, end: usize) -> &TcpStream {
        &self.ends[end]
    }

    /// What is to be waited for at `end`. Nothing there at all when the answer is empty: an end that has hung up would
    /// otherwise end every wait at once.
    pub(super) fn interest(&self, end: usize, rules: &Rules) -> PollFlags {
        let mut interest = PollFlags::empty();
        if self.vanishes_at_ns.is_some() {
            return interest;
        }
        if !self.connected {
            return if end == 1 { PollFlags::OUT } else { interest };
        }
        let reads = match self.dead {
            Some((dead, _)) => end != dead,
            None => !rules.stalled && self.flows[end].wants_read(),
        };
        interest.set(PollFlags::IN, reads);
        interest.set(PollFlags::OUT, self.flows[1 - end].blocked && !rules.stalled);
        interest
    }

    /// When there is something to do without an event; `None` when there is nothing.
    pub(super) fn due_ns(&self, rules: &Rules) -> Option<u64> {
        if let Some(at_ns) = self.vanishes_at_ns {
            return Some(at_ns);
        }
        if rules.stalled || !self.connected {
            return None;
        }
        let dead = self.dead.map(|(_, by_ns)| by_ns);
        self.flows.iter().filter_map(Flow::due_ns).chain(dead).min()
    }

    /// Takes what has come and passes on what is due.
    pub(super) fn turn(&mut self, now_ns: u64, rules: &Rules, ready: [PollFlags; 2]) -> Turn {
        if self.vanishes_at_ns.is_some() || (rules.stalled && self.dead.is_none()) {
            return Turn::Going;
        }
        if !self.connected {
            if ready[1].is_empty() {
                return Turn::Going;
            }
            if !matches!(self.ends[1].take_error(), Ok(None)) {
                self.reset();
                return Turn::Over;
            }
            self.connected = true;
        }
        for (end, ready) in ready.into_iter().enumerate() {
            if ready.contains(PollFlags::OUT) {
                self.flows[1 - end].blocked = false;
            }
            let reads = ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            if reads && self.dead.is_none() && self.read(end, now_ns, rules).is_err() {
                self.die(end, now_ns);
            }
        }
        if self.dead.is_none() {
            for from in [0, 1] {
                if self.dead.is_none()
                    && let Err(error) = self.write(from, now_ns, rules)
                {
                    let end = 1 - from;
                    let had_end = self.flows[end].end_due_ns.is_some();
                    // What it sent before it died is still to be passed on.
                    while self.read(end, now_ns, rules).is_ok_and(|more| more) {}
                    if !had_end && !ended_before_reset(&error) {
                        // The error was told once; a read then says end where there was none.
                        self.flows[end].end_due_ns = None;
                    }
                    self.die(end, now_ns);
                }
            }
        }
        if let Some((dead, by_ns)) = self.dead {
            return self.follow(dead, by_ns, now_ns);
        }
        match self.flows.iter().all(|flow| flow.ended) {
            true => Turn::Over,
            false => Turn::Going,
        }
    }

    /// Reads what has come to `end`; whether there may be more.
    fn read(&mut self, end: usize, now_ns: u64, rules: &Rules) -> std::io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..OPERATIONS_PER_TURN {
            let flow = &mut self.flows[end];
            if !flow.wants_read() {
                return Ok(false);
            }
            match self.ends[end].read(&mut buffer) {
                Ok(0) => {
                    self.end_was_late |= rules.end_delay_ns > 0;
                    flow.last_due_ns = flow.last_due_ns.max(now_ns + rules.delay_ns);
                    flow.end_due_ns = Some(flow.last_due_ns + rules.end_delay_ns);
                    return Ok(false);
                }
                Ok(length) => flow.push(&buffer[..length], now_ns + rules.delay_ns),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what came from `from` and is due.
    fn write(&mut self, from: usize, now_ns: u64, rules: &Rules) -> std::io::Result<()> {
        let flow = &mut self.flows[from];
        let mut to = &self.ends[1 - from];
        for _ in 0..OPERATIONS_PER_TURN {
            if flow.blocked || flow.ended || flow.due_ns().is_none_or(|due_ns| due_ns > now_ns) {
                return Ok(());
            }
            let Some(chunk) = flow.chunks.front_mut() else {
                to.shutdown(Shutdown::Write)?;
                flow.ended = true;
                return Ok(());
            };
            let mut bytes = &chunk.bytes[chunk.at..];
            if let Some(most) = rules.segment_bytes {
                bytes = &bytes[..bytes.len().min(most.max(1))];
            }
            if let Some(rate) = rules.rate_bytes_per_s {
                // In steps of about ten milliseconds.
                bytes = &bytes[..bytes.len().min((rate / 100).max(1) as usize)];
            }
            match to.write(bytes) {
                Ok(length) => {
                    self.passed_bytes += length as u64;
                    chunk.at += length;
                    flow.held_bytes -= length;
                    if chunk.at == chunk.bytes.len() {
                        flow.chunks.pop_front();
                    }
                    if let Some(rate) = rules.rate_bytes_per_s {
                        flow.next_write_ns = now_ns + length as u64 * 1_000_000_000 / rate.max(1);
                    }
                    if rules.segment_bytes.is_some() {
                        // The next one is another segment, which its reader may see alone.
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => flow.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `end` has reset the connection: what it sent is passed on, what was meant for it is lost.
    fn die(&mut self, end: usize, now_ns: u64) {
        self.dead = Some((end, now_ns + FLUSH_WITHIN_NS));
        self.flows[1 - end] = Flow::default();
    }

    /// After the death of an end: the other one gets the rest, and then a reset.
    fn follow(&mut self, dead: usize, by_ns: u64, now_ns: u64) -> Turn {
        let left = 1 - dead;
        let mut buffer = [0; 16 << 10];
        for _ in 0..OPERATIONS_PER_TURN {
            match self.ends[left].read(&mut buffer) {
                // It may wait for room to send before it takes any more.
                Ok(length) if length > 0 => {}
                _ => break,
            }
        }
        for chunk in &mut self.flows[dead].chunks {
            chunk.due_ns = 0;
        }
        self.flows[dead].next_write_ns = 0;
        let failed = self.write(dead, now_ns, &Rules::default()).is_err();
        if failed || self.flows[dead].chunks.is_empty() || now_ns >= by_ns {
            self.reset();
            return Turn::Over;
        }
        Turn::Going
    }

    /// The next close of either end is a reset.
    pub(super) fn reset(&self) {
        for end in &self.ends {
            // An end that is gone already needs none.
            let _ = sockopt::set_socket_linger(end, Some(Duration::ZERO));
        }
    }
}

/// Whether a write that failed says that an end had come before the reset. Linux has an error of its own for that;
/// elsewhere nothing is known, and a reset without the end is the careful answer: it never makes half a stream look whole.
fn ended_before_reset(error: &std::io::Error) -> bool {
    cfg!(target_os = "linux") && error.kind() == ErrorKind::BrokenPipe
}
