//! A workload over real loopback sockets, episode after episode: the same handlers and the same oracles as in `sim`, each
//! loop on a thread of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
use reactor::sys::LibkqueueSystem;
use reactor::sys::{Errno, Family, Syscalls, System};
use reactor::{Config, Counters};
use sim::decision::Decisions;
use sim::decision::seed::{Seed, seed_of_run};
use sim::member::{Role, STOP_WITHIN};
use sim::workload::cluster::Cluster;
use sim::workload::echo::Echo;
use sim::workload::timers::Timers;
use sim::workload::wake::Wake;
use sim::workload::{Breach, Party, Scale, Workload, WorkloadKind};

use crate::machine::Stopwatch;
use crate::member::{Member, panicked, spawn, start};
use crate::poller::Backend;
use crate::{Failure, say};

/// An episode whose clients have not finished by now will not.
const EPISODE_LIMIT: Duration = Duration::from_secs(60);

/// Between two lines of progress, in seconds.
const SAY_EVERY_S: u64 = 10;

/// What a soak has done so far.
#[derive(Default)]
struct Totals {
    episodes: u64,
    messages: u64,
    connections: u64,
    bytes_read: u64,
    turns: u64,
    timers_fired: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.episodes += other.episodes;
        self.messages += other.messages;
        self.connections += other.connections;
        self.bytes_read += other.bytes_read;
        self.turns += other.turns;
        self.timers_fired += other.timers_fired;
    }
}

/// Options of `soak run`.
pub(crate) struct Options {
    pub(crate) workload: WorkloadKind,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    /// Episodes at a time.
    pub(crate) lanes: u32,
    pub(crate) json: bool,
    pub(crate) backend: Backend,
}

/// Runs episodes until the time is over, an interrupt comes, or an oracle objects.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .map_err(|error| Failure::Machine(format!("signal handler: {error}")))?;
    let mut sys = System::new();
    sys.raise_descriptor_limit(u64::MAX)
        .map_err(|error| Failure::Machine(format!("limit of open files: {error}")))?;

    let watch = Stopwatch::start();
    let board = Mutex::new(Board::default());
    let time_over = || interrupted.load(Ordering::SeqCst) || watch.seconds() >= options.seconds;
    thread::scope(|scope| -> Result<(), Failure> {
        for lane in 0..options.lanes {
            let work = || {
                while let Some(index) = next_episode(&board, &time_over) {
                    let seed = seed_of_run(options.seed, index);
                    let mut done = Totals::default();
                    let result = episode(options, seed, &mut done, &time_over)
                        .map_err(|failure| failure.in_episode(index, Seed(seed)));
                    report(options, &board, &watch, &done, result);
                }
            };
            thread::Builder::new()
                .name(format!("lane {lane}"))
                .spawn_scoped(scope, work)
                .map_err(|error| Failure::Machine(format!("thread: {error}")))?;
        }
        Ok(())
    })?;
    let Board { totals, failure, .. } = board.into_inner().expect("no lane panics while it reports");
    if options.json {
        say(&json(options, &totals, &watch, failure.as_ref()))?;
    } else {
        say(&line(options, &totals, watch.seconds()))?;
    }
    match failure {
        Some(failure) => Err(failure),
        None if interrupted.load(Ordering::SeqCst) => Err(Failure::Interrupted),
        None => Ok(()),
    }
}

/// What the lanes share.
#[derive(Default)]
struct Board {
    next: u64,
    said_s: u64,
    totals: Totals,
    /// The first one; no further episode begins after it.
    failure: Option<Failure>,
}

fn next_episode(board: &Mutex<Board>, time_over: &impl Fn() -> bool) -> Option<u64> {
    let mut board = board.lock().expect("no lane panics while it reports");
    if board.failure.is_some() || time_over() {
        return None;
    }
    board.next += 1;
    Some(board.next - 1)
}

fn report(
    options: &Options,
    board: &Mutex<Board>,
    watch: &Stopwatch,
    done: &Totals,
    result: Result<(), Failure>,
) {
    let mut board = board.lock().expect("no lane panics while it reports");
    board.totals.add(done);
    if let Err(failure) = result {
        board.failure.get_or_insert(failure);
    }
    let seconds = watch.seconds();
    if !options.json && seconds >= board.said_s + SAY_EVERY_S {
        board.said_s = seconds;
        // Standard output may be gone; the end of the soak says so.
        let _ = say(&line(options, &board.totals, seconds));
    }
}

