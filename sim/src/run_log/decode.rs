//! Reading, from files that anybody may have made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use reactor::sys::Errno;
use reactor::time::Instant;

use super::{MAGIC, RunLog, VERSION, Verdict, encode, oracle_named, varint};
use crate::decision::Domain;
use crate::decision::log::{Choice, ChoiceLog};
use crate::fault::FaultSwitches;
use crate::kernel::Kernel;
use crate::runner::Failure;
use crate::schedule::ThreadId;
use crate::stage::StageName;
use crate::trace::{CallKind, CallRecord, Outcome};
use crate::weather::Weather;
use crate::workload::WorkloadKind;

/// Why bytes are no kept run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogError {
    /// Something else altogether.
    Foreign,
    /// Made by a newer program.
    Newer {
        /// Its version of the format.
        version: u32,
    },
    /// Too short to have so much as a whole header.
    Truncated,
    /// A frame is not what its checksum says.
    Damaged {
        /// Where the frame begins, in bytes.
        offset: usize,
    },
    /// A frame makes no sense.
    Senseless {
        /// Where the frame begins, in bytes.
        offset: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Foreign => write!(f, "it does not begin with `{MAGIC}`, so it is no kept run"),
            LogError::Newer { version } => write!(
                f,
                "it has version {version} of the format, and this program reads up to {VERSION}: take a newer `sim`"
            ),
            LogError::Truncated => {
                f.write_str("it ends before its header does, so nothing of it can be used")
            }
            LogError::Damaged { offset } => {
                write!(f, "it is damaged: the frame at byte {offset} does not match its checksum")
            }
            LogError::Senseless { offset, what } => {
                write!(f, "the frame at byte {offset} makes no sense: {what}")
            }
        }
    }
}

impl std::error::Error for LogError {}

/// Whether bytes claim to be a kept run.
fn version_of(bytes: &[u8]) -> Result<(u32, &[u8]), LogError> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(LogError::Foreign)?;
    let rest = rest.strip_prefix(b" ").ok_or(LogError::Foreign)?;
    let end = rest.iter().take(11).position(|&byte| byte == b'\n').ok_or(LogError::Truncated)?;
    let version = std::str::from_utf8(&rest[..end]).ok().and_then(|digits| digits.parse().ok());
    Ok((version.ok_or(LogError::Foreign)?, &rest[end + 1..]))
}

struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
}

/// The next whole frame; `None` at the end, or where the file was cut off.
fn next_frame<'a>(rest: &mut &'a [u8], offset: usize) -> Result<Option<Frame<'a>>, LogError> {
    let mut ahead = *rest;
    let Some((&kind, after)) = ahead.split_first() else { return Ok(None) };
    ahead = after;
    let Some(length) = varint::take(&mut ahead) else { return Ok(None) };
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let Some(whole) = length.checked_add(4).filter(|&whole| whole <= ahead.len()) else { return Ok(None) };
    let (payload, sum) = ahead[..whole].split_at(length);
    if encode::checksum(kind, payload).to_le_bytes() != *sum {
        return Err(LogError::Damaged { offset });
    }
    *rest = &ahead[whole..];
    Ok(Some(Frame { kind, payload }))
}

/// Lines `name value`.
fn lines(payload: &[u8]) -> Result<BTreeMap<&str, String>, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "it is not text".to_owned())?;
    let mut found = BTreeMap::new();
    // Not `lines()`, which takes a carriage return off the end of a value.
    for line in text.split_terminator('\n') {
        let (name, value) = line.split_once(' ').ok_or_else(|| format!("{line:?} has no value"))?;
        found.insert(name, unescaped(value));
    }
    Ok(found)
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(if letters.next() == Some('n') { '\n' } else { '\\' }),
            _ => text.push(letter),
        }
    }
    text
}

fn named<T>(
    lines: &BTreeMap<&str, String>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let value = lines.get(name).ok_or_else(|| format!("no {name} is named"))?;
    parse(value).ok_or_else(|| format!("there is no {name} {value:?} here"))
}

fn take_choice(payload: &mut &[u8], step: &mut u64, log: &ChoiceLog) -> Option<Choice> {
    *step = step.checked_add(varint::take(payload)?)?;
    let (&domain, rest) = payload.split_first()?;
    *payload = rest;
    let domain = *Domain::ALL.get(usize::from(domain))?;
    let site =
        u16::try_from(varint::take(payload)?).ok().filter(|&site| usize::from(site) < log.sites().len())?;
    let entity = u32::try_from(varint::take(payload)?).ok()?;
    let bound = varint::take(payload)?;
    let value = varint::take(payload).filter(|&value| value < bound)?;
    Some(Choice { step: *step, domain, entity, site, value, bound })
}

