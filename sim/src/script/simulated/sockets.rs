//! TCP sockets in their full width, and calls that wait: the world goes on until they can return.

use std::net::SocketAddr;

use reactor::sys::{Errno, Family, Fd, Syscalls};

use crate::kernel::Object;
use crate::kernel::port::Ports;
use crate::kernel::syscalls::{Passed, SimSyscalls, nothing, number};
use crate::script::probe::{Answer, MessageFlags, SocketKind, WideOption};
use crate::trace::{CallKind, word_of_address};
use crate::world::World;

impl SimSyscalls {
    /// Repeats a call that would wait, each time after the next thing that happens, if the descriptor is in blocking mode.
    fn until_done<R>(
        &mut self,
        fd: Fd,
        flags: MessageFlags,
        mut call: impl FnMut(&mut SimSyscalls) -> Answer<R>,
    ) -> Answer<R> {
        loop {
            let answer = call(self);
            let waits = matches!(answer, Err(Errno::EAGAIN)) && !flags.contains(MessageFlags::DONTWAIT);
            if !waits || !self.is_blocking(fd) {
                return answer;
            }
            match self.pass_to_next_event() {
                Passed::Event => {}
                Passed::Alarm => return Err(Errno::EINTR),
                Passed::Nothing => return answer,
            }
        }
    }

    pub(super) fn tcp_socket(&mut self, kind: SocketKind) -> Answer<Fd> {
        match kind {
            SocketKind::Tcp => self.socket(Family::V4),
            SocketKind::Unix => self.unix_socket(),
            SocketKind::Udp => Err(Errno::Unsupported),
        }
    }

    pub(super) fn accept_with(&mut self, fd: Fd, non_blocking: bool, bad_flags: bool) -> Answer<Fd> {
        let carry_out = |world: &mut World, thread| world.accept_flagged(thread, fd, non_blocking, bad_flags);
        let arguments = [u64::from(non_blocking), u64::from(bad_flags)];
        self.until_done(fd, MessageFlags::empty(), |calls| {
            calls.call(CallKind::Accept4, fd.as_raw(), arguments, carry_out, number)
        })
    }

    pub(super) fn bind_wrongly(&mut self, fd: Fd, wrong_family: bool) -> Answer<()> {
        let carry_out = |world: &mut World, thread| {
            world.socket_behind(thread, fd)?;
            Err(if wrong_family { Errno::EAFNOSUPPORT } else { Errno::EINVAL })
        };
        self.call(CallKind::Bind, fd.as_raw(), [0; 2], carry_out, nothing)
    }

    pub(super) fn listen_with(&mut self, fd: Fd, backlog: i32) -> Answer<()> {
        self.listen(fd, backlog.cast_unsigned())
    }

    pub(super) fn disconnect_socket(&mut self, fd: Fd) -> Answer<()> {
        let carry_out = |world: &mut World, thread| world.disconnect(thread, fd);
        self.call(CallKind::Connect, fd.as_raw(), [0; 2], carry_out, nothing)
    }

    pub(super) fn name_of_peer(&mut self, fd: Fd) -> Answer<SocketAddr> {
        let carry_out = |world: &mut World, thread| world.peer_name(thread, fd);
        let value = |address: &std::net::SocketAddrV4| word_of_address(*address);
        self.call(CallKind::Getpeername, fd.as_raw(), [0; 2], carry_out, value).map(SocketAddr::V4)
    }

    pub(super) fn shutdown_with(&mut self, fd: Fd, how: i32) -> Answer<()> {
        let carry_out = |world: &mut World, thread| world.shutdown_numbered(thread, fd, how);
        let arguments = [u64::from(how.cast_unsigned()), 0];
        self.call(CallKind::Shutdown, fd.as_raw(), arguments, carry_out, nothing)
    }

    pub(super) fn read_option(&mut self, fd: Fd, option: WideOption) -> Answer<i64> {
        let carry_out = |world: &mut World, thread| world.wide_option(thread, fd, option);
        let arguments = [option as u64, 0];
        self.call(CallKind::Getsockopt, fd.as_raw(), arguments, carry_out, |&value| value.cast_unsigned())
    }

    pub(super) fn write_option(&mut self, fd: Fd, option: WideOption, value: i64) -> Answer<()> {
        let carry_out = |world: &mut World, thread| world.set_wide_option(thread, fd, option, value);
        let arguments = [option as u64, value.cast_unsigned()];
        self.call(CallKind::SetsockoptWide, fd.as_raw(), arguments, carry_out, nothing)
    }

