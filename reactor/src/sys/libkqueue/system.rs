//! The kqueue backend on a Linux kernel, and what has to be made up for so that the loop meets a kqueue: a test's affair,
//! so it is here and not in the backend.
//!
//! | what `libkqueue` does | what is done about it |
//! |---|---|
//! | it does not notice that a descriptor is closed (kernel-semantics K37) | `close` deletes its knotes first |
//! | it reads SO_ERROR for an event, which takes the error on Linux (K27) | the error is kept, told in later events, and answered by the next call that would have met it |
//! | it knows a kqueue by its number, so that a duplicate reaches nothing | a waker uses the loop's number until the loop closes it |
//! | it refuses to add a filter of a socket again, it waits although a change has made an entry | see `kevent` in the module above |

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::super::bsd;
use super::super::{
    Accepted, Errno, Family, Fd, Filter, Kevent, KeventFlags, Note, Readiness, Shutdown, SocketOption,
    Syscalls, Wait, Wake, WakeTarget,
};
use super::missing;
use crate::time::Instant;

/// Linux with the kqueues of `libkqueue`; for tests.
///
/// Descriptors must be closed through the system that watches them.
#[derive(Debug, Default)]
pub struct LibkqueueSystem {
    backend: bsd::System,
    /// The kqueues made here and not closed.
    kqueues: Vec<OpenKqueue>,
    /// Errors that the library has taken from their sockets, and that nobody else has met.
    errors_taken: BTreeMap<Fd, Errno>,
}

/// A kqueue of the library, and whether it is open, which its wakers ask.
#[derive(Clone, Debug)]
struct OpenKqueue {
    fd: Fd,
    open: Arc<Mutex<bool>>,
}

impl LibkqueueSystem {
    /// Linux with the kqueues of `libkqueue`. Makes no call.
    pub const fn new() -> LibkqueueSystem {
        LibkqueueSystem { backend: bsd::System::new(), kqueues: Vec::new(), errors_taken: BTreeMap::new() }
    }

    /// As [`super::super::System::raise_descriptor_limit`].
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`: the system refused the new limit, and the old one holds.
    pub fn raise_descriptor_limit(&mut self, wanted: u64) -> Result<u64, Errno> {
        self.backend.raise_descriptor_limit(wanted)
    }

    /// What a descriptor leaves behind in the library and here, when it is about to be closed.
    fn forget(&mut self, fd: Fd) {
        self.errors_taken.remove(&fd);
        self.kqueues.retain(|kqueue| {
            if kqueue.fd == fd {
                // Waits for a wake-up that is under way; later ones do nothing.
                *kqueue.open.lock().expect("no wake-up panics") = false;
            }
            kqueue.fd != fd
        });
        let Ok(ident) = u64::try_from(fd.as_raw()) else { return };
        for kqueue in &self.kqueues {
            for filter in [Filter::Read, Filter::Write] {
                let change = Kevent { ident, filter, flags: KeventFlags::DELETE, ..Kevent::EMPTY };
                // ENOENT where there was none.
                let _ = self.backend.kevent(kqueue.fd, &[change], &mut [], None);
            }
        }
    }

    /// Keeps the error that an event tells of, and tells it in the events that follow, as kernels do.
    fn keep_error(&mut self, event: &mut Kevent) {
        if event.filter == Filter::User || !event.flags.contains(KeventFlags::EOF) {
            return;
        }
        let Ok(fd) = i32::try_from(event.ident).map(Fd::from_raw) else { return };
        match event.note {
            Note::Error(error) => {
                self.errors_taken.insert(fd, error);
            }
            Note::None | Note::Trigger => {
                if let Some(error) = self.errors_taken.get(&fd) {
                    event.note = Note::Error(*error);
                }
            }
        }
    }

    /// The answer of a call; `without_error` says whether it is the one that the kernel gives when the error is gone.
    #[inline]
    fn or_error<T>(
        &mut self,
        fd: Fd,
        answer: Result<T, Errno>,
        without_error: impl FnOnce(&Result<T, Errno>) -> bool,
    ) -> Result<T, Errno> {
        if without_error(&answer)
            && let Some(error) = self.errors_taken.remove(&fd)
        {
            return Err(error);
        }
        answer
    }
}

impl Syscalls for LibkqueueSystem {
    #[inline]
    fn clock_gettime(&mut self) -> Instant {
        self.backend.clock_gettime()
    }

    fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
        self.backend.socket(family)
    }

    fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        self.backend.setsockopt(fd, option)
    }

    fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        self.backend.bind(fd, address)
    }

    fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
        self.backend.listen(fd, backlog)
    }

    fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
        self.backend.accept4(fd)
    }

    fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
        let answer = self.backend.connect(fd, address);
        self.or_error(fd, answer, |answer| *answer == Err(Errno::ECONNABORTED))
    }

    fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        self.backend.getsockname(fd)
    }

    fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
        let error = self.backend.take_socket_error(fd)?;
        Ok(error.or_else(|| self.errors_taken.remove(&fd)))
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let answer = self.backend.recv(fd, buffer);
        self.or_error(fd, answer, |answer| *answer == Ok(0))
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        let answer = self.backend.send(fd, bytes);
        self.or_error(fd, answer, |answer| *answer == Err(Errno::EPIPE))
    }

    fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let answer = self.backend.sendmsg(fd, segments);
        self.or_error(fd, answer, |answer| *answer == Err(Errno::EPIPE))
    }

    fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.backend.shutdown(fd, how)
    }

    fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        self.forget(fd);
        self.backend.close(fd)
    }

    fn readiness(&self) -> Readiness {
        self.backend.readiness()
    }

    fn kqueue(&mut self) -> Result<Fd, Errno> {
        if missing().is_some() {
            return Err(Errno::Unsupported);
        }
        let fd = self.backend.kqueue()?;
        self.kqueues.push(OpenKqueue { fd, open: Arc::new(Mutex::new(true)) });
        Ok(fd)
    }

    fn kevent(
        &mut self,
        kqueue: Fd,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout_ns: Option<u64>,
    ) -> Result<Wait, Errno> {
        let wait = self.backend.kevent(kqueue, changes, events, timeout_ns)?;
        if let Wait::Ready(count) = wait {
            events[..count].iter_mut().for_each(|event| self.keep_error(event));
        }
        Ok(wait)
    }

    fn waker(&mut self, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let WakeTarget::UserEvent { kqueue, ident, udata } = target else { return Err(Errno::Unsupported) };
        let made = self.kqueues.iter().find(|made| made.fd == kqueue).ok_or(Errno::EBADF)?;
        Ok(Arc::new(LibkqueueWaker { kqueue: made.clone(), ident, udata }))
    }
}

/// Triggers a user filter through the number of the loop's kqueue, while the loop has it open: after that it may be
/// somebody else's.
#[derive(Debug)]
struct LibkqueueWaker {
    kqueue: OpenKqueue,
    ident: u64,
    udata: u64,
}

impl Wake for LibkqueueWaker {
    fn wake(&self) {
        let open = self.kqueue.open.lock().expect("no wake-up panics");
        if !*open {
            return;
        }
        let trigger = Kevent {
            ident: self.ident,
            filter: Filter::User,
            note: Note::Trigger,
            udata: self.udata,
            ..Kevent::EMPTY
        };
        let answer = bsd::System::new().kevent(self.kqueue.fd, &[trigger], &mut [], None);
        // ENOENT: the loop has removed the knote, because it is going away.
        debug_assert!(matches!(answer, Ok(_) | Err(Errno::ENOENT)), "kevent with NOTE_TRIGGER: {answer:?}");
    }
}
