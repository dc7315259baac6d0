//! Faults that only a soak on real sockets is asked to find: each a patch in `tests/planted/soak/`, whose counter begins with
//! each loop, and so with each episode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::copy::{Copy, run};

/// One fault.
#[derive(Copy, Clone, Debug)]
pub struct SoakFault {
    /// An S and a number; the patch has the same name.
    pub id: &'static str,
    /// What the patch breaks.
    pub breaks: &'static str,
    /// The options of `soak run` under which it must be seen, as anybody might give them.
    pub options: &'static [&'static str],
    /// How long that is asked to run, in seconds.
    pub seconds: u32,
    /// Who may see it: the oracle that the failure names, or its class where it names none.
    pub seen_by: &'static [&'static str],
    /// Why its recording has nothing to show; `None` where it must replay.
    pub no_replay: Option<&'static str>,
}

/// The most that `soak run` may take for any of them, in seconds.
pub const SECONDS_MAX: u32 = 600;

/// Every fault.
pub const SOAK_FAULTS: &[SoakFault] = &[
    SoakFault {
        id: "S1",
        breaks: "of 10,000 closes of descriptors, one is forgotten",
        options: &["--workload", "echo"],
        seconds: SECONDS_MAX,
        seen_by: &["descriptor-leak"],
        no_replay: None,
    },
    SoakFault {
        id: "S2",
        breaks: "each connection leaves 64 bytes of memory behind",
        options: &["--workload", "echo", "--episode-seconds", "12"],
        seconds: 180,
        seen_by: &["leak: allocated_bytes"],
        no_replay: Some("a leak of memory is seen between episodes, over many of them"),
    },
    SoakFault {
        id: "S3",
        breaks: "of 100,000 wake-ups, one is lost",
        options: &["--workload", "wake"],
        seconds: SECONDS_MAX,
        seen_by: &["liveness"],
        no_replay: None,
    },
    SoakFault {
        id: "S4",
        breaks: "of 1,000 timers, one is three ticks late",
        options: &["--workload", "timers"],
        seconds: SECONDS_MAX,
        seen_by: &["timer-contract"],
        no_replay: None,
    },
    SoakFault {
        id: "S5",
        breaks: "after every 10 millionth byte of partial writes, one is dropped",
        options: &["--workload", "echo", "--chaos", "cruel", "--chaos-only", "buffers"],
        seconds: SECONDS_MAX,
        seen_by: &["byte-stream"],
        no_replay: None,
    },
    SoakFault {
        id: "S6",
        breaks: "a listener that finds no free descriptor (EMFILE) never accepts again",
        options: &["--workload", "echo", "--chaos", "cruel", "--chaos-only", "descriptors"],
        seconds: SECONDS_MAX,
        seen_by: &["liveness"],
        no_replay: None,
    },
];

/// What came of one soak.
#[derive(Clone, PartialEq, Debug)]
pub struct Soaked {
    /// Who saw a failure, and when, in seconds since the soak began.
    pub seen: Option<(String, f64)>,
    /// What was said of it, or of the end.
    pub text: String,
    /// Whether its recording replays, or why not.
    pub replay: Result<(), String>,
}

impl SoakFault {
    /// Whether what came is what must come.
    pub fn is_met_by(&self, soaked: &Soaked) -> bool {
        let rightly_seen = soaked
            .seen
            .as_ref()
            .is_some_and(|(by, at_s)| self.seen_by.contains(&by.as_str()) && *at_s <= f64::from(SECONDS_MAX));
        rightly_seen && (self.no_replay.is_some() || soaked.replay.is_ok())
    }

