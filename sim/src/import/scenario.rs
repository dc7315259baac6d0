//! What an imported run is made of, beside its decisions: enough to make it again with no recording nearby.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use reactor::Config;

use super::act::Act;
use super::bytes::PeerBytes;
use super::reading::{PeerReading, Reading};
use super::timing::Timing;
use crate::frame::{line, lines, named};
use crate::kernel::Kernel;
use crate::member::Role;
use crate::recording::{LoopLog, Plan, PlanUse, Recording};
use crate::workload::{Accounts, Numbered, WorkloadKind};

/// Messages of one producer that follow each other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Series {
    pub(crate) first: Numbered,
    /// At least 1.
    pub(crate) count: u64,
}

/// A peer, as far as it is not decided what it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerPart {
    /// How many acts it has.
    pub(crate) acts: u32,
    /// Where the loop reaches it; `None` for one that reaches the loop.
    pub(crate) address: Option<SocketAddr>,
    /// It sends back what it gets, and not what it has to send.
    pub(crate) echoes: bool,
    /// All that it has to send.
    pub(crate) bytes: PeerBytes,
}

/// Lanes have no more acts than these together: no recording has, and a file that claims more would only cost whoever reads it.
const ACTS_MAX: u64 = 1 << 26;
/// Bytes that a file may have made of streams.
const STREAM_BYTES_MAX: u64 = 1 << 30;
/// Before each peer's line.
const PEER: &str = "peer ";

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(crate) plan: Plan,
    pub(crate) role: Role,
    pub(crate) index: u32,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) nobody: SocketAddr,
    pub(crate) config: Config,
    pub(crate) origin_ns: u64,
    pub(crate) call_ns: u64,
    pub(crate) peers: Vec<PeerPart>,
    pub(crate) errands: u32,
    pub(crate) messages: Vec<Series>,
}

struct HasParty {
    role: Role,
    index: usize,
    addresses: usize,
}

impl PlanUse for HasParty {
    type Output = bool;

    fn with<W>(self, plan: W) -> bool
    where
        W: Accounts,
    {
        let most = if self.role == Role::Service { plan.services() } else { plan.clients() };
        self.index < most && self.addresses == plan.services()
    }
}

impl Scenario {
    pub(super) fn of(recording: &Recording, log: &LoopLog, timing: &Timing, reading: &Reading) -> Scenario {
        let acts = |acts: &[Act]| u32::try_from(acts.len()).unwrap_or(u32::MAX);
        let is_echo = recording.plan.workload == WorkloadKind::Echo;
        let part = |peer: &PeerReading| {
            let bytes = PeerBytes::of(&peer.bytes);
            // Nothing else is an echo: what an echo is not sends what was recorded, right or wrong.
            let plain = peer.bytes.is_empty() || matches!(bytes, PeerBytes::Stream(..));
            let echoes = is_echo && peer.address.is_some() && plain && !peer.ended_first;
            PeerPart { acts: acts(&peer.acts), address: peer.address, echoes, bytes }
        };
        Scenario {
            plan: recording.plan,
            role: log.role,
            index: log.index,
            addresses: log.addresses.clone(),
            nobody: recording.nobody,
            config: recording.config.clone(),
            origin_ns: timing.origin_ns,
            call_ns: timing.call_ns,
            peers: reading.peers.iter().filter(|peer| !peer.failed).map(part).collect(),
            errands: acts(&reading.errands),
            messages: series_of(&reading.messages),
        }
    }

    /// The plan of the episode.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The kernel that has the readiness calls of the recording.
    pub fn kernel(&self) -> Kernel {
        Kernel::Linux
    }

    /// The name of the loop.
    pub fn subject(&self) -> String {
        format!("{} {}", self.role.name(), self.index)
    }

    /// Whether the plan, as this version draws it, has such a loop.
    pub(crate) fn has_party(&self) -> bool {
        let Scenario { role, index, .. } = *self;
        let part = HasParty { role, index: index as usize, addresses: self.addresses.len() };
        self.plan.draw(part).unwrap_or(false)
    }

    /// More calls than a run that comes to an end makes.
    pub(crate) fn calls_max(&self) -> u64 {
        let acts = self.peers.iter().map(|peer| u64::from(peer.acts)).sum::<u64>() + u64::from(self.errands);
        5_000_000 + acts * 64
    }

    /// Whether what the party waits for is owed by the loop and the machine, and not by what peers choose to do.
    pub(crate) fn owes_by_itself(&self) -> bool {
        let timers = self.plan.workload == WorkloadKind::Timers && self.role == Role::Service;
        let all_echo = self.peers.iter().all(|peer| peer.echoes);
        timers || self.plan.workload == WorkloadKind::Echo && self.role == Role::Client && all_echo
    }

    /// Whether whatever the loop is sent must come back from it.
    pub(crate) fn echoes(&self) -> bool {
        self.plan.workload == WorkloadKind::Echo
            && self.role == Role::Service
            && self.index as usize + 1 == self.addresses.len()
    }
}

