//! What a loop of clients under load sends next, and how long the answers took.

use std::collections::VecDeque;
use std::sync::Arc;

use reactor::time::Instant;

use super::client::Attempt;
use crate::workload::load::Schedule;
use crate::workload::stream_plan::StreamPlan;
use crate::workload::{Load, Measures};

/// Streams that went wrong and are kept for the verdict; the first of them says it all.
const KEPT_STREAMS_MAX: usize = 10_000;

/// A message under way.
#[derive(Copy, Clone, Debug)]
struct UnderWay {
    /// `None` for one that is sent without a plan, because the time is over.
    planned: Option<Instant>,
    sent: Instant,
}

/// One connection's worth of work, while streams come and go.
#[derive(Debug, Default)]
struct Slot {
    /// `None` for a closed loop, and until the loop begins.
    schedule: Option<Schedule>,
    /// Messages sent by its schedule.
    sent: u64,
    under_way: VecDeque<UnderWay>,
    /// Whether a timer runs for the next planned message.
    waits: bool,
    streams: u64,
}

/// See the module. Its slots are those of the client's attempts.
#[derive(Debug)]
pub struct Feed {
    load: Load,
    repertoire: Arc<[StreamPlan]>,
    client: usize,
    clients: usize,
    slots: Vec<Slot>,
    ends: Instant,
    /// The time is over: what has begun ends, and nothing new begins.
    pub(super) is_over: bool,
    next_stream: u64,
    kept: Vec<Attempt>,
    pub(super) measures: Measures,
}

impl Feed {
    /// The feed of one of `clients` loops.
    pub(super) fn new(load: &Load, repertoire: Arc<[StreamPlan]>, client: usize, clients: usize) -> Feed {
        Feed {
            load: *load,
            repertoire,
            client,
            clients,
            slots: Vec::new(),
            ends: Instant::FAR_FUTURE,
            is_over: false,
            next_stream: 0,
            kept: Vec::new(),
            measures: Measures::default(),
        }
    }

    /// The loop begins `now`, with this many connections. Answers when new streams are to end.
    pub(super) fn begin(&mut self, now: Instant, connections: usize) -> Instant {
        self.ends = now.saturating_add_ns(self.load.duration_ns);
        self.next_stream = connections as u64;
        let all = u64::from(self.load.connections);
        self.slots = (0..connections)
            .map(|slot| {
                // Connection `n` of the plan is on loop `n % clients`.
                let place = (slot * self.clients + self.client) as u64;
                let schedule = self.load.rate_per_s.map(|rate| Schedule::new(now, rate, place, all));
                Slot { schedule, ..Slot::default() }
            })
            .collect();
        self.ends
    }

    /// Whether the connection may send a message `now`; for one that may not, when it may, if no timer runs for that yet.
    pub(super) fn may_send(&mut self, slot: usize, now: Instant) -> Result<(), Option<Instant>> {
        let slot = &mut self.slots[slot];
        match slot.schedule {
            Some(schedule) if !self.is_over && schedule.due(now) <= slot.sent => {
                let next = schedule.planned(slot.sent);
                Err((!std::mem::replace(&mut slot.waits, true)).then_some(next))
            }
            _ => Ok(()),
        }
    }

    /// The timer for the next planned message has fired.
    pub(super) fn waited(&mut self, slot: usize) {
        self.slots[slot].waits = false;
    }

    /// A message was given to the loop.
    pub(super) fn sent(&mut self, slot: usize, now: Instant) {
        let is_over = self.is_over;
        let slot = &mut self.slots[slot];
        let planned = slot.schedule.map_or(now, |schedule| schedule.planned(slot.sent));
        slot.sent += 1;
        slot.under_way.push_back(UnderWay { planned: (!is_over).then_some(planned), sent: now });
    }

    /// This many answers have come.
    pub(super) fn answered(&mut self, slot: usize, answers: u64, now: Instant) {
        for _ in 0..answers {
            if let Some(UnderWay { planned: Some(planned), sent }) = self.slots[slot].under_way.pop_front() {
                self.measures.answered(planned, sent, now);
            }
        }
    }

    /// The slot's stream has ended for its plan: no more answers come.
    pub(super) fn ended(&mut self, slot: usize) {
        self.slots[slot].under_way.clear();
    }

    /// The next stream of a slot whose last one is wholly gone, with its number; `None` when the time is over.
    pub(super) fn next(&mut self, slot: usize, last: &Attempt) -> Option<(StreamPlan, u64)> {
        if self.is_over {
            return None;
        }
        if !last.ended_well() && self.kept.len() < KEPT_STREAMS_MAX {
            self.kept.push(last.clone());
        }
        let number = self.next_stream;
        self.next_stream += 1;
        let streams = &mut self.slots[slot].streams;
        *streams += 1;
        // Each slot goes through the repertoire from a place of its own.
        let at = (slot * self.clients + self.client) as u64 * 37 + *streams * 11;
        Some((self.repertoire[(at % self.repertoire.len() as u64) as usize], number))
    }

    /// The streams that did not end well and made room for others.
    pub(super) fn kept(&self) -> &[Attempt] {
        &self.kept
    }
}
