//! Differences between the live and the simulated kernel that have a reason. Each is a pattern of one step; what no pattern fits is a
//! bug of the simulated kernel.

use super::call::Call;
use super::compare::Difference;

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
pub const TABLE: &[Explained] = &[];

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
