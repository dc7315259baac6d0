//! The workload `echo`: clients of every temper against an echo service, sometimes through a second hop.
//!
//! Oracles: `byte-stream` (bytes equal and in order; who ends in order gets everything back and then a clean end, unless
//! the world excuses it), `conservation` (each connect ends once, each connection closes once, each request completes
//! once), `liveness` (a stream that waits for ever).

mod client;
mod feed;
mod ledger;
mod service;

pub use client::{Attempt, EchoClient, Fate};
pub use ledger::{AttemptLedger, EchoClientLedger, EchoServiceLedger, Outcome, StreamLedger};
pub(crate) use service::is_shortage;
pub use service::{EchoService, Ended, ServedStream};

use std::net::SocketAddr;
use std::sync::Arc;

use reactor::Config;

use self::feed::Feed;
use super::stream_plan::{Appetite, Ending, StreamPlan};
use super::{Breach, Load, Scale, Workload, between, ledger as accounts, pick};
use crate::decision::Decisions;

/// How a service sends bytes back.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Writing {
    /// Copied, as they came.
    Copied,
    /// As shared bytes.
    Shared,
    /// In pieces of this many bytes.
    Pieces(usize),
}

/// How the services behave.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ServicePlan {
    /// How bytes are taken.
    pub appetite: Appetite,
    /// How they are sent back.
    pub writing: Writing,
    /// Whether the end of one stream is the end of all, as when a service is told to go away: those that have been served in
    /// the same turn, with bytes on their way to the kernel, and those that have not.
    pub ends_together: bool,
}

/// One run of `echo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Echo {
    service: ServicePlan,
    /// Whether the first service passes everything on to a second one.
    second_hop: bool,
    /// The streams of each loop of clients. Under load, the first of each connection.
    streams: Vec<Vec<StreamPlan>>,
    /// Whether bytes are compared; off for measurements only.
    checks: bool,
    /// What follows the first streams.
    sustained: Option<Sustained>,
}

/// What a load adds to a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sustained {
    load: Load,
    /// The streams that follow each other.
    repertoire: Arc<[StreamPlan]>,
}

/// How many streams are drawn for a load; then they come again.
const REPERTOIRE: usize = 512;

/// What a service remembers of streams that ended in order, for the story of one that did not.
const REMEMBERED_STREAMS: usize = 1024;

impl Echo {
    /// The scenario that simulators are compared by: `clients` loops with one stream each, `round_trips` messages of
    /// `message_bytes`, one at a time.
    pub fn scenario(clients: usize, round_trips: u64, message_bytes: u64) -> Echo {
        let stream = StreamPlan {
            start_ns: 0,
            to_nobody: false,
            messages: round_trips,
            message_bytes,
            pipeline: 1,
            think_ns: 0,
            ending: Ending::CloseAfterAll,
            appetite: Appetite::Everything,
            retries: 0,
        };
        Echo {
            service: ServicePlan {
                appetite: Appetite::Everything,
                writing: Writing::Copied,
                ends_together: false,
            },
            second_hop: false,
            streams: vec![vec![stream]; clients],
            checks: true,
            sustained: None,
        }
    }

    /// Whether bytes are compared with what they should be.
    pub fn set_checks(&mut self, checks: bool) {
        self.checks = checks;
    }

    /// A plan with these streams, each on a loop of its own.
    pub fn of_streams(streams: Vec<StreamPlan>) -> Echo {
        Echo::of_loops(streams.into_iter().map(|stream| vec![stream]).collect())
    }

    /// A plan with these streams, by loop.
    pub fn of_loops(streams: Vec<Vec<StreamPlan>>) -> Echo {
        Echo { streams, ..Echo::scenario(0, 1, 1) }
    }
}

