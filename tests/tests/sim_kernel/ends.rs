//! T46 to T51, T60 to T78 and rows S11 to S18: the ways in which streams end.

use reactor::sys::{Errno, Shutdown, Syscalls};

use crate::script::{ERR, HUP, IN, OUT, RDH, Script, linux, linux_with_buffers};

#[test]
fn t46_recv_returns_what_is_queued_whatever_the_sends_were() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.setsockopt(a, reactor::sys::SocketOption::NoDelay(true)).unwrap();
    for _ in 0..10 {
        assert_eq!(sys.send(a, &[1; 1_000]), Ok(1_000));
    }
    assert_eq!(sys.bits(b), IN | OUT, "S11");
    assert_eq!(sys.recv_some(b, 20_000), Ok(10_000));
    assert_eq!(sys.recv_some(b, 20_000), Err(Errno::EAGAIN), "T47");
}

#[test]
fn s12_t60_after_shut_wr_out_stays_set_and_send_fails() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.bits(a), OUT);
    assert_eq!(sys.send(a, b"x"), Err(Errno::EPIPE));
    assert_eq!(sys.bits(b), IN | OUT | RDH, "S15");
    assert_eq!(sys.send(b, b"x"), Ok(1));
    assert_eq!(sys.recv_some(a, 9), Ok(1), "T68");
}

#[test]
fn s13_t69_shut_rd_discards_and_refuses_nothing_on_linux() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.send(b, b"q1").unwrap();
    sys.shutdown(a, Shutdown::Read).unwrap();
    assert_eq!(sys.bits(a), IN | OUT | RDH);
    assert_eq!(sys.recv_some(a, 9), Ok(2));
    assert_eq!(sys.recv_some(a, 9), Ok(0));
    assert_eq!(sys.send(b, b"later"), Ok(5));
    assert_eq!(sys.recv_some(a, 9), Ok(5));
}

#[test]
fn s14_t70_shut_both_ways_and_then_sent_to() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.shutdown(a, Shutdown::Both).unwrap();
    assert_eq!(sys.bits(a), IN | OUT | RDH | HUP);
    assert_eq!(sys.send(b, b"x"), Ok(1));
    assert!(sys.bits(b).contains(ERR));
    assert_eq!(sys.recv_some(a, 1), Err(Errno::ECONNRESET));
    assert_eq!(sys.recv_some(a, 1), Ok(0));
}

#[test]
fn s16_t68_both_ends_shut_is_hup_without_err() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.shutdown(a, Shutdown::Write), Ok(()));
    sys.shutdown(b, Shutdown::Write).unwrap();
    assert_eq!(sys.bits(a), IN | OUT | RDH | HUP);
    assert_eq!(sys.bits(b), IN | OUT | RDH | HUP);
    assert_eq!(sys.shutdown(a, Shutdown::Write), Err(Errno::ENOTCONN));
}

#[test]
fn s17_t50_a_fin_before_the_reset_leaves_recv_silent() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.send(b, b"hello").unwrap();
    sys.close(b).unwrap();
    assert_eq!(sys.send(a, b"x"), Ok(1), "T62");
    assert_eq!(sys.bits(a), IN | OUT | RDH | HUP | ERR);
    assert_eq!(sys.recv_some(a, 2), Ok(2));
    assert_eq!(sys.recv_some(a, 9), Ok(3));
    assert_eq!(sys.recv_some(a, 9), Ok(0));
    assert_eq!(sys.recv_some(a, 9), Ok(0));
    assert_eq!(sys.error(a), Some(Errno::EPIPE));
    assert_eq!(sys.send(a, b"x"), Err(Errno::EPIPE));
}

