//! Stands between clients and services, and makes trouble on the wire: plain sockets and `poll(2)` on a thread of its own,
//! so that nothing of it goes through the loop that is under test.
//!
//! It passes on what an honest network would: bytes whole and in order, ends as ends, resets as resets. What it breaks
//! itself it writes down in [`Cuts`] before it does it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::chronicle::Chronicle;
use super::crossing::{Crossing, Turn};
use super::cuts::Cuts;
use super::kind::Kind;
use super::strike::{Rules, Strike};
use crate::Failure;
use crate::machine::Stopwatch;
use crate::member::spawn;

/// The longest wait: orders from other threads are seen by then.
const LOOK_EVERY_NS: u64 = 10_000_000;

/// How long a listener rests for want of descriptors.
const REST_NS: u64 = 20_000_000;

/// How long a front may wait for a port: longer than any chaos lasts.
const PORT_WITHIN_NS: u64 = 30_000_000_000;

/// Connections taken from a listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// What other threads ask of a proxy, and what it tells.
#[derive(Default, Debug)]
struct Shared {
    fronts: Mutex<Vec<(TcpListener, SocketAddr)>>,
    strikes: Mutex<Vec<Strike>>,
    stop: AtomicBool,
    crossings: AtomicU64,
}

/// A proxy that runs; it ends, and its connections with it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy without any front.
    ///
    /// # Errors
    /// Machine: no thread can be made.
    pub(crate) fn start(cuts: Arc<Cuts>, chronicle: Arc<Chronicle>) -> Result<Proxy, Failure> {
        let shared = Arc::new(Shared::default());
        let state = State {
            shared: Arc::clone(&shared),
            cuts,
            chronicle,
            fronts: Vec::new(),
            crossings: Vec::new(),
            strikes: Vec::new(),
            next_serial: 0,
            rest_until_ns: 0,
        };
        let thread = spawn("proxy", move || state.run())?;
        Ok(Proxy { shared, thread: Some(thread) })
    }

    /// Makes a front for the service at `target`, at a free port of loopback: its address.
    ///
    /// # Errors
    /// Machine: no port can be listened at.
    pub(crate) fn front(&self, target: SocketAddr) -> Result<SocketAddr, Failure> {
        let refused =
            |error: std::io::Error| Failure::Machine(format!("the proxy cannot listen on loopback: {error}"));
        let listener = bind_patiently().map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        self.shared.fronts.lock().expect("nobody panics while it adds").push((listener, target));
        Ok(address)
    }

    /// Something begins to go wrong on the wire.
    pub(crate) fn strike(&self, strike: Strike) {
        self.shared.strikes.lock().expect("nobody panics while it adds").push(strike);
    }

    /// Whether something was asked that is not in force yet.
    #[cfg(test)]
    pub(crate) fn has_orders(&self) -> bool {
        !self.shared.strikes.lock().expect("nobody panics while it adds").is_empty()
    }

    /// Connections that have come so far.
    #[cfg(test)]
    pub(crate) fn crossings(&self) -> u64 {
        self.shared.crossings.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
    cuts: Arc<Cuts>,
    chronicle: Arc<Chronicle>,
    fronts: Vec<(TcpListener, SocketAddr)>,
    crossings: Vec<Crossing>,
    strikes: Vec<Strike>,
    next_serial: u64,
    rest_until_ns: u64,
}

