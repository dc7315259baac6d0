//! One script from arbitrary bytes: what the fuzz target calls.

#[cfg(target_os = "linux")]
use super::compare::{Outcome, Reference};
#[cfg(target_os = "linux")]
use super::{explained, shrink};
use super::{generate, observe_simulated, script_text};
use crate::decision::Decisions;
use crate::world::WorldOptions;

/// Makes a script from the bytes, and compares both kernels on it. Elsewhere than on Linux there is nothing to compare with.
///
/// # Panics
/// If the simulated kernel answers otherwise than the live one, for no known reason; the message holds the shrunk script.
pub fn check_bytes(bytes: &[u8]) {
    #[cfg(target_os = "linux")]
    {
        let options = WorldOptions::default();
        let calls = generate(&mut Decisions::from_bytes(bytes));
        let live = crate::script::live::Live::new().expect("a process may handle signals");
        let mut reference = Reference::new(live, 2).expect("a process may make descriptors");
        let (calls, outcome) = reference.compare_available(calls, &options);
        let Outcome::Different(difference) = outcome else { return };
        if explained::explanation(&calls, &difference).is_some()
            || !reference.is_steady(&calls[..=difference.step])
        {
            return;
        }
        let shrunk = shrink(&mut reference, &options, &calls, difference);
        if explained::explanation(&shrunk.calls, &shrunk.difference).is_some() {
            return;
        }
        let signature = shrunk.difference.signature();
        let text = script_text(&signature, &shrunk.calls, &shrunk.answers);
        panic!("the simulated kernel differs: {}\n{text}", shrunk.difference);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// The script that the bytes make, with the simulated kernel's answers.
pub fn tell_bytes(bytes: &[u8]) -> String {
    let calls = generate(&mut Decisions::from_bytes(bytes));
    let options = WorldOptions::default();
    let answers = observe_simulated(&calls, &options);
    script_text("with the answers of the simulated kernel", &calls, &answers)
}
