//! T15 to T29 and rows S1 to S9: fresh sockets and connection attempts.

use reactor::sys::{Errno, Shutdown, Syscalls};

use crate::script::{ERR, HUP, IN, OUT, RDH, Script, address, linux};

#[test]
fn t1_new_descriptors_take_the_lowest_free_number() {
    let mut sys = linux();
    let first = sys.fresh();
    let second = sys.fresh();
    assert_eq!(second.as_raw(), first.as_raw() + 1);
    sys.close(first).unwrap();
    assert_eq!(sys.epoll_create1(), Ok(first));
}

#[test]
fn s1_a_fresh_socket_is_out_and_hup() {
    let mut sys = linux();
    let fresh = sys.fresh();
    assert_eq!(sys.bits(fresh), OUT | HUP);
}

#[test]
fn s5_a_connecting_socket_has_no_bits() {
    let mut sys = linux();
    let listener = sys.listener(80, 0);
    let _first = sys.connecting(80);
    let stuck = sys.connecting(80);
    assert!(sys.bits(stuck).is_empty());
    assert_eq!(sys.connect(stuck, &address(80)), Err(Errno::EALREADY), "T17");
    assert_eq!(sys.recv_some(stuck, 1), Err(Errno::EAGAIN), "T17");
    assert_eq!(sys.send(stuck, b"x"), Err(Errno::EAGAIN), "T17");
    assert_eq!(sys.error(stuck), None, "T17");
    sys.close(listener).unwrap();
}

#[test]
fn t16_the_second_connect_says_zero_once_and_then_eisconn() {
    let mut sys = linux();
    sys.listener(80, 4);
    let client = sys.connecting(80);
    assert_eq!(sys.connect(client, &address(80)), Ok(()));
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EISCONN));
    assert_eq!(sys.error(client), None);
    assert_eq!(sys.bits(client), OUT, "S9");
}

#[test]
fn t16_a_shutdown_in_between_makes_it_eisconn_at_once() {
    let mut sys = linux();
    sys.listener(80, 4);
    let client = sys.connecting(80);
    sys.shutdown(client, Shutdown::Write).unwrap();
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EISCONN));
}

#[test]
fn s6_s7_t18_a_refused_connect_tells_its_error_once() {
    let mut sys = linux();
    let client = sys.connecting(81);
    assert_eq!(sys.bits(client), IN | OUT | RDH | HUP | ERR);
    assert_eq!(sys.error(client), Some(Errno::ECONNREFUSED));
    assert_eq!(sys.error(client), None);
    assert_eq!(sys.bits(client), IN | OUT | RDH | HUP);

    let reader = sys.connecting(81);
    assert_eq!(sys.recv_some(reader, 9), Err(Errno::ECONNREFUSED));
    assert_eq!(sys.recv_some(reader, 9), Ok(0));
    let writer = sys.connecting(81);
    assert_eq!(sys.send(writer, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(sys.send(writer, b"x"), Err(Errno::EPIPE));
}

#[test]
fn s8_t19_a_failed_connect_starts_anew() {
    let mut sys = linux();
    let client = sys.connecting(81);
    assert_eq!(sys.error(client), Some(Errno::ECONNREFUSED));
    assert_eq!(sys.connect(client, &address(81)), Err(Errno::ECONNABORTED));
    assert_eq!(sys.connect(client, &address(81)), Err(Errno::EINPROGRESS));
    assert_eq!(sys.connect(client, &address(81)), Err(Errno::ECONNREFUSED));
    assert_eq!(sys.bits(client), OUT | HUP);
}

#[test]
fn t20_a_connection_reset_before_the_first_look() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    let server = sys.accept4(listener).unwrap().fd;
    sys.reset_close(server);
    assert_eq!(sys.error(client), Some(Errno::ECONNRESET));

    let client = sys.connecting(80);
    let server = sys.accept4(listener).unwrap().fd;
    sys.reset_close(server);
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::ECONNRESET));
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EINPROGRESS));
}

#[test]
fn t20_a_connection_ended_before_the_first_look() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    let server = sys.accept4(listener).unwrap().fd;
    sys.close(server).unwrap();
    assert_eq!(sys.connect(client, &address(80)), Ok(()));
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EISCONN));
    assert_eq!(sys.bits(client), IN | OUT | RDH, "S15");
}

#[test]
fn t21_connect_on_what_was_connected() {
    let mut sys = linux();
    let (client, server) = sys.pair();
    sys.reset_close(client);
    assert_eq!(sys.connect(server, &address(80)), Err(Errno::EISCONN));
    let listener = sys.listener(80, 4);
    assert_eq!(sys.connect(listener, &address(80)), Err(Errno::EISCONN));
}

