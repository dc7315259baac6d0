//! A part of a night: one command with a share of the time, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a part does. Each kind has a lane of its own, in which its parts run one after another.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A workload on real sockets.
    Soak,
    /// Fresh seeds in the simulator.
    Sweep,
    /// A fuzz target.
    Fuzz,
}

impl Kind {
    /// Every kind, in the order in which lanes are listed.
    pub(crate) const ALL: [Kind; 3] = [Kind::Soak, Kind::Sweep, Kind::Fuzz];
}

impl Kind {
    /// Of what a part of this kind has said, what tells most in one line. The first line is the command, or a part of one.
    pub(crate) fn telling(self, said: &str) -> String {
        let lines = || said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty());
        let last_of =
            |name: &str| lines().filter_map(|line| line.strip_prefix(name)).last().map(str::trim_start);
        let told = match self {
            Kind::Soak => None,
            Kind::Sweep => last_of("runs  ")
                .zip(last_of("failed  "))
                .map(|(runs, failed)| format!("{runs} runs, {failed} failed")),
            Kind::Fuzz => {
                let panicked = lines().skip_while(|line| !line.contains(" panicked at ")).nth(1);
                panicked.map(str::to_owned).or_else(|| last_of("Done ").map(|done| format!("Done {done}")))
            }
        };
        told.unwrap_or_else(|| lines().last().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Soak => "soak",
            Kind::Sweep => "sweep",
            Kind::Fuzz => "fuzz",
        })
    }
}

/// A row of the table of parts. In its command `{name}`, `{seed}` and `{runs}` are filled in when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Unique in the night; names the log, too. Letters, digits and `-`.
    pub(crate) name: String,
    /// What it does.
    pub(crate) kind: Kind,
    /// Its share of the time.
    pub(crate) seconds: u64,
    /// After this long it is stopped, and has failed.
    pub(crate) limit_seconds: u64,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// A folder that the command makes. When it is there already, `command_again` goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
    /// The command for a part that was cut off, where it is another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command_again: Vec<String>,
    /// Folders that the command needs, made before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs_folders: Vec<String>,
    /// Made in chunks, with another seed each, until its share of the time is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_chunks: bool,
    /// Why it cannot run on this machine; it is then reported as left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<String>,
}

/// Time beyond its share that a part may take: to begin, to end its last piece of work, to write down what it found.
const OVERTIME_SECONDS: u64 = 60;

impl Part {
    /// A part that is run once, to its end. Its name is these words, with `-` between them.
    pub(crate) fn new<'a>(
        name: impl IntoIterator<Item = &'a str>,
        kind: Kind,
        seconds: u64,
        command: Vec<String>,
    ) -> Part {
        Part {
            name: name.into_iter().collect::<Vec<_>>().join("-"),
            kind,
            seconds,
            limit_seconds: seconds + seconds / 10 + OVERTIME_SECONDS,
            command,
            folder: None,
            command_again: Vec::new(),
            needs_folders: Vec::new(),
            in_chunks: false,
            left_out: None,
        }
    }
}

/// How a part ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It ran to its end and found nothing.
    Passed,
    /// It found something, crashed, hung, or could not start.
    Failed,
    /// It cannot run on this machine. Never counted as passed.
    LeftOut,
    /// It was stopped together with the night; a resumed night runs it again.
    Interrupted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::LeftOut => "left out",
            Verdict::Interrupted => "interrupted",
        })
    }
}

/// A line of `parts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartResult {
    /// The part's name; a chunk's has its number behind it.
    pub(crate) part: String,
    /// What it did.
    pub(crate) kind: Kind,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// The same in words; empty when it passed.
    pub(crate) why: String,
    /// What the command returned, if it returned.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// Processes that were still there after the command's end, and were ended.
    pub(crate) left_behind: u32,
    /// When it began, in seconds since 1970.
    pub(crate) began_unix_s: u64,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: u64,
    /// The command as it was run.
    pub(crate) command: Vec<String>,
    /// Its log, from the night's folder; absent when nothing was started.
    pub(crate) log: Option<String>,
    /// The last line of the log.
    pub(crate) said: String,
}

/// How a command ended, as its keeper tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Why it could not be started; then nothing else is set.
    pub(crate) not_started: Option<String>,
    /// What it returned, if it returned.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// It was stopped because its limit was over.
    pub(crate) late: bool,
    /// It was stopped together with the night.
    pub(crate) asked: bool,
    /// It did not end when asked, and was killed.
    pub(crate) killed: bool,
    /// Processes that were still there after its end.
    pub(crate) left_behind: u32,
}

