//! A failing run in words: who did what, in order, at most a dozen lines.
//!
//! What every run does - clocks, options, registrations - is left out; calls of one loop in a row share a line, and so do connects of
//! several; repeated calls are counted. Where there is more than fits, the middle goes: how it began and how it came to its end stay,
//! and reads of pieces that nobody sent as such. Last come the loops that sleep through something, and the step at which the
//! invariant broke.

use std::collections::BTreeSet;
use std::fmt;

use reactor::time::Instant;

use crate::aftermath::{Sleeper, counted};
use crate::decision::Domain;
use crate::decision::log::ChoiceLog;
use crate::runner::{Failure, Outcome};
use crate::schedule::ThreadId;
use crate::trace::{CallKind, CallRecord, Outcome as Answer, TraceEntry};

/// Lines of a story, the first and the last included.
pub const LINES_MAX: usize = 12;
/// Decisions that are named.
const DECISIONS_MAX: usize = 3;
/// Sleeping loops that are named.
const SLEEPERS_MAX: usize = 2;
/// Deeds that share a line.
const DEEDS_MAX: usize = 5;
/// Deeds of the beginning that stay when the middle goes.
const BEGINNING: usize = 2;
/// Deeds of the end that stay then.
const ENDING: usize = 3;

/// One thing that somebody did, in words.
#[derive(Clone, Debug)]
struct Deed {
    step: u64,
    at: Instant,
    /// Who; `None` for the world.
    actor: Option<ThreadId>,
    text: String,
    times: u64,
    /// It reads as many bytes as nobody had sent at once: the network cut what was sent, or joined it.
    is_of_a_piece: bool,
}

impl Deed {
    fn connects(&self) -> bool {
        self.text.starts_with("connects ")
    }
}

/// One line of the middle of a story.
#[derive(Clone, Debug)]
struct Line {
    step: u64,
    text: String,
    /// It says what went wrong, and stays whatever else goes.
    guilty: bool,
    /// One of its deeds is of a piece.
    is_of_a_piece: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.guilty { "  <--" } else { "" };
        write!(f, "step {:<5} {}{mark}", self.step, self.text)
    }
}

/// As many lines as there is room for: the guilty ones, what came just before each of them, how it began, how it ended, and of the
/// others the last ones, first of those that read a piece. A gap takes a line too.
fn fitting(told: &[Line], room: usize) -> Vec<String> {
    if told.len() <= room {
        return told.iter().map(ToString::to_string).collect();
    }
    let guilty = (0..told.len()).filter(|&place| told[place].guilty);
    let ahead_of_guilty = guilty.clone().flat_map(|place| [place.saturating_sub(1), place.saturating_sub(2)]);
    let from_the_end = || (0..told.len()).rev();
    let wanted = guilty
        .chain(ahead_of_guilty)
        .chain(0..BEGINNING)
        .chain(from_the_end().take(ENDING))
        .chain(from_the_end().filter(|&place| told[place].is_of_a_piece))
        .chain(from_the_end());
    let mut chosen = BTreeSet::new();
    for place in wanted {
        chosen.insert(place);
        if chosen.len() + gaps(&chosen, told.len()) > room {
            chosen.remove(&place);
        }
    }
    let mut lines = Vec::new();
    let mut next = 0;
    for place in chosen {
        if place > next {
            lines.push(format!("           ... {} more ...", counted((place - next) as u64, "line")));
        }
        lines.push(told[place].to_string());
        next = place + 1;
    }
    if next < told.len() {
        lines.push(format!("           ... {} more ...", counted((told.len() - next) as u64, "line")));
    }
    lines
}

/// How many gaps lie between the chosen places, and at either end.
fn gaps(chosen: &BTreeSet<usize>, length: usize) -> usize {
    let mut next = 0;
    let mut found = 0;
    for &place in chosen {
        found += usize::from(place > next);
        next = place + 1;
    }
    found + usize::from(next < length)
}

/// A failing run, told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    lines: Vec<String>,
}

impl Story {
    /// Tells a run that was recorded.
    pub fn of(outcome: &Outcome, failure: &Failure) -> Story {
        let mut lines = vec![opening(outcome)];
        lines.extend(decisions(outcome.choices.as_ref()));
        let room = LINES_MAX - 1 - lines.len();
        let mut told = paragraphs(outcome, failure.step);
        told.extend(sleepers(outcome, failure.step));
        told.sort_by_key(|line| line.step);
        lines.extend(fitting(&told, room));
        let ending = format!("{}: {}", failure.oracle, first_line(&failure.details));
        lines
            .push(Line { step: failure.step, text: ending, guilty: false, is_of_a_piece: false }.to_string());
        Story { lines }
    }

    /// The lines, at most [`LINES_MAX`].
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.is_empty()).unwrap_or_default()
}

