//! The limit of open files, lowered for a while. It is one for the whole process, so all who lower it share this.

use std::sync::{Mutex, MutexGuard};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer than this are never left: standard streams, records, and what loops hold for themselves.
const LEFT_MIN: u64 = 32;

#[derive(Debug)]
struct State {
    /// As it was before anybody lowered it.
    before: Option<Rlimit>,
    /// Who lowers it, and to what.
    lowered: Vec<(u64, u64)>,
    next: u64,
}

static STATE: Mutex<State> = Mutex::new(State { before: None, lowered: Vec::new(), next: 0 });

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The limit is low as long as this lives.
#[derive(Debug)]
pub(crate) struct Shortage {
    number: u64,
}

impl Shortage {
    /// Lowers the limit of open files to `limit`, or a few if that is less; `None` when the system refuses, or when it is
    /// that low already.
    pub(crate) fn begin(limit: u64) -> Option<Shortage> {
        let mut state = lock();
        if state.lowered.is_empty() {
            state.before = Some(getrlimit(Resource::Nofile));
        }
        let limit = limit.max(LEFT_MIN);
        if state.before.is_some_and(|before| before.current.is_some_and(|now| now <= limit)) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.lowered.push((number, limit));
        if state.apply() {
            return Some(Shortage { number });
        }
        state.lowered.pop();
        None
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        let mut state = lock();
        state.lowered.retain(|&(number, _)| number != self.number);
        state.apply();
    }
}

impl State {
    fn apply(&self) -> bool {
        let Some(before) = &self.before else { return false };
        let lowest = self.lowered.iter().map(|&(_, limit)| limit).min();
        let current = lowest.or(before.current);
        // The soft limit alone: raising it again needs no rights.
        setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).is_ok()
    }
}

/// Does something that needs descriptors and is no part of what is tested, with the limit as it was.
pub(crate) fn with_room<R>(act: impl FnOnce() -> R) -> R {
    let state = lock();
    if state.lowered.is_empty() {
        return act();
    }
    if let Some(before) = state.before {
        let _ = setrlimit(Resource::Nofile, before);
    }
    let result = act();
    state.apply();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_low_while_somebody_wants_it_and_as_before_afterwards() {
        let before = getrlimit(Resource::Nofile);
        let now = || getrlimit(Resource::Nofile).current;
        let enough = 400;
        assert!(before.current.is_none_or(|current| current > enough), "a test needs more files than that");
        let first = Shortage::begin(enough).unwrap();
        let second = Shortage::begin(300).unwrap();
        assert_eq!(now(), Some(300), "the lowest one counts");
        with_room(|| assert_eq!(now(), before.current));
        assert_eq!(now(), Some(300));
        drop(second);
        assert_eq!(now(), Some(enough));
        drop(first);
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
