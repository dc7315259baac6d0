//! Which part of a sweep this process makes, by its command line or by what the engine that started it has set.
//!
//! The variables are read only for `--shard auto`. `SIM_SHARD=I/N` wins over all others; two engines at once are an error,
//! since one of them would be obeyed by accident.

use std::env;
use std::fs::OpenOptions;
use std::str::FromStr;

use sim::shard::{SHARDS_MAX, Shard, ShardError};

use super::Trouble;

/// What `--shard` says.
#[derive(Copy, Clone, Debug)]
pub(super) enum Choice {
    /// This part.
    Fixed(Shard),
    /// What the engine says.
    Auto,
}

impl FromStr for Choice {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Choice, ShardError> {
        if text == "auto" { Ok(Choice::Auto) } else { text.parse().map(Choice::Fixed) }
    }
}

/// How an engine counts its parts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Counting {
    From(u64),
    /// From the value of the first variable, in steps of the second one's.
    By(&'static str, &'static str),
}

/// An engine that starts one process for each part.
struct Engine {
    name: &'static str,
    index: &'static str,
    /// The variable with the number of parts; an engine without one needs `--shards`.
    count: Option<&'static str>,
    counting: Counting,
}

const OURS: &str = "SIM_SHARD";

const ENGINES: [Engine; 7] = [
    Engine {
        name: "Kubernetes Indexed Job",
        index: "JOB_COMPLETION_INDEX",
        count: None,
        counting: Counting::From(0),
    },
    Engine {
        name: "Slurm array",
        index: "SLURM_ARRAY_TASK_ID",
        count: Some("SLURM_ARRAY_TASK_COUNT"),
        counting: Counting::By("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    },
    Engine {
        name: "AWS Batch array",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
        counting: Counting::From(0),
    },
    Engine { name: "Nomad", index: "NOMAD_ALLOC_INDEX", count: None, counting: Counting::From(0) },
    Engine {
        name: "GitLab CI",
        index: "CI_NODE_INDEX",
        count: Some("CI_NODE_TOTAL"),
        counting: Counting::From(1),
    },
    Engine {
        name: "Bazel",
        index: "TEST_SHARD_INDEX",
        count: Some("TEST_TOTAL_SHARDS"),
        counting: Counting::From(0),
    },
    Engine {
        name: "GoogleTest",
        index: "GTEST_SHARD_INDEX",
        count: Some("GTEST_TOTAL_SHARDS"),
        counting: Counting::From(0),
    },
];

/// A file that a test runner wants touched by whoever understands shards.
const STATUS_FILES: [(&str, &str); 2] =
    [("Bazel", "TEST_SHARD_STATUS_FILE"), ("GoogleTest", "GTEST_SHARD_STATUS_FILE")];

/// What was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    shard: Shard,
    engine: &'static str,
    /// The variables that said so.
    because: String,
}

/// The part to make. Says on standard error which engine was obeyed.
pub(super) fn shard(choice: Option<Choice>, shards: Option<u64>) -> Result<Shard, Trouble> {
    match choice {
        None => Ok(Shard::WHOLE),
        Some(Choice::Fixed(shard)) => {
            agree(shard, "--shard", shards).map_err(Trouble::Usage)?;
            Ok(shard)
        }
        Some(Choice::Auto) => {
            let found = find(&environment, shards).map_err(Trouble::Usage)?;
            eprintln!("sim: shard {}, by {} ({})", found.shard, found.engine, found.because);
            touch_status_file(found.engine)?;
            Ok(found.shard)
        }
    }
}

/// A variable of this process. One that is no text is handed on with a mark in it, so that it is refused by its name.
#[expect(clippy::disallowed_methods, reason = "the command line asks, before any run begins")]
fn environment(name: &str) -> Option<String> {
    match env::var(name) {
        Ok(value) => Some(value),
        Err(env::VarError::NotPresent) => None,
        Err(env::VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
    }
}

fn agree(shard: Shard, source: &str, shards: Option<u64>) -> Result<(), String> {
    match shards {
        Some(shards) if shards != shard.count() => {
            Err(format!("--shards {shards}, but {source} says that there are {}", shard.count()))
        }
        _ => Ok(()),
    }
}

fn find(variable: &dyn Fn(&str) -> Option<String>, shards: Option<u64>) -> Result<Found, String> {
    if let Some(value) = variable(OURS) {
        let shard: Shard = value.parse().map_err(|error| format!("{OURS}: {error}"))?;
        agree(shard, OURS, shards)?;
        return Ok(Found { shard, engine: OURS, because: format!("{OURS}={value}") });
    }
    let mut set = ENGINES.iter().filter(|engine| variable(engine.index).is_some());
    let Some(first) = set.next() else {
        let names: Vec<String> =
            ENGINES.iter().map(|engine| format!("{} ({})", engine.index, engine.name)).collect();
        return Err(format!(
            "--shard auto, but no engine has said which part this is: none of {OURS}, {} is set",
            names.join(", ")
        ));
    };
    let found = of_engine(first, variable, shards)?;
    for other in set {
        let same = first.name == "Bazel"
            && other.name == "GoogleTest"
            && of_engine(other, variable, shards)?.shard == found.shard;
        // Bazel sets its own variables and those of GoogleTest, to the same values.
        if !same {
            return Err(format!(
                "--shard auto, but two engines say which part this is: {} ({}) and {} ({}); use --shard I/N or {OURS}",
                first.name, first.index, other.name, other.index
            ));
        }
    }
    Ok(found)
}

fn of_engine(
    engine: &Engine,
    variable: &dyn Fn(&str) -> Option<String>,
    shards: Option<u64>,
) -> Result<Found, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(value) = variable(name) else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| value.parse().ok()).flatten();
        number.map(Some).ok_or_else(|| format!("{name}={value:?} is no whole number ({})", engine.name))
    };
    let needed = |name: &str| {
        number(name)?.ok_or_else(|| {
            format!("{} is set, so {name} should be too: {} sets both", engine.index, engine.name)
        })
    };
    let index = needed(engine.index)?;
    let mut because = format!("{}={index}", engine.index);
    let count = match engine.count {
        Some(name) => {
            let count = needed(name)?;
            because += &format!(", {name}={count}");
            count
        }
        None => {
            let told = "does not say how many parts there are: add --shards N";
            let count = shards.ok_or_else(|| format!("{} ({}) {told}", engine.name, engine.index))?;
            because += &format!(", --shards {count}");
            count
        }
    };
    let nth = match engine.counting {
        Counting::From(base) => index.checked_sub(base),
        Counting::By(least, step) => {
            let (least, step) = (needed(least)?, number(step)?.unwrap_or(1));
            because += &format!(", from {least} in steps of {step}");
            index
                .checked_sub(least)
                .filter(|_| step > 0)
                .filter(|past| past % step == 0)
                .map(|past| past / step)
        }
    };
    let shard = nth.and_then(|nth| nth.checked_add(1)).and_then(|number| Shard::new(number, count).ok());
    let shard = shard.ok_or_else(|| {
        format!(
            "{} says {because}: there is no such part; parts are at most {SHARDS_MAX} and follow each other",
            engine.name
        )
    })?;
    agree(shard, engine.count.unwrap_or("--shards"), shards)?;
    Ok(Found { shard, engine: engine.name, because })
}

