//! A line as it is written and read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Entry, Origin, RunRecord, SCHEMA, Told};
use crate::decision::seed::Seed;
use crate::kernel::Kernel;
use crate::oracle::Oracle;
use crate::shard::Shard;
use crate::weather::Weather;
use crate::workload::WorkloadKind;

/// Why a line is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineError {
    /// It is not an object with a schema.
    Foreign(String),
    /// A schema that this program does not know.
    OtherSchema(u64),
    /// The right schema, but something in it makes no sense.
    Wrong(String),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::Foreign(why) => write!(f, "this is no record of `sim run --records`: {why}"),
            LineError::OtherSchema(schema) => {
                write!(f, "records of schema {schema}; this program reads schema {SCHEMA}")
            }
            LineError::Wrong(why) => write!(f, "a record that makes no sense: {why}"),
        }
    }
}

impl std::error::Error for LineError {}

/// Every member that some line has, in the order in which they are written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Members {
    schema: u32,
    r#type: String,
    build: String,
    sweep: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weather: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oracle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_hashes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_s: Option<f64>,
}

/// What decides whether a line is ours at all.
#[derive(Deserialize)]
struct Claim {
    schema: Option<serde_json::Value>,
}

fn hexadecimal(word: u64) -> String {
    format!("{word:#018x}")
}

