//! A workload over real loopback sockets, episode after episode: the same handlers and the same oracles as in `sim`, each
//! loop on a thread of its own.

use std::any::Any;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
use reactor::sys::LibkqueueSystem;
use reactor::sys::{Errno, Family, Syscalls, System};
use reactor::{Config, Counters};
use sim::decision::seed::{Seed, seed_of_run};
use sim::member::{Role, STOP_WITHIN};
use sim::recording::{self, Plan, PlanUse};
use sim::workload::{Breach, Party, Workload, WorkloadKind};

use crate::episode_record::{EpisodeRecord, Recordings};
use crate::machine::Stopwatch;
use crate::member::{Member, panic_message, panicked, spawn, start};
use crate::poller::Backend;
use crate::{Failure, say};

/// An episode whose clients have not finished by now will not.
const EPISODE_LIMIT: Duration = Duration::from_secs(60);

/// What the recordings of all episodes under way may hold, in bytes; two more are kept, and each may grow to twice its share
/// while it ends.
const RECORDED_BYTES_MAX: u64 = 512 << 20;

/// Longer than a loop that was told to stop may need, with its connections given up and its structure looked at.
const STOPPED_AFTER: Duration = Duration::from_secs(3 * STOP_WITHIN.as_secs());

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
    /// Where recordings go when something is wrong; `None` to record nothing.
    pub(crate) recordings: Option<PathBuf>,
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
    let recordings = options.recordings.as_deref().map(Recordings::new);
    let time_over = || interrupted.load(Ordering::SeqCst) || watch.seconds() >= options.seconds;
    thread::scope(|scope| -> Result<(), Failure> {
        for lane in 0..options.lanes {
            let work = || {
                while let Some(index) = next_episode(&board, &time_over) {
                    let seed = seed_of_run(options.seed, index);
                    let mut done = Totals::default();
                    let result = episode(options, (index, seed), &mut done, recordings.as_ref(), &time_over)
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

/// Runs an episode, and writes out what was recorded of it, and of the one before, when something is wrong with it.
fn episode(
    options: &Options,
    (index, seed): (u64, u64),
    totals: &mut Totals,
    recordings: Option<&Recordings>,
    over: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let plan = Plan { workload: options.workload, seed };
    let mut record = None;
    let bytes_max = recordings.map(|_| RECORDED_BYTES_MAX / u64::from(options.lanes));
    let play = Play { plan, totals, record: &mut record, bytes_max, backend: options.backend, over };
    let unknown =
        || Failure::Usage(format!("{} is a stage of a test: only that test runs it", options.workload));
    let result = plan.draw(play).unwrap_or_else(|| Err(unknown()));
    let (Some(recordings), Some(record)) = (recordings, record) else { return result.map(drop) };
    let is_wrong = matches!(result, Err(Failure::Invariant(_) | Failure::Liveness(_)));
    recordings.keep(index, record.finish(is_wrong || matches!(result, Ok(Ended::Whole))));
    result.map(drop).map_err(|failure| match failure {
        Failure::Invariant(_) | Failure::Liveness(_) => failure.recorded(recordings.write()),
        other => other,
    })
}

/// How an episode ended that nothing was wrong with.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Ended {
    /// By itself, and it was judged.
    Whole,
    /// Because the soak is over, or its record is full.
    Cut,
}

/// An episode to be played.
struct Play<'a> {
    plan: Plan,
    totals: &'a mut Totals,
    record: &'a mut Option<EpisodeRecord>,
    bytes_max: Option<u64>,
    backend: Backend,
    over: &'a dyn Fn() -> bool,
}

impl PlanUse for Play<'_> {
    type Output = Result<Ended, Failure>;

    fn with<W>(self, plan: W) -> Result<Ended, Failure>
    where
        W: Workload + Send + Sync + 'static,
        W::Service: Send + Debug + 'static,
        W::Client: Send + Debug + 'static,
    {
        match self.backend {
            Backend::Own(_) => play::<System, _>(&Arc::new(plan), self),
            #[cfg(all(target_os = "linux", feature = "libkqueue"))]
            Backend::Libkqueue => play::<LibkqueueSystem, _>(&Arc::new(plan), self),
        }
    }
}

fn play<S, W>(plan: &Arc<W>, play: Play<'_>) -> Result<Ended, Failure>
where
    S: Syscalls + Default + 'static,
    W: Workload + Send + Sync + 'static,
    W::Service: Send + 'static,
    W::Client: Send + 'static,
{
    let Play { plan: drawn, totals, record, bytes_max, over, .. } = play;
    let (_reserved, nobody) = reserve_port()?;
    let config = Config::default();
    let made = bytes_max
        .map(|bytes_max| EpisodeRecord::new(drawn, nobody, &config, S::default().readiness(), bytes_max));
    *record = made;
    let record = record.as_ref();
    let over = || over() || record.is_some_and(EpisodeRecord::is_full);
    // The first service may pass everything on to the later ones, so those begin first.
    let mut addresses = vec![nobody; plan.services()];
    let mut services = Vec::new();
    for index in (0..plan.services()).rev() {
        let (plan, known, limits) = (Arc::clone(plan), addresses.clone(), config.clone());
        let journal = record.map(|record| record.journal(Role::Service, index, &known));
        let make = move || plan.service(index, &known, &limits);
        let member = start::<S, _>(Role::Service, &config, journal, make)?;
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
        let journal = record.map(|record| record.journal(Role::Client, index, &addresses));
        let make = move || plan.client(index, &addresses, nobody);
        clients.push(start::<S, _>(Role::Client, &config, journal, make)?);
    }

    let mut waited = Waited::Done;
    for client in &clients {
        let broken = || services.iter().any(|service| service.thread.is_finished());
        waited = waited.max(wait_for(&client.done, &over, &broken));
    }
    if waited == Waited::Cut {
        // The soak is over in the middle of an episode: nobody judges half a story.
        clients.iter().for_each(|client| client.stop(Duration::ZERO));
        services.iter().for_each(|service| service.stop(Duration::ZERO));
        join(Role::Client, clients, record)?;
        join(Role::Service, services, record)?;
        for producer in producers {
            producer.join().map_err(|_| panicked("a producer"))?;
        }
        return Ok(Ended::Cut);
    }
    for producer in producers {
        producer.join().map_err(|_| panicked("a producer"))?;
    }
    for service in &services {
        waited = waited.max(wait_for(&service.done, &|| false, &|| waited == Waited::Broken));
    }
    let late = waited == Waited::Late;
    if let (true, Some(record)) = (late, record) {
        record.set_late();
    }
    // Clients first, to their end: a service that stops earlier cuts their last bytes short.
    for client in &clients {
        client.stop(STOP_WITHIN);
    }
    let clients = finish(Role::Client, clients, totals, record)?;
    for service in &services {
        service.stop(STOP_WITHIN);
    }
    let services = finish(Role::Service, services, totals, record)?;
    if late {
        let missing =
            services.iter().filter(|(party, _)| !party.is_finished()).map(|(party, _)| party.missing());
        let missing = clients
            .iter()
            .filter(|(party, _)| !party.is_finished())
            .map(|(party, _)| party.missing())
            .chain(missing)
            .next();
        let missing = missing
            .unwrap_or_else(|| Breach::new("liveness", "the episode did not end in its time".to_owned()));
        blame(record, &missing, None);
        let text = missing.to_string();
        return Err(Failure::Liveness(format!("after {} s: {text}", EPISODE_LIMIT.as_secs())));
    }
    let lost_at_accept = services.iter().any(|(_, counters)| counters.shed > 0 || counters.accept_errors > 0);
    let service_parties: Vec<&W::Service> = services.iter().map(|(party, _)| party).collect();
    let client_parties: Vec<&W::Client> = clients.iter().map(|(party, _)| party).collect();
    plan.judge(&service_parties, &client_parties, lost_at_accept).map_err(|breach| {
        blame(record, &breach, None);
        Failure::Invariant(breach.to_string())
    })?;
    totals.episodes += 1;
    Ok(Ended::Whole)
}

/// Writes into the record what was wrong, and which loop saw it.
fn blame(record: Option<&EpisodeRecord>, breach: &Breach, culprit: Option<String>) {
    if let Some(record) = record {
        let (invariant, details) = (breach.invariant.to_owned(), breach.details.clone());
        record.blame(recording::Failure { invariant, details, culprit });
    }
}

/// How waiting for a side ended; the worst of several counts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Waited {
    /// It finished.
    Done,
    /// A service has ended although nobody told it to: it saw something broken, or panicked.
    Broken,
    /// It did not finish within [`EPISODE_LIMIT`].
    Late,
    /// The soak ended first.
    Cut,
}

fn wait_for(done: &Receiver<()>, over: &dyn Fn() -> bool, broken: &dyn Fn() -> bool) -> Waited {
    const SLICE: Duration = Duration::from_millis(100);
    for _ in 0..EPISODE_LIMIT.as_millis() / SLICE.as_millis() {
        if done.recv_timeout(SLICE) != Err(RecvTimeoutError::Timeout) {
            return Waited::Done;
        }
        if broken() {
            return Waited::Broken;
        }
        if over() {
            return Waited::Cut;
        }
    }
    Waited::Late
}

/// Waits for loops that were cut short. What they saw broken counts for nothing: streams end early then.
fn join<P>(role: Role, members: Vec<Member<P>>, record: Option<&EpisodeRecord>) -> Result<(), Failure> {
    for (index, member) in members.into_iter().enumerate() {
        let _: Result<_, Breach> =
            member.thread.join().map_err(|payload| panicked_at(role, index, &*payload, record))?;
    }
    Ok(())
}

fn panicked_at(
    role: Role,
    index: usize,
    payload: &(dyn Any + Send),
    record: Option<&EpisodeRecord>,
) -> Failure {
    let (name, message) = (format!("{} {index}", role.name()), panic_message(payload));
    let failure = Failure::Invariant(format!("panic: {name} panicked: {message}"));
    blame(record, &Breach::new("panic", message), Some(name));
    failure
}

fn finish<P: Party>(
    role: Role,
    mut members: Vec<Member<P>>,
    totals: &mut Totals,
    record: Option<&EpisodeRecord>,
) -> Result<Vec<(P, Counters)>, Failure> {
    let mut finished = Vec::new();
    for (index, member) in members.drain(..).enumerate() {
        let name = || Some(format!("{} {index}", role.name()));
        if !member.ends_within(STOPPED_AFTER) {
            // Nobody can join it: it sleeps, or turns in circles. What is recorded of it ends here.
            let details = format!("{} {index} did not stop when it was told to", role.name());
            let breach = Breach::new("liveness", details);
            blame(record, &breach, name());
            return Err(Failure::Liveness(breach.to_string()));
        }
        let result = member.thread.join().map_err(|payload| panicked_at(role, index, &*payload, record))?;
        let (party, counters) = result.map_err(|breach| {
            blame(record, &breach, name());
            Failure::Invariant(breach.to_string())
        })?;
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