    /// What is printed of it.
    pub fn line(&self, soaked: &Soaked, as_json: bool) -> String {
        let Soaked { seen, text, replay } = soaked;
        let replays = match (replay, self.no_replay, seen) {
            (Ok(()), _, _) => "replays".to_owned(),
            (Err(_), _, None) => String::new(),
            (Err(_), Some(why), _) => format!("nothing to replay: {why}"),
            (Err(why), None, _) => format!("DOES NOT REPLAY: {why}"),
        };
        if as_json {
            let by = seen.as_ref().map(|(by, _)| by.clone());
            let at_s = seen.as_ref().map(|(_, at_s)| *at_s);
            let object = json!({
                "fault": self.id, "as_expected": self.is_met_by(soaked), "seen_by": by, "after_s": at_s, "replays": replay.is_ok(),
                "said": text,
            });
            return object.to_string();
        }
        match seen {
            Some((by, at_s)) => {
                let verdict = if self.is_met_by(soaked) { "caught" } else { "NOT AS EXPECTED" };
                format!(
                    "{:<3} {verdict} by {by:<15} after {at_s:>5.1} s  {}  {replays}",
                    self.id, self.breaks
                )
            }
            None => format!("{:<3} MISSED: {}; {text}", self.id, self.breaks),
        }
    }

    /// Plants it, builds the soak and the simulator with it, and soaks for at most so many seconds. With `clean` nothing is
    /// planted: the same soak has to find nothing then.
    ///
    /// # Errors
    /// In words: a copy, patch or build that failed, and a soak that said nothing.
    pub fn soak(&self, root: &Path, seconds: u32, clean: bool) -> Result<Soaked, String> {
        let copy = Copy::of(root);
        if clean {
            copy.refresh()?;
        } else {
            copy.plant(&format!("soak/{}.patch", self.id))?;
        }
        copy.build(&["soak", "sim"])?;
        let folder = copy.folder().join("soak").join(if clean { "clean" } else { self.id });
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let records = folder.join("records");
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let seconds = seconds.min(self.seconds).to_string();
        let output = Command::new(copy.program("soak"))
            .arg("run")
            .args(self.options)
            .args(["--seconds", &seconds, "--json", "--out"])
            .arg(&records)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let summary: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            format!("the soak said no more than\n{}", String::from_utf8_lossy(&output.stderr))
        })?;
        let class = summary["verdict"].as_str().unwrap_or("?");
        // Where several things were wrong, the first says it.
        let Some(text) = summary["failures"][0].as_str() else {
            let text = format!("the soak ended with {class} after {} s", summary["elapsed_s"]);
            let replay = Err("there is no failure".to_owned());
            return if class == "pass" { Ok(Soaked { seen: None, text, replay }) } else { Err(text) };
        };
        let at_s = failure_at_s(&records)?;
        let seen = Some((seen_by(text, class).to_owned(), at_s));
        let replay = match recording_of(text) {
            Some(recording) => replay(&copy, &recording),
            None => Err("nothing was recorded".to_owned()),
        };
        Ok(Soaked { seen, text: text.to_owned(), replay })
    }
}

/// When the first failure of a soak was seen, in seconds since it began.
fn failure_at_s(records: &Path) -> Result<f64, String> {
    let path = records.join("failures/failure-0.json");
    let broken = |why: String| format!("{}: {why}", path.display());
    let bytes = fs::read(&path).map_err(|error| broken(error.to_string()))?;
    let record: Value = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    record["at_s"].as_f64().ok_or_else(|| broken("it does not say when".to_owned()))
}

/// The oracle that a failure names at its beginning, or what leaks, or else the failure's class.
fn seen_by<'a>(text: &'a str, class: &'a str) -> &'a str {
    if let Some((leak, _)) = text.split_once(" keep growing").filter(|_| class == "leak") {
        return leak;
    }
    let named = text.split_once(':').map(|(named, _)| named);
    let is_name = |named: &&str| named.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
    named.filter(is_name).unwrap_or(class)
}

/// The recording that a failure's text names.
fn recording_of(text: &str) -> Option<PathBuf> {
    let (_, after) = text.split_once("replay: sim replay ")?;
    Some(PathBuf::from(after.lines().next()?))
}

fn replay(copy: &Copy, recording: &Path) -> Result<(), String> {
    let (_, said) = run(Command::new(copy.program("sim")).args(["replay", "--quiet"]).arg(recording))?;
    if said.contains("\nreproduced: ") {
        return Ok(());
    }
    Err(said.trim_end().lines().next_back().unwrap_or("nothing was said").to_owned())
}
