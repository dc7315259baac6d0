//! What is left of the workload `echo` for its verdict, and the verdict.

use std::collections::BTreeMap;

use super::Echo;
use super::client::{Attempt, EchoClient, Fate};
use super::service::{EchoService, Ended};
use crate::workload::{Accounts, Breach, Tally, Workload};

/// What a loop of clients leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EchoClientLedger {
    /// Its connections, counted.
    pub tally: Tally,
    /// Its streams; under load, without those that ended well and made room for others.
    pub attempts: Vec<AttemptLedger>,
}

/// What became of a stream, in a few words.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// It did what its plan says.
    AsPlanned,
    /// It has neither completed nor failed.
    Unended,
    /// It could not connect, with the error.
    ConnectFailed(String),
    /// It heard nothing for too long.
    GivenUp,
    /// It ended early; without an error when it seemed to end in order.
    Broken(Option<String>),
}

/// One stream, as who sent it saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttemptLedger {
    /// The stream's number.
    pub stream: u64,
    /// Its length in bytes, header included.
    pub length: u64,
    /// Bytes given to the loop.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Requests that were sent, at least in part.
    pub issued: u64,
    /// Requests whose answers are complete.
    pub completed: u64,
    /// Requests that were under way when the stream ended.
    pub lost: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the world broke it.
    pub excused: bool,
}

/// What a service leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EchoServiceLedger {
    /// Its connections, counted.
    pub tally: Tally,
    /// The streams it saw end; under load, only the last of those that ended in order.
    pub streams: Vec<StreamLedger>,
    /// Connections that were lost before they had said which stream they carried.
    pub nameless_losses: u64,
}

/// One stream, as a service saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StreamLedger {
    /// The stream's number.
    pub stream: u64,
    /// Whether nothing happened to it that excuses a loss.
    pub in_order: bool,
    /// All of it in words.
    pub told: String,
}

fn attempt_ledger(attempt: &Attempt) -> AttemptLedger {
    AttemptLedger {
        stream: attempt.content.stream,
        length: attempt.content.length,
        sent: attempt.sent,
        received: attempt.received,
        issued: attempt.issued(),
        completed: attempt.completed,
        lost: attempt.lost,
        outcome: match attempt.fate {
            Fate::Completed | Fate::Vanished | Fate::RefusedByNobody => Outcome::AsPlanned,
            Fate::NotStarted | Fate::Connecting | Fate::Open => Outcome::Unended,
            Fate::ConnectFailed(error) => Outcome::ConnectFailed(error.to_string()),
            Fate::GivenUp => Outcome::GivenUp,
            Fate::Broken(error) => Outcome::Broken(error.map(|error| error.to_string())),
        },
        excused: attempt.excused,
    }
}

impl Accounts for Echo {
    type ServiceLedger = EchoServiceLedger;
    type ClientLedger = EchoClientLedger;

    fn service_ledger(service: &EchoService) -> EchoServiceLedger {
        let streams = service.streams().map(|stream| StreamLedger {
            stream: stream.content.stream,
            in_order: stream.ended == Ended::InOrder,
            told: stream.to_string(),
        });
        EchoServiceLedger {
            tally: service.tally(),
            streams: streams.collect(),
            nameless_losses: service.nameless_losses(),
        }
    }

    fn client_ledger(client: &EchoClient) -> EchoClientLedger {
        EchoClientLedger { tally: client.tally(), attempts: client.attempts().map(attempt_ledger).collect() }
    }

    fn judge_ledgers(
        &self,
        services: &[EchoServiceLedger],
        clients: &[EchoClientLedger],
        lost_at_accept: bool,
    ) -> Result<(), Breach> {
        for service in services {
            service.tally.check("service")?;
        }
        let mut served: BTreeMap<u64, Vec<&StreamLedger>> = BTreeMap::new();
        for stream in services.iter().flat_map(|service| &service.streams) {
            served.entry(stream.stream).or_default().push(stream);
        }
        let lost_unnamed = lost_at_accept || services.iter().any(|service| service.nameless_losses > 0);
        for client in clients {
            client.tally.check("client")?;
            for attempt in &client.attempts {
                let ends = served.get(&attempt.stream).map_or(&[][..], Vec::as_slice);
                // A service that does not know the stream may be the one that lost it. Of those that share an address, one
                // alone has it.
                judge_attempt(attempt, ends, lost_unnamed && ends.len() < self.services())?;
            }
        }
        Ok(())
    }
}

fn judge_attempt(
    attempt: &AttemptLedger,
    served: &[&StreamLedger],
    lost_unnamed: bool,
) -> Result<(), Breach> {
    let AttemptLedger { stream, length, sent, received, issued, completed, lost, .. } = *attempt;
    if completed + lost != issued {
        return Err(Breach::new(
            "conservation",
            format!("stream {stream:#x}: {issued} requests issued, {completed} completed, {lost} lost"),
        ));
    }
    let served_lost = served.iter().any(|end| !end.in_order) || lost_unnamed;
    let (invariant, what) = match &attempt.outcome {
        Outcome::AsPlanned => return Ok(()),
        Outcome::Unended => ("conservation", "has neither completed nor failed".to_owned()),
        Outcome::ConnectFailed(error) => ("conservation", format!("could not connect: {error}")),
        Outcome::GivenUp => ("liveness", "heard nothing more and was given up".to_owned()),
        Outcome::Broken(Some(error)) => ("byte-stream", format!("broke: {error}")),
        Outcome::Broken(None) => ("byte-stream", "ended early".to_owned()),
    };
    if attempt.excused || served_lost {
        return Ok(());
    }
    let other: Vec<&str> = served.iter().map(|end| end.told.as_str()).collect();
    Err(Breach::new(
        invariant,
        format!(
            "stream {stream:#x} {what}, and nothing excuses it: {sent} of {length} bytes sent, {received} came back; {}",
            if other.is_empty() { "no service saw it".to_owned() } else { other.join("; ") }
        ),
    ))
}
