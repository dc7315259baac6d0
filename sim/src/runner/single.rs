//! A loop that is alone in its run, made and turned as [`crate::member::Member`] makes and turns one on real sockets, with the checks of a simulated
//! run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reactor::sys::Fd;
use reactor::{Config, Counters, ListenOptions, Sender, Turn};

use super::member::Member;
use crate::member::{Role, STOP_WITHIN};
use crate::workload::{Breach, Numbered, Party};
use crate::world::{ProcessId, SharedWorld};

/// See the module.
pub(crate) struct Single<P: Party> {
    member: Member<P>,
    role: Role,
    address: SocketAddr,
    stop_asked: bool,
}

impl<P: Party> Single<P> {
    /// Makes the loop; a service listens at a free port of 127.0.0.1.
    pub(crate) fn open(
        world: &SharedWorld,
        process: ProcessId,
        config: &Config,
        role: Role,
        party: &dyn Fn() -> P,
    ) -> Result<Single<P>, Breach> {
        let mut member = Member::new(world, process, config, party, None, true)?;
        member.hears_of_whole_turns = true;
        let mut address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        if role == Role::Service {
            address = member.listen_anywhere(address, &ListenOptions::default())?;
        }
        Ok(Single { member, role, address, stop_asked: false })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn sender(&self) -> Sender<Numbered> {
        self.member.reactor.sender()
    }

    pub(crate) fn party(&self) -> &P {
        self.member.party()
    }

    pub(crate) fn counters(&self) -> Counters {
        *self.member.reactor.counters()
    }

    /// The descriptors that its process has open.
    pub(crate) fn open_descriptors(&self, world: &SharedWorld) -> Vec<Fd> {
        world.open_descriptors(self.member.process)
    }

    pub(crate) fn begin(&mut self) {
        self.member.begin(true);
        self.look_at_party();
    }

    pub(crate) fn stop(&mut self, within: Duration) {
        self.member.reactor.stop(within);
    }

    fn look_at_party(&mut self) {
        if self.role == Role::Client && !self.stop_asked && self.member.party().is_finished() {
            self.stop_asked = true;
            self.member.reactor.stop(STOP_WITHIN);
        }
    }

    /// One turn, and the checks after it.
    pub(crate) fn turn(&mut self, world: &SharedWorld) -> Result<Turn, Breach> {
        let turn = self.member.turn(world)?;
        if turn == Turn::Ran {
            self.look_at_party();
        }
        Ok(turn)
    }
}
