//! The loop on the real kernel, with clients written against `std::net`; with the feature `libkqueue`, on Linux also with
//! the kqueue poller.
//!
//! No test depends on timing: each waits for what must happen, and a loop that hangs shows as a test that hangs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use reactor::sys::{Errno, Syscalls};
use reactor::timer::TimerToken;
use reactor::{
    CloseReason, Config, Context, Handler, ListenOptions, Origin, PauseReasons, Pressure, Reactor, Sender,
    Token, WriteRefused,
};

/// What a test's service does; everything it is told goes into the log.
#[derive(Default)]
struct Service {
    log: Vec<Event>,
    /// Bytes to push to each connection as it opens.
    greeting: usize,
    /// Close instead of echoing.
    close_on_data: bool,
    /// Consume only whole lines.
    lines: bool,
    /// Pause reading at the first bytes and consume nothing until a message says so.
    pause_at_first: bool,
    last: Option<Token>,
    /// Keep the connection when the peer has ended its side.
    stay_at_end: bool,
    /// Hears of every close.
    closes: Option<std::sync::mpsc::Sender<CloseReason>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Opened { outgoing: bool },
    ConnectFailed(u64, Errno),
    Line(Vec<u8>),
    Ended { unconsumed: usize },
    Pressure(Pressure),
    Closed(CloseReason),
    Timer(u64),
}

enum Order {
    Stop,
    Resume,
    Connect(SocketAddr, u64),
    Abort,
    Broadcast(Bytes),
}

impl Handler for Service {
    type Connection = ();
    type Message = Order;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) {
        self.last = Some(token);
        self.log.push(Event::Opened { outgoing: matches!(origin, Origin::Connected { .. }) });
        if self.greeting > 0 {
            let bytes: Vec<u8> = (0..self.greeting).map(pattern).collect();
            ctx.write(token, &bytes).expect("a fresh connection takes bytes");
            ctx.close(token);
        }
    }

    fn on_connect_failed(&mut self, _: &mut Context<'_>, _: Token, tag: u64, error: Errno) {
        self.log.push(Event::ConnectFailed(tag, error));
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        if self.close_on_data {
            ctx.write(token, b"bye").expect("open");
            ctx.close(token);
            assert_eq!(ctx.write(token, b"more"), Err(WriteRefused::Closed));
            return bytes.len();
        }
        if self.pause_at_first {
            ctx.pause_reading(token, PauseReasons::APPLICATION);
            return 0;
        }
        if self.lines {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return 0 };
            self.log.push(Event::Line(bytes[..end].to_vec()));
            // One line a call: the rest is offered again when more arrives, or at once when asked for.
            ctx.resume_reading(token, PauseReasons::APPLICATION);
            return end + 1;
        }
        ctx.write(token, bytes).expect("open");
        bytes.len()
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), unconsumed: usize) {
        self.log.push(Event::Ended { unconsumed });
        if !self.stay_at_end {
            ctx.close(token);
        }
    }

    fn on_pressure(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), pressure: Pressure) {
        self.log.push(Event::Pressure(pressure));
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), reason: CloseReason) {
        self.log.push(Event::Closed(reason));
        if let Some(closes) = &self.closes {
            closes.send(reason).expect("the test listens");
        }
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerToken, tag: u64) {
        self.log.push(Event::Timer(tag));
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, order: Order) {
        match order {
            Order::Stop => ctx.stop(Duration::from_secs(10)),
            Order::Resume => {
                self.pause_at_first = false;
                ctx.resume_reading(self.last.expect("open"), PauseReasons::APPLICATION);
            }
            Order::Connect(address, tag) => {
                let token = ctx.connect(address, tag).expect("room");
                ctx.write(token, b"early\n").expect("bytes may be written before the connection is open");
            }
            Order::Abort => ctx.abort(self.last.expect("open")),
            Order::Broadcast(bytes) => {
                ctx.write_shared(self.last.expect("open"), bytes).expect("open");
            }
        }
    }
}

fn pattern(index: usize) -> u8 {
    (index % 251) as u8
}

struct Running {
    address: SocketAddr,
    sender: Sender<Order>,
    thread: JoinHandle<Vec<Event>>,
}

impl Running {
    fn order(&self, order: Order) {
        assert!(self.sender.send(order).is_ok(), "the mailbox has room");
    }