impl State {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.fronts.append(&mut self.shared.fronts.lock().expect("nobody panics while it adds"));
            let now_ns = Stopwatch::now_ns();
            self.begin_strikes(now_ns);
            self.end_strikes(now_ns);
            let rules: Vec<Rules> = self
                .crossings
                .iter()
                .map(|crossing| Rules::of(self.strikes.iter(), crossing.serial))
                .collect();
            let ready = self.wait(&rules, now_ns);
            let now_ns = Stopwatch::now_ns();
            self.turn_all(&rules, &ready, now_ns);
            if now_ns >= self.rest_until_ns {
                self.accept_all(now_ns);
            }
        }
        for strike in std::mem::take(&mut self.strikes) {
            self.tell(&strike);
        }
    }

    fn tell(&self, strike: &Strike) {
        self.chronicle.happened(strike.event, strike.begun_ns, strike.touched.len() as u64);
    }

    fn begin_strikes(&mut self, now_ns: u64) {
        let begun = std::mem::take(&mut *self.shared.strikes.lock().expect("nobody panics while it adds"));
        for mut strike in begun {
            // From now on, so that it is in force for at least one turn.
            strike.until_ns = now_ns + strike.event.duration_ns;
            match strike.event.kind {
                Kind::Reset => {
                    let cuts = Arc::clone(&self.cuts);
                    self.crossings.retain(|crossing| {
                        let hit = strike.hits(crossing.serial);
                        if hit {
                            strike.touched.insert(crossing.serial);
                            cut(&cuts, crossing);
                        }
                        !hit
                    });
                    self.tell(&strike);
                }
                Kind::Vanish => {
                    for crossing in &mut self.crossings {
                        if crossing.vanishes_at_ns.is_none() && strike.hits(crossing.serial) {
                            strike.touched.insert(crossing.serial);
                            // Its ends may give it up before it is reset, and that is as much our doing.
                            note_cut(&self.cuts, crossing);
                            crossing.vanishes_at_ns = Some(strike.until_ns);
                        }
                    }
                    self.tell(&strike);
                }
                _ => self.strikes.push(strike),
            }
        }
    }

    fn end_strikes(&mut self, now_ns: u64) {
        let (going, ended): (Vec<Strike>, Vec<Strike>) =
            std::mem::take(&mut self.strikes).into_iter().partition(|strike| strike.until_ns >= now_ns);
        self.strikes = going;
        ended.iter().for_each(|strike| self.tell(strike));
        let cuts = Arc::clone(&self.cuts);
        self.crossings.retain(|crossing| {
            let gone = crossing.vanishes_at_ns.is_some_and(|at_ns| at_ns <= now_ns);
            if gone {
                cut(&cuts, crossing);
            }
            !gone
        });
    }

    /// Waits for whatever comes first; what is ready at both ends of each crossing.
    fn wait(&self, rules: &[Rules], now_ns: u64) -> Vec<[PollFlags; 2]> {
        let mut entries = Vec::with_capacity(self.fronts.len() + 2 * self.crossings.len());
        let mut whose = Vec::with_capacity(entries.capacity());
        if now_ns >= self.rest_until_ns {
            for (listener, _) in &self.fronts {
                entries.push(PollFd::new(listener, PollFlags::IN));
                whose.push(None);
            }
        }
        let mut until_ns = now_ns + LOOK_EVERY_NS;
        for (at, (crossing, rules)) in self.crossings.iter().zip(rules).enumerate() {
            for end in [0, 1] {
                let interest = crossing.interest(end, rules);
                if !interest.is_empty() {
                    entries.push(PollFd::new(crossing.end(end), interest));
                    whose.push(Some((at, end)));
                }
            }
            if let Some(due_ns) = crossing.due_ns(rules) {
                until_ns = until_ns.min(due_ns);
            }
        }
        // Below a second: it is never longer than between two looks.
        let wait_ns = u32::try_from(until_ns.saturating_sub(now_ns)).unwrap_or(0);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns.into() };
        let mut ready = vec![[PollFlags::empty(); 2]; self.crossings.len()];
        // Interrupted, or short of memory: nothing is ready, and the next turn asks again.
        if poll(&mut entries, Some(&timeout)).is_ok() {
            for (entry, whose) in entries.iter().zip(whose) {
                if let Some((at, end)) = whose {
                    ready[at][end] = entry.revents();
                }
            }
        }
        ready
    }

    fn turn_all(&mut self, rules: &[Rules], ready: &[[PollFlags; 2]], now_ns: u64) {
        let mut looked_at = rules.iter().zip(ready);
        let strikes = &mut self.strikes;
        self.crossings.retain_mut(|crossing| {
            let Some((rules, ready)) = looked_at.next() else { return true };
            let passed_bytes = crossing.passed_bytes;
            let stalled = rules.stalled && crossing.vanishes_at_ns.is_none();
            let turn = crossing.turn(now_ns, rules, *ready);
            let passed = crossing.passed_bytes > passed_bytes;
            let late_end = std::mem::take(&mut crossing.end_was_late);
            if passed || late_end || stalled {
                for strike in strikes.iter_mut().filter(|strike| strike.hits(crossing.serial)) {
                    let felt = match strike.event.kind {
                        Kind::LateEnd => late_end,
                        Kind::Stall => stalled,
                        kind => passed && Rules::is_felt(kind),
                    };
                    if felt {
                        strike.touched.insert(crossing.serial);
                    }
                }
            }
            turn == Turn::Going
        });
    }

    fn accept_all(&mut self, now_ns: u64) {
        let mut came = Vec::new();
        for (listener, target) in &self.fronts {
            for _ in 0..ACCEPTS_PER_TURN {
                match listener.accept() {
                    Ok((stream, from)) => came.push((stream, from, *target)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                    Err(_) => {
                        // Out of descriptors: who waits in the queue waits a little longer.
                        self.rest_until_ns = now_ns + REST_NS;
                        break;
                    }
                }
            }
        }
        for (stream, from, target) in came {
            self.shared.crossings.fetch_add(1, Ordering::Relaxed);
            self.next_serial += 1;
            match onward(&stream, target) {
                Ok((end, origin)) => {
                    let origins = [from, origin];
                    self.crossings.push(Crossing::new(self.next_serial, origins, [stream, end]));
                }
                Err(error) => {
                    // The service never hears of it for want of descriptors or ports here, which is our doing. That it
                    // refuses is not.
                    if error.kind() != ErrorKind::ConnectionRefused {
                        self.cuts.cut(from);
                    }
                    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO));
                }
            }
        }
    }
}

/// Takes a free port, as soon as there is one: chaos may have left few of them for a while.
fn bind_patiently() -> std::io::Result<TcpListener> {
    let watch = Stopwatch::start();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && watch.ns() < PORT_WITHIN_NS => {
                std::thread::park_timeout(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Begins the connection to the service, and says what it will see as who connected.
fn onward(stream: &TcpStream, target: SocketAddr) -> std::io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let end = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match connect(&end, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let end = TcpStream::from(end);
    for end in [stream, &end] {
        end.set_nonblocking(true)?;
        end.set_nodelay(true)?;
    }
    let origin = end.local_addr()?;
    Ok((end, origin))
}

fn note_cut(cuts: &Cuts, crossing: &Crossing) {
    crossing.origins.iter().for_each(|&from| cuts.cut(from));
}

fn cut(cuts: &Cuts, crossing: &Crossing) {
    note_cut(cuts, crossing);
    crossing.reset();
}
