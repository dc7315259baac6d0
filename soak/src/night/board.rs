//! What the lanes of a night share: which parts are running, which have ended, and whether to go on.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard};

use super::child::Lifeline;
use super::clock::{Elapsed, span};
use super::folder::Folder;
use super::part::{Kind, PartResult, Verdict};
use crate::{Failure, say};

/// Shared by reference among the lanes' threads.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    folder: &'a Folder,
    /// Lines instead of an object at the end.
    is_talking: bool,
    elapsed: Elapsed,
    seconds: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<Kind, (String, Option<Lifeline>)>,
    ended: Vec<PartResult>,
    is_stopping: bool,
    /// Why the night cannot go on, beside an interrupt.
    trouble: Option<Failure>,
    has_status_line: bool,
}

impl<'a> Board<'a> {
    pub(crate) fn new(
        folder: &'a Folder,
        seconds: u64,
        is_talking: bool,
        results: Vec<PartResult>,
    ) -> Board<'a> {
        let state = State { ended: results, ..State::default() };
        Board { folder, is_talking, elapsed: Elapsed::start(), seconds, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no lane panics while it holds the board")
    }

    pub(crate) fn folder(&self) -> &Folder {
        self.folder
    }

    /// Whether no further part may begin.
    pub(crate) fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    /// Whether this part has a result that stands.
    pub(crate) fn has_result(&self, part: &str) -> bool {
        let state = self.state();
        let last = state.ended.iter().rfind(|result| result.part == part);
        last.is_some_and(|result| result.verdict != Verdict::Interrupted)
    }

    /// Milliseconds that the finished chunks of this part have taken, and how many they are. A chunk that was interrupted is
    /// made again.
    pub(crate) fn chunks(&self, part: &str) -> (u64, u64) {
        let state = self.state();
        let is_chunk = |name: &str| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('-'));
        let chunks = state
            .ended
            .iter()
            .filter(|result| is_chunk(&result.part) && result.verdict != Verdict::Interrupted);
        chunks.fold((0, 0), |(ms, count), result| (ms + result.took_ms, count + 1))
    }

    /// Puts a running part on the board. If the night is being stopped, so is the part.
    pub(crate) fn begin(&self, kind: Kind, part: &str, mut lifeline: Lifeline) {
        let mut state = self.state();
        if state.is_stopping {
            lifeline.interrupt();
        }
        state.running.insert(kind, (part.to_owned(), Some(lifeline)));
        self.line(&mut state, &format!("begins: {part}"));
    }

    /// Takes a part off the board, and keeps and tells its result.
    pub(crate) fn end(&self, result: PartResult) {
        let mut state = self.state();
        state.running.remove(&result.kind);
        if let Err(failure) = self.folder.add(&result) {
            self.stop_with(&mut state, failure);
        }
        let mut text = format!("{}: {} ({} s)", result.verdict, result.part, result.took_ms / 1000);
        if !result.why.is_empty() {
            text.push_str(&format!(": {}", result.why));
        }
        if result.left_behind > 0 {
            text.push_str(&format!("; left {} processes behind, which were ended", result.left_behind));
        }
        if let (Verdict::Failed, Some(log)) = (result.verdict, &result.log) {
            text.push_str(&format!("\n    log: {}", self.folder.path().join(log).display()));
            if !result.said.is_empty() {
                text.push_str(&format!("\n    it said: {}", result.said));
            }
        }
        self.line(&mut state, &text);
        state.ended.push(result);
    }

    /// Asks every part to end, and lets no other begin.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        self.line(&mut state, "stopping every part; once more leaves at once");
        Board::ask_all(&mut state);
    }

    /// The same, because the night cannot go on.
    pub(crate) fn give_up(&self, failure: Failure) {
        self.stop_with(&mut self.state(), failure);
    }

    fn stop_with(&self, state: &mut State, failure: Failure) {
        if state.trouble.is_none() {
            self.line(state, &format!("stopping every part: {}", failure.text()));
            state.trouble = Some(failure);
        }
        Board::ask_all(state);
    }

    fn ask_all(state: &mut State) {
        state.is_stopping = true;
        for (_, lifeline) in state.running.values_mut() {
            if let Some(lifeline) = lifeline {
                lifeline.interrupt();
            }
        }
    }

    /// What is running, and what has ended: over and over on one line of a terminal, else a line of its own.
    pub(crate) fn status(&self) {
        let mut state = self.state();
        let running: Vec<&str> = state.running.values().map(|(part, _)| part.as_str()).collect();
        let count = |verdict| state.ended.iter().filter(|result| result.verdict == verdict).count();
        let text = format!(
            "{} of {}  {} passed, {} failed  running: {}",
            span(self.elapsed.seconds()),
            span(self.seconds),
            count(Verdict::Passed),
            count(Verdict::Failed),
            running.join(", ")
        );
        if !self.is_talking {
            return;
        }
        if is_terminal() {
            // Cut by the terminal's own width rather than wrapped: a wrapped line cannot be written over.
            eprint!("\r\x1b[?7l{text}\x1b[K\x1b[?7h");
            state.has_status_line = true;
        } else {
            let _ = say(&text);
        }
    }

    fn line(&self, state: &mut State, text: &str) {
        if std::mem::take(&mut state.has_status_line) {
            eprint!("\r\x1b[K");
        }
        if self.is_talking {
            // A reader that has gone away does not end the night; everything is in the folder, too.
            let _ = say(&format!("{}  {text}", span(self.elapsed.seconds())));
        }
    }

    /// The results, and why the night was given up, if it was.
    pub(crate) fn finish(self) -> (Vec<PartResult>, Option<Failure>) {
        let mut state = self.state.into_inner().expect("no lane panics while it holds the board");
        if std::mem::take(&mut state.has_status_line) {
            eprint!("\r\x1b[K");
        }
        (state.ended, state.trouble)
    }
}

/// Whether there is somebody to look at a line that changes.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}
