//! Where a run that is made again first differs from what was kept of it.

use std::fmt;

use super::RunLog;
use crate::decision::log::Choice;
use crate::file::shown;
use crate::runner::{Failure, Outcome};
use crate::trace::{CallRecord, TraceEntry};

/// What one of the two did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Side {
    /// It made this call.
    Call(CallRecord),
    /// It decided this, at a site of this name.
    Choice(Choice, String),
    /// It ended like this.
    End(Option<Failure>),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Call(call) => call.fmt(f),
            Side::Choice(choice, site) => {
                let Choice { domain, entity, value, bound, .. } = choice;
                write!(f, "decided {} ({domain} of {entity}): {value} of {bound}", shown(site))
            }
            Side::End(None) => f.write_str("ended well"),
            Side::End(Some(failure)) => {
                write!(f, "ended with {}: {}", failure.oracle, shown(&failure.details))
            }
        }
    }
}

/// The first difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// How many calls the two have in common.
    pub step: u64,
    /// What the kept run did then.
    pub kept: Side,
    /// What this one did.
    pub now: Side,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the first difference comes after {} calls", self.step)?;
        writeln!(f, "  kept  {}", self.kept)?;
        write!(f, "  now   {}", self.now)
    }
}

/// What both must decide alike for the same decision to mean the same: not the value, which may have been brought into range.
fn same_question(kept: (&Choice, &str), now: (&Choice, &str)) -> bool {
    (kept.0.domain, kept.0.entity, kept.0.bound, kept.1) == (now.0.domain, now.0.entity, now.0.bound, now.1)
}

impl RunLog {
    /// Compares a run that was made of this log's decisions with the log. Under the build that made the log, every call and
    /// every decision must be the same. Under another one the sites and bounds of the decisions are compared, and how it ended.
    pub fn first_difference(&self, outcome: &Outcome, strictly: bool) -> Option<Difference> {
        let call = if strictly { self.first_call(outcome) } else { None };
        let choice = self.first_choice(outcome, strictly);
        let earlier = match (call, choice) {
            (Some(call), Some(choice)) if choice.step < call.step => Some(choice),
            (Some(call), _) => Some(call),
            (None, choice) => choice,
        };
        earlier.or_else(|| self.other_end(outcome))
    }

    /// As [`RunLog::first_difference`], in the first calls only, where a number of them is given.
    pub fn first_difference_until(
        &self,
        outcome: &Outcome,
        strictly: bool,
        until: Option<u64>,
    ) -> Option<Difference> {
        let before = |difference: &Difference| until.is_none_or(|until| difference.step < until);
        self.first_difference(outcome, strictly).filter(before)
    }

    /// The last decision that both made alike before they parted, and how many calls had been made by then.
    pub fn last_common_choice(&self, outcome: &Outcome) -> Option<(u64, Side)> {
        let log = outcome.choices.as_ref()?;
        let alike = |&(kept, now): &(&Choice, &Choice)| {
            let question = same_question((kept, self.choices.site(kept)), (now, log.site(now)));
            question && kept.value == now.value && kept.step == now.step
        };
        let step = self.first_difference(outcome, true).map_or(u64::MAX, |difference| difference.step);
        let pairs = self.choices.choices().iter().zip(log.choices());
        let (last, _) = pairs.take_while(alike).take_while(|(kept, _)| kept.step <= step).last()?;
        Some((last.step, Side::Choice(*last, self.choices.site(last).to_owned())))
    }

    fn first_call(&self, outcome: &Outcome) -> Option<Difference> {
        let now = outcome.trace.iter().filter_map(|entry| match entry {
            TraceEntry::Call(call) => Some(call),
            TraceEntry::Note { .. } => None,
        });
        let mut now = now.peekable();
        for (step, kept) in (0..).zip(&self.calls) {
            match now.next() {
                Some(now) if now == kept => {}
                Some(now) => {
                    return Some(Difference { step, kept: Side::Call(*kept), now: Side::Call(*now) });
                }
                None => {
                    let now = Side::End(outcome.failure.clone());
                    return Some(Difference { step, kept: Side::Call(*kept), now });
                }
            }
        }
        let verdict = self.verdict.as_ref()?;
        let now = Side::Call(**now.peek()?);
        Some(Difference { step: self.calls.len() as u64, kept: Side::End(verdict.failure.clone()), now })
    }

    fn first_choice(&self, outcome: &Outcome, strictly: bool) -> Option<Difference> {
        let log = outcome.choices.as_ref()?;
        for (kept, now) in self.choices.choices().iter().zip(log.choices()) {
            let (kept_site, now_site) = (self.choices.site(kept), log.site(now));
            let same = same_question((kept, kept_site), (now, now_site));
            if !same || (strictly && kept.value != now.value) {
                return Some(Difference {
                    step: kept.step.min(now.step),
                    kept: Side::Choice(*kept, kept_site.to_owned()),
                    now: Side::Choice(*now, now_site.to_owned()),
                });
            }
        }
        None
    }

    fn other_end(&self, outcome: &Outcome) -> Option<Difference> {
        let verdict = self.verdict.as_ref()?;
        let oracle = |failure: &Option<Failure>| failure.as_ref().map(|failure| failure.oracle);
        if oracle(&verdict.failure) == oracle(&outcome.failure) {
            return None;
        }
        let step = verdict.steps.min(outcome.steps);
        Some(Difference {
            step,
            kept: Side::End(verdict.failure.clone()),
            now: Side::End(outcome.failure.clone()),
        })
    }
}
