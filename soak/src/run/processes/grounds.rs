//! Where the processes of an episode are: on the machine's own loopback, or, where chaos wants to do something to networks
//! or memory, in namespaces and groups of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::message::Side;
use crate::Failure;
use crate::chaos::{ChaosOptions, Ground, Kind, MemoryGroup};

/// The first port of services in a namespace, where nobody else has any; nobody listens at the one before it.
const PORTS_FROM: u16 = 7001;

/// See the module. When this is dropped everything is gone but what processes hold.
#[derive(Debug, Default)]
pub(super) struct Grounds {
    services: Option<Ground>,
    /// Where clients have a namespace of their own; otherwise they are with the services.
    clients: Option<Ground>,
    /// For processes of services.
    pub(super) memory: Option<MemoryGroup>,
}

impl Grounds {
    /// Makes what these kinds of chaos need.
    ///
    /// # Errors
    /// Machine: what was there when the run began is not to be had any more.
    pub(super) fn lay(chaos: Option<&ChaosOptions>) -> Result<Grounds, Failure> {
        let has =
            |kinds: &[Kind]| chaos.is_some_and(|chaos| kinds.iter().any(|kind| chaos.kinds.contains(kind)));
        let refused =
            |reason: String| Failure::Machine(format!("a ground for the processes of an episode: {reason}"));
        let mut grounds = Grounds::default();
        if has(&[Kind::Ports, Kind::Link, Kind::Netem]) {
            let mut services = Ground::make().map_err(refused)?;
            if has(&[Kind::Link, Kind::Netem]) {
                let mut clients = Ground::make().map_err(refused)?;
                services.link(&mut clients).map_err(refused)?;
                for end in [&services, &clients] {
                    end.lay_queues(has(&[Kind::Netem])).map_err(refused)?;
                }
                grounds.clients = Some(clients);
            }
            grounds.services = Some(services);
        }
        if has(&[Kind::Memory]) {
            let mut memory = MemoryGroup::make().map_err(refused)?;
            memory.keep_safe().map_err(refused)?;
            grounds.memory = Some(memory);
        }
        Ok(grounds)
    }

    /// The namespace of one side, if it has one.
    pub(super) fn of(&self, side: Side) -> Option<&Ground> {
        match side {
            Side::Services => self.services.as_ref(),
            Side::Clients => self.clients.as_ref().or(self.services.as_ref()),
        }
    }

    /// Both ends of the link between the two sides, if there is one.
    pub(super) fn link(&self) -> Option<[&Ground; 2]> {
        Some([self.services.as_ref()?, self.clients.as_ref()?])
    }

    /// Addresses for so many services, and one where nobody listens; `None` where ports are the machine's, and are to be
    /// reserved first.
    pub(super) fn addresses(&self, services: usize) -> Option<(Vec<SocketAddr>, SocketAddr)> {
        let address: Ipv4Addr = self.services.as_ref()?.address();
        let at = |port: u16| SocketAddr::new(IpAddr::V4(address), port);
        let addresses = (PORTS_FROM..).take(services).map(at).collect();
        Some((addresses, at(PORTS_FROM - 1)))
    }
}
