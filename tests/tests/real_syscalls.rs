//! The real backend, `reactor::sys::System`, on the real kernel over loopback: what the contract of the seam promises.
//!
//! No case measures how long anything takes. Where one has to wait, it waits for readiness in the kernel, and gives up
//! after ten seconds, which only a failure reaches.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::thread;

use reactor::sys::{
    Congestion, EpollEvent, EpollMask, EpollOperation, Errno, Family, Fd, Filter, Kevent, KeventFlags,
    Readiness, Shutdown, SocketOption, Syscalls, System, Wait, WakeTarget,
};

const PATIENCE_MS: i32 = 10_000;

const LOOPBACK_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LOOPBACK_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

/// A descriptor that is closed at the end of its scope, so that cases run beside each other without running out.
#[derive(Debug)]
struct Open(Fd);

impl Open {
    /// Closes it now, and reports how that went.
    fn close(self) -> Result<(), Errno> {
        let fd = self.0;
        std::mem::forget(self);
        System::new().close(fd)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        System::new().close(self.0).expect("close of a descriptor that is open");
    }
}

#[derive(Copy, Clone, Debug)]
enum Direction {
    In,
    Out,
}

/// Waits until `fd` is ready in this direction, level-triggered.
fn wait_until_ready(fd: &Open, direction: Direction) {
    let mut system = System::new();
    let ready = match system.readiness() {
        Readiness::Epoll => {
            let epoll = Open(system.epoll_create1().unwrap());
            let mask = match direction {
                Direction::In => EpollMask::IN,
                Direction::Out => EpollMask::OUT,
            };
            system.epoll_ctl(epoll.0, EpollOperation::Add, fd.0, mask, 0).unwrap();
            system.epoll_wait(epoll.0, &mut [EpollEvent::default()], PATIENCE_MS)
        }
        Readiness::Kqueue => {
            let kqueue = Open(system.kqueue().unwrap());
            let filter = match direction {
                Direction::In => Filter::Read,
                Direction::Out => Filter::Write,
            };
            let ident = u64::try_from(fd.0.as_raw()).unwrap();
            let change = Kevent { ident, filter, flags: KeventFlags::ADD, ..Kevent::EMPTY };
            system.kevent(kqueue.0, &[change], &mut [Kevent::EMPTY], Some(10_000_000_000))
        }
    };
    assert_eq!(ready, Ok(Wait::Ready(1)), "{fd:?} becomes ready: {direction:?}");
}

/// The loopback addresses that this machine has.
fn loopbacks() -> Vec<SocketAddr> {
    let mut system = System::new();
    let v6 = system.socket(Family::V6).map(Open).and_then(|socket| system.bind(socket.0, &LOOPBACK_V6));
    match v6 {
        Ok(()) => vec![LOOPBACK_V4, LOOPBACK_V6],
        Err(error) => {
            println!("IPv6 is left out, this machine has none: {error}");
            vec![LOOPBACK_V4]
        }
    }
}

fn socket(family: Family) -> Open {
    Open(System::new().socket(family).unwrap())
}

/// A listener, with options set before the bind, and its address.
fn listener(on: SocketAddr, options: &[SocketOption]) -> (Open, SocketAddr) {
    let mut system = System::new();
    let listener = socket(Family::of(&on));
    for option in options {
        system.setsockopt(listener.0, *option).unwrap();
    }
    system.bind(listener.0, &on).unwrap();
    system.listen(listener.0, 16).unwrap();
    let address = system.getsockname(listener.0).unwrap();
    (listener, address)
}

/// Two ends of one connection: the one that connected and the one that was accepted. The options are set on the first
/// before it connects, and on the listener, from which the second has them.
fn connection(on: SocketAddr, options: &[SocketOption]) -> (Open, Open) {
    let mut system = System::new();
    let (listener, address) = listener(on, options);
    let client = socket(Family::of(&on));
    for option in options {
        system.setsockopt(client.0, *option).unwrap();
    }
    match system.connect(client.0, &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => panic!("connect: {error}"),
    }
    wait_until_ready(&listener, Direction::In);
    let accepted = system.accept4(listener.0).unwrap();
    wait_until_ready(&client, Direction::Out);
    assert_eq!(system.take_socket_error(client.0), Ok(None));
    assert_eq!(accepted.peer, Some(system.getsockname(client.0).unwrap()));
    (client, Open(accepted.fd))
}

/// Receives until `wanted` bytes are there.
fn receive(fd: &Open, wanted: usize) -> Vec<u8> {
    let mut system = System::new();
    let mut received = Vec::new();
    let mut buffer = vec![0; 65_536];
    while received.len() < wanted {
        wait_until_ready(fd, Direction::In);
        let most = buffer.len().min(wanted - received.len());
        let bytes = system.recv(fd.0, &mut buffer[..most]).unwrap();
        assert_ne!(bytes, 0, "the stream ended after {} of {wanted} bytes", received.len());
        received.extend_from_slice(&buffer[..bytes]);
    }
    received
}

