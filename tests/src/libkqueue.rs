//! Cases that need the C library `libkqueue`.

use std::io::Write as _;

/// Whether the library can be loaded; if not, says which case is skipped and why, also where output is captured.
pub fn is_here(case: &str) -> bool {
    match reactor::sys::libkqueue::missing() {
        None => true,
        Some(problem) => {
            // In one write, since cases run side by side. Standard error may be gone; the case is skipped all the same.
            let line = format!("{case}: skipped, libkqueue is not here: {problem}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            false
        }
    }
}
