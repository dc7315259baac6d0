//! `sim conform`: the simulated kernel against the live one.

mod files;
#[cfg(target_os = "linux")]
mod generated;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use sim::Drift;
use sim::conform::explained;
use sim::decision::seed::Seed;
use sim::script::{Capability, Subject};

use super::Trouble;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Script files; without any, scripts are generated. See the documentation of `sim::script` for the language
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Files only on this kernel: live, linux, freebsd or macos
    #[arg(long, value_name = "KERNEL", value_parser = parse_subject, requires = "files")]
    on: Option<Subject>,
    /// Lists the verbs of scripts
    #[arg(long)]
    verbs: bool,
    /// Lists what scripts may need of this machine, and whether it grants that
    #[arg(long)]
    capabilities: bool,
    /// Lists the differences that have a reason
    #[arg(long)]
    explained: bool,
    /// How many scripts to generate [default: 10000]
    #[arg(long, value_name = "N", value_parser = super::run::parse_runs, conflicts_with = "files")]
    runs: Option<u64>,
    /// Goes on generating for so many minutes
    #[arg(long, value_name = "M", value_parser = super::run::parse_runs, conflicts_with_all = ["runs", "files"])]
    minutes: Option<u64>,
    /// Seed of the first generated script: decimal, 0x and hex digits, or a 40-digit commit hash
    #[arg(long, value_name = "S", default_value = "0x0000000000000000", allow_hyphen_values = true)]
    seed: Seed,
    /// Self test: makes the simulated kernel differ on purpose, and says how long it takes to find out; `all` for every way
    #[arg(long, value_name = "NAME", value_parser = parse_drift, conflicts_with_all = ["files", "runs", "minutes"])]
    drift: Option<Drifts>,
    /// Gives up on a drift after so many seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = super::run::parse_runs, requires = "drift")]
    seconds: u64,
    /// Prints one JSON object per unexplained difference, and a summary object
    #[arg(long)]
    json: bool,
    /// Where the shrunk scripts of unexplained differences are written
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Which drifts a self test plants.
#[derive(Clone, Debug)]
struct Drifts(Vec<Drift>);

fn parse_drift(text: &str) -> Result<Drifts, String> {
    if text == "all" {
        return Ok(Drifts(Drift::ALL.to_vec()));
    }
    let names: Vec<&str> = Drift::ALL.iter().map(|drift| drift.name()).collect();
    Drift::from_name(text)
        .map(|drift| Drifts(vec![drift]))
        .ok_or_else(|| super::unknown(text, &[&["all"], names.as_slice()].concat()))
}

fn parse_subject(text: &str) -> Result<Subject, String> {
    Subject::from_name(text).ok_or_else(|| super::unknown(text, &Subject::ALL.map(Subject::name)))
}

pub(super) fn conform(arguments: &Arguments) -> Result<u8, Trouble> {
    if arguments.verbs || arguments.explained || arguments.capabilities {
        let mut out = BufWriter::new(io::stdout().lock());
        if arguments.verbs {
            for verb in sim::script::verb::Verb::ALL {
                writeln!(out, "{:<60} {}", verb.usage(), verb.says())?;
            }
        }
        if arguments.capabilities {
            for capability in Capability::ALL {
                let missing = capability.missing();
                let granted = if missing.is_some() { "missing" } else { "granted" };
                write!(out, "{granted}  {:<10} {}", capability.name(), capability.says())?;
                writeln!(out, "{}", missing.map(|reason| format!(" Here: {reason}")).unwrap_or_default())?;
            }
        }
        if arguments.explained {
            write!(out, "{}", explained::table())?;
        }
        out.flush()?;
        return Ok(0);
    }
    if !arguments.files.is_empty() {
        return files::run(arguments);
    }
    #[cfg(target_os = "linux")]
    return match &arguments.drift {
        Some(Drifts(drifts)) => generated::self_test(arguments, drifts),
        None => generated::run(arguments),
    };
    #[cfg(not(target_os = "linux"))]
    Err(Trouble::Usage(
        "generated scripts need a live Linux kernel; name FILES to run on the simulated ones".to_owned(),
    ))
}
