//! A run as JSON Lines.

use std::io::{self, Write};

use super::quote::Quoted;
use super::{Class, View};
use crate::scene::{PacketKind, Use};
use crate::trace::{CallRecord, Outcome as Answer, TraceEntry};

/// The schema of the lines, one object each; `type` says which. Times are nanoseconds since the start of the run.
///
/// The first line is a `header`, the last one the `verdict`. Between them stand hosts, threads and connections, then calls
/// and notes in the order of the trace with the faults among them, and then the packets by the time of their sending. New fields may
/// come; `version` grows when one changes its meaning or goes.
pub const SCHEMA: &str = r#"
{"type":"header","format":"sim-trace","version":1,"source","workload","kernel","weather","origin_ns":what the run's clock read at its start,"build"}
{"type":"host","host","address","kernel"}
{"type":"thread","thread","name","host","process"}
{"type":"connection","connection","client":"address:port","server":"address:port","client_host"|null,"server_host"|null,"began_ns","ended_ns"|null,"client_bytes","server_bytes"}
{"type":"call","step","thread","began_ns","ended_ns","call","class":"read|write|lifecycle|wait|register|other","fd","arguments":[2 numbers],"value"|"error","words",
 for waits: "timeout_ns" (null for none), where it is about a connection: "connection","side":"client|server","queued_bytes","readable_bytes"}
{"type":"note","after_step","at_ns","text", where it is about a connection: "connection"}
{"type":"fault","after_step","at_ns","fault","entity","suppressed":true|false}
{"type":"packet","sent_ns","arrives_ns","connection","side","kind":"syn|syn-ack|ack|data|reset","position","bytes","end","acknowledges","again","lost"}
{"type":"verdict","passed","steps","virtual_ns","trace_hash","oracle"|null,"step"|null,"at_ns"|null,"details"|null,"story":[lines]}
"#;

/// The version of [`SCHEMA`].
const VERSION: u32 = 1;

pub(super) fn side_name(side: u8) -> &'static str {
    ["client", "server"][usize::from(side & 1)]
}

pub(super) fn kind_name(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Syn => "syn",
        PacketKind::SynAck => "syn-ack",
        PacketKind::Acknowledgement => "ack",
        PacketKind::Data => "data",
        PacketKind::Reset => "reset",
    }
}

/// `null`, or what it is.
pub(super) fn or_null<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

pub(super) fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    opening(view, out)?;
    let mut faults = view.scene.faults.iter().peekable();
    for (place, step, entry) in view.entries() {
        // What a call drew comes before it.
        while let Some(fault) = faults.next_if(|fault| fault.step < step) {
            write_fault(view, out, fault)?;
        }
        match entry {
            TraceEntry::Call(record) => call(view, out, record)?,
            TraceEntry::Note { at, text } => {
                let at_ns = view.since_start(*at);
                write!(
                    out,
                    r#"{{"type":"note","after_step":{step},"at_ns":{at_ns},"text":{}"#,
                    Quoted(text)
                )?;
                if let Some(connection) = view.scene.connection_of_note(place) {
                    write!(out, r#","connection":{connection}"#)?;
                }
                writeln!(out, "}}")?;
            }
        }
    }
    for fault in faults {
        write_fault(view, out, fault)?;
    }
    packets(view, out)?;
    verdict(view, out)
}

fn opening(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (outcome, scene) = (view.outcome, view.scene);
    writeln!(
        out,
        r#"{{"type":"header","format":"sim-trace","version":{VERSION},"source":{},"workload":"{}","kernel":"{}","weather":"{}","origin_ns":{},"build":{}}}"#,
        Quoted(view.source),
        outcome.workload,
        outcome.kernel,
        outcome.weather,
        scene.origin.as_ns(),
        Quoted(crate::run_log::build_name())
    )?;
    for (number, host) in scene.hosts.iter().enumerate() {
        writeln!(
            out,
            r#"{{"type":"host","host":{number},"address":"{}","kernel":"{}"}}"#,
            host.ip, host.kernel
        )?;
    }
    for (number, thread) in (0..).zip(&scene.threads) {
        let name = view.name_of_thread(number);
        writeln!(
            out,
            r#"{{"type":"thread","thread":{number},"name":{},"host":{},"process":{}}}"#,
            Quoted(name),
            thread.host,
            thread.process
        )?;
    }
    for (number, connection) in scene.connections.iter().enumerate() {
        let [client, server] = connection.addresses;
        let [client_host, server_host] = connection.hosts.map(or_null);
        let began_ns = view.since_start(connection.began);
        let ended_ns = or_null(connection.ended.map(|ended| view.since_start(ended)));
        let [client_bytes, server_bytes] = [0, 1].map(|side: usize| connection.bytes[side].len());
        writeln!(
            out,
            r#"{{"type":"connection","connection":{number},"client":"{client}","server":"{server}","client_host":{client_host},"server_host":{server_host},"began_ns":{began_ns},"ended_ns":{ended_ns},"client_bytes":{client_bytes},"server_bytes":{server_bytes}}}"#
        )?;
    }
    Ok(())
}