impl End {
    /// The verdict on a part of this kind with a limit of `limit_seconds`, and the reason in words.
    pub(crate) fn verdict(&self, kind: Kind, limit_seconds: u64) -> (Verdict, String) {
        if let Some(text) = &self.not_started {
            return (Verdict::Failed, format!("could not start: {text}"));
        }
        if self.late {
            let killed = if self.killed { ", and did not stop when asked" } else { "" };
            return (Verdict::Failed, format!("did not end within its limit of {limit_seconds} s{killed}"));
        }
        // What was found before the interrupt counts: only the codes for "interrupted" and a kill say nothing.
        let is_interrupt_code =
            matches!((kind, self.exit_code), (_, Some(130)) | (Kind::Fuzz, Some(72)) | (_, Some(0)));
        if self.asked && (self.killed || self.signal == Some(2) || is_interrupt_code) {
            return (Verdict::Interrupted, "the night was stopped".to_owned());
        }
        match (self.exit_code, self.signal) {
            (Some(0), _) => (Verdict::Passed, String::new()),
            (Some(code), _) => (Verdict::Failed, format!("{} (exit code {code})", meaning(kind, code))),
            (None, Some(signal)) => (Verdict::Failed, format!("ended by signal {signal}")),
            (None, None) => (Verdict::Failed, "its keeper ended without telling how it went".to_owned()),
        }
    }
}

/// What an exit code says, for a kind of part.
fn meaning(kind: Kind, code: i32) -> &'static str {
    match (kind, code) {
        (Kind::Fuzz, 77 | 1) => "the target found a failing input",
        (Kind::Fuzz, 70) => "an input took too long",
        (Kind::Fuzz, 71) => "an input took too much memory",
        (Kind::Fuzz, 72) => "somebody else interrupted it",
        (Kind::Fuzz, _) => "the fuzzer ended otherwise",
        (_, 1) => "an invariant was broken",
        (_, 2) => "its command line was refused",
        (_, 3) => "something that was owed did not come",
        (Kind::Soak, 4) => "something kept growing",
        (_, 4 | 101) => "a panic",
        (_, 5) => "two runs of one seed differed",
        (_, 6) => "it did not reproduce",
        (_, 7) => "the machine refused",
        (_, 130) => "somebody else interrupted it",
        _ => "it ended otherwise",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(code: i32) -> End {
        End { exit_code: Some(code), ..End::default() }
    }

    #[test]
    fn only_code_zero_passes() {
        for kind in Kind::ALL {
            for code in 0..=255 {
                let (verdict, why) = returned(code).verdict(kind, 10);
                assert_eq!(verdict == Verdict::Passed, code == 0, "{kind} {code}");
                assert_eq!(why.is_empty(), code == 0, "{kind} {code}");
            }
        }
    }

    #[test]
    fn a_part_that_failed_before_the_night_was_stopped_has_failed() {
        let asked = |code| End { asked: true, ..returned(code) };
        assert_eq!(asked(1).verdict(Kind::Soak, 10).0, Verdict::Failed);
        assert_eq!(asked(77).verdict(Kind::Fuzz, 10).0, Verdict::Failed);
        assert_eq!(asked(130).verdict(Kind::Sweep, 10).0, Verdict::Interrupted);
        assert_eq!(asked(72).verdict(Kind::Fuzz, 10).0, Verdict::Interrupted);
        // Cut short, so not all of its share was run.
        assert_eq!(asked(0).verdict(Kind::Soak, 10).0, Verdict::Interrupted);
        let crashed = End { asked: true, signal: Some(11), ..End::default() };
        assert_eq!(crashed.verdict(Kind::Soak, 10).0, Verdict::Failed);
    }

    #[test]
    fn an_end_that_says_nothing_is_a_failure() {
        assert_eq!(End::default().verdict(Kind::Soak, 10).0, Verdict::Failed);
    }

    #[test]
    fn what_a_part_said_comes_to_one_line() {
        let sweep =
            "sim run\nruns                   578,649\nfailed                       0\nfaults   runs on\n";
        assert_eq!(Kind::Sweep.telling(sweep), "578,649 runs, 0 failed");
        assert_eq!(Kind::Sweep.telling("sim run\nno such option\n\n"), "no such option");
        let fuzz = "fuzz\n#1 NEW\nDone 70 runs in 2 second(s)\nstat::peak_rss_mb: 33\n";
        assert_eq!(Kind::Fuzz.telling(fuzz), "Done 70 runs in 2 second(s)");
        let found =
            "fuzz\nthread '<unnamed>' (3) panicked at a.rs:8:3:\n\na wrong byte\nstat::peak_rss_mb: 33\n";
        assert_eq!(Kind::Fuzz.telling(found), "a wrong byte");
        assert_eq!(Kind::Soak.telling("soak run\npass: 8 episodes\n"), "pass: 8 episodes");
        assert_eq!(Kind::Soak.telling("soak run\n"), "");
    }
}
