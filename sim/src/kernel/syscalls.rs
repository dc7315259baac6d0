//! The seam, call by call: time is brought up to the caller's, the call is carried out and charged, the trace gets its
//! word.

use std::cell::{Cell, RefMut};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use reactor::sys::{
    Accepted, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Kevent, Readiness, Shutdown,
    SocketOption, Syscalls, Wait, Wake, WakeTarget,
};
use reactor::time::Instant;

use super::epoll::{control, wait_arguments};
use super::kqueue::entry::Entry;
use super::{Kernel, cost};
use crate::schedule::ThreadId;
use crate::trace::{CallKind, CallRecord, Outcome, Word, word_of_address};
use crate::world::{SharedWorld, World};

/// What a call unwinds with when the process dies in the middle of it: such a call never returns. Whoever drives a
/// thread that may be killed catches this at the end of its turn.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Killed;

/// What ended a time that a script's blocking call has let pass.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Passed {
    /// Something has happened.
    Event,
    /// The signal came that the script has ordered.
    Alarm,
    /// Nothing is ever going to happen.
    Nothing,
}

/// The answer to a call of a process that is dead, made while its loop is dropped. Nobody acts on it, and no trace shows it.
const DEAD: Errno = Errno::EBADF;

/// One thread's view of the world: the calls that it can make.
///
/// Once its process has been killed, every call is refused without a trace: a loop that is dropped then leaves no mark.
#[derive(Clone, Debug)]
pub struct SimSyscalls {
    world: SharedWorld,
    thread: ThreadId,
    kernel: Kernel,
    /// Whether the process has been killed.
    dead: Rc<Cell<bool>>,
    /// Whether decisions say how long its calls take: see [`crate::import`].
    imposed: bool,
}

impl SimSyscalls {
    pub(crate) fn new(
        world: SharedWorld,
        thread: ThreadId,
        kernel: Kernel,
        dead: Rc<Cell<bool>>,
        imposed: bool,
    ) -> SimSyscalls {
        SimSyscalls { world, thread, kernel, dead, imposed }
    }

    /// The thread that makes these calls.
    pub fn thread(&self) -> ThreadId {
        self.thread
    }

    /// The world it lives in.
    pub fn world(&self) -> &SharedWorld {
        &self.world
    }

    /// Carries out one call that does not sleep.
    #[inline]
    pub(crate) fn call<R>(
        &mut self,
        call: CallKind,
        fd: i32,
        arguments: [u64; 2],
        carry_out: impl FnOnce(&mut World, u32) -> Result<R, Errno>,
        value: impl FnOnce(&R) -> u64,
    ) -> Result<R, Errno> {
        if self.dead.get() {
            return Err(DEAD);
        }
        if self.imposed {
            self.pass_imposed_time(false);
        }
        let mut world = self.enter();
        let (began, steps) = (world.now, world.work.steps());
        let result = carry_out(&mut world, self.thread.0);
        world.work.end_call(steps);
        let outcome = match &result {
            Ok(result) => Outcome::Value(value(result)),
            Err(error) => Outcome::Error(*error),
        };
        world.record(self.thread, call, fd, arguments, outcome, began);
        self.leave(world);
        result
    }

    /// Carries out one wait; what sleeps is not recorded until it ends.
    #[inline]
    pub(crate) fn wait(
        &mut self,
        call: CallKind,
        fd: i32,
        arguments: [u64; 2],
        carry_out: impl FnOnce(&mut World, u32) -> Result<Wait, Errno>,
    ) -> Result<Wait, Errno> {
        if self.dead.get() {
            return Err(DEAD);
        }
        if self.imposed {
            self.pass_imposed_time(false);
        }
        let mut world = self.enter();
        let sleep = world.threads[self.thread.0 as usize].sleep;
        let (began, arguments) = sleep.map_or((world.now, arguments), |sleep| (sleep.began, sleep.arguments));
        let steps = world.work.steps();
        let result = carry_out(&mut world, self.thread.0);
        world.work.end_call(steps);
        if world.ledger.is_some() {
            world.audit_waited(fd, self.thread.0);
        }
        let outcome = match result {
            Ok(Wait::Parked) => return result,
            Ok(Wait::Ready(count)) => Outcome::Value(count as u64),
            Err(error) => Outcome::Error(error),
        };
        world.record(self.thread, call, fd, arguments, outcome, began);
        world.threads[self.thread.0 as usize].timed_out = sleep.is_some() && result == Ok(Wait::Ready(0));
        let news =
            matches!(result, Ok(Wait::Ready(1..))) && !world.threads[self.thread.0 as usize].only_levels;
        if !news {
            world.count_empty_wait(self.thread.0);
        }
        self.leave(world);
        result
    }

