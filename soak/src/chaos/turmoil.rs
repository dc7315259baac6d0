//! The chaos of one episode: its schedule, its proxy, and the thread that makes it happen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sim::audit::Witness;
use sim::decision::Decisions;
use sim::decision::seed::seed_of_run;
use sim::recording::Journal;

use super::chronicle::Chronicle;
use super::cuts::{CutWitness, Cuts, Origins};
use super::interrupt::{LoopThreads, Present};
use super::kind::Kind;
use super::proxy::Proxy;
use super::schedule::{ChaosOptions, Event, Schedule, Share};
use super::shortage::Shortage;
use super::storm::storm;
use super::strike::Strike;
use crate::Failure;
use crate::machine::{self, Stopwatch};
use crate::member::spawn;

/// Between two looks at the schedule.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The schedule's own numbers of a seed, so that chaos leaves an episode's plan as it is.
const DRAWN_APART: u64 = 0xc4a0_5000;

/// What one loop has to do with chaos.
#[derive(Clone, Debug)]
pub(crate) struct Exposure {
    cuts: Arc<Cuts>,
    /// Connections of processes that were killed.
    killed: Arc<Cuts>,
    /// Where its connections come from: told by [`crate::watched::Watched`].
    pub(crate) origins: Arc<Origins>,
    threads: Arc<LoopThreads>,
    /// What its sockets ask for as their buffers, in bytes.
    pub(crate) buffer_bytes: Option<u32>,
}

impl Exposure {
    /// Who tells the loop which of its connections were cut, and the journal, if there is one, what was delivered.
    pub(crate) fn witness(&self, journal: Option<Journal>) -> Box<dyn Witness> {
        let (cuts, killed) = (Arc::clone(&self.cuts), Arc::clone(&self.killed));
        Box::new(CutWitness { cuts, killed, origins: Arc::clone(&self.origins), journal })
    }

    /// For tests: the loop is told of nothing that excuses a broken stream.
    pub(crate) fn without_excuses(self) -> Exposure {
        Exposure { cuts: Arc::default(), killed: Arc::default(), ..self }
    }

    /// The calling thread runs the loop.
    pub(crate) fn enter(&self) -> Present {
        self.threads.enter()
    }
}

/// See the module. When this is dropped everything ends: threads, limits, connections.
#[derive(Debug)]
pub(crate) struct Turmoil {
    schedule: Schedule,
    chronicle: Arc<Chronicle>,
    cuts: Arc<Cuts>,
    killed: Arc<Cuts>,
    /// Of the schedule, what has gone by before this begins.
    gone_by: Duration,
    threads: Arc<LoopThreads>,
    /// Only where something is to go wrong on the wire.
    proxy: Option<Arc<Proxy>>,
    services: Vec<SocketAddr>,
    conductor: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Turmoil {
    /// Draws the chaos of an episode with this seed and a load of this length, or this process's share of it. Nothing
    /// happens yet.
    ///
    /// # Errors
    /// Machine: no thread can be made.
    pub(crate) fn new(
        options: &ChaosOptions,
        share: Share,
        seed: u64,
        load: Duration,
        chronicle: Arc<Chronicle>,
    ) -> Result<Turmoil, Failure> {
        let mut decisions = Decisions::from_seed(seed_of_run(seed, DRAWN_APART));
        let schedule = Schedule::draw(&mut decisions, options, share, load);
        let cuts = Arc::new(Cuts::default());
        let is_between = matches!(share, Share::Whole | Share::Clients);
        let proxy = match is_between && options.kinds.iter().any(|kind| kind.is_on_the_wire()) {
            true => Some(Arc::new(Proxy::start(Arc::clone(&cuts), Arc::clone(&chronicle))?)),
            false => None,
        };
        let (threads, services) = (Arc::default(), Vec::new());
        let (killed, gone_by) = (Arc::default(), Duration::ZERO);
        Ok(Turmoil { schedule, chronicle, cuts, killed, gone_by, threads, proxy, services, conductor: None })
    }

    /// Streams of these connections may end in order, and anywhere: whoever sent them was killed.
    pub(crate) fn excuse_killed(&mut self, killed: &Arc<Cuts>) {
        self.killed = Arc::clone(killed);
    }

    /// So much of the episode has gone by already.
    pub(crate) fn begin_at(&mut self, gone_by: Duration) {
        self.gone_by = gone_by;
    }

    /// What a loop of the episode is made with; each needs its own.
    pub(crate) fn exposure(&self) -> Exposure {
        Exposure {
            cuts: Arc::clone(&self.cuts),
            killed: Arc::clone(&self.killed),
            origins: Arc::default(),
            threads: Arc::clone(&self.threads),
            buffer_bytes: self.schedule.buffer_bytes,
        }
    }

    /// Where clients are to connect to reach the service at `service`.
    ///
    /// # Errors
    /// Machine: the proxy cannot listen.
    pub(crate) fn front(&mut self, service: SocketAddr) -> Result<SocketAddr, Failure> {
        self.services.push(service);
        self.proxy.as_ref().map_or(Ok(service), |proxy| proxy.front(service))
    }

    /// The episode begins.
    ///
    /// # Errors
    /// Machine: no thread can be made.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        let begun_ns = Stopwatch::now_ns();
        if let Some(bytes) = self.schedule.buffer_bytes {
            let strength = u64::from(bytes >> 10);
            let event = Event { number: 0, at_ns: 0, duration_ns: 0, kind: Kind::Buffers, strength };
            self.chronicle.happened(event, begun_ns, 1);
        }
        let conductor = Conductor {
            chronicle: Arc::clone(&self.chronicle),
            proxy: self.proxy.clone(),
            threads: Arc::clone(&self.threads),
            services: self.services.clone(),
            under_way: Vec::new(),
        };
        let mut events = self.schedule.events.clone();
        let gone_by_ns = u64::try_from(self.gone_by.as_nanos()).unwrap_or(u64::MAX);
        events.retain(|event| event.at_ns >= gone_by_ns);
        let begun_ns = begun_ns.saturating_sub(gone_by_ns);
        let (stop, stopped) = mpsc::channel();
        let thread = spawn("chaos", move || conductor.play(&events, begun_ns, &stopped))?;
        self.conductor = Some((stop, thread));
        Ok(())
    }
}

