//! The calls that scripts make of the live Linux kernel: each group does what its documentation says.

#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, SocketAddr};

use reactor::sys::{EpollMask, Errno, Fd, Syscalls};
use sim::script::live::Live;
use sim::script::probe::{MessageFlags, POLL_INVALID, PollEntry, Probe, SocketKind, WideOption};

const IN: u32 = EpollMask::IN.bits();
const OUT: u32 = EpollMask::OUT.bits();
const ADD: i32 = 1;

fn connected(live: &mut Live) -> (Fd, Fd) {
    let listener = live.socket_of(SocketKind::Tcp).unwrap();
    live.bind(listener, &SocketAddr::from((Ipv4Addr::new(127, 9, 9, 1), 0))).unwrap();
    live.listen_wide(listener, 1).unwrap();
    let address = live.getsockname(listener).unwrap();
    let client = live.socket_of(SocketKind::Tcp).unwrap();
    assert_eq!(live.connect(client, &address), Err(Errno::EINPROGRESS));
    let server = live.accept_wide(listener, true, false).unwrap();
    live.close(listener).unwrap();
    (client, server)
}

#[test]
fn what_a_script_leaves_open_is_closed_and_its_number_is_free_again() {
    let mut live = Live::new().unwrap();
    let first = live.socket_of(SocketKind::Tcp).unwrap();
    let (near, far) = live.socketpair().unwrap();
    live.close(near).unwrap();
    let (reader, writer) = live.pipe().unwrap();
    assert!(reader < far && far < writer);
    drop(live);
    let mut live = Live::new().unwrap();
    assert_eq!(live.eventfd_wide(0, false), Ok(first));
    assert_eq!(live.read(far, 1), Err(Errno::EBADF));
}

#[test]
fn a_duplicate_shares_the_socket_and_replaces_the_number_that_it_is_told() {
    let mut live = Live::new().unwrap();
    let (client, server) = connected(&mut live);
    let copy = live.dup(client).unwrap();
    live.close(client).unwrap();
    let spare = live.eventfd_wide(0, false).unwrap();
    assert_eq!(live.dup2(copy, spare), Ok(spare));
    assert_eq!(live.send_wide(spare, b"ab", MessageFlags::NOSIGNAL), Ok(2));
    assert_eq!(live.recv_wide(server, 9, MessageFlags::PEEK), Ok(b"ab".to_vec()));
    assert_eq!(live.recv_wide(server, 1, MessageFlags::empty()), Ok(b"a".to_vec()));
    assert_eq!(live.option(server, WideOption::Readable), Ok(1));
    assert_eq!(live.option(copy, WideOption::CloseOnExec), Ok(1));
}

#[test]
fn malformed_calls_on_sockets_reach_the_kernel_as_they_are() {
    let mut live = Live::new().unwrap();
    let socket = live.socket_of(SocketKind::Tcp).unwrap();
    assert_eq!(live.bind_malformed(socket, false), Err(Errno::EINVAL));
    assert_eq!(live.bind_malformed(socket, true), Err(Errno::EAFNOSUPPORT));
    assert_eq!(live.accept_wide(socket, true, false), Err(Errno::EINVAL));
    live.listen_wide(socket, -1).unwrap();
    assert_eq!(live.accept_wide(socket, true, true), Err(Errno::EINVAL));
    assert_eq!(live.accept_wide(socket, true, false), Err(Errno::EAGAIN));
    assert_eq!(live.shutdown_wide(socket, 7), Err(Errno::EINVAL));
    assert_eq!(live.getpeername(socket), Err(Errno::ENOTCONN));
    let udp = live.socket_of(SocketKind::Udp).unwrap();
    assert_eq!(live.listen_wide(udp, 1), Err(Errno::EOPNOTSUPP));
}

