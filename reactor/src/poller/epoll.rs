//! `epoll(7)`: both directions, edge-triggered, registered once.

use crate::poller::{Ready, Report, Source};
use crate::sys::{EpollEvent, EpollMask, EpollOperation, Errno, Fd, Syscalls, Wait, WakeTarget};
use crate::token::Token;

/// Nanoseconds per unit of the timeout.
const MILLISECOND_NS: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct EpollPoller {
    epoll: Fd,
    eventfd: Fd,
    events: Vec<EpollEvent>,
}

impl EpollPoller {
    pub fn new<S: Syscalls>(sys: &mut S, events_per_wait: usize) -> Result<EpollPoller, Errno> {
        let epoll = sys.epoll_create1()?;
        let eventfd = match sys.eventfd() {
            Ok(eventfd) => eventfd,
            Err(error) => {
                let _ = sys.close(epoll);
                return Err(error);
            }
        };
        let mask = EpollMask::IN | EpollMask::ET;
        if let Err(error) = sys.epoll_ctl(epoll, EpollOperation::Add, eventfd, mask, Token::WAKER.as_word()) {
            let _ = sys.close(eventfd);
            let _ = sys.close(epoll);
            return Err(error);
        }
        Ok(EpollPoller { epoll, eventfd, events: vec![EpollEvent::default(); events_per_wait] })
    }

    pub fn register<S: Syscalls>(
        &mut self,
        sys: &mut S,
        fd: Fd,
        token: Token,
        source: Source,
    ) -> Result<(), Errno> {
        let mask = match source {
            Source::Listener => EpollMask::IN | EpollMask::ET,
            Source::Connecting | Source::Stream => {
                EpollMask::IN | EpollMask::OUT | EpollMask::RDHUP | EpollMask::ET
            }
        };
        sys.epoll_ctl(self.epoll, EpollOperation::Add, fd, mask, token.as_word())
    }

    pub fn wait<S: Syscalls>(&mut self, sys: &mut S, timeout_ns: Option<u64>) -> Result<Wait, Errno> {
        let timeout_ms = match timeout_ns {
            None => -1,
            // Rounded up: a timeout that ends before the deadline makes the loop spin through its last millisecond
            // (bug-catalogue B30). Clamped: more than 24.8 days would turn negative, which is "for ever" (B29).
            Some(ns) => i32::try_from(ns.div_ceil(MILLISECOND_NS)).unwrap_or(i32::MAX),
        };
        sys.epoll_wait(self.epoll, &mut self.events, timeout_ms)
    }

    #[inline]
    pub fn report(&self, index: usize) -> Report {
        let event = self.events[index];
        let mask = EpollMask::from_bits_retain(event.events);
        let mut ready = Ready::empty();
        if mask.contains(EpollMask::IN) {
            ready |= Ready::READABLE;
        }
        if mask.contains(EpollMask::OUT) {
            ready |= Ready::WRITABLE;
        }
        // The end of the stream is read, not assumed: unread bytes may come before it.
        if mask.contains(EpollMask::RDHUP) {
            ready |= Ready::READABLE | Ready::HANGUP;
        }
        // Alone or together, these say that any operation will tell what happened (bug-catalogue B54).
        if mask.intersects(EpollMask::ERR | EpollMask::HUP) {
            ready |= Ready::READABLE | Ready::WRITABLE | Ready::HANGUP;
        }
        if mask.contains(EpollMask::ERR) {
            ready |= Ready::FAILED;
        }
        Report { token: Token::from_word(event.data), ready, refused: None }
    }

    pub fn wake_target(&self) -> WakeTarget {
        WakeTarget::Eventfd(self.eventfd)
    }

    pub fn drain_wakes<S: Syscalls>(&mut self, sys: &mut S) {
        // One read takes the whole sum. `EAGAIN` means that another read has taken it; `EINTR` cannot happen to a read
        // that does not sleep, and would only cost one more wake-up.
        let _ = sys.read_eventfd(self.eventfd);
    }

    pub fn close<S: Syscalls>(&mut self, sys: &mut S) {
        let _ = sys.close(self.eventfd);
        let _ = sys.close(self.epoll);
    }
}
