//! The wide calls on the simulated kernel.

mod descriptors;
mod epoll;
mod poll;
mod readable;
mod sockets;
mod streams;
mod waits;

use std::net::SocketAddr;

use reactor::sys::Fd;

use super::probe::{Answer, MessageFlags, PollEntry, Probe, SocketKind, Ticket, WideKevent, WideOption};
use crate::decision::Decisions;
use crate::kernel::Kernel;
use crate::kernel::syscalls::SimSyscalls;
use crate::weather::{Latency, Swarm};
use crate::world::{SharedWorld, WorldOptions};

/// A world for scripts: one host of this kernel, one thread, links and wake-ups that take no time.
pub fn synchronous(kernel: Kernel) -> SimSyscalls {
    let mut swarm = Swarm::calm(Latency::constant(0));
    swarm.wake = Latency::constant(0);
    let options = WorldOptions { swarm: Some(swarm), ..WorldOptions::default() };
    let world = SharedWorld::new(options, Decisions::zeros());
    let host = world.add_host(kernel);
    world.add_thread(host)
}

pub(crate) use waits::StartedWait;

impl Probe for SimSyscalls {
    fn sleep(&mut self, ns: u64) {
        self.pass_time(ns);
    }

    fn dup(&mut self, fd: Fd) -> Answer<Fd> {
        self.dup_descriptor(fd)
    }

    fn dup2(&mut self, fd: Fd, to: Fd) -> Answer<Fd> {
        self.dup_descriptor_to(fd, to)
    }

    fn socket_of(&mut self, kind: SocketKind) -> Answer<Fd> {
        self.tcp_socket(kind)
    }

    fn socketpair(&mut self) -> Answer<(Fd, Fd)> {
        self.unix_socketpair()
    }

    fn accept_wide(&mut self, fd: Fd, non_blocking: bool, bad_flags: bool) -> Answer<Fd> {
        self.accept_with(fd, non_blocking, bad_flags)
    }

    fn bind_malformed(&mut self, fd: Fd, wrong_family: bool) -> Answer<()> {
        self.bind_wrongly(fd, wrong_family)
    }

    fn listen_wide(&mut self, fd: Fd, backlog: i32) -> Answer<()> {
        self.listen_with(fd, backlog)
    }

    fn disconnect(&mut self, fd: Fd) -> Answer<()> {
        self.disconnect_socket(fd)
    }

    fn getpeername(&mut self, fd: Fd) -> Answer<SocketAddr> {
        self.name_of_peer(fd)
    }

    fn shutdown_wide(&mut self, fd: Fd, how: i32) -> Answer<()> {
        match self.unix_behind(fd) {
            Some(unix) => self.unix_shut((fd, unix), how),
            None => self.shutdown_with(fd, how),
        }
    }

    fn option(&mut self, fd: Fd, option: WideOption) -> Answer<i64> {
        match option {
            WideOption::NonBlocking => self.is_non_blocking(fd),
            WideOption::CloseOnExec => self.is_closed_on_exec(fd),
            WideOption::Readable if !self.is_socket(fd) => self.readable_bytes(fd),
            _ => match self.unix_behind(fd) {
                Some(unix) => self.unix_option((fd, unix), option),
                None => self.read_option(fd, option),
            },
        }
    }

    fn set_option(&mut self, fd: Fd, option: WideOption, value: i64) -> Answer<()> {
        match option {
            WideOption::NonBlocking => self.set_non_blocking(fd, value != 0),
            WideOption::CloseOnExec => self.set_closed_on_exec(fd, value != 0),
            _ => self.write_option(fd, option, value),
        }
    }

    fn recv_wide(&mut self, fd: Fd, length: usize, flags: MessageFlags) -> Answer<Vec<u8>> {
        match self.unix_behind(fd) {
            Some(unix) => self.unix_recv((fd, unix), length, flags),
            None => self.recv_with(fd, length, flags),
        }
    }

    fn send_wide(&mut self, fd: Fd, bytes: &[u8], flags: MessageFlags) -> Answer<usize> {
        match self.unix_behind(fd) {
            Some(unix) => self.unix_send_to((fd, unix), bytes, flags),
            None => self.send_with(fd, bytes, flags),
        }
    }

    fn writev(&mut self, fd: Fd, segments: i32, length: usize) -> Answer<usize> {
        self.write_vectored(fd, segments, length)
    }

    fn sendmsg_wide(&mut self, fd: Fd, segments: usize, length: usize) -> Answer<usize> {
        self.send_vectored(fd, segments, length)
    }

    fn read(&mut self, fd: Fd, length: usize) -> Answer<Vec<u8>> {
        self.read_any(fd, length)
    }

    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Answer<usize> {
        self.write_any(fd, bytes)
    }

