//! Each verb as calls of a probe.

use std::net::SocketAddr;

use reactor::sys::{EpollMask, Errno, Fd, KeventFlags};

use super::{Bound, Driver, Event, Malformed, Value};
use crate::script::probe::{
    Answer, MessageFlags, PollEntry, Probe, SocketKind, WideKevent, WideNotes, WideOption,
};
use crate::script::step::{Argument, Call, Change};
use crate::script::verb::{OPTION_NAMES, Verb};

/// What `wait` has room for unless said.
const ROOM: i32 = 64;
const CHUNK: i64 = 65_536;
const FULL: u32 =
    EpollMask::IN.union(EpollMask::OUT).union(EpollMask::RDHUP).bits() | crate::script::probe::PRI;

const OPTIONS: [WideOption; OPTION_NAMES.len()] = [
    WideOption::SendBuffer,
    WideOption::ReceiveBuffer,
    WideOption::ReceiveLowWater,
    WideOption::SendLowWater,
    WideOption::NoDelay,
    WideOption::NotSentLowWater,
    WideOption::SynCount,
    WideOption::KeepAlive,
    WideOption::ReuseAddress,
    WideOption::ReusePort,
    WideOption::Linger,
    WideOption::Listens,
    WideOption::NonBlocking,
    WideOption::CloseOnExec,
    WideOption::Readable,
    WideOption::QuickAck,
];

fn option_named(argument: &Argument) -> Result<WideOption, Malformed> {
    let place = OPTION_NAMES.iter().position(|name| *argument == Argument::word(name));
    place.map(|place| OPTIONS[place]).ok_or_else(|| format!("{argument} is no option"))
}

