//! A lane: the parts of one kind, one after another.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sim::decision::seed::{Seed, seed_of_run};

use super::board::Board;
use super::child::{self, Terms};
use super::clock::{Elapsed, unix_seconds};
use super::part::{End, Kind, Part, PartResult, Verdict};

/// Runs of a first chunk, before it is known how many fit into a time.
const CHUNK_RUNS_FIRST: u64 = 200;
/// A chunk is as long as this, or as what is left: a failure is told when its chunk ends.
const CHUNK_MS: u64 = 600_000;
/// With less than this left, no further chunk begins.
const CHUNK_MS_MIN: u64 = 2_000;
/// Chunks have the seeds of these runs and up; those below are other parts'.
const CHUNK_SEEDS_FROM: u64 = 1 << 20;

/// The parts of one kind, and what they need.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) board: &'a Board<'a>,
    pub(crate) soak: &'a Path,
    pub(crate) parts: Vec<&'a Part>,
    /// The night's seed.
    pub(crate) seed: Seed,
    pub(crate) grace_seconds: u64,
}

/// What the placeholders of a command stand for.
struct Filling<'a> {
    name: &'a str,
    seed: Seed,
    runs: u64,
}

impl Filling<'_> {
    fn fill(&self, words: &[String]) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{name}", self.name)
                .replace("{seed}", &self.seed.to_string())
                .replace("{runs}", &self.runs.to_string())
        };
        words.iter().map(fill).collect()
    }
}

impl Lane<'_> {
    /// Runs every part that has no result yet.
    pub(crate) fn run(&self) {
        for part in &self.parts {
            if self.board.is_stopping() {
                return;
            }
            if let Some(reason) = &part.left_out {
                if !self.board.has_result(&part.name) {
                    self.board.end(left_out(part, reason));
                }
            } else if part.in_chunks {
                self.run_chunks(part);
            } else if !self.board.has_result(&part.name) {
                let filling = Filling { name: &part.name, seed: self.seed, runs: 0 };
                let begun = part.folder.as_ref().is_some_and(|folder| Path::new(folder).exists());
                let again = begun && !part.command_again.is_empty();
                let words = if again { &part.command_again } else { &part.command };
                self.run_one(part, &part.name, part.limit_seconds, filling.fill(words));
            }
        }
    }

    /// Chunks until the part's share of the time is over. Their sizes come from the clock; what each of them ran is in its
    /// command, and can be run again.
    fn run_chunks(&self, part: &Part) {
        let (spent_before_ms, mut made) = self.board.chunks(&part.name);
        let share_ms = (part.seconds * 1000).saturating_sub(spent_before_ms);
        let elapsed = Elapsed::start();
        let mut runs = CHUNK_RUNS_FIRST;
        loop {
            let left_ms = share_ms.saturating_sub(elapsed.ms());
            if left_ms < CHUNK_MS_MIN || self.board.is_stopping() {
                return;
            }
            let name = format!("{}-{:04}", part.name, made + 1);
            let seed = Seed(seed_of_run(self.seed.0, CHUNK_SEEDS_FROM + made));
            let command = Filling { name: &name, seed, runs }.fill(&part.command);
            let chunk = Elapsed::start();
            self.run_one(part, &name, part.limit_seconds, command);
            // A tenth is left for what a chunk does beside its runs.
            let next_ms = share_ms.saturating_sub(elapsed.ms()).min(CHUNK_MS) * 9 / 10;
            runs = (runs.saturating_mul(next_ms) / chunk.ms().max(1)).max(1);
            made += 1;
        }
    }

    fn run_one(&self, part: &Part, name: &str, limit_seconds: u64, command: Vec<String>) {
        let log = format!("logs/{name}.log");
        let log_path = self.board.folder().path().join(&log);
        let began_unix_s = unix_seconds();
        let elapsed = Elapsed::start();
        let end = match self.prepare(part, &log_path, &command) {
            Err(text) => End { not_started: Some(text), ..End::default() },
            Ok(()) => {
                let terms = Terms {
                    soak: self.soak,
                    limit_seconds,
                    grace_seconds: self.grace_seconds,
                    nice: if part.kind == Kind::Soak { 0 } else { 19 },
                    log: &log_path,
                };
                match child::start(&terms, &command) {
                    Err(error) => End { not_started: Some(error.to_string()), ..End::default() },
                    Ok((kept, lifeline)) => {
                        self.board.begin(part.kind, name, lifeline);
                        kept.end()
                    }
                }
            }
        };
        let (verdict, why) = end.verdict(part.kind, limit_seconds);
        self.board.end(PartResult {
            part: name.to_owned(),
            kind: part.kind,
            verdict,
            why,
            exit_code: end.exit_code,
            signal: end.signal,
            left_behind: end.left_behind,
            began_unix_s,
            took_ms: elapsed.ms(),
            command,
            said: telling_line(part.kind, &log_path),
            log: Some(log),
        });
    }

    /// Makes the folders, and begins the log with what is run.
    fn prepare(&self, part: &Part, log: &Path, command: &[String]) -> Result<(), String> {
        let made =
            |path: PathBuf| fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()));
        part.needs_folders.iter().try_for_each(|folder| made(PathBuf::from(folder)))?;
        made(log.parent().map(Path::to_owned).unwrap_or_default())?;
        // A part that was cut off and runs again keeps what it said the first time.
        let begin =
            || writeln!(fs::OpenOptions::new().create(true).append(true).open(log)?, "{}", command.join(" "));
        begin().map_err(|error| format!("{}: {error}", log.display()))
    }
}

fn left_out(part: &Part, reason: &str) -> PartResult {
    PartResult {
        part: part.name.clone(),
        kind: part.kind,
        verdict: Verdict::LeftOut,
        why: reason.to_owned(),
        exit_code: None,
        signal: None,
        left_behind: 0,
        began_unix_s: unix_seconds(),
        took_ms: 0,
        command: Vec::new(),
        log: None,
        said: String::new(),
    }
}

/// What the end of a log comes to, cut to what fits on a screen.
fn telling_line(kind: Kind, log: &Path) -> String {
    const CHARACTERS_MAX: usize = 300;
    /// More than any line that is worth showing.
    const TAIL_BYTES: u64 = 16 << 10;
    let tail = || -> std::io::Result<Vec<u8>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = tail().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    kind.telling(&text).chars().take(CHARACTERS_MAX).collect()
}
