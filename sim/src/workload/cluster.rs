//! The workload `cluster`: five hosts ask each other over faulty links, while processes are killed and stopped, hosts lose
//! power, and all of them start again.
//!
//! Oracles: `byte-stream` (every byte of requests and answers; no connection breaks without an excuse), `conservation`
//! (each request completes once for who issued it, however often it was asked; a service carries it out once in each of its
//! lives), `liveness` (once the trouble is over, everything outstanding completes, and everybody reaches everybody, in
//! bounded time).

pub mod client;
pub mod frame;
mod lane;
pub mod service;

pub use lane::LanePlan;

use std::net::SocketAddr;
use std::time::Duration;

use reactor::Config;

use self::client::ClusterClient;
use self::service::ClusterService;
use super::ledger::{self, Accounts};
use super::{Breach, Load, Scale, Tally, Workload, between, pick};
use crate::decision::Decisions;

/// How many hosts there are.
const HOSTS: usize = 5;

const MILLISECOND: u64 = 1_000_000;

/// One run of `cluster`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// For each host, what it asks each of the others, in the order of their numbers.
    lanes: Vec<Vec<LanePlan>>,
    answer_bytes_max: u64,
    /// Under load, for how long.
    duration: Option<Duration>,
}

impl Cluster {
    /// A plan in which everybody asks everybody in the same way.
    pub fn uniform(hosts: usize, plan: LanePlan, answer_bytes_max: u64) -> Cluster {
        Cluster { lanes: vec![vec![plan; hosts - 1]; hosts], answer_bytes_max, duration: None }
    }

    fn client_of(&self, index: usize, incarnation: u32, addresses: &[SocketAddr]) -> ClusterClient {
        let others = addresses.iter().enumerate().filter(|&(host, _)| host != index);
        let lanes: Vec<(SocketAddr, LanePlan)> =
            others.zip(&self.lanes[index]).map(|((_, &address), &plan)| (address, plan)).collect();
        let mut client = ClusterClient::new(index, incarnation, &lanes, self.answer_bytes_max);
        if let Some(duration) = self.duration {
            client.sustain(duration);
        }
        client
    }
}

impl Cluster {
    /// Draws a plan.
    pub fn draw(decisions: &mut Decisions, scale: Scale) -> Cluster {
        let small = scale == Scale::Small;
        let most = if small { 4 } else { 12 };
        let sizes: &[u64] = if small { &[10, 0, 60] } else { &[100, 0, 1460, 6000] };
        let thinks: &[u64] = match scale {
            Scale::RealTime => &[MILLISECOND, 0, 20 * MILLISECOND],
            Scale::Small | Scale::Normal => {
                &[20 * MILLISECOND, 0, 200 * MILLISECOND, 1_000 * MILLISECOND, 3_000 * MILLISECOND]
            }
        };
        let lanes = (0..HOSTS)
            .map(|_| {
                (1..HOSTS)
                    .map(|_| LanePlan {
                        requests: between(decisions, "requests of a lane", 0, most) as u32,
                        request_bytes: pick(decisions, "bytes of a request", sizes),
                        think_ns: pick(decisions, "before a request", thinks),
                        pipeline: pick(decisions, "requests under way", &[1, 4, 64]),
                    })
                    .collect()
            })
            .collect();
        let answer_bytes_max = pick(
            decisions,
            "bytes of an answer",
            if small { &[10, 0, 200] } else { &[200, 0, 5000, 40_000] },
        );
        Cluster { lanes, answer_bytes_max, duration: None }
    }

