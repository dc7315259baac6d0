//! The workload `wake`: producers on other threads post numbered messages and wake a loop that is otherwise idle, or has
//! a little traffic of its own.
//!
//! Oracles: `message-order` (each message once, in the order of its producer), `lost-wakeup` (a message was posted and
//! notified, and the loop sleeps), `byte-stream` (what the service reports of the messages reaches its client whole).

mod listener;
mod pressing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, SendError, Sender, Token};

pub use self::listener::Listener;
use self::pressing::{Pressing, PressingPlan};
use super::ledger::{self, Accounts};
use super::load::OVER;
use super::{Breach, Load, Numbered, Party, Producer, Scale, Tally, TurnFacts, Workload, between, pick};
use crate::decision::Decisions;

const MILLISECOND: u64 = 1_000_000;

/// What one producer does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct ProducerPlan {
    messages: u64,
    /// Messages published before one notification.
    batch: u64,
    /// Between two batches.
    gap_ns: u64,
    /// Between publishing and notifying.
    half_ns: u64,
    start_ns: u64,
}

/// What a service and its producers have in common.
#[derive(Debug, Default)]
struct Share {
    /// How many messages have been published and notified: a loop that sleeps has taken them all.
    notified: AtomicU64,
    /// By producer, the messages that the service has taken. Only under load.
    taken: Vec<AtomicU64>,
    /// The time of the load is over.
    over: AtomicBool,
}

/// The number of a producer's last message under load.
const LAST: u64 = u64::MAX;

/// What a load adds to a plan.
#[derive(Clone, Debug)]
struct Sustained {
    duration_ns: u64,
    /// Each producer, with the service that it feeds.
    producers: Vec<(PressingPlan, usize)>,
}

/// One run of `wake`.
#[derive(Clone, Debug)]
pub struct Wake {
    producers: Vec<ProducerPlan>,
    /// By service.
    shares: Vec<Arc<Share>>,
    sustained: Option<Sustained>,
    /// Whether a client listens to reports of the messages.
    reports: bool,
    /// A timer that fires now and then beside the messages; zero for none.
    beat_ns: u64,
}

impl Wake {
    /// Draws a plan.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> Wake {
        let most = if scale == Scale::Small { 40 } else { 200 };
        let producers = between(decisions, "producers", 1, 4);
        let producers = (0..producers)
            .map(|_| ProducerPlan {
                messages: between(decisions, "messages of a producer", 1, most),
                batch: pick(decisions, "batch", &[1, 1, 1, 3, 20]),
                gap_ns: pick(
                    decisions,
                    "between batches",
                    &[MILLISECOND, 0, 1_000, 30_000, 100_000, 20 * MILLISECOND],
                ),
                half_ns: pick(decisions, "between publishing and notifying", &[0, 500, 10_000, 200_000]),
                start_ns: between(decisions, "start of a producer", 0, 200) * 10_000,
            })
            .collect();
        Wake {
            producers,
            shares: vec![Arc::default()],
            sustained: None,
            reports: between(decisions, "reports", 0, 2) == 2,
            beat_ns: pick(decisions, "beat", &[0, 0, 0, 3 * MILLISECOND]),
        }
    }

    /// Makes a plan for a load: loops that are woken by producers of their own until the time is over.
    pub fn load(decisions: &mut Decisions, load: &Load) -> Wake {
        let services = load.connections.min(Load::LOOPS_MAX) as usize;
        let mut producers = Vec::new();
        for service in 0..services {
            // A second producer repairs what is lost of the first one's wake-ups, so that most loops have one.
            for _ in 0..pick(decisions, "producers", &[1, 1, 1, 2, 3]) {
                let window = pick(decisions, "messages that may wait", &[1, 1, 1, 8, 500]);
                let plan = PressingPlan {
                    window,
                    batch: pick(decisions, "batch", &[1, 1, 3, 20]).min(window),
                    gap_ns: pick(decisions, "between batches", &[0, 0, 1_000, 50_000, 2 * MILLISECOND]),
                    half_ns: pick(decisions, "between publishing and notifying", &[0, 0, 500, 20_000]),
                };
                producers.push((plan, service));
            }
        }
        if let Some(rate) = load.rate_per_s {
            let all = producers.len() as u64;
            for (plan, _) in &mut producers {
                plan.gap_ns = (all * plan.batch).saturating_mul(1_000_000_000) / rate;
            }
        }
        let share =
            || Share { taken: producers.iter().map(|_| AtomicU64::new(0)).collect(), ..Share::default() };
        Wake {
            producers: Vec::new(),
            shares: (0..services).map(|_| Arc::new(share())).collect(),
            sustained: Some(Sustained { duration_ns: load.duration_ns, producers }),
            reports: between(decisions, "reports", 0, 2) == 2,
            beat_ns: pick(decisions, "beat", &[0, 0, 0, 3 * MILLISECOND]),
        }
    }
}

