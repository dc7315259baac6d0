//! What is written of an interval, and said of it.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sim::workload::WorkloadKind;

use super::roster::{Now, Totals};
use crate::latency::{LatencyBook, Timed, percentiles};
use crate::machine;

/// What the process holds.
#[derive(Copy, Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) allocated_bytes: u64,
    pub(super) descriptors: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Process {
    /// What it holds now.
    pub(super) fn look() -> Process {
        Process {
            resident_bytes: machine::resident_bytes(),
            allocated_bytes: crate::ALLOCATOR.allocated() as u64,
            descriptors: machine::descriptors(),
            threads: machine::threads(),
        }
    }

    /// Both together.
    pub(super) fn with(self, other: &Process) -> Process {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        Process {
            resident_bytes: sum(self.resident_bytes, other.resident_bytes),
            allocated_bytes: self.allocated_bytes + other.allocated_bytes,
            descriptors: sum(self.descriptors, other.descriptors),
            threads: sum(self.threads, other.threads),
        }
    }
}

/// Everything that the record of an interval is made of.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) elapsed_ms: u64,
    /// Which part of the run: 0 at first, one more after each resume.
    pub(super) part: u64,
    pub(super) episodes_begun: u64,
    pub(super) totals: &'a [(WorkloadKind, Totals)],
    /// Of this interval alone.
    pub(super) latencies: &'a [(WorkloadKind, LatencyBook)],
    pub(super) now: Now,
    /// What all processes hold together.
    pub(super) process: Process,
    /// How many processes there are, this one included.
    pub(super) processes: u64,
    pub(super) failures: u64,
}

/// All workloads together.
pub(super) fn sum(totals: &[(WorkloadKind, Totals)]) -> Totals {
    let mut sum = Totals::default();
    totals.iter().for_each(|(_, totals)| sum.add(totals));
    sum
}

impl Record<'_> {
    /// As a line of `intervals.jsonl`.
    pub(super) fn to_json(&self) -> Value {
        let Record { elapsed_ms, part, episodes_begun, now, process, processes, failures, .. } = self;
        let all = sum(self.totals);
        let mut book = LatencyBook::default();
        self.latencies.iter().for_each(|(_, other)| book.add_all(other));
        let mut record = json!({
            "elapsed_s": seconds(*elapsed_ms),
            "unix_ms": machine::unix_ms(),
            "part": part,
            "episodes_begun": episodes_begun,
            "failures": failures,
            "workloads": workloads(self.totals, self.latencies),
            "latency": latency(&book),
            "timer_lateness": percentiles(book.of(Timed::Lateness)),
            "resident_bytes": process.resident_bytes,
            "allocated_bytes": process.allocated_bytes,
            "descriptors": process.descriptors,
            "threads": process.threads,
            "processes": processes,
            "loops": now.loops,
            "live": now.live,
            "registry_high": now.registry_high,
            "timers_armed": now.timers_pending,
            "mailbox_queued": now.mailbox_queued,
        });
        let object = record.as_object_mut().expect("it was made as one");
        object.extend(counted(&all));
        record
    }

    /// As a line for people.
    pub(super) fn line(&self) -> String {
        let all = sum(self.totals);
        let seconds = self.elapsed_ms / 1000;
        let mut line = format!(
            "{seconds:>5} s  {} episodes, {} connection ends, {} messages right, {} MB read, {} wake-ups, {} timers",
            all.episodes,
            all.opened(),
            all.messages,
            all.counters.bytes_read / 1_000_000,
            all.wakes,
            all.counters.timers_fired,
        );
        for (workload, book) in self.latencies {
            let corrected = book.of(Timed::Corrected);
            if !corrected.is_empty() {
                let us = |percentile| corrected.value_at_percentile(percentile) / 1000;
                line += &format!("; {workload} p50 {} us, p99 {} us", us(50.0), us(99.0));
            }
        }
        if let Some(resident_bytes) = self.process.resident_bytes {
            line += &format!("; {} MB resident", resident_bytes / 1_000_000);
        }
        if self.failures > 0 {
            // People look at this among many lines.
            let coloured = std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let (begin, end) = if coloured { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
            line += &format!("; {begin}{} FAILED{end}", self.failures);
        }
        line
    }
}

/// What only grows, of all workloads together.
pub(super) fn counted(all: &Totals) -> serde_json::Map<String, Value> {
    let counters = &all.counters;
    let counted = json!({
        "episodes": all.episodes,
        "connections_opened": all.opened(),
        "connections_closed": counters.closed,
        "connects_failed": counters.connects_failed,
        "messages": all.messages,
        "bytes_read": counters.bytes_read,
        "bytes_written": counters.bytes_written,
        "wakes": all.wakes,
        "timers_fired": counters.timers_fired,
        "turns": counters.turns,
        "turns_empty": counters.turns_empty,
        "waits_interrupted": counters.waits_interrupted,
        "events": counters.events,
        "events_stale": counters.events_stale,
        "shed": counters.shed,
        "accept_pauses": counters.accept_pauses,
        "accept_errors": counters.accept_errors,
        "registrations_failed": counters.registrations_failed,
        "errors_unlisted": counters.errors_unlisted,
        "errors_impossible": all.impossible(),
        "errors": all.errors,
    });
    match counted {
        Value::Object(object) => object,
        _ => unreachable!("it was made as an object"),
    }
}

/// Milliseconds as seconds, for people and for plots.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// How long answers took.
fn latency(book: &LatencyBook) -> Value {
    let (corrected, uncorrected) = (book.of(Timed::Corrected), book.of(Timed::Uncorrected));
    json!({ "corrected": percentiles(corrected), "uncorrected": percentiles(uncorrected) })
}

/// Each workload by its name.
pub(super) fn workloads(
    totals: &[(WorkloadKind, Totals)],
    latencies: &[(WorkloadKind, LatencyBook)],
) -> BTreeMap<&'static str, Value> {
    let part = |(workload, totals): &(WorkloadKind, Totals)| {
        let book = latencies.iter().find(|(known, _)| known == workload).map(|(_, book)| book);
        let part = json!({
            "counters": counted(totals),
            "latency": book.map_or(Value::Null, latency),
            "timer_lateness": book.map_or(Value::Null, |book| percentiles(book.of(Timed::Lateness))),
        });
        (workload.name(), part)
    };
    totals.iter().map(part).collect()
}

/// Reads back what [`counted`] made.
pub(super) fn read_counted(value: &Value) -> Totals {
    let number = |key: &str| value[key].as_u64().unwrap_or(0);
    let mut totals = Totals { episodes: number("episodes"), ..Totals::default() };
    totals.messages = number("messages");
    totals.wakes = number("wakes");
    let counters = &mut totals.counters;
    // Which end of a connection was which is not kept.
    counters.accepted = number("connections_opened");
    counters.closed = number("connections_closed");
    counters.connects_failed = number("connects_failed");
    counters.bytes_read = number("bytes_read");
    counters.bytes_written = number("bytes_written");
    counters.timers_fired = number("timers_fired");
    counters.turns = number("turns");
    counters.turns_empty = number("turns_empty");
    counters.waits_interrupted = number("waits_interrupted");
    counters.events = number("events");
    counters.events_stale = number("events_stale");
    counters.shed = number("shed");
    counters.accept_pauses = number("accept_pauses");
    counters.accept_errors = number("accept_errors");
    counters.registrations_failed = number("registrations_failed");
    counters.errors_unlisted = number("errors_unlisted");
    for (name, count) in value["errors"].as_object().into_iter().flatten() {
        totals.errors.insert(name.clone(), count.as_u64().unwrap_or(0));
    }
    totals
}
