//! The requests from one host to another, and the connection they go over.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use reactor::Token;
use reactor::time::Instant;
use reactor::timer::TimerToken;

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

/// A request that waits for its answer.
#[derive(Copy, Clone, Debug)]
struct Request {
    id: RequestId,
    issued: Instant,
    /// When it was asked last.
    asked: Instant,
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
    to_ask: VecDeque<Request>,
    /// Asked on this connection, in order.
    asked: VecDeque<Request>,
    /// Runs while something waits for an answer.
    pub(super) patience: Option<TimerToken>,
    /// Connections given up since the last answer.
    pub(super) given_up: u32,
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
            to_ask: VecDeque::new(),
            asked: VecDeque::new(),
            patience: None,
            given_up: 0,
            retry: None,
        }
    }

    /// Issues the next request.
    pub(super) fn issue(&mut self, now: Instant) {
        let id = RequestId::new(self.issuer, self.incarnation, self.index, self.issued);
        self.issued += 1;
        self.to_ask.push_back(Request { id, issued: now, asked: now });
    }

    /// Nothing more than what has been issued is planned.
    pub(super) fn end_plan(&mut self) {
        self.plan.requests = self.issued;
    }

    /// Issues one more than planned, once.
    pub(super) fn probe(&mut self, now: Instant) {
        if !self.probed {
            self.probed = true;
            self.plan.requests += 1;
            self.probes = 1;
            self.issue(now);
        }
    }

    /// The next request to write to the connection, if one more may be under way.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<Content> {
        if self.asked.len() >= self.plan.pipeline {
            return None;
        }
        let request = self.to_ask.pop_front()?;
        self.asked.push_back(Request { asked: now, ..request });
        Some(request.id.request(self.plan.request_bytes))
    }

    /// Takes an answer, if it was the next one that this connection owes. When its request was issued, and asked.
    pub(super) fn complete(&mut self, id: RequestId) -> Option<(Instant, Instant)> {
        let Request { issued, asked, .. } = self.asked.pop_front_if(|request| request.id == id)?;
        self.completed += 1;
        self.given_up = 0;
        Some((issued, asked))
    }

    /// What was asked and not answered is asked again, in the same order.
    pub(super) fn ask_again(&mut self) {
        while let Some(request) = self.asked.pop_back() {
            self.to_ask.push_front(request);
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
