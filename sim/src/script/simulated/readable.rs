//! What can be read and written besides sockets: eventfds, pipes, timers, files.

use reactor::sys::{Errno, Fd};

use crate::kernel::syscalls::{SimSyscalls, nothing, number};
use crate::kernel::{Object, cost};
use crate::script::probe::{Answer, MessageFlags};
use crate::trace::CallKind;
use crate::world::World;

/// A number as read(2) and write(2) pass it.
const NUMBER_BYTES: usize = 8;

fn two_numbers((first, second): &(Fd, Fd)) -> u64 {
    number(first) | number(second) << 32
}

impl SimSyscalls {
    pub(super) fn eventfd_with(&mut self, initial: u32, semaphore: bool) -> Answer<Fd> {
        if self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        let arguments = [u64::from(initial), u64::from(semaphore)];
        let carry_out = |world: &mut World, thread| world.eventfd_create(thread, initial, semaphore);
        self.call(CallKind::Eventfd, -1, arguments, carry_out, number)
    }

    pub(super) fn pipe_pair(&mut self) -> Answer<(Fd, Fd)> {
        self.call(CallKind::Pipe, -1, [0; 2], World::pipe_create, two_numbers)
    }

    pub(super) fn timerfd_new(&mut self) -> Answer<Fd> {
        if self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        self.call(CallKind::TimerfdCreate, -1, [0; 2], World::timerfd_create, number)
    }

    pub(super) fn timerfd_arm(&mut self, fd: Fd, times: (i64, i64), absolute: bool) -> Answer<()> {
        let arguments = [times.0.cast_unsigned(), times.1.cast_unsigned()];
        let carry_out = |world: &mut World, thread| world.timerfd_set(thread, fd, times, absolute);
        self.call(CallKind::TimerfdSettime, fd.as_raw(), arguments, carry_out, nothing)
    }

    pub(super) fn timerfd_left(&mut self, fd: Fd) -> Answer<(u64, u64)> {
        let carry_out = |world: &mut World, thread| world.timerfd_get(thread, fd);
        self.call(CallKind::TimerfdGettime, fd.as_raw(), [0; 2], carry_out, |&(left_ns, _)| left_ns)
    }

    pub(super) fn file_of(&mut self, bytes: &[u8]) -> Answer<Fd> {
        let arguments = [bytes.len() as u64, 0];
        let carry_out = |world: &mut World, thread| world.file_create(thread, bytes.to_vec());
        self.call(CallKind::Open, -1, arguments, carry_out, number)
    }

    pub(super) fn seek_to(&mut self, fd: Fd, offset: u64) -> Answer<u64> {
        let carry_out = |world: &mut World, thread| world.file_seek(thread, fd, offset);
        self.call(CallKind::Lseek, fd.as_raw(), [offset, 0], carry_out, |&offset| offset)
    }

    pub(super) fn send_file(&mut self, to: Fd, from: Fd, length: usize) -> Answer<usize> {
        let arguments = [number(&from), length as u64];
        let carry_out = |world: &mut World, thread| world.sendfile(thread, to, from, length);
        self.call(CallKind::Sendfile, to.as_raw(), arguments, carry_out, |&count| count as u64)
    }

    /// FIONREAD of what is no TCP socket.
    pub(super) fn readable_bytes(&mut self, fd: Fd) -> Answer<i64> {
        let carry_out = |world: &mut World, thread| {
            let bytes = match world.object(thread, fd)? {
                Object::PipeReader(pipe) | Object::PipeWriter(pipe) => world.pipes[pipe].readable(),
                Object::Unix(unix) => world.unixes[unix].readable(),
                Object::File(file) => world.files[file].left(),
                _ => return Err(Errno::EINVAL),
            };
            Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
        };
        self.call(CallKind::Getsockopt, fd.as_raw(), [0; 2], carry_out, |&bytes| bytes.cast_unsigned())
    }

    /// read(2) of anything.
    pub(super) fn read_any(&mut self, fd: Fd, length: usize) -> Answer<Vec<u8>> {
        if self.is_socket(fd) {
            return self.read_socket(fd, length);
        }
        let carry_out = |world: &mut World, thread| world.read_object(thread, fd, length);
        self.call(CallKind::Read, fd.as_raw(), [length as u64, 0], carry_out, |bytes| bytes.len() as u64)
    }

    /// write(2) to anything.
    pub(super) fn write_any(&mut self, fd: Fd, bytes: &[u8]) -> Answer<usize> {
        if self.is_socket(fd) {
            return self.send_with(fd, bytes, MessageFlags::empty());
        }
        let arguments = [bytes.len() as u64, 0];
        let carry_out = |world: &mut World, thread| world.write_object(thread, fd, bytes);
        self.call(CallKind::Write, fd.as_raw(), arguments, carry_out, |&count| count as u64)
    }
}

impl World {
    fn read_object(&mut self, thread: u32, fd: Fd, length: usize) -> Result<Vec<u8>, Errno> {
        self.spend(thread, cost::RECV);
        let whole_number = || if length < NUMBER_BYTES { Err(Errno::EINVAL) } else { Ok(()) };
        let bytes = |number: u64| number.to_le_bytes().to_vec();
        let result = match self.object(thread, fd)? {
            Object::Eventfd(eventfd) => {
                whole_number()?;
                self.eventfd_take(eventfd).map(bytes)
            }
            Object::Timerfd(timerfd) => {
                whole_number()?;
                self.timerfd_read(timerfd).map(bytes)
            }
            Object::PipeReader(pipe) => self.pipe_read(pipe, length),
            Object::Unix(_) if length == 0 => Ok(Vec::new()),
            Object::Unix(unix) => self.unix_receive(unix, length, false).map(|received| received.bytes),
            Object::File(file) => Ok(self.file_read(file, length)),
            Object::PipeWriter(_) => Err(Errno::EBADF),
            Object::Standard | Object::Socket(_) | Object::Epoll(_) | Object::Kqueue(_) => Err(Errno::EINVAL),
        };
        self.progress(thread);
        result
    }

    fn write_object(&mut self, thread: u32, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.spend(thread, cost::SEND_DATA);
        let result = match self.object(thread, fd)? {
            Object::Eventfd(eventfd) => {
                let number = bytes.try_into().map_err(|_| Errno::EINVAL)?;
                self.eventfd_add(eventfd, u64::from_le_bytes(number)).map(|()| NUMBER_BYTES)
            }
            Object::PipeWriter(pipe) => self.pipe_write(pipe, bytes),
            Object::Unix(unix) => self.unix_send(unix, bytes, None),
            Object::File(file) => Ok(self.file_write(file, bytes)),
            Object::PipeReader(_) => Err(Errno::EBADF),
            Object::Standard
            | Object::Socket(_)
            | Object::Timerfd(_)
            | Object::Epoll(_)
            | Object::Kqueue(_) => Err(Errno::EINVAL),
        };
        if result == Err(Errno::EPIPE) {
            self.process_of(thread).pipe_signals += 1;
        }
        self.progress(thread);
        result
    }
}
