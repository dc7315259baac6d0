//! The calls that all Unix systems share: sockets, the clock, the descriptor limit, and error numbers.
//!
//! Free functions, one per method of [`Syscalls`](super::Syscalls); [`socket_calls`] forwards to them from each
//! backend's implementation. The per-system differences here are small enough to sit beside each other under `cfg`:
//! whether `socket` and `accept4` take flags (Apple's do not), and how a write is kept from raising SIGPIPE.

#![allow(unsafe_code, reason = "system calls")]

use std::io::IoSlice;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{c_int, c_void, socklen_t};

use super::{Accepted, Congestion, Errno, Family, Fd, Shutdown, SocketOption};
use crate::time::Instant;

/// Writes the methods of [`Syscalls`](super::Syscalls) that every Unix has in common into an `impl` block.
macro_rules! socket_calls {
    () => {
        #[inline]
        fn clock_gettime(&mut self) -> $crate::time::Instant {
            posix::clock_gettime()
        }

        fn socket(&mut self, family: Family) -> Result<Fd, Errno> {
            posix::socket(family)
        }

        fn setsockopt(&mut self, fd: Fd, option: SocketOption) -> Result<(), Errno> {
            posix::setsockopt(fd, option)
        }

        fn bind(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
            posix::bind(fd, address)
        }

        fn listen(&mut self, fd: Fd, backlog: u32) -> Result<(), Errno> {
            posix::listen(fd, backlog)
        }

        #[inline]
        fn accept4(&mut self, fd: Fd) -> Result<Accepted, Errno> {
            posix::accept4(fd)
        }

        fn connect(&mut self, fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
            posix::connect(fd, address)
        }

        fn getsockname(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
            posix::getsockname(fd)
        }

        fn take_socket_error(&mut self, fd: Fd) -> Result<Option<Errno>, Errno> {
            posix::take_socket_error(fd)
        }

        #[inline]
        fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
            posix::recv(fd, buffer)
        }

        #[inline]
        fn send(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
            posix::send(fd, bytes)
        }

        #[inline]
        fn sendmsg(&mut self, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
            posix::sendmsg(fd, segments)
        }

        fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
            posix::shutdown(fd, how)
        }

        #[inline]
        fn close(&mut self, fd: Fd) -> Result<(), Errno> {
            posix::close(fd)
        }
    };
}
pub(super) use socket_calls;

// One pattern covers both names below.
const _: () = assert!(libc::EWOULDBLOCK == libc::EAGAIN);

macro_rules! host_numbers {
    ($($name:ident)*) => {
        impl Errno {
            /// The error behind the host's number; a number outside the list becomes [`Errno::Unlisted`].
            ///
            /// `EWOULDBLOCK` is `EAGAIN`, `ENOTSUP` is `EOPNOTSUPP` (Apple, NetBSD and OpenBSD number them apart), and
            /// `ENOSYS` is [`Errno::Unsupported`].
            ///
            /// References: errno(3).
            pub fn from_host_number(number: i32) -> Errno {
                match number {
                    $(libc::$name => Errno::$name,)*
                    #[cfg(any(target_os = "linux", target_os = "android"))]
                    libc::ENONET => Errno::ENONET,
                    libc::ENOSYS => Errno::Unsupported,
                    number if number == libc::ENOTSUP => Errno::EOPNOTSUPP,
                    number => Errno::Unlisted(number),
                }
            }

            /// The host's number for this error; `None` where the host has no such error (`ENONET` outside Linux).
            ///
            /// References: errno(3).
            pub fn host_number(self) -> Option<i32> {
                match self {
                    $(Errno::$name => Some(libc::$name),)*
                    #[cfg(any(target_os = "linux", target_os = "android"))]
                    Errno::ENONET => Some(libc::ENONET),
                    #[cfg(not(any(target_os = "linux", target_os = "android")))]
                    Errno::ENONET => None,
                    Errno::Unsupported => Some(libc::ENOSYS),
                    Errno::Unlisted(number) => Some(number),
                }
            }
        }
    };
}

