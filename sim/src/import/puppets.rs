//! Everybody but the imported loop, as one thread of the world that does what is decided, in the order of time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::Sender;
use reactor::sys::{Errno, Family, Fd, SocketOption, Syscalls};
use reactor::time::Instant;

use super::act::{AMOUNT_MAX, Deed, HOW_LONG, HOW_MUCH, WHAT};
use super::bytes::PeerBytes;
use super::peer::{Peer, queued, reset};
use super::scenario::{Scenario, Series};
use crate::actor::Actor;
use crate::decision::Domain;
use crate::kernel::imposed::TIME_NS_MAX;
use crate::kernel::syscalls::SimSyscalls;
use crate::workload::{Breach, Numbered};

/// An act that has to wait for the loop is tried again after so long, then after twice that ...
const PATIENCE_NS_MIN: u64 = 1;
/// ... and given up after this.
const PATIENCE_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// What is left of a lane.
#[derive(Debug)]
struct Lane {
    acts_left: u32,
    /// When the last act was, or would have been, in nanoseconds of the run.
    time_ns: u64,
    next: (Deed, u64),
    /// How long it has waited for the loop.
    waits_ns: u64,
}

/// How the loop is reached.
#[derive(Debug)]
struct Subject {
    sender: Sender<Numbered>,
    address: SocketAddr,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Puppets {
    scenario: Arc<Scenario>,
    sys: SimSyscalls,
    subject: Option<Subject>,
    /// Where the loop reaches peers, and who is next there.
    listeners: BTreeMap<SocketAddr, (Fd, VecDeque<usize>)>,
    /// Other threads first, then the peers.
    lanes: Vec<Lane>,
    peers: Vec<Peer>,
    due: BTreeSet<(u64, u32)>,
    /// What is posted next: a series, and how far along.
    posted: (usize, u64),
    stop_within: Option<Duration>,
    breach: Option<Breach>,
}

impl Puppets {
    /// Those of a scenario, before the loop has begun: whom it reaches listens.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub(super) fn new(scenario: Arc<Scenario>, mut sys: SimSyscalls) -> Result<Puppets, Breach> {
        let mut listeners: BTreeMap<SocketAddr, (Fd, VecDeque<usize>)> = BTreeMap::new();
        for (index, part) in scenario.peers.iter().enumerate() {
            let Some(address) = part.address else { continue };
            if let Some((_, queue)) = listeners.get_mut(&address) {
                queue.push_back(index);
                continue;
            }
            let fd = listen(&mut sys, &address).map_err(|error| {
                Breach::new("turn-error", format!("nobody can listen at {address}: {error}"))
            })?;
            listeners.insert(address, (fd, VecDeque::from([index])));
        }
        let lane = |acts_left| Lane { acts_left, time_ns: 0, next: (Deed::Nothing, 0), waits_ns: 0 };
        let acts = [scenario.errands].into_iter().chain(scenario.peers.iter().map(|peer| peer.acts));
        let lanes = acts.map(lane).collect();
        let peers = scenario.peers.iter().map(|_| Peer::new()).collect();
        Ok(Puppets {
            scenario,
            sys,
            subject: None,
            listeners,
            lanes,
            peers,
            due: BTreeSet::new(),
            posted: (0, 0),
            stop_within: None,
            breach: None,
        })
    }

