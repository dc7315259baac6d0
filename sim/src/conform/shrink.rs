//! Makes a script that shows a difference shorter and plainer, as long as it still shows one of the same sort.

use super::call::Call;
use super::compare::{Difference, Outcome, Reference, observe_simulated};
use super::observation::Observation;
use super::rules::all_allowed;
use crate::script::probe::Probe;
use crate::world::WorldOptions;

/// Candidates that are tried at most.
const ATTEMPTS_MAX: usize = 1_500;

/// A script and the difference that it shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The calls that are left.
    pub calls: Vec<Call>,
    /// What the live kernel answers.
    pub answers: Vec<Observation>,
    /// What they show.
    pub difference: Difference,
}

struct Shrinker<'a, P: Probe> {
    reference: &'a mut Reference<P>,
    options: &'a WorldOptions,
    best: Shrunk,
    attempts: usize,
}

/// Deletes calls, then simplifies what is left, until nothing helps.
pub fn shrink<P: Probe>(
    reference: &mut Reference<P>,
    options: &WorldOptions,
    calls: &[Call],
    difference: Difference,
) -> Shrunk {
    // What comes after the difference does not matter.
    let calls = calls[..=difference.step].to_vec();
    let mut shrinker =
        Shrinker { reference, options, best: Shrunk { calls, answers: Vec::new(), difference }, attempts: 0 };
    loop {
        let before = shrinker.best.clone();
        shrinker.delete();
        shrinker.simplify();
        if shrinker.best == before || shrinker.attempts >= ATTEMPTS_MAX {
            let mut shrunk = shrinker.best;
            shrunk.answers = observe_simulated(&shrunk.calls[..shrunk.difference.step], options);
            shrunk.answers.push(shrunk.difference.live.clone());
            return shrunk;
        }
    }
}

impl<P: Probe> Shrinker<'_, P> {
    /// Keeps the candidate if it still shows the difference.
    fn accept(&mut self, calls: Vec<Call>) -> bool {
        if self.attempts >= ATTEMPTS_MAX || !all_allowed(&calls) {
            return false;
        }
        self.attempts += 1;
        match self.reference.compare(&calls, self.options) {
            Outcome::Different(difference) if difference.is_like(&self.best.difference) => {
                let calls = calls[..=difference.step].to_vec();
                self.best = Shrunk { calls, answers: Vec::new(), difference };
                true
            }
            _ => false,
        }
    }

    /// Chunks of calls from the end, in halves of the length down to single ones.
    fn delete(&mut self) {
        let mut size = self.best.calls.len() / 2;
        while size > 0 {
            let mut end = self.best.calls.len();
            while end > 0 {
                let begin = end.saturating_sub(size);
                let mut calls = self.best.calls.clone();
                calls.drain(begin..end);
                self.accept(calls);
                end = begin.min(self.best.calls.len());
            }
            size /= 2;
        }
    }

    fn simplify(&mut self) {
        let mut index = 0;
        while index < self.best.calls.len() {
            for simpler in simpler(&self.best.calls[index]) {
                let mut calls = self.best.calls.clone();
                calls[index] = simpler;
                if self.accept(calls) {
                    break;
                }
            }
            index += 1;
        }
    }
}

/// Plainer calls to try in place of this one, the plainest first.
fn simpler(call: &Call) -> Vec<Call> {
    match *call {
        Call::Send { at, length, exact } if length > 1 => vec![Call::Send { at, length: 1, exact }],
        Call::SendSegments { at, length, .. } => vec![Call::Send { at, length: length.max(1), exact: true }],
        Call::Write { at, length } if length > 1 => vec![Call::Write { at, length: 1 }],
        Call::Receive { at, length, peek: true } => vec![Call::Receive { at, length, peek: false }],
        Call::Receive { at, length, peek } if length != 4_096 => {
            vec![Call::Receive { at, length: 4_096, peek }]
        }
        Call::Drain { at, exact: true } => vec![Call::Receive { at, length: 4_096, peek: false }],
        Call::Reset { at } => vec![Call::Close { at }],
        Call::Wait { epoll, room, timeout_ms } if (room, timeout_ms) != (16, 0) => vec![
            Call::Wait { epoll, room: 16, timeout_ms: 0 },
            Call::Wait { epoll, room, timeout_ms: 0 },
            Call::Wait { epoll, room: 16, timeout_ms },
        ],
        Call::Listener { to, backlog } if backlog != 8 => vec![Call::Listener { to, backlog: 8 }],
        Call::Control { epoll, operation, at, mask } => {
            let bits = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
            bits.map(|bit| Call::Control { epoll, operation, at, mask: mask & !bit }).collect()
        }
        Call::Eventfd { to, initial, semaphore } if semaphore || initial > 0 => {
            vec![Call::Eventfd { to, initial: 0, semaphore: false }]
        }
        Call::WriteNumber { at, number } if number != 1 => vec![Call::WriteNumber { at, number: 1 }],
        Call::Poll { ref entries } if entries.len() > 1 => (0..entries.len())
            .map(|left_out| {
                let mut entries = entries.clone();
                entries.remove(left_out);
                Call::Poll { entries }
            })
            .collect(),
        _ => Vec::new(),
    }
}