fn call(view: &View<'_>, out: &mut dyn Write, record: &CallRecord) -> io::Result<()> {
    let [began_ns, ended_ns] = [record.began, record.ended].map(|at| view.since_start(at));
    let [first, second] = record.arguments;
    let result = match record.outcome {
        Answer::Value(value) => format!(r#""value":{value}"#),
        Answer::Error(error) => format!(r#""error":"{}""#, error.name()),
    };
    write!(
        out,
        r#"{{"type":"call","step":{},"thread":{},"began_ns":{began_ns},"ended_ns":{ended_ns},"call":"{}","class":"{}","fd":{},"arguments":[{first},{second}],{result},"words":{}"#,
        record.step,
        record.thread.0,
        record.call.name(),
        Class::of(record).name(),
        record.fd,
        Quoted(record.words())
    )?;
    if let Some(timeout_ns) = record.timeout_ns() {
        write!(out, r#","timeout_ns":{}"#, or_null(timeout_ns))?;
    }
    if let Some(Use { connection, side, queued_bytes, readable_bytes, .. }) = view.scene.use_at(record.step) {
        let side = side_name(*side);
        write!(
            out,
            r#","connection":{connection},"side":"{side}","queued_bytes":{queued_bytes},"readable_bytes":{readable_bytes}"#
        )?;
    }
    writeln!(out, "}}")
}

fn write_fault(view: &View<'_>, out: &mut dyn Write, fault: &crate::scene::DrawnFault) -> io::Result<()> {
    writeln!(
        out,
        r#"{{"type":"fault","after_step":{},"at_ns":{},"fault":"{}","entity":{},"suppressed":{}}}"#,
        fault.step,
        view.since_start(fault.at),
        fault.kind.name(),
        fault.entity,
        fault.suppressed
    )
}

fn packets(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut packets: Vec<_> = view.scene.packets.iter().collect();
    packets.sort_by_key(|packet| packet.sent);
    for packet in packets {
        let [sent_ns, arrives_ns] = [packet.sent, packet.arrives].map(|at| view.since_start(at));
        writeln!(
            out,
            r#"{{"type":"packet","sent_ns":{sent_ns},"arrives_ns":{arrives_ns},"connection":{},"side":"{}","kind":"{}","position":{},"bytes":{},"end":{},"acknowledges":{},"again":{},"lost":{}}}"#,
            packet.connection,
            side_name(packet.side),
            kind_name(packet.kind),
            packet.position,
            packet.length,
            packet.end,
            packet.acknowledges,
            packet.again,
            packet.lost
        )?;
    }
    Ok(())
}

fn verdict(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let outcome = view.outcome;
    let failure = outcome.failure.as_ref();
    let lines = view.story.iter().flat_map(|story| story.lines());
    let story: Vec<String> = lines.map(|line| Quoted(line).to_string()).collect();
    writeln!(
        out,
        r#"{{"type":"verdict","passed":{},"steps":{},"virtual_ns":{},"trace_hash":"{:#018x}","oracle":{},"step":{},"at_ns":{},"details":{},"story":[{}]}}"#,
        failure.is_none(),
        outcome.steps,
        outcome.virtual_ns,
        outcome.trace_hash,
        or_null(failure.map(|failure| Quoted(failure.oracle))),
        or_null(failure.map(|failure| failure.step)),
        or_null(failure.map(|failure| view.since_start(failure.at))),
        or_null(failure.map(|failure| Quoted(&failure.details))),
        story.join(",")
    )
}
