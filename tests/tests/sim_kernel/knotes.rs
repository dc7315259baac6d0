//! K1 to K45 and rows Q1 to Q8: kqueue, and the socket calls where BSD and macOS differ.

use reactor::sys::{Errno, Fd, Filter, Kevent, KeventFlags, Note, Shutdown, Syscalls, Wait, WakeTarget};
use reactor::time::Instant;
use sim::{Kernel, ProcessId, SimSyscalls, Step};

use crate::script::{Script, address, synchronous};

const ADD: KeventFlags = KeventFlags::ADD;
const CLEAR: KeventFlags = KeventFlags::CLEAR;
const EOF: KeventFlags = KeventFlags::EOF;

fn freebsd() -> SimSyscalls {
    synchronous(Kernel::Freebsd, None)
}

fn macos() -> SimSyscalls {
    synchronous(Kernel::Macos, None)
}

fn change(fd: Fd, filter: Filter, flags: KeventFlags) -> Kevent {
    let ident = u64::try_from(fd.as_raw()).unwrap();
    Kevent { ident, filter, flags, udata: ident, ..Kevent::EMPTY }
}

fn apply(sys: &mut SimSyscalls, kqueue: Fd, changes: &[Kevent]) -> Result<(), Errno> {
    sys.kevent(kqueue, changes, &mut [], None).map(|wait| assert_eq!(wait, Wait::Ready(0)))
}

fn poll(sys: &mut SimSyscalls, kqueue: Fd) -> Vec<Kevent> {
    let mut events = [Kevent::EMPTY; 16];
    match sys.kevent(kqueue, &[], &mut events, Some(0)).unwrap() {
        Wait::Ready(count) => events[..count].to_vec(),
        Wait::Parked => panic!("a wait with timeout 0 never sleeps"),
    }
}

/// Filter and data of each event.
fn found(sys: &mut SimSyscalls, kqueue: Fd) -> Vec<(Filter, i64)> {
    poll(sys, kqueue).iter().map(|event| (event.filter, event.data)).collect()
}

fn kqueue_of(sys: &mut SimSyscalls, fd: Fd, filter: Filter, flags: KeventFlags) -> Fd {
    let kqueue = sys.kqueue().unwrap();
    apply(sys, kqueue, &[change(fd, filter, flags)]).unwrap();
    kqueue
}

#[test]
fn q1_k30_a_fresh_socket_has_no_event() {
    let mut sys = freebsd();
    let fresh = sys.fresh();
    let kqueue = kqueue_of(&mut sys, fresh, Filter::Write, ADD | CLEAR);
    apply(&mut sys, kqueue, &[change(fresh, Filter::Read, ADD | CLEAR)]).unwrap();
    assert_eq!(poll(&mut sys, kqueue), []);
    sys.listener(80, 4);
    assert_eq!(sys.connect(fresh, &address(80)), Err(Errno::EINPROGRESS));
    let events = poll(&mut sys, kqueue);
    assert_eq!(events.iter().map(|event| event.filter).collect::<Vec<_>>(), [Filter::Write]);
    assert_eq!(sys.connect(fresh, &address(80)), Err(Errno::EISCONN), "T16");
}

#[test]
fn q2_k25_a_listener_counts_its_queue_and_never_writes() {
    let mut sys = freebsd();
    let listener = sys.listener(80, 8);
    let kqueue = kqueue_of(&mut sys, listener, Filter::Read, ADD);
    apply(&mut sys, kqueue, &[change(listener, Filter::Write, ADD)]).unwrap();
    assert_eq!(poll(&mut sys, kqueue), []);
    sys.connecting(80);
    sys.connecting(80);
    assert_eq!(found(&mut sys, kqueue), [(Filter::Read, 2)]);
}

