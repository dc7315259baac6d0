//! Random legal call sequences, from one lane of decisions: zeros make the shortest and plainest script.

use reactor::sys::EpollMask;

use super::call::{Call, Control, Slot};
use super::rules::{EVERYTHING, FLOOD_BYTES};
use super::sketch::{File, Kind, Sketch};
use crate::decision::{Decisions, Domain, Ratio, Site};
use crate::script::probe::{EXCLUSIVE, WideOption};

const IN: u32 = EpollMask::IN.bits();
const OUT: u32 = EpollMask::OUT.bits();
const RDHUP: u32 = EpollMask::RDHUP.bits();
const ET: u32 = EpollMask::ET.bits();
const ONESHOT: u32 = EpollMask::ONESHOT.bits();

/// Masks of registrations; the first is what the loop itself asks for.
const MASKS: [u32; 16] = [
    IN | OUT | RDHUP | ET,
    IN | RDHUP,
    IN,
    IN | ET,
    OUT,
    OUT | ET,
    IN | OUT | RDHUP,
    IN | OUT | RDHUP | ET | ONESHOT,
    IN | OUT,
    IN | ONESHOT,
    OUT | ONESHOT,
    IN | RDHUP | ET,
    IN | RDHUP | ONESHOT,
    RDHUP | ET,
    0,
    IN | EXCLUSIVE,
];

/// Buffers are asked for at this size: small enough to be filled quickly, large enough that small sends never meet
/// the kernel's own accounting of them (T54).
const BUFFER_BYTES: i64 = 32 << 10;

/// What a generated step may be, and how often.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Action {
    Wait,
    Send,
    Receive,
    Add,
    Modify,
    Delete,
    Drain,
    Fill,
    Flood,
    Shutdown,
    Close,
    Reset,
    Pair,
    Client,
    Accept,
    Socket,
    Listener,
    ConnectAgain,
    Listen,
    Disconnect,
    Error,
    Bits,
    Poll,
    Names,
    Options,
    Dup,
    Dup2,
    Eventfd,
    WriteNumber,
    ReadNumber,
    Epoll,
    Limit,
    Pipe,
    UnixPair,
    Timer,
    ReadWrite,
    Sleep,
}

const WEIGHTS: [(Action, u64); 37] = [
    (Action::Wait, 44),
    (Action::Send, 26),
    (Action::Receive, 20),
    (Action::Add, 18),
    (Action::Modify, 12),
    (Action::Delete, 5),
    (Action::Drain, 10),
    (Action::Fill, 6),
    (Action::Flood, 4),
    (Action::Shutdown, 10),
    (Action::Close, 9),
    (Action::Reset, 7),
    (Action::Pair, 8),
    (Action::Client, 8),
    (Action::Accept, 12),
    (Action::Socket, 4),
    (Action::Listener, 2),
    (Action::ConnectAgain, 8),
    (Action::Listen, 2),
    (Action::Disconnect, 2),
    (Action::Error, 8),
    (Action::Bits, 8),
    (Action::Poll, 4),
    (Action::Names, 4),
    (Action::Options, 4),
    (Action::Dup, 6),
    (Action::Dup2, 2),
    (Action::Eventfd, 3),
    (Action::WriteNumber, 7),
    (Action::ReadNumber, 5),
    (Action::Epoll, 2),
    (Action::Limit, 5),
    (Action::Pipe, 2),
    (Action::UnixPair, 2),
    (Action::Timer, 1),
    (Action::ReadWrite, 6),
    (Action::Sleep, 1),
];

/// The calls of one script.
pub fn generate(decisions: &mut Decisions) -> Vec<Call> {
    let mut generator = Generator { decisions, sketch: Sketch::new(), calls: Vec::new() };
    generator.begin();
    let steps = 3 + generator.draw("steps of a script", 38);
    for _ in 0..steps {
        generator.step();
    }
    generator.calls
}

struct Generator<'a> {
    decisions: &'a mut Decisions,
    sketch: Sketch,
    calls: Vec<Call>,
}