/// Bytes that tell where in the stream they belong.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// Runs one ignored case of this file in a process of its own, where it is alone with its descriptors.
///
/// `before` is shell text, run in the same process before the case.
#[cfg(unix)]
fn run_alone(case: &str, before: &str) {
    let this = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{before} exec \"$0\" --ignored --exact \"$1\" --test-threads=1"))
        .arg(this)
        .arg(case)
        .output()
        .unwrap();
    let says = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && says.contains("1 passed"), "{case} alone:\n{says}");
}

#[test]
fn a_connection_knows_its_addresses_and_carries_bytes_both_ways() {
    let mut system = System::new();
    for on in loopbacks() {
        let (client, server) = connection(on, &[]);
        assert_eq!(system.send(client.0, b"question"), Ok(8));
        assert_eq!(receive(&server, 8), b"question");
        assert_eq!(system.send(server.0, b"answer"), Ok(6));
        assert_eq!(receive(&client, 6), b"answer");
        assert_eq!(system.getsockname(server.0).unwrap().ip(), on.ip());
    }
}

#[test]
fn an_empty_accept_queue_and_an_empty_stream_say_eagain() {
    let mut system = System::new();
    let (listener, _) = listener(LOOPBACK_V4, &[]);
    assert_eq!(system.accept4(listener.0), Err(Errno::EAGAIN));
    let (client, server) = connection(LOOPBACK_V4, &[]);
    assert_eq!(system.recv(client.0, &mut [0; 8]), Err(Errno::EAGAIN));
    assert_eq!(system.recv(server.0, &mut [0; 8]), Err(Errno::EAGAIN));
}