impl PartialEq for Scenario {
    fn eq(&self, other: &Scenario) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Scenario {}

/// Lines `name value`, then a line for each peer.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario {
            plan,
            role,
            index,
            addresses,
            nobody,
            config,
            origin_ns,
            call_ns,
            peers,
            errands,
            messages,
        } = self;
        let header = Recording::new(*plan, *nobody, config).header();
        // Who made it is said elsewhere, and another build makes the same run.
        let mut text: String = header
            .lines()
            .filter(|line| !line.starts_with("build "))
            .map(|line| format!("{line}\n"))
            .collect();
        line(&mut text, "role", role.name());
        line(&mut text, "index", &index.to_string());
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        line(&mut text, "addresses", &addresses.join(" "));
        line(&mut text, "origin-ns", &origin_ns.to_string());
        line(&mut text, "call-ns", &call_ns.to_string());
        line(&mut text, "errands", &errands.to_string());
        if !messages.is_empty() {
            let words = |series: &Series| {
                let Series { first: Numbered { producer, number }, count } = series;
                format!("{producer}:{number}+{count}")
            };
            line(&mut text, "messages", &messages.iter().map(words).collect::<Vec<_>>().join(" "));
        }
        f.write_str(&text)?;
        for PeerPart { acts, address, echoes, bytes } in peers {
            let how = match address {
                None => "comes".to_owned(),
                Some(address) if *echoes => format!("echoes-at {address}"),
                Some(address) => format!("listens-at {address}"),
            };
            writeln!(f, "{PEER}{acts} {how} {bytes}")?;
        }
        Ok(())
    }
}

fn series_of(messages: &[Numbered]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for &message in messages {
        match all.last_mut() {
            Some(Series { first, count })
                if first.producer == message.producer
                    && first.number.checked_add(*count) == Some(message.number) =>
            {
                *count += 1;
            }
            _ => all.push(Series { first: message, count: 1 }),
        }
    }
    all
}

/// Reads `producer:first+count ...`.
fn messages_of(text: &str) -> Option<Vec<Series>> {
    let series = |text: &str| {
        let (producer, rest) = text.split_once(':')?;
        let (number, count) = rest.split_once('+')?;
        let (number, count): (u64, u64) = (number.parse().ok()?, count.parse().ok()?);
        number.checked_add(count).filter(|_| count > 0)?;
        Some(Series { first: Numbered { producer: producer.parse().ok()?, number }, count })
    };
    text.split_whitespace().map(series).collect()
}

fn peer_of(text: &str) -> Option<PeerPart> {
    let (acts, rest) = text.split_once(' ')?;
    let (how, rest) = rest.split_once(' ')?;
    let (address, rest) = match how {
        "comes" => (None, rest),
        "echoes-at" | "listens-at" => {
            let (address, rest) = rest.split_once(' ')?;
            (Some(address.parse().ok()?), rest)
        }
        _ => return None,
    };
    let (acts, echoes, bytes) = (acts.parse().ok()?, how == "echoes-at", PeerBytes::parse(rest)?);
    Some(PeerPart { acts, address, echoes, bytes })
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Scenario, String> {
        let peers_at =
            if text.starts_with(PEER) { 0 } else { text.find("\npeer ").map_or(text.len(), |at| at + 1) };
        let (head, rest) = text.split_at(peers_at);
        let peers = rest.lines().map(|line| line.strip_prefix(PEER).and_then(peer_of));
        let peers: Vec<PeerPart> = peers.collect::<Option<_>>().ok_or("a peer of it cannot be read")?;
        let recording = Recording::of_header(head.as_bytes())?;
        let lines = lines(head.as_bytes())?;
        let number = |name| named(&lines, name, |text| text.parse::<u64>().ok());
        let addresses =
            |text: &str| text.split_whitespace().map(|part| part.parse().ok()).collect::<Option<Vec<_>>>();
        let scenario = Scenario {
            plan: recording.plan,
            role: named(&lines, "role", Role::from_name)?,
            index: named(&lines, "index", |text| text.parse().ok())?,
            addresses: named(&lines, "addresses", addresses)?,
            nobody: recording.nobody,
            config: recording.config,
            origin_ns: number("origin-ns")?,
            call_ns: number("call-ns")?.clamp(1, 1_000_000),
            peers,
            errands: named(&lines, "errands", |text| text.parse().ok())?,
            messages: match lines.contains_key("messages") {
                true => named(&lines, "messages", messages_of)?,
                false => Vec::new(),
            },
        };
        let acts: u64 =
            scenario.peers.iter().map(|peer| u64::from(peer.acts)).sum::<u64>() + u64::from(scenario.errands);
        let streams = scenario.peers.iter().map(|peer| peer.bytes.length());
        let bytes = streams.fold(0, u64::saturating_add);
        if acts > ACTS_MAX || bytes > STREAM_BYTES_MAX {
            return Err(format!("{acts} acts and {bytes} bytes are more than any imported run has"));
        }
        if !scenario.has_party() {
            return Err(format!("its plan has no {}", scenario.subject()));
        }
        Ok(scenario)
    }
}