fn line(options: &Options, totals: &Totals, seconds: u64) -> String {
    let (workload, poller) = (options.workload, options.backend.poller().name());
    let Totals { episodes, messages, connections, bytes_read, timers_fired, .. } = totals;
    format!(
        "{seconds:>5} s  {workload} on {poller}: {episodes} episodes, {connections} connections, {messages} messages found right, \
         {bytes_read} bytes read, {timers_fired} timers fired"
    )
}

fn json(options: &Options, totals: &Totals, watch: &Stopwatch, failure: Option<&Failure>) -> String {
    serde_json::json!({
        "workload": options.workload.name(),
        "poller": options.backend.poller().name(),
        "seed": Seed(options.seed).to_string(),
        "episodes": totals.episodes,
        "connections": totals.connections,
        "messages": totals.messages,
        "bytes_read": totals.bytes_read,
        "turns": totals.turns,
        "timers_fired": totals.timers_fired,
        "wall_s": watch.seconds(),
        "failure": failure.map(Failure::text),
    })
    .to_string()
}

fn episode(
    options: &Options,
    seed: u64,
    totals: &mut Totals,
    over: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    match options.backend {
        Backend::Own(_) => episode_on::<System>(options.workload, seed, totals, over),
        #[cfg(all(target_os = "linux", feature = "libkqueue"))]
        Backend::Libkqueue => episode_on::<LibkqueueSystem>(options.workload, seed, totals, over),
    }
}

fn episode_on<S: Syscalls + Default + 'static>(
    kind: WorkloadKind,
    seed: u64,
    totals: &mut Totals,
    over: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let mut decisions = Decisions::from_seed(seed);
    match kind {
        WorkloadKind::Echo => {
            play::<S, _>(&Arc::new(Echo::draw(&mut decisions, Scale::RealTime)), totals, over)
        }
        WorkloadKind::Wake => {
            play::<S, _>(&Arc::new(Wake::draw(&mut decisions, Scale::RealTime)), totals, over)
        }
        // Processes live as long as the soak: nobody is killed.
        WorkloadKind::Cluster => {
            play::<S, _>(&Arc::new(Cluster::draw(&mut decisions, Scale::RealTime)), totals, over)
        }
        WorkloadKind::Timers => {
            play::<S, _>(&Arc::new(Timers::draw(&mut decisions, Scale::RealTime)), totals, over)
        }
        WorkloadKind::Stage(name) => {
            Err(Failure::Usage(format!("{name} is a stage of a test: only that test runs it")))
        }
    }
}