// All of `Errno::LISTED` but ENONET, which only Linux has; the match in `host_number` keeps the two lists equal.
host_numbers! {
    EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET
    EDESTADDRREQ EEXIST EFAULT EHOSTDOWN EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN ELOOP EMFILE EMSGSIZE
    ENETDOWN ENETRESET ENETUNREACH ENFILE ENOBUFS ENOENT ENOMEM ENOPROTOOPT ENOSPC ENOTCONN ENOTSOCK EOPNOTSUPP EPERM
    EPIPE EPROTO EPROTOTYPE ESHUTDOWN ETIMEDOUT
}

/// The error of the call that has just failed on this thread.
pub(super) fn last_error() -> Errno {
    // `last_os_error` always carries a number; zero would become `Unlisted(0)` rather than hide the failure.
    Errno::from_host_number(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// The result of a call that answers -1 or a descriptor.
pub(super) fn check_fd(answer: c_int) -> Result<Fd, Errno> {
    if answer < 0 { Err(last_error()) } else { Ok(Fd::from_raw(answer)) }
}

/// The result of a call that answers -1 or zero.
pub(super) fn check(answer: c_int) -> Result<(), Errno> {
    if answer < 0 { Err(last_error()) } else { Ok(()) }
}

/// The result of a call that answers -1 or a count of bytes.
#[inline]
fn check_bytes(answer: isize) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| last_error())
}

/// A second descriptor for what `fd` refers to, close-on-exec.
pub(super) fn duplicate(fd: Fd) -> Result<std::os::fd::OwnedFd, Errno> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: F_DUPFD_CLOEXEC takes a number and touches no memory of ours; a wrong descriptor is EBADF.
    let copy = check_fd(unsafe { libc::fcntl(fd.as_raw(), libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(copy.as_raw()) })
}

#[inline]
#[expect(
    clippy::cast_sign_loss,
    reason = "a monotonic clock starts at zero or later, and nanoseconds are below 1e9"
)]
pub(super) fn clock_gettime() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call may write to.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    // It fails only for an unknown clock or a bad pointer.
    debug_assert_eq!(answer, 0, "clock_gettime(CLOCK_MONOTONIC)");
    Instant::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(super) fn socket(family: Family) -> Result<Fd, Errno> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    #[cfg(not(target_vendor = "apple"))]
    {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes numbers only.
        check_fd(unsafe { libc::socket(domain, kind, 0) })
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: takes numbers only.
        let fd = check_fd(unsafe { libc::socket(domain, libc::SOCK_STREAM, 0) })?;
        prepare(fd)
    }
}

/// Makes a new socket what the contract says it is, where `socket` and `accept` take no flags.
#[cfg(target_vendor = "apple")]
fn prepare(fd: Fd) -> Result<Fd, Errno> {
    // SAFETY: these commands take numbers and touch no memory of ours.
    let flags = unsafe {
        check(libc::fcntl(fd.as_raw(), libc::F_SETFD, libc::FD_CLOEXEC))
            .and_then(|()| check(libc::fcntl(fd.as_raw(), libc::F_SETFL, libc::O_NONBLOCK)))
    };
    if let Err(error) = flags {
        // The descriptor is ours alone; what its close answers cannot help.
        let _ = close(fd);
        return Err(error);
    }
    // EINVAL: the peer has already reset the connection (kernel-semantics T80). Such a socket still has data to be
    // read, so it is handed out; MSG_NOSIGNAL covers its writes.
    let _ = set(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, &(1 as c_int));
    Ok(fd)
}

fn set<T>(fd: Fd, level: c_int, name: c_int, value: &T) -> Result<(), Errno> {
    set_bytes(fd, level, name, (&raw const *value).cast(), size_of::<T>())
}

fn set_bytes(fd: Fd, level: c_int, name: c_int, value: *const c_void, bytes: usize) -> Result<(), Errno> {
    // SAFETY: both callers pass a pointer to a live value of `bytes` bytes, which the call only reads.
    check(unsafe { libc::setsockopt(fd.as_raw(), level, name, value, socklen(bytes)) })
}

/// The size of an address or option, which is below 256 for all of ours.
const fn socklen(bytes: usize) -> socklen_t {
    bytes as socklen_t
}

