//! The proxy between plain sockets: what it passes on, what it breaks, and what it says about that.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::chronicle::Chronicle;
use super::cuts::Cuts;
use super::kind::Kind;
use super::proxy::Proxy;
use super::schedule::Event;
use super::strike::Strike;
use crate::machine::Stopwatch;

/// Far longer than anything here takes: a test that would fail by it hangs no build.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    proxy: Proxy,
    cuts: Arc<Cuts>,
    chronicle: Arc<Chronicle>,
    listener: TcpListener,
    front: SocketAddr,
    begun_ns: u64,
}

impl Stage {
    fn new() -> Stage {
        let (cuts, chronicle) = (Arc::new(Cuts::default()), Arc::new(Chronicle::default()));
        let begun_ns = Stopwatch::now_ns();
        let proxy = Proxy::start(Arc::clone(&cuts), Arc::clone(&chronicle)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let front = proxy.front(listener.local_addr().unwrap()).unwrap();
        Stage { proxy, cuts, chronicle, listener, front, begun_ns }
    }

    /// A connection through the proxy: the client's end, the service's end.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.front).unwrap();
        let (service, _) = self.listener.accept().unwrap();
        for end in [&client, &service] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (client, service)
    }

    /// Something goes wrong for all connections.
    fn strike(&self, kind: Kind, strength: u64, duration: Duration) {
        // Numbers are tried until one hits the few connections that a test has.
        let serials = 1..=self.proxy.crossings().max(1);
        let strike = (0..).map(|number| {
            let duration_ns = duration.as_nanos() as u64;
            Strike::new(Event { number, at_ns: 0, duration_ns, kind, strength }, Stopwatch::now_ns())
        });
        let all = |strike: &Strike| serials.clone().all(|serial| strike.hits(serial));
        self.proxy.strike(strike.into_iter().find(all).unwrap());
        while self.proxy.has_orders() {
            std::thread::yield_now();
        }
    }

    /// Waits until what struck has been written down, and answers how many connections felt it.
    fn touched(&self, kind: Kind) -> u64 {
        while self.chronicle.count(kind).events == 0 {
            std::thread::yield_now();
        }
        self.chronicle.count(kind).touched
    }

