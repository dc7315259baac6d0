//! Reading, from files that anybody may have made.

use std::borrow::Cow;
use std::sync::Arc;

use reactor::sys::Errno;
use reactor::time::Instant;

use super::{FORMAT, RunLog, Verdict, oracle_named};
use crate::decision::Domain;
use crate::decision::log::{Choice, ChoiceLog};
use crate::fault::FaultSwitches;
use crate::frame::{self, FileError, Frame, lines, named, varint};
use crate::kernel::Kernel;
use crate::runner::Failure;
use crate::schedule::ThreadId;
use crate::stage::StageName;
use crate::trace::{CallKind, CallRecord, Outcome};
use crate::weather::Weather;
use crate::workload::WorkloadKind;

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
        bytes.starts_with(FORMAT.magic.as_bytes())
    }

    /// Reads a file. Of one that was cut off, everything up to its last whole frame is read; it has no verdict then.
    ///
    /// # Errors
    /// When the bytes are something else, newer, damaged, or shorter than a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<RunLog, FileError> {
        let mut rest = FORMAT.after_first_line(bytes)?;
        let offset = bytes.len() - rest.len();
        let header = frame::next(&mut rest, offset)?.ok_or(FileError::Truncated)?;
        if header.kind != b'H' {
            return Err(FileError::Senseless { offset, what: "it should be the header".to_owned() });
        }
        let mut log = header_of(header.payload).map_err(|what| FileError::Senseless { offset, what })?;
        let (mut step, mut ended) = (0, 0);
        loop {
            let offset = bytes.len() - rest.len();
            let senseless = |what: &str| FileError::Senseless { offset, what: what.to_owned() };
            let Some(Frame { kind, mut payload }) = frame::next(&mut rest, offset)? else { break };
            match kind {
                b'I' => {
                    let text = std::str::from_utf8(payload).map_err(|_| senseless("it is not text"))?;
                    let scenario = text.parse().map_err(|what: String| senseless(&what))?;
                    log.scenario = Some(Arc::new(scenario));
                }
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
                    log.verdict = Some(verdict.map_err(|what| FileError::Senseless { offset, what })?);
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
        scenario: None,
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