#[test]
fn q4_k29_a_peer_fin_ends_reading_and_not_writing() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD);
    apply(&mut sys, kqueue, &[change(b, Filter::Write, ADD)]).unwrap();
    sys.shutdown(a, Shutdown::Write).unwrap();
    let events = poll(&mut sys, kqueue);
    let eof: Vec<_> = events.iter().map(|event| (event.filter, event.flags.contains(EOF))).collect();
    assert!(eof.contains(&(Filter::Read, true)) && eof.contains(&(Filter::Write, false)), "{eof:?}");
}

#[test]
fn q5_local_shut_wr_is_eof_for_the_writer() {
    let mut sys = freebsd();
    let (a, _b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, a, Filter::Write, ADD | CLEAR);
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert!(poll(&mut sys, kqueue)[0].flags.contains(EOF));
}

#[test]
fn k1_read_and_write_are_two_knotes() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD);
    apply(&mut sys, kqueue, &[change(b, Filter::Write, ADD)]).unwrap();
    sys.send(a, b"xyz").unwrap();
    let events = found(&mut sys, kqueue);
    assert_eq!(events.len(), 2);
    assert!(events.contains(&(Filter::Read, 3)));
}

#[test]
fn k2_clear_cannot_be_added_later() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD);
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    apply(&mut sys, kqueue, &[change(b, Filter::Read, ADD | CLEAR)]).unwrap();
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    assert_eq!(poll(&mut sys, kqueue).len(), 1, "still level");
}

#[test]
fn k3_adding_again_reports_again() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD | CLEAR);
    sys.send(a, b"x").unwrap();
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    assert_eq!(poll(&mut sys, kqueue).len(), 0);
    apply(&mut sys, kqueue, &[change(b, Filter::Read, ADD | CLEAR)]).unwrap();
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
}

#[test]
fn k4_what_is_not_there_cannot_be_changed() {
    let mut sys = freebsd();
    let fresh = sys.fresh();
    let kqueue = sys.kqueue().unwrap();
    for flags in [KeventFlags::DELETE, KeventFlags::ENABLE, KeventFlags::DISABLE] {
        assert_eq!(apply(&mut sys, kqueue, &[change(fresh, Filter::Read, flags)]), Err(Errno::ENOENT));
    }
    let closed = change(Fd::from_raw(99), Filter::Read, ADD);
    assert_eq!(apply(&mut sys, kqueue, &[closed]), Err(Errno::EBADF));
}

#[test]
fn k6_disable_drops_the_report_and_enable_looks_again() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD | CLEAR);
    sys.send(a, b"x").unwrap();
    apply(&mut sys, kqueue, &[change(b, Filter::Read, KeventFlags::DISABLE)]).unwrap();
    assert_eq!(poll(&mut sys, kqueue), []);
    apply(&mut sys, kqueue, &[change(b, Filter::Read, KeventFlags::ENABLE)]).unwrap();
    assert_eq!(found(&mut sys, kqueue), [(Filter::Read, 1)]);
}

#[test]
fn k7_oneshot_deletes_after_delivery() {
    let mut sys = macos();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD | KeventFlags::ONESHOT);
    sys.send(a, b"x").unwrap();
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    let delete = change(b, Filter::Read, KeventFlags::DELETE);
    assert_eq!(apply(&mut sys, kqueue, &[delete]), Err(Errno::ENOENT));
}

#[test]
fn k8_dispatch_disables_after_delivery_and_stays() {
    let mut sys = freebsd();
    let (a, _b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, a, Filter::Write, ADD | KeventFlags::DISPATCH);
    for _ in 0..3 {
        assert_eq!(poll(&mut sys, kqueue).len(), 1);
        assert_eq!(poll(&mut sys, kqueue).len(), 0);
        apply(&mut sys, kqueue, &[change(a, Filter::Write, KeventFlags::ENABLE)]).unwrap();
    }
}

#[test]
fn k9_clear_reports_arrivals_only() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD | CLEAR);
    sys.send(a, b"xy").unwrap();
    assert_eq!(found(&mut sys, kqueue), [(Filter::Read, 2)]);
    sys.recv_some(b, 1).unwrap();
    assert_eq!(found(&mut sys, kqueue), []);
    sys.send(a, b"z").unwrap();
    assert_eq!(found(&mut sys, kqueue), [(Filter::Read, 2)]);
}

