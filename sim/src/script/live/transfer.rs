//! Moving bytes and descriptors.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;
use std::net::SocketAddr;
use std::ptr;

use libc::{c_int, c_void};
use reactor::sys::{Errno, Fd};

use super::super::probe::MessageFlags;
use super::{Answer, check_count};

// The flags are the kernel's, bit for bit.
const _: () = {
    assert!(MessageFlags::PEEK.bits().cast_signed() == libc::MSG_PEEK);
    assert!(MessageFlags::DONTWAIT.bits().cast_signed() == libc::MSG_DONTWAIT);
    assert!(MessageFlags::WAITALL.bits().cast_signed() == libc::MSG_WAITALL);
    assert!(MessageFlags::NOSIGNAL.bits().cast_signed() == libc::MSG_NOSIGNAL);
};

/// What gathered writes send; scripts look at its amount, never at its content.
const FILLER: u8 = b'x';

/// More segments than the kernel takes (1024), so that it still refuses them, and few enough to lay out.
const SEGMENTS_CLAMP: usize = 1 << 16;

/// Lets a call write into a buffer of `length` bytes, and gives what it wrote.
fn into_buffer(length: usize, call: impl FnOnce(*mut c_void) -> isize) -> Answer<Vec<u8>> {
    let mut buffer = vec![0; length];
    let count = check_count(call(buffer.as_mut_ptr().cast()))?;
    buffer.truncate(count);
    Ok(buffer)
}

pub(super) fn recv(fd: Fd, length: usize, flags: MessageFlags) -> Answer<Vec<u8>> {
    let flags = flags.bits().cast_signed();
    // SAFETY: the buffer has `length` writable bytes.
    into_buffer(length, |buffer| unsafe { libc::recv(fd.as_raw(), buffer, length, flags) })
}

pub(super) fn read(fd: Fd, length: usize) -> Answer<Vec<u8>> {
    // SAFETY: the buffer has `length` writable bytes.
    into_buffer(length, |buffer| unsafe { libc::read(fd.as_raw(), buffer, length) })
}

pub(super) fn send(fd: Fd, bytes: &[u8], flags: MessageFlags) -> Answer<usize> {
    let flags = flags.bits().cast_signed();
    // SAFETY: the kernel reads at most `bytes.len()` bytes from its start.
    check_count(unsafe { libc::send(fd.as_raw(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

pub(super) fn send_to(fd: Fd, bytes: &[u8], address: &SocketAddr) -> Answer<usize> {
    let SocketAddr::V4(address) = address else { return Err(Errno::EAFNOSUPPORT) };
    // SAFETY: all zeros is a valid sockaddr_in.
    let mut to: libc::sockaddr_in = unsafe { mem::zeroed() };
    to.sin_family = libc::AF_INET as libc::sa_family_t;
    to.sin_port = address.port().to_be();
    to.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`, and `length` bytes of `to`.
    check_count(unsafe {
        let to = (&raw const to).cast();
        libc::sendto(fd.as_raw(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL, to, length)
    })
}

pub(super) fn write(fd: Fd, bytes: &[u8]) -> Answer<usize> {
    // SAFETY: the kernel reads at most `bytes.len()` bytes from its start.
    check_count(unsafe { libc::write(fd.as_raw(), bytes.as_ptr().cast(), bytes.len()) })
}

/// As many segments, which are all the same memory: the kernel only reads them.
fn segments_over(content: &[u8], count: usize) -> Vec<libc::iovec> {
    let segment = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    vec![segment; count.min(SEGMENTS_CLAMP)]
}

pub(super) fn writev(fd: Fd, segments: i32, length: usize) -> Answer<usize> {
    let content = vec![FILLER; length];
    let list = segments_over(&content, usize::try_from(segments).unwrap_or(0));
    let count = if segments < 0 { segments } else { c_int::try_from(list.len()).unwrap_or(c_int::MAX) };
    // SAFETY: `list` has `count` segments, each over `content`, which is live and only read. The kernel refuses a
    // negative count before it looks at the list.
    check_count(unsafe { libc::writev(fd.as_raw(), list.as_ptr(), count) })
}

pub(super) fn sendmsg(fd: Fd, segments: usize, length: usize) -> Answer<usize> {
    let content = vec![FILLER; length];
    let mut list = segments_over(&content, segments);
    // SAFETY: all zeros is a valid msghdr: no address, no segments, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = list.as_mut_ptr();
    message.msg_iovlen = list.len() as _;
    // SAFETY: `message` points at `msg_iovlen` segments, each over `content`, which is live and only read.
    check_count(unsafe { libc::sendmsg(fd.as_raw(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// From the file's own offset, which the call moves.
pub(super) fn sendfile(to: Fd, from: Fd, length: usize) -> Answer<usize> {
    // SAFETY: without a place for an offset the call writes to no memory of ours.
    check_count(unsafe { libc::sendfile(to.as_raw(), from.as_raw(), ptr::null_mut(), length) })
}

/// Room for one control message with one descriptor, aligned as its header must be.
#[repr(C)]
union OneDescriptor {
    header: libc::cmsghdr,
    bytes: [u8; ONE_DESCRIPTOR_BYTES],
}

// SAFETY: CMSG_SPACE only computes.
const ONE_DESCRIPTOR_BYTES: usize = unsafe { libc::CMSG_SPACE(size_of::<c_int>() as u32) } as usize;

/// A message of one byte with room for a descriptor; what it points at must live as long.
fn message_of(byte: &mut libc::iovec, control: &mut OneDescriptor) -> libc::msghdr {
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut *byte;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *control).cast();
    message.msg_controllen = ONE_DESCRIPTOR_BYTES as _;
    message
}

pub(super) fn send_descriptor(fd: Fd, passed: Fd) -> Answer<()> {
    let mut content = FILLER;
    let mut byte = libc::iovec { iov_base: (&raw mut content).cast(), iov_len: 1 };
    let mut control = OneDescriptor { bytes: [0; ONE_DESCRIPTOR_BYTES] };
    let message = message_of(&mut byte, &mut control);
    // SAFETY: `message` has room for one header with one number, so that CMSG_FIRSTHDR answers `control`, and the data
    // behind the header is inside of it. `message` points at live memory during the call.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(passed.as_raw());
        libc::sendmsg(fd.as_raw(), &raw const message, libc::MSG_NOSIGNAL)
    };
    check_count(sent).map(drop)
}

/// `ENOENT` when the byte, or the end of the stream, came without a descriptor.
pub(super) fn receive_descriptor(fd: Fd) -> Answer<Fd> {
    let mut content = 0_u8;
    let mut byte = libc::iovec { iov_base: (&raw mut content).cast(), iov_len: 1 };
    let mut control = OneDescriptor { bytes: [0; ONE_DESCRIPTOR_BYTES] };
    let mut message = message_of(&mut byte, &mut control);
    // SAFETY: `message` points at one writable byte and at `msg_controllen` writable bytes, all live during the call.
    check_count(unsafe { libc::recvmsg(fd.as_raw(), &raw mut message, libc::MSG_CMSG_CLOEXEC) })?;
    // SAFETY: the kernel has set `msg_controllen` to what it wrote, so that the header is whole or absent, and a header of
    // SCM_RIGHTS has at least one number behind it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(Errno::ENOENT);
        }
        Ok(Fd::from_raw(libc::CMSG_DATA(header).cast::<c_int>().read_unaligned()))
    }
}
