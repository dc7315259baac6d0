//! pipe(2): bytes in page slots, which is what makes its room strange (W6 to W11).

use std::collections::VecDeque;

use reactor::sys::{EpollMask, Errno, Fd};

use super::watch::{Key, Watchers};
use super::{Object, cost};
use crate::world::World;

const PAGE_BYTES: usize = 4_096;
/// Slots of a pipe (W6).
const SLOTS: usize = 16;

/// One page of a pipe.
#[derive(Debug)]
struct Slot {
    bytes: Vec<u8>,
    /// This much has been read.
    read: usize,
    /// A later write may add to it; a page of a file is not added to.
    merges: bool,
}

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    open: bool,
    pub(crate) watchers: Watchers,
}

impl Default for End {
    fn default() -> End {
        End { open: true, watchers: Watchers::default() }
    }
}

/// A pipe.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    slots: VecDeque<Slot>,
    pub(crate) reader: End,
    pub(crate) writer: End,
}

impl Pipe {
    fn is_full(&self) -> bool {
        self.slots.len() >= SLOTS
    }

    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> usize {
        self.slots.iter().map(|slot| slot.bytes.len() - slot.read).sum()
    }

    /// Bytes of free slots.
    pub(crate) fn room(&self) -> usize {
        (SLOTS - self.slots.len()) * PAGE_BYTES
    }

    pub(crate) fn has_reader(&self) -> bool {
        self.reader.open
    }

    pub(crate) fn has_writer(&self) -> bool {
        self.writer.open
    }

    /// HUP without IN when the writer has gone and nothing is left (W10).
    pub(crate) fn reader_readiness(&self) -> EpollMask {
        let mut mask = EpollMask::empty();
        mask.set(EpollMask::IN, !self.slots.is_empty());
        mask.set(EpollMask::HUP, !self.writer.open);
        mask
    }

    /// OUT says that a whole slot is free (W7).
    pub(crate) fn writer_readiness(&self) -> EpollMask {
        let mut mask = EpollMask::empty();
        mask.set(EpollMask::OUT, !self.is_full());
        mask.set(EpollMask::ERR, !self.reader.open);
        mask
    }

    /// Adds bytes: the part that is no whole page to the last slot if it fits there, the rest to new slots. Answers how many
    /// were taken.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let odd = bytes.len() % PAGE_BYTES;
        if let Some(last) = self.slots.back_mut()
            && last.merges
            && last.bytes.len() + odd <= PAGE_BYTES
        {
            let (head, tail) = bytes.split_at(odd);
            last.bytes.extend_from_slice(head);
            rest = tail;
        }
        while !rest.is_empty() && !self.is_full() {
            let (head, tail) = rest.split_at(rest.len().min(PAGE_BYTES));
            self.slots.push_back(Slot { bytes: head.to_vec(), read: 0, merges: true });
            rest = tail;
        }
        bytes.len() - rest.len()
    }

    /// Adds pages of a file that begin at this offset of it; each is a slot of its own.
    fn push_pages(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_full() {
            let to_boundary = PAGE_BYTES - (offset + taken) % PAGE_BYTES;
            let length = to_boundary.min(bytes.len() - taken);
            let page = bytes[taken..taken + length].to_vec();
            self.slots.push_back(Slot { bytes: page, read: 0, merges: false });
            taken += length;
        }
        taken
    }

    /// Takes bytes out; whether a full pipe has got a free slot.
    fn take(&mut self, length: usize) -> (Vec<u8>, bool) {
        let mut taken = Vec::new();
        let mut freed = false;
        while taken.len() < length
            && let Some(slot) = self.slots.front_mut()
        {
            let count = (slot.bytes.len() - slot.read).min(length - taken.len());
            taken.extend_from_slice(&slot.bytes[slot.read..slot.read + count]);
            slot.read += count;
            if slot.read == slot.bytes.len() {
                freed |= self.is_full();
                self.slots.pop_front();
            }
        }
        (taken, freed)
    }
}

impl World {
    /// The reading end and the writing end.
    pub(crate) fn pipe_create(&mut self, thread: u32) -> Result<(Fd, Fd), Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create_two(thread)?;
        let pipe = self.pipes.insert(Pipe::default());
        let reader = self.install(thread, Object::PipeReader(pipe));
        let writer = self.install(thread, Object::PipeWriter(pipe));
        Ok((reader, writer))
    }

    pub(crate) fn pipe_read(&mut self, pipe: u32, length: usize) -> Result<Vec<u8>, Errno> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let (bytes, freed) = self.pipes[pipe].take(length);
        if freed {
            self.wake(Object::PipeWriter(pipe), Key::Out);
        }
        if bytes.is_empty() && self.pipes[pipe].writer.open {
            return Err(Errno::EAGAIN);
        }
        Ok(bytes)
    }

    pub(crate) fn pipe_write(&mut self, pipe: u32, bytes: &[u8]) -> Result<usize, Errno> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.pipe_add(pipe, |pipe| pipe.push(bytes))
    }

    /// What sendfile(2) does: pages of a file that begin at this offset of it.
    pub(crate) fn pipe_splice(&mut self, pipe: u32, offset: usize, bytes: &[u8]) -> Result<usize, Errno> {
        self.pipe_add(pipe, |pipe| pipe.push_pages(offset, bytes))
    }

    fn pipe_add(&mut self, pipe: u32, add: impl FnOnce(&mut Pipe) -> usize) -> Result<usize, Errno> {
        let entry = &mut self.pipes[pipe];
        if !entry.reader.open {
            return Err(Errno::EPIPE);
        }
        let count = add(entry);
        // Every write is an edge, even one that finds no room (W8; measured).
        self.wake(Object::PipeReader(pipe), Key::In);
        if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
    }

    pub(crate) fn pipe_reader_close(&mut self, pipe: u32) {
        self.pipes[pipe].reader.open = false;
        if self.pipes[pipe].writer.open {
            self.wake(Object::PipeWriter(pipe), Key::Any);
        } else {
            self.pipes.remove(pipe);
        }
    }

    pub(crate) fn pipe_writer_close(&mut self, pipe: u32) {
        self.pipes[pipe].writer.open = false;
        if self.pipes[pipe].reader.open {
            self.wake(Object::PipeReader(pipe), Key::Any);
        } else {
            self.pipes.remove(pipe);
        }
    }
}
