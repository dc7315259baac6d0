//! `sim faults`: the catalogue.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Serialize;
use sim::decision::Ratio;
use sim::{FaultKind, Kernel};

use super::{Trouble, parse_kernel};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only faults that are legal under this kernel
    #[arg(long, value_name = "K", value_parser = parse_kernel)]
    kernel: Option<Kernel>,
    /// One JSON object for each fault
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct FaultObject {
    fault: &'static str,
    does: &'static str,
    because: Vec<&'static str>,
    domain: &'static str,
    kernels: Vec<&'static str>,
    /// For each strength, as numerator and denominator.
    default: Vec<[u32; 2]>,
    cruel: Vec<[u32; 2]>,
}

fn object(kind: FaultKind) -> FaultObject {
    let entry = kind.entry();
    let pairs = |rates: &[Ratio]| rates.iter().map(|rate| [rate.numerator, rate.denominator]).collect();
    FaultObject {
        fault: entry.name,
        does: entry.does,
        because: entry.because.split(", ").collect(),
        domain: entry.domain.name(),
        kernels: entry.kernels.iter().map(|kernel| kernel.name()).collect(),
        default: pairs(&entry.strength.default),
        cruel: pairs(&entry.strength.cruel),
    }
}

/// Three rates as one text; they share their denominator in every entry, but need not.
fn rates(rates: &[Ratio]) -> String {
    match rates {
        [first, rest @ ..] if rest.iter().all(|rate| rate.denominator == first.denominator) => {
            let numerators: Vec<String> = rates.iter().map(|rate| rate.numerator.to_string()).collect();
            format!("{}/{}", numerators.join(","), first.denominator)
        }
        _ => rates.iter().map(Ratio::to_string).collect::<Vec<_>>().join(" "),
    }
}

pub(super) fn faults(arguments: &Arguments) -> Result<u8, Trouble> {
    let mut out = BufWriter::new(io::stdout().lock());
    let legal = |kind: &FaultKind| arguments.kernel.is_none_or(|kernel| kind.is_legal_under(kernel));
    let kinds = FaultKind::ALL.iter().copied().filter(legal);
    if arguments.json {
        for kind in kinds {
            let text = serde_json::to_string(&object(kind)).map_err(io::Error::other)?;
            writeln!(out, "{text}")?;
        }
        out.flush()?;
        return Ok(0);
    }
    writeln!(
        out,
        "{:<20} {:<21} {:<10} {:<10} {:<20} what it does",
        "fault", "kernels", "default", "cruel", "because"
    )?;
    for kind in kinds {
        let entry = kind.entry();
        let kernels = if entry.kernels.len() == Kernel::ALL.len() {
            "all".to_owned()
        } else {
            entry.kernels.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(",")
        };
        let (default, cruel) = (rates(&entry.strength.default), rates(&entry.strength.cruel));
        writeln!(
            out,
            "{:<20} {kernels:<21} {default:<10} {cruel:<10} {:<20} {}",
            entry.name, entry.because, entry.does
        )?;
    }
    writeln!(
        out,
        "\nA run draws which faults are on, and for each one of three strengths: how often it happens where it can,\n\
         in default and tiny weather and in cruel weather. Because: facts of the kernels, and B for historical bugs."
    )?;
    out.flush()?;
    Ok(0)
}
