//! epoll_ctl(2): what may be registered where, in the order in which the kernel looks (E2).

use reactor::sys::{EpollMask, Errno, Fd};

use super::{ALWAYS, EXCLUSIVE, WAKEUP};
use crate::kernel::{Object, cost};
use crate::schedule::ThreadId;
use crate::world::World;

/// `EPOLL_CTL_ADD`.
pub(crate) const ADD: i32 = 1;
/// `EPOLL_CTL_DEL`.
pub(crate) const DELETE: i32 = 2;
/// `EPOLL_CTL_MOD`.
pub(crate) const MODIFY: i32 = 3;

/// What an exclusive registration may ask for (E6).
const EXCLUSIVE_ALLOWED: EpollMask =
    EpollMask::IN.union(EpollMask::OUT).union(ALWAYS).union(EpollMask::ET).union(WAKEUP).union(EXCLUSIVE);

impl World {
    /// epoll_ctl(2) with any operation number; `None` is a null event.
    pub(crate) fn epoll_control(
        &mut self,
        thread: u32,
        (epfd, operation, fd): (Fd, i32, Fd),
        event: Option<(EpollMask, u64)>,
    ) -> Result<(), Errno> {
        self.spend(thread, cost::CONTROL);
        if event.is_none() && operation != DELETE {
            return self.illegal_control(thread, Errno::EFAULT, "an epoll_ctl without an event", fd);
        }
        let (mask, data) = event.unwrap_or((EpollMask::empty(), 0));
        let set = self.object(thread, epfd)?;
        let object = self.object(thread, fd)?;
        if !self.may_be_watched(object) {
            return self.illegal_control(
                thread,
                Errno::EPERM,
                "a registration of what cannot be watched:",
                fd,
            );
        }
        let epoll = self.epoll_behind(thread, epfd)?;
        if object == set {
            return self.illegal_control(thread, Errno::EINVAL, "a set in itself:", fd);
        }
        let exclusive = mask.contains(EXCLUSIVE);
        if exclusive && operation == MODIFY {
            return self.illegal_control(thread, Errno::EINVAL, "a modification to exclusive of", fd);
        }
        if exclusive && operation == ADD {
            let excess = !(mask - EXCLUSIVE_ALLOWED).is_empty();
            if excess || matches!(object, Object::Epoll(_)) {
                return self.illegal_control(thread, Errno::EINVAL, "an exclusive registration of", fd);
            }
        }
        if let (ADD, Object::Epoll(inner)) = (operation, object)
            && self.nests_too_deep(epoll, inner)
        {
            return self.illegal_control(thread, Errno::ELOOP, "a loop, or too deep a chain, of sets:", fd);
        }
        let found = self.epolls[epoll].find(object, fd);
        match (operation, found) {
            (ADD, None) => self.epoll_add(epoll, fd, object, mask, data),
            (ADD, Some(_)) => self.illegal_control(thread, Errno::EEXIST, "a second registration of", fd),
            (DELETE | MODIFY, None) => {
                self.illegal_control(thread, Errno::ENOENT, "a change of what is not registered:", fd)
            }
            (MODIFY, Some(item)) => {
                let entry = &mut self.epolls[epoll].items[item];
                if entry.mask.contains(EXCLUSIVE) {
                    return self.illegal_control(thread, Errno::EINVAL, "a modification of exclusive", fd);
                }
                entry.mask = mask | ALWAYS;
                entry.data = data;
                self.epoll_evaluate(epoll, item);
                Ok(())
            }
            (DELETE, Some(item)) => {
                self.epoll_remove(epoll, item);
                Ok(())
            }
            _ => self.illegal_control(thread, Errno::EINVAL, "an unknown epoll_ctl of", fd),
        }
    }

    /// Whether a file has a poll operation (E3).
    pub(crate) fn may_be_watched(&self, object: Object) -> bool {
        !matches!(object, Object::Standard | Object::File(_) | Object::Kqueue(_))
    }

    /// The loop makes no such call; scripts do.
    #[cold]
    fn illegal_control(&mut self, thread: u32, error: Errno, what: &str, fd: Fd) -> Result<(), Errno> {
        self.violate("illegal-call", ThreadId(thread), format!("{what} {fd:?}"));
        Err(error)
    }
}
