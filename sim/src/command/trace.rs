//! `sim trace`: one run, as a picture or as a file for another tool.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use sim::explain::FailureBlock;
use sim::file;
use sim::runner::{Input, run};
use sim::view::{Format, View};
use sim::{ObligationCheck, RunOptions};

use super::input::Case;
use super::replay::Compared;
use super::{Fixed, Trouble, recording, unknown};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A seed, or a file, see below
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// text; json (one object a line); html (one page for a browser); perfetto (for ui.perfetto.dev); pcapng (for Wireshark)
    #[arg(long, value_name = "F", default_value = "text", value_parser = parse_format)]
    format: Format,
    /// Where it is written [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Stops after so many calls
    #[arg(long, value_name = "STEP")]
    until: Option<u64>,
    #[command(flatten)]
    fixed: Fixed,
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::from_name(text).ok_or_else(|| unknown(text, Format::ALL.map(Format::name).as_slice()))
}

pub(super) fn trace(arguments: &Arguments) -> Result<u8, Trouble> {
    let Arguments { format, .. } = *arguments;
    if format == Format::Pcapng && arguments.out.is_none() && io::stdout().is_terminal() {
        return Err(Trouble::Usage("a capture is not for a terminal: say where with --out FILE".to_owned()));
    }
    if let Some(out) = &arguments.out
        && let (Ok(input), Ok(output)) = (fs::canonicalize(&arguments.what), fs::canonicalize(out))
        && input == output
    {
        return Err(Trouble::Usage(format!(
            "{} is what is to be shown: name another file with --out",
            out.display()
        )));
    }
    if let Some(recorded) = recording::read(&arguments.what)? {
        arguments.fixed.refuse_for_recording(&arguments.what)?;
        let Arguments { what, until, .. } = arguments;
        written(arguments, |out| recording::show(what, &recorded, format, *until, out))?;
        return Ok(0);
    }
    let case = Case::read(&arguments.what, &arguments.fixed)?;
    let options = RunOptions {
        obligations: ObligationCheck::Always,
        until_step: arguments.until,
        ..case.options.clone().recorded()
    };
    let outcome = run(&options, case.decisions());
    let input = Input::File(&case.name);
    let failure = outcome.failure.as_ref();
    let replay = failure.map(|failure| {
        let block = FailureBlock {
            outcome: &outcome,
            failure,
            input,
            options: &case.options,
            explanation: None,
            kept: None,
        };
        block.replay()
    });
    let replay = replay.unwrap_or_else(|| format!("sim replay {}", case.name));
    let view = View::of(&outcome, &case.name, &replay).expect("the run was recorded");
    written(arguments, |out| Ok(view.write(format, out)?))?;
    let compared = Compared::of(&case, &outcome, arguments.until);
    if let Compared::Differs { .. } = compared {
        eprintln!("sim: {}: {compared}", case.name);
    }
    Ok(compared.exit_code())
}

/// Writes to where it was asked for.
fn written(
    arguments: &Arguments,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    match &arguments.out {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            write(&mut out)?;
            out.flush()?;
        }
        Some(path) => {
            let cannot = |error| Trouble::InputOutput(format!("cannot write {}: {error}", path.display()));
            let mut trouble = None;
            let written = file::replace(path, |mut out| {
                write(&mut out).map_err(|error| {
                    let text = error.to_string();
                    trouble = Some(error);
                    io::Error::other(text)
                })
            });
            match (written, trouble) {
                (_, Some(Trouble::Usage(text))) => return Err(Trouble::Usage(text)),
                (written, _) => written.map_err(cannot)?,
            }
        }
    }
    Ok(())
}