impl Workload for Wake {
    type Service = WakeService;
    type Client = Listener;

    fn services(&self) -> usize {
        self.shares.len()
    }

    fn clients(&self) -> usize {
        usize::from(self.reports)
    }

    fn producers(&self) -> usize {
        self.sustained.as_ref().map_or(self.producers.len(), |sustained| sustained.producers.len())
    }

    fn fed_by(&self, producer: usize) -> usize {
        self.sustained.as_ref().map_or(0, |sustained| sustained.producers[producer].1)
    }

    fn service(&self, index: usize, _: &[SocketAddr], _: &Config) -> WakeService {
        WakeService::new(self, index)
    }

    fn client(&self, _: usize, addresses: &[SocketAddr], _: SocketAddr) -> Listener {
        Listener::new(addresses[0])
    }

    fn producer(&self, index: usize, sender: Sender<Numbered>) -> Box<dyn Producer> {
        if let Some(Sustained { producers, .. }) = &self.sustained {
            let (plan, service) = producers[index];
            return Box::new(Pressing::new(plan, index as u32, Arc::clone(&self.shares[service]), sender));
        }
        Box::new(Posting {
            plan: self.producers[index],
            producer: index as u32,
            next: 0,
            published: 0,
            share: Arc::clone(&self.shares[0]),
            sender,
            began: false,
        })
    }

    fn judge(&self, services: &[&WakeService], clients: &[&Listener], lost: bool) -> Result<(), Breach> {
        ledger::judge(self, services, clients, lost)
    }
}

/// What a service leaves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WakeServiceLedger {
    /// Its connections, and whether the world broke one.
    pub connections: ledger::Connections,
    /// Reports written to who listens.
    pub reported: u64,
}

/// What a listener leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ListenerLedger {
    /// Its connection, and whether the world broke it.
    pub connections: ledger::Connections,
    /// Reports that came.
    pub reports: u64,
    /// Whether they ended in order.
    pub got_all: bool,
    /// What ended them otherwise.
    pub end: Option<String>,
}

impl Accounts for Wake {
    type ServiceLedger = WakeServiceLedger;
    type ClientLedger = ListenerLedger;

    fn service_ledger(service: &WakeService) -> WakeServiceLedger {
        let connections = ledger::Connections { tally: service.tally, broken: service.broken };
        WakeServiceLedger { connections, reported: service.reported }
    }

    fn client_ledger(client: &Listener) -> ListenerLedger {
        ListenerLedger {
            connections: ledger::Connections { tally: client.tally(), broken: client.is_excused() },
            reports: client.reports(),
            got_all: client.got_all(),
            end: client.end().map(|error| error.to_string()),
        }
    }

