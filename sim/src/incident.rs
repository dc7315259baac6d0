//! What befalls processes and hosts at times set beforehand: kill, power loss, stop and continue, start.

use reactor::time::Instant;

use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::world::{Details, HostId, SharedWorld, World};

/// Something that befalls a host, or the process of it that was started last.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Incident {
    /// The process is killed, as by SIGKILL.
    Kill(HostId),
    /// The host loses power.
    Crash(HostId),
    /// The process is stopped, as by SIGSTOP.
    Freeze(HostId),
    /// The process goes on, as by SIGCONT.
    Thaw(HostId),
    /// The driver is asked to start a process; a host without power starts first.
    Restart(HostId),
}

impl World {
    /// Carries out an incident. Once the weather has calmed down, only help comes.
    pub(crate) fn incident_event(&mut self, number: u32) {
        let incident = self.incidents[number as usize];
        match incident {
            Incident::Kill(host) if !self.calm => self.kill_process(self.newest_process(host.0)),
            Incident::Crash(host) if !self.calm => self.crash_host(host.0),
            Incident::Freeze(host) if !self.calm => self.freeze_process(self.newest_process(host.0)),
            Incident::Kill(_) | Incident::Crash(_) | Incident::Freeze(_) => {}
            Incident::Thaw(host) => self.thaw_process(self.newest_process(host.0)),
            Incident::Restart(host) => {
                self.boot_host(host.0);
                if self.is_dead(self.newest_process(host.0)) {
                    self.restarts.push_back(host);
                }
            }
        }
    }

    /// The process of this host that was started last.
    pub(crate) fn newest_process(&self, host: u32) -> u32 {
        let last = self.processes.iter().rposition(|process| process.host == host);
        last.expect("a host begins with a process") as u32
    }

    /// Every process that is stopped goes on.
    pub(crate) fn thaw_all(&mut self) {
        for process in 0..self.processes.len() as u32 {
            self.thaw_process(process);
        }
    }
}

impl SharedWorld {
    /// Has an incident happen at a time of the run's clock. A process that is killed inside a call of its own never
    /// returns from it: see [`Killed`](crate::Killed).
    pub fn schedule(&self, incident: Incident, at: Instant) {
        let mut world = self.borrow_mut();
        let number = world.incidents.len() as u32;
        world.incidents.push(incident);
        let time = world.time_of(at);
        world.queue_event(time, EventKind::Incident { number });
    }

    /// How many processes have died so far.
    pub fn deaths(&self) -> u64 {
        self.borrow().deaths
    }
}

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

impl SharedWorld {
    /// Draws what befalls a host while the trouble lasts.
    pub(crate) fn draw_incidents(&self, host: HostId, trouble_ns: u64) {
        let now = self.now();
        for (kind, lengths_ns) in [
            (FaultKind::KilledProcesses, [10 * MILLISECOND, 100 * MILLISECOND, SECOND, 5 * SECOND]),
            (FaultKind::CrashedHosts, [SECOND, 100 * MILLISECOND, 5 * SECOND, 30 * SECOND]),
            (FaultKind::FrozenProcesses, [MILLISECOND, 100 * MILLISECOND, SECOND, 10 * SECOND]),
        ] {
            let details = |details: &mut Details<'_>| {
                (
                    details.draw("when it happens", trouble_ns),
                    details.choose("how long it lasts", &lengths_ns),
                )
            };
            let drawn = self.borrow_mut().fault_with(kind, host.0, details);
            let Some((after_ns, lasts_ns)) = drawn else { continue };
            let (begins, ends) = match kind {
                FaultKind::KilledProcesses => (Incident::Kill(host), Incident::Restart(host)),
                FaultKind::CrashedHosts => (Incident::Crash(host), Incident::Restart(host)),
                _ => (Incident::Freeze(host), Incident::Thaw(host)),
            };
            let at = now.saturating_add_ns(after_ns);
            self.schedule(begins, at);
            self.schedule(ends, at.saturating_add_ns(lasts_ns));
        }
    }
}
