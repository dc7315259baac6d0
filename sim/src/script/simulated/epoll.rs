//! epoll in full width, on the simulated kernel.

use reactor::sys::{EpollEvent, EpollMask, Errno, Fd, Syscalls, Wait};

use crate::kernel::epoll::Asked;
use crate::kernel::syscalls::{SimSyscalls, nothing, number};
use crate::script::probe::Answer;
use crate::trace::CallKind;
use crate::world::World;

/// `EPOLL_CLOEXEC`, the only flag.
const CLOSE_ON_EXEC: i32 = 0o2_000_000;
/// A list of events must fit in 2 GiB (E38).
const ROOM_MAX: i32 = i32::MAX / 12;
/// No list of events in a script is longer, whatever room it offers.
const LISTED_MAX: usize = 4_096;
const SECOND_NS: i64 = 1_000_000_000;

impl SimSyscalls {
    pub(super) fn epoll_create_with(&mut self, size: Option<i32>, flags: i32) -> Answer<Fd> {
        if size.is_some_and(|size| size <= 0) || flags & !CLOSE_ON_EXEC != 0 {
            return Err(Errno::EINVAL);
        }
        self.epoll_create1()
    }

    pub(super) fn epoll_control_with(
        &mut self,
        epoll: Fd,
        operation: i32,
        fd: Fd,
        event: Option<(u32, u64)>,
    ) -> Answer<()> {
        if self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        let (mask, data) = event.unwrap_or((0, 0));
        let event = event.map(|(mask, data)| (EpollMask::from_bits_retain(mask), data));
        // The trace has ADD, MOD and DEL in the order of the seam.
        let traced = match operation {
            1 => 0,
            3 => 1,
            _ => 2,
        };
        let arguments = [traced | number(&fd) << 2 | u64::from(mask) << 32, data];
        let carry_out =
            |world: &mut World, thread| world.epoll_control(thread, (epoll, operation, fd), event);
        self.call(CallKind::EpollCtl, epoll.as_raw(), arguments, carry_out, nothing)
    }

    /// epoll_pwait2(2), to its end.
    pub(super) fn epoll_wait_to_end(
        &mut self,
        epoll: Fd,
        room: i32,
        timeout_ns: Option<u64>,
    ) -> Answer<Vec<(u32, u64)>> {
        self.wait_to_end(|calls, _| calls.epoll_once(epoll, room, timeout_ns))
    }

    /// A wait on an epoll set, entered once; nothing while it sleeps.
    pub(super) fn epoll_once(
        &mut self,
        epoll: Fd,
        room: i32,
        timeout_ns: Option<u64>,
    ) -> Answer<Option<Vec<(u32, u64)>>> {
        if self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        let room = usize::try_from(room).ok().filter(|&count| count > 0 && room <= ROOM_MAX);
        let mut events = vec![EpollEvent::default(); room.ok_or(Errno::EINVAL)?.min(LISTED_MAX)];
        let timeout_ms = timeout_ns.map_or(-1, |ns| i32::try_from(ns / 1_000_000).unwrap_or(i32::MAX));
        let arguments = crate::kernel::epoll::wait_arguments(timeout_ms, events.len());
        let asked = Asked { timeout_ns, arguments };
        let wait = self.wait(CallKind::EpollWait, epoll.as_raw(), arguments, |world, thread| {
            world.epoll_wait_ns(thread, epoll, &mut events, asked)
        })?;
        Ok(match wait {
            Wait::Ready(count) => {
                Some(events[..count].iter().map(|event| (event.events, event.data)).collect())
            }
            Wait::Parked => None,
        })
    }

    /// The timeout of epoll_pwait2(2) (E47).
    pub(super) fn timeout_ns(timeout: Option<(i64, i64)>) -> Answer<Option<u64>> {
        match timeout {
            None => Ok(None),
            Some((seconds @ 0.., nanoseconds @ 0..SECOND_NS)) => {
                Ok(Some(seconds.saturating_mul(SECOND_NS).saturating_add(nanoseconds).cast_unsigned()))
            }
            Some(_) => Err(Errno::EINVAL),
        }
    }
}
