//! Recordings on disk.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use reactor::sys::Readiness;

use super::log::{Cursor, LoopLog};
use super::plan::Plan;
use super::{FORMAT, Failure, Recording, Verdict, settings};
use crate::decision::seed::Seed;
use crate::frame::{self, FileError, Frame, line, lines, named};
use crate::member::Role;
use crate::workload::{Load, WorkloadKind};

/// Before the name of each limit in the header.
const LIMIT: &str = "limit.";

fn readiness_name(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Epoll => "epoll",
        Readiness::Kqueue => "kqueue",
    }
}

fn readiness_of(name: &str) -> Option<Readiness> {
    [Readiness::Epoll, Readiness::Kqueue].into_iter().find(|&other| readiness_name(other) == name)
}

fn write_frame(out: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    out.write_all(&frame::head(kind, payload))?;
    out.write_all(payload)?;
    out.write_all(&frame::checksum(kind, payload).to_le_bytes())
}

impl Recording {
    /// Writes the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&FORMAT.first_line())?;
        write_frame(out, b'H', self.header().as_bytes())?;
        for log in &self.loops {
            write_frame(out, b'L', loop_header(log).as_bytes())?;
            for chunk in log.chunks() {
                write_frame(out, b'K', chunk)?;
            }
        }
        match &self.verdict {
            Some(verdict) => write_frame(out, b'E', ending(verdict).as_bytes()),
            None => Ok(()),
        }
    }

    /// The file, in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes).expect("memory takes all that is written");
        bytes
    }

    /// What is said of it before its loops.
    pub(crate) fn header(&self) -> String {
        let mut text = String::new();
        let Plan { workload, seed, load } = self.plan;
        line(&mut text, "build", &self.build);
        line(&mut text, "workload", workload.name());
        line(&mut text, "plan-seed", &Seed(seed).to_string());
        if let Some(Load { connections, rate_per_s, duration_ns }) = load {
            line(&mut text, "load-connections", &connections.to_string());
            // A rate of zero stands for none.
            line(&mut text, "load-rate-per-s", &rate_per_s.unwrap_or(0).to_string());
            line(&mut text, "load-duration-ns", &duration_ns.to_string());
        }
        line(&mut text, "nobody", &self.nobody.to_string());
        for (name, value) in settings::named(&self.config) {
            line(&mut text, &format!("{LIMIT}{name}"), &value.to_string());
        }
        text
    }

    /// A recording of which only [`Recording::header`] is known.
    pub(crate) fn of_header(payload: &[u8]) -> Result<Recording, String> {
        header_of(payload)
    }

    /// Whether bytes claim to be a recording, of whatever version.
    pub fn is_claimed_by(bytes: &[u8]) -> bool {
        bytes.starts_with(FORMAT.magic.as_bytes())
    }

    /// Reads a file. Of one that was cut off, everything up to its last whole frame is read; it has no verdict then.
    ///
    /// # Errors
    /// When the bytes are something else, newer, damaged, or shorter than a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<Recording, FileError> {
        let mut rest = FORMAT.after_first_line(bytes)?;
        let offset = bytes.len() - rest.len();
        let header = frame::next(&mut rest, offset)?.ok_or(FileError::Truncated)?;
        if header.kind != b'H' {
            return Err(FileError::Senseless { offset, what: "it should be the header".to_owned() });
        }
        let mut recording =
            header_of(header.payload).map_err(|what| FileError::Senseless { offset, what })?;
        let mut at = Cursor::default();
        loop {
            let offset = bytes.len() - rest.len();
            let senseless = |what: String| FileError::Senseless { offset, what };
            let Some(Frame { kind, payload }) = frame::next(&mut rest, offset)? else { break };
            match kind {
                b'L' => {
                    at = Cursor::default();
                    recording.loops.push(loop_of(payload).map_err(senseless)?);
                }
                b'K' => {
                    let log = recording.loops.last_mut();
                    let log = log.ok_or_else(|| senseless("it belongs to no loop".to_owned()))?;
                    log.push_chunk(payload.to_vec(), &mut at).map_err(|what| senseless(what.to_owned()))?;
                }
                b'E' => recording.verdict = Some(verdict_of(payload).map_err(senseless)?),
                // A later version of this format may say more.
                _ => {}
            }
        }
        Ok(recording)
    }
}

