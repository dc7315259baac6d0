//! M1 to M5, E4 to E36: when epoll reports, and when it does not.

use reactor::sys::{EpollMask, EpollOperation, Errno, Shutdown, Syscalls};

use crate::script::{ERR, ET, FULL, HUP, IN, NOTHING, ONESHOT, OUT, RDH, Script, address, linux};

#[test]
fn e4_registrations_are_added_once_and_found_later() {
    let mut sys = linux();
    let (a, _b) = sys.pair();
    let epoll = sys.epoll_of(a, IN);
    let absent = sys.fresh();
    let add = sys.epoll_ctl(epoll, EpollOperation::Add, a, IN, 1);
    assert_eq!(add, Err(Errno::EEXIST));
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Modify, absent, IN, 1), Err(Errno::ENOENT));
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Delete, absent, IN, 1), Err(Errno::ENOENT));
    assert_eq!(sys.world().violation().unwrap().invariant, "illegal-call");
}

#[test]
fn e8_closing_takes_the_pending_event_along() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    sys.send(a, b"x").unwrap();
    sys.close(b).unwrap();
    assert_eq!(sys.wait_now(epoll), NOTHING);
}

#[test]
fn e9_modify_on_a_pending_item_changes_what_is_reported() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    sys.send(a, b"x").unwrap();
    sys.epoll_ctl(epoll, EpollOperation::Modify, b, OUT, 9).unwrap();
    assert_eq!(sys.wait_now(epoll), [(9, OUT)]);
    sys.epoll_ctl(epoll, EpollOperation::Modify, b, EpollMask::empty(), 9).unwrap();
    assert_eq!(sys.wait_now(epoll), NOTHING);
}

#[test]
fn e12_err_and_hup_are_reported_unasked() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, EpollMask::empty());
    sys.reset_close(a);
    assert_eq!(sys.edge(epoll), ERR | HUP);
    assert_eq!(sys.edge(epoll), ERR | HUP, "level-triggered: it spins");
}

#[test]
fn e13_e14_e15_edges_come_with_arrivals_only() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, FULL | ET);
    assert_eq!(sys.edge(epoll), OUT);
    assert!(sys.edge(epoll).is_empty());
    sys.send(a, b"one").unwrap();
    assert_eq!(sys.edge(epoll), IN | OUT);
    assert!(sys.edge(epoll).is_empty());
    sys.send(a, b"two").unwrap();
    assert_eq!(sys.edge(epoll), IN | OUT);
    assert!(sys.edge(epoll).is_empty());
    sys.recv_some(b, 1).unwrap();
    assert!(sys.edge(epoll).is_empty());
    sys.send(a, b"three").unwrap();
    assert_eq!(sys.edge(epoll), IN | OUT);
    sys.recv_some(b, 99).unwrap();
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e14_two_arrivals_before_one_wait_are_one_event() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN | ET);
    sys.send(a, b"one").unwrap();
    sys.send(a, b"two").unwrap();
    assert_eq!(sys.edge(epoll), IN);
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e16_arrive_and_drain_leaves_a_spurious_out() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let both = sys.epoll_of(b, IN | OUT | ET);
    let only_in = sys.epoll_of(b, IN | ET);
    assert_eq!(sys.edge(both), OUT);
    sys.send(a, b"x").unwrap();
    sys.recv_some(b, 9).unwrap();
    assert_eq!(sys.edge(both), OUT);
    assert!(sys.edge(only_in).is_empty());
}

#[test]
fn e17_an_out_only_edge_hears_of_ends_and_not_of_data() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, OUT | ET);
    assert_eq!(sys.edge(epoll), OUT);
    sys.send(a, b"x").unwrap();
    assert!(sys.edge(epoll).is_empty());
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.edge(epoll), OUT);

    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, OUT | ET);
    assert_eq!(sys.edge(epoll), OUT);
    sys.reset_close(a);
    assert_eq!(sys.edge(epoll), OUT | ERR | HUP);
}

#[test]
fn e22_data_and_fin_before_one_wait_is_one_edge() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN | ET);
    sys.send(a, b"x").unwrap();
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.edge(epoll), IN);
    assert!(sys.edge(epoll).is_empty());
    assert_eq!(sys.recv_some(b, 64), Ok(1));
    assert!(sys.edge(epoll).is_empty());
    assert_eq!(sys.recv_some(b, 64), Ok(0));
}

#[test]
fn e23_a_fin_after_a_harvested_edge_is_a_new_edge() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(b, IN | RDH | ET);
    sys.send(a, b"x").unwrap();
    assert_eq!(sys.edge(epoll), IN);
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.edge(epoll), IN | RDH);
    sys.close(a).unwrap();
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e24_the_reset_after_a_fin_is_a_second_edge() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(a, FULL | ET);
    assert_eq!(sys.edge(epoll), OUT);
    sys.close(b).unwrap();
    assert_eq!(sys.edge(epoll), IN | OUT | RDH);
    sys.send(a, b"x").unwrap();
    assert_eq!(sys.edge(epoll), IN | OUT | RDH | HUP | ERR);
    sys.error(a);
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e25_every_modify_reports_again() {
    let mut sys = linux();
    let (a, _b) = sys.pair();
    let epoll = sys.epoll_of(a, OUT | ET);
    assert_eq!(sys.edge(epoll), OUT);
    for _ in 0..3 {
        sys.epoll_ctl(epoll, EpollOperation::Modify, a, OUT | ET, 1).unwrap();
        assert_eq!(sys.edge(epoll), OUT);
    }
}

