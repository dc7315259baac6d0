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

/// A segment of up to so many bytes is summed up whole.
const SUMMED_WHOLE_BYTES: usize = 256;

/// Of a longer one, the first bytes of each so many, and the last ones.
const SUMMED_EVERY_BYTES: usize = 2048;
const SUMMED_BYTES: usize = 128;

/// The CRC-32 of the first `taken` bytes; of long segments only of samples, since all of them would cost more than the rest of
/// the recording. A byte that is lost or repeated moves all that follow it, so that the next sample tells; one that is changed
/// between two samples is left to who receives it.
#[inline]
pub(crate) fn checksum(segments: &[IoSlice<'_>], taken: usize) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    let mut left = taken;
    for segment in segments {
        let bytes = &segment[..segment.len().min(left)];
        left -= bytes.len();
        if bytes.len() <= SUMMED_WHOLE_BYTES {
            hasher.update(bytes);
        } else {
            let places = bytes.chunks(SUMMED_EVERY_BYTES).map(|part| &part[..part.len().min(SUMMED_BYTES)]);
            places.for_each(|place| hasher.update(place));
            hasher.update(&bytes[bytes.len() - SUMMED_BYTES..]);
        }
        if left == 0 {
            break;
        }
    }
    hasher.finalize().to_le_bytes()
}

/// What the first `taken` bytes may be summed up as: over samples, and over all of them, as files of version 1 have it.
pub(crate) fn checksums(segments: &[IoSlice<'_>], taken: usize) -> [[u8; 4]; 2] {
    [checksum(segments, taken), whole_checksum(segments, taken)]
}

fn whole_checksum(segments: &[IoSlice<'_>], taken: usize) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    let mut left = taken;
    for segment in segments {
        let bytes = &segment[..segment.len().min(left)];
        left -= bytes.len();
        hasher.update(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::content::Content;

    #[test]
    fn a_byte_that_is_lost_anywhere_changes_the_sum() {
        let mut bytes = Vec::new();
        Content { stream: 5, length: 20_000 }.append(0, 20_000, &mut bytes);
        let sum = |bytes: &[u8]| checksum(&[IoSlice::new(bytes)], 16_384);
        for lost in (0..16_384).step_by(37) {
            let mut others = bytes.clone();
            others.remove(lost);
            assert_ne!(sum(&others), sum(&bytes), "byte {lost}");
        }
    }

    #[test]
    fn a_change_of_a_short_segment_changes_the_sum() {
        let bytes = [7; SUMMED_WHOLE_BYTES];
        for changed in 0..bytes.len() {
            let mut others = bytes;
            others[changed] ^= 1;
            let sum = |bytes: &[u8]| checksum(&[IoSlice::new(&[1]), IoSlice::new(bytes)], bytes.len());
            let is_taken = changed + 1 < bytes.len();
            assert_eq!(sum(&others) != sum(&bytes), is_taken, "byte {changed}");
        }
    }
}
