//! T30 to T45: the accept queue.

use reactor::sys::{Errno, Family, Syscalls};
use sim::ProcessId;

use crate::script::{ERR, HUP, IN, OUT, RDH, Script, linux};

#[test]
fn s3_a_listener_is_in_or_nothing() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    assert!(sys.bits(listener).is_empty());
    let client = sys.connecting(80);
    assert_eq!(sys.bits(listener), IN);
    sys.reset_close(client);
    assert_eq!(sys.bits(listener), IN, "T43");
}

#[test]
fn t30_listen_n_admits_n_plus_one() {
    for backlog in [0, 1, 5] {
        let mut sys = linux();
        sys.listener(80, backlog);
        let clients: Vec<_> = (0..backlog + 4).map(|_| sys.connecting(80)).collect();
        let connected = clients.into_iter().filter(|&client| sys.bits(client) == OUT).count();
        assert_eq!(connected, backlog as usize + 1);
    }
}

#[test]
fn t33_connections_are_accepted_in_the_order_of_completion() {
    let mut sys = linux();
    let listener = sys.listener(80, 8);
    let names: Vec<_> = (0..5)
        .map(|_| {
            let client = sys.connecting(80);
            Some(sys.getsockname(client).unwrap())
        })
        .collect();
    let accepted: Vec<_> = (0..5).map(|_| sys.accept4(listener).unwrap().peer).collect();
    assert_eq!(accepted, names);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EAGAIN, "T34");
}

#[test]
fn t35_at_the_limit_accept_says_emfile_even_for_an_empty_queue_and_keeps_the_connection() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let empty = sys.listener(81, 4);
    let client = sys.connecting(80);
    let limit = usize::try_from(client.as_raw()).unwrap() + 1;
    sys.world().set_descriptor_limit(ProcessId(0), limit);
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EMFILE);
    assert_eq!(sys.accept4(empty).unwrap_err(), Errno::EMFILE);
    assert_eq!(sys.socket(Family::V4), Err(Errno::EMFILE));
    sys.world().set_descriptor_limit(ProcessId(0), limit + 2);
    assert_eq!(sys.bits(listener), IN);
    assert_eq!(sys.accept4(listener).unwrap().fd.as_raw(), client.as_raw() + 1);
}

#[test]
fn t37_a_connection_reset_in_the_queue_is_accepted_on_linux() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    let name = sys.getsockname(client).unwrap();
    sys.reset_close(client);
    let accepted = sys.accept4(listener).unwrap();
    assert_eq!(accepted.peer, Some(name));
    assert_eq!(sys.bits(accepted.fd), IN | OUT | RDH | HUP | ERR, "S18");
    assert_eq!(sys.recv_some(accepted.fd, 1), Err(Errno::ECONNRESET));
    assert_eq!(sys.recv_some(accepted.fd, 1), Ok(0));
    assert_eq!(sys.send(accepted.fd, b"x"), Err(Errno::EPIPE));
}

#[test]
fn t39_data_before_accept_is_read_before_its_end() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let client = sys.connecting(80);
    assert_eq!(sys.send(client, b"abc"), Ok(3), "T40");
    sys.reset_close(client);
    let server = sys.accept4(listener).unwrap().fd;
    assert_eq!(sys.recv_some(server, 9), Ok(3));
    assert_eq!(sys.recv_some(server, 9), Err(Errno::ECONNRESET));
    assert_eq!(sys.recv_some(server, 9), Ok(0));
}

#[test]
fn t42_a_listener_that_closes_resets_its_queue_and_nothing_else() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let accepted_client = sys.connecting(80);
    sys.accept4(listener).unwrap();
    let queued_client = sys.connecting(80);
    sys.close(listener).unwrap();
    assert_eq!(sys.bits(queued_client), IN | OUT | RDH | HUP | ERR);
    assert_eq!(sys.error(queued_client), Some(Errno::ECONNRESET));
    assert_eq!(sys.bits(accepted_client), OUT);
}

#[test]
fn t45_two_sets_on_one_listener_and_the_slower_finds_nothing() {
    let mut sys = linux();
    let listener = sys.listener(80, 4);
    let first = sys.epoll_of(listener, IN);
    let second = sys.epoll_of(listener, IN);
    sys.connecting(80);
    assert_eq!(sys.edge(first), IN);
    assert_eq!(sys.edge(second), IN);
    sys.accept4(listener).unwrap();
    assert_eq!(sys.accept4(listener).unwrap_err(), Errno::EAGAIN);
}
