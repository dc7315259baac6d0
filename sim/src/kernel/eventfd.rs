//! eventfd(2), and the handles that wake a loop from other threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reactor::sys::{EpollMask, Errno, Fd, Wake, WakeTarget};

use super::watch::{Key, Watchers};
use super::{Object, cost};
use crate::schedule::ThreadId;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Eventfd {
    pub(crate) host: u32,
    /// Distinguishes it from later tenants of its place.
    pub(crate) serial: u64,
    pub(crate) counter: u64,
    /// A read takes one instead of all (W1).
    semaphore: bool,
    pub(crate) watchers: Watchers,
}

/// The highest value of a counter (W2).
const COUNTER_MAX: u64 = u64::MAX - 1;

impl Eventfd {
    /// OUT says that one can be added (W3).
    pub(crate) fn readiness(&self) -> EpollMask {
        match self.counter {
            0 => EpollMask::OUT,
            COUNTER_MAX => EpollMask::IN,
            _ => EpollMask::IN | EpollMask::OUT,
        }
    }
}

/// What a wake handle reaches, by place and serial, so that a handle which outlives its target is harmless.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct WakePost {
    object: Object,
    serial: u64,
    ident: u64,
    udata: u64,
}

/// Wakes that the world has not seen yet. Handles live outside the world, in any thread.
#[derive(Debug, Default)]
pub(crate) struct WakeInbox {
    posted: AtomicBool,
    posts: Mutex<Vec<WakePost>>,
}

impl WakeInbox {
    #[inline]
    pub(crate) fn has_posts(&self) -> bool {
        self.posted.load(Ordering::Acquire)
    }

    fn posts(&self) -> std::sync::MutexGuard<'_, Vec<WakePost>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SimWake {
    inbox: Arc<WakeInbox>,
    post: WakePost,
}

impl Wake for SimWake {
    fn wake(&self) {
        self.inbox.posts().push(self.post);
        self.inbox.posted.store(true, Ordering::Release);
    }
}

impl fmt::Debug for SimWake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimWake").field(&self.post).finish()
    }
}

impl World {
    pub(crate) fn eventfd_create(&mut self, thread: u32, initial: u32, semaphore: bool) -> Result<Fd, Errno> {
        self.may_create(thread)?;
        let host = self.threads[thread as usize].host;
        let serial = self.next_serial();
        let eventfd = self.eventfds.insert(Eventfd {
            host,
            serial,
            counter: u64::from(initial),
            semaphore,
            watchers: Watchers::default(),
        });
        Ok(self.install(thread, Object::Eventfd(eventfd)))
    }

    pub(crate) fn eventfd_read(&mut self, thread: u32, fd: Fd) -> Result<u64, Errno> {
        self.spend(thread, cost::EVENTFD);
        let Object::Eventfd(eventfd) = self.object(thread, fd)? else {
            self.violate(
                "illegal-call",
                ThreadId(thread),
                format!("an eventfd read of {fd:?}, which is none"),
            );
            return Err(Errno::EINVAL);
        };
        let number = self.eventfd_take(eventfd)?;
        self.progress(thread);
        Ok(number)
    }

    pub(crate) fn eventfd_take(&mut self, eventfd: u32) -> Result<u64, Errno> {
        let entry = &mut self.eventfds[eventfd];
        if entry.counter == 0 {
            return Err(Errno::EAGAIN);
        }
        let number = if entry.semaphore { 1 } else { entry.counter };
        entry.counter -= number;
        // A read frees room, so it is an edge for who asked to write (W5).
        self.wake(Object::Eventfd(eventfd), Key::Out);
        Ok(number)
    }

    /// A write(2) of any value; that of zero is an edge too (W4).
    pub(crate) fn eventfd_add(&mut self, eventfd: u32, number: u64) -> Result<(), Errno> {
        if number == u64::MAX {
            return Err(Errno::EINVAL);
        }
        let entry = &mut self.eventfds[eventfd];
        if COUNTER_MAX - entry.counter < number {
            return Err(Errno::EAGAIN);
        }
        entry.counter += number;
        self.wake(Object::Eventfd(eventfd), Key::In);
        Ok(())
    }

    pub(crate) fn make_waker(&mut self, thread: u32, target: WakeTarget) -> Result<Arc<dyn Wake>, Errno> {
        let post = match target {
            WakeTarget::Eventfd(fd) => match self.object(thread, fd)? {
                Object::Eventfd(eventfd) => WakePost {
                    object: Object::Eventfd(eventfd),
                    serial: self.eventfds[eventfd].serial,
                    ident: 0,
                    udata: 0,
                },
                _ => return Err(Errno::EINVAL),
            },
            WakeTarget::UserEvent { kqueue, ident, udata } => {
                self.user_event_post(thread, kqueue, ident, udata)?
            }
        };
        Ok(Arc::new(SimWake { inbox: Arc::clone(&self.wakes), post }))
    }

    fn user_event_post(
        &mut self,
        thread: u32,
        kqueue: Fd,
        ident: u64,
        udata: u64,
    ) -> Result<WakePost, Errno> {
        match self.object(thread, kqueue)? {
            Object::Kqueue(kqueue) => Ok(WakePost {
                object: Object::Kqueue(kqueue),
                serial: self.kqueues[kqueue].serial,
                ident,
                udata,
            }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Delivers the wakes that handles have posted since the last look.
    #[cold]
    pub(crate) fn deliver_wakes(&mut self) {
        let inbox = Arc::clone(&self.wakes);
        inbox.posted.store(false, Ordering::Release);
        let mut posts = std::mem::take(&mut *inbox.posts());
        for post in &posts {
            self.deliver_wake(*post);
        }
        posts.clear();
        let mut slot = inbox.posts();
        if slot.is_empty() {
            *slot = posts;
        }
    }

    fn deliver_wake(&mut self, post: WakePost) {
        match post.object {
            Object::Eventfd(eventfd) => {
                let Some(entry) = self.eventfds.get_mut(eventfd) else { return };
                // A full counter already holds a wake-up (W2).
                if entry.serial != post.serial || entry.counter >= COUNTER_MAX {
                    return;
                }
                entry.counter += 1;
                let host = entry.host;
                self.note(|| format!("eventfd of host {host} is written"));
                self.progress_on_host(host);
                self.wake(post.object, Key::In);
            }
            Object::Kqueue(kqueue) => {
                let Some(entry) = self.kqueues.get(kqueue) else { return };
                if entry.serial == post.serial {
                    let host = entry.host;
                    self.note(|| format!("user event {} of host {host} is triggered", post.ident));
                    self.progress_on_host(host);
                    self.trigger(kqueue, post.ident, post.udata);
                }
            }
            object => unreachable!("no wake handle reaches {object:?}"),
        }
    }
}