pub(super) fn setsockopt(fd: Fd, option: SocketOption) -> Result<(), Errno> {
    // Only SO_REUSEPORT_LB spreads connections on FreeBSD; plain SO_REUSEPORT gives all of them to the last listener
    // (kernel-semantics T13).
    #[cfg(target_os = "freebsd")]
    const REUSE_PORT: c_int = libc::SO_REUSEPORT_LB;
    #[cfg(not(target_os = "freebsd"))]
    const REUSE_PORT: c_int = libc::SO_REUSEPORT;

    // A size beyond the type is beyond every kernel's maximum too, and kernels clamp to theirs.
    let bytes = |bytes: u32| c_int::try_from(bytes).unwrap_or(c_int::MAX);
    match option {
        SocketOption::ReuseAddress(on) => set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &c_int::from(on)),
        SocketOption::ReusePort(on) => set(fd, libc::SOL_SOCKET, REUSE_PORT, &c_int::from(on)),
        SocketOption::V6Only(on) => set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &c_int::from(on)),
        SocketOption::NoDelay(on) => set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &c_int::from(on)),
        SocketOption::KeepAlive(on) => set(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &c_int::from(on)),
        SocketOption::SendBufferBytes(wanted) => set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes(wanted)),
        SocketOption::ReceiveBufferBytes(wanted) => {
            set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes(wanted))
        }
        SocketOption::ResetOnClose(on) => {
            let linger = libc::linger { l_onoff: c_int::from(on), l_linger: 0 };
            set(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
        }
        SocketOption::Congestion(algorithm) => set_congestion(fd, algorithm),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
fn set_congestion(fd: Fd, algorithm: Congestion) -> Result<(), Errno> {
    #[cfg(target_os = "netbsd")]
    const NAME: c_int = libc::TCP_CONGCTL;
    #[cfg(not(target_os = "netbsd"))]
    const NAME: c_int = libc::TCP_CONGESTION;
    // The BSDs call RFC 6582 by its full name; Linux's "reno" has been NewReno since long ago.
    const RENO: &[u8] =
        if cfg!(any(target_os = "linux", target_os = "android")) { b"reno\0" } else { b"newreno\0" };

    let name: &[u8] = match algorithm {
        Congestion::Cubic => b"cubic\0",
        Congestion::Reno => RENO,
    };
    set_bytes(fd, libc::IPPROTO_TCP, NAME, name.as_ptr().cast(), name.len())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
fn set_congestion(_: Fd, _: Congestion) -> Result<(), Errno> {
    Err(Errno::ENOPROTOOPT)
}

/// An address as the kernel reads it: no larger than the family needs, so that nothing more is cleared or copied.
union HostAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn encode(address: &SocketAddr) -> (HostAddress, socklen_t) {
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: all zeros is a valid sockaddr_in; the BSDs' length byte is set by the kernel from the call's
            // length argument.
            let mut v4: libc::sockaddr_in = unsafe { mem::zeroed() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            (HostAddress { v4 }, socklen(size_of::<libc::sockaddr_in>()))
        }
        SocketAddr::V6(address) => {
            // SAFETY: all zeros is a valid sockaddr_in6.
            let mut v6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            // As it is, in network order, like std's own conversion: what getsockname gave can be given to bind.
            v6.sin6_flowinfo = address.flowinfo();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_scope_id = address.scope_id();
            (HostAddress { v6 }, socklen(size_of::<libc::sockaddr_in6>()))
        }
    }
}

/// The address in the first `length` bytes of `storage`; `None` when it is too short for its family (length zero above
/// all, kernel-semantics T38) or of a family that is neither of ours.
fn decode(storage: &libc::sockaddr_storage, length: socklen_t) -> Option<SocketAddr> {
    let length = length as usize;
    if length < size_of::<libc::sa_family_t>() + mem::offset_of!(libc::sockaddr_storage, ss_family) {
        return None;
    }
    match c_int::from(storage.ss_family) {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: sockaddr_storage is large enough and aligned for every address, its bytes are initialised, and
            // every bit pattern is a sockaddr_in.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

fn empty_storage() -> (libc::sockaddr_storage, socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage, of the unspecified family.
    (unsafe { mem::zeroed() }, socklen(size_of::<libc::sockaddr_storage>()))
}

pub(super) fn bind(fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
    let (host, length) = encode(address);
    // SAFETY: `host` holds an address of `length` bytes, which the call only reads.
    check(unsafe { libc::bind(fd.as_raw(), (&raw const host).cast(), length) })
}

pub(super) fn listen(fd: Fd, backlog: u32) -> Result<(), Errno> {
    // Kernels clamp to a maximum far below this type's.
    let backlog = c_int::try_from(backlog).unwrap_or(c_int::MAX);
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(fd.as_raw(), backlog) })
}

#[inline]
pub(super) fn accept4(fd: Fd) -> Result<Accepted, Errno> {
    let (mut storage, mut length) = empty_storage();
    let address = (&raw mut storage).cast();
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: `storage` has `length` writable bytes, and the kernel writes no more than that.
    let answer = unsafe {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        libc::accept4(fd.as_raw(), address, &raw mut length, flags)
    };
    #[cfg(target_vendor = "apple")]
    // SAFETY: `storage` has `length` writable bytes, and the kernel writes no more than that.
    let answer = unsafe { libc::accept(fd.as_raw(), address, &raw mut length) };
    let fd = check_fd(answer)?;
    #[cfg(target_vendor = "apple")]
    let fd = prepare(fd)?;
    Ok(Accepted { fd, peer: decode(&storage, length) })
}

pub(super) fn connect(fd: Fd, address: &SocketAddr) -> Result<(), Errno> {
    let (host, length) = encode(address);
    // SAFETY: `host` holds an address of `length` bytes, which the call only reads.
    check(unsafe { libc::connect(fd.as_raw(), (&raw const host).cast(), length) })
}

pub(super) fn getsockname(fd: Fd) -> Result<SocketAddr, Errno> {
    let (mut storage, mut length) = empty_storage();
    // SAFETY: `storage` has `length` writable bytes, and the kernel writes no more than that.
    check(unsafe { libc::getsockname(fd.as_raw(), (&raw mut storage).cast(), &raw mut length) })?;
    decode(&storage, length).ok_or(Errno::EAFNOSUPPORT)
}

pub(super) fn take_socket_error(fd: Fd) -> Result<Option<Errno>, Errno> {
    let mut number: c_int = 0;
    let mut length = socklen(size_of::<c_int>());
    let value = (&raw mut number).cast();
    // SAFETY: `number` has `length` writable bytes, and the kernel writes no more than that.
    check(unsafe {
        libc::getsockopt(fd.as_raw(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut length)
    })?;
    Ok(if number == 0 { None } else { Some(Errno::from_host_number(number)) })
}

#[inline]
pub(super) fn recv(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes from its start.
    check_bytes(unsafe { libc::recv(fd.as_raw(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

#[inline]
pub(super) fn send(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads at most `bytes.len()` bytes from its start.
    check_bytes(unsafe { libc::send(fd.as_raw(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

#[inline]
pub(super) fn sendmsg(fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
    // More than any kernel takes, so that it still answers EMSGSIZE, and small enough for every type of the field.
    const SEGMENTS_CLAMP: usize = 1 << 20;
    // SAFETY: all zeros is a valid msghdr: no address, no segments, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // An IoSlice is an iovec by its documentation; the kernel only reads through it.
    message.msg_iov = segments.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = segments.len().min(SEGMENTS_CLAMP) as _;
    // SAFETY: `message` points at `msg_iovlen` segments, each of which is live for as long as `segments` is.
    check_bytes(unsafe { libc::sendmsg(fd.as_raw(), &raw const message, libc::MSG_NOSIGNAL) })
}

pub(super) fn shutdown(fd: Fd, how: Shutdown) -> Result<(), Errno> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes numbers only.
    check(unsafe { libc::shutdown(fd.as_raw(), how) })
}

#[inline]
pub(super) fn close(fd: Fd) -> Result<(), Errno> {
    // SAFETY: takes a number; that no one else still uses it is the registry's promise, and a stale number gives wrong
    // bytes or EBADF, never wrong memory.
    check(unsafe { libc::close(fd.as_raw()) })
}

/// Raises the soft limit on descriptors to `wanted` or to the hard limit, whichever is lower; never lowers it.
pub(super) fn raise_descriptor_limit(wanted: u64) -> Result<u64, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that the call may write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let hard = from_rlim(limit.rlim_max).min(system_descriptor_limit());
    let target = wanted.min(hard);
    if target > from_rlim(limit.rlim_cur) {
        limit.rlim_cur = to_rlim(target);
        // SAFETY: `limit` is an rlimit that the call only reads.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(from_rlim(limit.rlim_cur))
}

// `rlim_t` is signed on FreeBSD and DragonFly, and 32 bits wide on a few others.
#[allow(clippy::useless_conversion, reason = "another type only where rlim_t is signed or narrow")]
fn from_rlim(value: libc::rlim_t) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[allow(clippy::useless_conversion, reason = "another type only where rlim_t is signed or narrow")]
fn to_rlim(value: u64) -> libc::rlim_t {
    libc::rlim_t::try_from(value).unwrap_or(libc::RLIM_INFINITY)
}

/// A limit beside the hard limit. Apple's hard limit is often infinite, and `setrlimit` then refuses what is more than
/// this one.
#[cfg(target_vendor = "apple")]
fn system_descriptor_limit() -> u64 {
    let mut limit: c_int = 0;
    let mut bytes = size_of::<c_int>();
    let value = (&raw mut limit).cast();
    // SAFETY: the name ends in NUL, `limit` has `bytes` writable bytes, and nothing is set.
    let answer = unsafe {
        libc::sysctlbyname(c"kern.maxfilesperproc".as_ptr(), value, &raw mut bytes, std::ptr::null_mut(), 0)
    };
    // Where it cannot be asked: OPEN_MAX, which setrlimit(2) promises to take.
    if answer < 0 { 10_240 } else { u64::try_from(limit).unwrap_or(10_240) }
}

#[cfg(not(target_vendor = "apple"))]
fn system_descriptor_limit() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn writing_to_a_closed_connection_says_epipe_and_raises_no_signal() {
        static RAISED: AtomicU32 = AtomicU32::new(0);
        extern "C" fn count(_: c_int) {
            RAISED.fetch_add(1, Ordering::Relaxed);
        }
        // The runtime of a Rust program ignores SIGPIPE, which would hide one; a C program that embeds the loop does not.
        // SAFETY: the handler only adds to an atomic number.
        let before = unsafe { libc::signal(libc::SIGPIPE, count as *const () as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = socket(Family::V4).unwrap();
        assert_eq!(connect(fd, &listener.local_addr().unwrap()), Err(Errno::EINPROGRESS));
        // A blocking accept: when it returns, the other end is connected.
        let _peer = listener.accept().unwrap();
        shutdown(fd, Shutdown::Write).unwrap();
        assert_eq!(send(fd, b"x"), Err(Errno::EPIPE));
        assert_eq!(sendmsg(fd, &[IoSlice::new(b"x")]), Err(Errno::EPIPE));
        close(fd).unwrap();
        assert_eq!(RAISED.load(Ordering::Relaxed), 0);

        // SAFETY: this puts back what was there.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }

    #[test]
    fn an_address_survives_its_way_through_the_hosts_form() {
        for address in [
            SocketAddr::from(([127, 0, 0, 1], 80)),
            SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x1234),
                65_535,
                0xabcd,
                3,
            )),
        ] {
            let (host, length) = encode(&address);
            let (mut storage, _) = empty_storage();
            // SAFETY: the union holds at least `length` bytes, and storage has room for every address.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    (&raw const host).cast::<u8>(),
                    (&raw mut storage).cast::<u8>(),
                    length as usize,
                );
            }
            assert_eq!(decode(&storage, length), Some(address));
            assert_eq!(decode(&storage, length - 1), None);
            assert_eq!(decode(&storage, 1), None);
            assert_eq!(decode(&storage, 0), None);
        }
    }
}