impl<P: Probe> Driver<'_, P> {
    /// Makes the call; the outer error is about the script, the inner one is the call's answer.
    #[allow(clippy::too_many_lines, reason = "one arm for each verb, in the order of their table")]
    pub(super) fn carry_out(&mut self, call: &Call) -> Result<Answer<Value>, Malformed> {
        let given = |place: usize| call.arguments.get(place).unwrap_or(&Argument::Absent);
        let has_word = |word: &str| call.arguments.contains(&Argument::word(word));
        let first = given(0);
        let nothing = |answer: Answer<()>| answer.map(|()| Value::Nothing);
        let count = |answer: Answer<usize>| answer.map(|count| Value::Number(whole(count)));
        Ok(match call.verb {
            Verb::Socket => {
                let kind = if has_word("udp") {
                    SocketKind::Udp
                } else if has_word("unix") {
                    SocketKind::Unix
                } else {
                    SocketKind::Tcp
                };
                self.probe.socket_of(kind).map(Value::Descriptor)
            }
            Verb::Socketpair => self.probe.socketpair().map(|(one, two)| Value::Descriptors(one, two)),
            Verb::Dup => {
                let fd = self.descriptor(first)?;
                self.probe.dup(fd).map(Value::Descriptor)
            }
            Verb::Dup2 => {
                let (fd, onto) = (self.descriptor(first)?, self.descriptor(given(1))?);
                self.probe.dup2(fd, onto).map(Value::Descriptor)
            }
            Verb::Close => {
                let fd = self.descriptor(first)?;
                nothing(self.probe.close(fd))
            }
            Verb::NumberOf => Ok(Value::Number(i64::from(self.descriptor(first)?.as_raw()))),
            Verb::Limit => nothing(self.limit(first)?),
            Verb::Pair => {
                let sizes = [self.optional_number(given(0))?, self.optional_number(given(1))?];
                self.pair(sizes).map(|(client, server)| Value::Descriptors(client, server))
            }
            Verb::Listener => {
                let backlog = self.optional_number(first)?.unwrap_or(16);
                let backlog = i32::try_from(backlog).map_err(|_| "the backlog is out of range")?;
                self.listener(backlog).map(Value::Descriptor)
            }
            Verb::Client => {
                let fd = self.descriptor(first)?;
                self.client(fd).map(Value::Descriptor)
            }
            Verb::DeadPort => self.dead_port().map(Value::Address),
            Verb::Reset => {
                let fd = self.descriptor(first)?;
                let lingers = self.probe.set_option(fd, WideOption::Linger, 0);
                nothing(lingers.and_then(|()| self.probe.close(fd)))
            }
            Verb::Fill => {
                let fd = self.descriptor(first)?;
                let chunk = self.optional_number(given(1))?.unwrap_or(CHUNK);
                self.fill(fd, vec![b'f'; chunk_of(chunk)?])
            }
            Verb::Drain => {
                let fd = self.descriptor(first)?;
                let chunk = self.optional_number(given(1))?.unwrap_or(CHUNK);
                let chunk = chunk_of(chunk)?;
                let mut total = 0;
                while let Ok(bytes) = self.probe.recv_wide(fd, chunk, MessageFlags::DONTWAIT) {
                    if bytes.is_empty() {
                        break;
                    }
                    total += bytes.len();
                }
                count(Ok(total))
            }
            Verb::Bits => {
                let fd = self.descriptor(first)?;
                self.bits(fd)
            }
            Verb::Bind => {
                let (fd, address) = (self.descriptor(first)?, self.address(given(1))?);
                nothing(self.probe.bind(fd, &address))
            }
            Verb::BindMalformed => {
                let fd = self.descriptor(first)?;
                nothing(self.probe.bind_malformed(fd, has_word("family")))
            }
            Verb::Listen => {
                let (fd, backlog) = (self.descriptor(first)?, self.small(given(1))?);
                nothing(self.probe.listen_wide(fd, backlog))
            }
            Verb::Connect => {
                let (fd, address) = (self.descriptor(first)?, self.address(given(1))?);
                nothing(self.probe.connect(fd, &address))
            }
            Verb::Disconnect => {
                let fd = self.descriptor(first)?;
                nothing(self.probe.disconnect(fd))
            }
            Verb::Accept => {
                let fd = self.descriptor(first)?;
                let blocking = has_word("blocking");
                self.probe.accept_wide(fd, !blocking, has_word("bad_flags")).map(Value::Descriptor)
            }
            Verb::Name => {
                let fd = self.descriptor(first)?;
                self.probe.getsockname(fd).map(Value::Address)
            }
            Verb::Peer => {
                let fd = self.descriptor(first)?;
                self.probe.getpeername(fd).map(Value::Address)
            }
            Verb::Shutdown => {
                let fd = self.descriptor(first)?;
                let how = match given(1) {
                    Argument::Word(word) => match word.as_str() {
                        "rd" => 0,
                        "wr" => 1,
                        "rdwr" => 2,
                        other => {
                            other.parse().map_err(|_| format!("{other:?}: write rd, wr, rdwr or a number"))?
                        }
                    },
                    other => return Err(format!("{other}: write rd, wr, rdwr or a number")),
                };
                nothing(self.probe.shutdown_wide(fd, how))
            }
            Verb::Get => {
                let (fd, option) = (self.descriptor(first)?, option_named(given(1))?);
                self.probe.option(fd, option).map(Value::Number)
            }
            Verb::Set => {
                let (fd, option) = (self.descriptor(first)?, option_named(given(1))?);
                let value = self.number(given(2))?;
                nothing(self.probe.set_option(fd, option, value))
            }
            Verb::Error => {
                let fd = self.descriptor(first)?;
                let error = self.probe.take_socket_error(fd);
                error.map(|error| Value::Word(error.map_or("none", Errno::name).to_owned()))
            }
            Verb::Recv => {
                let (fd, length) = (self.descriptor(first)?, self.amount(given(1))?);
                let mut flags = MessageFlags::empty();
                flags.set(MessageFlags::PEEK, has_word("peek"));
                flags.set(MessageFlags::WAITALL, has_word("waitall"));
                flags.set(MessageFlags::DONTWAIT, has_word("dontwait"));
                self.probe.recv_wide(fd, length, flags).map(Value::Bytes)
            }
            Verb::Send => {
                let (fd, bytes) = (self.descriptor(first)?, Self::bytes(given(1))?);
                let mut flags = MessageFlags::empty();
                flags.set(MessageFlags::NOSIGNAL, !has_word("signal"));
                flags.set(MessageFlags::DONTWAIT, has_word("dontwait"));
                count(self.probe.send_wide(fd, &bytes, flags))
            }
            Verb::SendTo => {
                let (fd, bytes) = (self.descriptor(first)?, Self::bytes(given(1))?);
                let address = self.address(given(2))?;
                count(self.probe.send_to(fd, &bytes, &address))
            }
            Verb::Read => {
                let (fd, length) = (self.descriptor(first)?, self.amount(given(1))?);
                self.probe.read(fd, length).map(Value::Bytes)
            }
            Verb::Write => {
                let (fd, bytes) = (self.descriptor(first)?, Self::bytes(given(1))?);
                count(self.probe.write(fd, &bytes))
            }
            Verb::Writev => {
                let (fd, segments) = (self.descriptor(first)?, self.small(given(1))?);
                let length = self.amount(given(2))?;
                count(self.probe.writev(fd, segments, length))
            }
            Verb::Sendmsg => {
                let (fd, segments) = (self.descriptor(first)?, self.small(given(1))?);
                let length = self.amount(given(2))?;
                count(self.probe.sendmsg_wide(fd, segments, length))
            }
            Verb::SendDescriptor => {
                let (fd, passed) = (self.descriptor(first)?, self.descriptor(given(1))?);
                nothing(self.probe.send_descriptor(fd, passed))
            }
            Verb::ReceiveDescriptor => {
                let fd = self.descriptor(first)?;
                self.probe.receive_descriptor(fd).map(Value::Descriptor)
            }
            Verb::PipeSignals => Ok(Value::Number(self.probe.pipe_signals().cast_signed())),
            Verb::Raise => nothing(self.probe.raise_ignored()),
            Verb::Alarm => {
                let after_ns = u64::try_from(time(first)?).map_err(|_| "an alarm is not in the past")?;
                nothing(self.probe.set_alarm(after_ns))
            }
            Verb::Eventfd => {
                let initial = self.optional_number(first)?.unwrap_or(0);
                let initial = u32::try_from(initial).map_err(|_| "the counter is out of range")?;
                self.probe.eventfd_wide(initial, has_word("semaphore")).map(Value::Descriptor)
            }
            Verb::ReadNumber => {
                let fd = self.descriptor(first)?;
                self.probe.read(fd, 8).map(|bytes| {
                    let mut word = [0; 8];
                    let length = bytes.len().min(8);
                    word[..length].copy_from_slice(&bytes[..length]);
                    Value::Number(u64::from_le_bytes(word).cast_signed())
                })
            }
            Verb::WriteNumber => {
                let (fd, number) = (self.descriptor(first)?, self.number(given(1))?);
                count(self.probe.write(fd, &number.to_le_bytes()))
            }
            Verb::Pipe => self.probe.pipe().map(|(reader, writer)| Value::Descriptors(reader, writer)),
            Verb::Timerfd => self.probe.timerfd().map(Value::Descriptor),
            Verb::Arm => {
                let fd = self.descriptor(first)?;
                let (value_ns, interval_ns) = (time(given(1))?, time(given(2))?);
                nothing(self.probe.timerfd_set(fd, value_ns, interval_ns, has_word("absolute")))
            }
            Verb::Left | Verb::Interval => {
                let fd = self.descriptor(first)?;
                let left = call.verb == Verb::Left;
                self.probe.timerfd_get(fd).map(|(value_ns, interval_ns)| {
                    Value::Number(if left { value_ns } else { interval_ns }.cast_signed())
                })
            }
            Verb::File => {
                let bytes = Self::bytes(first)?;
                self.probe.file(&bytes).map(Value::Descriptor)
            }
            Verb::Seek => {
                let (fd, offset) = (self.descriptor(first)?, self.small(given(1))?);
                self.probe.seek(fd, offset).map(|offset| Value::Number(offset.cast_signed()))
            }
            Verb::Sendfile => {
                let (to, from) = (self.descriptor(first)?, self.descriptor(given(1))?);
                let length = self.amount(given(2))?;
                count(self.probe.sendfile(to, from, length))
            }
            Verb::Epoll => self.probe.epoll_create_wide(None, 0).map(Value::Descriptor),
            Verb::EpollCreate => {
                let size = self.small(first)?;
                self.probe.epoll_create_wide(Some(size), 0).map(Value::Descriptor)
            }
            Verb::EpollCreate1 => {
                let flags = self.small(first)?;
                self.probe.epoll_create_wide(None, flags).map(Value::Descriptor)
            }
            Verb::Add | Verb::Mod => {
                let (epoll, fd) = (self.descriptor(first)?, self.descriptor(given(1))?);
                let Argument::Mask(mask) = *given(2) else { return Err("a mask is missing".to_owned()) };
                let data = self.data_of(given(1), call.arguments.get(3))?;
                let operation = if call.verb == Verb::Add { 1 } else { 3 };
                nothing(self.probe.epoll_ctl_wide(epoll, operation, fd, Some((mask, data))))
            }
            Verb::Del => {
                let (epoll, fd) = (self.descriptor(first)?, self.descriptor(given(1))?);
                nothing(self.probe.epoll_ctl_wide(epoll, 2, fd, None))
            }
            Verb::Control => {
                let (epoll, operation) = (self.descriptor(first)?, self.small(given(1))?);
                let fd = self.descriptor(given(2))?;
                let event = match given(3) {
                    Argument::Mask(mask) => Some((*mask, self.data_of(given(2), None)?)),
                    _ => None,
                };
                nothing(self.probe.epoll_ctl_wide(epoll, operation, fd, event))
            }
            Verb::Wait => {
                let epoll = self.descriptor(first)?;
                let (room, timeout_ms) = (self.room(given(1), ROOM)?, milliseconds(given(2), 0)?);
                let answer = self.probe.epoll_wait_wide(epoll, room, timeout_ms);
                self.epoll_events(answer)
            }
            Verb::Pwait2 => {
                let (epoll, room) = (self.descriptor(first)?, self.small(given(1))?);
                let timeout = Some((self.number(given(2))?, self.number(given(3))?));
                let answer = self.probe.epoll_pwait2(epoll, room, timeout);
                self.epoll_events(answer)
            }
            Verb::Poll => {
                let Argument::Entries(entries) = first else { return Err("entries are missing".to_owned()) };
                let timeout_ms = milliseconds(given(1), 0)?;
                let asked: Vec<PollEntry> = entries
                    .iter()
                    .map(|(fd, bits)| Ok(PollEntry { fd: self.descriptor(fd)?.as_raw(), bits: *bits }))
                    .collect::<Result<_, Malformed>>()?;
                self.probe.poll(&asked, timeout_ms).map(|found| {
                    let named = entries.iter().zip(found).filter(|(_, found)| found.bits != 0);
                    Value::Events(
                        named.map(|((fd, _), found)| (fd.to_string(), Event::Bits(found.bits))).collect(),
                    )
                })
            }
            Verb::Select => self.select([given(0), given(1), given(2)], given(3))?,
            Verb::Kqueue => self.probe.kqueue().map(Value::Descriptor),
            Verb::Kevent => {
                let kqueue = self.descriptor(first)?;
                let Argument::Changes(changes) = given(1) else {
                    return Err("a change list is missing".to_owned());
                };
                let changes =
                    changes.iter().map(|change| self.change(change)).collect::<Result<Vec<_>, _>>()?;
                let (room, timeout) = (self.room(given(2), 0)?, timespec(given(3))?);
                let answer = self.probe.kevent_wide(kqueue, &changes, room, timeout);
                self.kevents(answer)
            }
            Verb::Kwait => {
                let kqueue = self.descriptor(first)?;
                let (room, timeout) = (self.room(given(1), ROOM)?, timespec(given(2))?);
                if room > KEVENT_ROOM_MAX {
                    return Err("room for at most a million events".to_owned());
                }
                let answer = self.probe.kevent_wide(kqueue, &[], room, timeout);
                self.kevents(answer)
            }
            Verb::StartWait => {
                let set = self.descriptor(first)?;
                let (room, timeout_ms) = (self.room(given(1), ROOM)?, milliseconds(given(2), -1)?);
                self.probe.start_wait(set, room, timeout_ms).map(|ticket| {
                    self.tickets += 1;
                    // Bound to its name right after this.
                    self.names.insert(String::new(), Bound::Ticket { set, ticket: Some(ticket) });
                    Value::Ticket(self.tickets)
                })
            }
            Verb::Over => {
                let (_, ticket) = self.ticket(first)?;
                let over = self.probe.is_over(&ticket);
                self.put_back(first, ticket);
                Ok(Value::Number(i64::from(over)))
            }
            Verb::Finish => {
                let (set, ticket) = self.ticket(first)?;
                let kqueue = self.probe.readiness() == reactor::sys::Readiness::Kqueue || self.is_kqueue(set);
                if kqueue {
                    let answer = self.probe.finish_kevent(ticket);
                    self.kevents(answer)
                } else {
                    let answer = self.probe.finish_wait(ticket);
                    self.epoll_events(answer)
                }
            }
            Verb::Interrupt => {
                let (_, ticket) = self.ticket(first)?;
                let answer = self.probe.interrupt(&ticket);
                self.put_back(first, ticket);
                nothing(answer)
            }
            Verb::Clock => Ok(Value::Number(self.probe.clock_gettime().as_ns().cast_signed())),
            Verb::Ports => {
                let (low, high) = (self.small(first)?, self.small(given(1))?);
                nothing(self.probe.set_ports(low, high))
            }
            Verb::Loopback => nothing(self.probe.set_loopback(has_word("up"))),
            Verb::Sleep => {
                let ns = u64::try_from(time(first)?).map_err(|_| "a time that is not negative")?;
                self.probe.sleep(ns);
                Ok(Value::Nothing)
            }
        })
    }

    fn optional_number(&self, argument: &Argument) -> Result<Option<i64>, Malformed> {
        if *argument == Argument::Absent { Ok(None) } else { self.number(argument).map(Some) }
    }

    fn room(&self, argument: &Argument, default: i32) -> Result<i32, Malformed> {
        if *argument == Argument::Absent { Ok(default) } else { self.small(argument) }
    }

    /// Takes the wait out of its name, since the end of a wait consumes it.
    fn ticket(&mut self, argument: &Argument) -> Result<(Fd, crate::script::probe::Ticket), Malformed> {
        let name = argument.to_string();
        match self.names.get_mut(&name) {
            Some(Bound::Ticket { set, ticket }) => {
                let ticket = ticket.take().ok_or_else(|| format!("{name} has ended already"))?;
                Ok((*set, ticket))
            }
            _ => Err(format!("{name} is no wait")),
        }
    }

    fn put_back(&mut self, argument: &Argument, back: crate::script::probe::Ticket) {
        if let Some(Bound::Ticket { ticket, .. }) = self.names.get_mut(&argument.to_string()) {
            *ticket = Some(back);
        }
    }

    /// Whether the set is a kqueue on a system that has both (Linux with libkqueue).
    fn is_kqueue(&mut self, set: Fd) -> bool {
        self.probe.kevent_wide(set, &[], 0, Some((0, 0))).is_ok()
    }

    /// The limit counts from the lowest free number, which a new socket shows.
    fn limit(&mut self, argument: &Argument) -> Result<Answer<()>, Malformed> {
        let Argument::Word(word) = argument else {
            return Err(format!("{argument}: write here, +n or restore"));
        };
        if word == "restore" {
            return Ok(self.probe.limit_descriptors(None));
        }
        let more: usize = match word.strip_prefix('+') {
            Some(more) => more.parse().map_err(|_| format!("{word:?}: write here, +n or restore"))?,
            None if word == "here" => 0,
            None => return Err(format!("{word:?}: write here, +n or restore")),
        };
        Ok(self.probe.socket_of(SocketKind::Tcp).and_then(|fd| {
            self.probe.close(fd)?;
            let lowest = usize::try_from(fd.as_raw()).map_err(|_| Errno::EBADF)?;
            self.probe.limit_descriptors(Some(lowest + more))
        }))
    }

    fn listener(&mut self, backlog: i32) -> Answer<Fd> {
        let fd = self.probe.socket_of(SocketKind::Tcp)?;
        self.probe.bind(fd, &SocketAddr::from((self.host, 0)))?;
        self.probe.listen_wide(fd, backlog)?;
        Ok(fd)
    }

    fn client(&mut self, listener: Fd) -> Answer<Fd> {
        let address = self.probe.getsockname(listener)?;
        let fd = self.probe.socket_of(SocketKind::Tcp)?;
        match self.probe.connect(fd, &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
            Err(error) => Err(error),
        }
    }

    fn pair(&mut self, [send_bytes, receive_bytes]: [Option<i64>; 2]) -> Answer<(Fd, Fd)> {
        let listener = self.probe.socket_of(SocketKind::Tcp)?;
        let client = self.probe.socket_of(SocketKind::Tcp)?;
        for fd in [listener, client] {
            // An accepted socket inherits both from its listener.
            if let Some(bytes) = send_bytes {
                self.probe.set_option(fd, WideOption::SendBuffer, bytes)?;
            }
            if let Some(bytes) = receive_bytes {
                self.probe.set_option(fd, WideOption::ReceiveBuffer, bytes)?;
            }
        }
        self.probe.bind(listener, &SocketAddr::from((self.host, 0)))?;
        self.probe.listen_wide(listener, 1)?;
        let address = self.probe.getsockname(listener)?;
        match self.probe.connect(client, &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let server = self.probe.accept_wide(listener, true, false)?;
        self.probe.close(listener)?;
        Ok((client, server))
    }

    fn dead_port(&mut self) -> Answer<SocketAddr> {
        let fd = self.probe.socket_of(SocketKind::Tcp)?;
        self.probe.bind(fd, &SocketAddr::from((self.host, 0)))?;
        let address = self.probe.getsockname(fd)?;
        self.probe.close(fd)?;
        Ok(address)
    }

    fn fill(&mut self, fd: Fd, chunk: Vec<u8>) -> Answer<Value> {
        let mut total = 0_i64;
        loop {
            match self.probe.send_wide(fd, &chunk, MessageFlags::NOSIGNAL | MessageFlags::DONTWAIT) {
                Ok(count) => total += whole(count),
                Err(Errno::EAGAIN) => return Ok(Value::Number(total)),
                Err(error) => return Err(error),
            }
        }
    }

    fn bits(&mut self, fd: Fd) -> Answer<Value> {
        let epoll = self.probe.epoll_create_wide(None, 0)?;
        let added = self.probe.epoll_ctl_wide(epoll, 1, fd, Some((FULL, 0)));
        let events = added.and_then(|()| self.probe.epoll_wait_wide(epoll, 1, 0));
        self.probe.close(epoll)?;
        events.map(|events| Value::Mask(events.first().map_or(0, |event| event.0)))
    }

    fn epoll_events(&self, answer: Answer<Vec<(u32, u64)>>) -> Answer<Value> {
        answer.map(|events| {
            let named = events.into_iter().map(|(bits, data)| (self.name_of(data), Event::Bits(bits)));
            Value::Events(named.collect())
        })
    }

    fn select(&mut self, sets: [&Argument; 3], timeout: &Argument) -> Result<Answer<Value>, Malformed> {
        let timeout_ms = milliseconds(timeout, 0)?;
        let mut named: [Vec<(String, Fd)>; 3] = Default::default();
        for (named, set) in named.iter_mut().zip(sets) {
            let Argument::Descriptors(names) = set else { return Err("a list is missing".to_owned()) };
            for name in names {
                named.push((name.to_string(), self.descriptor(name)?));
            }
        }
        let fds = named.each_ref().map(|set| set.iter().map(|(_, fd)| *fd).collect::<Vec<_>>());
        let answer = self.probe.select([&fds[0], &fds[1], &fds[2]], timeout_ms);
        Ok(answer.map(|left| {
            let mut events = Vec::new();
            for ((side, named), left) in ['r', 'w', 'x'].into_iter().zip(&named).zip(left) {
                let still = named.iter().filter(|(_, fd)| left.contains(fd));
                events.extend(still.map(|(name, _)| (name.clone(), Event::Side(side))));
            }
            Value::Events(events)
        }))
    }

    fn change(&mut self, change: &Change) -> Result<WideKevent, Malformed> {
        let ident = match &change.ident {
            Argument::Number(number) => number.cast_unsigned(),
            // Sign-extended, as a C caller's -1 is.
            named => i64::from(self.descriptor(named)?.as_raw()).cast_unsigned(),
        };
        self.ident_names.insert(ident, change.ident.to_string());
        Ok(WideKevent {
            ident,
            filter: change.filter,
            flags: change.flags,
            notes: change.notes,
            eof_error: None,
            change_error: None,
            data: change.data,
            udata: change.udata,
        })
    }

    fn kevents(&self, answer: Answer<Vec<WideKevent>>) -> Answer<Value> {
        answer.map(|events| {
            let named = events.into_iter().map(|event| {
                let name = self.ident_names.get(&event.ident);
                let name = name.cloned().unwrap_or_else(|| event.ident.to_string());
                let what = if event.flags.contains(KeventFlags::ERROR) {
                    let flags = event.flags - KeventFlags::ERROR;
                    Event::Receipt { error: event.change_error, flags }
                } else {
                    Event::Knote {
                        filter: event.filter,
                        data: event.data,
                        udata: event.udata,
                        fflags: (event.notes & WideNotes::USER_BITS).bits(),
                        flags: event.flags - KeventFlags::EOF,
                        eof: event.flags.contains(KeventFlags::EOF),
                        error: event.eof_error,
                    }
                };
                (name, what)
            });
            Value::Events(named.collect())
        })
    }
}

