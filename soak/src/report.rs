//! `soak report`: what a soak measured, as one page with charts or as text; two soaks compared; a night with all its parts.

mod chart;
mod compare;
mod fact;
mod page;
mod series;
mod source;
mod text;
mod unit;
mod verdict;

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::night::folder::{self, is_night, standing};
use crate::night::part::Verdict;
use crate::{Failure, say};
use compare::Comparison;
use page::Page;
use source::Source;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder of a soak (`soak run --out DIR`) or of a night
    dir: PathBuf,
    /// Another soak's folder, to compare the first with
    dir2: Option<PathBuf>,
    /// html writes DIR/report.html, or DIR2/compare.html; text prints
    #[arg(long, value_enum, default_value = "html")]
    format: Format,
    /// Where the page goes, instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
    Text,
}

/// Writes or prints a report.
pub(crate) fn report(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { dir, dir2, format, out } = arguments;
    let (text, default_file) = match dir2 {
        Some(dir2) => {
            for dir in [dir, dir2] {
                if is_night(dir) {
                    return Err(Failure::Usage(format!(
                        "{}: a night; compare its parts, which are in {}",
                        dir.display(),
                        dir.join("soak").display()
                    )));
                }
            }
            let (a, b) = (Source::read(dir)?, Source::read(dir2)?);
            (compared(&a, &b, *format), dir2.join("compare.html"))
        }
        None if is_night(dir) => (night(dir, *format)?, dir.join("report.html")),
        None => {
            let source = Source::read(dir)?;
            (one(&source, *format), dir.join("report.html"))
        }
    };
    if *format == Format::Text {
        return say(text.trim_end());
    }
    let file = out.clone().unwrap_or(default_file);
    if !may_replace(&file) {
        return Err(Failure::Usage(format!(
            "{} exists and is no report: name another file with --out",
            file.display()
        )));
    }
    fs::write(&file, text).map_err(|error| Failure::Machine(format!("{}: {error}", file.display())))?;
    say(&file.display().to_string())
}

/// Whether nothing is lost when a report is written there.
fn may_replace(file: &Path) -> bool {
    let mut beginning = [0; 9];
    match fs::File::open(file).and_then(|mut file| file.read_exact(&mut beginning)) {
        Ok(()) => beginning.eq_ignore_ascii_case(b"<!doctype"),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            fs::metadata(file).is_ok_and(|about| !about.is_file() || about.len() == 0)
        }
        // What cannot be written says so when it is written.
        Err(_) => true,
    }
}

fn one(source: &Source, format: Format) -> String {
    if format == Format::Text {
        return text::soak(source);
    }
    let mut page = Page::default();
    page.head(source);
    page.charts(source);
    page.finish(&format!("soak: {}", source.name()))
}

fn compared(a: &Source, b: &Source, format: Format) -> String {
    let comparison = Comparison::of(a, b);
    if format == Format::Text {
        return text::comparison(&comparison);
    }
    let mut page = Page::default();
    page.head(a);
    page.head(b);
    page.comparison(&comparison);
    page.chart_pairs(a, b);
    page.finish(&format!("soak: {} and {}", a.name(), b.name()))
}

/// A night: its parts, and the charts of those that have any.
fn night(dir: &Path, format: Format) -> Result<String, Failure> {
    let (table, results) = folder::read(dir)?;
    let results = standing(&results);
    let soaks: Vec<Source> = results
        .iter()
        .map(|result| dir.join("soak").join(&result.part))
        .filter(|folder| folder.join("intervals.jsonl").is_file())
        .map(|folder| Source::read(&folder))
        .collect::<Result<_, Failure>>()?;
    if format == Format::Text {
        let line = |result: &&crate::night::part::PartResult| {
            let why = if result.why.is_empty() { String::new() } else { format!(": {}", result.why) };
            format!("{}: {} ({} s){why}\n", result.verdict, result.part, result.took_ms / 1000)
        };
        let mut text: String = results.iter().map(line).collect();
        for source in &soaks {
            text.push('\n');
            text.push_str(&text::soak(source));
        }
        return Ok(text);
    }
    let mut page = Page::default();
    let name = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let count = |verdict| folder::count(&results, verdict).to_string();
    let facts = [
        ("passed", count(Verdict::Passed)),
        ("failed", count(Verdict::Failed)),
        ("left out", count(Verdict::LeftOut)),
        ("seed", table.seed.clone()),
        ("length", unit::span(table.seconds as f64)),
        ("processors", table.processors.clone()),
    ];
    let facts = facts.map(|(name, text)| fact::Fact { name: name.to_owned(), text });
    page.parts(&name, &facts, &results);
    for source in &soaks {
        page.head(source);
        page.charts(source);
    }
    Ok(page.finish(&format!("night: {name}")))
}