fn opening(outcome: &Outcome) -> String {
    let faults: Vec<String> = outcome
        .faults
        .iter()
        .filter(|&(_, count)| count > 0)
        .map(
            |(kind, count)| {
                if count == 1 { kind.name().to_owned() } else { format!("{} x{count}", kind.name()) }
            },
        )
        .collect();
    let faults = match faults.len() {
        0 => "no faults".to_owned(),
        1..=4 => faults.join(", "),
        more => format!("{}, and {} more kinds of fault", faults[..3].join(", "), more - 3),
    };
    format!("{} on {}, {} weather, {faults}", outcome.workload, outcome.kernel, outcome.weather)
}

/// What was decided and is not benign, where that is little enough to be named.
fn decisions(log: Option<&ChoiceLog>) -> Option<String> {
    let log = log?;
    let told = |domain| !matches!(domain, Domain::Setup | Domain::Swarm | Domain::Schedule);
    let decisive: Vec<_> = log.choices().iter().filter(|choice| choice.value != 0).collect();
    let (setup, others): (Vec<_>, Vec<_>) = decisive.iter().copied().partition(|choice| !told(choice.domain));
    let named: Vec<String> = setup
        .iter()
        .chain(&others)
        .take(DECISIONS_MAX)
        .map(|choice| format!("{} = {} of {}", log.site(choice), choice.value, choice.bound))
        .collect();
    if named.is_empty() {
        return None;
    }
    let more = decisive.len() - named.len();
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    Some(format!("           drawn: {}{more}", named.join(", ")))
}

fn name_of(outcome: &Outcome, thread: ThreadId) -> String {
    outcome.cast.get(thread.0 as usize).cloned().unwrap_or_else(|| format!("thread {}", thread.0))
}

/// Loops that sleep though there is something to do.
fn sleepers(outcome: &Outcome, until: u64) -> Vec<Line> {
    let tell = |sleeper: &Sleeper| {
        // No call comes after the one at which it failed.
        let step = (last_step_of(outcome, sleeper) + 1).min(until);
        let until = match sleeper.until {
            None => "without end".to_owned(),
            Some(until) => format!("until {}", seconds(until)),
        };
        let waiting: Vec<String> = sleeper.waiting.iter().map(ToString::to_string).collect();
        let name = name_of(outcome, sleeper.thread);
        let text = format!("{name} goes to sleep {until}, with {}", waiting.join(", "));
        Line { step, text, guilty: true, is_of_a_piece: false }
    };
    outcome.oversleepers.iter().take(SLEEPERS_MAX).map(tell).collect()
}

/// The last call that a loop made before it went to sleep.
fn last_step_of(outcome: &Outcome, sleeper: &Sleeper) -> u64 {
    let mut calls = outcome.trace.iter().rev().filter_map(|entry| match entry {
        TraceEntry::Call(call) if call.thread == sleeper.thread && call.ended <= sleeper.since => {
            Some(call.step)
        }
        _ => None,
    });
    calls.next().unwrap_or(0)
}