    /// Brings the world up to the caller's time. What happens then may kill the caller: its call never returns.
    #[inline]
    fn enter(&self) -> RefMut<'_, World> {
        let world = self.world.enter(self.thread);
        if self.dead.get() {
            drop(world);
            std::panic::resume_unwind(Box::new(Killed));
        }
        world
    }

    /// Lets the time pass that a recorded run takes for a call.
    #[cold]
    fn pass_imposed_time(&self, reads_clock: bool) {
        self.world.borrow_mut().impose_time(self.thread.0, reads_clock);
    }

    #[inline]
    fn leave(&self, mut world: RefMut<'_, World>) {
        if let Some(actor) = world.draw_early_actor(self.thread) {
            drop(world);
            self.world.run_actor(actor);
            if self.dead.get() {
                std::panic::resume_unwind(Box::new(Killed));
            }
        }
    }

    /// The address as the simulated network knows it: IPv4 only.
    fn v4(address: &SocketAddr) -> Result<std::net::SocketAddrV4, Errno> {
        match address {
            SocketAddr::V4(address) => Ok(*address),
            SocketAddr::V6(_) => Err(Errno::EAFNOSUPPORT),
        }
    }
}

impl World {
    #[inline]
    fn record(
        &mut self,
        thread: ThreadId,
        call: CallKind,
        fd: i32,
        arguments: [u64; 2],
        outcome: Outcome,
        began: u64,
    ) {
        let ended = self.threads[thread.0 as usize].local;
        let (began, ended) = (self.clock(began), self.clock(ended));
        let record = CallRecord { step: 0, thread, began, ended, call, fd, arguments, outcome };
        self.trace.call(record);
        if self.options.imposed.is_some()
            && let Some(guide) = self.decisions.guide()
        {
            guide.called(&record);
        }
        if self.trace.collects() {
            self.show_use(&record);
        }
        self.decisions.at_step(self.trace.steps());
    }

    fn note_kevents<E: Entry>(&mut self, events: &[E]) {
        for event in events {
            self.trace.fold(event.wide().trace_word());
            self.note(|| format!("event  {}", event.wide()));
        }
    }

    /// What a kevent call is asked to change.
    fn note_changes<E: Entry>(&mut self, changes: &[E]) {
        for change in changes {
            self.trace.fold(change.wide().trace_word());
            self.note(|| format!("change {}", change.wide()));
        }
    }

    fn note_events(&mut self, events: &[EpollEvent]) {
        if self.options.imposed.is_some()
            && let Some(guide) = self.decisions.guide()
        {
            guide.reported(events);
        }
        for event in events {
            let (bits, data) = (event.events, event.data);
            self.trace.fold(data ^ u64::from(bits).rotate_left(48));
            self.note(|| {
                let names = names_of(EpollMask::from_bits_retain(bits).iter_names());
                format!("event  {names} for {}", Word(data))
            });
        }
    }
}

