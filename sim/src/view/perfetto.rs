//! A run as trace events in JSON, which Perfetto and Chromium open.
//!
//! A process is a host and a thread is a thread; connections are asynchronous slices of their client's host, with a counter
//! of the bytes that each side has not got rid of. What happens to nobody in particular is in a process of its own, "the world".

use std::fmt::Write as _;
use std::io::{self, Write};

use super::quote::Quoted;
use super::{Class, View, name_of_connection};
use crate::trace::TraceEntry;

/// Numbers begin with 1: tools take 0 for the kernel's idle thread.
const FIRST: u32 = 1;

/// One event and its time.
struct Event {
    at_ns: u64,
    text: String,
}

pub(super) fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut events = Vec::new();
    slices(view, &mut events);
    connections(view, &mut events);
    marks(view, &mut events);
    events.sort_by_key(|event| event.at_ns);
    let mut lines = names(view);
    lines.extend(events.into_iter().map(|event| event.text));
    writeln!(out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    for (index, line) in lines.iter().enumerate() {
        let comma = if index + 1 < lines.len() { "," } else { "" };
        writeln!(out, "{line}{comma}")?;
    }
    writeln!(
        out,
        "],\"otherData\":{{\"source\":{},\"workload\":\"{}\",\"kernel\":\"{}\",\"weather\":\"{}\",\"trace_hash\":\"{:#018x}\"}}}}",
        Quoted(view.source),
        view.outcome.workload,
        view.outcome.kernel,
        view.outcome.weather,
        view.outcome.trace_hash
    )
}

/// The process of what happens without a host.
fn world(view: &View<'_>) -> u32 {
    view.scene.hosts.len() as u32 + FIRST
}

/// Nanoseconds as microseconds with all their digits.
fn microseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000, ns % 1_000)
}

fn names(view: &View<'_>) -> Vec<String> {
    let name = |what: &str, pid: u32, tid: u32, name: &str| {
        let name = Quoted(name);
        format!(r#"{{"ph":"M","name":"{what}","pid":{pid},"tid":{tid},"args":{{"name":{name}}}}}"#)
    };
    let mut lines = Vec::new();
    for (number, host) in (FIRST..).zip(&view.scene.hosts) {
        let title = format!("host {} {} {}", number - FIRST, host.ip, host.kernel);
        lines.push(name("process_name", number, 0, &title));
    }
    lines.push(name("process_name", world(view), 0, "the world"));
    lines.push(name("thread_name", world(view), FIRST, "faults and notes"));
    for (number, thread) in (0..).zip(&view.scene.threads) {
        let title = format!("{} (process {})", view.name_of_thread(number), thread.process);
        lines.push(name("thread_name", thread.host + FIRST, number + FIRST, &title));
    }
    lines
}

/// Every call is a slice of its thread.
fn slices(view: &View<'_>, events: &mut Vec<Event>) {
    for (_, _, entry) in view.entries() {
        let TraceEntry::Call(call) = entry else { continue };
        let at_ns = view.since_start(call.began);
        let ns = call.ended.saturating_ns_since(call.began);
        let host = view.scene.threads.get(call.thread.0 as usize).map_or(0, |thread| thread.host);
        let mut text = format!(
            r#"{{"ph":"X","name":"{}","cat":"{}","ts":{},"dur":{},"pid":{},"tid":{},"args":{{"step":{},"call":{}"#,
            call.call.name(),
            Class::of(call).name(),
            microseconds(at_ns),
            microseconds(ns),
            host + FIRST,
            call.thread.0 + FIRST,
            call.step,
            Quoted(call.words())
        );
        let about = view.scene.use_at(call.step);
        if let Some(about) = about {
            let connection = &view.scene.connections[about.connection as usize];
            let _ = write!(text, r#","connection":{}"#, Quoted(name_of_connection(connection)));
        }
        text += "}}";
        events.push(Event { at_ns, text });
        if let Some(about) = about {
            let at_ns = view.since_start(call.ended);
            let side = super::json::side_name(about.side);
            let text = format!(
                r#"{{"ph":"C","name":"connection {} {side} bytes","ts":{},"pid":{},"tid":{},"args":{{"to send":{},"to read":{}}}}}"#,
                about.connection,
                microseconds(at_ns),
                host + FIRST,
                call.thread.0 + FIRST,
                about.queued_bytes,
                about.readable_bytes
            );
            events.push(Event { at_ns, text });
        }
    }
}

/// A connection is an asynchronous slice: its end is the end of the run, where it has none of its own.
fn connections(view: &View<'_>, events: &mut Vec<Event>) {
    for (number, connection) in view.scene.connections.iter().enumerate() {
        let began = view.since_start(connection.began);
        let ended = connection.ended.map_or(view.outcome.virtual_ns, |ended| view.since_start(ended));
        let pid = connection.hosts[0].map_or(world(view), |host| host + FIRST);
        let name = Quoted(format!("{number}: {}", name_of_connection(connection)));
        for (phase, at_ns) in [('b', began), ('e', ended.max(began))] {
            let ts = microseconds(at_ns);
            let text = format!(
                r#"{{"ph":"{phase}","name":{name},"cat":"connection","id":{number},"ts":{ts},"pid":{pid},"tid":0}}"#
            );
            events.push(Event { at_ns, text });
        }
    }
}

/// Faults, notes, and the failure are instants.
fn marks(view: &View<'_>, events: &mut Vec<Event>) {
    let mut mark = |at_ns: u64, category: &str, name: String, scope: char| {
        let text = format!(
            r#"{{"ph":"i","name":{},"cat":"{category}","ts":{},"pid":{},"tid":{FIRST},"s":"{scope}"}}"#,
            Quoted(name),
            microseconds(at_ns),
            world(view)
        );
        events.push(Event { at_ns, text });
    };
    for fault in &view.scene.faults {
        let suppressed = if fault.suppressed { " (suppressed)" } else { "" };
        let name = format!("{} of {}{suppressed}", fault.kind.name(), fault.entity);
        mark(view.since_start(fault.at), "fault", name, 't');
    }
    for entry in &view.outcome.trace {
        if let TraceEntry::Note { at, text } = entry {
            mark(view.since_start(*at), "note", text.clone(), 't');
        }
    }
    if let Some(failure) = &view.outcome.failure {
        let name = format!("FAILED {} at step {}: {}", failure.oracle, failure.step, failure.details);
        mark(view.since_start(failure.at), "failure", name, 'g');
    }
}
