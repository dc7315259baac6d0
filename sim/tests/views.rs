//! The views of a run: whole, well-formed, and true to what the run carried. The files stay in the folder for temporary files
//! of the tests, to be looked at.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sim::explain::Explanation;
use sim::runner::{Outcome, RunOptions, run};
use sim::scene::{PacketKind, Scene};
use sim::view::{Format, View};
use sim::{Decisions, Kernel, Lapse, ObligationCheck, TraceEntry, WorkloadKind};

/// The seeds that are looked at.
const SEEDS: u64 = 12;

fn recorded(seed: u64) -> Outcome {
    run(&RunOptions::default().recorded(), Decisions::from_seed(seed))
}

fn scene(outcome: &Outcome) -> &Scene {
    outcome.scene.as_deref().expect("the run was recorded")
}

fn view(outcome: &Outcome, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = View::of(outcome, "</script> \"a\" & <b>", "sim replay 1").expect("the run was recorded");
    view.write(format, &mut bytes).expect("memory takes everything");
    bytes
}

fn text(outcome: &Outcome, format: Format) -> String {
    String::from_utf8(view(outcome, format)).expect("it is text")
}

/// A run that forgets a debt on purpose, as small as it gets in a moment.
fn shrunk_failure() -> Outcome {
    let options = RunOptions {
        workload: Some(WorkloadKind::Echo),
        obligations: ObligationCheck::Always,
        lapse: Some(Lapse::ALL[0]),
        ..RunOptions::default()
    };
    let fails = |seed: &u64| run(&options, Decisions::from_seed(*seed)).failure.is_some();
    let seed = (0..500).find(fails).expect("one of 500 runs fails");
    let whole = run(&options.clone().recorded(), Decisions::from_seed(seed));
    keep("failure-whole.html", &view(&whole, Format::Html));
    let mut runs = 0;
    let mut go_on = |_| {
        runs += 1;
        runs < 2_000
    };
    let explanation = Explanation::of(&options, Decisions::from_seed(seed), seed.to_string(), &mut go_on);
    let small = explanation.expect("it fails again").small.expect("it can be made smaller");
    run(
        &RunOptions { lapse: options.lapse, ..small.options().recorded() },
        Decisions::from_tape(small.choices.tape()),
    )
}

fn keep(name: &str, bytes: &[u8]) {
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), bytes).expect("the folder is there");
}

#[test]
fn a_run_that_is_not_recorded_has_no_views_and_the_same_hash() {
    for seed in 0..SEEDS {
        let plain = run(&RunOptions::default(), Decisions::from_seed(seed));
        assert!(plain.scene.is_none() && View::of(&plain, "", "").is_none());
        assert_eq!(plain.trace_hash, recorded(seed).trace_hash, "seed {seed}");
    }
}

#[test]
fn the_scene_knows_everyone_and_every_connection() {
    let mut used = 0;
    for seed in 0..SEEDS {
        let outcome = recorded(seed);
        let scene = scene(&outcome);
        assert_eq!(scene.threads.len(), outcome.cast.len());
        assert!(scene.threads.iter().all(|thread| (thread.host as usize) < scene.hosts.len()));
        assert!(scene.uses.windows(2).all(|pair| pair[0].step < pair[1].step), "at most one a call");
        assert!(scene.uses.iter().all(|one| (one.connection as usize) < scene.connections.len()));
        assert!(
            scene.notes.iter().all(|&(place, _)| matches!(outcome.trace[place], TraceEntry::Note { .. }))
        );
        let drawn: u64 = outcome.faults.iter().map(|(_, count)| count).sum();
        assert!(scene.faults.len() as u64 <= drawn);
        used += scene.uses.len();
    }
    assert!(used > 100, "calls are about connections: {used}");
}

#[test]
fn json_lines_hold_every_call_and_end_with_the_verdict() {
    for seed in 0..SEEDS {
        let outcome = recorded(seed);
        let json = text(&outcome, Format::Json);
        let rows: Vec<Value> =
            json.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let of = |kind: &str| rows.iter().filter(|row| row["type"] == kind).count();
        assert_eq!(rows[0]["format"], "sim-trace");
        assert_eq!(rows[0]["source"], "</script> \"a\" & <b>");
        assert_eq!(of("call") as u64, outcome.steps);
        assert_eq!(of("call") + of("note"), outcome.trace.len());
        assert_eq!(of("fault"), scene(&outcome).faults.len());
        assert_eq!(of("packet"), scene(&outcome).packets.len());
        let verdict = rows.last().expect("a verdict");
        assert_eq!(verdict["trace_hash"], format!("{:#018x}", outcome.trace_hash));
        assert_eq!(verdict["passed"], outcome.failure.is_none());
        for row in rows.iter().filter(|row| row["type"] == "call") {
            assert!(row["began_ns"].as_u64() <= row["ended_ns"].as_u64(), "{row}");
        }
    }
}

