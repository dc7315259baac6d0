//! `kqueue(2)`: the read filter in edge mode, registered once; the write filter armed for one report at a time.
//!
//! The write filter in edge mode would report at every acknowledgement that frees room (kernel-semantics K10), so it is
//! armed only when a write found no room, and disables itself when it has reported (K8). Changes travel with the next
//! wait.

use crate::poller::{Ready, Report, Source};
use crate::sys::{Errno, Fd, Filter, Kevent, KeventFlags, Note, Syscalls, Wait, WakeTarget};
use crate::token::Token;

/// Identity of the user event that wakes the loop; user events have a number space of their own.
const WAKE_IDENT: u64 = 0;

/// See the module.
#[derive(Debug)]
pub(crate) struct KqueuePoller {
    kqueue: Fd,
    /// Applied by the next wait, in order.
    changes: Vec<Kevent>,
    /// Invariant: at least as long as `changes` when a wait begins, so that every change that fails has room to say so
    /// and none after it is lost (K16, bug-catalogue B49).
    events: Vec<Kevent>,
}

impl KqueuePoller {
    pub fn new<S: Syscalls>(sys: &mut S, events_per_wait: usize) -> Result<KqueuePoller, Errno> {
        let kqueue = sys.kqueue()?;
        let mut poller =
            KqueuePoller { kqueue, changes: Vec::new(), events: vec![Kevent::EMPTY; events_per_wait] };
        // CLEAR belongs here and never into the trigger, which would cancel itself on FreeBSD (K45).
        let waker = Kevent {
            ident: WAKE_IDENT,
            filter: Filter::User,
            flags: KeventFlags::ADD | KeventFlags::CLEAR,
            udata: Token::WAKER.as_word(),
            ..Kevent::EMPTY
        };
        if let Err(error) = sys.kevent(poller.kqueue, &[waker], &mut [], Some(0)) {
            poller.close(sys);
            return Err(error);
        }
        Ok(poller)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "the same items as the epoll poller, to be read side by side"
    )]
    pub fn register(&mut self, fd: Fd, token: Token, source: Source) -> Result<(), Errno> {
        self.change(fd, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, token);
        if source == Source::Connecting {
            self.arm_write(fd, token);
        }
        Ok(())
    }

    pub fn arm_write(&mut self, fd: Fd, token: Token) {
        self.change(fd, Filter::Write, KeventFlags::ADD | KeventFlags::ENABLE | KeventFlags::DISPATCH, token);
    }

    pub fn forget(&mut self, fd: Fd) {
        // The number may belong to somebody else before the next wait (bug-catalogue B34).
        let ident = ident_of(fd);
        self.changes.retain(|change| change.ident != ident);
    }

    pub fn wait<S: Syscalls>(&mut self, sys: &mut S, timeout_ns: Option<u64>) -> Result<Wait, Errno> {
        if self.events.len() < self.changes.len() {
            self.events.resize(self.changes.len(), Kevent::EMPTY);
        }
        let wait = sys.kevent(self.kqueue, &self.changes, &mut self.events, timeout_ns);
        // Whatever the answer, all changes have been applied (K15, K21).
        self.changes.clear();
        wait
    }

    #[inline]
    pub fn report(&self, index: usize) -> Report {
        let event = &self.events[index];
        let token = Token::from_word(event.udata);
        if let Some(receipt) = event.receipt() {
            return Report { token, ready: Ready::empty(), refused: receipt.err() };
        }
        let failed = matches!(event.note, Note::Error(_));
        let ended = event.flags.contains(KeventFlags::EOF);
        let mut ready = match event.filter {
            Filter::Read | Filter::User => Ready::READABLE,
            Filter::Write => Ready::WRITABLE,
        };
        // The end of the write filter also follows our own shutdown (K29), so it says nothing about the peer; the end of
        // the read filter may come with unread bytes (K26), so it is only remembered.
        if ended && event.filter == Filter::Read {
            ready |= Ready::HANGUP;
        }
        if ended && failed {
            ready |= Ready::READABLE | Ready::WRITABLE | Ready::HANGUP | Ready::FAILED;
        }
        Report { token, ready, refused: None }
    }

    pub fn wake_target(&self) -> WakeTarget {
        // A trigger replaces the knote's word on some systems, so it carries the same one.
        WakeTarget::UserEvent { kqueue: self.kqueue, ident: WAKE_IDENT, udata: Token::WAKER.as_word() }
    }

    pub fn close<S: Syscalls>(&mut self, sys: &mut S) {
        let _ = sys.close(self.kqueue);
    }

    fn change(&mut self, fd: Fd, filter: Filter, flags: KeventFlags, token: Token) {
        self.changes.push(Kevent {
            ident: ident_of(fd),
            filter,
            flags,
            udata: token.as_word(),
            ..Kevent::EMPTY
        });
    }
}

fn ident_of(fd: Fd) -> u64 {
    u64::try_from(fd.as_raw()).expect("a descriptor that the kernel handed out is not negative")
}
