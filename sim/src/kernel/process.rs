//! Processes: a descriptor table each, and whether they live.

use std::cell::Cell;
use std::rc::Rc;

use std::collections::BTreeSet;

use reactor::sys::{Errno, Fd};

use super::Object;
use crate::fault::FaultKind;
use crate::number_set::NumberSet;
use crate::schedule::{Thread, ThreadId};
use crate::work::WorkCount;
use crate::world::{Details, World};

/// The first number that a process can get: 0, 1 and 2 are taken.
const FIRST: usize = 3;

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) host: u32,
    /// Whether it has been killed. Its threads' views of the world share this, and go dark with it.
    pub(crate) dead: Rc<Cell<bool>>,
    /// Stopped by a signal: none of its threads runs, while the kernel goes on serving its sockets.
    pub(crate) frozen: bool,
    descriptors: Vec<Option<Object>>,
    /// Numbers without `FD_CLOEXEC`, which belongs to the number (T81). The loop's calls all set it.
    kept_on_exec: BTreeSet<i32>,
    /// The numbers that are not free.
    taken: NumberSet,
    /// The descriptor limit: numbers are below it.
    pub(crate) limit: usize,
    /// The limit outside of faults.
    pub(crate) limit_at_rest: usize,
    /// A drift: numbers are above all others.
    highest_first: bool,
    /// SIGPIPEs that it has got (T63).
    pub(crate) pipe_signals: u64,
}

impl Process {
    pub(crate) fn new(host: u32, limit: usize, highest_first: bool) -> Process {
        let mut taken = NumberSet::default();
        (0..FIRST).for_each(|number| taken.insert(number));
        Process {
            host,
            dead: Rc::default(),
            frozen: false,
            descriptors: vec![Some(Object::Standard); FIRST],
            kept_on_exec: BTreeSet::new(),
            taken,
            limit,
            limit_at_rest: limit,
            highest_first,
            pipe_signals: 0,
        }
    }

    #[inline]
    pub(crate) fn get(&self, fd: Fd) -> Option<Object> {
        let number = usize::try_from(fd.as_raw()).ok()?;
        *self.descriptors.get(number)?
    }

    /// The lowest free number, if the limit allows it (T1).
    #[inline]
    pub(crate) fn lowest_free(&self, work: &WorkCount) -> Option<usize> {
        let first = if self.highest_first { self.height() } else { FIRST };
        let number = self.taken.first_absent(first, work);
        (number < self.limit).then_some(number)
    }

    pub(crate) fn install(&mut self, object: Object, work: &WorkCount) -> Option<Fd> {
        let number = self.lowest_free(work)?;
        if number == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[number] = Some(object);
        self.taken.insert(number);
        Some(Fd::from_raw(i32::try_from(number).expect("the limit is far below")))
    }

    /// Whether the limit allows this number.
    pub(crate) fn allows(&self, fd: Fd) -> bool {
        usize::try_from(fd.as_raw()).is_ok_and(|number| number < self.limit)
    }

    /// Puts an object at a number that is free, as dup2(2) does.
    pub(crate) fn install_at(&mut self, fd: Fd, object: Object) {
        let number = usize::try_from(fd.as_raw()).expect("the number was found to be allowed");
        if number >= self.descriptors.len() {
            self.descriptors.resize(number + 1, None);
        }
        self.descriptors[number] = Some(object);
        self.taken.insert(number);
    }

    /// Whether the number stays open over exec(2): `FD_CLOEXEC` is off.
    pub(crate) fn is_kept_on_exec(&self, fd: Fd) -> bool {
        self.kept_on_exec.contains(&fd.as_raw())
    }

    /// Sets or clears `FD_CLOEXEC`.
    pub(crate) fn set_kept_on_exec(&mut self, fd: Fd, kept: bool) {
        if kept {
            self.kept_on_exec.insert(fd.as_raw());
        } else {
            self.kept_on_exec.remove(&fd.as_raw());
        }
    }

    pub(crate) fn remove(&mut self, fd: Fd) -> Option<Object> {
        let object = self.get(fd)?;
        let number = usize::try_from(fd.as_raw()).ok()?;
        if number < FIRST {
            return None;
        }
        self.descriptors[number] = None;
        self.taken.remove(number);
        // No free number at the end, so that the table's length is its height.
        while self.descriptors.last() == Some(&None) {
            self.descriptors.pop();
        }
        if !self.kept_on_exec.is_empty() {
            self.kept_on_exec.remove(&fd.as_raw());
        }
        Some(object)
    }