/// A count as the number of a script.
fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn time(argument: &Argument) -> Result<i64, Malformed> {
    match argument {
        Argument::Time(Some(ns)) => Ok(*ns),
        other => Err(format!("{other} is no time")),
    }
}

/// A timeout in milliseconds; -1 for ever.
fn milliseconds(argument: &Argument, default: i32) -> Result<i32, Malformed> {
    match argument {
        Argument::Absent => Ok(default),
        Argument::Time(None) => Ok(-1),
        Argument::Time(Some(ns)) if ns % 1_000_000 == 0 => {
            i32::try_from(ns / 1_000_000).map_err(|_| format!("{argument} is out of range"))
        }
        other => Err(format!("{other}: this call takes whole milliseconds")),
    }
}

/// A timeout of kevent: seconds and nanoseconds; `None` for ever, and no time at all unless said.
fn timespec(argument: &Argument) -> Result<Option<(i64, i64)>, Malformed> {
    match argument {
        Argument::Absent => Ok(Some((0, 0))),
        Argument::Time(None) => Ok(None),
        Argument::Time(Some(ns)) => Ok(Some((ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000)))),
        other => Err(format!("{other} is no time")),
    }
}

/// Events that a script asks kevent(2) for at most: memory is taken for each.
const KEVENT_ROOM_MAX: i32 = 1_000_000;

/// The size of the pieces in which a step fills or drains.
fn chunk_of(number: i64) -> Result<usize, Malformed> {
    usize::try_from(number)
        .ok()
        .filter(|&chunk| (1..=super::AMOUNT_MAX).contains(&chunk))
        .ok_or_else(|| "a piece has 1 to 64M bytes".to_owned())
}