impl Echo {
    /// Draws a plan.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> Echo {
        let service = ServicePlan {
            appetite: Appetite::draw(decisions, scale),
            writing: pick(
                decisions,
                "how the service writes",
                &[
                    Writing::Copied,
                    Writing::Copied,
                    Writing::Shared,
                    Writing::Pieces(100),
                    Writing::Pieces(7),
                ],
            ),
            ends_together: false,
        };
        let second_hop = between(decisions, "second hop", 0, 3) == 3;
        let loops = between(decisions, "loops of clients", 1, 3);
        let mut streams: Vec<Vec<StreamPlan>> = (0..loops)
            .map(|_| {
                let streams = pick(decisions, "streams of a loop", &[1, 2, 3, 6]);
                (0..streams).map(|_| StreamPlan::draw(decisions, scale)).collect()
            })
            .collect();
        if let Appetite::Frames { .. } = service.appetite {
            // Who waits for the answer to part of a frame would wait for ever.
            for stream in streams.iter_mut().flatten() {
                stream.pipeline = u64::MAX;
                stream.think_ns = 0;
            }
        }
        let ends_together = between(decisions, "all end together", 0, 7) == 7;
        let service = ServicePlan { ends_together, ..service };
        Echo { service, second_hop, streams, checks: true, sustained: None }
    }

    /// Makes a plan for a load: on each connection, streams of every temper follow each other until the time is over.
    pub fn load(decisions: &mut Decisions, load: &Load) -> Echo {
        let has_rate = load.rate_per_s.is_some();
        let service = ServicePlan {
            appetite: match between(decisions, "appetite", 0, 7) {
                0..=5 => Appetite::Everything,
                6 => Appetite::Nibbles { bytes: pick(decisions, "nibble", &[1500, 4000]) },
                _ => Appetite::Frames { bytes: pick(decisions, "frame", &[16, 48]) },
            },
            writing: pick(
                decisions,
                "how the service writes",
                &[Writing::Copied, Writing::Copied, Writing::Shared, Writing::Pieces(1000)],
            ),
            ends_together: false,
        };
        let second_hop = between(decisions, "second hop", 0, 7) == 7;
        let loops =
            between(decisions, "loops of clients", 1, u64::from(Load::LOOPS_MAX.min(load.connections)));
        let mut repertoire: Vec<StreamPlan> =
            (0..REPERTOIRE).map(|_| StreamPlan::draw_under_load(decisions, has_rate)).collect();
        if let Appetite::Frames { .. } = service.appetite {
            // Who waits for the answer to part of a frame would wait for ever.
            for stream in &mut repertoire {
                stream.pipeline = u64::MAX;
                stream.think_ns = 0;
            }
        }
        // Connections begin one after the other, within a twentieth of the time: a listener's queue is finite.
        let apart_ns = (load.duration_ns / 20 / u64::from(load.connections)).min(1_000_000);
        let mut streams = vec![Vec::new(); loops as usize];
        for connection in 0..load.connections as usize {
            let first = StreamPlan {
                start_ns: connection as u64 * apart_ns,
                ..repertoire[(connection * 5) % REPERTOIRE]
            };
            streams[connection % loops as usize].push(first);
        }
        let sustained = Some(Sustained { load: *load, repertoire: repertoire.into() });
        Echo { service, second_hop, streams, checks: true, sustained }
    }
}

impl Workload for Echo {
    type Service = EchoService;
    type Client = EchoClient;

    fn services(&self) -> usize {
        1 + usize::from(self.second_hop)
    }

    fn clients(&self) -> usize {
        self.streams.len()
    }

    fn service(&self, index: usize, addresses: &[SocketAddr], config: &Config) -> EchoService {
        let upstream = (self.second_hop && index == 0).then(|| addresses[1]);
        let mut plan = self.service;
        if let Appetite::Frames { bytes } = &mut plan.appetite {
            *bytes = (*bytes).min(config.pending_bytes_max);
        }
        let mut service = EchoService::new(plan, upstream, self.checks);
        if self.sustained.is_some() {
            service.remember_only(REMEMBERED_STREAMS);
        }
        service
    }

    fn client(&self, index: usize, addresses: &[SocketAddr], nobody: SocketAddr) -> EchoClient {
        self.client_again(index, 0, addresses, nobody)
    }

    /// Its streams have numbers of their own in each life.
    fn client_again(
        &self,
        index: usize,
        incarnation: u32,
        addresses: &[SocketAddr],
        nobody: SocketAddr,
    ) -> EchoClient {
        let number = index + incarnation as usize * self.streams.len();
        let mut client = EchoClient::new(number, &self.streams[index], addresses[0], nobody, self.checks);
        if let Some(Sustained { load, repertoire }) = &self.sustained {
            client.sustain(Feed::new(load, Arc::clone(repertoire), index, self.streams.len()));
        }
        client
    }

    fn judge(
        &self,
        services: &[&EchoService],
        clients: &[&EchoClient],
        lost_at_accept: bool,
    ) -> Result<(), Breach> {
        accounts::judge(self, services, clients, lost_at_accept)
    }
}