#[test]
fn k10_an_armed_writer_hears_of_every_acknowledgement() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, a, Filter::Write, ADD | CLEAR);
    assert_eq!(poll(&mut sys, kqueue).len(), 1);
    let mut chatter = 0;
    for _ in 0..100 {
        sys.send(a, b"x").unwrap();
        sys.recv_some(b, 1).unwrap();
        chatter += poll(&mut sys, kqueue).len();
    }
    assert!(chatter > 50, "{chatter} events");
}

#[test]
fn k16_k17_errors_and_receipts_become_entries_where_there_is_room() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = sys.kqueue().unwrap();
    let changes = [
        change(a, Filter::Read, ADD),
        change(b, Filter::Write, KeventFlags::DELETE),
        change(b, Filter::Read, ADD),
    ];
    let mut events = [Kevent::EMPTY; 1];
    assert_eq!(sys.kevent(kqueue, &changes, &mut events, None), Ok(Wait::Ready(1)));
    assert_eq!(events[0].receipt(), Some(Err(Errno::ENOENT)));
    assert_eq!(sys.world().kqueue_interest(ProcessId(0), kqueue).len(), 2, "the third was applied");

    let kqueue = sys.kqueue().unwrap();
    assert_eq!(apply(&mut sys, kqueue, &changes), Err(Errno::ENOENT));
    assert_eq!(sys.world().kqueue_interest(ProcessId(0), kqueue).len(), 1, "the third was not");

    sys.send(b, b"pending").unwrap();
    let receipts = changes.map(|change| Kevent { flags: ADD | KeventFlags::RECEIPT, ..change });
    let mut events = [Kevent::EMPTY; 3];
    assert_eq!(sys.kevent(kqueue, &receipts, &mut events, None), Ok(Wait::Ready(3)));
    assert!(events.iter().all(|event| event.receipt() == Some(Ok(()))));
}

#[test]
fn k26_data_and_eof_come_in_one_event() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD | CLEAR);
    sys.send(a, b"12345678").unwrap();
    sys.shutdown(a, Shutdown::Write).unwrap();
    sys.clock_gettime();
    let events = poll(&mut sys, kqueue);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].data, events[0].flags.contains(EOF)), (8, true));
    assert_eq!(sys.recv_some(b, 64), Ok(8));
    assert_eq!(poll(&mut sys, kqueue), []);
    assert_eq!(sys.recv_some(b, 64), Ok(0));
}

#[test]
fn q7_q8_k27_the_error_is_shown_and_not_consumed() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD);
    sys.reset_close(a);
    for _ in 0..2 {
        let event = poll(&mut sys, kqueue)[0];
        assert!(event.flags.contains(EOF));
        assert_eq!(event.note, Note::Error(Errno::ECONNRESET));
    }
    assert_eq!(sys.error(b), Some(Errno::ECONNRESET));
    assert_eq!(poll(&mut sys, kqueue)[0].note, Note::None);
}

#[test]
fn k37_close_removes_the_knotes_of_the_number() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    let kqueue = kqueue_of(&mut sys, b, Filter::Read, ADD);
    sys.send(a, b"x").unwrap();
    sys.close(b).unwrap();
    assert_eq!(sys.fresh(), b);
    assert_eq!(poll(&mut sys, kqueue), []);
    assert_eq!(sys.world().kqueue_interest(ProcessId(0), kqueue), []);
}

#[test]
fn k44_triggers_before_a_delivery_are_one_event() {
    let mut sys = freebsd();
    let kqueue = sys.kqueue().unwrap();
    let user = Kevent { ident: 7, filter: Filter::User, flags: ADD | CLEAR, udata: 42, ..Kevent::EMPTY };
    apply(&mut sys, kqueue, &[user]).unwrap();
    let waker = sys.waker(WakeTarget::UserEvent { kqueue, ident: 7, udata: 42 }).unwrap();
    for _ in 0..10 {
        waker.wake();
    }
    assert_eq!(poll(&mut sys, kqueue).iter().map(|event| event.udata).collect::<Vec<_>>(), [42]);
    assert_eq!(poll(&mut sys, kqueue), []);
}