#[test]
fn disconnecting_resets_the_peer() {
    let mut live = Live::new().unwrap();
    let (client, server) = connected(&mut live);
    assert_eq!(live.getpeername(server), live.getsockname(client));
    live.disconnect(client).unwrap();
    assert_eq!(live.recv_wide(server, 1, MessageFlags::empty()), Err(Errno::ECONNRESET));
}

#[test]
fn options_are_read_back_as_the_kernel_keeps_them() {
    let mut live = Live::new().unwrap();
    let socket = live.socket_of(SocketKind::Tcp).unwrap();
    for (option, value, kept) in [
        (WideOption::SendBuffer, 20_000, 40_000),
        (WideOption::ReceiveBuffer, 20_000, 40_000),
        (WideOption::ReceiveLowWater, 7, 7),
        (WideOption::NoDelay, 1, 1),
        (WideOption::NotSentLowWater, 4096, 4096),
        (WideOption::SynCount, 3, 3),
        (WideOption::KeepAlive, 1, 1),
        (WideOption::ReuseAddress, 1, 1),
        (WideOption::ReusePort, 1, 1),
        (WideOption::Linger, 5, 5),
        (WideOption::Linger, -1, -1),
        (WideOption::NonBlocking, 0, 0),
        (WideOption::NonBlocking, 1, 1),
        (WideOption::CloseOnExec, 0, 0),
    ] {
        assert_eq!(live.set_option(socket, option, value), Ok(()), "{option:?}");
        assert_eq!(live.option(socket, option), Ok(kept), "{option:?}");
    }
    assert_eq!(live.option(socket, WideOption::Listens), Ok(0));
    assert_eq!(live.set_option(socket, WideOption::Listens, 1), Err(Errno::ENOPROTOOPT));
    assert_eq!(live.set_option(socket, WideOption::SendLowWater, 1), Err(Errno::ENOPROTOOPT));
}

#[test]
fn gathered_writes_send_every_segment_and_wrong_counts_are_refused() {
    let mut live = Live::new().unwrap();
    let (client, server) = connected(&mut live);
    assert_eq!(live.writev(client, 3, 5), Ok(15));
    assert_eq!(live.sendmsg_wide(client, 2, 5), Ok(10));
    assert_eq!(live.recv_wide(server, 100, MessageFlags::empty()).map(|bytes| bytes.len()), Ok(25));
    assert_eq!(live.writev(client, 0, 5), Ok(0));
    assert_eq!(live.writev(client, -1, 5), Err(Errno::EINVAL));
    assert_eq!(live.writev(client, 1025, 1), Err(Errno::EINVAL));
    assert_eq!(live.sendmsg_wide(client, 1025, 1), Err(Errno::EMSGSIZE));
}

#[test]
fn a_descriptor_travels_over_a_unix_stream() {
    let mut live = Live::new().unwrap();
    let (near, far) = live.socketpair().unwrap();
    let counter = live.eventfd_wide(4, false).unwrap();
    live.send_descriptor(near, counter).unwrap();
    live.close(counter).unwrap();
    let received = live.receive_descriptor(far).unwrap();
    assert_eq!(live.read(received, 8), Ok(4_u64.to_ne_bytes().to_vec()));
    live.write(near, b"x").unwrap();
    assert_eq!(live.receive_descriptor(far), Err(Errno::ENOENT));
    assert_eq!(live.receive_descriptor(far), Err(Errno::EAGAIN));
}

#[test]
fn a_broken_pipe_is_counted_as_a_signal_unless_the_call_asks_for_none() {
    let mut live = Live::new().unwrap();
    let (reader, writer) = live.pipe().unwrap();
    live.close(reader).unwrap();
    assert_eq!(live.write(writer, b"x"), Err(Errno::EPIPE));
    assert_eq!(live.pipe_signals(), 1);
    assert_eq!(live.pipe_signals(), 0);
    let (client, _) = connected(&mut live);
    live.shutdown_wide(client, 1).unwrap();
    assert_eq!(live.send_wide(client, b"x", MessageFlags::NOSIGNAL), Err(Errno::EPIPE));
    assert_eq!(live.pipe_signals(), 0);
    assert_eq!(live.send_wide(client, b"x", MessageFlags::empty()), Err(Errno::EPIPE));
    assert_eq!(live.pipe_signals(), 1);
}

