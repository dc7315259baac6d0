//! The place of a loop in a run: empty from the death of its process until a new one has begun.

use super::member::Member;
use crate::workload::Party;
use crate::world::HostId;

/// See the module.
pub(super) struct Seat<P: Party> {
    pub(super) host: HostId,
    /// How many loops have sat here.
    pub(super) incarnations: u32,
    pub(super) member: Option<Member<P>>,
    /// Messages that the dead ones had handled.
    messages_before: u64,
    /// Whether one of the dead ones had given up connections by itself.
    lost_before: bool,
}

impl<P: Party> Seat<P> {
    pub(super) fn new(host: HostId) -> Seat<P> {
        Seat { host, incarnations: 0, member: None, messages_before: 0, lost_before: false }
    }

    pub(super) fn party(&self) -> Option<&P> {
        self.member.as_ref().map(Member::party)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.party().is_some_and(Party::is_finished)
    }

    /// A new loop begins here.
    pub(super) fn fill(&mut self, member: Member<P>) {
        self.member = Some(member);
        self.incarnations += 1;
    }

    /// The process is dead: its loop is dropped where it stands, and what it would still do reaches nobody.
    pub(super) fn empty(&mut self) {
        self.messages_before = self.messages();
        self.lost_before = self.has_lost_connections();
        self.member = None;
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages_before + self.party().map_or(0, Party::messages)
    }

    /// Whether a loop of this seat gave up connections while accepting them, or by a limit of its own.
    pub(super) fn has_lost_connections(&self) -> bool {
        self.lost_before
            || self.member.as_ref().is_some_and(|member| {
                let counters = member.reactor.counters();
                counters.shed + counters.accept_errors + counters.registrations_failed > 0
                    || member.party().has_given_up()
            })
    }
}
