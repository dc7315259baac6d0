//! The name of a stage: what kept runs of it are called by.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Names that one process can know. Kept runs may come from anywhere, and each new name in one stays in memory.
const NAMES_MAX: usize = 4_096;
/// Letters of a name.
const LETTERS_MAX: usize = 60;

/// The name of a stage: 1 to 60 letters, digits, `-` and `_`, because files are called by it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StageName(&'static str);

/// Why a text is no name of a stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StageNameError(String);

impl StageName {
    /// The name that is spelled so.
    ///
    /// # Errors
    /// When it is empty, too long or has other letters; or when this process has seen 4,096 other names.
    pub fn new(text: &str) -> Result<StageName, StageNameError> {
        static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > LETTERS_MAX || !text.bytes().all(legal) {
            return Err(StageNameError(format!(
                "{text:?} cannot name a stage: a name has 1 to {LETTERS_MAX} letters, digits, - and _"
            )));
        }
        // A set of names is whole after every step, also where a thread ended in the middle of something else.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(text) {
            return Ok(StageName(name));
        }
        if known.len() >= NAMES_MAX {
            return Err(StageNameError(format!("{text:?} is one name too many for one process")));
        }
        let name: &'static str = Box::leak(text.to_owned().into_boxed_str());
        known.insert(name);
        Ok(StageName(name))
    }

    /// As it is spelled.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Display for StageNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StageNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_name_and_bad_ones_are_refused() {
        let name = StageName::new("chat-2").unwrap();
        assert_eq!(StageName::new("chat-2"), Ok(name));
        assert_eq!(name.to_string(), "chat-2");
        for bad in ["", "a b", "../up", &"x".repeat(61)] {
            assert!(StageName::new(bad).is_err(), "{bad:?}");
        }
    }
}
