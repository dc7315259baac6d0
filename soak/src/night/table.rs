//! The table of parts: what a night does with its time and its processors.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sim::decision::seed::{Seed, seed_of_run};

use super::part::{Kind, Part};
use crate::Failure;
use crate::poller::Backend;

/// What `night.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// What every part's seed is made from.
    pub(crate) seed: String,
    /// How long the night is.
    pub(crate) seconds: u64,
    /// How the processors were dealt, in words.
    pub(crate) processors: String,
    /// The parts; those of a kind run one after another, the kinds beside each other.
    pub(crate) parts: Vec<Part>,
}

/// What a table is made from.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) seed: Seed,
    pub(crate) seconds: u64,
    /// The night's folder.
    pub(crate) out: PathBuf,
    /// `soak` itself.
    pub(crate) soak: PathBuf,
    /// `sim`, or why there is none.
    pub(crate) sim: Result<PathBuf, String>,
    /// The built fuzz targets, or why there are none.
    pub(crate) fuzz: Result<Vec<PathBuf>, String>,
    /// The folder with the targets' committed inputs, if it is known.
    pub(crate) inputs: Option<PathBuf>,
    pub(crate) processors: usize,
}

impl Table {
    /// A table given in a file, for tests and for nights of one's own.
    ///
    /// # Errors
    /// [`Failure::Usage`] for two parts of one name, a name that names no file, or a part without a command.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (index, part) in self.parts.iter().enumerate() {
            let is_file_name = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            if part.name.is_empty() || !part.name.chars().all(is_file_name) {
                return Err(Failure::Usage(format!(
                    "part {:?}: a name has letters, digits, - and _ only",
                    part.name
                )));
            }
            if self.parts[..index].iter().any(|other| other.name == part.name) {
                return Err(Failure::Usage(format!("two parts are called {}", part.name)));
            }
            if part.command.is_empty() && part.left_out.is_none() {
                return Err(Failure::Usage(format!("part {} has no command", part.name)));
            }
        }
        if self.parts.is_empty() {
            return Err(Failure::Usage("a night without parts would pass without having looked".to_owned()));
        }
        Ok(())
    }

    /// The table of an ordinary night.
    pub(crate) fn of(wishes: &Wishes) -> Table {
        let jobs = sweep_jobs(wishes.processors);
        let mut parts = soak_parts(wishes);
        parts.push(sweep_part(wishes, jobs));
        parts.extend(fuzz_parts(wishes));
        Table {
            seed: wishes.seed.to_string(),
            seconds: wishes.seconds,
            processors: format!(
                "{}: the soak at full priority; beside it, at the lowest, {jobs} of the simulator and 1 of the fuzzer",
                wishes.processors
            ),
            parts,
        }
    }
}

/// How long the episodes of a part are: so that there are enough of them for slopes, where the time allows.
fn episode_seconds(seconds: u64) -> u64 {
    (seconds / 12).clamp(10, 60).min(seconds / 3).max(1)
}

/// Threads of the simulator: half of the processors are the soak's, one the fuzzer's.
fn sweep_jobs(processors: usize) -> usize {
    (processors / 2).saturating_sub(1).max(1)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// A row of the soak's lane.
struct Row {
    name: &'static str,
    /// Its share of the time, beside the others'.
    weight: u64,
    workloads: &'static str,
    options: &'static [&'static str],
}

/// What is soaked in a night. The rates are well below what a small machine does: latency is measured, not overload.
const ROWS: [Row; 12] = [
    Row {
        name: "soak-echo",
        weight: 3,
        workloads: "echo",
        options: &["--rate", "5000", "--connections", "200"],
    },
    Row { name: "soak-wake", weight: 2, workloads: "wake", options: &[] },
    Row { name: "soak-timers", weight: 2, workloads: "timers", options: &[] },
    Row { name: "soak-cluster", weight: 2, workloads: "cluster", options: &[] },
    // All of them at once: loops that compete for the processors.
    Row {
        name: "soak-all",
        weight: 4,
        workloads: "echo,wake,timers,cluster",
        options: &["--connections", "50"],
    },
    // Trouble by real means; few connections, for each storm and each proxy needs descriptors as well.
    Row {
        name: "soak-chaos",
        weight: 4,
        workloads: "echo,wake,timers,cluster",
        options: &["--connections", "30", "--chaos", "default"],
    },
    Row {
        name: "soak-cruel",
        weight: 2,
        workloads: "echo,wake,timers,cluster",
        options: &["--connections", "30", "--chaos", "cruel"],
    },
    // Services side by side on one port, each in a process of its own; likewise their clients, which chaos stops and kills.
    Row {
        name: "soak-processes",
        weight: 2,
        workloads: "echo,wake,timers,cluster",
        options: &["--connections", "50", "--processes", "2"],
    },
    Row {
        name: "soak-processes-chaos",
        weight: 2,
        workloads: "echo,timers,cluster",
        options: &["--connections", "30", "--processes", "2", "--chaos", "default"],
    },
    // The short stories that the simulator draws, thousands of them.
    Row {
        name: "soak-drawn",
        weight: 2,
        workloads: "echo,wake,timers,cluster",
        options: &["--plans", "drawn"],
    },
    // A clock that passes 2^63 ns at once: what only an uptime of centuries would show.
    Row {
        name: "soak-late-clock",
        weight: 1,
        workloads: "echo,timers",
        options: &["--clock-start", "9223372036794775807"],
    },
    Row { name: "soak-kqueue", weight: 1, workloads: "echo", options: &["--poller", "kqueue"] },
];

