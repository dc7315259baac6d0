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
        pattern: "a wait tells once more of a socket that was shut down for writing, or earlier than of others, after time has \
                  passed or a full buffer was emptied",
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

/// Without sockets that were shut down for writing, and whose acknowledgement may have come on the live kernel only, both tell the
/// same in the same order, as far as there is room. Of these sockets the live kernel tells more, or earlier.
fn is_late_acknowledgement(calls: &[Call], difference: &Difference) -> bool {
    let (Observation::Events(live), Observation::Events(simulated)) =
        (&difference.live, &difference.simulated)
    else {
        return false;
    };
    let Call::Wait { room, .. } = calls[difference.step] else { return false };
    let acknowledged = files_that_may_be_acknowledged(&calls[..=difference.step]);
    let others = |events: &[(Slot, u32)]| -> Vec<(Slot, u32)> {
        events.iter().copied().filter(|(slot, _)| !acknowledged.contains(slot)).collect()
    };
    let is_full = live.len() == usize::from(room);
    let (live_others, simulated_others) = (others(live), others(simulated));
    let others_agree =
        live_others == simulated_others || (is_full && simulated_others.starts_with(&live_others));
    let of = |events: &[(Slot, u32)], slot: Slot| events.iter().find(|(other, _)| *other == slot).copied();
    let early = live.iter().filter(|(slot, _)| acknowledged.contains(slot)).all(|&(slot, bits)| {
        of(simulated, slot).map_or(bits & EpollMask::ERR.bits() == 0, |event| event == (slot, bits))
    });
    let told = simulated.iter().all(|&(slot, _)| is_full || of(live, slot).is_some());
    others_agree && early && told
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

#[cfg(test)]
mod tests {
    use super::*;

    const HUP: u32 = EpollMask::HUP.bits();
    const OUT: u32 = EpollMask::OUT.bits();
    const ERR: u32 = EpollMask::ERR.bits();

    /// Two connections, of which the first is shut down, and then a wait; whether time passes in between.
    fn script(sleeps: bool, room: u8) -> Vec<Call> {
        let [set, listener, one, other] = [0, 1, 2, 3].map(Slot);
        let mut calls = vec![
            Call::Epoll { to: set },
            Call::Listener { to: listener, backlog: 8 },
            Call::Socket { to: one },
            Call::Connect { at: one, to: listener },
            Call::Socket { to: other },
            Call::Connect { at: other, to: listener },
            Call::Shutdown { at: one, how: 2 },
        ];
        calls.extend(sleeps.then_some(Call::Sleep { ms: 1 }));
        calls.push(Call::Wait { epoll: set, room, timeout_ms: 0 });
        calls
    }

    fn is_explained(calls: &[Call], live: &[(u8, u32)], simulated: &[(u8, u32)]) -> bool {
        let events = |events: &[(u8, u32)]| {
            Observation::Events(events.iter().map(|&(slot, bits)| (Slot(slot), bits)).collect())
        };
        let step = calls.len() - 1;
        let difference = Difference { step, verb: "wait", live: events(live), simulated: events(simulated) };
        explanation(calls, &difference).is_some()
    }

    #[test]
    fn an_acknowledgement_that_may_have_come_explains_an_earlier_place() {
        let calls = script(true, 16);
        assert!(is_explained(&calls, &[(2, HUP), (3, OUT)], &[(3, OUT), (2, HUP)]));
        assert!(is_explained(&calls, &[(2, HUP), (3, OUT)], &[(3, OUT)]));
        assert!(is_explained(&script(true, 1), &[(2, HUP)], &[(3, OUT)]), "it takes the only room");
    }

    #[test]
    fn nothing_else_is_explained_by_an_acknowledgement() {
        let calls = script(true, 16);
        assert!(!is_explained(&script(false, 16), &[(2, HUP), (3, OUT)], &[(3, OUT), (2, HUP)]));
        assert!(!is_explained(&calls, &[(2, HUP)], &[(3, OUT)]), "there was room for the other");
        assert!(!is_explained(&calls, &[(3, OUT)], &[(3, OUT), (2, HUP)]), "only the simulated one tells");
        assert!(!is_explained(&calls, &[(2, HUP), (3, OUT)], &[(2, HUP)]), "the other was not shut down");
        assert!(!is_explained(&calls, &[(2, HUP | ERR)], &[]), "no error comes of it");
    }
}
