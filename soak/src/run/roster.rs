//! Who is running, and what all loops have counted since the run began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use reactor::Counters;
use serde::{Deserialize, Serialize};
use sim::member::{IMPOSSIBLE_ERRORS, Role};
use sim::workload::WorkloadKind;

use super::record::Process;
use crate::gauge::{Gauge, Reading};
use crate::latency::LatencyBook;

/// What the loops of one workload have counted. All of it only grows.
#[derive(Clone, Default, Debug)]
pub(crate) struct Totals {
    /// Episodes that ended and were found right.
    pub(crate) episodes: u64,
    /// Messages found right by who waits for them: clients' answers, a woken loop's messages, timers that fired.
    pub(crate) messages: u64,
    /// Times that a loop found itself woken by another thread.
    pub(crate) wakes: u64,
    pub(crate) counters: Counters,
    /// By name, those that were not answers to wait.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Totals) {
        self.episodes += other.episodes;
        self.messages += other.messages;
        self.wakes += other.wakes;
        self.counters += other.counters;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
    }

    fn add_loop(&mut self, workload: WorkloadKind, role: Role, gauge: &Gauge) {
        let Reading { counters, messages, .. } = gauge.reading();
        let waits = match workload {
            WorkloadKind::Echo | WorkloadKind::Cluster => Role::Client,
            WorkloadKind::Wake | WorkloadKind::Timers | WorkloadKind::Stage(_) => Role::Service,
        };
        if role == waits {
            self.messages += messages;
        }
        self.wakes += gauge.ledger.wakes();
        self.counters += counters;
        for (name, count) in gauge.ledger.errors() {
            *self.errors.entry(name.to_owned()).or_default() += count;
        }
    }

    /// Both ends of connections, opened; each connection of a soak has both.
    pub(crate) fn opened(&self) -> u64 {
        self.counters.accepted + self.counters.connected
    }

    /// Errors that say that a loop itself is wrong.
    pub(crate) fn impossible(&self) -> u64 {
        IMPOSSIBLE_ERRORS.iter().filter_map(|&name| self.errors.get(name)).sum()
    }
}

/// What the loops that are running look like together.
#[derive(Copy, Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Now {
    pub(crate) loops: u64,
    /// Live connections and listeners.
    pub(crate) live: u64,
    /// The most connections and listeners that one of these loops has had at once.
    pub(crate) registry_high: u64,
    pub(crate) timers_pending: u64,
    pub(crate) mailbox_queued: u64,
    /// Descriptors that the loops of this very process have made and not closed.
    pub(crate) descriptors: i64,
}

/// One workload's part of a [`Roster`].
#[derive(Debug)]
struct Part {
    workload: WorkloadKind,
    running: Vec<(Role, Arc<Gauge>)>,
    /// Of what has ended, also of parts of the run before this one.
    ended: Totals,
    latencies: Arc<Mutex<LatencyBook>>,
    /// Other processes that run loops of this workload, by number.
    others: BTreeMap<u64, Other>,
}

/// What another process told last.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) totals: Totals,
    pub(crate) now: Now,
    pub(crate) process: Process,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Roster {
    parts: Mutex<Vec<Part>>,
}

