//! What calls ask for, as the two words of a record: the same words as the simulated kernel writes down, so that the two
//! compare.

use std::io::IoSlice;
use std::net::SocketAddr;

use reactor::sys::{EpollMask, EpollOperation, Errno, Family, Fd, Shutdown, SocketOption, Wait, WakeTarget};

use crate::kernel::syscalls::{number, option_words};
use crate::trace::word_of_address;

pub(super) fn fd(fd: &Fd) -> u64 {
    number(fd)
}

pub(super) fn family(family: Family) -> [u64; 2] {
    [u64::from(family == Family::V6), 0]
}

pub(super) fn option(option: SocketOption) -> [u64; 2] {
    option_words(option)
}

/// An address of IPv6 does not fit; whoever needs it reads the bytes beside.
pub(super) fn address(address: &SocketAddr) -> [u64; 2] {
    match address {
        SocketAddr::V4(address) => [word_of_address(*address), 0],
        SocketAddr::V6(address) => [u64::from(address.port()), 0],
    }
}

pub(super) fn send(bytes: &[u8]) -> [u64; 2] {
    [bytes.len() as u64, 1]
}

pub(super) fn sendmsg(segments: &[IoSlice<'_>]) -> [u64; 2] {
    let length: usize = segments.iter().map(|segment| segment.len()).sum();
    [length as u64, segments.len() as u64]
}

/// The CRC-32 of the first `taken` bytes.
#[inline]
pub(crate) fn checksum(segments: &[IoSlice<'_>], taken: usize) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    let mut left = taken;
    for segment in segments {
        let length = segment.len().min(left);
        hasher.update(&segment[..length]);
        left -= length;
        if left == 0 {
            break;
        }
    }
    hasher.finalize().to_le_bytes()
}

pub(super) fn shutdown(how: Shutdown) -> [u64; 2] {
    let word = match how {
        Shutdown::Read => 0,
        Shutdown::Write => 1,
        Shutdown::Both => 2,
    };
    [word, 0]
}

pub(super) fn epoll_ctl(operation: EpollOperation, fd: Fd, mask: EpollMask, data: u64) -> [u64; 2] {
    let operation = match operation {
        EpollOperation::Add => 0,
        EpollOperation::Modify => 1,
        EpollOperation::Delete => 2,
    };
    let target = u64::from(fd.as_raw().cast_unsigned() << 2);
    [operation | target | u64::from(mask.bits()) << 32, data]
}

pub(super) fn epoll_wait(timeout_ms: i32, room: usize) -> [u64; 2] {
    [u64::from(timeout_ms.cast_unsigned()), room as u64]
}

pub(super) fn kevent(timeout_ns: Option<u64>, changes: usize) -> [u64; 2] {
    [timeout_ns.unwrap_or(u64::MAX), changes as u64]
}

pub(super) fn waker(target: WakeTarget) -> (Fd, [u64; 2]) {
    match target {
        WakeTarget::Eventfd(fd) => (fd, [0; 2]),
        WakeTarget::UserEvent { kqueue, ident, .. } => (kqueue, [ident, 0]),
    }
}

/// How many events a wait gave.
pub(super) fn ready(result: Result<Wait, Errno>) -> usize {
    match result {
        Ok(Wait::Ready(count)) => count,
        Ok(Wait::Parked) | Err(_) => 0,
    }
}