fn touch_status_file(engine: &str) -> Result<(), Trouble> {
    for (_, name) in STATUS_FILES.iter().filter(|(of, _)| *of == engine) {
        let Some(path) = environment(name) else { continue };
        let touched = OpenOptions::new().create(true).append(true).open(&path);
        touched.map_err(|error| Trouble::InputOutput(format!("cannot touch {name}={path}: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    fn found(variables: &[(&str, &str)], shards: Option<u64>) -> Result<String, String> {
        let of = |name: &str| {
            let pair = variables.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        find(&of, shards).map(|found| format!("{} {}", found.shard, found.engine))
    }

    #[test]
    fn every_engine_is_read_in_its_own_way_of_counting() {
        let cases: [(Variables, Option<u64>, &str); 9] = [
            (&[("SIM_SHARD", "2/3"), ("CI_NODE_INDEX", "1")], None, "2/3 SIM_SHARD"),
            (&[("JOB_COMPLETION_INDEX", "3")], Some(4), "4/4 Kubernetes Indexed Job"),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "14"),
                    ("SLURM_ARRAY_TASK_COUNT", "4"),
                    ("SLURM_ARRAY_TASK_MIN", "10"),
                    ("SLURM_ARRAY_TASK_STEP", "2"),
                ],
                None,
                "3/4 Slurm array",
            ),
            (
                &[("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "2")],
                None,
                "1/2 AWS Batch array",
            ),
            (&[("NOMAD_ALLOC_INDEX", "1")], Some(2), "2/2 Nomad"),
            (&[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "5")], Some(5), "1/5 GitLab CI"),
            (&[("TEST_SHARD_INDEX", "4"), ("TEST_TOTAL_SHARDS", "5")], None, "5/5 Bazel"),
            (&[("GTEST_SHARD_INDEX", "1"), ("GTEST_TOTAL_SHARDS", "5")], None, "2/5 GoogleTest"),
            (
                &[
                    ("TEST_SHARD_INDEX", "1"),
                    ("TEST_TOTAL_SHARDS", "5"),
                    ("GTEST_SHARD_INDEX", "1"),
                    ("GTEST_TOTAL_SHARDS", "5"),
                ],
                None,
                "2/5 Bazel",
            ),
        ];
        for (variables, shards, expected) in cases {
            assert_eq!(found(variables, shards).as_deref(), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn what_an_engine_says_is_taken_or_refused_by_name() {
        let cases: [(Variables, Option<u64>, &[&str]); 11] = [
            (&[], None, &["JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "CI_NODE_INDEX", "SIM_SHARD"]),
            (&[("JOB_COMPLETION_INDEX", "0")], None, &["--shards N", "Kubernetes"]),
            (&[("JOB_COMPLETION_INDEX", "4")], Some(4), &["no such part", "JOB_COMPLETION_INDEX=4"]),
            (&[("JOB_COMPLETION_INDEX", "two")], Some(4), &["\"two\"", "no whole number"]),
            (&[("JOB_COMPLETION_INDEX", "")], Some(4), &["no whole number"]),
            (&[("JOB_COMPLETION_INDEX", "0"), ("CI_NODE_INDEX", "1")], Some(4), &["Kubernetes", "GitLab"]),
            (&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "4")], None, &["no such part"]),
            (&[("CI_NODE_INDEX", "1")], None, &["CI_NODE_TOTAL"]),
            (&[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "4")], Some(5), &["--shards 5", "CI_NODE_TOTAL"]),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "3"),
                    ("SLURM_ARRAY_TASK_COUNT", "2"),
                    ("SLURM_ARRAY_TASK_MIN", "0"),
                    ("SLURM_ARRAY_TASK_STEP", "2"),
                ],
                None,
                &["no such part", "steps of 2"],
            ),
            (&[("SIM_SHARD", "5/4")], None, &["SIM_SHARD", "5/4", "counted from 1"]),
        ];
        for (variables, shards, parts) in cases {
            let error = found(variables, shards).expect_err("it makes no sense");
            for part in parts {
                assert!(error.contains(part), "{part} is missing in: {error}");
            }
        }
    }
}