impl Generator<'_> {
    fn draw(&mut self, site: &'static str, bound: u64) -> u64 {
        self.decisions.draw(Domain::Workload, Site(site), 0, bound)
    }

    fn chance(&mut self, site: &'static str, numerator: u32, denominator: u32) -> bool {
        self.decisions.chance(Domain::Workload, Site(site), 0, Ratio::new(numerator, denominator))
    }

    fn pick<T: Copy>(&mut self, site: &'static str, list: &[T]) -> Option<T> {
        let which = self.draw(site, list.len() as u64);
        list.get(which as usize).copied()
    }

    /// One of the open places whose file is as asked.
    fn place(&mut self, suits: impl Fn(&File) -> bool) -> Option<Slot> {
        let places = self.sketch.places(suits);
        self.pick("which descriptor", &places)
    }

    fn kind(&mut self, kind: Kind) -> Option<Slot> {
        self.place(|file| file.kind == kind)
    }

    /// A socket that has been connected, with its file.
    fn stream(&mut self) -> Option<(Slot, usize)> {
        let at = self.place(|file| file.kind == Kind::Tcp && file.started)?;
        Some((at, self.sketch.file(at)?))
    }

    /// A script begins with an epoll set, and something to watch in it.
    fn begin(&mut self) {
        self.epoll();
        for _ in 0..=self.draw("pairs at the start", 4) {
            self.pair();
        }
        for _ in 0..self.draw("eventfds at the start", 3) {
            self.eventfd();
        }
        if self.chance("a listener at the start", 1, 4) {
            self.listener();
        }
        let all = self.sketch.places(|file| file.kind != Kind::Epoll);
        let batch = self.chance("everything watched at the start", 1, 2);
        for at in all {
            if batch || self.chance("watched at the start", 1, 3) {
                self.control(Control::Add, Some(at));
            }
        }
    }

    fn step(&mut self) {
        if self.sketch.is_limited() && self.chance("the limit rises", 1, 4) {
            self.push(Call::Restore);
            return;
        }
        let total: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.draw("what to do", total);
        let mut action = Action::Wait;
        for (candidate, weight) in WEIGHTS {
            if drawn < weight {
                action = candidate;
                break;
            }
            drawn -= weight;
        }
        if self.act(action).is_none() {
            // Nothing to do that with: look what there is.
            self.wait();
        }
    }

    fn act(&mut self, action: Action) -> Option<()> {
        match action {
            Action::Wait => self.wait(),
            Action::Send => self.send(),
            Action::Receive => self.receive(),
            Action::Add => self.control(Control::Add, None),
            Action::Modify => self.control(Control::Modify, None),
            Action::Delete => self.control(Control::Delete, None),
            Action::Drain => self.drain(),
            Action::Fill => self.fill(),
            Action::Flood => self.flood(),
            Action::Shutdown => self.shutdown(),
            Action::Close | Action::Reset => self.close(action == Action::Reset),
            Action::Pair => self.pair(),
            Action::Client => self.client(),
            Action::Accept => self.accept(),
            Action::Socket => self.socket().map(|_| ()),
            Action::Listener => self.listener().map(|_| ()),
            Action::ConnectAgain => self.connect_again(),
            Action::Listen => self.listen(),
            Action::Disconnect => self.disconnect(),
            Action::Error => self.on_socket(|at| Call::Error { at }),
            Action::Bits => self.bits(),
            Action::Poll => self.poll(),
            Action::Names => self.names(),
            Action::Options => self.options(),
            Action::Dup => self.dup(),
            Action::Dup2 => self.dup2(),
            Action::Eventfd => self.eventfd(),
            Action::WriteNumber => self.write_number(),
            Action::ReadNumber => {
                let at = self.kind(Kind::Eventfd)?;
                self.push(Call::ReadNumber { at })
            }
            Action::Epoll => self.epoll(),
            Action::Limit => self.limit(),
            Action::Pipe => self.pipe(),
            Action::UnixPair => self.unix_pair(),
            Action::Timer => self.timer(),
            Action::ReadWrite => self.read_write(),
            Action::Sleep => self.push(Call::Sleep { ms: 1 }),
        }
    }

    /// Adds a call, if the rules allow it.
    fn push(&mut self, call: Call) -> Option<()> {
        if !self.sketch.allows(&call) {
            return None;
        }
        self.sketch.apply(&call);
        self.calls.push(call);
        Some(())
    }

    fn on_socket(&mut self, call: impl Fn(Slot) -> Call) -> Option<()> {
        let at = self.place(|file| matches!(file.kind, Kind::Tcp | Kind::Listener))?;
        self.push(call(at))
    }

    fn wait(&mut self) -> Option<()> {
        let epoll = self.kind(Kind::Epoll)?;
        let room = self.pick("room of a wait", &[16, 16, 1, 2, 3, 8])?;
        let timeout_ms = if self.chance("a wait that may sleep", 1, 60) {
            1 + self.draw("timeout of a wait", 3) as u8
        } else {
            0
        };
        self.push(Call::Wait { epoll, room, timeout_ms })
    }

    fn send(&mut self) -> Option<()> {
        let (at, file) = self.stream()?;
        if self.sketch.is_flooded(file) {
            return self.drain_at(at);
        }
        let length = self.pick("bytes of a send", &[1, 3, 5, 100, 1000, 0])?;
        if self.sketch.files[file].filled {
            return self.push(Call::Send { at, length: 1, exact: false });
        }
        if self.chance("in segments", 1, 12) {
            return self.push(Call::SendSegments { at, segments: 2, length: length / 2 });
        }
        self.push(Call::Send { at, length, exact: true })
    }

    fn receive(&mut self) -> Option<()> {
        let (at, _) = self.stream()?;
        let length = self.pick("room of a recv", &[4_096, 1, 2, 16, 0])?;
        let peek = self.chance("a look ahead", 1, 8);
        self.push(Call::Receive { at, length, peek })?;
        if self.sketch.to_be_drained.is_some() {
            self.drain_at(at)?;
        }
        Some(())
    }

    fn drain(&mut self) -> Option<()> {
        // Rather one that has something to drain.
        let streams = self.sketch.places(|file| file.kind == Kind::Tcp && file.started);
        let is_flooded = |at: Slot| self.sketch.file(at).is_some_and(|file| self.sketch.is_flooded(file));
        let flooded: Vec<Slot> = streams.into_iter().filter(|&at| is_flooded(at)).collect();
        let at = match self.pick("what to drain", &flooded) {
            Some(at) => at,
            None => self.stream()?.0,
        };
        self.drain_at(at)
    }

    fn drain_at(&mut self, at: Slot) -> Option<()> {
        let file = self.sketch.file(at)?;
        let exact = !self.sketch.is_flooded(file);
        self.push(Call::Drain { at, exact })?;
        if self.sketch.to_be_acknowledged.is_some() {
            self.push(Call::Set { at, option: WideOption::QuickAck, value: 1 })?;
        }
        while let Some(&set) = self.sketch.to_be_harvested.last() {
            let sets = self.sketch.places(|file| file.kind == Kind::Epoll);
            let epoll = sets.into_iter().find(|&at| self.sketch.file(at) == Some(set))?;
            self.push(Call::Wait { epoll, room: EVERYTHING, timeout_ms: 0 })?;
        }
        Some(())
    }

    fn fill(&mut self) -> Option<()> {
        let at = self.fillable()?;
        self.push(Call::Fill { at })
    }

    fn fillable(&mut self) -> Option<Slot> {
        self.place(|file| file.peer.is_some() && !file.filled && file.has_small_buffers)
    }

    /// One send that is cut short. How much room is left afterwards is not compared, so the other end takes everything
    /// at once; what remains is the shortage, and the edge that it owes.
    fn flood(&mut self) -> Option<()> {
        let at = self.fillable()?;
        self.push(Call::Send { at, length: FLOOD_BYTES, exact: false })?;
        let receiver = self.sketch.to_be_drained?;
        let ends = self.sketch.places(|_| true);
        let end = ends.into_iter().find(|&end| self.sketch.file(end) == Some(receiver))?;
        self.drain_at(end)
    }

    fn shutdown(&mut self) -> Option<()> {
        let at = self.place(|file| matches!(file.kind, Kind::Tcp | Kind::Listener | Kind::Unix))?;
        let how = self.pick("how to shut down", &[1, 1, 1, 2, 0, 0, 9])?;
        self.push(Call::Shutdown { at, how })
    }

    fn close(&mut self, reset: bool) -> Option<()> {
        let at = self.place(|file| !reset || file.kind == Kind::Tcp)?;
        // The first set stays, so that there is something to wait for.
        if at == Slot(0) {
            return None;
        }
        self.push(if reset { Call::Reset { at } } else { Call::Close { at } })
    }

    fn listener(&mut self) -> Option<Slot> {
        let to = self.sketch.free_place()?;
        let backlog = self.pick("backlog", &[8, 8, 1, 0])?;
        self.push(Call::Listener { to, backlog })?;
        self.settings(to)?;
        Some(to)
    }

    /// What every connection has: no Nagle, whose delays are real time (T66), and buffers that are soon full.
    fn settings(&mut self, at: Slot) -> Option<()> {
        self.sketch.file(at)?;
        self.push(Call::Set { at, option: WideOption::NoDelay, value: 1 })?;
        self.push(Call::Set { at, option: WideOption::SendBuffer, value: BUFFER_BYTES })?;
        self.push(Call::Set { at, option: WideOption::ReceiveBuffer, value: BUFFER_BYTES })
    }

    fn socket(&mut self) -> Option<Slot> {
        let to = self.sketch.free_place()?;
        self.push(Call::Socket { to })?;
        self.settings(to)?;
        if self.chance("bound before it connects", 1, 10) {
            self.push(Call::Bind { at: to })?;
        }
        Some(to)
    }

    /// A listener that is open, or a new one.
    fn some_listener(&mut self) -> Option<Slot> {
        match self.kind(Kind::Listener) {
            Some(at) => Some(at),
            None => self.listener(),
        }
    }

    fn client(&mut self) -> Option<()> {
        let dead = self.chance("a dead port", 1, 5);
        let to = if dead {
            let to = self.sketch.free_place()?;
            self.push(Call::DeadPort { to })?;
            to
        } else {
            self.some_listener()?
        };
        let at = self.socket()?;
        if self.chance("watched before it connects", 1, 5) {
            self.control(Control::Add, Some(at));
        }
        if self.chance("shut down before it connects", 1, 25) {
            self.push(Call::Shutdown { at, how: 1 })?;
        }
        self.push(Call::Connect { at, to })
    }

    fn accept(&mut self) -> Option<()> {
        let waiting = self.place(|file| file.kind == Kind::Listener && !file.queue.is_empty());
        let at = match waiting {
            Some(at) => at,
            None => self.kind(Kind::Listener)?,
        };
        let to = self.sketch.free_place()?;
        self.push(Call::Accept { at, to })
    }

    fn pair(&mut self) -> Option<()> {
        let listener = self.some_listener()?;
        let client = self.socket()?;
        self.push(Call::Connect { at: client, to: listener })?;
        if self.chance("accepted later", 1, 6) {
            return Some(());
        }
        let to = self.sketch.free_place()?;
        self.push(Call::Accept { at: listener, to })
    }

    fn connect_again(&mut self) -> Option<()> {
        let at = self.place(|file| matches!(file.kind, Kind::Tcp | Kind::Listener))?;
        let targets: Vec<Slot> = self.sketch.targets.iter().map(|(slot, _)| *slot).collect();
        let to = self.pick("where to", &targets)?;
        self.push(Call::Connect { at, to })
    }

    fn listen(&mut self) -> Option<()> {
        let any = self.chance("whatever it is", 1, 3);
        let at = self.place(|file| {
            file.kind == Kind::Listener || (file.kind == Kind::Tcp && (any || !file.started))
        })?;
        let backlog = self.pick("backlog", &[8, 1, 0])?;
        self.push(Call::Listen { at, backlog })
    }

    fn disconnect(&mut self) -> Option<()> {
        let (at, _) = self.stream()?;
        self.push(Call::Disconnect { at })
    }

    fn bits(&mut self) -> Option<()> {
        let at = self.place(|file| file.kind != Kind::Epoll)?;
        self.push(Call::Bits { at })
    }

    fn poll(&mut self) -> Option<()> {
        let mut entries = Vec::new();
        for _ in 0..=self.draw("entries of a poll", 3) {
            let at = self.place(|file| file.kind != Kind::Epoll)?;
            let bits = self.pick("bits of an entry", &[IN | OUT, IN, OUT, IN | RDHUP])?;
            entries.push((at, bits));
        }
        self.push(Call::Poll { entries })
    }

    fn names(&mut self) -> Option<()> {
        let peer = self.chance("the peer's", 1, 2);
        self.on_socket(|at| if peer { Call::Peer { at } } else { Call::Name { at } })
    }

    fn options(&mut self) -> Option<()> {
        let option = self.pick("which option", &[WideOption::Listens, WideOption::Readable])?;
        let at = self.place(|file| matches!(file.kind, Kind::Tcp | Kind::Listener))?;
        self.push(Call::Get { at, option })
    }

    fn dup(&mut self) -> Option<()> {
        let from = self.place(|_| true)?;
        let to = self.sketch.free_place()?;
        self.push(Call::Dup { from, to })
    }

    fn dup2(&mut self) -> Option<()> {
        let from = self.place(|_| true)?;
        let onto = self.place(|file| file.kind != Kind::Epoll)?;
        if from == onto || onto == Slot(0) {
            return None;
        }
        self.push(Call::Dup2 { from, onto })
    }

    fn eventfd(&mut self) -> Option<()> {
        let to = self.sketch.free_place()?;
        let initial = self.pick("where a counter starts", &[0, 0, 1, 3])?;
        let semaphore = self.chance("a semaphore", 1, 6);
        self.push(Call::Eventfd { to, initial, semaphore })
    }

    fn write_number(&mut self) -> Option<()> {
        let at = self.kind(Kind::Eventfd)?;
        let number = self.pick("what is added", &[1, 1, 2, 0, -2, -1])?;
        self.push(Call::WriteNumber { at, number })
    }

    fn epoll(&mut self) -> Option<()> {
        let to = self.sketch.free_place()?;
        self.push(Call::Epoll { to })
    }

    fn control(&mut self, operation: Control, at: Option<Slot>) -> Option<()> {
        let epoll = self.kind(Kind::Epoll)?;
        let at = match at {
            Some(at) => at,
            // Sets in sets are few.
            None => match self.chance("a set in a set", 1, 40) {
                true => self.kind(Kind::Epoll)?,
                false => self.place(|file| file.kind != Kind::Epoll)?,
            },
        };
        let mask = if operation == Control::Delete { 0 } else { self.pick("mask", &MASKS)? };
        self.push(Call::Control { epoll, operation, at, mask })
    }

    fn limit(&mut self) -> Option<()> {
        if self.sketch.is_limited() {
            return None;
        }
        let spare = self.draw("descriptors that may still be made", 3) as u8;
        self.push(Call::Limit { spare })?;
        // What a limit is for.
        self.accept();
        Some(())
    }

    fn pipe(&mut self) -> Option<()> {
        let (reading, writing) = (self.sketch.free_place()?, self.sketch.free_place()?);
        self.push(Call::Pipe { reading, writing })
    }

    fn unix_pair(&mut self) -> Option<()> {
        let (one, other) = (self.sketch.free_place()?, self.sketch.free_place()?);
        self.push(Call::Pair { one, other })
    }

    fn timer(&mut self) -> Option<()> {
        let to = self.sketch.free_place()?;
        self.push(Call::Timer { to })?;
        self.control(Control::Add, Some(to));
        self.push(Call::Arm { at: to, first_ms: 1, interval_ms: 0 });
        if self.chance("it fires", 1, 2) {
            self.push(Call::Sleep { ms: 3 });
            if self.chance("it is read", 1, 2) {
                self.push(Call::ReadNumber { at: to });
            }
        } else {
            self.push(Call::Arm { at: to, first_ms: 0, interval_ms: 0 });
        }
        Some(())
    }

    /// Pipes and UNIX streams.
    fn read_write(&mut self) -> Option<()> {
        let write = self.chance("write", 1, 2);
        let wanted = if write { Kind::PipeWriter } else { Kind::PipeReader };
        let at = self.place(|file| file.kind == wanted || file.kind == Kind::Unix)?;
        if write {
            let length = self.pick("bytes of a write", &[1, 3, 100])?;
            return self.push(Call::Write { at, length });
        }
        let length = self.pick("room of a read", &[4_096, 1, 0])?;
        self.push(Call::Read { at, length })
    }
}