    fn is_cut(&self, end: &TcpStream) -> bool {
        self.cuts.excuses(end.local_addr().unwrap(), self.begun_ns)
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Sends `length` bytes each way at once, with an end after them.
fn exchange(client: TcpStream, service: TcpStream, length: usize) {
    let one = |end: TcpStream| {
        let mut writer = end.try_clone().unwrap();
        let writing = crate::member::spawn("writes", move || {
            writer.write_all(&pattern(length)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        })
        .unwrap();
        let reading = crate::member::spawn("reads", move || {
            let mut all = Vec::new();
            (&end).read_to_end(&mut all).unwrap();
            assert!(all == pattern(length), "{} bytes of {length} came, or wrong ones", all.len());
        })
        .unwrap();
        [writing, reading]
    };
    for thread in one(client).into_iter().chain(one(service)) {
        thread.join().unwrap();
    }
}

#[test]
fn bytes_pass_whole_and_in_order_in_both_directions_when_nothing_is_wrong() {
    let stage = Stage::new();
    let (client, service) = stage.connect();
    exchange(client, service, 3_000_000);
}

#[test]
fn bytes_pass_whole_and_in_order_whatever_is_done_to_their_pace() {
    for (kind, strength, length) in [
        (Kind::Delay, 30, 500_000),
        (Kind::Throttle, 10, 100_000),
        (Kind::Split, 100, 5_000),
        (Kind::Split, 50, 100_000),
        (Kind::Stall, 100, 300_000),
        (Kind::LateEnd, 3, 10_000),
    ] {
        let stage = Stage::new();
        let (client, service) = stage.connect();
        // All but a stall is in force until all is over, however slow the machine is.
        let duration = if kind == Kind::Stall { Duration::from_millis(300) } else { PATIENCE };
        stage.strike(kind, strength, duration);
        exchange(client, service, length);
        let Stage { proxy, chronicle, .. } = stage;
        drop(proxy);
        assert_eq!(chronicle.count(kind).touched, 1, "{kind} was not felt");
    }
}

#[test]
fn all_that_concerns_pace_together_leaves_bytes_whole() {
    let stage = Stage::new();
    let ends: Vec<_> = (0..4).map(|_| stage.connect()).collect();
    for kind in [Kind::Delay, Kind::Throttle, Kind::Split, Kind::LateEnd] {
        stage.strike(kind, 40, Duration::from_millis(400));
    }
    stage.strike(Kind::Stall, 40, Duration::from_millis(100));
    let threads: Vec<_> = ends
        .into_iter()
        .map(|(client, service)| {
            crate::member::spawn("pair", move || exchange(client, service, 60_000)).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn an_end_passes_while_the_other_direction_goes_on() {
    let stage = Stage::new();
    let (mut client, mut service) = stage.connect();
    client.write_all(b"ask").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut asked = Vec::new();
    service.read_to_end(&mut asked).unwrap();
    assert_eq!(asked, b"ask");
    service.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    drop(service);
    assert_eq!(client.read(&mut answer).unwrap(), 0, "an end in order");
}

#[test]
fn a_reset_by_chaos_reaches_both_ends_and_is_written_down() {
    let stage = Stage::new();
    let (mut client, mut service) = stage.connect();
    client.write_all(b"hello").unwrap();
    let mut hello = [0; 5];
    service.read_exact(&mut hello).unwrap();
    assert!(!stage.is_cut(&client));
    stage.strike(Kind::Reset, 100, Duration::ZERO);
    for end in [&mut client, &mut service] {
        assert_eq!(end.read(&mut hello).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(stage.touched(Kind::Reset), 1);
    assert!(stage.is_cut(&client), "the client's end");
    let seen = service.peer_addr();
    // What the service saw as its client is gone from the socket; the cut is known by it all the same.
    assert!(seen.is_err());
}

#[test]
fn a_reset_by_an_end_reaches_the_other_after_its_bytes_and_is_nobody_elses_doing() {
    let stage = Stage::new();
    let (mut client, mut service) = stage.connect();
    let from = service.peer_addr().unwrap();
    client.write_all(&pattern(50_000)).unwrap();
    let mut first = [0; 1];
    service.read_exact(&mut first).unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    let client_address = client.local_addr().unwrap();
    // Unsent bytes are lost with it; those that were sent are not.
    drop(client);
    let mut rest = Vec::new();
    assert_eq!(service.read_to_end(&mut rest).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(pattern(50_000)[1..].starts_with(&rest));
    for address in [client_address, from] {
        assert!(!stage.cuts.excuses(address, stage.begun_ns), "the proxy did not do that");
    }
}

#[test]
fn a_reset_that_a_write_finds_first_never_looks_like_an_end() {
    let block = pattern(64 << 10);
    for _ in 0..5 {
        let stage = Stage::new();
        let (mut client, mut service) = stage.connect();
        // The proxy holds as much as it may, and reads no more of the client: only a write can find the reset.
        client.set_nonblocking(true).unwrap();
        let (mut sent, mut refused) = (0, 0);
        while refused < 2000 {
            match client.write(&block) {
                Ok(length) => (sent, refused) = (sent + length, 0),
                Err(_) => {
                    refused += 1;
                    std::thread::yield_now();
                }
            }
        }
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        let _ = service.write(b"is anybody there");
        let mut received = 0;
        let mut buffer = [0; 4096];
        let end = loop {
            match service.read(&mut buffer) {
                Ok(0) => break None,
                Ok(length) => received += length,
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "{received} bytes of {sent}");
    }
}

#[test]
fn who_vanishes_is_silent_and_then_reset_and_written_down_from_the_beginning() {
    let stage = Stage::new();
    let (mut client, mut service) = stage.connect();
    let from = service.peer_addr().unwrap();
    client.write_all(b"x").unwrap();
    service.read_exact(&mut [0]).unwrap();
    stage.strike(Kind::Vanish, 100, Duration::from_millis(200));
    assert_eq!(stage.touched(Kind::Vanish), 1);
    assert!(stage.is_cut(&client));
    assert!(stage.cuts.excuses(from, stage.begun_ns), "also as the service knows it");
    client.write_all(b"never heard").unwrap();
    assert_eq!(service.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_service_that_is_not_there_refuses_through_the_proxy_and_nothing_excuses_it() {
    let stage = Stage::new();
    let Stage { listener, .. } = stage;
    drop(listener);
    let mut client = TcpStream::connect(stage.front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!stage.cuts.excuses(client.local_addr().unwrap(), stage.begun_ns));
}

#[test]
fn who_sends_feels_that_nobody_reads() {
    let stage = Stage::new();
    let (client, service) = stage.connect();
    client.set_nonblocking(true).unwrap();
    let block = pattern(64 << 10);
    let (mut sent, mut refused) = (0, 0);
    // Refused for a while: what the proxy holds is bounded, and so are the kernel's buffers.
    while refused < 1000 && sent < 1 << 30 {
        match (&client).write(&block) {
            Ok(length) => (sent, refused) = (sent + length, 0),
            Err(_) => {
                refused += 1;
                std::thread::yield_now();
            }
        }
    }
    assert!(sent < 1 << 30, "{sent} bytes were taken");
    drop(service);
}
