//! The requests from one host to another, and the connection they go over.

use std::fmt;
use std::net::SocketAddr;

use reactor::Token;
use reactor::timer::TimerToken;

use super::client::Waiting;
use super::frame::RequestId;
use crate::workload::content::Content;

/// What a lane asks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LanePlan {
    /// How many requests it issues.
    pub requests: u32,
    /// Bytes of each beside its header.
    pub request_bytes: u64,
    /// Before each of them.
    pub think_ns: u64,
    /// How many may wait for their answers on the connection, at least 1.
    pub pipeline: usize,
}

/// The connection of a lane.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Link {
    Down,
    Connecting(Token),
    Open(Token),
    /// Given up by the lane itself; its end has not been told yet.
    Closing(Token),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    issuer: usize,
    incarnation: u32,
    index: usize,
    pub(super) address: SocketAddr,
    pub(super) plan: LanePlan,
    pub(super) link: Link,
    pub(super) issued: u32,
    pub(super) completed: u64,
    probes: u32,
    probed: bool,
    /// Issued, and not asked on this connection.
    to_ask: Waiting,
    /// Asked on this connection, in order.
    asked: Waiting,
    /// Runs while something waits for an answer.
    pub(super) patience: Option<TimerToken>,
    pub(super) retry: Option<TimerToken>,
}

impl Lane {
    pub(super) fn new(
        issuer: usize,
        incarnation: u32,
        index: usize,
        address: SocketAddr,
        plan: LanePlan,
    ) -> Lane {
        Lane {
            issuer,
            incarnation,
            index,
            address,
            plan,
            link: Link::Down,
            issued: 0,
            completed: 0,
            probes: 0,
            probed: false,
            to_ask: Waiting::new(),
            asked: Waiting::new(),
            patience: None,
            retry: None,
        }
    }

    /// Issues the next request.
    pub(super) fn issue(&mut self) {
        let id = RequestId::new(self.issuer, self.incarnation, self.index, self.issued);
        self.issued += 1;
        self.to_ask.push_back(id);
    }

    /// Issues one more than planned, once.
    pub(super) fn probe(&mut self) {
        if !self.probed {
            self.probed = true;
            self.plan.requests += 1;
            self.probes = 1;
            self.issue();
        }
    }

    /// The next request to write to the connection, if one more may be under way.
    pub(super) fn next_request(&mut self) -> Option<Content> {
        if self.asked.len() >= self.plan.pipeline {
            return None;
        }
        let id = self.to_ask.pop_front()?;
        self.asked.push_back(id);
        Some(id.request(self.plan.request_bytes))
    }

    /// Takes an answer. Whether it was the next one that this connection owes.
    pub(super) fn complete(&mut self, id: RequestId) -> bool {
        if self.asked.front() != Some(&id) {
            return false;
        }
        self.asked.pop_front();
        self.completed += 1;
        true
    }

    /// What was asked and not answered is asked again, in the same order.
    pub(super) fn ask_again(&mut self) {
        while let Some(id) = self.asked.pop_back() {
            self.to_ask.push_front(id);
        }
    }

    /// Whether the connection owes an answer.
    pub(super) fn waits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether anything is to be asked, or answered.
    pub(super) fn has_work(&self) -> bool {
        !self.asked.is_empty() || !self.to_ask.is_empty()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.issued >= self.plan.requests && self.completed == u64::from(self.issued)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lane { issuer, address, plan, link, issued, completed, .. } = self;
        write!(
            f,
            "host {issuer} asked {address} {issued} of {} requests, {completed} are answered, its connection is {link:?}",
            plan.requests
        )
    }
}