    fn judge_ledgers(
        &self,
        services: &[WakeServiceLedger],
        clients: &[ListenerLedger],
        lost: bool,
    ) -> Result<(), Breach> {
        for service in services {
            service.connections.tally.check("service")?;
        }
        // The listener is with one of the services that share the first one's address; nobody listens to the others.
        let listened = || services.iter().step_by(self.shares.len());
        let reported: u64 = listened().map(|service| service.reported).sum();
        for client in clients {
            client.connections.tally.check("client")?;
            let excused =
                client.connections.broken || listened().any(|service| service.connections.broken) || lost;
            let reports = client.reports;
            if !client.got_all && !excused {
                let end = client.end.as_deref().unwrap_or("no error");
                return Err(Breach::new(
                    "byte-stream",
                    format!("the listener got {reports} reports and then {end}; nothing excuses it"),
                ));
            }
            if client.got_all && reports != reported {
                let details = format!("{reported} reports were written, {reports} arrived");
                return Err(Breach::new("byte-stream", details));
            }
        }
        Ok(())
    }
}

/// A thread that posts, cut into the halves of a send.
#[derive(Debug)]
struct Posting {
    plan: ProducerPlan,
    producer: u32,
    next: u64,
    /// Published and not yet notified.
    published: u64,
    share: Arc<Share>,
    sender: Sender<Numbered>,
    began: bool,
}

impl Posting {
    fn notify(&mut self) {
        self.sender.notify();
        self.share.notified.fetch_add(std::mem::take(&mut self.published), Ordering::SeqCst);
    }
}

impl Producer for Posting {
    fn step(&mut self) -> Option<u64> {
        /// Before a full mailbox is tried again.
        const FULL_NS: u64 = 100_000;
        if !self.began {
            self.began = true;
            return Some(self.plan.start_ns);
        }
        let batch_ends = self.published == self.plan.batch || self.next == self.plan.messages;
        if self.published > 0 && batch_ends {
            self.notify();
            return (self.next < self.plan.messages).then_some(self.plan.gap_ns);
        }
        match self.sender.publish(Numbered { producer: self.producer, number: self.next }) {
            Ok(()) => {
                self.next += 1;
                self.published += 1;
                Some(self.plan.half_ns)
            }
            Err(SendError::Full(_)) => {
                // What is published may wait for its notification; without it nothing would ever make room.
                if self.published > 0 {
                    self.notify();
                }
                Some(FULL_NS)
            }
            Err(SendError::Closed(_)) => None,
        }
    }
}

const TIMER_BEAT: u64 = 0;
const TIMER_OVER: u64 = 1;

/// Bytes of a report: the producer, then the number.
const REPORT_BYTES: usize = 12;

/// Receives the messages.
#[derive(Debug)]
pub struct WakeService {
    expected: Vec<u64>,
    next: Vec<u64>,
    outstanding: u64,
    beat_ns: u64,
    listener: Option<Token>,
    reported: u64,
    tally: Tally,
    broken: bool,
    excused: Option<Token>,
    breach: Option<Breach>,
    messages: u64,
    share: Arc<Share>,
    /// Under load, until when, in nanoseconds from the beginning.
    duration_ns: Option<u64>,
}

impl WakeService {
    fn new(plan: &Wake, index: usize) -> WakeService {
        // Under load, each producer's last message is what is waited for.
        let expected: Vec<u64> = match &plan.sustained {
            None => plan.producers.iter().map(|producer| producer.messages).collect(),
            Some(Sustained { producers, .. }) => {
                producers.iter().map(|&(_, service)| u64::from(service == index)).collect()
            }
        };
        WakeService {
            outstanding: expected.iter().sum(),
            next: vec![0; expected.len()],
            expected,
            beat_ns: plan.beat_ns,
            listener: None,
            reported: 0,
            tally: Tally::default(),
            broken: false,
            excused: None,
            breach: None,
            messages: 0,
            share: Arc::clone(&plan.shares[index]),
            duration_ns: plan.sustained.as_ref().map(|sustained| sustained.duration_ns),
        }
    }

    fn close_when_done(&mut self, ctx: &mut Context<'_>) {
        if self.outstanding == 0
            && let Some(listener) = self.listener.take()
        {
            ctx.close(listener);
        }
    }
}