fn take_call(payload: &mut &[u8], ended_before: &mut u64) -> Option<CallRecord> {
    let (&number, rest) = payload.split_first()?;
    *payload = rest;
    let call = CallKind::from_number(number)?;
    let thread = ThreadId(u32::try_from(varint::take(payload)?).ok()?);
    let fd = i32::try_from(varint::unzigzag(varint::take(payload)?)).ok()?;
    let arguments = [varint::take(payload)?, varint::take(payload)?];
    let (&error, rest) = payload.split_first()?;
    *payload = rest;
    let number = varint::take(payload)?;
    let outcome = match error {
        0 => Outcome::Value(number),
        1 => Outcome::Error(*Errno::LISTED.get(usize::try_from(number).ok()?)?),
        _ => return None,
    };
    let ended = ended_before.wrapping_add(varint::unzigzag(varint::take(payload)?).cast_unsigned());
    let began = ended.wrapping_sub(varint::unzigzag(varint::take(payload)?).cast_unsigned());
    *ended_before = ended;
    let (began, ended) = (Instant::from_ns(began), Instant::from_ns(ended));
    Some(CallRecord { step: 0, thread, began, ended, call, fd, arguments, outcome })
}

impl RunLog {
    /// Whether bytes claim to be a kept run, of whatever version.
    pub fn is_claimed_by(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC.as_bytes())
    }

    /// Reads a file. Of one that was cut off, everything up to its last whole frame is read; it has no verdict then.
    ///
    /// # Errors
    /// When the bytes are something else, newer, damaged, or shorter than a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<RunLog, LogError> {
        let (version, mut rest) = version_of(bytes)?;
        if version > VERSION {
            return Err(LogError::Newer { version });
        }
        let offset = bytes.len() - rest.len();
        let header = next_frame(&mut rest, offset)?.ok_or(LogError::Truncated)?;
        if header.kind != b'H' {
            return Err(LogError::Senseless { offset, what: "it should be the header".to_owned() });
        }
        let mut log = header_of(header.payload).map_err(|what| LogError::Senseless { offset, what })?;
        let (mut step, mut ended) = (0, 0);
        loop {
            let offset = bytes.len() - rest.len();
            let senseless = |what: &str| LogError::Senseless { offset, what: what.to_owned() };
            let Some(Frame { kind, mut payload }) = next_frame(&mut rest, offset)? else { break };
            match kind {
                b'S' => {
                    while !payload.is_empty() {
                        let site = take_site(&mut payload).ok_or_else(|| senseless("a site has no name"))?;
                        log.choices.site_number(Cow::Owned(site));
                    }
                }
                b'C' => {
                    while !payload.is_empty() {
                        let choice = take_choice(&mut payload, &mut step, &log.choices);
                        log.choices.push(choice.ok_or_else(|| senseless("a decision cannot be read"))?);
                    }
                }
                b'K' => {
                    while !payload.is_empty() {
                        let call = take_call(&mut payload, &mut ended);
                        let mut call = call.ok_or_else(|| senseless("a call cannot be read"))?;
                        call.step = log.calls.len() as u64 + 1;
                        log.calls.push(call);
                    }
                }
                b'E' => {
                    let verdict = verdict_of(payload);
                    log.verdict = Some(verdict.map_err(|what| LogError::Senseless { offset, what })?);
                }
                // A later version of this format may say more.
                _ => {}
            }
        }
        Ok(log)
    }
}

fn take_site(payload: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(varint::take(payload)?).ok()?;
    let name = payload.get(..length)?;
    *payload = &payload[length..];
    String::from_utf8(name.to_vec()).ok()
}

fn header_of(payload: &[u8]) -> Result<RunLog, String> {
    let lines = lines(payload)?;
    let faults =
        |name| lines.get(name).map(|text| text.parse().map_err(|_| format!("{text:?} are no faults here")));
    let switches = FaultSwitches {
        only: faults("faults").transpose()?,
        without: faults("without-faults").transpose()?.unwrap_or_default(),
        suppressed: faults("suppress-faults").transpose()?.unwrap_or_default(),
    };
    let workload = if lines.contains_key("stage") {
        named(&lines, "stage", |name| StageName::new(name).ok().map(WorkloadKind::Stage))?
    } else {
        named(&lines, "workload", WorkloadKind::from_name)?
    };
    let kernel = named(&lines, "kernel", Kernel::from_name)?;
    let weather = named(&lines, "weather", Weather::from_name)?;
    let text = |name| lines.get(name).cloned().unwrap_or_default();
    Ok(RunLog {
        build: text("build"),
        source: text("source"),
        workload,
        test: text("test"),
        kernel,
        weather,
        switches,
        choices: ChoiceLog::default(),
        calls: Vec::new(),
        verdict: None,
    })
}

fn verdict_of(payload: &[u8]) -> Result<Verdict, String> {
    let lines = lines(payload)?;
    let number = |name| named(&lines, name, |text| text.parse::<u64>().ok());
    let trace_hash =
        named(&lines, "trace-hash", |text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok())?;
    let failure = match lines.get("oracle") {
        None => None,
        Some(_) => Some(Failure {
            oracle: named(&lines, "oracle", oracle_named)?,
            at: Instant::from_ns(number("at")?),
            step: number("step")?,
            details: lines.get("details").cloned().unwrap_or_default(),
        }),
    };
    Ok(Verdict { trace_hash, steps: number("steps")?, failure })
}