    /// The loop has begun: it can be reached like this.
    pub(super) fn begin(&mut self, sender: Sender<Numbered>, address: SocketAddr) {
        self.subject = Some(Subject { sender, address });
        (0..self.lanes.len() as u32).for_each(|lane| self.decide(lane));
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
            let is_done = match lane.checked_sub(1) {
                None => self.run_errand(deed, amount),
                Some(peer) => self.let_act(peer as usize, deed, amount),
            };
            let entry = &mut self.lanes[lane as usize];
            if !is_done && entry.waits_ns < PATIENCE_NS_MAX {
                entry.waits_ns = (entry.waits_ns * 2).max(PATIENCE_NS_MIN);
                self.due.insert((now_ns.saturating_add(entry.waits_ns), lane));
                continue;
            }
            if entry.waits_ns > 0 {
                (entry.waits_ns, entry.time_ns) = (0, now_ns);
            }
            self.decide(lane);
        }
    }

    fn run_errand(&mut self, deed: Deed, amount: u64) -> bool {
        let Some(Subject { sender, .. }) = &self.subject else { return true };
        match deed {
            Deed::Post => {
                for _ in 0..amount {
                    let (place, along) = self.posted;
                    let Some(Series { first, count }) = self.scenario.messages.get(place) else { break };
                    let message = Numbered { number: first.number + along, ..*first };
                    // What finds no room goes with the next ones.
                    if sender.publish(message).is_err() {
                        break;
                    }
                    self.posted = if along + 1 < *count { (place, along + 1) } else { (place + 1, 0) };
                }
                sender.notify();
            }
            Deed::Stop => self.stop_within = Some(Duration::from_nanos(amount)),
            _ => {}
        }
        true
    }

    /// Takes the connections that the loop has made to this address.
    fn meet(&mut self, address: SocketAddr) {
        let Puppets { sys, listeners, peers, .. } = self;
        let Some((listener, queue)) = listeners.get_mut(&address) else { return };
        while queued(sys, *listener) > 0 {
            let Ok(accepted) = sys.accept4(*listener) else { return };
            match queue.pop_front() {
                Some(peer) => peers[peer].meet(accepted.fd),
                // In the recording nobody came here any more.
                None => reset(sys, accepted.fd),
            }
        }
    }

    /// Answers whether it was done, or never will be.
    fn let_act(&mut self, index: usize, deed: Deed, amount: u64) -> bool {
        let (address, is_echo) = (self.scenario.peers[index].address, self.scenario.peers[index].echoes);
        if let Some(address) = address
            && self.peers[index].is_absent()
        {
            self.meet(address);
            if self.peers[index].is_absent() {
                return false;
            }
        }
        // Whoever resets has not read; whoever ends in order has.
        if is_echo || deed == Deed::Finish {
            self.read(index);
        }
        let peer = &mut self.peers[index];
        let part = &self.scenario.peers[index];
        let to = self.subject.as_ref().map(|subject| subject.address);
        if !is_echo {
            peer.act(&mut self.sys, to, &part.bytes, (deed, amount));
            return true;
        }
        let can = peer.can_echo(deed, amount);
        if can {
            let bytes = peer.echo();
            peer.act(&mut self.sys, to, &bytes, (deed, amount));
        }
        can
    }

    fn read(&mut self, index: usize) {
        let Puppets { scenario, sys, peers, breach, .. } = self;
        let bytes = &scenario.peers[index].bytes;
        let completed = bytes.completed();
        let all = completed.as_ref().unwrap_or(bytes);
        if let Err(found) = peers[index].read(sys, all, scenario.echoes()) {
            breach.get_or_insert(found);
        }
    }

    /// All trouble is over. Whose stream is known sends what is left of it, reads what comes, and ends in order, an echo after the
    /// other side; whoever else is still there resets, which everybody may at any time. Answers whether anything happened.
    pub(super) fn wind_up(&mut self, now_ns: u64) -> bool {
        self.sys.world().spend_until(self.sys.thread(), now_ns);
        let before = self.progress();
        let addresses: Vec<SocketAddr> = self.listeners.keys().copied().collect();
        addresses.into_iter().for_each(|address| self.meet(address));
        for index in 0..self.peers.len() {
            if self.peers[index].is_absent() {
                continue;
            }
            self.read(index);
            if self.scenario.peers[index].echoes {
                let left = self.peers[index].echo().length();
                self.let_act(index, Deed::Send, left.saturating_sub(self.peers[index].progress().0));
                self.let_act(index, Deed::Finish, 0);
            } else if !self.peers[index].has_finished() {
                let whole = self.scenario.peers[index].bytes.completed().filter(|_| self.scenario.echoes());
                let deed = if whole.is_some() { Deed::Finish } else { Deed::Reset };
                let bytes = whole.unwrap_or(PeerBytes::Whole(Vec::new()));
                self.peers[index].act(&mut self.sys, None, &bytes, (deed, 0));
            }
        }
        self.progress() != before
    }

    fn progress(&self) -> (u64, u64, u64) {
        let mut sum = (0, 0, 0);
        for (sent, received, ended, over) in self.peers.iter().map(Peer::progress) {
            sum = (sum.0 + sent, sum.1 + received, sum.2 + u64::from(ended) + u64::from(over));
        }
        sum
    }

    /// Lets every peer read what has come.
    pub(super) fn read_all(&mut self) {
        (0..self.peers.len()).for_each(|index| self.read(index));
    }
}

fn listen(sys: &mut SimSyscalls, address: &SocketAddr) -> Result<Fd, Errno> {
    /// As many as a loop has connections.
    const BACKLOG: u32 = 4_096;
    let fd = sys.socket(Family::V4)?;
    sys.setsockopt(fd, SocketOption::ReuseAddress(true))?;
    sys.setsockopt(fd, SocketOption::NoDelay(true))?;
    sys.bind(fd, address)?;
    sys.listen(fd, BACKLOG)?;
    Ok(fd)
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
