//! Carries out the calls of a script on one kernel, and says what each answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reactor::sys::{EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, SocketOption, Wait};

use super::call::{Call, Control, Slot, content};
use super::observation::Observation;
use crate::script::probe::{Answer, MessageFlags, PRI, PollEntry, Probe, WideOption};

/// How many descriptor numbers beyond the first free one a script can come to.
const RANKS: usize = 64;
/// More than any buffer holds: a fill that gets there is a bug.
const FILL_MAX: u64 = 64 << 20;
const CHUNK: usize = 16 << 10;

/// The numbers that new descriptors get, in order: what is compared is the place in this list, since a live process has
/// descriptors of its own.
#[derive(Clone, Debug)]
pub struct Ranks {
    numbers: Vec<i32>,
}

impl Ranks {
    /// Of a process whose open descriptors are the first ones.
    pub fn after(open: i32) -> Ranks {
        Ranks { numbers: (open..).take(RANKS).collect() }
    }

    /// Finds out by making descriptors and closing them.
    ///
    /// # Errors
    /// What the making of descriptors answers.
    pub fn measure(probe: &mut impl Probe) -> Answer<Ranks> {
        let mut numbers = Vec::with_capacity(RANKS);
        let mut open = Vec::with_capacity(RANKS);
        while numbers.len() < RANKS {
            let fd = probe.eventfd()?;
            numbers.push(fd.as_raw());
            open.push(fd);
        }
        for fd in open {
            probe.close(fd)?;
        }
        Ok(Ranks { numbers })
    }

    fn of(&self, fd: Fd) -> u32 {
        let place = self.numbers.iter().position(|&number| number == fd.as_raw());
        place.map_or(u32::MAX, |place| place as u32)
    }
}

/// One script under way on one kernel.
#[derive(Debug)]
pub struct Performer<'a, P: Probe> {
    probe: &'a mut P,
    /// The script's own address, in 127.0.0.0/8.
    host: Ipv4Addr,
    ranks: &'a Ranks,
    slots: [Option<Fd>; Slot::COUNT],
    addresses: [Option<SocketAddr>; Slot::COUNT],
    /// Every descriptor that was made and not closed.
    open: Vec<Fd>,
    buffer: Vec<u8>,
}

/// Every bit that a descriptor can report.
const FULL: u32 = EpollMask::IN.bits() | EpollMask::OUT.bits() | EpollMask::RDHUP.bits() | PRI;

