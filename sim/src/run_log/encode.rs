//! Writing.

use super::{FORMAT, RunLog, Verdict};
use crate::decision::log::Choice;
use crate::fault::FaultSwitches;
use crate::frame::{self, line, varint};
use crate::trace::{CallRecord, Outcome, errno_rank};

/// Records of a frame.
const BLOCK: usize = 512;

fn put_choice(bytes: &mut Vec<u8>, choice: &Choice, step_before: u64) {
    varint::put(bytes, choice.step.saturating_sub(step_before));
    bytes.push(choice.domain as u8);
    for number in [u64::from(choice.site), u64::from(choice.entity), choice.bound, choice.value] {
        varint::put(bytes, number);
    }
}

fn put_call(bytes: &mut Vec<u8>, call: &CallRecord, ended_before: u64) {
    let difference = call.ended.as_ns().wrapping_sub(ended_before).cast_signed();
    let took = call.ended.as_ns().wrapping_sub(call.began.as_ns()).cast_signed();
    bytes.push(call.call.number());
    varint::put(bytes, u64::from(call.thread.0));
    varint::put(bytes, varint::zigzag(i64::from(call.fd)));
    call.arguments.iter().for_each(|&word| varint::put(bytes, word));
    match call.outcome {
        Outcome::Value(value) => {
            bytes.push(0);
            varint::put(bytes, value);
        }
        Outcome::Error(error) => {
            bytes.push(1);
            varint::put(bytes, errno_rank(error));
        }
    }
    varint::put(bytes, varint::zigzag(difference));
    varint::put(bytes, varint::zigzag(took));
}

/// A file of these frames, each a kind and a payload, with checksums that are right: for whoever tests what reads them.
pub fn framed(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = FORMAT.first_line();
    for (kind, payload) in frames {
        frame::put(&mut bytes, *kind, payload);
    }
    bytes
}

impl RunLog {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = FORMAT.first_line();
        frame::put(&mut bytes, b'H', self.header().as_bytes());
        if let Some(scenario) = &self.scenario {
            frame::put(&mut bytes, b'I', scenario.to_string().as_bytes());
        }
        let mut payload = Vec::new();
        for site in self.choices.sites() {
            varint::put(&mut payload, site.len() as u64);
            payload.extend_from_slice(site.as_bytes());
        }
        frame::put(&mut bytes, b'S', &payload);
        let mut step = 0;
        for block in self.choices.choices().chunks(BLOCK) {
            payload.clear();
            for choice in block {
                put_choice(&mut payload, choice, step);
                step = choice.step;
            }
            frame::put(&mut bytes, b'C', &payload);
        }
        let mut ended = 0;
        for block in self.calls.chunks(BLOCK) {
            payload.clear();
            for call in block {
                put_call(&mut payload, call, ended);
                ended = call.ended.as_ns();
            }
            frame::put(&mut bytes, b'K', &payload);
        }
        if let Some(verdict) = &self.verdict {
            frame::put(&mut bytes, b'E', ending(verdict).as_bytes());
        }
        bytes
    }

    fn header(&self) -> String {
        let mut text = String::new();
        line(&mut text, "build", &self.build);
        line(&mut text, "source", &self.source);
        line(&mut text, if self.workload.is_stage() { "stage" } else { "workload" }, self.workload.name());
        if !self.test.is_empty() {
            line(&mut text, "test", &self.test);
        }
        line(&mut text, "kernel", self.kernel.name());
        line(&mut text, "weather", self.weather.name());
        let FaultSwitches { only, without, suppressed } = self.switches;
        if let Some(only) = only {
            line(&mut text, "faults", &only.to_string());
        }
        line(&mut text, "without-faults", &without.to_string());
        line(&mut text, "suppress-faults", &suppressed.to_string());
        text
    }
}

fn ending(verdict: &Verdict) -> String {
    let mut text = String::new();
    line(&mut text, "trace-hash", &format!("{:#018x}", verdict.trace_hash));
    line(&mut text, "steps", &verdict.steps.to_string());
    if let Some(failure) = &verdict.failure {
        line(&mut text, "oracle", failure.oracle.name());
        line(&mut text, "at", &failure.at.as_ns().to_string());
        line(&mut text, "step", &failure.step.to_string());
        line(&mut text, "details", &failure.details);
    }
    text
}
