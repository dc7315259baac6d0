//! What recording costs: processor time per echoed message on real loopback sockets, with and without, interleaved.
//!
//! `cargo bench -p tests --bench recorder`. Both loops of an episode, service and clients, run in this process, and both are
//! recorded, as in `soak`. Processor time is that of the process, from `/proc/self/stat`, in hundredths of a second. Congestion
//! control is pinned, since machines differ in it. Nothing here passes or fails.

use std::time::Duration;

use reactor::sys::Congestion;
use sim::WorkloadKind;
use sim::recording::Plan;
use sim::workload::echo::Echo;
use sim::workload::stream_plan::{Appetite, Ending, StreamPlan};
use tests::real_episode::{Wanted, record_plan};

/// Pairs of rounds, with and without.
const PAIRS: usize = 31;

/// Connections of the one loop of clients.
const CONNECTIONS: usize = 64;

/// Nanoseconds of a tick of `/proc/self/stat`: `USER_HZ` is 100 on every Linux.
const TICK_NS: f64 = 1e7;

/// Messages on each connection, and bytes of each.
const SIZES: [(u64, u64); 3] = [(800, 64), (800, 1024), (400, 16 * 1024)];

/// Processor time of this process so far, user and system, in ticks.
fn processor_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Nanoseconds of processor time per message, and bytes recorded per message.
fn round(messages: u64, message_bytes: u64, recorded: bool) -> (f64, f64) {
    let stream = StreamPlan {
        start_ns: 0,
        to_nobody: false,
        messages,
        message_bytes,
        pipeline: 1,
        think_ns: 0,
        ending: Ending::CloseAfterAll,
        appetite: Appetite::Everything,
        retries: 0,
    };
    let wanted = Wanted {
        recorded,
        congestion: Some(Congestion::Cubic),
        bytes_max: u64::MAX,
        finish_within: Duration::from_secs(600),
        ..Wanted::plain(Plan { workload: WorkloadKind::Echo, seed: 0, load: None })
    };
    let before = processor_ticks().expect("a Linux");
    let done = record_plan(&wanted, Echo::of_loops(vec![vec![stream; CONNECTIONS]]));
    let ticks = processor_ticks().expect("a Linux") - before;
    assert_eq!(done.recording.failure(), None);
    let all = (messages * CONNECTIONS as u64) as f64;
    let bytes: usize = done.recording.loops.iter().map(|log| log.length_bytes()).sum();
    (ticks as f64 * TICK_NS / all, bytes as f64 / all)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if processor_ticks().is_none() {
        println!("skipped: this system has no /proc/self/stat");
        return;
    }
    for (messages, message_bytes) in SIZES {
        let (mut plain, mut recorded, mut ratios, mut bytes) = (vec![], vec![], vec![], 0.0);
        round(messages / 4, message_bytes, true);
        for pair in 0..PAIRS {
            // The order changes from pair to pair, so that neither side always comes first.
            let first = round(messages, message_bytes, pair % 2 == 0);
            let second = round(messages, message_bytes, pair % 2 == 1);
            let (with, without) = if pair % 2 == 0 { (first, second) } else { (second, first) };
            bytes = with.1;
            plain.push(without.0);
            recorded.push(with.0);
            ratios.push(with.0 / without.0);
        }
        let (least, most) =
            ratios.iter().fold((f64::MAX, 0.0_f64), |(a, b), &ratio| (a.min(ratio), b.max(ratio)));
        println!(
            "{message_bytes:>6} bytes a message: {:.0} ns of processor without, {:.0} ns with, median of {PAIRS} ratios {:.3} \
             ({least:.3} to {most:.3}), {bytes:.0} bytes recorded a message",
            median(plain),
            median(recorded),
            median(ratios)
        );
    }
}