#[test]
fn k45_freebsd_loses_a_trigger_that_comes_with_add_or_with_clear() {
    for (mut sys, fires) in [(freebsd(), 0), (macos(), 1)] {
        let kqueue = sys.kqueue().unwrap();
        let user = Kevent { filter: Filter::User, flags: ADD | CLEAR, note: Note::Trigger, ..Kevent::EMPTY };
        apply(&mut sys, kqueue, &[user]).unwrap();
        assert_eq!(poll(&mut sys, kqueue).len(), fires);
        apply(&mut sys, kqueue, &[Kevent { flags: CLEAR, ..user }]).unwrap();
        assert_eq!(poll(&mut sys, kqueue).len(), fires);
        apply(&mut sys, kqueue, &[Kevent { flags: KeventFlags::empty(), ..user }]).unwrap();
        assert_eq!(poll(&mut sys, kqueue).len(), 1);
    }
}

#[test]
fn k15_k22_a_kevent_without_room_returns_at_once_and_one_with_a_timeout_sleeps() {
    let mut sys = freebsd();
    let kqueue = sys.kqueue().unwrap();
    apply(&mut sys, kqueue, &[]).unwrap();
    let began = sys.now_ns();
    let mut events = [Kevent::EMPTY; 4];
    assert_eq!(sys.kevent(kqueue, &[], &mut events, Some(1_500)), Ok(Wait::Parked));
    assert!(matches!(sys.world().step(Instant::FAR_FUTURE), Step::Run(_)));
    assert_eq!(sys.kevent(kqueue, &[], &mut events, Some(1_500)), Ok(Wait::Ready(0)));
    assert!(sys.now_ns() - began >= 1_500);
}

#[test]
fn t35_at_the_limit_macos_loses_the_connection() {
    let mut sys = macos();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    let limit = usize::try_from(client.as_raw()).unwrap() + 1;
    sys.world().set_descriptor_limit(ProcessId(0), limit);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EMFILE);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EAGAIN);
    assert_eq!(sys.error(client), Some(Errno::ECONNRESET));
}

#[test]
fn t38_a_connection_reset_in_the_queue() {
    let mut sys = freebsd();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    sys.reset_close(client);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::ECONNABORTED);
    let mut sys = macos();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    sys.reset_close(client);
    assert_eq!(sys.accept4(listener).unwrap().peer, None);
}

#[test]
fn t61_after_a_reset_send_says_epipe_and_leaves_the_error() {
    let mut sys = macos();
    let (a, b) = sys.pair();
    sys.reset_close(a);
    assert_eq!(sys.send(b, b"x"), Err(Errno::EPIPE));
    assert_eq!(sys.error(b), Some(Errno::ECONNRESET));
}

#[test]
fn t50_t69_bsd_tells_the_error_after_a_fin_and_drops_after_shut_rd() {
    let mut sys = freebsd();
    let (a, b) = sys.pair();
    sys.close(b).unwrap();
    sys.send(a, b"x").unwrap();
    assert_eq!(sys.recv_some(a, 1), Err(Errno::ECONNRESET));
    let (a, b) = sys.pair();
    sys.send(b, b"queued").unwrap();
    sys.shutdown(a, Shutdown::Read).unwrap();
    assert_eq!(sys.recv_some(a, 9), Ok(0));
    sys.send(b, b"later").unwrap();
    assert_eq!(sys.recv_some(a, 9), Ok(0));
}

#[test]
fn t68_the_second_shut_wr_is_refused_on_macos() {
    let mut sys = macos();
    let (a, _b) = sys.pair();
    assert_eq!(sys.shutdown(a, Shutdown::Write), Ok(()));
    assert_eq!(sys.shutdown(a, Shutdown::Write), Err(Errno::ENOTCONN));
}