    /// Stops the loop and returns what its handler was told.
    fn finish(self) -> Vec<Event> {
        self.order(Order::Stop);
        self.thread.join().expect("the loop ends without a panic")
    }
}

/// Runs a loop on a thread of its own. Ends are given all the time that a busy machine may take: no timing decides a test.
fn start<S: Syscalls + Default>(service: Service, config: Config) -> Running {
    const PATIENCE_NS: u64 = 600_000_000_000;
    let config = Config { drain_ns: PATIENCE_NS, linger_ns: PATIENCE_NS, ..config };
    let (give, take) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("loop".into())
        .spawn(move || {
            let mut reactor = Reactor::new(S::default(), config, service).expect("descriptors");
            let any = "127.0.0.1:0".parse().expect("an address");
            let listener = reactor.listen(any, &ListenOptions::default(), 7).expect("a free port");
            let address = reactor.local_address(listener).expect("bound");
            give.send((address, reactor.sender())).expect("the test waits");
            while reactor.turn().expect("the wait works") != reactor::Turn::Stopped {
                reactor.assert_invariants();
            }
            reactor.with(|service, _| std::mem::take(&mut service.log))
        })
        .expect("a thread");
    let (address, sender) = take.recv().expect("the loop starts");
    Running { address, sender, thread }
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a clean end");
    bytes
}

fn bytes_come_back_and_a_half_close_ends_the_connection_in_order<S: Syscalls + Default>() {
    let running = start::<S>(Service::default(), Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.write_all(b"hello").expect("open");
    client.shutdown(Shutdown::Write).expect("open");
    assert_eq!(read_all(&mut client), b"hello");
    assert_eq!(
        running.finish(),
        [
            Event::Opened { outgoing: false },
            Event::Ended { unconsumed: 0 },
            Event::Closed(CloseReason::Finished)
        ]
    );
}

/// Bug-catalogue B13, B03: everything queued at close arrives, though it exceeds what the socket takes at once.
fn bytes_queued_at_close_arrive_complete<S: Syscalls + Default>() {
    let length = 20 << 20;
    let running = start::<S>(Service { greeting: length, ..Service::default() }, Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    let bytes = read_all(&mut client);
    assert_eq!(bytes.len(), length);
    assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(index)));
    drop(client);
    let log = running.finish();
    assert_eq!(log.last(), Some(&Event::Closed(CloseReason::Finished)));
    assert_eq!(log.len(), 2, "a closed connection is told nothing but its end: {log:?}");
}

