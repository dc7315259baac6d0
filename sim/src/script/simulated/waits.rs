//! Waits of scripts on the simulated kernel: the world goes on until they end. A wait on another thread is a thread of the same
//! process, which is entered again whenever its turn comes.

use reactor::sys::{Errno, Fd, Wait};
use reactor::time::Instant;

use crate::kernel::Kernel;
use crate::kernel::kqueue::entry::Entry;
use crate::kernel::syscalls::SimSyscalls;
use crate::schedule::{Step, ThreadId};
use crate::script::probe::{Answer, SIGNAL_USR1, Ticket, WideKevent};
use crate::world::HostId;

/// What a wait that would never end answers: nothing is left to happen, and every thread sleeps.
const NEVER: Errno = Errno::Unlisted(0);

/// A wait on another thread.
#[derive(Debug)]
pub(crate) struct StartedWait {
    thread: ThreadId,
    set: Fd,
    room: i32,
    timeout_ms: i32,
    end: Option<Answer<Told>>,
}

/// What a wait brings back.
#[derive(Clone, Debug)]
enum Told {
    Epoll(Vec<(u32, u64)>),
    Kqueue(Vec<WideKevent>),
}

impl SimSyscalls {
    /// Lets time pass for this thread; others run meanwhile.
    pub(super) fn pass_time(&mut self, ns: u64) {
        self.world().spend(self.thread(), ns);
        self.until_my_turn();
    }

    /// Lets the world go on until this thread can run; false if it never will.
    pub(super) fn until_my_turn(&mut self) -> bool {
        loop {
            match self.world().step(Instant::FAR_FUTURE) {
                Step::Run(thread) if thread == self.thread() => {
                    // An old place in the queue may lie before what the thread has spent since.
                    if self.world().now() >= self.world().local_time(thread) {
                        return true;
                    }
                }
                Step::Run(thread) => self.enter_again(thread),
                Step::Actor(_) => {}
                Step::Idle | Step::LimitReached => return false,
            }
        }
    }

    /// Makes one call that may sleep, to its end; `enter` is told whether it is entered again.
    pub(super) fn wait_to_end<R>(
        &mut self,
        mut enter: impl FnMut(&mut SimSyscalls, bool) -> Result<Option<R>, Errno>,
    ) -> Answer<R> {
        let mut again = false;
        loop {
            if let Some(answer) = enter(self, again)? {
                return Ok(answer);
            }
            again = true;
            if !self.until_my_turn() {
                return Err(NEVER);
            }
        }
    }

    /// kevent(2), entered once.
    pub(super) fn kevent_once(
        &mut self,
        kqueue: Fd,
        changes: &[WideKevent],
        room: usize,
        timeout_ns: Option<u64>,
    ) -> Answer<Option<Vec<WideKevent>>> {
        let mut events = vec![WideKevent::EMPTY; room];
        Ok(match self.kevent_entries(kqueue, changes, &mut events, timeout_ns)? {
            Wait::Ready(count) => {
                events.truncate(count);
                Some(events)
            }
            Wait::Parked => None,
        })
    }

    pub(super) fn start_wait_on_thread(&mut self, set: Fd, room: i32, timeout_ms: i32) -> Answer<Ticket> {
        let host = HostId(self.world().borrow().threads[self.thread().0 as usize].host);
        let other = self.world().add_thread(host);
        let mut world = self.world().enter(self.thread());
        let now = world.threads[self.thread().0 as usize].local;
        world.threads[other.thread().0 as usize].local = now;
        let ticket = world.started_waits.len();
        let thread = other.thread();
        world.started_waits.push(StartedWait { thread, set, room, timeout_ms, end: None });
        drop(world);
        self.enter_again(thread);
        Ok(Ticket(ticket))
    }