fn loop_header(log: &LoopLog) -> String {
    let mut text = String::new();
    line(&mut text, "role", log.role.name());
    line(&mut text, "index", &log.index.to_string());
    // Whoever knows nothing of these two reads the others.
    if log.incarnation > 0 {
        line(&mut text, "incarnation", &log.incarnation.to_string());
    }
    if let Some(shared) = log.shared {
        line(&mut text, "shared", &shared.to_string());
    }
    line(&mut text, "poller", readiness_name(log.readiness));
    let addresses: Vec<String> = log.addresses.iter().map(SocketAddr::to_string).collect();
    line(&mut text, "addresses", &addresses.join(" "));
    line(&mut text, "cut", if log.cut { "yes" } else { "no" });
    text
}

fn ending(verdict: &Verdict) -> String {
    let mut text = String::new();
    line(&mut text, "late", if verdict.late { "yes" } else { "no" });
    if let Some(Failure { invariant, details, .. }) = &verdict.joined {
        line(&mut text, "joined-invariant", invariant);
        line(&mut text, "joined-details", details);
    }
    if let Some(Failure { invariant, details, culprit }) = &verdict.failure {
        line(&mut text, "invariant", invariant);
        line(&mut text, "details", details);
        if let Some(culprit) = culprit {
            line(&mut text, "loop", culprit);
        }
    }
    text
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn header_of(payload: &[u8]) -> Result<Recording, String> {
    let lines = lines(payload)?;
    let seed: Seed = named(&lines, "plan-seed", |text| text.parse().ok())?;
    let workload = named(&lines, "workload", WorkloadKind::from_name)?;
    let plan = Plan { workload, seed: seed.0, load: load_of(&lines)? };
    let limits = lines.iter().filter_map(|(name, value)| Some((name.strip_prefix(LIMIT)?, value.as_str())));
    Ok(Recording {
        build: lines.get("build").cloned().unwrap_or_default(),
        plan,
        nobody: named(&lines, "nobody", |text| text.parse().ok())?,
        config: settings::config_of(limits)?,
        loops: Vec::new(),
        verdict: None,
    })
}

fn load_of(lines: &BTreeMap<&str, String>) -> Result<Option<Load>, String> {
    if !lines.contains_key("load-connections") {
        return Ok(None);
    }
    let number = |text: &str| text.parse::<u64>().ok();
    let connections =
        |text: &str| text.parse().ok().filter(|count| (1..=Load::CONNECTIONS_MAX).contains(count));
    let rate_per_s =
        named(lines, "load-rate-per-s", |text| number(text).filter(|&rate| rate <= Load::RATE_MAX))?;
    Ok(Some(Load {
        connections: named(lines, "load-connections", connections)?,
        rate_per_s: (rate_per_s > 0).then_some(rate_per_s),
        duration_ns: named(lines, "load-duration-ns", |text| number(text).filter(|&ns| ns > 0))?,
    }))
}

fn loop_of(payload: &[u8]) -> Result<LoopLog, String> {
    let lines = lines(payload)?;
    let addresses =
        |text: &str| text.split_whitespace().map(|part| part.parse().ok()).collect::<Option<Vec<_>>>();
    let mut log = LoopLog::empty(
        named(&lines, "role", Role::from_name)?,
        named(&lines, "index", |text| text.parse().ok())?,
        named(&lines, "poller", readiness_of)?,
        named(&lines, "addresses", addresses)?,
    );
    log.cut = named(&lines, "cut", yes_or_no)?;
    if lines.contains_key("incarnation") {
        log.incarnation = named(&lines, "incarnation", |text| text.parse().ok())?;
    }
    if lines.contains_key("shared") {
        log.shared = Some(named(&lines, "shared", |text| text.parse().ok())?);
    }
    Ok(log)
}

fn verdict_of(payload: &[u8]) -> Result<Verdict, String> {
    let lines: BTreeMap<&str, String> = lines(payload)?;
    let text = |name| lines.get(name).cloned();
    let failure = |invariant, details, culprit| {
        let details = text(details).unwrap_or_default();
        Some(Failure { invariant: text(invariant)?, details, culprit: text(culprit) })
    };
    Ok(Verdict {
        late: named(&lines, "late", yes_or_no)?,
        failure: failure("invariant", "details", "loop"),
        joined: failure("joined-invariant", "joined-details", "joined-loop"),
    })
}

/// A file of these frames, each a kind and a payload, with checksums that are right: for whoever tests what reads them.
pub fn framed(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = FORMAT.first_line();
    for (kind, payload) in frames {
        frame::put(&mut bytes, *kind, payload);
    }
    bytes
}