    /// Makes a plan for a load: everybody asks everybody until the time is over. The connections are those between the
    /// hosts, whatever the load says. What was asked is remembered to the end, which takes about 100 bytes a request.
    pub fn load(decisions: &mut Decisions, load: &Load) -> Cluster {
        let hosts = between(decisions, "hosts", 3, HOSTS as u64);
        let lanes_in_all = hosts * (hosts - 1);
        let lanes = (0..hosts)
            .map(|_| {
                (1..hosts)
                    .map(|_| LanePlan {
                        // As many as have names; the time ends them, and one more is asked in between.
                        requests: (1 << 24) - 2,
                        request_bytes: pick(decisions, "bytes of a request", &[100, 0, 1460, 6000]),
                        think_ns: match load.rate_per_s {
                            Some(rate) => lanes_in_all.saturating_mul(1_000_000_000) / rate,
                            None => pick(
                                decisions,
                                "before a request",
                                &[5 * MILLISECOND, MILLISECOND, 20 * MILLISECOND, 100 * MILLISECOND],
                            ),
                        },
                        pipeline: pick(decisions, "requests under way", &[1, 4, 64]),
                    })
                    .collect()
            })
            .collect();
        let answer_bytes_max = pick(decisions, "bytes of an answer", &[200, 0, 5000, 40_000]);
        Cluster { lanes, answer_bytes_max, duration: Some(Duration::from_nanos(load.duration_ns)) }
    }
}

impl Workload for Cluster {
    type Service = ClusterService;
    type Client = ClusterClient;

    const INCIDENTS: bool = true;

    /// A connection that does not answer is given up after three seconds, and later ones after up to 96; through buffers of one
    /// byte, with acknowledgements that are kept back for 40 ms, the largest lane of tiny weather takes a minute. The longest
    /// wait of a kernel that knows nothing of all that is for a connection that nobody waits for.
    const CALM_NS: u64 = 600_000_000_000;

    fn services(&self) -> usize {
        self.lanes.len()
    }

    fn clients(&self) -> usize {
        self.lanes.len()
    }

    fn home(&self, client: usize) -> Option<usize> {
        Some(client)
    }

    fn service(&self, _: usize, _: &[SocketAddr], _: &Config) -> ClusterService {
        ClusterService::new(0, self.answer_bytes_max)
    }

    fn client(&self, index: usize, addresses: &[SocketAddr], _: SocketAddr) -> ClusterClient {
        self.client_of(index, 0, addresses)
    }

    fn service_again(&self, _: usize, incarnation: u32, _: &[SocketAddr], _: &Config) -> ClusterService {
        ClusterService::new(incarnation, self.answer_bytes_max)
    }

    fn client_again(
        &self,
        index: usize,
        incarnation: u32,
        addresses: &[SocketAddr],
        _: SocketAddr,
    ) -> ClusterClient {
        self.client_of(index, incarnation, addresses)
    }

    fn judge(
        &self,
        services: &[&ClusterService],
        clients: &[&ClusterClient],
        lost_at_accept: bool,
    ) -> Result<(), Breach> {
        ledger::judge(self, services, clients, lost_at_accept)
    }
}

/// What the clients of a host leave.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClusterClientLedger {
    /// Its connections, counted.
    pub tally: Tally,
    /// Requests that were issued.
    pub issued: u64,
    /// Requests that have their answer.
    pub completed: u64,
    /// The first connection that broke, and nothing that the world knows of broke it.
    pub broken: Option<String>,
}

impl Accounts for Cluster {
    type ServiceLedger = Tally;
    type ClientLedger = ClusterClientLedger;

    fn service_ledger(service: &ClusterService) -> Tally {
        service.tally()
    }

    fn client_ledger(client: &ClusterClient) -> ClusterClientLedger {
        let (issued, completed) = client.requests();
        let broken = client.broken().map(str::to_owned);
        ClusterClientLedger { tally: client.tally(), issued, completed, broken }
    }

    fn judge_ledgers(
        &self,
        services: &[Tally],
        clients: &[ClusterClientLedger],
        lost_at_accept: bool,
    ) -> Result<(), Breach> {
        for service in services {
            service.check("service")?;
        }
        for ClusterClientLedger { tally, issued, completed, broken } in clients {
            tally.check("client")?;
            if issued != completed {
                let details = format!("{issued} requests were issued and {completed} completed");
                return Err(Breach::new("conservation", details));
            }
            if let Some(broken) = broken.as_ref().filter(|_| !lost_at_accept) {
                return Err(Breach::new("byte-stream", broken.clone()));
            }
        }
        Ok(())
    }
}