#[test]
fn the_page_needs_nothing_else_and_nothing_in_it_ends_its_script() {
    let outcome = shrunk_failure();
    let page = text(&outcome, Format::Html);
    keep("failure.html", page.as_bytes());
    for foreign in ["http://", "https://", "src=", "@import", "url(", "{{"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the page's own");
    assert!(!page.contains("<b>"));
    let data = page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let data: Value = serde_json::from_str(data.expect("it holds the run").0).expect("JSON");
    let failure = outcome.failure.as_ref().expect("it fails");
    assert_eq!(data["failure"]["step"], failure.step);
    assert_eq!(data["entries"].as_array().map(Vec::len), Some(outcome.trace.len()));
    assert!(data["story"].as_array().is_some_and(|lines| lines.len() > 1));
    // The failing call is marked.
    let rows = data["entries"].as_array().expect("a list");
    let guilty: Vec<_> = rows
        .iter()
        .filter(|row| {
            row.as_array().is_some_and(|row| row.len() > 3)
                && row[6].as_u64().is_some_and(|flags| flags & 8 != 0)
        })
        .collect();
    assert_eq!(guilty.len(), 1);
    assert_eq!(guilty[0][1], failure.step);
}

#[test]
fn every_format_writes_large_runs() {
    let options = RunOptions { workload: Some(WorkloadKind::Cluster), ..RunOptions::default() };
    let runs = (0..40).map(|seed| run(&options.clone().recorded(), Decisions::from_seed(seed)));
    let longest = runs.max_by_key(|outcome| outcome.steps).expect("there are some");
    assert!(longest.trace.len() > 5_000);
    for format in Format::ALL {
        let bytes = view(&longest, format);
        assert!(!bytes.is_empty());
        keep(&format!("large.{format}"), &bytes);
    }
}

#[test]
fn perfetto_events_are_sorted_and_each_slice_that_begins_ends() {
    for seed in 0..SEEDS {
        let outcome = recorded(seed);
        let trace: Value = serde_json::from_str(&text(&outcome, Format::Perfetto)).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("a list");
        let mut last = 0.0;
        let mut open: BTreeMap<u64, u64> = BTreeMap::new();
        let mut busy_until: BTreeMap<u64, f64> = BTreeMap::new();
        for event in events {
            let phase = event["ph"].as_str().expect("a phase");
            assert!(event["pid"].as_u64().is_some_and(|pid| pid > 0) && event["tid"].is_u64(), "{event}");
            if phase == "M" {
                continue;
            }
            let ts = event["ts"].as_f64().expect("a time");
            assert!(ts >= last, "{event}");
            last = ts;
            match phase {
                "X" => {
                    // Calls of a thread follow each other; a nanosecond is a thousandth.
                    let thread = event["tid"].as_u64().expect("a thread");
                    let until = busy_until.entry(thread).or_default();
                    assert!(ts + 0.000_5 >= *until, "{event} begins before {until}");
                    *until = ts + event["dur"].as_f64().expect("a duration");
                }
                "b" => assert_eq!(open.insert(event["id"].as_u64().expect("a number"), 1), None),
                "e" => assert_eq!(open.remove(&event["id"].as_u64().expect("a number")), Some(1)),
                "C" => assert!(event["args"]["to send"].is_u64()),
                "i" => assert!(event["s"] == "t" || event["s"] == "g"),
                other => panic!("a phase {other}"),
            }
        }
        assert!(open.is_empty());
        let slices = events.iter().filter(|event| event["ph"] == "X").count();
        assert_eq!(slices as u64, outcome.steps);
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The blocks of a capture: their types and bodies.
fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = word(bytes, 4) as usize;
        assert!(
            length >= 12 && length.is_multiple_of(4) && length <= bytes.len(),
            "a block of {length} bytes"
        );
        assert_eq!(word(bytes, length - 4) as usize, length, "both lengths are the same");
        found.push((word(bytes, 0), &bytes[8..length - 4]));
        bytes = &bytes[length..];
    }
    found
}

fn sum_of(bytes: &[u8]) -> u32 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum = bytes.chunks(2).map(pair).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// A packet of a capture, read again.
struct Captured {
    time_ns: u64,
    /// Address and port of the sender, then of the receiver.
    ends: [u8; 12],
    flags: u8,
    sequence: u32,
    payload: Vec<u8>,
}

fn captured(body: &[u8]) -> Captured {
    let time_ns = u64::from(word(body, 4)) << 32 | u64::from(word(body, 8));
    let (kept, length) = (word(body, 12) as usize, word(body, 16) as usize);
    assert_eq!(kept, length, "every byte of these runs is kept");
    let packet = &body[20..20 + kept];
    assert_eq!(packet[0], 0x45);
    assert_eq!(usize::from(packet[2]) << 8 | usize::from(packet[3]), length);
    assert_eq!(sum_of(&packet[..20]), 0xffff, "the header's checksum");
    let tcp = &packet[20..];
    let mut summed = packet[12..20].to_vec();
    summed.extend([0, 6]);
    summed.extend((tcp.len() as u16).to_be_bytes());
    summed.extend(tcp);
    assert_eq!(sum_of(&summed), 0xffff, "the checksum of TCP");
    let mut ends = [0; 12];
    ends[..4].copy_from_slice(&packet[12..16]);
    ends[4..6].copy_from_slice(&tcp[..2]);
    ends[6..10].copy_from_slice(&packet[16..20]);
    ends[10..].copy_from_slice(&tcp[2..4]);
    Captured {
        time_ns,
        ends,
        flags: tcp[13],
        sequence: u32::from_be_bytes(tcp[4..8].try_into().expect("four bytes")),
        payload: tcp[20..].to_vec(),
    }
}

#[test]
fn a_capture_is_well_formed_and_carries_the_bytes_of_the_run() {
    let mut data = 0;
    for seed in 0..SEEDS {
        let outcome = recorded(seed);
        let scene = scene(&outcome);
        let bytes = view(&outcome, Format::Pcapng);
        keep(&format!("{seed}.pcapng"), &bytes);
        let blocks = blocks(&bytes);
        assert_eq!(blocks[0].0, 0x0a0d_0d0a);
        assert_eq!(word(blocks[0].1, 0), 0x1a2b_3c4d);
        assert_eq!(blocks[1].0, 1);
        let packets: Vec<Captured> = blocks[2..]
            .iter()
            .map(|&(kind, body)| {
                assert_eq!(kind, 6);
                captured(body)
            })
            .collect();
        assert!(packets.windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns));
        // The packets in the same order as the scene has them by time: one each, for none is too large here.
        let mut sent: Vec<_> = scene.packets.iter().filter(|packet| packet.length <= 65_000).collect();
        sent.sort_by_key(|packet| packet.sent);
        if sent.len() != scene.packets.len() {
            continue;
        }
        assert_eq!(sent.len(), packets.len());
        for (packet, captured) in sent.iter().zip(&packets) {
            let connection = &scene.connections[packet.connection as usize];
            let side = usize::from(packet.side);
            let [from, to] = [connection.addresses[side], connection.addresses[1 - side]];
            let mut ends = from.ip().octets().to_vec();
            ends.extend(from.port().to_be_bytes());
            ends.extend(to.ip().octets());
            ends.extend(to.port().to_be_bytes());
            assert_eq!(captured.ends[..], ends[..]);
            assert_eq!(captured.flags & 2 != 0, matches!(packet.kind, PacketKind::Syn | PacketKind::SynAck));
            assert_eq!(captured.flags & 4 != 0, packet.kind == PacketKind::Reset);
            assert_eq!(captured.flags & 1 != 0, packet.end);
            if packet.kind == PacketKind::Data {
                let place = packet.position as usize;
                assert_eq!(captured.sequence, packet.position as u32 + 1);
                assert_eq!(captured.payload, connection.bytes[side][place..place + packet.length as usize]);
                data += captured.payload.len();
            }
        }
    }
    assert!(data > 1_000, "{data} bytes were compared");
}

