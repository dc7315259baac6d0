//! Duplicates, descriptor flags and the descriptor limit.

use reactor::sys::{Errno, Fd};

use crate::kernel::syscalls::{SimSyscalls, nothing, number};
use crate::script::probe::Answer;
use crate::trace::CallKind;
use crate::world::World;

impl SimSyscalls {
    pub(super) fn dup_descriptor(&mut self, fd: Fd) -> Answer<Fd> {
        self.call(CallKind::Dup, fd.as_raw(), [0; 2], |world, thread| world.dup(thread, fd), number)
    }

    pub(super) fn dup_descriptor_to(&mut self, fd: Fd, to: Fd) -> Answer<Fd> {
        let arguments = [number(&to), 0];
        let carry_out = |world: &mut World, thread| world.dup2(thread, fd, to);
        self.call(CallKind::Dup2, fd.as_raw(), arguments, carry_out, number)
    }

    pub(super) fn is_non_blocking(&mut self, fd: Fd) -> Answer<i64> {
        let carry_out = |world: &mut World, thread| {
            let object = world.object(thread, fd)?;
            Ok(i64::from(!world.descriptions.is_blocking(object)))
        };
        self.call(CallKind::FcntlNonBlocking, fd.as_raw(), [0; 2], carry_out, |&on| on.cast_unsigned())
    }

    pub(super) fn set_non_blocking(&mut self, fd: Fd, on: bool) -> Answer<()> {
        let carry_out = |world: &mut World, thread| {
            let object = world.object(thread, fd)?;
            world.descriptions.set_blocking(object, !on);
            Ok(())
        };
        self.call(CallKind::FcntlNonBlocking, fd.as_raw(), [u64::from(on), 0], carry_out, nothing)
    }

    pub(super) fn is_closed_on_exec(&mut self, fd: Fd) -> Answer<i64> {
        let carry_out = |world: &mut World, thread| {
            world.object(thread, fd)?;
            Ok(i64::from(!world.process_of(thread).is_kept_on_exec(fd)))
        };
        self.call(CallKind::FcntlCloseOnExec, fd.as_raw(), [0; 2], carry_out, |&on| on.cast_unsigned())
    }

    pub(super) fn set_closed_on_exec(&mut self, fd: Fd, on: bool) -> Answer<()> {
        let carry_out = |world: &mut World, thread| {
            world.object(thread, fd)?;
            world.process_of(thread).set_kept_on_exec(fd, !on);
            Ok(())
        };
        self.call(CallKind::FcntlCloseOnExec, fd.as_raw(), [u64::from(on), 0], carry_out, nothing)
    }

    /// Sets or restores the limit that descriptor numbers are below.
    pub(super) fn limit_numbers(&mut self, limit: Option<usize>) -> Result<(), Errno> {
        let mut world = self.world().enter(self.thread());
        let process = world.process_of(self.thread().0);
        process.limit = limit.unwrap_or(process.limit_at_rest);
        Ok(())
    }
}
