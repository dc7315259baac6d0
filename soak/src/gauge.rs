//! What one loop says about itself while it runs: read by the rest of the soak, without stopping the loop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use reactor::sys::Syscalls;
use reactor::{Counters, Sender};
use sim::member::{Descriptors, Member as Driven};
use sim::workload::{Breach, Numbered, Party};

use crate::latency::LatencyBook;
use crate::watched::CallLedger;

/// Between two readings, in nanoseconds of the loop's clock.
const READ_EVERY_NS: u64 = 1_000_000;

/// What a loop looked like after one of its last turns.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Reading {
    pub(crate) counters: Counters,
    /// Live connections and listeners, and the most that there were.
    pub(crate) live: u64,
    pub(crate) live_high: u64,
    pub(crate) timers_pending: u64,
    /// Messages that the party found right.
    pub(crate) messages: u64,
    /// Messages that waited in the mailbox.
    pub(crate) mailbox_queued: u64,
    /// The loop's clock.
    pub(crate) now_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Who it is: `echo episode 3, service 0`.
    pub(crate) name: String,
    pub(crate) ledger: Arc<CallLedger>,
    latencies: Arc<Mutex<LatencyBook>>,
    reading: Mutex<Reading>,
    /// Grows whenever the loop gets on with something.
    progress: AtomicU64,
    /// Whether the party neither owes nor awaits anything.
    finished: AtomicBool,
    /// What is missing, in the party's words, as of the last reading.
    missing: Mutex<String>,
    /// Somebody wants to know what is missing.
    asked: AtomicBool,
    sender: Mutex<Option<Sender<Numbered>>>,
}

impl Gauge {
    pub(crate) fn new(name: String, latencies: Arc<Mutex<LatencyBook>>) -> Gauge {
        Gauge {
            name,
            ledger: Arc::default(),
            latencies,
            reading: Mutex::default(),
            progress: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            missing: Mutex::default(),
            asked: AtomicBool::new(false),
            sender: Mutex::default(),
        }
    }

    /// Its last reading.
    pub(crate) fn reading(&self) -> Reading {
        *self.reading.lock().expect("nobody panics while it reads")
    }

    /// How far it has got; the number itself means nothing.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether it neither owes nor awaits anything.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Asks the loop to say what is missing, and wakes it for that if it can be woken.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        if let Some(sender) = &*self.sender.lock().expect("nobody panics while it wakes") {
            sender.notify();
        }
    }

    /// What the loop looked like last, for somebody who has to find out why it does not go on.
    pub(crate) fn dump(&self) -> String {
        let Reading { counters, live, timers_pending, mailbox_queued, now_ns, .. } = self.reading();
        let missing = self.missing.lock().expect("nobody panics while it reads").clone();
        let counted: Vec<String> = counters
            .named()
            .filter(|&(_, count)| count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let missing = if missing.is_empty() { "it did not turn to say what is missing" } else { &missing };
        format!(
            "{}: {live} connections and listeners, {timers_pending} timers pending, {mailbox_queued} messages waiting, \
             {} descriptors, clock {now_ns} ns\n  {missing}\n  counted: {}\n  last calls:\n    {}",
            self.name,
            self.ledger.open(),
            counted.join(", "),
            self.ledger.last_calls().join("\n    ")
        )
    }
}

/// The loop's own side of a gauge.
#[derive(Debug)]
pub(crate) struct Needle {
    gauge: Arc<Gauge>,
    mailbox: Sender<Numbered>,
    live_high: u64,
    read_at_ns: u64,
    descriptors: Descriptors,
}

impl Needle {
    /// For a loop that has just been made.
    pub(crate) fn new<S: Syscalls, P: Party>(gauge: Arc<Gauge>, driven: &Driven<'_, S, P>) -> Needle {
        let descriptors = Descriptors::of_new_loop(gauge.ledger.open(), driven.live());
        *gauge.sender.lock().expect("nobody panics while it wakes") = Some(driven.sender());
        Needle { gauge, mailbox: driven.sender(), live_high: 0, read_at_ns: 0, descriptors }
    }

    /// Looks at the loop after a turn.
    ///
    /// # Errors
    /// A descriptor has leaked.
    pub(crate) fn follow<S: Syscalls, P: Party>(
        &mut self,
        driven: &mut Driven<'_, S, P>,
    ) -> Result<(), Breach> {
        let (counters, messages, now_ns) =
            (*driven.counters(), driven.party().messages(), driven.now().as_ns());
        let live = driven.live() as u64;
        self.live_high = self.live_high.max(live);
        // Not timers: a loop whose messages have been lost may fire timers for ever. Where they are what is waited for, they
        // are the party's messages.
        let progress = messages
            + counters.accepted
            + counters.connected
            + counters.connects_failed
            + counters.closed
            + counters.bytes_read
            + counters.bytes_written
            + counters.messages;
        let gauge = &self.gauge;
        gauge.progress.store(progress, Ordering::Relaxed);
        gauge.finished.store(driven.is_finished(), Ordering::Relaxed);
        if gauge.asked.swap(false, Ordering::Relaxed) {
            *gauge.missing.lock().expect("nobody panics while it reads") =
                driven.party().missing().to_string();
        } else if now_ns < self.read_at_ns.saturating_add(READ_EVERY_NS) {
            return Ok(());
        }
        self.read(driven, counters, messages);
        self.descriptors.check(self.gauge.ledger.open(), driven.live())
    }

    /// The last reading, when the loop has ended.
    pub(crate) fn end<S: Syscalls, P: Party>(&mut self, driven: &mut Driven<'_, S, P>) {
        let (counters, messages) = (*driven.counters(), driven.party().messages());
        self.read(driven, counters, messages);
        // Who keeps it keeps the wake descriptor open.
        *self.gauge.sender.lock().expect("nobody panics while it wakes") = None;
    }

    fn read<S: Syscalls, P: Party>(
        &mut self,
        driven: &mut Driven<'_, S, P>,
        counters: Counters,
        messages: u64,
    ) {
        let now_ns = driven.now().as_ns();
        self.read_at_ns = now_ns;
        let live = driven.live() as u64;
        let reading = Reading {
            counters,
            live,
            live_high: self.live_high,
            timers_pending: driven.timers_pending() as u64,
            messages,
            mailbox_queued: self.mailbox.queued() as u64,
            now_ns,
        };
        *self.gauge.reading.lock().expect("nobody panics while it reads") = reading;
        let latencies = &self.gauge.latencies;
        driven.take_measures(|measures| {
            if !measures.is_empty() {
                latencies.lock().expect("nobody panics while it writes").take(measures);
            }
        });
    }
}