/// Bug-catalogue B47: a pipelined request that is never read does not turn the close into a reset.
fn unread_input_does_not_destroy_the_last_response<S: Syscalls + Default>() {
    let running = start::<S>(Service { close_on_data: true, ..Service::default() }, Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    for _ in 0..100 {
        // Once the service has closed, the kernel may refuse the rest; the response must still come.
        if client.write_all(&[1; 10_000]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
    assert_eq!(read_all(&mut client), b"bye");
    assert_eq!(running.finish().last(), Some(&Event::Closed(CloseReason::Finished)));
}

/// Bug-catalogue B11: bytes that have left the kernel are offered again without a new event.
fn resuming_offers_the_bytes_that_were_not_consumed<S: Syscalls + Default>() {
    let running = start::<S>(Service { pause_at_first: true, ..Service::default() }, Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.write_all(b"kept").expect("open");
    running.order(Order::Resume);
    let mut back = [0; 4];
    client.read_exact(&mut back).expect("the bytes come back");
    assert_eq!(&back, b"kept");
    drop(client);
    running.finish();
}

fn unconsumed_bytes_stay_contiguous_until_a_whole_line_is_there<S: Syscalls + Default>() {
    let running = start::<S>(
        Service { lines: true, ..Service::default() },
        Config { read_bytes: 3, ..Config::default() },
    );
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.set_nodelay(true).expect("open");
    for piece in [&b"first li"[..], b"ne\nsecond\nthi", b"rd\ncut"] {
        client.write_all(piece).expect("open");
    }
    client.shutdown(Shutdown::Write).expect("open");
    assert!(read_all(&mut client).is_empty());
    let log = running.finish();
    let lines: Vec<&[u8]> = log
        .iter()
        .filter_map(|event| match event {
            Event::Line(line) => Some(line.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [&b"first line"[..], b"second", b"third"]);
    assert!(log.contains(&Event::Ended { unconsumed: 3 }), "{log:?}");
}

fn reading_pauses_while_the_output_queue_is_above_its_mark_and_goes_on_below<S: Syscalls + Default>() {
    let config = Config { queue_bytes_high: 4096, queue_bytes_low: 0, ..Config::default() };
    let running = start::<S>(Service::default(), config);
    let mut writer = TcpStream::connect(running.address).expect("listening");
    let mut reader = writer.try_clone().expect("a second handle");
    let length = 30 << 20;
    let thread = std::thread::Builder::new()
        .spawn(move || {
            let bytes: Vec<u8> = (0..length).map(pattern).collect();
            writer.write_all(&bytes).expect("the service reads in the end");
            writer.shutdown(Shutdown::Write).expect("open");
        })
        .expect("a thread");
    let bytes = read_all(&mut reader);
    thread.join().expect("written");
    assert_eq!(bytes.len(), length);
    assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(index)));
    let pressures: Vec<Pressure> = running
        .finish()
        .into_iter()
        .filter_map(|event| match event {
            Event::Pressure(pressure) => Some(pressure),
            _ => None,
        })
        .collect();
    for (index, pressure) in pressures.iter().enumerate() {
        let expected = if index % 2 == 0 { Pressure::High } else { Pressure::Low };
        assert_eq!(*pressure, expected, "watermark events alternate");
    }
}

fn connecting_out_delivers_what_was_written_before_the_connection_was_open<S: Syscalls + Default>() {
    let peer = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let running = start::<S>(Service { lines: true, ..Service::default() }, Config::default());
    running.order(Order::Connect(peer.local_addr().expect("bound"), 5));
    let (mut stream, _) = peer.accept().expect("a connection");
    let mut line = [0; 6];
    stream.read_exact(&mut line).expect("the early bytes");
    assert_eq!(&line, b"early\n");
    stream.write_all(b"answer\n").expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    assert!(read_all(&mut stream).is_empty());
    let log = running.finish();
    assert!(log.contains(&Event::Opened { outgoing: true }), "{log:?}");
    assert!(log.contains(&Event::Line(b"answer".to_vec())), "{log:?}");
}

/// Bug-catalogue B42, B43: a refused connect is reported once, with its error, and nothing is left of it.
fn a_refused_connect_is_reported_once<S: Syscalls + Default>() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let running = start::<S>(Service::default(), Config::default());
    running.order(Order::Connect(dead, 9));
    assert_eq!(running.finish().len(), 1, "either refused or, if the stop came first, given up");
}

fn an_abort_reaches_the_peer_as_a_reset<S: Syscalls + Default>() {
    let running = start::<S>(Service::default(), Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.write_all(b"x").expect("open");
    let mut byte = [0];
    client.read_exact(&mut byte).expect("the echo: the service knows the connection");
    running.order(Order::Abort);
    let error = client.read(&mut byte).expect_err("a reset, not an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(running.finish().last(), Some(&Event::Closed(CloseReason::Aborted)));
}

/// After the peer's end nothing is read any more, so a reset that follows must be noticed in another way.
fn a_reset_after_the_peers_end_closes_a_connection_that_was_kept<S: Syscalls + Default>() {
    let (closes, closed) = std::sync::mpsc::channel();
    let service = Service { stay_at_end: true, closes: Some(closes), ..Service::default() };
    let running = start::<S>(service, Config::default());
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.write_all(b"hello").expect("open");
    client.shutdown(Shutdown::Write).expect("open");
    client.peek(&mut [0]).expect("the echo is there");
    // Closing with unread bytes resets the connection (kernel-semantics T73).
    drop(client);
    let reason = closed.recv().expect("the close is told");
    assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
    running.finish();
}

fn a_shared_buffer_is_sent_whole<S: Syscalls + Default>() {
    let running = start::<S>(Service::default(), Config { write_bytes_max: 1000, ..Config::default() });
    let mut client = TcpStream::connect(running.address).expect("listening");
    client.write_all(b"x").expect("open");
    let mut byte = [0];
    client.read_exact(&mut byte).expect("the echo");
    let shared: Bytes = (0..1 << 20).map(pattern).collect::<Vec<u8>>().into();
    running.order(Order::Broadcast(shared.clone()));
    running.order(Order::Broadcast(shared.clone()));
    let mut bytes = vec![0; 2 << 20];
    client.read_exact(&mut bytes).expect("both copies");
    assert_eq!(&bytes[..1 << 20], &shared[..]);
    assert_eq!(&bytes[1 << 20..], &shared[..]);
    drop(client);
    running.finish();
}

fn messages_from_many_threads_all_arrive<S: Syscalls + Default>() {
    struct Count(u64);
    impl Handler for Count {
        type Connection = ();
        type Message = u64;
        fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}
        fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
            bytes.len()
        }
        fn on_message(&mut self, ctx: &mut Context<'_>, message: u64) {
            self.0 += message;
            if self.0 == 40_000 {
                ctx.stop(Duration::ZERO);
            }
        }
    }
    let config = Config { mailbox_messages_max: 64, messages_per_turn: 7, ..Config::default() };
    let mut reactor = Reactor::new(S::default(), config, Count(0)).expect("descriptors");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let sender = reactor.sender();
            std::thread::Builder::new()
                .spawn(move || {
                    for _ in 0..10_000 {
                        while sender.send(1).is_err() {
                            std::thread::yield_now();
                        }
                    }
                })
                .expect("a thread")
        })
        .collect();
    reactor.run().expect("the wait works");
    for thread in threads {
        thread.join().expect("all sent");
    }
    assert_eq!(reactor.handler().0, 40_000);
}

fn a_stop_finishes_connections_and_reports_each<S: Syscalls + Default>() {
    let running = start::<S>(Service { greeting: 1 << 20, ..Service::default() }, Config::default());
    let mut clients: Vec<TcpStream> =
        (0..10).map(|_| TcpStream::connect(running.address).expect("listening")).collect();
    let mut first = [0; 1];
    for client in &mut clients {
        client.read_exact(&mut first).expect("the connection is known to the service");
    }
    running.sender.stop(Duration::from_secs(10));
    for client in &mut clients {
        assert_eq!(read_all(client).len(), (1 << 20) - 1, "queued bytes are finished");
    }
    drop(clients);
    let log = running.thread.join().expect("the loop ends");
    assert_eq!(log.iter().filter(|event| **event == Event::Closed(CloseReason::Finished)).count(), 10);
}

fn the_port_in_use_is_said_at_once<S: Syscalls + Default>() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut reactor = Reactor::new(S::default(), Config::default(), Service::default()).expect("descriptors");
    let address = taken.local_addr().expect("bound");
    assert_eq!(reactor.listen(address, &ListenOptions::default(), 0), Err(Errno::EADDRINUSE));
    assert_eq!(reactor.live(), 0);
}