#[test]
fn e26_oneshot_is_deaf_until_modify() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let mask = IN | RDH | ONESHOT;
    let epoll = sys.epoll_of(b, mask);
    sys.send(a, b"x").unwrap();
    assert_eq!(sys.edge(epoll), IN);
    sys.send(a, b"x").unwrap();
    assert!(sys.edge(epoll).is_empty());
    sys.reset_close(a);
    assert!(sys.edge(epoll).is_empty());
    assert_eq!(sys.epoll_ctl(epoll, EpollOperation::Add, b, mask, 1), Err(Errno::EEXIST));
    sys.epoll_ctl(epoll, EpollOperation::Modify, b, mask, 1).unwrap();
    assert_eq!(sys.edge(epoll), IN | RDH | HUP | ERR);
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e27_the_edges_of_a_connection_attempt() {
    let mut sys = linux();
    sys.listener(80, 4);
    let client = sys.fresh();
    let epoll = sys.epoll_of(client, FULL | ET);
    assert_eq!(sys.edge(epoll), OUT | HUP);
    assert_eq!(sys.connect(client, &address(80)), Err(Errno::EINPROGRESS));
    assert_eq!(sys.edge(epoll), OUT);
    assert!(sys.edge(epoll).is_empty());

    let refused = sys.connecting(81);
    let epoll = sys.epoll_of(refused, FULL | ET);
    assert_eq!(sys.edge(epoll), IN | OUT | RDH | HUP | ERR);
    assert!(sys.edge(epoll).is_empty());
    sys.error(refused);
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e28_a_listener_has_one_edge_for_several_connections() {
    let mut sys = linux();
    let listener = sys.listener(80, 8);
    let epoll = sys.epoll_of(listener, IN | ET);
    for _ in 0..3 {
        sys.connecting(80);
    }
    assert_eq!(sys.edge(epoll), IN);
    assert!(sys.edge(epoll).is_empty());
    sys.accept4(listener).unwrap();
    assert!(sys.edge(epoll).is_empty());
    sys.connecting(80);
    assert_eq!(sys.edge(epoll), IN);
}

#[test]
fn e33_e34_the_ready_list_is_first_in_first_out_and_round_robin() {
    let mut sys = linux();
    let pairs: Vec<_> = (0..5).map(|_| sys.pair()).collect();
    let level = sys.epoll_create1().unwrap();
    let edge = sys.epoll_create1().unwrap();
    for (index, &(_, b)) in pairs.iter().enumerate() {
        sys.epoll_ctl(level, EpollOperation::Add, b, IN, index as u64).unwrap();
        sys.epoll_ctl(edge, EpollOperation::Add, b, IN | ET, index as u64).unwrap();
    }
    for index in [3, 1, 4, 0, 2] {
        sys.send(pairs[index].0, b"x").unwrap();
    }
    let mut rounds = |epoll| -> Vec<Vec<u64>> {
        (0..4).map(|_| sys.wait_for(epoll, 2).into_iter().map(|event| event.0).collect()).collect()
    };
    assert_eq!(rounds(level), [[3, 1], [4, 0], [2, 3], [1, 4]]);
    assert_eq!(rounds(edge), [vec![3, 1], vec![4, 0], vec![2], vec![]]);
}

#[test]
fn e35_a_newcomer_queues_behind_what_was_left() {
    let mut sys = linux();
    let pairs: Vec<_> = (0..3).map(|_| sys.pair()).collect();
    let epoll = sys.epoll_create1().unwrap();
    for (index, &(_, b)) in pairs.iter().enumerate() {
        sys.epoll_ctl(epoll, EpollOperation::Add, b, IN, index as u64).unwrap();
    }
    sys.send(pairs[0].0, b"x").unwrap();
    sys.send(pairs[1].0, b"x").unwrap();
    assert_eq!(sys.wait_for(epoll, 1), [(0, IN)]);
    sys.send(pairs[2].0, b"x").unwrap();
    let order: Vec<_> = sys.wait_now(epoll).into_iter().map(|event| event.0).collect();
    assert_eq!(order, [1, 0, 2]);
}

#[test]
fn e37_a_batch_outlives_the_descriptors_it_names() {
    let mut sys = linux();
    let (a, b) = sys.pair();
    let (c, d) = sys.pair();
    let epoll = sys.epoll_of(b, IN);
    sys.add(epoll, d, IN);
    sys.send(a, b"x").unwrap();
    sys.send(c, b"x").unwrap();
    let batch = sys.wait_now(epoll);
    assert_eq!(batch.len(), 2);
    sys.close(d).unwrap();
    assert_eq!(sys.fresh(), d, "the number is used again while the batch still names it");
    assert_eq!(sys.wait_now(epoll).len(), 1);
}

#[test]
fn e38_a_wait_without_room_is_refused() {
    let mut sys = linux();
    let epoll = sys.epoll_create1().unwrap();
    assert_eq!(sys.epoll_wait(epoll, &mut [], 0), Err(Errno::EINVAL));
}