/// The names of flags, as the manuals write them.
pub(crate) fn names_of<B>(names: impl Iterator<Item = (&'static str, B)>) -> String {
    names.map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

/// The value of a call that answers none.
pub(crate) fn nothing<R>(_: &R) -> u64 {
    0
}

impl Syscalls for SimSyscalls {
    fn clock_gettime(&mut self) -> Instant {
        if self.dead.get() {
            return self.world.local_time(self.thread);
        }
        if self.imposed {
            self.pass_imposed_time(true);
        }
        let mut world = self.enter();
        let now = world.clock_of(self.thread.0);
        world.spend(self.thread.0, cost::CLOCK);
        let began = world.now;
        world.record(self.thread, CallKind::ClockGettime, -1, [0; 2], Outcome::Value(now.as_ns()), began);
        self.leave(world);
        now
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        self.call(CallKind::Socket, -1, [0; 2], |world, thread| world.socket_create(thread, family), number)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        let arguments = option_words(option);
        let carry_out = |world: &mut World, thread| world.socket_option(thread, fd, option);
        self.call(CallKind::Setsockopt, fd.as_raw(), arguments, carry_out, nothing)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        let address = SimSyscalls::v4(address)?;
        let arguments = [word_of_address(address), 0];
        let carry_out = |world: &mut World, thread| world.bind(thread, fd, address);
        self.call(CallKind::Bind, fd.as_raw(), arguments, carry_out, nothing)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        let carry_out = |world: &mut World, thread| world.listen(thread, fd, backlog);
        self.call(CallKind::Listen, fd.as_raw(), [u64::from(backlog), 0], carry_out, nothing)
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        let carry_out = |world: &mut World, thread| world.accept(thread, fd);
        self.call(CallKind::Accept4, fd.as_raw(), [0; 2], carry_out, |accepted| number(&accepted.fd))
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        let address = SimSyscalls::v4(address)?;
        let arguments = [word_of_address(address), 0];
        loop {
            let carry_out = |world: &mut World, thread| world.connect(thread, fd, address);
            let result = self.call(CallKind::Connect, fd.as_raw(), arguments, carry_out, nothing);
            let under_way = matches!(result, Err(Errno::EINPROGRESS | Errno::EALREADY));
            // Only scripts have descriptors in blocking mode: they wait for the end of the attempt.
            if !under_way || !self.is_blocking(fd) {
                return result;
            }
            match self.pass_to_next_event() {
                Passed::Event => {}
                // The attempt goes on by itself (T27).
                Passed::Alarm => return Err(Errno::EINTR),
                Passed::Nothing => return result,
            }
        }
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        let carry_out = |world: &mut World, thread| world.socket_name(thread, fd);
        let value = |address: &std::net::SocketAddrV4| word_of_address(*address);
        self.call(CallKind::Getsockname, fd.as_raw(), [0; 2], carry_out, value).map(SocketAddr::V4)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        let carry_out = |world: &mut World, thread| world.socket_error(thread, fd);
        let value = |error: &Option<Errno>| u64::from(error.is_some());
        self.call(CallKind::TakeSocketError, fd.as_raw(), [0; 2], carry_out, value)
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let arguments = [buffer.len() as u64, 0];
        let carry_out = |world: &mut World, thread| world.recv(thread, fd, buffer);
        self.call(CallKind::Recv, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        let arguments = [bytes.len() as u64, 1];
        let carry_out = |world: &mut World, thread| world.send_shown(thread, fd, &[IoSlice::new(bytes)]);
        self.call(CallKind::Send, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let length: usize = segments.iter().map(|segment| segment.len()).sum();
        let arguments = [length as u64, segments.len() as u64];
        let carry_out = |world: &mut World, thread| world.send_shown(thread, fd, segments);
        self.call(CallKind::Sendmsg, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        let word = match how {
            Shutdown::Read => 0,
            Shutdown::Write => 1,
            Shutdown::Both => 2,
        };
        let carry_out = |world: &mut World, thread| world.shutdown(thread, fd, how);
        self.call(CallKind::Shutdown, fd.as_raw(), [word, 0], carry_out, nothing)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        let carry_out = |world: &mut World, thread| world.close(thread, fd);
        let result = self.call(CallKind::Close, fd.as_raw(), [0; 2], carry_out, nothing);
        while !self.world.has_lingered() {
            if self.pass_to_next_event() != Passed::Event {
                // A signal ends the wait; the descriptor is gone since its beginning (T79).
                self.world.borrow_mut().lingering = None;
            }
        }
        result
    }

    fn readiness(&self) -> Readiness {
        self.kernel.readiness()
    }

    fn epoll_create1(&mut self) -> Result<Fd, Errno> {
        if self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        self.call(CallKind::EpollCreate1, -1, [0; 2], World::epoll_create, number)
    }

    fn epoll_ctl(
        &mut self,
        epoll: Fd,
        operation: EpollOperation,
        fd: Fd,
        mask: EpollMask,
        data: u64,
    ) -> Result<(), Errno> {
        if self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        let operation_word = match operation {
            EpollOperation::Add => 0,
            EpollOperation::Modify => 1,
            EpollOperation::Delete => 2,
        };
        let target = u64::from(fd.as_raw().cast_unsigned() << 2);
        let arguments = [operation_word | target | u64::from(mask.bits()) << 32, data];
        let operation = match operation {
            EpollOperation::Add => control::ADD,
            EpollOperation::Modify => control::MODIFY,
            EpollOperation::Delete => control::DELETE,
        };
        let carry_out = |world: &mut World, thread| {
            world.epoll_control(thread, (epoll, operation, fd), Some((mask, data)))
        };
        self.call(CallKind::EpollCtl, epoll.as_raw(), arguments, carry_out, nothing)
    }

    fn epoll_wait(&mut self, epoll: Fd, events: &mut [EpollEvent], timeout_ms: i32) -> Result<Wait, Errno> {
        if self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        let arguments = wait_arguments(timeout_ms, events.len());
        self.wait(CallKind::EpollWait, epoll.as_raw(), arguments, |world, thread| {
            let result = world.epoll_wait(thread, epoll, events, timeout_ms);
            if let Ok(Wait::Ready(count)) = result {
                world.note_events(&events[..count]);
            }
            result
        })
    }

    fn eventfd(&mut self) -> Result<Fd, Errno> {
        if self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        let carry_out = |world: &mut World, thread| world.eventfd_create(thread, 0, false);
        self.call(CallKind::Eventfd, -1, [0; 2], carry_out, number)
    }

    fn read_eventfd(&mut self, fd: Fd) -> Result<u64, Errno> {
        if self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        let carry_out = |world: &mut World, thread| world.eventfd_read(thread, fd);
        self.call(CallKind::ReadEventfd, fd.as_raw(), [0; 2], carry_out, |&sum| sum)
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        if !self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        self.call(CallKind::Kqueue, -1, [0; 2], World::kqueue_create, number)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        self.kevent_entries(kqueue, changes, events, timeout_ns)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let (fd, ident) = match target {
            WakeTarget::Eventfd(fd) => (fd, 0),
            WakeTarget::UserEvent { kqueue, ident, .. } => (kqueue, ident),
        };
        let carry_out = |world: &mut World, thread| world.make_waker(thread, target);
        self.call(CallKind::Waker, fd.as_raw(), [ident, 0], carry_out, nothing)
    }

    fn schedule_point(&mut self, site: &'static str) {
        if self.dead.get() {
            return;
        }
        let mut world = self.enter();
        let _ = site;
        self.leave_at_point(&mut world);
    }
}

impl SimSyscalls {
    /// kevent(2) with entries of either form.
    pub(crate) fn kevent_entries<E: Entry>(
        &mut self,
        kqueue: Fd,
        changes: &[E],
        events: &mut [E],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        if !self.kernel.is_bsd() {
            return Err(Errno::Unsupported);
        }
        let arguments = [timeout_ns.unwrap_or(u64::MAX), changes.len() as u64];
        self.wait(CallKind::Kevent, kqueue.as_raw(), arguments, |world, thread| {
            world.note_changes(changes);
            let result = world.kevent(thread, kqueue, changes, events, timeout_ns);
            if let Ok(Wait::Ready(count)) = result {
                world.note_kevents(&events[..count]);
            }
            result
        })
    }

    /// The part of kevent(2) before its events: see [`World::kevent_changes`].
    pub(crate) fn kevent_changes<E: Entry>(
        &mut self,
        kqueue: Fd,
        changes: &[E],
        events: &mut [E],
    ) -> Result<Option<usize>, Errno> {
        let arguments = [0, changes.len() as u64];
        let carry_out = |world: &mut World, thread| {
            world.note_changes(changes);
            world.kevent_changes(thread, kqueue, changes, events)
        };
        self.call(CallKind::Kevent, kqueue.as_raw(), arguments, carry_out, |count| count.unwrap_or(0) as u64)
    }

    /// Which system's rules this thread lives under.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whether calls on this descriptor wait.
    pub(crate) fn is_blocking(&self, fd: Fd) -> bool {
        let world = self.world.borrow();
        let process = world.threads[self.thread.0 as usize].process;
        let object = world.processes[process as usize].get(fd);
        object.is_some_and(|object| world.descriptions.is_blocking(object))
    }

    /// Lets time pass until something has happened.
    pub(crate) fn pass_to_next_event(&self) -> Passed {
        let mut world = self.world.borrow_mut();
        let now = world.threads[self.thread.0 as usize].local;
        // A signal that came while nothing waited has found nothing to end.
        world.alarm = world.alarm.filter(|&alarm| alarm > now);
        let (event, alarm) = (world.next_event_time(), world.alarm);
        let (next, passed) = match (event, alarm) {
            (Some(event), Some(alarm)) if event <= alarm => (event, Passed::Event),
            (_, Some(alarm)) => (alarm, Passed::Alarm),
            (Some(event), None) => (event, Passed::Event),
            (None, None) => return Passed::Nothing,
        };
        if passed == Passed::Alarm {
            world.alarm = None;
        }
        drop(world);
        self.world.spend_until(self.thread, next);
        drop(self.world.enter(self.thread));
        passed
    }

    fn leave_at_point(&self, world: &mut RefMut<'_, World>) {
        // Entering has already delivered what was due and given actors their chance.
        let thread = self.thread.0 as usize;
        world.threads[thread].local += u64::from(!self.imposed);
    }
}

/// The value of a call that answers a descriptor.
pub(crate) fn number(fd: &Fd) -> u64 {
    u64::from(fd.as_raw().cast_unsigned())
}

/// An option as two words of a record; [`crate::trace`] has the names in the same order.
pub(crate) fn option_words(option: SocketOption) -> [u64; 2] {
    match option {
        SocketOption::ReuseAddress(on) => [1, u64::from(on)],
        SocketOption::ReusePort(on) => [2, u64::from(on)],
        SocketOption::V6Only(on) => [3, u64::from(on)],
        SocketOption::NoDelay(on) => [4, u64::from(on)],
        SocketOption::KeepAlive(on) => [5, u64::from(on)],
        SocketOption::SendBufferBytes(bytes) => [6, u64::from(bytes)],
        SocketOption::ReceiveBufferBytes(bytes) => [7, u64::from(bytes)],
        SocketOption::ResetOnClose(on) => [8, u64::from(on)],
        SocketOption::Congestion(algorithm) => [9, algorithm as u64],
    }
}