    pub(super) fn recv_with(&mut self, fd: Fd, length: usize, flags: MessageFlags) -> Answer<Vec<u8>> {
        let arguments = [length as u64, u64::from(flags.bits())];
        let mut received = Vec::new();
        loop {
            let left = length - received.len();
            let part = self.until_done(fd, flags, |calls| {
                let carry_out = |world: &mut World, thread| world.recv_message(thread, fd, left, flags);
                calls.call(CallKind::Recv, fd.as_raw(), arguments, carry_out, |bytes| bytes.len() as u64)
            });
            match part {
                Ok(bytes) => {
                    let end = bytes.is_empty();
                    received.extend(bytes);
                    let whole = flags.contains(MessageFlags::WAITALL) && self.is_blocking(fd);
                    if end || !whole || received.len() == length {
                        return Ok(received);
                    }
                }
                Err(error) if received.is_empty() => return Err(error),
                Err(_) => return Ok(received),
            }
        }
    }

    pub(super) fn send_with(&mut self, fd: Fd, bytes: &[u8], flags: MessageFlags) -> Answer<usize> {
        let arguments = [bytes.len() as u64, u64::from(flags.bits())];
        let mut sent = 0;
        loop {
            let part = self.until_done(fd, flags, |calls| {
                let carry_out =
                    |world: &mut World, thread| world.send_message(thread, fd, &bytes[sent..], flags);
                calls.call(CallKind::Send, fd.as_raw(), arguments, carry_out, |&count| count as u64)
            });
            match part {
                Ok(count) => {
                    sent += count;
                    if sent == bytes.len() || !self.is_blocking(fd) || flags.contains(MessageFlags::DONTWAIT)
                    {
                        return Ok(sent);
                    }
                }
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
        }
    }

    pub(super) fn write_vectored(&mut self, fd: Fd, segments: i32, length: usize) -> Answer<usize> {
        let carry_out = |world: &mut World, thread| world.write_segments(thread, fd, segments, length);
        let arguments = [u64::from(segments.cast_unsigned()), length as u64];
        self.call(CallKind::Writev, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    pub(super) fn send_vectored(&mut self, fd: Fd, segments: usize, length: usize) -> Answer<usize> {
        let carry_out = |world: &mut World, thread| world.send_segments(thread, fd, segments, length);
        let arguments = [segments.saturating_mul(length) as u64, segments as u64];
        self.call(CallKind::Sendmsg, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    /// read(2) of a socket: like recv(2), but nothing asked for is nothing read (T47).
    pub(super) fn read_socket(&mut self, fd: Fd, length: usize) -> Answer<Vec<u8>> {
        if length == 0 {
            return Ok(Vec::new());
        }
        self.recv_with(fd, length, MessageFlags::empty())
    }

    /// sendto(2): a stream on Linux does not look at the address (T65). Others are not modelled.
    pub(super) fn send_to_address(&mut self, fd: Fd, bytes: &[u8], address: &SocketAddr) -> Answer<usize> {
        if self.kernel().is_bsd() || !address.is_ipv4() {
            return Err(Errno::Unsupported);
        }
        self.send_with(fd, bytes, MessageFlags::NOSIGNAL)
    }

    pub(super) fn order_alarm(&mut self, after_ns: u64) {
        let mut world = self.world().enter(self.thread());
        let now = world.threads[self.thread().0 as usize].local;
        world.alarm = Some(now.saturating_add(after_ns));
    }

    pub(super) fn choose_ports_from(&mut self, low: u16, high: u16) -> Answer<()> {
        if low == 0 || low > high || high == u16::MAX {
            return Err(Errno::EINVAL);
        }
        self.ports(|ports| ports.set_range(low, high));
        Ok(())
    }

    pub(super) fn bring_loopback(&mut self, up: bool) {
        self.ports(|ports| ports.loopback_is_down = !up);
    }

    fn ports(&mut self, change: impl FnOnce(&mut Ports)) {
        let mut world = self.world().enter(self.thread());
        let host = world.threads[self.thread().0 as usize].host;
        change(&mut world.hosts[host as usize].ports);
    }

    pub(super) fn is_socket(&mut self, fd: Fd) -> bool {
        let mut world = self.world().enter(self.thread());
        matches!(world.process_of(self.thread().0).get(fd), Some(Object::Socket(_)))
    }

    pub(super) fn take_pipe_signals(&mut self) -> u64 {
        let mut world = self.world().enter(self.thread());
        std::mem::take(&mut world.process_of(self.thread().0).pipe_signals)
    }
}