#[test]
fn an_eventfd_counts_and_a_semaphore_gives_one_at_a_time() {
    let mut live = Live::new().unwrap();
    let semaphore = live.eventfd_wide(2, true).unwrap();
    assert_eq!(live.read(semaphore, 8), Ok(1_u64.to_ne_bytes().to_vec()));
    assert_eq!(live.read(semaphore, 8), Ok(1_u64.to_ne_bytes().to_vec()));
    assert_eq!(live.read(semaphore, 8), Err(Errno::EAGAIN));
}

#[test]
fn a_timer_counts_the_expiries_that_an_absolute_time_in_the_past_has_missed() {
    let mut live = Live::new().unwrap();
    let timer = live.timerfd().unwrap();
    live.timerfd_set(timer, -55_000_000, 10_000_000, true).unwrap();
    // What passes between the clock and the call may add some.
    let count = live.read(timer, 8).unwrap();
    assert!(u64::from_ne_bytes(count.try_into().unwrap()) >= 6);
    let (left_ns, interval_ns) = live.timerfd_get(timer).unwrap();
    assert!((1..=10_000_000).contains(&left_ns));
    assert_eq!(interval_ns, 10_000_000);
    assert_eq!(live.timerfd_set(timer, -1, 0, false), Err(Errno::EINVAL));
}

#[test]
fn sleeping_takes_at_least_as_long_as_it_is_told() {
    let mut live = Live::new().unwrap();
    let before = live.clock_gettime();
    live.sleep(3_000_000);
    assert!(live.clock_gettime().saturating_ns_since(before) >= 3_000_000);
}

#[test]
fn a_file_is_sent_from_its_offset_and_epoll_refuses_it() {
    let mut live = Live::new().unwrap();
    let file = live.file(b"abcdef").unwrap();
    let (client, server) = connected(&mut live);
    assert_eq!(live.seek(file, 2), Ok(2));
    assert_eq!(live.sendfile(client, file, 3), Ok(3));
    assert_eq!(live.recv_wide(server, 9, MessageFlags::empty()), Ok(b"cde".to_vec()));
    assert_eq!(live.read(file, 9), Ok(b"f".to_vec()));
    let epoll = live.epoll_create_wide(None, 0).unwrap();
    assert_eq!(live.epoll_ctl_wide(epoll, ADD, file, Some((IN, 0))), Err(Errno::EPERM));
}

#[test]
fn epoll_takes_any_argument_and_answers_bits_and_data() {
    let mut live = Live::new().unwrap();
    assert_eq!(live.epoll_create_wide(Some(0), 0), Err(Errno::EINVAL));
    assert_eq!(live.epoll_create_wide(None, 1), Err(Errno::EINVAL));
    let epoll = live.epoll_create_wide(Some(1), 0).unwrap();
    let counter = live.eventfd_wide(1, false).unwrap();
    assert_eq!(live.epoll_ctl_wide(epoll, ADD, counter, None), Err(Errno::EFAULT));
    assert_eq!(live.epoll_ctl_wide(epoll, 42, counter, Some((IN, 0))), Err(Errno::EINVAL));
    live.epoll_ctl_wide(epoll, ADD, counter, Some((IN | OUT, 77))).unwrap();
    assert_eq!(live.epoll_wait_wide(epoll, 8, 0), Ok(vec![(IN | OUT, 77)]));
    for room in [0, -1, i32::MAX] {
        assert_eq!(live.epoll_wait_wide(epoll, room, 0), Err(Errno::EINVAL), "{room}");
    }
    assert_eq!(live.epoll_pwait2(epoll, 8, Some((0, 0))), Ok(vec![(IN | OUT, 77)]));
    assert_eq!(live.epoll_pwait2(epoll, 8, Some((0, -1))), Err(Errno::EINVAL));
}