#[test]
fn a_small_send_buffer_gives_short_writes_then_eagain_and_loses_nothing() {
    let mut system = System::new();
    let small = [SocketOption::SendBufferBytes(8_192), SocketOption::ReceiveBufferBytes(8_192)];
    let (client, server) = connection(LOOPBACK_V4, &small);
    let sent = pattern(1 << 20);
    let mut accepted = system.send(client.0, &sent).unwrap();
    assert!(accepted < sent.len(), "a buffer of 8 KiB took a MiB");
    // A short count does not mean that the next send fails (kernel-semantics T53).
    let error = loop {
        match system.send(client.0, &sent[accepted..]) {
            Ok(bytes) => accepted += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::EAGAIN);
    assert_eq!(receive(&server, accepted), &sent[..accepted]);
    wait_until_ready(&client, Direction::Out);
    assert!(system.send(client.0, &sent).unwrap() > 0);
}

#[test]
fn a_vectored_write_keeps_the_order_of_its_segments_and_may_end_inside_one() {
    let mut system = System::new();
    let (client, server) = connection(LOOPBACK_V4, &[]);
    let segments = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two "), IoSlice::new(b"three")];
    assert_eq!(system.sendmsg(client.0, &segments), Ok(13));
    assert_eq!(receive(&server, 13), b"one two three");
    assert_eq!(system.sendmsg(client.0, &[]), Ok(0));

    let small = [SocketOption::SendBufferBytes(8_192), SocketOption::ReceiveBufferBytes(8_192)];
    let (client, server) = connection(LOOPBACK_V4, &small);
    let big = pattern(1 << 20);
    let segments = [IoSlice::new(&big[..100]), IoSlice::new(&big[100..])];
    let bytes = system.sendmsg(client.0, &segments).unwrap();
    assert!(bytes > 100 && bytes < big.len(), "{bytes} bytes end inside the second segment");
    assert_eq!(receive(&server, bytes), &big[..bytes]);
}

#[test]
fn more_segments_than_the_system_takes_say_emsgsize() {
    let mut system = System::new();
    let (client, _server) = connection(LOOPBACK_V4, &[]);
    let segments: Vec<IoSlice<'_>> = (0..1_025).map(|_| IoSlice::new(b"x")).collect();
    assert_eq!(system.sendmsg(client.0, &segments), Err(Errno::EMSGSIZE));
    assert_eq!(system.sendmsg(client.0, &segments[..1_024]), Ok(1_024));
}

#[test]
fn after_a_fin_the_data_comes_first_and_then_zero_for_ever() {
    let mut system = System::new();
    for on in loopbacks() {
        let (client, server) = connection(on, &[]);
        system.send(client.0, b"last").unwrap();
        system.shutdown(client.0, Shutdown::Write).unwrap();
        assert_eq!(receive(&server, 4), b"last");
        wait_until_ready(&server, Direction::In);
        assert_eq!(system.recv(server.0, &mut [0; 8]), Ok(0));
        assert_eq!(system.recv(server.0, &mut [0; 8]), Ok(0));
        // Only one direction has ended.
        system.send(server.0, b"and more").unwrap();
        assert_eq!(receive(&client, 8), b"and more");
        assert_eq!(system.send(client.0, b"x"), Err(Errno::EPIPE));
    }
}

#[test]
fn a_reset_is_reported_once_and_then_the_stream_is_at_its_end() {
    let mut system = System::new();
    let (client, server) = connection(LOOPBACK_V4, &[]);
    system.setsockopt(client.0, SocketOption::ResetOnClose(true)).unwrap();
    client.close().unwrap();
    wait_until_ready(&server, Direction::In);
    assert_eq!(system.recv(server.0, &mut [0; 8]), Err(Errno::ECONNRESET));
    assert_eq!(system.recv(server.0, &mut [0; 8]), Ok(0));
    assert_eq!(system.send(server.0, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_refused_connection_is_told_once_by_the_socket_error() {
    let mut system = System::new();
    for on in loopbacks() {
        // Bound but not listening: the port is taken, and refuses.
        let refuses = socket(Family::of(&on));
        system.bind(refuses.0, &on).unwrap();
        let address = system.getsockname(refuses.0).unwrap();
        let client = socket(Family::of(&on));
        assert_eq!(system.connect(client.0, &address), Err(Errno::EINPROGRESS));
        wait_until_ready(&client, Direction::Out);
        assert_eq!(system.take_socket_error(client.0), Ok(Some(Errno::ECONNREFUSED)));
        assert_eq!(system.take_socket_error(client.0), Ok(None));
    }
}

#[test]
fn every_listed_error_has_a_host_number_that_leads_back_to_it() {
    for &error in Errno::LISTED {
        match error.host_number() {
            Some(number) => assert_eq!(Errno::from_host_number(number), error),
            None => {
                assert!(error == Errno::ENONET && cfg!(not(target_os = "linux")), "{error} has no number")
            }
        }
    }
    assert_eq!(Errno::from_host_number(i32::MAX), Errno::Unlisted(i32::MAX));
    assert_eq!(Errno::Unlisted(i32::MAX).host_number(), Some(i32::MAX));
    let number = Errno::Unsupported.host_number().unwrap();
    assert_eq!(Errno::from_host_number(number), Errno::Unsupported);
}

#[test]
fn every_option_is_accepted_or_says_that_the_system_lacks_it() {
    let mut system = System::new();
    let socket_v4 = socket(Family::V4);
    for on in [true, false] {
        for option in [
            SocketOption::ReuseAddress(on),
            SocketOption::ReusePort(on),
            SocketOption::NoDelay(on),
            SocketOption::KeepAlive(on),
            SocketOption::ResetOnClose(on),
        ] {
            assert_eq!(system.setsockopt(socket_v4.0, option), Ok(()), "{option:?}");
        }
    }
    assert_eq!(system.setsockopt(socket_v4.0, SocketOption::SendBufferBytes(u32::MAX)), Ok(()));
    assert_eq!(system.setsockopt(socket_v4.0, SocketOption::ReceiveBufferBytes(1)), Ok(()));
    for algorithm in [Congestion::Reno, Congestion::Cubic] {
        // ENOENT: the algorithm is a module of the kernel, and not loaded.
        let answer = system.setsockopt(socket_v4.0, SocketOption::Congestion(algorithm));
        assert!(
            matches!(answer, Ok(()) | Err(Errno::ENOPROTOOPT | Errno::ENOENT)),
            "{algorithm:?}: {answer:?}"
        );
    }
}

#[test]
fn two_listeners_share_a_port_when_both_ask_for_it() {
    let mut system = System::new();
    let (_first, address) = listener(LOOPBACK_V4, &[SocketOption::ReusePort(true)]);
    let (_second, same) = listener(address, &[SocketOption::ReusePort(true)]);
    assert_eq!(address, same);
    let without = socket(Family::V4);
    assert_eq!(system.bind(without.0, &address), Err(Errno::EADDRINUSE));
}

#[test]
fn a_listener_for_ipv6_only_leaves_the_port_of_ipv4_alone() {
    let mut system = System::new();
    if loopbacks().len() == 1 {
        return;
    }
    let any_v6 = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    // Something else may hold the number in IPv6, so a few are tried.
    let free = (0..100).any(|_| {
        let v4 = socket(Family::V4);
        system.bind(v4.0, &LOOPBACK_V4).unwrap();
        let port = system.getsockname(v4.0).unwrap().port();

        let both = socket(Family::V6);
        system.setsockopt(both.0, SocketOption::V6Only(false)).unwrap();
        assert_eq!(system.bind(both.0, &any_v6(port)), Err(Errno::EADDRINUSE));

        let only = socket(Family::V6);
        system.setsockopt(only.0, SocketOption::V6Only(true)).unwrap();
        match system.bind(only.0, &any_v6(port)) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, Errno::EADDRINUSE);
                false
            }
        }
    });
    assert!(free);
}

#[test]
fn calls_on_a_number_that_is_not_open_say_ebadf() {
    let mut system = System::new();
    let nothing = Fd::from_raw(-1);
    assert_eq!(system.close(nothing), Err(Errno::EBADF));
    assert_eq!(system.recv(nothing, &mut [0; 1]), Err(Errno::EBADF));
    assert_eq!(system.send(nothing, b"x"), Err(Errno::EBADF));
    assert_eq!(system.accept4(nothing), Err(Errno::EBADF));
    assert_eq!(system.shutdown(nothing, Shutdown::Both), Err(Errno::EBADF));
    assert_eq!(system.take_socket_error(nothing), Err(Errno::EBADF));
    assert_eq!(system.getsockname(nothing), Err(Errno::EBADF));
    assert_eq!(system.listen(nothing, 1), Err(Errno::EBADF));
    assert_eq!(system.bind(nothing, &LOOPBACK_V4), Err(Errno::EBADF));
    assert_eq!(system.connect(nothing, &LOOPBACK_V4), Err(Errno::EBADF));
}

#[test]
fn closing_twice_says_ebadf() {
    run_alone("alone_closing_twice_says_ebadf", "");
}

#[test]
#[ignore = "run in a process of its own, where no other case can take the number in between"]
fn alone_closing_twice_says_ebadf() {
    let mut system = System::new();
    let fd = system.socket(Family::V4).unwrap();
    assert_eq!(system.close(fd), Ok(()));
    assert_eq!(system.close(fd), Err(Errno::EBADF));
}

#[test]
fn at_the_descriptor_limit_the_calls_that_make_one_say_emfile() {
    run_alone("alone_at_the_descriptor_limit", "ulimit -n 32;");
}

#[test]
#[ignore = "run in a process of its own, with few descriptors"]
fn alone_at_the_descriptor_limit() {
    let mut system = System::new();
    let (listener, address) = listener(LOOPBACK_V4, &[]);
    let client = socket(Family::V4);
    assert_eq!(system.connect(client.0, &address), Err(Errno::EINPROGRESS));
    wait_until_ready(&listener, Direction::In);

    let mut held = Vec::new();
    let error = loop {
        match system.socket(Family::V4) {
            Ok(fd) => held.push(Open(fd)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::EMFILE);
    assert_eq!(system.accept4(listener.0).map(|_| ()), Err(Errno::EMFILE));
    held.pop();
    // Linux and FreeBSD keep the connection in the queue; macOS has closed it (kernel-semantics T35).
    if cfg!(not(target_vendor = "apple")) {
        assert!(system.accept4(listener.0).is_ok());
    }
}

#[test]
fn the_descriptor_limit_is_raised_to_the_hard_limit_and_never_lowered() {
    let mut system = System::new();
    let before = system.raise_descriptor_limit(0).unwrap();
    assert_eq!(system.raise_descriptor_limit(before), Ok(before));
    let most = system.raise_descriptor_limit(u64::MAX).unwrap();
    assert!(most >= before);
    assert_eq!(system.raise_descriptor_limit(1), Ok(most));
}

#[test]
fn the_clock_never_goes_back() {
    let mut system = System::new();
    let mut last = system.clock_gettime();
    for _ in 0..100_000 {
        let now = system.clock_gettime();
        assert!(now >= last);
        last = now;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll {
    use super::*;

    fn epoll() -> Open {
        Open(System::new().epoll_create1().unwrap())
    }

    /// Waits for one event; no event after ten seconds is `None`.
    fn wait(epoll: &Open, timeout_ms: i32) -> Option<(EpollMask, u64)> {
        let mut events = [EpollEvent::default(); 4];
        match System::new().epoll_wait(epoll.0, &mut events, timeout_ms).unwrap() {
            Wait::Ready(0) => None,
            Wait::Ready(1) => Some((EpollMask::from_bits_retain(events[0].events), events[0].data)),
            other => panic!("one event or none: {other:?}"),
        }
    }

    #[test]
    fn an_edge_is_reported_once_and_again_when_more_arrives() {
        let mut system = System::new();
        let (client, server) = connection(LOOPBACK_V4, &[]);
        let epoll = epoll();
        let mask = EpollMask::IN | EpollMask::ET;
        system.epoll_ctl(epoll.0, EpollOperation::Add, server.0, mask, 0xfeed_0123_4567_89ab).unwrap();
        assert_eq!(wait(&epoll, 0), None);
        for _ in 0..2 {
            system.send(client.0, b"x").unwrap();
            assert_eq!(wait(&epoll, PATIENCE_MS), Some((EpollMask::IN, 0xfeed_0123_4567_89ab)));
            assert_eq!(wait(&epoll, 0), None);
        }
    }

    #[test]
    fn the_peers_fin_is_reported_as_rdhup() {
        let mut system = System::new();
        let (client, server) = connection(LOOPBACK_V4, &[]);
        let epoll = epoll();
        let mask = EpollMask::RDHUP | EpollMask::ET;
        system.epoll_ctl(epoll.0, EpollOperation::Add, server.0, mask, 7).unwrap();
        system.shutdown(client.0, Shutdown::Write).unwrap();
        assert_eq!(wait(&epoll, PATIENCE_MS), Some((EpollMask::RDHUP, 7)));
    }

    #[test]
    fn several_events_fill_the_list_in_one_wait() {
        let mut system = System::new();
        let epoll = epoll();
        let eventfds: Vec<Open> = (0..3).map(|_| Open(system.eventfd().unwrap())).collect();
        for (data, fd) in (1_u64..).zip(&eventfds) {
            system.epoll_ctl(epoll.0, EpollOperation::Add, fd.0, EpollMask::OUT, data << 40).unwrap();
        }
        let mut events = [EpollEvent::default(); 8];
        assert_eq!(system.epoll_wait(epoll.0, &mut events, 0), Ok(Wait::Ready(3)));
        let mut seen: Vec<u64> = events[..3].iter().map(|event| event.data).collect();
        seen.sort_unstable();
        assert_eq!(seen, [1 << 40, 2 << 40, 3 << 40]);
        assert_eq!(system.epoll_wait(epoll.0, &mut events[..2], 0), Ok(Wait::Ready(2)));
        assert_eq!(system.epoll_wait(epoll.0, &mut [], 0), Err(Errno::EINVAL));
    }

    #[test]
    fn registration_errors_have_their_names() {
        let mut system = System::new();
        let (epoll, eventfd) = (epoll(), Open(system.eventfd().unwrap()));
        let mut ctl = |operation, fd| system.epoll_ctl(epoll.0, operation, fd, EpollMask::IN, 0);
        assert_eq!(ctl(EpollOperation::Modify, eventfd.0), Err(Errno::ENOENT));
        assert_eq!(ctl(EpollOperation::Delete, eventfd.0), Err(Errno::ENOENT));
        assert_eq!(ctl(EpollOperation::Add, eventfd.0), Ok(()));
        assert_eq!(ctl(EpollOperation::Add, eventfd.0), Err(Errno::EEXIST));
        assert_eq!(ctl(EpollOperation::Modify, eventfd.0), Ok(()));
        assert_eq!(ctl(EpollOperation::Delete, eventfd.0), Ok(()));
        assert_eq!(ctl(EpollOperation::Add, Fd::from_raw(-1)), Err(Errno::EBADF));
    }

    #[test]
    fn a_wait_never_ends_before_its_timeout() {
        let mut system = System::new();
        let epoll = epoll();
        for timeout_ms in [0_i32, 1, 3] {
            let start = system.clock_gettime();
            assert_eq!(wait(&epoll, timeout_ms), None);
            let slept_ns = system.clock_gettime().saturating_ns_since(start);
            assert!(
                slept_ns >= u64::from(timeout_ms.unsigned_abs()) * 1_000_000,
                "{timeout_ms} ms: {slept_ns} ns"
            );
        }
    }

    #[test]
    fn a_waker_in_another_thread_ends_an_infinite_wait() {
        let mut system = System::new();
        let (epoll, eventfd) = (epoll(), Open(system.eventfd().unwrap()));
        system.epoll_ctl(epoll.0, EpollOperation::Add, eventfd.0, EpollMask::IN | EpollMask::ET, 1).unwrap();
        let waker = system.waker(WakeTarget::Eventfd(eventfd.0)).unwrap();
        thread::scope(|scope| {
            for round in 0..100 {
                let handle = &waker;
                scope.spawn(move || handle.wake());
                assert_eq!(wait(&epoll, -1), Some((EpollMask::IN, 1)), "round {round}");
                assert_eq!(system.read_eventfd(eventfd.0), Ok(1));
                assert_eq!(system.read_eventfd(eventfd.0), Err(Errno::EAGAIN));
            }
        });
    }

    #[test]
    fn waking_a_loop_that_has_closed_its_eventfd_is_harmless() {
        let mut system = System::new();
        let eventfd = Open(system.eventfd().unwrap());
        let waker = system.waker(WakeTarget::Eventfd(eventfd.0)).unwrap();
        eventfd.close().unwrap();
        // The number may be a connection's by now; the handle has its own.
        let (client, server) = connection(LOOPBACK_V4, &[]);
        waker.wake();
        system.send(client.0, b"x").unwrap();
        assert_eq!(receive(&server, 1), b"x");
    }

    #[test]
    fn a_hundred_thousand_wakes_without_a_read_merge_into_one_sum() {
        let mut system = System::new();
        let eventfd = Open(system.eventfd().unwrap());
        let waker = system.waker(WakeTarget::Eventfd(eventfd.0)).unwrap();
        for _ in 0..100_000 {
            waker.wake();
        }
        assert_eq!(system.read_eventfd(eventfd.0), Ok(100_000));
        assert_eq!(system.read_eventfd(eventfd.0), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_this_system_lacks_is_unsupported() {
        let mut system = System::new();
        assert_eq!(system.readiness(), Readiness::Epoll);
        assert_eq!(system.kqueue(), Err(Errno::Unsupported));
        let target = WakeTarget::UserEvent { kqueue: Fd::from_raw(-1), ident: 0, udata: 0 };
        assert_eq!(system.waker(target).map(|_| ()), Err(Errno::Unsupported));
        assert_eq!(system.waker(WakeTarget::Eventfd(Fd::from_raw(-1))).map(|_| ()), Err(Errno::EBADF));
    }

    #[test]
    fn every_descriptor_is_close_on_exec_and_does_not_block() {
        const O_NONBLOCK: u32 = 0o4_000;
        const O_CLOEXEC: u32 = 0o2_000_000;
        let flags = |fd: &Open| {
            let path = format!("/proc/self/fdinfo/{}", fd.0.as_raw());
            let text = std::fs::read_to_string(path).unwrap();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            u32::from_str_radix(flags.trim(), 8).unwrap()
        };
        let mut system = System::new();
        let (client, server) = connection(LOOPBACK_V4, &[]);
        let eventfd = Open(system.eventfd().unwrap());
        for fd in [&client, &server, &eventfd] {
            assert_eq!(flags(fd) & (O_NONBLOCK | O_CLOEXEC), O_NONBLOCK | O_CLOEXEC, "{fd:?}");
        }
        assert_eq!(flags(&epoll()) & O_CLOEXEC, O_CLOEXEC);
    }
}

/// On a BSD or Apple kernel, or through `libkqueue` on Linux: there the cases show that the translation is right, while
/// what the events say about a socket is the emulation's word.
#[cfg(any(not(any(target_os = "linux", target_os = "android")), feature = "libkqueue"))]
mod kqueue {
    use super::*;

    use reactor::sys::Note;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    use reactor::sys::LibkqueueSystem as KqueueSystem;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    use reactor::sys::System as KqueueSystem;

    const PATIENCE_NS: Option<u64> = Some(10_000_000_000);
    const AT_ONCE: Option<u64> = Some(0);

    #[cfg(any(target_os = "linux", target_os = "android"))]
    use tests::libkqueue::is_here;
    /// Every kernel but Linux has kqueue.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn is_here(_: &str) -> bool {
        true
    }

    /// A kqueue, and the system that made it.
    struct Kqueue {
        system: KqueueSystem,
        fd: Open,
    }

    fn kqueue() -> Kqueue {
        let mut system = KqueueSystem::new();
        assert_eq!(system.readiness(), Readiness::Kqueue);
        let fd = Open(system.kqueue().unwrap());
        Kqueue { system, fd }
    }

    impl Kqueue {
        fn kevent(&mut self, changes: &[Kevent], timeout_ns: Option<u64>) -> Vec<Kevent> {
            let mut events = [Kevent::EMPTY; 4];
            match self.system.kevent(self.fd.0, changes, &mut events, timeout_ns).unwrap() {
                Wait::Ready(count) => events[..count].to_vec(),
                Wait::Parked => panic!("no real kernel parks"),
            }
        }
    }

    fn change(fd: &Open, filter: Filter, flags: KeventFlags, udata: u64) -> Kevent {
        let ident = u64::try_from(fd.0.as_raw()).unwrap();
        Kevent { ident, filter, flags, udata, ..Kevent::EMPTY }
    }

    #[test]
    fn an_edge_is_reported_once_with_its_word_and_its_count() {
        if !is_here("an_edge_is_reported_once_with_its_word_and_its_count") {
            return;
        }
        let mut kqueue = kqueue();
        let mut system = System::new();
        let (client, server) = connection(LOOPBACK_V4, &[]);
        let add = change(&server, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, 0xfeed_0123_4567_89ab);
        assert_eq!(kqueue.kevent(&[add], AT_ONCE), []);
        system.send(client.0, b"four").unwrap();
        let events = kqueue.kevent(&[], PATIENCE_NS);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].ident, events[0].filter), (add.ident, Filter::Read));
        assert_eq!((events[0].data, events[0].udata), (4, 0xfeed_0123_4567_89ab));
        assert_eq!(events[0].receipt(), None);
        assert_eq!(kqueue.kevent(&[], AT_ONCE), []);
    }

    #[test]
    fn receipts_say_for_every_change_how_it_went() {
        if !is_here("receipts_say_for_every_change_how_it_went") {
            return;
        }
        let mut kqueue = kqueue();
        let (client, _server) = connection(LOOPBACK_V4, &[]);
        let receipts = kqueue.kevent(
            &[
                change(&client, Filter::Read, KeventFlags::ADD | KeventFlags::RECEIPT, 1),
                change(&client, Filter::Write, KeventFlags::DELETE | KeventFlags::RECEIPT, 2),
            ],
            None,
        );
        assert_eq!(receipts.len(), 2);
        assert_eq!(receipts[0].receipt(), Some(Ok(())));
        assert_eq!((receipts[1].filter, receipts[1].receipt()), (Filter::Write, Some(Err(Errno::ENOENT))));
    }

    #[test]
    fn a_failing_change_without_room_is_the_error_of_the_call() {
        if !is_here("a_failing_change_without_room_is_the_error_of_the_call") {
            return;
        }
        let mut kqueue = kqueue();
        let (client, _server) = connection(LOOPBACK_V4, &[]);
        let delete = change(&client, Filter::Read, KeventFlags::DELETE, 0);
        let answer = kqueue.system.kevent(kqueue.fd.0, &[delete], &mut [], None);
        assert_eq!(answer, Err(Errno::ENOENT));
        let add = change(&client, Filter::Read, KeventFlags::ADD, 0);
        assert_eq!(kqueue.system.kevent(kqueue.fd.0, &[add], &mut [], None), Ok(Wait::Ready(0)));
    }

    #[test]
    fn the_peers_fin_is_an_eof_and_a_reset_is_an_eof_with_its_error() {
        if !is_here("the_peers_fin_is_an_eof_and_a_reset_is_an_eof_with_its_error") {
            return;
        }
        let mut system = System::new();
        for (reset, note) in [(false, Note::None), (true, Note::Error(Errno::ECONNRESET))] {
            let mut kqueue = kqueue();
            let (client, server) = connection(LOOPBACK_V4, &[]);
            let add = change(&server, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, 0);
            assert_eq!(kqueue.kevent(&[add], AT_ONCE), []);
            system.setsockopt(client.0, SocketOption::ResetOnClose(reset)).unwrap();
            client.close().unwrap();
            let events = kqueue.kevent(&[], PATIENCE_NS);
            assert_eq!(events.len(), 1);
            assert!(events[0].flags.contains(KeventFlags::EOF));
            assert_eq!(events[0].note, note);
        }
    }

    #[test]
    fn an_error_that_an_event_has_told_is_met_by_the_next_call_too() {
        if !is_here("an_error_that_an_event_has_told_is_met_by_the_next_call_too") {
            return;
        }
        let mut system = System::new();
        let mut kqueue = kqueue();
        let (client, server) = connection(LOOPBACK_V4, &[]);
        let read = change(&server, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, 0);
        assert_eq!(kqueue.kevent(&[read], AT_ONCE), []);
        system.setsockopt(client.0, SocketOption::ResetOnClose(true)).unwrap();
        client.close().unwrap();
        assert_eq!(kqueue.kevent(&[], PATIENCE_NS)[0].note, Note::Error(Errno::ECONNRESET));
        let mut buffer = [0; 8];
        assert_eq!(kqueue.system.recv(server.0, &mut buffer), Err(Errno::ECONNRESET));
        assert_eq!(kqueue.system.recv(server.0, &mut buffer), Ok(0));
    }

    #[test]
    fn adding_a_filter_again_enables_it_when_asked_to() {
        if !is_here("adding_a_filter_again_enables_it_when_asked_to") {
            return;
        }
        let mut kqueue = kqueue();
        let (client, _server) = connection(LOOPBACK_V4, &[]);
        let flags = KeventFlags::ADD | KeventFlags::ENABLE | KeventFlags::DISPATCH;
        for word in 1..4 {
            let events = kqueue.kevent(&[change(&client, Filter::Write, flags, word)], PATIENCE_NS);
            assert_eq!(events.iter().map(|event| event.udata).collect::<Vec<_>>(), [word]);
            assert_eq!(events[0].receipt(), None);
            assert_eq!(kqueue.kevent(&[], AT_ONCE), []);
        }
    }

    #[test]
    fn a_dispatched_filter_is_silent_until_it_is_enabled() {
        if !is_here("a_dispatched_filter_is_silent_until_it_is_enabled") {
            return;
        }
        let mut kqueue = kqueue();
        let (client, _server) = connection(LOOPBACK_V4, &[]);
        let add = change(&client, Filter::Write, KeventFlags::ADD | KeventFlags::DISPATCH, 0);
        assert_eq!(kqueue.kevent(&[add], PATIENCE_NS).len(), 1);
        assert_eq!(kqueue.kevent(&[], AT_ONCE), []);
        let enable = change(&client, Filter::Write, KeventFlags::ENABLE, 0);
        assert_eq!(kqueue.kevent(&[enable], PATIENCE_NS).len(), 1);
    }

    #[test]
    fn a_wait_never_ends_before_its_timeout() {
        if !is_here("a_wait_never_ends_before_its_timeout") {
            return;
        }
        let mut kqueue = kqueue();
        for timeout_ns in [0, 1, 1_500_000] {
            let start = kqueue.system.clock_gettime();
            assert_eq!(kqueue.kevent(&[], Some(timeout_ns)), []);
            let slept_ns = kqueue.system.clock_gettime().saturating_ns_since(start);
            assert!(slept_ns >= timeout_ns, "{timeout_ns} ns: {slept_ns} ns");
        }
    }

    #[test]
    fn a_waker_in_another_thread_ends_an_infinite_wait() {
        if !is_here("a_waker_in_another_thread_ends_an_infinite_wait") {
            return;
        }
        let mut kqueue = kqueue();
        let flags = KeventFlags::ADD | KeventFlags::CLEAR;
        let add = Kevent { ident: 9, filter: Filter::User, flags, udata: 5, ..Kevent::EMPTY };
        assert_eq!(kqueue.kevent(&[add], AT_ONCE), []);
        let target = WakeTarget::UserEvent { kqueue: kqueue.fd.0, ident: 9, udata: 5 };
        let waker = kqueue.system.waker(target).unwrap();
        thread::scope(|scope| {
            for round in 0..100 {
                let handle = &waker;
                scope.spawn(move || handle.wake());
                let events = kqueue.kevent(&[], None);
                assert_eq!(events.len(), 1, "round {round}");
                assert_eq!((events[0].filter, events[0].ident, events[0].udata), (Filter::User, 9, 5));
                assert_eq!(kqueue.kevent(&[], AT_ONCE), []);
            }
        });
        for _ in 0..100_000 {
            waker.wake();
        }
        assert_eq!(kqueue.kevent(&[], None).len(), 1);
    }

    #[test]
    fn waking_a_loop_that_has_closed_its_kqueue_is_harmless() {
        if !is_here("waking_a_loop_that_has_closed_its_kqueue_is_harmless") {
            return;
        }
        let mut kqueue = kqueue();
        let add = Kevent { ident: 9, filter: Filter::User, flags: KeventFlags::ADD, ..Kevent::EMPTY };
        assert_eq!(kqueue.kevent(&[add], AT_ONCE), []);
        let waker =
            kqueue.system.waker(WakeTarget::UserEvent { kqueue: kqueue.fd.0, ident: 9, udata: 5 }).unwrap();
        // Closed through the system that made it, as the loop does.
        let fd = kqueue.fd.0;
        std::mem::forget(kqueue.fd);
        kqueue.system.close(fd).unwrap();
        waker.wake();
    }

    #[test]
    fn a_descriptor_number_that_comes_back_is_watched_anew() {
        if !is_here("a_descriptor_number_that_comes_back_is_watched_anew") {
            return;
        }
        let mut kqueue = kqueue();
        let mut system = System::new();
        for round in 0..3 {
            let (client, server) = connection(LOOPBACK_V4, &[]);
            let add = change(&server, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, round);
            assert_eq!(kqueue.kevent(&[add], AT_ONCE), []);
            system.send(client.0, b"x").unwrap();
            let events = kqueue.kevent(&[], PATIENCE_NS);
            assert_eq!(events.iter().map(|event| event.udata).collect::<Vec<_>>(), [round]);
            // Closed through the system that watches it, as the loop does.
            let fd = server.0;
            std::mem::forget(server);
            kqueue.system.close(fd).unwrap();
        }
    }

    #[test]
    fn what_this_system_lacks_is_unsupported() {
        let mut system = KqueueSystem::new();
        assert_eq!(system.epoll_create1(), Err(Errno::Unsupported));
        assert_eq!(system.eventfd(), Err(Errno::Unsupported));
        assert_eq!(system.read_eventfd(Fd::from_raw(-1)), Err(Errno::Unsupported));
        let target = WakeTarget::Eventfd(Fd::from_raw(-1));
        assert_eq!(system.waker(target).map(|_| ()), Err(Errno::Unsupported));
    }
}