impl Roster {
    /// Nobody is running yet.
    pub(crate) fn new(workloads: impl IntoIterator<Item = (WorkloadKind, Totals)>) -> Roster {
        let part = |(workload, ended)| Part {
            workload,
            running: Vec::new(),
            ended,
            latencies: Arc::default(),
            others: BTreeMap::new(),
        };
        Roster { parts: Mutex::new(workloads.into_iter().map(part).collect()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().expect("nobody panics while it counts")
    }

    fn with<R>(&self, workload: WorkloadKind, act: impl FnOnce(&mut Part) -> R) -> R {
        let mut parts = self.lock();
        act(parts.iter_mut().find(|part| part.workload == workload).expect("a workload of this run"))
    }

    /// Somebody is about to run.
    pub(crate) fn enter(&self, workload: WorkloadKind, role: Role, name: String) -> Arc<Gauge> {
        self.with(workload, |part| {
            let gauge = Arc::new(Gauge::new(name, Arc::clone(&part.latencies)));
            part.running.push((role, Arc::clone(&gauge)));
            gauge
        })
    }

    /// Somebody has ended; what was counted stays.
    pub(crate) fn leave(&self, workload: WorkloadKind, gauge: &Arc<Gauge>) {
        self.with(workload, |part| {
            if let Some(at) = part.running.iter().position(|(_, running)| Arc::ptr_eq(running, gauge)) {
                let (role, gauge) = part.running.swap_remove(at);
                part.ended.add_loop(workload, role, &gauge);
            }
        });
    }

    /// Another process tells how it stands, and what it has timed since it told last.
    pub(crate) fn told(
        &self,
        workload: WorkloadKind,
        number: u64,
        other: Other,
        timed: Option<&LatencyBook>,
    ) {
        self.with(workload, |part| {
            part.others.insert(number, other);
            if let Some(timed) = timed {
                part.latencies.lock().expect("nobody panics while it writes").add_all(timed);
            }
        });
    }

    /// Another process has ended; what was counted stays.
    pub(crate) fn ended(&self, workload: WorkloadKind, number: u64) {
        self.with(workload, |part| {
            if let Some(Other { totals, .. }) = part.others.remove(&number) {
                part.ended.add(&totals);
            }
        });
    }

    /// What this process and those that run loops for it hold together, and how many they are.
    pub(crate) fn processes(&self, own: Process) -> (Process, u64) {
        let parts = self.lock();
        let others = parts.iter().flat_map(|part| part.others.values());
        others.fold((own, 1), |(sum, count), other| (sum.with(&other.process), count + 1))
    }

    /// An episode was found right.
    pub(crate) fn episode_ended(&self, workload: WorkloadKind) {
        self.with(workload, |part| part.ended.episodes += 1);
    }

    /// What has been counted, by workload.
    pub(crate) fn totals(&self) -> Vec<(WorkloadKind, Totals)> {
        let parts = self.lock();
        let total = |part: &Part| {
            let mut totals = part.ended.clone();
            for (role, gauge) in &part.running {
                totals.add_loop(part.workload, *role, gauge);
            }
            part.others.values().for_each(|other| totals.add(&other.totals));
            (part.workload, totals)
        };
        parts.iter().map(total).collect()
    }

    /// What was timed since the last call, by workload.
    pub(crate) fn take_latencies(&self) -> Vec<(WorkloadKind, LatencyBook)> {
        let parts = self.lock();
        let take = |part: &Part| {
            let mut book = part.latencies.lock().expect("nobody panics while it writes");
            let taken = book.clone();
            book.clear();
            (part.workload, taken)
        };
        parts.iter().map(take).collect()
    }

    /// How those who run look now.
    pub(crate) fn now(&self) -> Now {
        let mut now = Now::default();
        for (_, gauge) in self.lock().iter().flat_map(|part| &part.running) {
            let reading = gauge.reading();
            now.loops += 1;
            now.live += reading.live;
            now.registry_high = now.registry_high.max(reading.live_high);
            now.timers_pending += reading.timers_pending;
            now.mailbox_queued += reading.mailbox_queued;
            now.descriptors += gauge.ledger.open();
        }
        for other in self.lock().iter().flat_map(|part| part.others.values()) {
            now.loops += other.now.loops;
            now.live += other.now.live;
            now.registry_high = now.registry_high.max(other.now.registry_high);
            now.timers_pending += other.now.timers_pending;
            now.mailbox_queued += other.now.mailbox_queued;
        }
        now
    }

    /// Those who run.
    pub(crate) fn running(&self) -> Vec<Arc<Gauge>> {
        self.lock().iter().flat_map(|part| &part.running).map(|(_, gauge)| Arc::clone(gauge)).collect()
    }
}