    /// The numbers in use beyond the first three.
    pub(crate) fn open(&self) -> impl Iterator<Item = (Fd, Object)> + '_ {
        self.descriptors
            .iter()
            .enumerate()
            .skip(FIRST)
            .filter_map(|(number, object)| Some((Fd::from_raw(i32::try_from(number).ok()?), (*object)?)))
    }

    /// One above the highest number in use.
    pub(crate) fn height(&self) -> usize {
        self.descriptors.len()
    }
}

impl World {
    /// The process that a thread belongs to.
    #[inline]
    pub(crate) fn process_of(&mut self, thread: u32) -> &mut Process {
        let process = self.threads[thread as usize].process;
        &mut self.processes[process as usize]
    }

    /// The object behind a descriptor; a number that is not open is an error of the caller's.
    #[inline]
    pub(crate) fn object(&mut self, thread: u32, fd: Fd) -> Result<Object, Errno> {
        let process = self.threads[thread as usize].process;
        match self.processes[process as usize].get(fd) {
            Some(object) => Ok(object),
            None => {
                self.violate(
                    "closed-descriptor",
                    ThreadId(thread),
                    format!("a call on {fd:?}, which is not open"),
                );
                Err(Errno::EBADF)
            }
        }
    }

    /// The socket behind a descriptor.
    #[inline]
    pub(crate) fn socket_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
        match self.object(thread, fd)? {
            Object::Socket(socket) => Ok(socket),
            _ => {
                self.violate(
                    "illegal-call",
                    ThreadId(thread),
                    format!("a socket call on {fd:?}, which is none"),
                );
                Err(Errno::ENOTSOCK)
            }
        }
    }

    /// The TCP socket behind a descriptor, for a call that UNIX streams refuse: no IPv4 address is one of theirs, and a pair does not
    /// listen.
    #[inline]
    pub(crate) fn tcp_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
        match self.object(thread, fd)? {
            Object::Socket(socket) => Ok(socket),
            Object::Unix(_) => Err(Errno::EINVAL),
            _ => self.socket_behind(thread, fd),
        }
    }

    /// Whether a creating call may go on: the descriptor limit, and the rare errors of exhausted systems.
    pub(crate) fn may_create(&mut self, thread: u32) -> Result<(), Errno> {
        let Thread { host, process, .. } = self.threads[thread as usize];
        if self.processes[process as usize].lowest_free(&self.work).is_none() {
            return Err(Errno::EMFILE);
        }
        if let Some(error) = self.imposed_creation_error(thread) {
            return Err(error);
        }
        let error = |details: &mut Details<'_>| {
            details.choose("which error", &[Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM])
        };
        if let Some(error) = self.fault_with(FaultKind::CreationErrors, host, error) {
            return Err(error);
        }
        self.maybe_lower_limit(process);
        Ok(())
    }

    /// The same for a call that creates two descriptors.
    pub(crate) fn may_create_two(&mut self, thread: u32) -> Result<(), Errno> {
        self.may_create(thread)?;
        let process = self.process_of(thread);
        let free =
            (0..process.limit).filter(|&number| process.descriptors.get(number).is_none_or(Option::is_none));
        if free.take(2).count() < 2 { Err(Errno::EMFILE) } else { Ok(()) }
    }

    /// Puts an object into the table, after [`World::may_create`] has agreed.
    pub(crate) fn install(&mut self, thread: u32, object: Object) -> Fd {
        let process = self.threads[thread as usize].process;
        let process = &mut self.processes[process as usize];
        process.install(object, &self.work).expect("a free number was found before the object was made")
    }

    /// Lowers the limit to just above what is open, for some time. The call under way still succeeds.
    fn maybe_lower_limit(&mut self, index: u32) {
        let process = &self.processes[index as usize];
        let host = process.host;
        if process.limit < process.limit_at_rest {
            return;
        }
        let squeeze = |details: &mut Details<'_>| {
            let spare = 1 + details.draw("descriptors left", 3) as usize;
            (spare, 1_000_000 + details.draw("how long", 200_000_000))
        };
        let Some((spare, lasts_ns)) = self.fault_with(FaultKind::DescriptorLimits, host, squeeze) else {
            return;
        };
        let process = &mut self.processes[index as usize];
        process.limit = (process.height() + spare).min(process.limit_at_rest);
        let limit = process.limit;
        self.note(|| format!("the descriptor limit of process {index} drops to {limit} for {lasts_ns} ns"));
        self.queue_event(self.now + lasts_ns, crate::event::EventKind::LimitRises { process: index });
    }

    pub(crate) fn limit_rises_event(&mut self, index: u32) {
        let process = &mut self.processes[index as usize];
        process.limit = process.limit_at_rest;
        self.note(|| format!("the descriptor limit of process {index} rises again"));
    }
}
