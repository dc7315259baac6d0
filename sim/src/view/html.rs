//! A run as one page that needs nothing else: no network, no other file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::json::or_null;
use super::quote::{Escaped, Quoted};
use super::{Class, View, error_of, has_timed_out, name_of_connection};
use crate::scene::PacketKind;
use crate::trace::TraceEntry;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Texts by number: most of them come again and again.
#[derive(Default)]
struct Texts {
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: String) -> usize {
        if let Some(&number) = self.numbers.get(&text) {
            return number;
        }
        let number = self.texts.len();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }
}

pub(super) fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let outcome = view.outcome;
    let verdict = match &outcome.failure {
        Some(failure) => format!("FAILED {}", failure.oracle),
        None => "passed".to_owned(),
    };
    let title = format!("{} {verdict}, {}", outcome.workload, view.source);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.write_all(before.as_bytes())?;
        match name {
            "title" => write!(out, "{}", Escaped(&title))?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => out.write_all(SCRIPT.as_bytes())?,
            _ => data(view, out)?,
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

fn data(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut texts = Texts::default();
    let (outcome, scene) = (view.outcome, view.scene);
    write!(
        out,
        r#"{{"source":{},"replay":{},"workload":"{}","kernel":"{}","weather":"{}","origin_ns":"{}","steps":{},"virtual_ns":{},"trace_hash":"{:#018x}","build":{}"#,
        Quoted(view.source),
        Quoted(view.replay),
        outcome.workload,
        outcome.kernel,
        outcome.weather,
        // As text: it may be more than a script can count to.
        scene.origin.as_ns(),
        outcome.steps,
        outcome.virtual_ns,
        outcome.trace_hash,
        Quoted(crate::run_log::build_name())
    )?;
    let lines = view.story.iter().flat_map(|story| story.lines());
    list(out, "story", lines.map(|line| Quoted(line).to_string()))?;
    if let Some(failure) = &outcome.failure {
        write!(
            out,
            r#","failure":{{"oracle":"{}","at":{},"step":{},"details":{}}}"#,
            failure.oracle,
            view.since_start(failure.at),
            failure.step,
            Quoted(&failure.details)
        )?;
    }
    let hosts = scene.hosts.iter().map(|host| format!(r#"["{}","{}"]"#, host.ip, host.kernel));
    list(out, "hosts", hosts)?;
    let threads = (0..).zip(&scene.threads);
    let threads = threads.map(|(number, thread)| {
        format!("[{},{},{}]", Quoted(view.name_of_thread(number)), thread.host, thread.process)
    });
    list(out, "threads", threads)?;
    let connections = scene.connections.iter().map(|connection| {
        let [client, server] = connection.hosts.map(or_null);
        let ended = or_null(connection.ended.map(|ended| view.since_start(ended)));
        let [sent, answered] = [0, 1].map(|side: usize| connection.bytes[side].len());
        format!(
            "[{},{client},{server},{},{ended},{sent},{answered}]",
            Quoted(name_of_connection(connection)),
            view.since_start(connection.began)
        )
    });
    list(out, "connections", connections)?;
    list(out, "entries", entries(view, &mut texts).into_iter())?;
    list(out, "packets", packets(view).into_iter())?;
    let faults = scene.faults.iter().map(|fault| {
        let suppressed = if fault.suppressed { ", suppressed" } else { "" };
        let text = format!("{} (of {}{suppressed})", fault.kind.name(), fault.entity);
        format!("[{},{},{}]", view.since_start(fault.at), fault.step, texts.number(text))
    });
    list(out, "faults", faults)?;
    // Of a loop that slept through something that is told, and not only that it sleeps.
    let overslept = |thread| outcome.oversleepers.iter().any(|sleeper| sleeper.thread == thread);
    let sleepers = scene.asleep.iter().filter(|sleeper| !overslept(sleeper.thread));
    let asleep = sleepers.chain(&outcome.oversleepers).map(|sleeper| {
        let waiting: Vec<String> = sleeper.waiting.iter().map(ToString::to_string).collect();
        let until = or_null(sleeper.until.map(|until| view.since_start(until)));
        let since = view.since_start(sleeper.since);
        format!("[{},{since},{until},{}]", sleeper.thread.0, Quoted(waiting.join(", ")))
    });
    list(out, "asleep", asleep)?;
    list(out, "texts", texts.texts.iter().map(|text| Quoted(text).to_string()))?;
    write!(out, "}}")
}

fn list(out: &mut dyn Write, name: &str, items: impl Iterator<Item = String>) -> io::Result<()> {
    write!(out, ",\n\"{name}\":[")?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_all(if index % 16 == 0 { b",\n" } else { b"," })?;
        }
        out.write_all(item.as_bytes())?;
    }
    write!(out, "]")
}

/// Calls are `[class, step, thread, began, slept or lasted, text, flags, connection * 2 + side, bytes, timeout]`, the last three
/// only where there are some; notes are `[at, text, connection]`.
fn entries(view: &View<'_>, texts: &mut Texts) -> Vec<String> {
    /// Bits of the flags.
    const FAILED: u8 = 1;
    const WOULD_WAIT: u8 = 2;
    const TIMED_OUT: u8 = 4;
    const GUILTY: u8 = 8;
    let mut found = Vec::new();
    for (place, _, entry) in view.entries() {
        match entry {
            TraceEntry::Note { at, text } => {
                let at = view.since_start(*at);
                let connection = or_null(view.scene.connection_of_note(place));
                found.push(format!("[{at},{},{connection}]", texts.number(text.clone())));
            }
            TraceEntry::Call(call) => {
                let began = view.since_start(call.began);
                let ns = call.ended.saturating_ns_since(call.began);
                let flags = match error_of(call) {
                    None => 0,
                    Some("EAGAIN" | "EINPROGRESS") => WOULD_WAIT,
                    Some(_) => FAILED,
                } | if has_timed_out(call) { TIMED_OUT } else { 0 }
                    | if view.is_guilty(call) { GUILTY } else { 0 };
                let class = Class::of(call);
                let mut row = format!(
                    "[{},{},{},{began},{ns},{},{flags}",
                    class as u8,
                    call.step,
                    call.thread.0,
                    texts.number(call.words().to_string())
                );
                let about = view.scene.use_at(call.step);
                let about = about.map(|about| about.connection * 2 + u32::from(about.side));
                let timeout_ns = call.timeout_ns().flatten();
                let bytes = match call.outcome {
                    crate::trace::Outcome::Value(count) if matches!(class, Class::Read | Class::Write) => {
                        count
                    }
                    _ => 0,
                };
                if about.is_some() || timeout_ns.is_some() {
                    let _ = write!(row, ",{},{bytes}", or_null(about));
                }
                if let Some(timeout_ns) = timeout_ns {
                    let _ = write!(row, ",{timeout_ns}");
                }
                row.push(']');
                found.push(row);
            }
        }
    }
    found
}

/// `[sent, flight, connection * 2 + side, kind, position, bytes, flags]`, by the time of sending.
fn packets(view: &View<'_>) -> Vec<String> {
    let mut packets: Vec<_> = view.scene.packets.iter().collect();
    packets.sort_by_key(|packet| packet.sent);
    let row = |packet: &&crate::scene::Packet| {
        let flags = u8::from(packet.end) | u8::from(packet.lost) << 1 | u8::from(packet.again) << 2;
        let kind = match packet.kind {
            PacketKind::Syn => 0,
            PacketKind::SynAck => 1,
            PacketKind::Acknowledgement => 2,
            PacketKind::Data => 3,
            PacketKind::Reset => 4,
        };
        format!(
            "[{},{},{},{kind},{},{},{flags}]",
            view.since_start(packet.sent),
            packet.arrives.saturating_ns_since(packet.sent),
            packet.connection * 2 + u32::from(packet.side),
            packet.position,
            packet.length
        )
    };
    packets.iter().map(row).collect()
}