#[test]
fn t22_t32_a_freed_slot_does_not_complete_a_stuck_client() {
    let mut sys = linux();
    let listener = sys.listener(80, 0);
    let _first = sys.connecting(80);
    let began = sys.now_ns();
    let stuck = sys.connecting(80);
    let epoll = sys.epoll_of(stuck, OUT);
    assert!(sys.edge(epoll).is_empty());
    sys.accept4(listener).unwrap();
    assert!(sys.edge(epoll).is_empty());
    assert_eq!(sys.sleep_in(epoll, 5_000).unwrap().len(), 1);
    let waited_ms = (sys.now_ns() - began) / 1_000_000;
    assert!((1_000..1_010).contains(&waited_ms), "{waited_ms} ms");
}

#[test]
fn t22_a_connect_that_stays_stuck_times_out() {
    let mut sys = linux();
    sys.listener(80, 0);
    let _first = sys.connecting(80);
    let stuck = sys.connecting(80);
    let epoll = sys.epoll_of(stuck, OUT);
    let events = sys.sleep_in(epoll, -1).unwrap();
    assert_eq!(events[0].1, OUT | HUP | ERR, "E27");
    assert_eq!(sys.error(stuck), Some(Errno::ETIMEDOUT));
}

#[test]
fn t23_a_listener_that_closes_is_noticed_with_the_next_syn() {
    let mut sys = linux();
    let listener = sys.listener(80, 0);
    let _first = sys.connecting(80);
    let stuck = sys.connecting(80);
    sys.close(listener).unwrap();
    let epoll = sys.epoll_of(stuck, OUT);
    assert_eq!(sys.sleep_in(epoll, 100), Ok(Vec::new()));
    assert_eq!(sys.sleep_in(epoll, 3_000).unwrap().len(), 1);
    assert_eq!(sys.error(stuck), Some(Errno::ECONNREFUSED));
}

#[test]
fn t24_a_client_that_gave_up_never_appears_in_the_queue() {
    let mut sys = linux();
    let listener = sys.listener(80, 0);
    let _first = sys.connecting(80);
    let stuck = sys.connecting(80);
    sys.close(stuck).unwrap();
    sys.accept4(listener).unwrap();
    sys.pass(5_000);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EAGAIN);
}

#[test]
fn t25_a_shutdown_gives_up_the_attempt() {
    let mut sys = linux();
    sys.listener(80, 0);
    let _first = sys.connecting(80);
    let stuck = sys.connecting(80);
    assert_eq!(sys.shutdown(stuck, Shutdown::Write), Ok(()));
    assert_eq!(sys.bits(stuck), OUT | HUP | ERR, "S19");
}

#[test]
fn s2_t26_a_refused_shutdown_leaves_its_mark() {
    let mut sys = linux();
    sys.listener(80, 4);
    let client = sys.fresh();
    assert_eq!(sys.shutdown(client, Shutdown::Write), Err(Errno::ENOTCONN));
    assert_eq!(sys.shutdown(client, Shutdown::Read), Err(Errno::ENOTCONN));
    assert_eq!(sys.bits(client), IN | OUT | RDH | HUP);
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EINPROGRESS));
    assert_eq!(sys.bits(client), IN | OUT | RDH | HUP);
    assert_eq!(sys.send(client, b"x"), Err(Errno::EPIPE));
    assert_eq!(sys.recv_some(client, 1), Ok(0));
}

#[test]
fn t29_a_fresh_socket_neither_receives_nor_sends() {
    let mut sys = linux();
    let fresh = sys.fresh();
    assert_eq!(sys.recv_some(fresh, 1), Err(Errno::ENOTCONN));
    assert_eq!(sys.send(fresh, b"x"), Err(Errno::EPIPE));
}

#[test]
fn t2_t12_who_may_bind_and_listen() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    assert_eq!(sys.bind(listener, &address(81)), Err(Errno::EINVAL));
    let second = sys.fresh();
    assert_eq!(sys.bind(second, &address(80)), Err(Errno::EADDRINUSE));
    let far = std::net::SocketAddr::from(([10, 9, 9, 9], 80));
    assert_eq!(sys.bind(second, &far), Err(Errno::EADDRNOTAVAIL));
    sys.close(listener).unwrap();
    assert_eq!(sys.bind(second, &address(80)), Ok(()));
}