fn word(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// A member that this kind of line must have.
fn needed<T>(member: Option<T>, name: &str) -> Result<T, LineError> {
    member.ok_or_else(|| LineError::Wrong(format!("`{name}` is missing")))
}

fn named<T>(text: Option<String>, name: &str, find: impl Fn(&str) -> Option<T>) -> Result<T, LineError> {
    let text = needed(text, name)?;
    find(&text).ok_or_else(|| LineError::Wrong(format!("`{name}` is {text:?}")))
}

impl Entry {
    /// The line, with its end.
    pub fn line(&self, origin: &Origin) -> String {
        let mut members = self.members();
        (members.schema, members.build, members.sweep) = (SCHEMA, origin.build.clone(), origin.sweep.clone());
        let mut text = serde_json::to_string(&members).expect("strings and numbers have a JSON form");
        text.push('\n');
        text
    }

    fn members(&self) -> Members {
        let of = |name: &str| Members { r#type: name.to_owned(), ..Members::default() };
        match self {
            Entry::Sweep { runs, shards } => {
                let shards = shards.iter().map(Shard::to_string).collect();
                Members { runs: Some(*runs), shards: Some(shards), ..of("sweep") }
            }
            Entry::Run(run, record) => {
                let told = record.told.as_deref();
                Members {
                    run: Some(*run),
                    seed: Some(Seed(record.seed).to_string()),
                    workload: Some(record.workload.name().to_owned()),
                    kernel: Some(record.kernel.name().to_owned()),
                    weather: Some(record.weather.name().to_owned()),
                    ok: Some(record.oracle.is_none()),
                    oracle: record.oracle.map(|oracle| oracle.name().to_owned()),
                    at_ns: told.map(|told| told.at_ns),
                    step: told.map(|told| told.step),
                    details: told.map(|told| told.details.clone()),
                    steps: Some(record.steps),
                    virtual_ns: Some(record.virtual_ns),
                    trace_hash: Some(hexadecimal(record.trace_hash)),
                    replay: told.map(|told| told.replay.clone()),
                    ..of("run")
                }
            }
            Entry::Kept { run, path } => Members { run: Some(*run), path: Some(path.clone()), ..of("kept") },
            Entry::Alarm { run, seed, trace_hashes } => Members {
                run: Some(*run),
                seed: Some(Seed(*seed).to_string()),
                trace_hashes: Some(trace_hashes.iter().copied().map(hexadecimal).collect()),
                ..of("alarm")
            },
            Entry::End { interrupted, runs, failed, wall_s } => Members {
                runs: Some(*runs),
                failed: Some(*failed),
                interrupted: Some(*interrupted),
                wall_s: *wall_s,
                ..of("end")
            },
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is not a record, one of another schema, or one with a member that makes no sense.
    pub fn read(line: &[u8]) -> Result<(Origin, Entry), LineError> {
        let members = match serde_json::from_slice::<Members>(line) {
            Ok(members) if members.schema == SCHEMA => members,
            Ok(_) => return Err(refusal(line)),
            // A newer schema may well have members of other types.
            Err(error) => match refusal(line) {
                LineError::Wrong(_) => return Err(LineError::Wrong(error.to_string())),
                refusal => return Err(refusal),
            },
        };
        entry(members)
    }
}

/// Why a line that does not have our schema, or our members, is not taken.
fn refusal(line: &[u8]) -> LineError {
    match serde_json::from_slice::<Claim>(line) {
        Err(error) => LineError::Foreign(error.to_string()),
        Ok(Claim { schema: None }) => LineError::Foreign("it has no `schema`".to_owned()),
        Ok(Claim { schema: Some(schema) }) => match schema.as_u64() {
            Some(number) if number == u64::from(SCHEMA) => LineError::Wrong("its members".to_owned()),
            Some(number) => LineError::OtherSchema(number),
            None => LineError::Foreign(format!("its `schema` is {schema}")),
        },
    }
}

fn entry(members: Members) -> Result<(Origin, Entry), LineError> {
    let Members { r#type, build, sweep, run, runs, shards, seed, trace_hash, trace_hashes, .. } = members;
    if build.is_empty() || sweep.is_empty() {
        return Err(LineError::Wrong("`build` or `sweep` is missing".to_owned()));
    }
    let entry = match r#type.as_str() {
        "sweep" => {
            let parse = |text: &String| text.parse::<Shard>();
            let shards = needed(shards, "shards")?.iter().map(parse).collect::<Result<_, _>>();
            let shards = shards.map_err(|error| LineError::Wrong(error.to_string()))?;
            Entry::Sweep { runs: needed(runs, "runs")?, shards }
        }
        "run" => {
            let ok = needed(members.ok, "ok")?;
            if ok && members.oracle.is_some() {
                return Err(LineError::Wrong("a run that passed has an `oracle`".to_owned()));
            }
            let oracle = if ok { None } else { Some(named(members.oracle, "oracle", Oracle::from_name)?) };
            let told = match (oracle, members.details) {
                (Some(_), Some(details)) => Some(Box::new(Told {
                    at_ns: needed(members.at_ns, "at_ns")?,
                    step: needed(members.step, "step")?,
                    details,
                    replay: needed(members.replay, "replay")?,
                })),
                _ => None,
            };
            let record = RunRecord {
                seed: named(seed, "seed", word)?,
                workload: named(members.workload, "workload", WorkloadKind::from_name)?,
                kernel: named(members.kernel, "kernel", Kernel::from_name)?,
                weather: named(members.weather, "weather", Weather::from_name)?,
                oracle,
                steps: needed(members.steps, "steps")?,
                virtual_ns: needed(members.virtual_ns, "virtual_ns")?,
                trace_hash: named(trace_hash, "trace_hash", word)?,
                told,
            };
            Entry::Run(needed(run, "run")?, record)
        }
        "kept" => Entry::Kept { run: needed(run, "run")?, path: needed(members.path, "path")? },
        "alarm" => {
            let hashes = needed(trace_hashes, "trace_hashes")?;
            let hashes: Option<Vec<u64>> = hashes.iter().map(|hash| word(hash)).collect();
            let trace_hashes = hashes.filter(|hashes| !hashes.is_empty());
            let trace_hashes = needed(trace_hashes, "trace_hashes")?;
            Entry::Alarm { run: needed(run, "run")?, seed: named(seed, "seed", word)?, trace_hashes }
        }
        "end" => Entry::End {
            interrupted: needed(members.interrupted, "interrupted")?,
            runs: needed(runs, "runs")?,
            failed: needed(members.failed, "failed")?,
            wall_s: members.wall_s,
        },
        other => return Err(LineError::Wrong(format!("`type` is {other:?}"))),
    };
    Ok((Origin { build, sweep }, entry))
}
