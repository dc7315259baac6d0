//! Differences between the live and the simulated kernel that have a reason. Each is a pattern of one step; what no pattern fits is a
//! bug of the simulated kernel.

use reactor::sys::EpollMask;

use super::call::{Call, Slot};
use super::compare::Difference;
use super::observation::Observation;
use super::rules::EVERYTHING;
use super::sketch::Sketch;

/// One explained difference.
#[derive(Copy, Clone, Debug)]
pub struct Explained {
    /// What it is called in reports.
    pub name: &'static str,
    /// The fact that it belongs to.
    pub fact: &'static str,
    /// What differs.
    pub pattern: &'static str,
    /// Why that is left so.
    pub reason: &'static str,
    /// Whether the simulated kernel is kinder or crueller there.
    pub errs: &'static str,
    /// Whether a difference is this one.
    fits: fn(&[Call], &Difference) -> bool,
}

/// Every explained difference.
pub const TABLE: &[Explained] = &[
    Explained {
        name: "late acknowledgement of a FIN",
        fact: "E21",
        pattern: "a wait tells once more of a socket that was shut down for writing, after time has passed or a full buffer was \
                  emptied",
        reason: "an acknowledgement that is kept back is sent at the next tick, which may be near; the simulated one is 4 ms away. At \
                 the end of a flood, lumps decide whether it is kept back",
        errs: "neither: a spurious edge comes a little later",
        fits: is_late_acknowledgement,
    },
    Explained {
        name: "order after a full buffer was emptied",
        fact: "T58",
        pattern: "a wait tells of the two ends of a connection in another order, after one of them drained what filled buffers",
        reason: "window updates decide whether room at one end comes before or after data at the other",
        errs: "neither: any order is legal",
        fits: is_order_after_drain,
    },
];

/// Only the live kernel tells of some sockets; each of them was shut down for writing before, and then an acknowledgement may have
/// come that the simulated one still keeps back.
fn is_late_acknowledgement(calls: &[Call], difference: &Difference) -> bool {
    let (Observation::Events(live), Observation::Events(simulated)) =
        (&difference.live, &difference.simulated)
    else {
        return false;
    };
    let mut extra = live.iter().filter(|event| !simulated.contains(event)).peekable();
    let others_agree = simulated.iter().all(|event| live.contains(event));
    let acknowledged = files_that_may_be_acknowledged(&calls[..=difference.step]);
    extra.peek().is_some()
        && others_agree
        && extra.all(|&(slot, bits)| {
            bits & EpollMask::ERR.bits() == 0
                && simulated.iter().all(|(other, _)| *other != slot)
                && acknowledged.contains(&slot)
        })
}

/// The places of sockets that were shut down for writing, by whatever place, before the last sleep or the last drain of a flood.
fn files_that_may_be_acknowledged(calls: &[Call]) -> Vec<Slot> {
    let mut sketch = Sketch::new();
    let (mut shut, mut acknowledged) = (Vec::new(), Vec::new());
    for call in calls {
        match *call {
            Call::Shutdown { at, how: 1 | 2 } => shut.extend(sketch.file(at)),
            Call::Sleep { .. } | Call::Wait { timeout_ms: 1.., .. } | Call::Drain { exact: false, .. } => {
                acknowledged.clone_from(&shut);
            }
            _ => {}
        }
        sketch.apply(call);
    }
    (0..Slot::COUNT as u8)
        .map(Slot)
        .filter(|&at| sketch.file(at).is_some_and(|file| acknowledged.contains(&file)))
        .collect()
}

/// The same events in another order, and since the wait before something flooded was drained.
fn is_order_after_drain(calls: &[Call], difference: &Difference) -> bool {
    let (Observation::Events(live), Observation::Events(simulated)) =
        (&difference.live, &difference.simulated)
    else {
        return false;
    };
    let same = live.len() == simulated.len() && live.iter().all(|event| simulated.contains(event));
    // Each set is asked in turn.
    let before = calls[..difference.step].iter().rev();
    let since = before
        .skip_while(|call| matches!(call, Call::Wait { room: EVERYTHING, .. }))
        .take_while(|call| !matches!(call, Call::Wait { .. }));
    let drained = since.into_iter().any(|call| matches!(call, Call::Drain { exact: false, .. }));
    same && drained
}

/// The place in [`TABLE`] of what explains the difference.
pub fn explanation(calls: &[Call], difference: &Difference) -> Option<usize> {
    TABLE.iter().position(|explained| (explained.fits)(calls, difference))
}

/// The table as text, for people.
pub fn table() -> String {
    let mut text = String::new();
    for Explained { name, fact, pattern, reason, errs, .. } in TABLE {
        text += &format!("{name} ({fact})\n  differs  {pattern}\n  reason   {reason}\n  errs     {errs}\n\n");
    }
    if text.is_empty() {
        text += "no difference needs a reason\n";
    }
    text
}