#[test]
fn t49_t51_data_first_then_the_reset_once_then_zero() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.send(a, b"abc").unwrap();
    sys.reset_close(a);
    assert_eq!(sys.bits(b), IN | OUT | RDH | HUP | ERR, "S18");
    assert_eq!(sys.recv_some(b, 2), Ok(2));
    assert_eq!(sys.recv_some(b, 2), Ok(1));
    assert_eq!(sys.recv_some(b, 2), Err(Errno::ECONNRESET));
    assert_eq!(sys.recv_some(b, 2), Ok(0));
    assert_eq!(sys.bits(b), IN | OUT | RDH | HUP);
}

#[test]
fn t51_the_error_slot_is_emptied_by_whoever_comes_first() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.send(a, b"abc").unwrap();
    sys.reset_close(a);
    assert_eq!(sys.error(b), Some(Errno::ECONNRESET));
    assert_eq!(sys.recv_some(b, 9), Ok(3));
    assert_eq!(sys.recv_some(b, 9), Ok(0));
    assert_eq!(sys.send(b, b"x"), Err(Errno::EPIPE));
}

#[test]
fn t61_the_first_send_after_a_reset_takes_the_error() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.reset_close(a);
    assert_eq!(sys.send(b, b"x"), Err(Errno::ECONNRESET));
    assert_eq!(sys.send(b, b"x"), Err(Errno::EPIPE));
    assert_eq!(sys.recv_some(b, 1), Ok(0));
}

#[test]
fn t62_the_first_send_to_a_closed_peer_succeeds_and_is_lost() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.close(b).unwrap();
    assert_eq!(sys.send(a, b"x"), Ok(1));
    assert_eq!(sys.send(a, b"x"), Err(Errno::EPIPE));
    assert_eq!(sys.recv_some(a, 1), Ok(0));
}

#[test]
fn t73_closing_with_unread_data_resets_and_destroys_what_was_not_sent() {
    let mut sys = linux_with_buffers(65_536);
    let (a, b) = sys.pair();
    let sent = sys.fill(a);
    sys.send(b, b"xy").unwrap();
    sys.close(a).unwrap();
    let delivered = sys.recv_all(b);
    assert!(delivered < sent, "{delivered} of {sent}");
    // recv_all has met the reset; it is told once.
    assert_eq!(sys.recv_some(b, 1), Ok(0));
}

#[test]
fn t74_closing_without_unread_data_delivers_everything() {
    let mut sys = linux_with_buffers(65_536);
    let (a, b) = sys.pair();
    let sent = sys.fill(a);
    sys.close(a).unwrap();
    assert_eq!(sys.recv_all(b), sent);
    assert_eq!(sys.recv_some(b, 1), Ok(0), "T48");
    assert_eq!(sys.recv_some(b, 1), Ok(0), "T48");
}

#[test]
fn t77_a_peer_that_leaves_our_bytes_unread_resets_us_after_our_fin() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    sys.send(a, b"unread").unwrap();
    sys.shutdown(a, Shutdown::Write).unwrap();
    sys.bits(b);
    sys.close(b).unwrap();
    assert_eq!(sys.recv_some(a, 1), Err(Errno::ECONNRESET));

    let (a, b) = sys.pair();
    sys.shutdown(a, Shutdown::Write).unwrap();
    sys.bits(b);
    sys.close(b).unwrap();
    assert_eq!(sys.bits(a), IN | OUT | RDH | HUP);
    assert_eq!(sys.error(a), None);
}

#[test]
fn t78_the_end_of_a_stream_is_in_band() {
    let mut sys = linux_with_buffers(65_536);
    let (a, b) = sys.pair();
    let sent = sys.fill(a);
    let epoll = sys.epoll_of(b, IN | RDH | crate::script::ET);
    assert_eq!(sys.edge(epoll), IN);
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert!(sys.edge(epoll).is_empty());
    let mut read = 0;
    let mut seen_at = None;
    while read < sent {
        read += sys.recv_some(b, 30_000).unwrap();
        if sys.edge(epoll).contains(RDH) && seen_at.is_none() {
            seen_at = Some(read);
        }
    }
    assert!(seen_at.is_some_and(|at| at > sent / 4), "{seen_at:?} of {sent}");
}
