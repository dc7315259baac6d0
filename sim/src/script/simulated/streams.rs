//! AF_UNIX streams, where they differ from TCP sockets.

use reactor::sys::{Errno, Fd};

use crate::kernel::Object;
use crate::kernel::syscalls::{SimSyscalls, nothing, number};
use crate::script::probe::{Answer, MessageFlags, WideOption};
use crate::trace::CallKind;
use crate::world::World;

impl SimSyscalls {
    /// The UNIX stream behind a descriptor, if it is one.
    pub(super) fn unix_behind(&mut self, fd: Fd) -> Option<u32> {
        let mut world = self.world().enter(self.thread());
        match world.process_of(self.thread().0).get(fd) {
            Some(Object::Unix(unix)) => Some(unix),
            _ => None,
        }
    }

    pub(super) fn unix_socket(&mut self) -> Answer<Fd> {
        self.call(CallKind::Socket, -1, [1, 0], World::unix_create, number)
    }

    pub(super) fn unix_socketpair(&mut self) -> Answer<(Fd, Fd)> {
        let both = |(first, second): &(Fd, Fd)| number(first) | number(second) << 32;
        self.call(CallKind::Socketpair, -1, [0; 2], World::unix_pair, both)
    }

    pub(super) fn unix_recv(
        &mut self,
        (fd, unix): (Fd, u32),
        length: usize,
        flags: MessageFlags,
    ) -> Answer<Vec<u8>> {
        let peek = flags.contains(MessageFlags::PEEK);
        let arguments = [length as u64, u64::from(flags.bits())];
        let carry_out = |world: &mut World, _| {
            let received = world.unix_receive(unix, length, peek)?;
            if let Some(object) = received.passed {
                // Who does not ask for a descriptor loses it.
                world.release(object);
            }
            Ok(received.bytes)
        };
        self.call(CallKind::Recv, fd.as_raw(), arguments, carry_out, |bytes| bytes.len() as u64)
    }

    pub(super) fn unix_send_to(
        &mut self,
        (fd, unix): (Fd, u32),
        bytes: &[u8],
        flags: MessageFlags,
    ) -> Answer<usize> {
        let arguments = [bytes.len() as u64, u64::from(flags.bits())];
        let carry_out = |world: &mut World, thread| {
            let result = world.unix_send(unix, bytes, None);
            if result == Err(Errno::EPIPE) && !flags.contains(MessageFlags::NOSIGNAL) {
                world.process_of(thread).pipe_signals += 1;
            }
            result
        };
        self.call(CallKind::Send, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    pub(super) fn unix_shut(&mut self, (fd, unix): (Fd, u32), how: i32) -> Answer<()> {
        let carry_out = |world: &mut World, _| {
            if !(0..=2).contains(&how) {
                return Err(Errno::EINVAL);
            }
            world.unix_shutdown(unix, how != 1, how != 0);
            Ok(())
        };
        self.call(CallKind::Shutdown, fd.as_raw(), [u64::from(how.cast_unsigned()), 0], carry_out, nothing)
    }

    pub(super) fn unix_option(&mut self, (fd, unix): (Fd, u32), option: WideOption) -> Answer<i64> {
        let carry_out = |world: &mut World, _| match option {
            WideOption::SendBuffer => {
                Ok(i64::try_from(world.unixes[unix].send_capacity()).unwrap_or(i64::MAX))
            }
            WideOption::Listens => Ok(0),
            _ => Err(Errno::EOPNOTSUPP),
        };
        let arguments = [option as u64, 0];
        self.call(CallKind::Getsockopt, fd.as_raw(), arguments, carry_out, |&value| value.cast_unsigned())
    }

    pub(super) fn pass_descriptor(&mut self, fd: Fd, passed: Fd) -> Answer<()> {
        let carry_out = |world: &mut World, thread| world.descriptor_send(thread, fd, passed);
        self.call(CallKind::Sendmsg, fd.as_raw(), [1, number(&passed)], carry_out, nothing)
    }

    pub(super) fn take_descriptor(&mut self, fd: Fd) -> Answer<Fd> {
        let carry_out = |world: &mut World, thread| world.descriptor_receive(thread, fd);
        self.call(CallKind::Recvmsg, fd.as_raw(), [1, 0], carry_out, number)
    }
}
