//! Everybody but the imported loop, as one thread of the world that does what is decided, in the order of time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::Sender;
use reactor::time::Instant;

use super::act::{AMOUNT_MAX, Deed, HOW_LONG, HOW_MUCH, WHAT};
use super::peer::Peer;
use super::scenario::Scenario;
use crate::actor::Actor;
use crate::decision::Domain;
use crate::kernel::imposed::TIME_NS_MAX;
use crate::kernel::syscalls::SimSyscalls;
use crate::workload::{Breach, Numbered};

/// What is left of a lane.
#[derive(Debug)]
struct Lane {
    acts_left: u32,
    /// When the last act was, or would have been, in nanoseconds of the run.
    time_ns: u64,
    next: (Deed, u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Puppets {
    scenario: Arc<Scenario>,
    sys: SimSyscalls,
    sender: Sender<Numbered>,
    address: SocketAddr,
    /// Other threads first, then the peers.
    lanes: Vec<Lane>,
    peers: Vec<Peer>,
    due: BTreeSet<(u64, u32)>,
    posted: usize,
    stop_within: Option<Duration>,
    breach: Option<Breach>,
}

impl Puppets {
    pub(super) fn new(
        scenario: Arc<Scenario>,
        sys: SimSyscalls,
        sender: Sender<Numbered>,
        address: SocketAddr,
    ) -> Puppets {
        let lane = |acts_left| Lane { acts_left, time_ns: 0, next: (Deed::Nothing, 0) };
        let lanes: Vec<Lane> =
            [scenario.errands].into_iter().chain(scenario.peers.iter().map(|peer| peer.acts)).map(lane).collect();
        let peers = scenario.peers.iter().map(|_| Peer::new()).collect();
        let mut puppets = Puppets {
            scenario,
            sys,
            sender,
            address,
            lanes,
            peers,
            due: BTreeSet::new(),
            posted: 0,
            stop_within: None,
            breach: None,
        };
        (0..puppets.lanes.len() as u32).for_each(|lane| puppets.decide(lane));
        puppets
    }

    /// When the first of them does something, in nanoseconds of the run.
    pub(super) fn first_ns(&self) -> Option<u64> {
        self.due.first().map(|&(time_ns, _)| time_ns)
    }

    /// The stop that the loop is to be told of, once.
    pub(super) fn take_stop(&mut self) -> Option<Duration> {
        self.stop_within.take()
    }

    /// What a peer saw broken.
    pub(super) fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// How many peers wait for the loop to end their connection.
    pub(super) fn waiting(&self) -> usize {
        self.peers.iter().filter(|peer| !peer.is_over()).count()
    }

    /// Decides what a lane does next; what is nothing passes at once.
    fn decide(&mut self, lane: u32) {
        loop {
            let entry = &mut self.lanes[lane as usize];
            let Some(left) = entry.acts_left.checked_sub(1) else { return };
            entry.acts_left = left;
            let world = self.sys.world();
            let deed = Deed::from_number(world.draw(Domain::Workload, WHAT, lane, Deed::COUNT));
            let amount = world.draw(Domain::Workload, HOW_MUCH, lane, AMOUNT_MAX);
            let after_ns = world.draw(Domain::Workload, HOW_LONG, lane, TIME_NS_MAX);
            entry.time_ns = entry.time_ns.saturating_add(after_ns);
            entry.next = (deed, amount);
            if deed != Deed::Nothing {
                self.due.insert((entry.time_ns, lane));
                return;
            }
        }
    }

    /// Does all that is due by this time, in nanoseconds of the run.
    fn act_until(&mut self, now_ns: u64) {
        self.sys.world().spend_until(self.sys.thread(), now_ns);
        while let Some(&(time_ns, lane)) = self.due.first()
            && time_ns <= now_ns
        {
            self.due.pop_first();
            let (deed, amount) = self.lanes[lane as usize].next;
            match lane.checked_sub(1) {
                None => self.run_errand(deed, amount),
                Some(peer) => self.let_act(peer as usize, (deed, amount)),
            }
            self.decide(lane);
        }
    }

    fn run_errand(&mut self, deed: Deed, amount: u64) {
        match deed {
            Deed::Post => {
                let amount = usize::try_from(amount).unwrap_or(usize::MAX);
                let end = self.posted.saturating_add(amount).min(self.scenario.messages.len());
                for message in &self.scenario.messages[self.posted..end] {
                    let _ = self.sender.publish(*message);
                }
                self.posted = end;
                self.sender.notify();
            }
            Deed::Stop => self.stop_within = Some(Duration::from_nanos(amount)),
            _ => {}
        }
    }

    fn let_act(&mut self, index: usize, what: (Deed, u64)) {
        let Puppets { scenario, sys, address, peers, .. } = self;
        let bytes = &scenario.peers[index].bytes;
        // Whoever resets has not read; whoever ends in order has.
        let read = if what.0 == Deed::Finish { peers[index].read(sys, bytes, scenario.echoes()) } else { Ok(()) };
        peers[index].act(sys, *address, bytes, what);
        if let Err(breach) = read {
            self.breach.get_or_insert(breach);
        }
    }

    /// All trouble is over: peers that are still there send what they have left, end their streams in order, and read what comes.
    pub(super) fn wind_up(&mut self, now_ns: u64) {
        self.sys.world().spend_until(self.sys.thread(), now_ns);
        for index in 0..self.peers.len() {
            self.let_act(index, (Deed::Finish, 0));
        }
        self.read_all();
    }

    /// Lets every peer read what has come.
    pub(super) fn read_all(&mut self) {
        let Puppets { scenario, sys, peers, breach, .. } = self;
        for (peer, part) in peers.iter_mut().zip(&scenario.peers) {
            if let Err(found) = peer.read(sys, &part.bytes, scenario.echoes()) {
                breach.get_or_insert(found);
            }
        }
    }
}

/// Lets the puppets act within the world; whoever drives the run shares them.
#[derive(Debug)]
pub(super) struct PuppetActor {
    pub(super) puppets: Rc<RefCell<Puppets>>,
    /// The clock of the world at the start of the run.
    pub(super) origin_ns: u64,
}

impl Actor for PuppetActor {
    fn step(&mut self, now: Instant) -> Option<u64> {
        let now_ns = now.as_ns().saturating_sub(self.origin_ns);
        let mut puppets = self.puppets.borrow_mut();
        puppets.act_until(now_ns);
        puppets.first_ns().map(|next_ns| next_ns.saturating_sub(now_ns))
    }
}
