//! What is recorded of an episode, and where recordings go when something is wrong.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reactor::Config;
use reactor::sys::Readiness;
use sim::decision::seed::Seed;
use sim::member::Role;
use sim::recording::{Budget, ChunkPool, Failure, Journal, LoopLog, Plan, Recording, Verdict};

use crate::run::Seat;

/// How many recordings are kept in memory: of the episode that failed, and of the one before it.
const KEPT: usize = 2;

/// How many recordings of one name a folder may hold.
const COPIES_MAX: u32 = 1000;

/// The journals of an episode under way.
pub(crate) struct EpisodeRecord {
    recording: Recording,
    readiness: Readiness,
    budget: Budget,
    grown: Mutex<Grown>,
}

#[derive(Default)]
struct Grown {
    journals: Vec<(LoopLog, Journal)>,
    verdict: Verdict,
}

impl EpisodeRecord {
    /// An empty record, whose bound is that of `budget`.
    pub(crate) fn new(
        plan: Plan,
        nobody: SocketAddr,
        config: &Config,
        readiness: Readiness,
        budget: Budget,
    ) -> EpisodeRecord {
        let recording = Recording::new(plan, nobody, config);
        EpisodeRecord { recording, readiness, budget, grown: Mutex::default() }
    }

    fn grown(&self) -> MutexGuard<'_, Grown> {
        self.grown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal of a loop that is about to be made, and is told these addresses of the services.
    pub(crate) fn journal(&self, role: Role, index: usize, seat: Seat, addresses: &[SocketAddr]) -> Journal {
        let journal = Journal::new(&self.budget);
        let index = u32::try_from(index).expect("loops are counted in hundreds");
        let mut log = LoopLog::empty(role, index, self.readiness, addresses.to_vec());
        (log.incarnation, log.shared) = (seat.incarnation, seat.shared);
        self.grown().journals.push((log, journal.clone()));
        journal
    }

    /// Whether the episode is to end, because its record holds as much as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.budget.is_reached()
    }

    /// Somebody has not finished in time: the recording ends here, where what is owed has not come.
    pub(crate) fn set_late(&self) {
        let mut grown = self.grown();
        grown.verdict.late = true;
        grown.journals.iter().for_each(|(_, journal)| journal.freeze());
    }

    /// What was wrong; the first one counts.
    pub(crate) fn blame(&self, failure: Failure) {
        self.grown().verdict.failure.get_or_insert(failure);
    }

    /// What was wrong with the loops of all processes together.
    pub(crate) fn blame_all(&self, failure: Failure) {
        self.grown().verdict.joined = Some(failure);
    }

    /// The recording; `whole` if the episode came to its own end, so that there is a verdict.
    pub(crate) fn finish(self, whole: bool) -> Recording {
        let EpisodeRecord { mut recording, grown, .. } = self;
        let Grown { mut journals, verdict } = grown.into_inner().unwrap_or_else(PoisonError::into_inner);
        journals.sort_by_key(|(log, _)| (log.role == Role::Client, log.index));
        recording.loops = journals.into_iter().map(|(log, journal)| log.with(journal.take())).collect();
        recording.verdict = whole.then_some(verdict);
        recording
    }
}

/// The latest recordings.
pub(crate) struct Recordings {
    folder: PathBuf,
    /// What the names of the files end with: whose they are, if not everybody's.
    whose: String,
    kept: Mutex<VecDeque<(u64, Recording)>>,
    /// Whether the latest ones are wanted also where nothing was wrong.
    keeps_all: bool,
    /// The files that the processes of each of the latest episodes have written.
    written: Mutex<VecDeque<Vec<PathBuf>>>,
    pool: ChunkPool,
}

impl Recordings {
    /// Recordings that go to this folder when something is wrong, or with `keeps_all` in any case.
    pub(crate) fn new(folder: &Path, keeps_all: bool) -> Recordings {
        Recordings { keeps_all, ..Recordings::of(folder, "") }
    }

    /// Recordings of a part of an episode; the names of their files end with `whose`.
    pub(crate) fn of(folder: &Path, whose: &str) -> Recordings {
        let (folder, whose) = (folder.to_owned(), whose.to_owned());
        let (kept, written, pool) = (Mutex::default(), Mutex::default(), ChunkPool::default());
        Recordings { folder, whose, kept, keeps_all: false, written, pool }
    }

    /// The budget of an episode that is about to begin: its memory is that of episodes whose recordings are gone.
    pub(crate) fn budget(&self, bytes_max: u64) -> Budget {
        Budget::drawing_on(bytes_max, &self.pool)
    }

    /// Whether the latest ones are wanted also where nothing was wrong.
    pub(crate) fn keeps_all(&self) -> bool {
        self.keeps_all
    }

    /// The processes of an episode have written these, and nothing was wrong; those of the oldest one go.
    pub(crate) fn wrote(&self, paths: Vec<PathBuf>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push_back(paths);
        if written.len() > KEPT {
            // One that is gone already is no loss.
            written.pop_front().into_iter().flatten().for_each(|path| drop(fs::remove_file(path)));
        }
    }

    /// Where they go.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the recording of an episode, and lets the oldest one go.
    pub(crate) fn keep(&self, episode: u64, recording: Recording) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((episode, recording));
        if kept.len() > KEPT
            && let Some((_, oldest)) = kept.pop_front()
        {
            oldest.loops.into_iter().for_each(|log| self.pool.give(log));
        }
    }

    /// Memory of what is kept, and of what is held ready for the next episodes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let logs = kept.iter().flat_map(|(_, recording)| &recording.loops);
        logs.map(LoopLog::memory_bytes).sum::<usize>() + self.pool.memory_bytes()
    }

    /// Writes what is kept. Answers the files, the latest last.
    ///
    /// # Errors
    /// In words: which file could not be written, and why.
    pub(crate) fn write(&self) -> Result<Vec<PathBuf>, String> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let folder = self.folder.display();
        fs::create_dir_all(&self.folder)
            .map_err(|error| format!("cannot make the folder {folder}: {error}"))?;
        let mut paths: Vec<PathBuf> = Vec::new();
        paths.extend(self.written.lock().unwrap_or_else(PoisonError::into_inner).drain(..).flatten());
        for (episode, recording) in kept {
            let Plan { workload, seed, .. } = recording.plan;
            let stem = format!("{workload}-episode-{episode}-{}{}", Seed(seed), self.whose);
            let path = write_new(&self.folder, &stem, &recording)
                .map_err(|error| format!("cannot write the recording {stem} into {folder}: {error}"))?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// Writes a file that was not there.
fn write_new(folder: &Path, stem: &str, recording: &Recording) -> io::Result<PathBuf> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for copy in 0..COPIES_MAX {
        let suffix = if copy == 0 { String::new() } else { format!("-{copy}") };
        let path = folder.join(format!("{stem}{suffix}.simrec"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                let mut out = BufWriter::new(file);
                recording.write(&mut out)?;
                out.flush()?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
