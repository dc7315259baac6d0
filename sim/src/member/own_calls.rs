//! What a loop's calls say about the loop itself: descriptors that it holds beside those of its connections, and errors that
//! only a mistake of its own brings. Who drives a loop on real sockets counts both while it runs, and a replay counts them
//! again.

use crate::workload::Breach;

/// Errors, by name, that a loop without mistakes never gets, whatever the world does.
pub const IMPOSSIBLE_ERRORS: [&str; 5] = ["EBADF", "EFAULT", "ENOTSOCK", "EEXIST", "ENOENT"];

/// What a loop is ended with when it holds more descriptors than it has use for.
pub const DESCRIPTOR_LEAK: &str = "descriptor-leak";

/// The descriptors of one loop.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// Beside those of connections and listeners.
    fixed: i64,
}

impl Descriptors {
    /// Those of a loop that has just been made, with `open` descriptors for `live` connections and listeners and itself.
    pub fn of_new_loop(open: i64, live: usize) -> Descriptors {
        Descriptors { fixed: open - signed(live) }
    }

    /// Looks at the loop between two turns.
    ///
    /// # Errors
    /// `descriptor-leak` when it holds more descriptors than it has connections and listeners and began with.
    pub fn check(self, open: i64, live: usize) -> Result<(), Breach> {
        let leaked = open - self.fixed - signed(live);
        if leaked <= 0 {
            return Ok(());
        }
        let details =
            format!("{leaked} descriptors are open beside those of {live} connections and the loop's own");
        Err(Breach::new(DESCRIPTOR_LEAK, details))
    }
}

/// Looks at a loop that has ended, with `open` descriptors and these errors of its calls, by name: it leaves no descriptor
/// behind, and has never used one that was not its own.
///
/// # Errors
/// `descriptor-leak` and `impossible-event`, when that is not so.
pub fn check_end<'a>(open: i64, errors: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), Breach> {
    if open != 0 {
        let details = format!("the loop has ended, and {open} of its descriptors are still open");
        return Err(Breach::new(DESCRIPTOR_LEAK, details));
    }
    match errors.into_iter().find(|(name, count)| *count > 0 && IMPOSSIBLE_ERRORS.contains(name)) {
        Some((name, count)) => {
            let details = format!("{count} calls answered {name}, which says that the loop itself is wrong");
            Err(Breach::new("impossible-event", details))
        }
        None => Ok(()),
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_holds_its_own_descriptors_and_one_for_each_connection() {
        let descriptors = Descriptors::of_new_loop(4, 1);
        assert_eq!(descriptors.check(4, 1), Ok(()));
        assert_eq!(descriptors.check(13, 10), Ok(()));
        // Accepted and not yet released, or given up in reserve: fewer is no leak.
        assert_eq!(descriptors.check(12, 10), Ok(()));
        let breach = descriptors.check(14, 10).unwrap_err();
        assert_eq!(breach.invariant, "descriptor-leak");
        assert!(breach.details.starts_with("1 descriptors are open"), "{breach:?}");
    }

    #[test]
    fn a_loop_that_has_ended_leaves_nothing_and_asked_for_nothing_impossible() {
        assert_eq!(check_end(0, [("ECONNRESET", 7), ("EBADF", 0)]), Ok(()));
        assert_eq!(check_end(2, []).unwrap_err().invariant, "descriptor-leak");
        assert_eq!(check_end(0, [("EMFILE", 1), ("EBADF", 1)]).unwrap_err().invariant, "impossible-event");
    }
}
