//! Descriptors and the plain objects behind them: duplicates, pipes, eventfds, files, and the limit on numbers.

#![allow(unsafe_code, reason = "system calls")]

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use reactor::sys::{Errno, Fd};

use super::{Answer, check, check_fd, last_error};

/// The descriptor flag that dup(2) does not carry over: nothing of a script is to reach another program.
fn close_on_exec(fd: Fd) -> Answer<Fd> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::fcntl(fd.as_raw(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

pub(super) fn dup(fd: Fd) -> Answer<Fd> {
    // SAFETY: takes a number only.
    check_fd(unsafe { libc::dup(fd.as_raw()) }).and_then(close_on_exec)
}

pub(super) fn dup2(fd: Fd, to: Fd) -> Answer<Fd> {
    // SAFETY: takes numbers only; that `to` is the script's own to replace is the script's promise, and a wrong one
    // gives wrong bytes, never wrong memory.
    check_fd(unsafe { libc::dup2(fd.as_raw(), to.as_raw()) }).and_then(close_on_exec)
}

/// Closes what a script has left open; a connection ends by a reset, which leaves no TIME_WAIT behind.
pub(super) fn discard(fd: Fd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // No error matters here: most descriptors are no sockets, and after close(2) the number is free in any case.
    // SAFETY: `linger` is readable for as many bytes as the length says; close takes a number.
    unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(
            fd.as_raw(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            value,
            size_of::<libc::linger>() as _,
        );
        libc::close(fd.as_raw());
    }
}

pub(super) fn eventfd(initial: u32, semaphore: bool) -> Answer<Fd> {
    let mode = if semaphore { libc::EFD_SEMAPHORE } else { 0 };
    // SAFETY: takes numbers only.
    check_fd(unsafe { libc::eventfd(initial, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC | mode) })
}

pub(super) fn pipe() -> Answer<(Fd, Fd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two numbers that the call writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    Ok((Fd::from_raw(ends[0]), Fd::from_raw(ends[1])))
}

/// A file of the system's folder for temporary files, without a name. An anonymous file in memory would do as well; this
/// is what a server sends from.
pub(super) fn file(bytes: &[u8]) -> Answer<Fd> {
    let write = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_TMPFILE | libc::O_NONBLOCK).mode(0o600);
        let mut file: File = options.open(std::env::temp_dir())?;
        file.write_all(bytes)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    };
    let file = write().map_err(|error: std::io::Error| {
        Errno::from_host_number(error.raw_os_error().unwrap_or(libc::EIO))
    })?;
    Ok(Fd::from_raw(file.into_raw_fd()))
}

pub(super) fn seek(fd: Fd, offset: u64) -> Answer<u64> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    // SAFETY: takes numbers only.
    let answer = unsafe { libc::lseek(fd.as_raw(), offset, libc::SEEK_SET) };
    u64::try_from(answer).map_err(|_| last_error())
}

/// The soft limit on descriptor numbers, and what it was. Dropping it puts back what it was.
#[derive(Debug)]
pub(super) struct DescriptorLimit {
    before: Limits,
    now: libc::rlim_t,
}

/// A soft and a hard limit.
#[derive(Copy, Clone, Debug)]
struct Limits {
    soft: libc::rlim_t,
    hard: libc::rlim_t,
}

impl DescriptorLimit {
    pub(super) fn now() -> Answer<DescriptorLimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is an rlimit that the call may write to.
        check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
        let before = Limits { soft: limit.rlim_cur, hard: limit.rlim_max };
        Ok(DescriptorLimit { before, now: before.soft })
    }

    fn apply(&self, soft: libc::rlim_t) -> Answer<()> {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: self.before.hard };
        // SAFETY: `limit` is an rlimit that the call only reads.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
    }

    /// Numbers are below `limit` from now on; `None` for what it was.
    pub(super) fn set(&mut self, limit: Option<usize>) -> Answer<()> {
        let soft = limit.map_or(self.before.soft, |limit| limit as libc::rlim_t);
        self.apply(soft)?;
        self.now = soft;
        Ok(())
    }

    /// Does what needs a number of its own, however low the script has set the limit.
    pub(super) fn lifted<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.now == self.before.soft {
            return work();
        }
        // A soft limit that held before is never refused.
        let _ = self.apply(self.before.soft);
        let made = work();
        let _ = self.apply(self.now);
        made
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        // As above: never refused.
        let _ = self.set(None);
    }
}