    /// Enters the wait of a thread that a script has started, and keeps its answer if it has ended.
    fn enter_again(&self, thread: ThreadId) {
        let world = self.world().borrow();
        let place = world.started_waits.iter().position(|wait| wait.thread == thread && wait.end.is_none());
        let Some(place) = place else { return };
        let StartedWait { set, room, timeout_ms, .. } = world.started_waits[place];
        drop(world);
        let mut other = SimSyscalls::new(self.world().clone(), thread, self.kernel());
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
        let end = if self.kernel() == Kernel::Linux {
            other.epoll_once(set, room, timeout_ns).map(|events| events.map(Told::Epoll))
        } else {
            let room = usize::try_from(room).unwrap_or(0);
            other.kevent_once(set, &[], room, timeout_ns).map(|events| events.map(Told::Kqueue))
        };
        if let Some(end) = end.transpose() {
            self.world().finish_thread(thread);
            self.world().borrow_mut().started_waits[place].end = Some(end);
        }
    }

    pub(super) fn is_wait_over(&mut self, ticket: &Ticket) -> bool {
        self.until_my_turn();
        self.world().borrow().started_waits[ticket.0].end.is_some()
    }

    /// The end of a wait on another thread; this one sleeps until then.
    fn end_of_wait(&mut self, ticket: &Ticket) -> Answer<Told> {
        loop {
            if self.is_wait_over(ticket) {
                let world = self.world().borrow();
                return world.started_waits[ticket.0].end.clone().unwrap_or(Err(NEVER));
            }
            // Nothing else is left for this thread to do: it goes where the next event is.
            if !self.follow_the_world() {
                return Err(NEVER);
            }
        }
    }

    /// Moves this thread's clock to the next thing that happens; false if nothing does.
    fn follow_the_world(&self) -> bool {
        let mut world = self.world().borrow_mut();
        let next = match (world.events.next_time(), world.next_runnable()) {
            (None, None) => return false,
            (Some(time), None) | (None, Some(time)) => time,
            (Some(event), Some(runnable)) => event.min(runnable),
        };
        let local = &mut world.threads[self.thread().0 as usize].local;
        *local = (*local).max(next) + 1;
        true
    }

    pub(super) fn end_of_epoll_wait(&mut self, ticket: &Ticket) -> Answer<Vec<(u32, u64)>> {
        match self.end_of_wait(ticket)? {
            Told::Epoll(events) => Ok(events),
            Told::Kqueue(_) => Err(Errno::EINVAL),
        }
    }

    pub(super) fn end_of_kevent(&mut self, ticket: &Ticket) -> Answer<Vec<WideKevent>> {
        match self.end_of_wait(ticket)? {
            Told::Kqueue(events) => Ok(events),
            Told::Epoll(_) => Err(Errno::EINVAL),
        }
    }

    pub(super) fn interrupt_wait(&mut self, ticket: &Ticket) -> Answer<()> {
        let mut world = self.world().enter(self.thread());
        let thread = world.started_waits[ticket.0].thread.0;
        let serial = world.threads[thread as usize].serial;
        world.interrupt_event(thread, serial);
        Ok(())
    }

    /// kill(2) of this process with the signal of scripts.
    pub(super) fn signal_self(&mut self) -> Answer<()> {
        let mut world = self.world().enter(self.thread());
        let host = world.threads[self.thread().0 as usize].host;
        world.signal_sent(host, SIGNAL_USR1);
        Ok(())
    }

    /// kevent(2) in full width, to its end.
    pub(super) fn kevent_to_end(
        &mut self,
        kqueue: Fd,
        changes: &[WideKevent],
        room: i32,
        timeout: Option<(i64, i64)>,
    ) -> Answer<Vec<WideKevent>> {
        if !self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        // FreeBSD refuses; what others do is their affair (K23).
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let timeout_ns = match timeout {
            None => None,
            Some((seconds @ 0.., nanoseconds @ 0..1_000_000_000)) => {
                Some(seconds.cast_unsigned().saturating_mul(1_000_000_000) + nanoseconds.cast_unsigned())
            }
            // macOS looks at the timeout first; FreeBSD when it would wait, with the changes applied (K22).
            Some(_) if self.kernel() == Kernel::Macos => return Err(Errno::EINVAL),
            Some(_) => {
                let mut events = vec![WideKevent::EMPTY; room];
                let count = self.kevent_changes(kqueue, changes, &mut events)?.ok_or(Errno::EINVAL)?;
                events.truncate(count);
                return Ok(events);
            }
        };
        self.wait_to_end(|sys, again| {
            sys.kevent_once(kqueue, if again { &[] } else { changes }, room, timeout_ns)
        })
    }
}