/// Each case as a test, on the system's own kernel and with `libkqueue`.
macro_rules! cases {
    ($($name:ident)*) => {
        mod own_kernel {
            $(
                #[test]
                fn $name() {
                    super::$name::<reactor::sys::System>();
                }
            )*
        }

        #[cfg(all(target_os = "linux", feature = "libkqueue"))]
        mod over_libkqueue {
            $(
                #[test]
                fn $name() {
                    if tests::libkqueue::is_here(stringify!($name)) {
                        super::$name::<reactor::sys::LibkqueueSystem>();
                    }
                }
            )*
        }
    };
}

cases! {
    bytes_come_back_and_a_half_close_ends_the_connection_in_order
    bytes_queued_at_close_arrive_complete
    unread_input_does_not_destroy_the_last_response
    resuming_offers_the_bytes_that_were_not_consumed
    unconsumed_bytes_stay_contiguous_until_a_whole_line_is_there
    reading_pauses_while_the_output_queue_is_above_its_mark_and_goes_on_below
    connecting_out_delivers_what_was_written_before_the_connection_was_open
    a_refused_connect_is_reported_once
    an_abort_reaches_the_peer_as_a_reset
    a_reset_after_the_peers_end_closes_a_connection_that_was_kept
    a_shared_buffer_is_sent_whole
    messages_from_many_threads_all_arrive
    a_stop_finishes_connections_and_reports_each
    the_port_in_use_is_said_at_once
}
