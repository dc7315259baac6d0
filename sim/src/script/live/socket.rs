//! Making, naming and ending sockets, with the arguments that the seam leaves out.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::ptr;

use libc::{c_int, socklen_t};
use reactor::sys::{Errno, Fd};

use super::super::probe::SocketKind;
use super::{Answer, check, check_fd};

/// A flag that accept4(2) does not know.
const NO_SUCH_FLAG: c_int = 1;

/// The length of an IPv4 address in the kernel's form.
const V4_LENGTH: socklen_t = size_of::<libc::sockaddr_in>() as socklen_t;

pub(super) fn socket(kind: SocketKind) -> Answer<Fd> {
    let (domain, form) = match kind {
        SocketKind::Tcp => (libc::AF_INET, libc::SOCK_STREAM),
        SocketKind::Udp => (libc::AF_INET, libc::SOCK_DGRAM),
        SocketKind::Unix => (libc::AF_UNIX, libc::SOCK_STREAM),
    };
    // SAFETY: takes numbers only.
    check_fd(unsafe { libc::socket(domain, form | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })
}

pub(super) fn socketpair() -> Answer<(Fd, Fd)> {
    let mut ends = [-1; 2];
    let form = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two numbers that the call writes.
    check(unsafe { libc::socketpair(libc::AF_UNIX, form, 0, ends.as_mut_ptr()) })?;
    Ok((Fd::from_raw(ends[0]), Fd::from_raw(ends[1])))
}

/// With these flags and no others: what the call passes on by itself is a fact (T36).
pub(super) fn accept(fd: Fd, non_blocking: bool, bad_flags: bool) -> Answer<Fd> {
    let mode = if non_blocking { libc::SOCK_NONBLOCK } else { 0 };
    let bad = if bad_flags { NO_SUCH_FLAG } else { 0 };
    // SAFETY: without a place for the address the call writes nothing.
    check_fd(unsafe { libc::accept4(fd.as_raw(), ptr::null_mut(), ptr::null_mut(), mode | bad) })
}

/// 127.0.0.1 with any free port, in the kernel's form.
fn loopback() -> libc::sockaddr_in {
    // SAFETY: all zeros is a valid sockaddr_in.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_addr.s_addr = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    address
}

pub(super) fn bind_malformed(fd: Fd, wrong_family: bool) -> Answer<()> {
    let mut address = loopback();
    let length = if wrong_family {
        address.sin_family = libc::AF_INET6 as libc::sa_family_t;
        V4_LENGTH
    } else {
        V4_LENGTH / 2
    };
    // SAFETY: `address` is readable for `length` bytes and more.
    check(unsafe { libc::bind(fd.as_raw(), (&raw const address).cast(), length) })
}

pub(super) fn listen(fd: Fd, backlog: i32) -> Answer<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(fd.as_raw(), backlog) })
}

pub(super) fn disconnect(fd: Fd) -> Answer<()> {
    let mut address = loopback();
    address.sin_family = libc::AF_UNSPEC as libc::sa_family_t;
    // SAFETY: `address` is readable for `V4_LENGTH` bytes.
    check(unsafe { libc::connect(fd.as_raw(), (&raw const address).cast(), V4_LENGTH) })
}

pub(super) fn getpeername(fd: Fd) -> Answer<SocketAddr> {
    let mut address = loopback();
    let mut length = V4_LENGTH;
    // SAFETY: `address` has `length` writable bytes, and the kernel writes no more than that.
    check(unsafe { libc::getpeername(fd.as_raw(), (&raw mut address).cast(), &raw mut length) })?;
    if c_int::from(address.sin_family) != libc::AF_INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
    Ok(SocketAddr::from((ip, u16::from_be(address.sin_port))))
}

pub(super) fn shutdown(fd: Fd, how: i32) -> Answer<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::shutdown(fd.as_raw(), how) })
}
