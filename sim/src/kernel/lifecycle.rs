//! The life of processes and hosts: kill, power loss, stop and continue.
//!
//! A killed process makes no more calls: the kernel closes its descriptors, as SIGKILL does, and what a loop of it still
//! tries to do - in its `Drop`, say - is answered silently. Starting again is a new process with new threads.

use reactor::sys::Fd;

use super::socket::State;
use super::{Object, cost};
use crate::schedule::Phase;
use crate::violation::Excuse;
use crate::world::World;

impl World {
    /// Whether the process has been killed.
    pub(crate) fn is_dead(&self, process: u32) -> bool {
        self.processes[process as usize].dead.get()
    }

    /// The process dies as by SIGKILL: its threads stop for ever, and every descriptor is closed in the order of the
    /// numbers. Sockets with unread data reset, the others end after what is queued has gone (T73, T74); listeners reset
    /// their queue (T42).
    pub(crate) fn kill_process(&mut self, process: u32) {
        if self.is_dead(process) {
            return;
        }
        self.note(|| format!("process {process} is killed"));
        self.end_threads(process);
        for (fd, object) in self.descriptors_of(process) {
            if let Object::Socket(socket) = object {
                self.excuse_socket(socket, Excuse::ProcessKilled);
            }
            self.close_descriptor(process, fd, object);
        }
    }

    /// The host loses power: its processes are gone, and it says nothing to anybody. Its peers learn of it from the reset
    /// that the host answers with once it is up again, or by giving up.
    pub(crate) fn crash_host(&mut self, host: u32) {
        if !self.hosts[host as usize].up {
            return;
        }
        self.note(|| format!("host {host} loses power"));
        self.hosts[host as usize].up = false;
        self.network.hosts_down += 1;
        for process in 0..self.processes.len() as u32 {
            if self.processes[process as usize].host != host {
                continue;
            }
            self.end_threads(process);
            for (fd, object) in self.descriptors_of(process) {
                if !matches!(object, Object::Socket(_)) {
                    self.close_descriptor(process, fd, object);
                } else {
                    self.processes[process as usize].remove(fd);
                    self.descriptions.drop_reference(object);
                }
            }
        }
        // Also those that no descriptor refers to: half-open ones, and those in accept queues.
        let sockets: Vec<u32> =
            self.sockets.iter().filter(|(_, socket)| socket.host == host).map(|(id, _)| id).collect();
        for id in sockets {
            self.vanish(id);
        }
    }

    /// A host that is down starts again; nothing of what it knew is left.
    pub(crate) fn boot_host(&mut self, host: u32) {
        if !self.hosts[host as usize].up {
            self.note(|| format!("host {host} is up again"));
            self.hosts[host as usize].up = true;
            self.network.hosts_down -= 1;
        }
    }

    /// The socket is gone without a word.
    fn vanish(&mut self, id: u32) {
        self.excuse_socket(id, Excuse::HostCrashed);
        let socket = &mut self.sockets[id];
        let (connection, side) = (socket.connection, socket.outgoing());
        socket.state = State::Closed;
        // Those in its queue are on the list of sockets themselves.
        socket.listener = None;
        if let Some(entry) = self.connections.get_mut(connection) {
            entry.silent[side] = true;
            entry.streams[side].forget_unsent();
        }
        self.forget_registrations(Object::Socket(id));
        self.remove_socket(id);
    }

    fn end_threads(&mut self, process: u32) {
        self.deaths += u64::from(!self.processes[process as usize].dead.replace(true));
        self.processes[process as usize].frozen = false;
        for thread in self.threads.iter_mut().filter(|thread| thread.process == process) {
            thread.phase = Phase::Finished;
            thread.sleep = None;
            thread.queued = 0;
            thread.serial += 1;
        }
        self.drop_actors_of(process);
    }

    fn descriptors_of(&self, process: u32) -> Vec<(Fd, Object)> {
        self.processes[process as usize].open().collect()
    }

    /// The process is stopped, as by SIGSTOP: its threads make no more turns, while the kernel goes on serving its
    /// sockets. A thread in the middle of a turn ends that first.
    pub(crate) fn freeze_process(&mut self, process: u32) {
        if !self.is_dead(process) && !self.processes[process as usize].frozen {
            self.note(|| format!("process {process} is stopped"));
            self.processes[process as usize].frozen = true;
        }
    }

    /// The process goes on, as by SIGCONT. On Linux that interrupts the waits it was in (E44); what is ready comes first.
    pub(crate) fn thaw_process(&mut self, process: u32) {
        if !self.processes[process as usize].frozen {
            return;
        }
        self.note(|| format!("process {process} goes on"));
        self.processes[process as usize].frozen = false;
        let interrupts = !self.hosts[self.processes[process as usize].host as usize].kernel.is_bsd();
        for index in 0..self.threads.len() as u32 {
            let thread = &mut self.threads[index as usize];
            if thread.process != process || thread.phase == Phase::Finished {
                continue;
            }
            let held = std::mem::take(&mut thread.held);
            if held {
                thread.local = thread.local.max(self.now + cost::WAIT);
            }
            if interrupts && let Some(sleep) = thread.sleep.as_mut().filter(|sleep| !sleep.stalled) {
                sleep.interrupted = true;
                self.resume(index);
            }
            if held {
                self.enqueue(index);
            }
        }
    }
}
