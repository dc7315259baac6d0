//! `sim conform FILES`: scripts that somebody wrote, or that were kept.

use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;

use sim::file;
use sim::script::{Script, Subject, Verdict};

use super::Arguments;
use crate::command::Trouble;

pub(super) fn run(arguments: &Arguments) -> Result<u8, Trouble> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut scripts = Vec::new();
    for path in &arguments.files {
        let text = file::read_text(path).map_err(|error| Trouble::cannot_read(path, &error))?;
        let script =
            Script::parse(&text).map_err(|error| Trouble::Usage(format!("{}: {error}", path.display())))?;
        scripts.push((path, script));
    }
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (index, (path, script)) in scripts.iter().enumerate() {
        let host = host_of(index);
        for subject in Subject::ALL {
            if arguments.on.is_some_and(|on| on != subject) || !subject.concerns(script) {
                continue;
            }
            match subject.run(script, host) {
                Verdict::Passed => {
                    passed += 1;
                    writeln!(out, "ok       {:<8} {}", subject.name(), path.display())?;
                }
                Verdict::Skipped(reason) => {
                    skipped += 1;
                    writeln!(out, "skipped  {:<8} {}: {reason}", subject.name(), path.display())?;
                }
                Verdict::Failed(failure) => {
                    failed += 1;
                    writeln!(out, "FAILED   {:<8} {}: {failure}", subject.name(), path.display())?;
                }
            }
        }
    }
    writeln!(out, "{passed} passed, {skipped} skipped, {failed} failed")?;
    out.flush()?;
    if passed + skipped + failed == 0 {
        let on = arguments.on.map_or("any kernel", |on| on.name());
        return Err(Trouble::Usage(format!(
            "nothing was run: no script is about {on}; a script about kqueue has the line `on freebsd macos`"
        )));
    }
    Ok(u8::from(failed > 0))
}

/// An address of its own for each script.
fn host_of(index: usize) -> Ipv4Addr {
    let [_, high, middle, low] = (index as u32 % 0x00f0_0000).to_be_bytes();
    Ipv4Addr::new(127, high + 1, middle, low.max(1))
}
