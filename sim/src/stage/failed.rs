//! Why a check failed, as a test prints it.

use std::fmt;
use std::path::PathBuf;

use crate::decision::seed::Seed;
use crate::runner::Failure;
use crate::story::Story;

/// Why a [`super::Check`] failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The variables `SIM_...` make no sense, or a file that they name cannot be used.
    Asked,
    /// A run failed.
    Run {
        /// What was wrong.
        failure: Failure,
        /// Its seed; absent for a kept run.
        seed: Option<Seed>,
        /// Where the smallest run that fails in the same way is kept, if it could be.
        kept: Option<PathBuf>,
        /// That smallest run in words, if it was looked for.
        story: Option<Story>,
    },
    /// Something that has to happen sometimes never did: what, in its own words.
    NeverHappened(Vec<String>),
}

/// A check that failed. What it prints is everything that a test has to say, so `unwrap` is enough.
#[derive(Clone, PartialEq, Eq)]
pub struct Failed {
    reason: Reason,
    text: String,
}

impl Failed {
    pub(super) fn new(reason: Reason, text: String) -> Box<Failed> {
        Box::new(Failed { reason, text })
    }

    pub(super) fn asked(text: impl fmt::Display) -> Box<Failed> {
        Failed::new(Reason::Asked, text.to_string())
    }

    /// Why it failed.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What was wrong with the run that failed, if one did.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.reason {
            Reason::Run { failure, .. } => Some(failure),
            Reason::Asked | Reason::NeverHappened(_) => None,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As it is shown, because `unwrap` prints this.
impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Failed {}