    fn send_descriptor(&mut self, fd: Fd, passed: Fd) -> Answer<()> {
        self.pass_descriptor(fd, passed)
    }

    fn receive_descriptor(&mut self, fd: Fd) -> Answer<Fd> {
        self.take_descriptor(fd)
    }

    fn eventfd_wide(&mut self, initial: u32, semaphore: bool) -> Answer<Fd> {
        self.eventfd_with(initial, semaphore)
    }

    fn pipe(&mut self) -> Answer<(Fd, Fd)> {
        self.pipe_pair()
    }

    fn timerfd(&mut self) -> Answer<Fd> {
        self.timerfd_new()
    }

    fn timerfd_set(&mut self, fd: Fd, value_ns: i64, interval_ns: i64, absolute: bool) -> Answer<()> {
        self.timerfd_arm(fd, (value_ns, interval_ns), absolute)
    }

    fn timerfd_get(&mut self, fd: Fd) -> Answer<(u64, u64)> {
        self.timerfd_left(fd)
    }

    fn file(&mut self, bytes: &[u8]) -> Answer<Fd> {
        self.file_of(bytes)
    }

    fn seek(&mut self, fd: Fd, offset: u64) -> Answer<u64> {
        self.seek_to(fd, offset)
    }

    fn sendfile(&mut self, to: Fd, from: Fd, length: usize) -> Answer<usize> {
        self.send_file(to, from, length)
    }

    fn epoll_create_wide(&mut self, size: Option<i32>, flags: i32) -> Answer<Fd> {
        self.epoll_create_with(size, flags)
    }

    fn epoll_ctl_wide(&mut self, epoll: Fd, operation: i32, fd: Fd, event: Option<(u32, u64)>) -> Answer<()> {
        self.epoll_control_with(epoll, operation, fd, event)
    }

    fn epoll_wait_wide(&mut self, epoll: Fd, room: i32, timeout_ms: i32) -> Answer<Vec<(u32, u64)>> {
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
        self.epoll_wait_to_end(epoll, room, timeout_ns)
    }

    fn epoll_pwait2(&mut self, epoll: Fd, room: i32, timeout: Option<(i64, i64)>) -> Answer<Vec<(u32, u64)>> {
        let timeout_ns = SimSyscalls::timeout_ns(timeout)?;
        self.epoll_wait_to_end(epoll, room, timeout_ns)
    }

    fn poll(&mut self, entries: &[PollEntry], timeout_ms: i32) -> Answer<Vec<PollEntry>> {
        self.poll_entries(entries, timeout_ms)
    }

    fn kevent_wide(
        &mut self,
        kqueue: Fd,
        changes: &[WideKevent],
        room: i32,
        timeout: Option<(i64, i64)>,
    ) -> Answer<Vec<WideKevent>> {
        self.kevent_to_end(kqueue, changes, room, timeout)
    }

    fn start_wait(&mut self, set: Fd, room: i32, timeout_ms: i32) -> Answer<Ticket> {
        self.start_wait_on_thread(set, room, timeout_ms)
    }

    fn is_over(&mut self, ticket: &Ticket) -> bool {
        self.is_wait_over(ticket)
    }

    fn finish_wait(&mut self, ticket: Ticket) -> Answer<Vec<(u32, u64)>> {
        self.end_of_epoll_wait(&ticket)
    }

    fn finish_kevent(&mut self, ticket: Ticket) -> Answer<Vec<WideKevent>> {
        self.end_of_kevent(&ticket)
    }

    fn limit_descriptors(&mut self, limit: Option<usize>) -> Answer<()> {
        self.limit_numbers(limit)
    }

    fn pipe_signals(&mut self) -> u64 {
        self.take_pipe_signals()
    }

    fn interrupt(&mut self, ticket: &Ticket) -> Answer<()> {
        self.interrupt_wait(ticket)
    }

    fn raise_ignored(&mut self) -> Answer<()> {
        self.signal_self()
    }

    fn set_alarm(&mut self, after_ns: u64) -> Answer<()> {
        self.order_alarm(after_ns);
        Ok(())
    }

    fn send_to(&mut self, fd: Fd, bytes: &[u8], address: &SocketAddr) -> Answer<usize> {
        self.send_to_address(fd, bytes, address)
    }

    fn set_ports(&mut self, low: u16, high: u16) -> Answer<()> {
        self.choose_ports_from(low, high)
    }

    fn set_loopback(&mut self, up: bool) -> Answer<()> {
        self.bring_loopback(up);
        Ok(())
    }

    fn select(&mut self, sets: [&[Fd]; 3], timeout_ms: i32) -> Answer<[Vec<Fd>; 3]> {
        self.select_sets(sets, timeout_ms)
    }
}