impl Drop for Turmoil {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.conductor.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// What goes on for a while, and is not the proxy's business.
#[derive(Debug)]
enum Deed {
    Interrupt { every_ns: u64, next_ns: u64 },
    Shortage(Option<Shortage>),
    Hog { stop: Arc<AtomicBool>, threads: Vec<JoinHandle<()>> },
}

#[derive(Debug)]
struct UnderWay {
    event: Event,
    begun_ns: u64,
    touched: u64,
    deed: Deed,
}

#[derive(Debug)]
struct Conductor {
    chronicle: Arc<Chronicle>,
    proxy: Option<Arc<Proxy>>,
    threads: Arc<LoopThreads>,
    services: Vec<SocketAddr>,
    under_way: Vec<UnderWay>,
}

impl Conductor {
    fn play(mut self, events: &[Event], begun_ns: u64, stopped: &Receiver<()>) {
        let mut events = events.iter().peekable();
        while events.peek().is_some() || !self.under_way.is_empty() {
            if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            let now_ns = Stopwatch::now_ns();
            while let Some(event) = events.next_if(|event| begun_ns + event.at_ns <= now_ns) {
                self.begin(*event, now_ns);
            }
            self.go_on(now_ns);
        }
        for deed in std::mem::take(&mut self.under_way) {
            self.finish(deed);
        }
    }

    fn begin(&mut self, event: Event, now_ns: u64) {
        let deed = match event.kind {
            Kind::Storm => {
                let touched = storm(&self.services, event.strength);
                return self.chronicle.happened(event, now_ns, touched);
            }
            Kind::Interrupt => {
                Deed::Interrupt { every_ns: (101 - event.strength.min(100)) * 200_000, next_ns: now_ns }
            }
            Kind::Descriptors => Deed::Shortage(begin_shortage(event.strength)),
            Kind::Hog => begin_hog(event.strength),
            _ => {
                if let Some(proxy) = &self.proxy {
                    proxy.strike(Strike::new(event, now_ns));
                }
                return;
            }
        };
        let touched = match &deed {
            Deed::Interrupt { .. } => 0,
            Deed::Shortage(shortage) => u64::from(shortage.is_some()),
            Deed::Hog { threads, .. } => threads.len() as u64,
        };
        self.under_way.push(UnderWay { event, begun_ns: now_ns, touched, deed });
    }

    fn go_on(&mut self, now_ns: u64) {
        for UnderWay { touched, deed, .. } in &mut self.under_way {
            if let Deed::Interrupt { every_ns, next_ns } = deed
                && now_ns >= *next_ns
            {
                *touched += self.threads.interrupt();
                *next_ns = now_ns + *every_ns;
            }
        }
        let is_over = |deed: &UnderWay| now_ns >= deed.begun_ns + deed.event.duration_ns;
        let (over, going): (Vec<UnderWay>, Vec<UnderWay>) =
            std::mem::take(&mut self.under_way).into_iter().partition(is_over);
        self.under_way = going;
        over.into_iter().for_each(|deed| self.finish(deed));
    }

    fn finish(&self, deed: UnderWay) {
        let UnderWay { event, begun_ns, touched, deed } = deed;
        if let Deed::Hog { stop, threads } = deed {
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                let _ = thread.join();
            }
        }
        self.chronicle.happened(event, begun_ns, touched);
    }
}

/// At full strength a fifth of what is open has to be closed before anything can be opened again.
fn begin_shortage(strength: u64) -> Option<Shortage> {
    let open = machine::descriptors()?;
    Shortage::begin(open + 10 - (open / 5 * strength / 100))
}

fn begin_hog(strength: u64) -> Deed {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let wanted = (processors * strength).div_ceil(50).max(1);
    let stop = Arc::new(AtomicBool::new(false));
    let spin = |_| {
        let stop = Arc::clone(&stop);
        let work = move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        spawn("hog", work).ok()
    };
    let threads = (0..wanted).filter_map(spin).collect();
    Deed::Hog { stop, threads }
}