impl Handler for WakeService {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, _: Origin) {
        self.tally.accepted += 1;
        if self.listener.is_none() && self.reported == 0 {
            self.listener = Some(token);
        } else {
            ctx.close(token);
        }
        self.close_when_done(ctx);
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        self.breach.get_or_insert_with(|| {
            Breach::new("byte-stream", format!("{} bytes came from a client that sends none", bytes.len()))
        });
        bytes.len()
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), _: usize) {
        ctx.close(token);
    }

    fn on_close(&mut self, _: &mut Context<'_>, token: Token, (): (), reason: CloseReason) {
        self.tally.closed += 1;
        self.broken |= self.excused.take() == Some(token)
            || matches!(
                reason,
                CloseReason::DrainExpired
                    | CloseReason::LingerExpired
                    | CloseReason::Overflow
                    | CloseReason::Stopped
            )
            || matches!(reason, CloseReason::Failed(error) if super::echo::is_shortage(error));
        if self.listener == Some(token) {
            self.listener = None;
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        if message == OVER && self.duration_ns.is_some() {
            return self.share.over.store(true, Ordering::SeqCst);
        }
        let Numbered { producer, number } = message;
        if let Some(taken) = self.share.taken.get(producer as usize) {
            taken.fetch_add(1, Ordering::SeqCst);
        }
        let next = &mut self.next[producer as usize];
        // Whose last message it is has a place in the order too.
        let is_last = self.duration_ns.is_some() && number == LAST;
        let number = if is_last { *next } else { number };
        if number != *next {
            let expected = *next;
            self.breach.get_or_insert_with(|| {
                Breach::new(
                    "message-order",
                    format!("message {number} of producer {producer} came where {expected} was due"),
                )
            });
        }
        *next = number + 1;
        if is_last || self.duration_ns.is_none() {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        self.messages += 1;
        if let Some(listener) = self.listener {
            let mut report = [0; REPORT_BYTES];
            report[..4].copy_from_slice(&producer.to_le_bytes());
            report[4..].copy_from_slice(&number.to_le_bytes());
            if ctx.write(listener, &report).is_ok() {
                self.reported += 1;
            }
        }
        self.close_when_done(ctx);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, _: TimerToken, tag: u64) {
        if tag == TIMER_OVER {
            self.share.over.store(true, Ordering::SeqCst);
        } else if self.outstanding > 0 {
            ctx.arm_timer(Duration::from_nanos(self.beat_ns), tag);
        }
    }
}

impl Party for WakeService {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        if self.beat_ns > 0 {
            ctx.arm_timer(Duration::from_nanos(self.beat_ns), TIMER_BEAT);
        }
        if let Some(duration_ns) = self.duration_ns {
            ctx.arm_timer(Duration::from_nanos(duration_ns), TIMER_OVER);
        }
    }

    fn is_finished(&self) -> bool {
        self.outstanding == 0
    }

    fn missing(&self) -> Breach {
        if self.duration_ns.is_some() {
            let notified = self.share.notified.load(Ordering::SeqCst);
            let details = format!(
                "{} of {notified} notified messages were delivered, and {} producers have not said their last",
                self.messages, self.outstanding
            );
            return Breach::new("lost-wakeup", details);
        }
        let waiting = self.next.iter().zip(&self.expected).position(|(next, expected)| next < expected);
        let details = match waiting {
            Some(producer) => format!(
                "producer {producer} has posted, and the loop sleeps: {} of {} messages were delivered",
                self.next[producer], self.expected[producer]
            ),
            None => "all messages were delivered".to_owned(),
        };
        Breach::new("lost-wakeup", details)
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    fn excuse(&mut self, token: Token) {
        self.excused = Some(token);
    }

    fn after_turn(&mut self, facts: TurnFacts) {
        let notified = self.share.notified.load(Ordering::SeqCst);
        // Other timers may wake the loop later; to fall asleep now is wrong all the same.
        if facts.asleep.is_some() && notified > self.messages && self.breach.is_none() {
            let details = format!(
                "the loop falls asleep with {} of {notified} notified messages delivered",
                self.messages
            );
            self.breach = Some(Breach::new("lost-wakeup", details));
        }
    }
}
