//! `sim conform`: the simulated kernel against the live one.

use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;
use sim::script::{Script, Subject, Verdict};

use super::Trouble;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Script files; see the documentation of `sim::script` for the language
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only this kernel: live, linux, freebsd or macos
    #[arg(long, value_name = "KERNEL", value_parser = parse_subject)]
    on: Option<Subject>,
    /// Lists the verbs of scripts
    #[arg(long)]
    verbs: bool,
}

fn parse_subject(text: &str) -> Result<Subject, String> {
    Subject::from_name(text).ok_or_else(|| super::unknown(text, &Subject::ALL.map(Subject::name)))
}

pub(super) fn conform(arguments: &Arguments) -> Result<u8, Trouble> {
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.verbs {
        for verb in sim::script::verb::Verb::ALL {
            writeln!(out, "{:<60} {}", verb.usage(), verb.says())?;
        }
        out.flush()?;
        return Ok(0);
    }
    let mut scripts = Vec::new();
    for file in &arguments.files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Trouble::InputOutput(format!("{}: {error}", file.display())))?;
        let script =
            Script::parse(&text).map_err(|error| Trouble::Usage(format!("{}: {error}", file.display())))?;
        scripts.push((file, script));
    }
    let mut failed = 0;
    for (index, (file, script)) in scripts.iter().enumerate() {
        let host = host_of(index);
        for subject in Subject::ALL {
            if arguments.on.is_some_and(|on| on != subject) || !subject.concerns(script) {
                continue;
            }
            match subject.run(script, host) {
                Verdict::Passed => writeln!(out, "ok       {:<8} {}", subject.name(), file.display())?,
                Verdict::Skipped(reason) => {
                    writeln!(out, "skipped  {:<8} {}: {reason}", subject.name(), file.display())?;
                }
                Verdict::Failed(failure) => {
                    failed += 1;
                    writeln!(out, "FAILED   {:<8} {}: {failure}", subject.name(), file.display())?;
                }
            }
        }
    }
    out.flush()?;
    Ok(u8::from(failed > 0))
}

/// An address of its own for each script.
fn host_of(index: usize) -> Ipv4Addr {
    let [_, high, middle, low] = (index as u32 % 0x00f0_0000).to_be_bytes();
    Ipv4Addr::new(127, high + 1, middle, low.max(1))
}