#[test]
fn the_bytes_of_a_connection_are_what_was_written_to_it() {
    for seed in 0..SEEDS {
        let outcome = recorded(seed);
        let scene = scene(&outcome);
        let mut written = vec![[0_u64; 2]; scene.connections.len()];
        for entry in &outcome.trace {
            let TraceEntry::Call(call) = entry else { continue };
            let writes = matches!(call.call.name(), "send" | "sendmsg");
            if let (true, sim::Outcome::Value(count)) = (writes, call.outcome) {
                // A socket that has failed takes nothing, so each is about a connection.
                let about = scene.use_at(call.step).expect("it is about a connection");
                written[about.connection as usize][usize::from(about.side)] += count;
            }
        }
        for (connection, written) in scene.connections.iter().zip(&written) {
            let kept = [0, 1].map(|side: usize| connection.bytes[side].len() as u64);
            assert_eq!(kept, *written, "{:?}", connection.addresses);
        }
    }
}

#[test]
fn kernels_with_kqueue_have_views_too() {
    let options = RunOptions { kernel: Some(Kernel::Freebsd), ..RunOptions::default() };
    let outcome = run(&options.recorded(), Decisions::from_seed(3));
    assert!(text(&outcome, Format::Json).contains("\"call\":\"kevent\""));
    assert!(text(&outcome, Format::Text).contains("kevent(fd"));
}
