//! M5, T53 to T58, E18 to E20: room to send.

use reactor::sys::{Errno, Shutdown, SocketOption, Syscalls};

use crate::script::{ET, IN, OUT, Script, address, linux_with_buffers};

const BUFFER_BYTES: u64 = 16_384;

#[test]
fn s10_t53_a_full_buffer_is_a_short_count_and_then_eagain() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, b) = sys.pair();
    let block = vec![1; 1 << 20];
    let first = sys.send(a, &block).unwrap();
    assert!(first < block.len());
    sys.fill(a);
    assert_eq!(sys.send(a, b"x"), Err(Errno::EAGAIN));
    assert!(sys.bits(a).is_empty());
    assert_eq!(sys.bits(b), IN | OUT);
}

#[test]
fn t56_t57_send_succeeds_before_out_is_reported() {
    let mut sys = linux_with_buffers(65_536);
    let listener = sys.fresh();
    sys.setsockopt(listener, SocketOption::ReceiveBufferBytes(2_048)).unwrap();
    sys.bind(listener, &address(80)).unwrap();
    sys.listen(listener, 4).unwrap();
    let a = sys.connecting(80);
    let b = sys.accept4(listener).unwrap().fd;
    let capacity = sys.fill(a);
    let mut early = 0;
    let mut read = 0;
    while sys.bits(a).is_empty() {
        // Room for one byte comes long before a third of the buffer is free.
        early += usize::from(sys.send(a, b"x").is_ok() && sys.bits(a).is_empty());
        read += sys.recv_some(b, 1_000).unwrap();
    }
    assert!(early > 3, "{early} sends while OUT was off");
    assert!((capacity / 4..capacity / 2).contains(&read), "OUT after {read} of {capacity}");
}

#[test]
fn t58_reading_frees_room_in_lumps() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, b) = sys.pair();
    sys.fill(a);
    let epoll = sys.epoll_of(a, OUT | ET);
    assert!(sys.edge(epoll).is_empty());
    let mut read = 0;
    while sys.edge(epoll).is_empty() {
        read += sys.recv_some(b, 1_000).unwrap();
    }
    assert!(read > 4_000, "{read} bytes");
    assert!(sys.send(a, &[1; 60_000]).unwrap() > 4_000);
}

#[test]
fn e18_no_shortage_no_out_edge() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(a, OUT | ET);
    assert_eq!(sys.edge(epoll), OUT);
    for _ in 0..100 {
        sys.send(a, b"x").unwrap();
        sys.recv_some(b, 9).unwrap();
        assert!(sys.edge(epoll).is_empty());
    }
    // Filled by sends that were all complete: still no edge, whatever the peer reads.
    let block = [1; 4_096];
    for _ in 0..8 {
        assert_eq!(sys.send(a, &block), Ok(4_096));
    }
    sys.recv_all(b);
    assert!(sys.edge(epoll).is_empty());
}

#[test]
fn e19_one_edge_after_a_shortage() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, b) = sys.pair();
    let epoll = sys.epoll_of(a, OUT | ET);
    assert_eq!(sys.edge(epoll), OUT);
    let block = vec![1; 1 << 20];
    assert!(sys.send(a, &block).unwrap() < block.len());
    let mut edges = 0;
    for _ in 0..40 {
        let _ = sys.recv_some(b, 3_000);
        edges += usize::from(sys.edge(epoll) == OUT);
    }
    assert_eq!(edges, 1);
}

#[test]
fn e20_registering_a_full_socket_arms_the_edge() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, b) = sys.pair();
    let block = [1; 4_096];
    for _ in 0..8 {
        let _ = sys.send(a, &block);
    }
    let epoll = sys.epoll_of(a, OUT | ET);
    assert!(sys.edge(epoll).is_empty());
    sys.recv_all(b);
    assert_eq!(sys.edge(epoll), OUT);
}

#[test]
fn e32_shut_wr_on_a_full_buffer_shows_out() {
    let mut sys = linux_with_buffers(BUFFER_BYTES);
    let (a, _b) = sys.pair();
    sys.fill(a);
    assert!(sys.bits(a).is_empty());
    sys.shutdown(a, Shutdown::Write).unwrap();
    assert_eq!(sys.bits(a), OUT);
    assert_eq!(sys.send(a, b"x"), Err(Errno::EPIPE));
}

#[test]
fn t66_a_small_segment_waits_for_the_one_before_it() {
    let mut swarm = sim::Swarm::calm(sim::Latency::constant(1_000_000));
    swarm.loopback = sim::Latency::constant(1_000_000);
    let options = sim::WorldOptions { swarm: Some(swarm), ..sim::WorldOptions::default() };
    let world = sim::SharedWorld::new(options, sim::Decisions::zeros());
    let host = world.add_host(sim::Kernel::Linux);
    let mut sys = world.add_thread(host);
    let listener = sys.listener(80, 4);
    let a = sys.connecting(80);
    sys.pass(10);
    let b = sys.accept4(listener).unwrap().fd;
    for (no_delay, at_once) in [(false, 1), (true, 2)] {
        sys.setsockopt(a, SocketOption::NoDelay(no_delay)).unwrap();
        sys.send(a, b"x").unwrap();
        sys.send(a, b"y").unwrap();
        sys.pass(1);
        assert_eq!(sys.recv_some(b, 9), Ok(at_once));
        sys.pass(10);
        let _ = sys.recv_some(b, 9);
    }
}
