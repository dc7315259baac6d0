//! The system calls of the benchmark itself: sockets and epoll without any library between, processors, processor time.
//!
//! The servers written by hand and the load are made of these and of nothing else.

#![expect(unsafe_code, reason = "system calls")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{FromRawFd as _, IntoRawFd as _};

use libc::c_int;

/// A descriptor; whoever opens one closes it.
pub(crate) type Descriptor = c_int;

/// Readable, writable, the peer has ended, edge-triggered.
pub(crate) const EVERYTHING_BY_EDGE: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn check_bytes(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Whether the call would have had to wait.
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Keeps this process on one processor.
pub(crate) fn pin(processor: usize) -> io::Result<()> {
    // SAFETY: all zeros is an empty set, CPU_SET checks its index, and the call only reads the set.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)).map(drop)
    }
}

fn set_option<T>(socket: Descriptor, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: `value` is readable for `length` bytes.
    check(unsafe { libc::setsockopt(socket, level, name, (&raw const *value).cast(), length) }).map(drop)
}

/// No Nagle delay, and cubic: some machines default to bbr, whose pacing costs timers that have nothing to do with any
/// server.
fn prepare(socket: Descriptor) -> io::Result<()> {
    let on: c_int = 1;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"cubic")
}

fn stream_socket() -> io::Result<Descriptor> {
    // SAFETY: takes numbers only.
    check(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0)
    })
}

fn encode(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: all zeros is a valid sockaddr_in.
    let mut host: libc::sockaddr_in = unsafe { mem::zeroed() };
    host.sin_family = libc::AF_INET as libc::sa_family_t;
    host.sin_port = address.port().to_be();
    host.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    host
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// A non-blocking listener on a loopback port that the kernel chooses. Accepted sockets inherit its options.
pub(crate) fn listener() -> io::Result<TcpListener> {
    let socket = stream_socket()?;
    // SAFETY: the descriptor was made above, and this is its only owner from here on.
    let listener = unsafe { TcpListener::from_raw_fd(socket) };
    prepare(socket)?;
    let host = encode(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    // SAFETY: `host` holds an address of that many bytes.
    check(unsafe { libc::bind(socket, (&raw const host).cast(), ADDRESS_BYTES) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(socket, 4096) })?;
    Ok(listener)
}

/// Begins a connection; it is made when the socket is writable.
pub(crate) fn connect(address: SocketAddrV4) -> io::Result<Descriptor> {
    let socket = stream_socket()?;
    prepare(socket)?;
    let host = encode(address);
    // SAFETY: `host` holds an address of that many bytes.
    match check(unsafe { libc::connect(socket, (&raw const host).cast(), ADDRESS_BYTES) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[inline]
pub(crate) fn accept(listener: Descriptor) -> io::Result<Descriptor> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a null address with a null length asks for no address.
    check(unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) })
}

#[inline]
pub(crate) fn receive(socket: Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes from its start.
    check_bytes(unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

#[inline]
pub(crate) fn send(socket: Descriptor, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `bytes.len()` bytes from its start.
    check_bytes(unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

pub(crate) fn close(descriptor: Descriptor) {
    // SAFETY: takes a number, which its owner gives up.
    unsafe { libc::close(descriptor) };
}

/// A readiness list, used as C programs use it.
pub(crate) struct Epoll {
    descriptor: Descriptor,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// One that takes up to `events_max` events per wait.
    pub(crate) fn new(events_max: usize) -> io::Result<Epoll> {
        // SAFETY: takes a number only.
        let descriptor = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll { descriptor, events: vec![libc::epoll_event { events: 0, u64: 0 }; events_max] })
    }

    /// Watches a descriptor for `mask`; `word` comes back with its events.
    pub(crate) fn add(&self, descriptor: Descriptor, mask: u32, word: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: mask, u64: word };
        // SAFETY: the call only reads `event`.
        check(unsafe { libc::epoll_ctl(self.descriptor, libc::EPOLL_CTL_ADD, descriptor, &raw mut event) })
            .map(drop)
    }

    /// Waits for up to `timeout_ms` (-1: for ever); answers how many events there are.
    #[inline]
    pub(crate) fn wait(&mut self, timeout_ms: c_int) -> io::Result<usize> {
        let room = c_int::try_from(self.events.len()).expect("a short list");
        // SAFETY: the list has room for `room` events.
        match check(unsafe { libc::epoll_wait(self.descriptor, self.events.as_mut_ptr(), room, timeout_ms) })
        {
            Ok(count) => Ok(usize::try_from(count).expect("not negative")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The mask and the word of the `index`-th event.
    #[inline]
    pub(crate) fn event(&self, index: usize) -> (u32, u64) {
        let event = self.events[index];
        (event.events, event.u64)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        close(self.descriptor);
    }
}

/// Gives up a listener's owner and keeps its number.
pub(crate) fn into_descriptor(listener: TcpListener) -> Descriptor {
    listener.into_raw_fd()
}

/// Processor time of this process since it began, user and kernel together, in nanoseconds: exact.
pub(crate) fn processor_ns() -> u64 {
    read_clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(answer, 0, "every kernel has this clock");
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The part of [`processor_ns`] that was spent outside the kernel. Sampled by the kernel's tick, so right only on
/// average over seconds.
pub(crate) fn user_ns() -> u64 {
    // SAFETY: all zeros is a valid rusage, and the call writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = usage.ru_utime;
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_usec).unwrap_or(0) * 1000
}

/// Raises the limit on open descriptors as far as it goes.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// The monotonic clock.
pub(crate) fn monotonic_ns() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// Sleeps.
pub(crate) fn rest_ms(ms: c_int) {
    // SAFETY: no descriptors are given.
    unsafe { libc::poll(std::ptr::null_mut(), 0, ms) };
}