fn seconds(at: Instant) -> String {
    let ns = at.as_ns();
    format!("{}.{:06} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000)
}

/// Deeds of the same doer in a row, a line each.
fn paragraphs(outcome: &Outcome, until: u64) -> Vec<Line> {
    let mut deeds: Vec<Deed> = Vec::new();
    let mut sent: BTreeSet<u64> = BTreeSet::new();
    let mut step = 0;
    for entry in &outcome.trace {
        let deed = match entry {
            TraceEntry::Call(call) => {
                step = call.step;
                if step > until {
                    break;
                }
                let is_of_a_piece = match (call.call, call.outcome) {
                    (CallKind::Send | CallKind::Sendmsg, Answer::Value(count)) => {
                        sent.insert(count);
                        false
                    }
                    (CallKind::Recv, Answer::Value(count)) => count > 0 && !sent.contains(&count),
                    _ => false,
                };
                deed_of(call).map(|deed| Deed { is_of_a_piece, ..deed })
            }
            TraceEntry::Note { at, text } => worth_telling(text).then(|| Deed {
                step,
                at: *at,
                actor: None,
                text: text.clone(),
                times: 1,
                is_of_a_piece: false,
            }),
        };
        let Some(deed) = deed else { continue };
        match deeds.last_mut() {
            Some(last) if last.actor == deed.actor && last.text == deed.text => last.times += 1,
            _ => deeds.push(deed),
        }
    }
    let mut lines = Vec::new();
    for group in grouped(&deeds) {
        let first = &group[0];
        let mut doer = None;
        let tell = |deed: &Deed| {
            let is_new = doer != deed.actor;
            doer = deed.actor;
            let named = deed.actor.filter(|_| is_new);
            let mut words = named.map_or_else(String::new, |thread| name_of(outcome, thread) + " ");
            words += &deed.text;
            if deed.times > 1 {
                words += &format!(" ({} times)", deed.times);
            }
            words
        };
        let words: Vec<String> = group.iter().map(tell).collect();
        let text = format!("{} {}", seconds(first.at), words.join(", "));
        let is_of_a_piece = group.iter().any(|deed| deed.is_of_a_piece);
        lines.push(Line { step: first.step, text, guilty: false, is_of_a_piece });
    }
    lines
}

fn grouped(deeds: &[Deed]) -> Vec<&[Deed]> {
    let mut groups = Vec::new();
    let mut start = 0;
    for place in 1..=deeds.len() {
        let ends = place == deeds.len()
            || place - start == DEEDS_MAX
            || deeds[start].actor.is_none()
            || (deeds[place].actor != deeds[place - 1].actor
                && !(deeds[start..=place].iter().all(Deed::connects)));
        if ends {
            groups.push(&deeds[start..place]);
            start = place;
        }
    }
    groups
}

/// Notes about trouble; arrivals and events show in what the loops do about them.
fn worth_telling(note: &str) -> bool {
    let routine =
        ["event ", "change ", "bytes up to", "violation of", "FAILED", "actor ", "eventfd of", "user event"];
    !routine.iter().any(|prefix| note.starts_with(prefix))
}

/// What a call does, if it says something about this run.
fn deed_of(call: &CallRecord) -> Option<Deed> {
    let fd = call.fd;
    let asked = call.arguments[0];
    let text = match (call.call, call.outcome) {
        (CallKind::Connect, Answer::Error(error)) if error.name() == "EINPROGRESS" => {
            format!("connects fd{fd}")
        }
        (CallKind::Connect, Answer::Value(_)) => format!("has fd{fd} connected"),
        (CallKind::Accept4, Answer::Value(new)) => format!("accepts fd{new}"),
        (CallKind::Recv, Answer::Value(0)) => format!("reads the end of fd{fd}"),
        (CallKind::Recv, Answer::Value(count)) => format!("reads {} from fd{fd}", counted(count, "byte")),
        (CallKind::Send | CallKind::Sendmsg, Answer::Value(count)) if count < asked => {
            format!("sends {count} of {} on fd{fd}", counted(asked, "byte"))
        }
        (CallKind::Send | CallKind::Sendmsg, Answer::Value(count)) => {
            format!("sends {} on fd{fd}", counted(count, "byte"))
        }
        (CallKind::Shutdown, Answer::Value(_)) => format!("ends its side of fd{fd}"),
        (CallKind::Close, Answer::Value(_)) => format!("closes fd{fd}"),
        (CallKind::TakeSocketError, Answer::Value(number)) if number > 0 => {
            format!("takes the error of fd{fd}")
        }
        (CallKind::EpollWait | CallKind::Kevent, Answer::Value(0)) if asked != 0 => {
            let slept_ns = call.ended.saturating_ns_since(call.began);
            (slept_ns >= 1_000_000).then(|| "hears of nothing until its timeout".to_owned())?
        }
        (CallKind::EpollWait | CallKind::Kevent | CallKind::ClockGettime, _) => return None,
        (kind, Answer::Error(error)) if error.name() != "EAGAIN" => {
            format!("{} of fd{fd} fails: {}", kind.name(), error.name())
        }
        (CallKind::Accept4, Answer::Error(_)) => return None,
        (kind @ (CallKind::Recv | CallKind::Send | CallKind::Sendmsg), Answer::Error(error)) => {
            format!("{} on fd{fd}: {}", kind.name(), error.name())
        }
        _ => return None,
    };
    Some(Deed {
        step: call.step,
        at: call.ended,
        actor: Some(call.thread),
        text,
        times: 1,
        is_of_a_piece: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64, pieces: &[u64]) -> Vec<Line> {
        let line = |step| Line {
            step,
            text: format!("does {step}"),
            guilty: false,
            is_of_a_piece: pieces.contains(&step),
        };
        (0..count).map(line).collect()
    }

    fn steps(told: &[Line], room: usize) -> Vec<String> {
        let words = |line: String| line.split_whitespace().last().unwrap_or_default().to_owned();
        fitting(told, room).into_iter().map(words).collect()
    }

    #[test]
    fn where_the_middle_goes_what_was_read_in_pieces_stays() {
        assert_eq!(steps(&lines(14, &[]), 8), ["0", "1", "...", "9", "10", "11", "12", "13"]);
        assert_eq!(steps(&lines(14, &[4, 6]), 9), ["0", "1", "...", "6", "...", "10", "11", "12", "13"]);
        assert_eq!(steps(&lines(14, &[2]), 8), ["0", "1", "2", "...", "10", "11", "12", "13"]);
    }

    #[test]
    fn a_guilty_line_stays_before_everything_else() {
        let mut told = lines(14, &[4]);
        told[7].guilty = true;
        let left = steps(&told, 8);
        assert!(["5", "6", "<--"].iter().all(|step| left.contains(&(*step).to_owned())), "{left:?}");
    }
}