fn play<S, W>(plan: &Arc<W>, totals: &mut Totals, over: &dyn Fn() -> bool) -> Result<(), Failure>
where
    S: Syscalls + Default + 'static,
    W: Workload + Send + Sync + 'static,
    W::Service: Send + 'static,
    W::Client: Send + 'static,
{
    let (_reserved, nobody) = reserve_port()?;
    let config = Config::default();
    // The first service may pass everything on to the later ones, so those begin first.
    let mut addresses = vec![nobody; plan.services()];
    let mut services = Vec::new();
    for index in (0..plan.services()).rev() {
        let (plan, known, limits) = (Arc::clone(plan), addresses.clone(), config.clone());
        let member = start::<S, _>(Role::Service, &config, move || plan.service(index, &known, &limits))?;
        addresses[index] = member.address;
        services.push(member);
    }
    services.reverse();

    let producers = (0..plan.producers())
        .map(|index| {
            let (plan, sender) = (Arc::clone(plan), services[0].sender.clone());
            spawn("producer", move || {
                let mut producer = plan.producer(index, sender);
                while let Some(pause_ns) = producer.step() {
                    pause(Duration::from_nanos(pause_ns));
                }
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;

    let mut clients = Vec::new();
    for index in 0..plan.clients() {
        let (plan, addresses) = (Arc::clone(plan), addresses.clone());
        let make = move || plan.client(index, &addresses, nobody);
        clients.push(start::<S, _>(Role::Client, &config, make)?);
    }

    let mut waited = Waited::Done;
    for client in &clients {
        waited = waited.max(wait_for(&client.done, over));
    }
    if waited == Waited::Cut {
        // The soak is over in the middle of an episode: nobody judges half a story.
        clients.iter().for_each(|client| client.stop(Duration::ZERO));
        services.iter().for_each(|service| service.stop(Duration::ZERO));
        join(clients)?;
        join(services)?;
        for producer in producers {
            producer.join().map_err(|_| panicked("a producer"))?;
        }
        return Ok(());
    }
    for producer in producers {
        producer.join().map_err(|_| panicked("a producer"))?;
    }
    for service in &services {
        waited = waited.max(wait_for(&service.done, &|| false));
    }
    let late = waited == Waited::Late;
    // Clients first, to their end: a service that stops earlier cuts their last bytes short.
    for client in &clients {
        client.stop(STOP_WITHIN);
    }
    let clients = finish(clients, totals)?;
    for service in &services {
        service.stop(STOP_WITHIN);
    }
    let services = finish(services, totals)?;
    if late {
        let missing =
            services.iter().filter(|(party, _)| !party.is_finished()).map(|(party, _)| party.missing());
        let missing = clients
            .iter()
            .filter(|(party, _)| !party.is_finished())
            .map(|(party, _)| party.missing())
            .chain(missing)
            .next();
        let text = missing.map_or_else(|| "the episode did not end".to_owned(), |breach| breach.to_string());
        return Err(Failure::Liveness(format!("after {} s: {text}", EPISODE_LIMIT.as_secs())));
    }
    let lost_at_accept = services.iter().any(|(_, counters)| counters.shed > 0 || counters.accept_errors > 0);
    let service_parties: Vec<&W::Service> = services.iter().map(|(party, _)| party).collect();
    let client_parties: Vec<&W::Client> = clients.iter().map(|(party, _)| party).collect();
    plan.judge(&service_parties, &client_parties, lost_at_accept)
        .map_err(|breach| Failure::Invariant(breach.to_string()))?;
    totals.episodes += 1;
    Ok(())
}

/// How waiting for a side ended; the worst of several counts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Waited {
    /// It finished.
    Done,
    /// It did not finish within [`EPISODE_LIMIT`].
    Late,
    /// The soak ended first.
    Cut,
}

fn wait_for(done: &Receiver<()>, over: &dyn Fn() -> bool) -> Waited {
    const SLICE: Duration = Duration::from_millis(100);
    for _ in 0..EPISODE_LIMIT.as_millis() / SLICE.as_millis() {
        if done.recv_timeout(SLICE) != Err(RecvTimeoutError::Timeout) {
            return Waited::Done;
        }
        if over() {
            return Waited::Cut;
        }
    }
    Waited::Late
}

/// Waits for loops that were cut short. What they saw broken counts for nothing: streams end early then.
fn join<P>(members: Vec<Member<P>>) -> Result<(), Failure> {
    for member in members {
        let _: Result<_, Breach> = member.thread.join().map_err(|_| panicked("a loop or its handler"))?;
    }
    Ok(())
}

fn finish<P: Party>(members: Vec<Member<P>>, totals: &mut Totals) -> Result<Vec<(P, Counters)>, Failure> {
    let mut finished = Vec::new();
    for member in members {
        let joined = member.thread.join();
        let result =
            joined.map_err(|_| Failure::Invariant("panic: a loop or its handler panicked".to_owned()))?;
        let (party, counters) = result.map_err(|breach| Failure::Invariant(breach.to_string()))?;
        totals.messages += party.messages();
        totals.connections += counters.accepted;
        totals.bytes_read += counters.bytes_read;
        totals.turns += counters.turns;
        totals.timers_fired += counters.timers_fired;
        finished.push((party, counters));
    }
    Ok(finished)
}

/// A port that is taken, and at which nobody listens.
fn reserve_port() -> Result<(ReservedPort, SocketAddr), Failure> {
    let refused = |error: Errno| Failure::Machine(format!("a port for nobody: {error}"));
    let mut sys = System::new();
    let fd = sys.socket(Family::V4).map_err(refused)?;
    let reserved = ReservedPort { fd };
    sys.bind(fd, &SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).map_err(refused)?;
    let address = sys.getsockname(fd).map_err(refused)?;
    Ok((reserved, address))
}

struct ReservedPort {
    fd: reactor::sys::Fd,
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let _ = System::new().close(self.fd);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a producer on real sockets is a real thread, and paces itself"
)]
fn pause(duration: Duration) {
    if duration.is_zero() {
        thread::yield_now();
    } else {
        thread::sleep(duration);
    }
}
