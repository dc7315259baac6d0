//! E7, E8, E36, K37, T71, T75, T81: several descriptors for one open file.

use reactor::sys::{
    EpollOperation, Errno, Fd, Filter, Kevent, KeventFlags, Shutdown, SocketOption, Syscalls, Wait,
};
use sim::script::probe::{Probe, WideOption};
use sim::{Kernel, SimSyscalls};

use crate::script::{ERR, FULL, HUP, IN, NOTHING, OUT, RDH, Script, linux, synchronous};

fn number_of(fd: Fd) -> u64 {
    u64::try_from(fd.as_raw()).unwrap()
}

#[test]
fn e7_e36_a_file_closed_under_one_number_reports_on_and_can_be_found_again() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    let d = sys.dup(b).unwrap();
    sys.add(epoll, d, IN);
    sys.send(a, b"x").unwrap();
    let both = [(number_of(d), IN), (number_of(b), IN)];
    assert_eq!(sys.wait_now(epoll), both, "last registered, first woken");
    sys.close(b).unwrap();
    assert_eq!(sys.wait_now(epoll), both);
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Delete, b, IN, 0), Err(Errno::EBADF));
    sys.epoll_ctl(epoll, EpollOperation::Delete, d, IN, 0).unwrap();
    assert_eq!(sys.wait_now(epoll), [(number_of(b), IN)]);
    assert_eq!(sys.dup2(d, b), Ok(b));
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Add, b, IN, 0), Err(Errno::EEXIST));
    sys.epoll_ctl(epoll, EpollOperation::Delete, b, IN, 0).unwrap();
    assert_eq!(sys.wait_now(epoll), NOTHING);
}

#[test]
fn e7_another_file_under_the_number_registers_beside_the_old_one() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    let d = sys.dup(b).unwrap();
    sys.close(b).unwrap();
    let other = sys.fresh();
    assert_eq!(other, b, "the lowest free number");
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Delete, other, IN, 0), Err(Errno::ENOENT));
    sys.epoll_ctl(epoll, EpollOperation::Add, other, OUT, 99).unwrap();
    sys.send(a, b"x").unwrap();
    assert_eq!(sys.wait_now(epoll), [(99, OUT | HUP), (number_of(b), IN)]);
    sys.close(d).unwrap();
    assert_eq!(sys.wait_now(epoll), [(99, OUT | HUP)], "E8: the last reference is gone");
    sys.close(other).unwrap();
    assert_eq!(sys.wait_now(epoll), NOTHING);
}

#[test]
fn t71_shutdown_acts_on_the_connection_and_close_on_the_number() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let d = sys.dup(a).unwrap();
    sys.close(a).unwrap();
    assert_eq!(sys.bits(b), OUT);
    sys.shutdown(d, Shutdown::Write).unwrap();
    assert_eq!(sys.bits(b), IN | OUT | RDH);
}

#[test]
fn t75_the_last_close_resets() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.setsockopt(a, SocketOption::ResetOnClose(true)).unwrap();
    let d = sys.dup(a).unwrap();
    sys.close(a).unwrap();
    assert_eq!(sys.bits(b), OUT);
    sys.close(d).unwrap();
    assert_eq!(sys.bits(b), FULL | HUP | ERR);
}

#[test]
fn t81_blocking_is_of_the_file_and_close_on_exec_of_the_number() {
    let mut sys = linux();
    let (a, _b) = sys.pair();
    let d = sys.dup(a).unwrap();
    sys.set_option(d, WideOption::NonBlocking, 0).unwrap();
    assert_eq!(sys.option(a, WideOption::NonBlocking), Ok(0));
    sys.set_option(a, WideOption::NonBlocking, 1).unwrap();
    assert_eq!(sys.option(d, WideOption::NonBlocking), Ok(1));
    assert_eq!(sys.option(a, WideOption::CloseOnExec), Ok(1));
    assert_eq!(sys.option(d, WideOption::CloseOnExec), Ok(0), "a duplicate starts without it");
    sys.set_option(d, WideOption::CloseOnExec, 1).unwrap();
    assert_eq!(sys.option(d, WideOption::CloseOnExec), Ok(1));
}

#[test]
fn dup2_respects_the_limit_and_leaves_a_number_that_is_its_own() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    assert_eq!(sys.dup2(a, a), Ok(a));
    sys.limit_descriptors(Some(50)).unwrap();
    assert_eq!(sys.dup2(a, Fd::from_raw(50)), Err(Errno::EBADF));
    assert_eq!(sys.dup2(a, Fd::from_raw(49)), Ok(Fd::from_raw(49)));
    assert_eq!(sys.dup2(a, b), Ok(b));
    assert_eq!(sys.bits(a), FULL, "the other end was closed");
    assert_eq!(sys.dup2(Fd::from_raw(33), b), Err(Errno::EBADF));
}

#[test]
fn k37_closing_a_number_takes_its_knotes_though_the_file_lives_on() {
    for kernel in [Kernel::Freebsd, Kernel::Macos] {
        let mut sys = synchronous(kernel, None);
        let (a, b) = sys.pair();
        let d = sys.dup(b).unwrap();
        let kqueue = sys.kqueue().unwrap();
        for fd in [b, d] {
            let change = Kevent {
                ident: number_of(fd),
                filter: Filter::Read,
                flags: KeventFlags::ADD,
                ..Kevent::EMPTY
            };
            sys.kevent(kqueue, &[change], &mut [], None).unwrap();
        }
        sys.close(b).unwrap();
        sys.send(a, b"x").unwrap();
        assert_eq!(idents(&mut sys, kqueue), [number_of(d)]);
    }
}

fn idents(sys: &mut SimSyscalls, kqueue: Fd) -> Vec<u64> {
    let mut events = [Kevent::EMPTY; 8];
    match sys.kevent(kqueue, &[], &mut events, Some(0)).unwrap() {
        Wait::Ready(count) => events[..count].iter().map(|event| event.ident).collect(),
        Wait::Parked => panic!("a wait with timeout 0 never sleeps"),
    }
}
