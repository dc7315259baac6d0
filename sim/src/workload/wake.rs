//! The workload `wake`: producers on other threads post numbered messages and wake a loop that is otherwise idle, or has
//! a little traffic of its own.
//!
//! Oracles: `message-order` (each message once, in the order of its producer), `lost-wakeup` (a message was posted and
//! notified, and the loop sleeps), `byte-stream` (what the service reports of the messages reaches its client whole).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, SendError, Sender, Token};

use super::{Breach, Numbered, Party, Producer, Scale, Tally, TurnFacts, Workload, between, pick};
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

/// One run of `wake`.
#[derive(Clone, Debug)]
pub struct Wake {
    producers: Vec<ProducerPlan>,
    /// How many messages have been published and notified, by all producers: a loop that sleeps has taken them all.
    notified: Arc<AtomicU64>,
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
            notified: Arc::default(),
            reports: between(decisions, "reports", 0, 2) == 2,
            beat_ns: pick(decisions, "beat", &[0, 0, 0, 3 * MILLISECOND]),
        }
    }
}

impl Workload for Wake {
    type Service = WakeService;
    type Client = Listener;

    fn services(&self) -> usize {
        1
    }

    fn clients(&self) -> usize {
        usize::from(self.reports)
    }

    fn producers(&self) -> usize {
        self.producers.len()
    }

    fn service(&self, _: usize, _: &[SocketAddr], _: &Config) -> WakeService {
        WakeService::new(self)
    }

    fn client(&self, _: usize, addresses: &[SocketAddr], _: SocketAddr) -> Listener {
        Listener { service: addresses[0], ..Listener::default() }
    }

    fn producer(&self, index: usize, sender: Sender<Numbered>) -> Box<dyn Producer> {
        Box::new(Posting {
            plan: self.producers[index],
            producer: index as u32,
            next: 0,
            published: 0,
            notified: Arc::clone(&self.notified),
            sender,
            began: false,
        })
    }

    fn judge(&self, services: &[&WakeService], clients: &[&Listener], lost: bool) -> Result<(), Breach> {
        services[0].tally.check("service")?;
        for client in clients {
            client.tally.check("client")?;
            let excused = client.excused || services[0].broken || lost;
            if client.whole != Some(true) && !excused {
                return Err(Breach::new(
                    "byte-stream",
                    format!(
                        "the listener got {} reports and then {:?}; nothing excuses it",
                        client.reports, client.end
                    ),
                ));
            }
            if client.whole == Some(true) && client.reports != services[0].reported {
                return Err(Breach::new(
                    "byte-stream",
                    format!("{} reports were written, {} arrived", services[0].reported, client.reports),
                ));
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
    notified: Arc<AtomicU64>,
    sender: Sender<Numbered>,
    began: bool,
}

impl Posting {
    fn notify(&mut self) {
        self.sender.notify();
        self.notified.fetch_add(std::mem::take(&mut self.published), Ordering::SeqCst);
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
    notified: Arc<AtomicU64>,
}

impl WakeService {
    fn new(plan: &Wake) -> WakeService {
        WakeService {
            expected: plan.producers.iter().map(|producer| producer.messages).collect(),
            next: vec![0; plan.producers.len()],
            outstanding: plan.producers.iter().map(|producer| producer.messages).sum(),
            beat_ns: plan.beat_ns,
            listener: None,
            reported: 0,
            tally: Tally::default(),
            broken: false,
            excused: None,
            breach: None,
            messages: 0,
            notified: Arc::clone(&plan.notified),
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
        let Numbered { producer, number } = message;
        let next = &mut self.next[producer as usize];
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
        self.outstanding = self.outstanding.saturating_sub(1);
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
        if self.outstanding > 0 {
            ctx.arm_timer(Duration::from_nanos(self.beat_ns), tag);
        }
    }
}

impl Party for WakeService {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        if self.beat_ns > 0 {
            ctx.arm_timer(Duration::from_nanos(self.beat_ns), 0);
        }
    }

    fn is_finished(&self) -> bool {
        self.outstanding == 0
    }

    fn missing(&self) -> Breach {
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
        let notified = self.notified.load(Ordering::SeqCst);
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

/// A client that checks the reports.
#[derive(Debug)]
pub struct Listener {
    service: SocketAddr,
    next: Vec<Option<u64>>,
    reports: u64,
    whole: Option<bool>,
    end: Option<Errno>,
    excused: bool,
    tally: Tally,
    breach: Option<Breach>,
    finished: bool,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            service: SocketAddr::from(([0, 0, 0, 0], 0)),
            next: Vec::new(),
            reports: 0,
            whole: None,
            end: None,
            excused: false,
            tally: Tally::default(),
            breach: None,
            finished: false,
        }
    }
}

impl Handler for Listener {
    type Connection = ();
    type Message = Numbered;

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {
        self.tally.connected += 1;
    }

    fn on_connect_failed(&mut self, _: &mut Context<'_>, _: Token, _: u64, error: Errno) {
        self.tally.failed += 1;
        self.end = Some(error);
        self.excused |= super::echo::is_shortage(error);
        self.finished = true;
    }

    fn on_data(&mut self, _: &mut Context<'_>, _: Token, (): &mut (), bytes: &[u8]) -> usize {
        let whole = bytes.len() / REPORT_BYTES * REPORT_BYTES;
        for report in bytes[..whole].chunks_exact(REPORT_BYTES) {
            let producer = u32::from_le_bytes([report[0], report[1], report[2], report[3]]) as usize;
            let mut number = [0; 8];
            number.copy_from_slice(&report[4..]);
            let number = u64::from_le_bytes(number);
            self.reports += 1;
            if producer < 64 && self.next.len() <= producer {
                self.next.resize(producer + 1, None);
            }
            let in_order = self.next.get_mut(producer).is_some_and(|next| {
                let in_order = next.is_none_or(|next| next == number);
                *next = Some(number + 1);
                in_order
            });
            if !in_order {
                self.breach.get_or_insert_with(|| {
                    Breach::new(
                        "byte-stream",
                        format!("the report of message {number} of producer {producer} is out of order"),
                    )
                });
            }
        }
        whole
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), unconsumed: usize) {
        self.whole = Some(unconsumed == 0);
        ctx.close(token);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Token, (): (), reason: CloseReason) {
        self.tally.closed += 1;
        if let CloseReason::Failed(error) = reason {
            self.end = Some(error);
            self.excused |= super::echo::is_shortage(error);
        }
        self.finished = true;
    }
}

impl Party for Listener {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        match ctx.connect(self.service, 0) {
            Ok(_) => self.tally.connects += 1,
            Err(error) => {
                self.end = Some(error);
                self.excused = true;
                self.finished = true;
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.finished
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", format!("the listener has {} reports and waits for the end", self.reports))
    }

    fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    fn messages(&self) -> u64 {
        self.reports
    }

    fn excuse(&mut self, _: Token) {
        self.excused = true;
    }
}