/// The rows that this machine can run, each with its share of the time; the others with the reason.
fn soak_parts(wishes: &Wishes) -> Vec<Part> {
    let reason = |row: &Row| {
        if row.options.contains(&"--processes") && cfg!(not(target_os = "linux")) {
            return Some("elsewhere than on Linux a shared port does not spread its connections".to_owned());
        }
        let poller = row.options.iter().skip_while(|&&option| option != "--poller").nth(1);
        Backend::with_poller(poller.copied()).err().map(|failure| failure.text().to_owned())
    };
    let rows: Vec<(&Row, Option<String>)> = ROWS.iter().map(|row| (row, reason(row))).collect();
    // Who is left out takes no time.
    let running = rows.iter().filter(|(_, left_out)| left_out.is_none()).map(|(row, _)| row.weight);
    let weights: u64 = running.sum::<u64>().max(1);
    let part = |(index, (row, left_out)): (u64, (&Row, Option<String>))| {
        let seconds = (wishes.seconds * row.weight / weights).max(1);
        let folder = text(&wishes.out.join("soak").join(row.name));
        let soak = text(&wishes.soak);
        let numbers = [
            // An episode that is cut short by the end of the run is not judged, so that there are several.
            ("--episode-seconds", episode_seconds(seconds)),
            ("--interval", (seconds / 30).clamp(1, 10)),
            ("--seconds", seconds),
        ];
        let mut command = vec![soak.clone()];
        command.extend(words(["run", "--workload", row.workloads]));
        command.extend(row.options.iter().map(|&option| option.to_owned()));
        command
            .extend(numbers.iter().flat_map(|(option, number)| [(*option).to_owned(), number.to_string()]));
        command.extend(["--seed".to_owned(), Seed(seed_of_run(wishes.seed.0, index)).to_string()]);
        command.extend(["--out".to_owned(), folder.clone()]);
        let mut command_again = vec![soak];
        command_again.extend(words(["run", "--resume"]));
        command_again.push(folder.clone());
        Part {
            left_out,
            needs_folders: vec![text(&wishes.out.join("soak"))],
            folder: Some(folder),
            command_again,
            ..Part::new([row.name], Kind::Soak, seconds, command)
        }
    };
    (0..).zip(rows).map(part).collect()
}

/// Fresh seeds for the simulator, chunk after chunk.
fn sweep_part(wishes: &Wishes, jobs: usize) -> Part {
    let mut command = Vec::new();
    if let Ok(sim) = &wishes.sim {
        command.push(text(sim));
        command.extend(words(["run", "--stratified", "--seed", "{seed}", "--runs", "{runs}", "--jobs"]));
        command.extend([jobs.to_string(), "--out".to_owned()]);
        command.push(format!("{}/{{name}}", text(&wishes.out.join("sweep"))));
    }
    Part {
        in_chunks: true,
        left_out: wishes.sim.as_ref().err().cloned(),
        ..Part::new(["sweep"], Kind::Sweep, wishes.seconds, command)
    }
}

/// Each fuzz target in turn, from its committed inputs.
fn fuzz_parts(wishes: &Wishes) -> Vec<Part> {
    let targets = match &wishes.fuzz {
        Ok(targets) => targets.as_slice(),
        Err(reason) => {
            return vec![Part {
                left_out: Some(reason.clone()),
                ..Part::new(["fuzz"], Kind::Fuzz, wishes.seconds, Vec::new())
            }];
        }
    };
    let each = (wishes.seconds / targets.len().max(1) as u64).max(1);
    (1000..).zip(targets).map(|(index, target)| fuzz_part(wishes, target, index, each)).collect()
}

fn fuzz_part(wishes: &Wishes, target: &Path, index: u64, seconds: u64) -> Part {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = wishes.out.join("fuzz").join(&name);
    // 0 would be a seed that the engine draws itself, and nobody could repeat.
    let seed = (seed_of_run(wishes.seed.0, index) >> 32).max(1);
    let mut command = vec![text(target), format!("{}/corpus", text(&own))];
    if let Some(inputs) = &wishes.inputs {
        let committed = ["seeds", "regressions"].map(|kind| inputs.join(kind).join(&name));
        command.extend(committed.iter().filter(|folder| folder.is_dir()).map(|folder| text(folder)));
        let dictionary = inputs.join("dict").join(format!("{name}.dict"));
        if dictionary.is_file() {
            command.push(format!("-dict={}", text(&dictionary)));
        }
    }
    command.push(format!("-max_total_time={seconds}"));
    command.push(format!("-artifact_prefix={}/artifacts/", text(&own)));
    command.push(format!("-seed={seed}"));
    // As in CI: decisions rather than words to be guessed, so no entropic schedule.
    command.extend(words([
        "-max_len=4096",
        "-rss_limit_mb=2048",
        "-timeout=60",
        "-entropic=0",
        "-print_final_stats=1",
    ]));
    Part {
        needs_folders: ["corpus", "artifacts"].map(|folder| text(&own.join(folder))).to_vec(),
        ..Part::new(["fuzz", &name], Kind::Fuzz, seconds, command)
    }
}