#[test]
fn poll_and_select_say_what_is_ready_and_what_is_no_descriptor() {
    let mut live = Live::new().unwrap();
    let counter = live.eventfd_wide(1, false).unwrap();
    let empty = live.eventfd_wide(0, false).unwrap();
    let closed = live.eventfd_wide(0, false).unwrap();
    live.close(closed).unwrap();
    let entry = |fd: i32, bits| PollEntry { fd, bits };
    let asked =
        [entry(counter.as_raw(), IN), entry(closed.as_raw(), IN), entry(-1, IN), entry(empty.as_raw(), IN)];
    let found: Vec<u32> = live.poll(&asked, 0).unwrap().iter().map(|entry| entry.bits).collect();
    assert_eq!(found, [IN, POLL_INVALID, 0, 0]);
    let left = live.select([&[empty, counter], &[empty], &[counter]], 0);
    assert_eq!(left, Ok([vec![counter], vec![empty], vec![]]));
    assert_eq!(live.select([&[closed], &[], &[]], 0), Err(Errno::EBADF));
    assert_eq!(live.select([&[Fd::from_raw(1024)], &[], &[]], 0), Err(Errno::EINVAL));
}

#[test]
fn a_wait_on_another_thread_ends_by_what_this_thread_does() {
    let mut live = Live::new().unwrap();
    let epoll = live.epoll_create_wide(None, 0).unwrap();
    let counter = live.eventfd_wide(0, false).unwrap();
    live.epoll_ctl_wide(epoll, ADD, counter, Some((IN, 5))).unwrap();
    for _ in 0..50 {
        let ticket = live.start_wait(epoll, 8, -1).unwrap();
        assert!(!live.is_over(&ticket));
        live.write(counter, &1_u64.to_ne_bytes()).unwrap();
        assert!(live.is_over(&ticket));
        assert_eq!(live.finish_wait(ticket), Ok(vec![(IN, 5)]));
        live.read(counter, 8).unwrap();
    }
}

#[test]
fn a_signal_interrupts_a_wait_and_an_ignored_one_does_not() {
    let mut live = Live::new().unwrap();
    let epoll = live.epoll_create_wide(None, 0).unwrap();
    let ticket = live.start_wait(epoll, 8, -1).unwrap();
    live.raise_ignored().unwrap();
    assert!(!live.is_over(&ticket));
    live.interrupt(&ticket).unwrap();
    assert_eq!(live.finish_wait(ticket), Err(Errno::EINTR));
}

#[test]
fn a_wait_that_is_never_finished_ends_with_its_kernel() {
    let mut live = Live::new().unwrap();
    let epoll = live.epoll_create_wide(None, 0).unwrap();
    live.start_wait(epoll, 8, -1).unwrap();
    drop(live);
    Live::new().unwrap();
}

#[test]
fn a_limit_stands_before_new_numbers_until_it_is_restored() {
    let mut live = Live::new().unwrap();
    let epoll = live.epoll_create_wide(None, 0).unwrap();
    let limit = usize::try_from(epoll.as_raw()).unwrap() + 1;
    live.limit_descriptors(Some(limit)).unwrap();
    assert_eq!(live.eventfd_wide(0, false), Err(Errno::EMFILE));
    // Looking at the thread takes a number, which the limit does not forbid.
    let ticket = live.start_wait(epoll, 8, -1).unwrap();
    assert!(!live.is_over(&ticket));
    assert_eq!(live.dup(epoll), Err(Errno::EMFILE));
    drop(live);
    let mut live = Live::new().unwrap();
    live.limit_descriptors(Some(limit)).unwrap();
    live.limit_descriptors(None).unwrap();
    live.epoll_create_wide(None, 0).unwrap();
    live.eventfd_wide(0, false).unwrap();
}