impl<'a, P: Probe> Performer<'a, P> {
    /// Nothing done yet.
    pub fn new(probe: &'a mut P, host: Ipv4Addr, ranks: &'a Ranks) -> Performer<'a, P> {
        let (slots, addresses) = ([None; Slot::COUNT], [None; Slot::COUNT]);
        Performer { probe, host, ranks, slots, addresses, open: Vec::new(), buffer: vec![0; CHUNK * 4] }
    }

    /// Carries out one call.
    pub fn perform(&mut self, call: &Call) -> Observation {
        match self.attempt(call) {
            Ok(Some(observation)) => observation,
            Ok(None) => Observation::LeftOut,
            Err(error) => Observation::Failed(error),
        }
    }

    /// Closes what is left, by resets so that no port waits in TIME_WAIT (T6), and gives the limit back.
    pub fn tear_down(mut self) {
        let _ = self.probe.limit_descriptors(None);
        while let Some(fd) = self.open.pop() {
            let _ = self.probe.setsockopt(fd, SocketOption::ResetOnClose(true));
            let _ = self.probe.close(fd);
        }
    }

    fn bound(&mut self, to: Slot, fd: Fd) -> Observation {
        // An earlier tenant of the place stays open, without a name.
        self.slots[to.index()] = Some(fd);
        self.open.push(fd);
        Observation::Descriptors(vec![self.ranks.of(fd)])
    }

    fn bound_pair(&mut self, [one, other]: [Slot; 2], (a, b): (Fd, Fd)) -> Observation {
        self.bound(one, a);
        self.bound(other, b);
        Observation::Descriptors(vec![self.ranks.of(a), self.ranks.of(b)])
    }

    fn any_port(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.host), 0)
    }

    fn close(&mut self, at: Slot, fd: Fd) -> Answer<()> {
        self.slots[at.index()] = None;
        self.open.retain(|&other| other != fd);
        self.probe.close(fd)
    }

    /// Makes a call: `None` where a place that it needs is empty.
    fn attempt(&mut self, call: &Call) -> Answer<Option<Observation>> {
        macro_rules! at {
            ($slot:expr) => {
                match self.slots[$slot.index()] {
                    Some(fd) => fd,
                    None => return Ok(None),
                }
            };
        }
        let done = |()| Some(Observation::Done);
        let number = |number: usize| Some(Observation::Number(i64::try_from(number).unwrap_or(i64::MAX)));
        Ok(match *call {
            Call::Socket { to } => {
                let fd = self.probe.socket(Family::V4)?;
                Some(self.bound(to, fd))
            }
            Call::Listener { to, backlog } => {
                let fd = self.probe.socket(Family::V4)?;
                let observation = self.bound(to, fd);
                self.probe.bind(fd, &self.any_port())?;
                self.probe.listen(fd, backlog)?;
                self.addresses[to.index()] = self.probe.getsockname(fd).ok();
                Some(observation)
            }
            Call::DeadPort { to } => {
                let fd = self.probe.socket(Family::V4)?;
                let bound = self.probe.bind(fd, &self.any_port());
                self.addresses[to.index()] = self.probe.getsockname(fd).ok();
                self.probe.close(fd)?;
                bound.map(done)?
            }
            Call::Dup { from, to } => {
                let from = at!(from);
                let fd = self.probe.dup(from)?;
                Some(self.bound(to, fd))
            }
            Call::Dup2 { from, onto } => {
                let (from, onto) = (at!(from), at!(onto));
                let fd = self.probe.dup2(from, onto)?;
                Some(Observation::Descriptors(vec![self.ranks.of(fd)]))
            }
            Call::Close { at } => {
                let fd = at!(at);
                self.close(at, fd).map(done)?
            }
            Call::Reset { at } => {
                let fd = at!(at);
                self.probe.setsockopt(fd, SocketOption::ResetOnClose(true))?;
                self.close(at, fd).map(done)?
            }
            Call::Bind { at } => {
                let fd = at!(at);
                self.probe.bind(fd, &self.any_port()).map(done)?
            }
            Call::Listen { at, backlog } => {
                let fd = at!(at);
                self.probe.listen(fd, backlog)?;
                self.addresses[at.index()] = self.probe.getsockname(fd).ok();
                Some(Observation::Done)
            }
            Call::Connect { at, to } => {
                let fd = at!(at);
                let Some(address) = self.addresses[to.index()] else { return Ok(None) };
                self.probe.connect(fd, &address).map(done)?
            }
            Call::Disconnect { at } => {
                let fd = at!(at);
                self.probe.disconnect(fd).map(done)?
            }
            Call::Accept { at, to } => {
                let fd = at!(at);
                let accepted = self.probe.accept4(fd)?;
                Some(self.bound(to, accepted.fd))
            }
            Call::Name { at } => {
                let fd = at!(at);
                self.probe.getsockname(fd).map(|_| done(()))?
            }
            Call::Peer { at } => {
                let fd = at!(at);
                self.probe.getpeername(fd).map(|_| done(()))?
            }
            Call::Shutdown { at, how } => {
                let fd = at!(at);
                self.probe.shutdown_wide(fd, how).map(done)?
            }
            Call::Get { at, option } => {
                let fd = at!(at);
                Some(Observation::Number(self.probe.option(fd, option)?))
            }
            Call::Set { at, option, value } => {
                let fd = at!(at);
                self.set(fd, option, value).map(done)?
            }
            Call::Error { at } => {
                let fd = at!(at);
                Some(Observation::Pending(self.probe.take_socket_error(fd)?))
            }
            Call::Receive { at, length, peek } => {
                let fd = at!(at);
                if peek {
                    let bytes = self.probe.recv_wide(fd, length as usize, MessageFlags::PEEK)?;
                    return Ok(Some(Observation::Bytes(bytes)));
                }
                let count = self.probe.recv(fd, &mut self.buffer[..length as usize])?;
                Some(Observation::Bytes(self.buffer[..count].to_vec()))
            }
            Call::Send { at, length, exact } => {
                let fd = at!(at);
                let sent = self.probe.send(fd, &content(length))?;
                if exact { number(sent) } else { Some(some(sent as u64)) }
            }
            Call::SendSegments { at, segments, length } => {
                let fd = at!(at);
                self.probe.sendmsg_wide(fd, usize::from(segments), length as usize).map(number)?
            }
            Call::Fill { at } => {
                let fd = at!(at);
                Some(self.fill(fd)?)
            }
            Call::Drain { at, exact } => {
                let fd = at!(at);
                Some(self.drain(fd, exact))
            }
            Call::Eventfd { to, initial, semaphore } => {
                let fd = match (initial, semaphore) {
                    (0, false) => self.probe.eventfd()?,
                    _ => self.probe.eventfd_wide(initial, semaphore)?,
                };
                Some(self.bound(to, fd))
            }
            Call::ReadNumber { at } => {
                let fd = at!(at);
                let bytes = self.probe.read(fd, 8)?;
                match <[u8; 8]>::try_from(bytes) {
                    Ok(word) => Some(Observation::Number(i64::from_ne_bytes(word))),
                    // Not every descriptor counts.
                    Err(_) => Some(Observation::Done),
                }
            }
            Call::WriteNumber { at, number: word } => {
                let fd = at!(at);
                self.probe.write(fd, &word.to_ne_bytes()).map(number)?
            }
            Call::Pipe { reading, writing } => {
                let made = self.probe.pipe()?;
                Some(self.bound_pair([reading, writing], made))
            }
            Call::Pair { one, other } => {
                let made = self.probe.socketpair()?;
                Some(self.bound_pair([one, other], made))
            }
            Call::Read { at, length } => {
                let fd = at!(at);
                Some(Observation::Bytes(self.probe.read(fd, length as usize)?))
            }
            Call::Write { at, length } => {
                let fd = at!(at);
                self.probe.write(fd, &content(length)).map(number)?
            }
            Call::Timer { to } => {
                let fd = self.probe.timerfd()?;
                Some(self.bound(to, fd))
            }
            Call::Arm { at, first_ms, interval_ms } => {
                let fd = at!(at);
                let [first, interval] = [first_ms, interval_ms].map(|ms| i64::from(ms) * 1_000_000);
                self.probe.timerfd_set(fd, first, interval, false).map(done)?
            }
            Call::Epoll { to } => {
                let fd = self.probe.epoll_create1()?;
                Some(self.bound(to, fd))
            }
            Call::Control { epoll, operation, at, mask } => {
                let (epoll, fd) = (at!(epoll), at!(at));
                let operation = match operation {
                    Control::Add => EpollOperation::Add,
                    Control::Delete => EpollOperation::Delete,
                    Control::Modify => EpollOperation::Modify,
                };
                let mask = EpollMask::from_bits_retain(mask);
                self.probe.epoll_ctl(epoll, operation, fd, mask, u64::from(at.0)).map(done)?
            }
            Call::Wait { epoll, room, timeout_ms } => {
                let fd = at!(epoll);
                Some(self.wait(fd, room, timeout_ms)?)
            }
            Call::Bits { at } => {
                let fd = at!(at);
                Some(self.bits(at, fd)?)
            }
            Call::Poll { ref entries } => {
                let mut polled = Vec::with_capacity(entries.len());
                for &(slot, bits) in entries {
                    polled.push(PollEntry { fd: at!(slot).as_raw(), bits });
                }
                let found = self.probe.poll(&polled, 0)?;
                let events = entries.iter().zip(found).filter(|(_, found)| found.bits != 0);
                Some(Observation::Events(events.map(|(&(slot, _), found)| (slot, found.bits)).collect()))
            }
            Call::Limit { spare } => {
                let fd = self.probe.eventfd()?;
                self.probe.close(fd)?;
                let rank = self.ranks.of(fd) as usize + usize::from(spare);
                let limit = self.ranks.numbers.get(rank).copied().ok_or(Errno::EINVAL)?;
                let limit = usize::try_from(limit).map_err(|_| Errno::EINVAL)?;
                self.probe.limit_descriptors(Some(limit)).map(done)?
            }
            Call::Restore => self.probe.limit_descriptors(None).map(done)?,
            Call::Sleep { ms } => {
                self.probe.sleep(u64::from(ms) * 1_000_000);
                Some(Observation::Done)
            }
        })
    }

    fn set(&mut self, fd: Fd, option: WideOption, value: i64) -> Answer<()> {
        // Where the seam has the option, it is the seam's call that is compared.
        let bytes = u32::try_from(value).unwrap_or(0);
        match option {
            WideOption::NoDelay => self.probe.setsockopt(fd, SocketOption::NoDelay(value != 0)),
            WideOption::SendBuffer => self.probe.setsockopt(fd, SocketOption::SendBufferBytes(bytes)),
            WideOption::ReceiveBuffer => self.probe.setsockopt(fd, SocketOption::ReceiveBufferBytes(bytes)),
            WideOption::ReuseAddress => self.probe.setsockopt(fd, SocketOption::ReuseAddress(value != 0)),
            WideOption::ReusePort => self.probe.setsockopt(fd, SocketOption::ReusePort(value != 0)),
            WideOption::Linger => self.probe.setsockopt(fd, SocketOption::ResetOnClose(value == 0)),
            _ => self.probe.set_option(fd, option, value),
        }
    }

    fn fill(&mut self, fd: Fd) -> Answer<Observation> {
        let chunk = [b'x'; CHUNK];
        let mut sent = 0_u64;
        while sent < FILL_MAX {
            match self.probe.send(fd, &chunk) {
                Ok(count) => sent += count as u64,
                Err(Errno::EAGAIN) => return Ok(some(sent)),
                Err(error) if sent == 0 => return Err(error),
                Err(error) => return Ok(Observation::Drained { count: None, end: Some(error) }),
            }
        }
        Ok(Observation::Number(i64::MAX))
    }

    fn drain(&mut self, fd: Fd, exact: bool) -> Observation {
        let mut received = 0_u64;
        loop {
            let end = match self.probe.recv(fd, &mut self.buffer) {
                Ok(0) => None,
                Err(error) => Some(error),
                Ok(count) => {
                    received += count as u64;
                    continue;
                }
            };
            let count = if exact || received == 0 { Some(received) } else { None };
            return Observation::Drained { count, end };
        }
    }

    /// A wait that does not sleep is the seam's call; only the wide one returns in the simulated kernel when it has slept.
    fn wait(&mut self, epoll: Fd, room: u8, timeout_ms: u8) -> Answer<Observation> {
        if timeout_ms == 0 {
            return self.look(epoll, room);
        }
        let began = self.probe.clock_gettime();
        let events = self.probe.epoll_wait_wide(epoll, i32::from(room), i32::from(timeout_ms))?;
        let waited_ns = self.probe.clock_gettime().as_ns().saturating_sub(began.as_ns());
        if events.is_empty() && waited_ns < u64::from(timeout_ms) * 1_000_000 {
            return Ok(Observation::EmptyTooEarly);
        }
        Ok(events_of(events.into_iter()))
    }

    fn look(&mut self, epoll: Fd, room: u8) -> Answer<Observation> {
        let mut events = [EpollEvent::default(); u8::MAX as usize];
        match self.probe.epoll_wait(epoll, &mut events[..usize::from(room)], 0)? {
            Wait::Ready(count) => {
                Ok(events_of(events[..count].iter().map(|event| (event.events, event.data))))
            }
            Wait::Parked => Err(Errno::EAGAIN),
        }
    }

    fn bits(&mut self, at: Slot, fd: Fd) -> Answer<Observation> {
        let epoll = self.probe.epoll_create1()?;
        let mask = EpollMask::from_bits_retain(FULL);
        let added = self.probe.epoll_ctl(epoll, EpollOperation::Add, fd, mask, u64::from(at.0));
        let found = added.and_then(|()| self.look(epoll, 1));
        self.probe.close(epoll)?;
        found
    }
}

fn some(count: u64) -> Observation {
    if count == 0 { Observation::None } else { Observation::Some }
}

fn events_of(events: impl Iterator<Item = (u32, u64)>) -> Observation {
    Observation::Events(events.map(|(bits, data)| (Slot(data as u8), bits)).collect())
}
